"""Put back what was behind: remembered pixels voted on, what was never seen invented and carried along."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from configs.schema import Config
from stream import crops, paint, planes, soften, surround, trail, vote
from stream import still as still_plate
from stream.arrays import Bytes, f32, u8
from stream.background import background, fit
from stream.boxes import Box, pieces
from stream.covers import assume, blocked, forget, select
from stream.crops import Inpaint
from stream.elsewhere import Elsewhere
from stream.plate import Memory, Plate, vote_size
from stream.reflection import reflection
from stream.standing import Vote
from stream.types import INVENTED, SEEN, Filled, Frame, Hole, Motion

_SHADED_RATE = 0.1
_STALE = 4
"""Frames after which a frame is held against the background anew."""

_FLAT = 0.5
"""Trust from which paint can be carried along, so that its texture does not swim."""

__all__ = ["Inpaint", "fill", "prepare"]


def fill(
    frame: Frame,
    hole: Hole,
    plate: Plate,
    motion: Motion,
    forbidden: Iterable[int],
    inpaint: Inpaint | None,
    config: Config,
    elsewhere: Elsewhere | None = None,
    shot: int = 0,
) -> tuple[Filled, Plate]:
    """Fill the hole of `frame` from the plate; outside the hole the frame's samples stay bit for bit.

    `motion` is the frame's own. `forbidden`: ids of tracks whose pixels are not background: those that go,
    and those that stay but move. `elsewhere` is asked for what the plate of this `shot` never saw. Returns
    the frame with the origin of each hole pixel, without verdicts and tracks, and the plate with what must
    be known for the next frame.
    """
    if hole.box is None:
        empty = np.zeros((0, 0), np.uint8)
        return Filled(frame, empty, None, (), (), frame), replace(plate, paint=None)
    ids = frozenset(forbidden) | frozenset(hole.tracks)
    memory = plate.memory(frame.index)
    scene = None if memory is None else background(plate, memory)
    if memory is not None and scene is not None:
        known = plate.differences.get(memory.index)
        newest = plate.memories[-1].index
        if known is None or newest - known.until > _STALE:
            # Known better now than when this frame was first asked to be a source: more has been seen since.
            plate.differences[memory.index] = surround.differ(memory, scene, newest)
            forget(plate, memory.index)
        if config.hole.shadow:
            core, others = _things(hole, memory)
            drags = dragged(hole, core, others, plate.differences[memory.index])
            if plate.limits.dragged_lasts:
                assume(plate, memory, hole.tracks, drags)
            # A shadow goes where its thing goes: what is dark beside it for a moment is something else.
            shaded = plate.shaded + _SHADED_RATE * (bool(drags.shadow.any()) - plate.shaded)
            mirror, mirrored = None, 0.0
            if config.hole.mirror:
                mirror = reflection(memory.half, scene, core, others)
                mirrored = plate.mirrored + _SHADED_RATE * (bool(mirror.any()) - plate.mirrored)
            if mirrored > 0.5 >= plate.mirrored:
                plate.covers.clear()
                plate.parts.clear()
            plate = replace(plate, shaded=shaded, mirrored=mirrored)
            hole = attach(hole, frame, drags, shaded > 0.5, mirror if mirrored > 0.5 else None, config)
    if scene is not None and not scene.settled:
        # Of a moment ago alone: good for what a thing drags along, not for what is usual here.
        scene = None
    assert hole.box is not None
    x0, y0, x1, y1 = hole.box
    patch = frame.rgb[y0:y1, x0:x1].copy()
    wanted = (hole.alpha[y0:y1, x0:x1] > 0).astype(np.uint8)
    seen = np.zeros(wanted.shape, np.uint8)
    used: set[int] = set()
    votes: list[Vote] = []
    view = plate.view(frame.index)
    still = None
    if view is not None:
        resting = still_plate.recall(plate.still, plate, view, frame, wanted, (x0, y0), ids, scene)
        if resting is not None:
            colours, seen, still = resting
            cv2.copyTo(colours, seen, patch)
    asked = wanted & (1 - seen)
    missing = [
        _missing(part, asked, hole.box, frame) for part in pieces(asked, max(8, round(0.05 * frame.height)))
    ]
    astray = np.zeros(wanted.shape, np.float32)
    recalled = vote.recall(frame, hole, plate, motion, ids, missing, config.plate, scene)
    for (around, _), found in zip(missing, recalled, strict=False):
        if found is None:
            continue
        used.update(found.sources)
        votes += [] if found.vote is None else [found.vote]
        ax, ay = around[0] - x0, around[1] - y0
        top, left = max(0, ay), max(0, ax)
        bottom, right = min(y1 - y0, around[3] - y0), min(x1 - x0, around[2] - x0)
        inner = slice(top - ay, bottom - ay), slice(left - ax, right - ax)
        outer = slice(top, bottom), slice(left, right)
        mine = found.seen[inner] & asked[outer]
        cv2.copyTo(found.rgb[inner], mine, patch[outer])
        seen[outer] |= mine
        if found.astray is not None:
            rough = u8((found.astray[inner] > 0).view(np.uint8)) & asked[outer] & (1 - seen[outer])
            cv2.copyTo(found.rgb[inner], rough, patch[outer])
            cv2.copyTo(f32(found.astray[inner]), mine | rough, astray[outer])
    unseen = wanted & (1 - seen)
    lines, guess = frame.height / 240, patch
    if astray.any():
        guess = soften.soften(patch, u8(seen | (1 - wanted) | (astray > 0)), astray, lines)
        cv2.copyTo(guess, seen, patch)
    origin = wanted * np.uint8(SEEN) + unseen * np.uint8(INVENTED - SEEN)
    if elsewhere is not None and unseen.any():
        more = elsewhere.recall(frame, shot, plate, hole, hole.box, patch, unseen, ids)
        if more is not None:
            got = more.origin > 0
            patch[got], origin[got], unseen[got] = more.rgb[got], more.origin[got], 0
    flat = view is None or motion.static or trail.trust(plate, view) >= _FLAT
    how = crops.invent if flat and config.fill.texture else crops.sketch
    patch, next_paint = paint.complete(
        frame,
        patch,
        unseen,
        wanted,
        hole.box,
        motion,
        plate.paint,
        inpaint,
        flat,
        how,
        most=plate.limits.invented,
    )
    if (rough := u8(unseen & (astray > 0))).any():
        patch = soften.mixed(guess, patch, rough, astray, lines)
    done = planes.write_back(frame, patch, hole.alpha[y0:y1, x0:x1], hole.box)
    return Filled(done, origin, hole.box, (), (), frame), replace(
        plate, paint=next_paint, used=tuple(sorted(used)), still=still, votes=tuple(votes)
    )


def prepare(plate: Plate, index: int) -> None:
    """Find out what things cover of frame `index`, so that a later hole need not wait for it.

    Else all frames that are remembered are looked at when the first hole of a thing asks for them. Only what
    things drag along for some frames must be known of each.
    """
    memory = plate.memory(index)
    if memory is not None and plate.limits.dragged_lasts:
        blocked(plate, memory, memory.ids)


def _things(hole: Hole, memory: Memory) -> tuple[Bytes, Bytes]:
    """What goes and what stays of a frame, uint8 0 or 1, at the size of comparison."""
    core = u8(cv2.resize(hole.alpha, memory.half.shape[1::-1], interpolation=cv2.INTER_AREA) > 100)
    others = (memory.labels > 0).view(np.uint8) & (1 - select(memory.labels, hole.tracks))
    return core.view(np.uint8), u8(fit(others, core.shape))


def dragged(hole: Hole, core: Bytes, others: Bytes, difference: surround.Difference) -> surround.Attached:
    """What the things of a hole drag along beyond it; of the user's own masks (no tracks) shadows alone.

    `core`: the hole, `others`: the things that stay (uint8 0 or 1), at the size of comparison.
    """
    if hole.tracks:
        return surround.attached(difference, core, others)
    nothing = np.zeros(core.shape, np.uint8)
    return surround.Attached(nothing, surround.shadow(difference, core, nothing, others))


def attach(
    hole: Hole, frame: Frame, drags: surround.Attached, shaded: bool, mirror: Bytes | None, config: Config
) -> Hole:
    """Grow the hole by parts that its masks left out, by its mirror image and, when `shaded`, its shadow."""
    # Smooth, but never beyond where it is surely dark.
    more = u8(cv2.min(cv2.GaussianBlur(drags.shadow, (0, 0), 1.0), (drags.shadow > 0) * np.uint8(255)))
    more = more if shaded else np.zeros_like(more)
    if mirror is not None:
        more = u8(cv2.max(more, cv2.GaussianBlur(mirror, (0, 0), 1.0)))
    if drags.parts.any():
        lines = drags.parts.shape[0]
        soft = max(0.8, 0.5 * config.hole.soft * lines)
        reach = max(1, round(config.hole.dilate * lines))
        parts_grown = cv2.dilate(drags.parts, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        more = u8(cv2.max(more, cv2.GaussianBlur(parts_grown * np.uint8(255), (0, 0), soft)))
    if not more.any():
        return hole
    size = frame.width, frame.height
    wide = np.asarray(cv2.resize(more, size, interpolation=cv2.INTER_LINEAR))
    cv2.threshold(wide, 47, 255, cv2.THRESH_TOZERO, dst=wide)
    alpha = u8(cv2.max(hole.alpha, wide))
    x, y, w, h = cv2.boundingRect(alpha)
    return Hole(alpha, (x, y, x + w, y + h) if w and h else None, hole.tracks)


def _missing(part: Box, asked: Bytes, box: Box, frame: Frame) -> tuple[Box, Bytes]:
    """A part of the hole's box with the ring around it that is compared, in frame pixels; what it lacks."""
    ring = max(8, round(24 * frame.height / 360))
    times = max(1, round(frame.height / vote_size(frame.width, frame.height)[1]))
    # On the grid of the reduced picture, so that boxes of both sizes cover the same pixels.
    x0, y0 = (part[k] + box[k] - ring for k in (0, 1))
    x1, y1 = (part[k + 2] + box[k] + ring for k in (0, 1))
    x0, y0 = max(0, x0 // times * times), max(0, y0 // times * times)
    x1, y1 = min(frame.width, -(-x1 // times) * times), min(frame.height, -(-y1 // times) * times)
    # Other parts that reach into the ring are asked on their own.
    mine = np.zeros((y1 - y0, x1 - x0), np.uint8)
    inner = slice(part[1], part[3]), slice(part[0], part[2])
    top, left = part[1] + box[1] - y0, part[0] + box[0] - x0
    mine[top : top + part[3] - part[1], left : left + part[2] - part[0]] = asked[inner]
    return (x0, y0, x1, y1), mine
