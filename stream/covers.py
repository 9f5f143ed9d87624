"""Which pixels of a remembered frame are no background: things, their rims, what they drag along."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import cv2
import numpy as np

from stream import surround
from stream.arrays import Bytes, u8
from stream.background import background, fit
from stream.boxes import Box
from stream.plate import Labels, Memory, Plate
from stream.reflection import reflection

_SHADED = 40
_USERS = 0
"""Stands for the user's own mask among the ids of tracks."""


def blocked(plate: Plate, memory: Memory, forbidden: Iterable[int]) -> Bytes:
    """Pixels of a memory that must not be used, 0 or 1 at its labels' resolution."""
    return _cover(plate, memory, frozenset(forbidden), "blocked", lambda ids: _together(plate, memory, ids))


def usable(plate: Plate, memory: Memory, forbidden: Iterable[int]) -> Bytes:
    """Pixels of `memory.small` fit to compare brightness: not blocked, neither black nor clipped; 0 or 1."""

    def find(ids: frozenset[int]) -> Bytes:
        small, cover = memory.small, blocked(plate, memory, ids)
        away = cv2.resize(cover * np.uint8(255), small.shape[1::-1], interpolation=cv2.INTER_AREA) == 0
        away &= cv2.inRange(small, (13, 13, 13), (244, 244, 244)) > 0
        return u8(away.view(np.uint8))

    return _cover(plate, memory, frozenset(forbidden), "usable", find)


def hidden(plate: Plate, memory: Memory, forbidden: Iterable[int]) -> Bytes:
    """`blocked` at the size at which sources are compared."""
    return _cover(
        plate,
        memory,
        frozenset(forbidden),
        "hidden",
        lambda ids: fit(blocked(plate, memory, ids), memory.grey.shape),
    )


def _cover(
    plate: Plate,
    memory: Memory,
    forbidden: frozenset[int],
    what: str,
    find: Callable[[frozenset[int]], Bytes],
) -> Bytes:
    # Tracks that are not in the frame cover nothing of it.
    ids = forbidden & memory.ids
    key = (memory.index, ids, what)
    known = plate.covers.get(key)
    if known is None:
        known = plate.covers[key] = find(ids)
    return known


def _together(plate: Plate, memory: Memory, ids: frozenset[int]) -> Bytes:
    """What several things cover of a memory, and the user's own mask if there is one."""
    cover = np.zeros(memory.labels.shape, np.uint8)
    new = [number for number in sorted(ids) if (memory.index, number) not in plate.parts]
    # What is to last must be known of each thing on its own.
    if len(new) > 1 and not plate.limits.dragged_lasts:
        _learn(plate, memory, new)
    for number in ids if memory.masked is None else (*ids, _USERS):
        (x0, y0, x1, y1), part = _part(plate, memory, number)
        cover[y0:y1, x0:x1] |= part
    return cover


def _part(plate: Plate, memory: Memory, number: int) -> tuple[Box, Bytes]:
    """What one thing covers of a memory, grown, with what it drags along: a box and 0 or 1 in it."""
    known = plate.parts.get((memory.index, number))
    if known is None:
        bare = memory.masked if number == _USERS else (memory.labels == number).view(np.uint8)
        assert bare is not None
        before = plate.parts.get((memory.index - 1, number))
        if memory.index % (1 + plate.limits.dragged_lasts) and before is not None:
            # What it dragged along a moment ago it drags along still.
            (x0, y0, x1, y1), part = before
            cover = grown(bare)
            cover[y0:y1, x0:x1] |= part
            return _keep(plate, memory, number, cover)
        known = _keep(plate, memory, number, _with_dragged(plate, memory, bare) if bare.any() else bare)
    return known


def _learn(plate: Plate, memory: Memory, numbers: list[int]) -> None:
    """Find out what several things cover of a memory: what they drag along is looked for once for all."""
    bare = select(memory.labels, numbers)
    wide = _with_dragged(plate, memory, bare) & (1 - grown(bare))
    for number in numbers:
        cover = grown((memory.labels == number).view(np.uint8))
        _keep(plate, memory, number, cover | wide)


def _keep(plate: Plate, memory: Memory, number: int, cover: Bytes) -> tuple[Box, Bytes]:
    x, y, w, h = cv2.boundingRect(cover)
    known = plate.parts[memory.index, number] = (x, y, x + w, y + h), cover[y : y + h, x : x + w].copy()
    return known


def assume(plate: Plate, memory: Memory, numbers: Iterable[int], drags: surround.Attached) -> None:
    """Take what all of some things drag along as what each of them does, and look no more for each."""
    more = drags.parts | (drags.shadow > _SHADED)
    wide = grown(fit(more, memory.labels.shape)) if more.any() else None
    for number in memory.ids.intersection(numbers):
        cover = grown((memory.labels == number).view(np.uint8))
        _keep(plate, memory, number, cover if wide is None else cover | wide)


def forget(plate: Plate, index: int) -> None:
    """Forget what covers frame `index`, of which more is known now."""
    for key in [k for k in plate.covers if k[0] == index]:
        del plate.covers[key]
    for one in [k for k in plate.parts if k[0] == index]:
        del plate.parts[one]


def _with_dragged(plate: Plate, memory: Memory, bare: Bytes) -> Bytes:
    """What covers a memory, grown, with what it drags along."""
    difference = surround.compare(plate, memory)
    core = fit(bare, difference.strange.shape)
    # Rather too much than too little: what touches another thing's rim belongs to that one.
    others = u8(memory.things & (1 - core))
    drags = surround.attached(difference, core, others)
    cover = grown(bare)
    more = drags.parts | (drags.shadow > _SHADED)
    if plate.mirrored > 0.5 and (scene := background(plate, memory)) is not None:
        more |= reflection(memory.half, scene, core, others) > 0
    return cover | grown(fit(more, cover.shape)) if more.any() else cover


def select(labels: Labels, ids: Collection[int]) -> Bytes:
    """1 where the label is among `ids`, else 0."""
    top = int(labels.max())
    if top == 0:
        return np.zeros(labels.shape, np.uint8)
    table = np.zeros(top + 1, np.uint8)
    for i in ids:
        if 0 < i < len(table):
            table[i] = 1
    return u8(table[labels])


def grown(mask: Bytes) -> Bytes:
    """Grow a mask by 4 pixels at 360 lines: soft borders and motion blur are never background."""
    r = max(1, round(4 * mask.shape[0] / 360))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))
    return u8(cv2.dilate(mask, kernel))
