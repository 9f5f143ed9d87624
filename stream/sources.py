"""Which remembered frames serve a hole, and what they show there once warped and matched in exposure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import geometry, trail
from stream.arrays import Float, f32, u8
from stream.covers import blocked, hidden
from stream.exposure import Gain, exposure, exposures
from stream.geometry import Homography
from stream.near_layer import UNKNOWN, Evidence
from stream.plate import Memory, Plate, scale_to
from stream.pose import View, by_chain, relate_all, relate_from
from stream.types import Frame


@dataclass(frozen=True, slots=True)
class Area:
    """A box of the frame at reduced size: `of_frame` maps frame pixels to its pixels, `size` is (w, h).

    `window` cuts it out of a whole reduced frame.
    """

    of_frame: Homography
    size: tuple[int, int]
    window: tuple[slice, slice]


_OFFSETS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 26, 33, 41, 52, 66, 84, 108, 140, 180)
_SAMPLES = 300
_SIGHTINGS = 3
_LOST = 3.0
"""A followed pixel that may be farther off than this (reduced pixels) is no longer known."""

_NOWHERE = 14.0
"""A followed pixel that may be farther off than this does not even tell what is roughly there."""

_BETTER = 0.25
"""Reduced pixels by which a place must be surer than another for its colour to be taken instead."""

_AGAIN = 0.3
"""Doubt added at every further sighting: once seen, a pixel may have been passed by something nearer."""


@dataclass(frozen=True, slots=True)
class Source:
    """One remembered frame as seen in a box, at the reduced size at which sources are compared.

    `forward` maps its pixels to the frame to fill; `gain`: RGB factors to the frame's exposure. `grey` uint8
    h x w with the gain applied, `valid` uint8 0 or 1. For pixels that were followed one by one, `place` says
    where each lies in the memory ((h, w, 2), reduced pixels of the whole frame) and `doubt` how far off that
    may be; then `forward` is only good for the exposure. `near`: what speaks at each pixel for the near of
    two layers.
    """

    memory: Memory
    forward: Homography
    gain: tuple[float, float, float]
    grey: NDArray[np.uint8]
    valid: NDArray[np.uint8]
    place: Float | None = None
    doubt: Float | None = None
    near: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Glimmer:
    """What lies roughly in an area where nothing is known for sure: `rgb` uint8 (h, w, 3), reduced size.

    `doubt`: float32, how far off it may be, reduced pixels; infinite where nothing at all was found.
    """

    rgb: NDArray[np.uint8]
    doubt: Float


def steps(a: float, b: float) -> float:
    """Distance in time in frames of 1/25 second."""
    return abs(a - b) * 25.0


@dataclass(frozen=True, slots=True)
class Pool:
    """The remembered frames that may serve one frame, and what is asked of them once for all its holes.

    `covers`: what may not be used of each; `backs`: float64 (layers, K, 3, 3), the maps from the frame to
    each. `forwards` and `gains` hold, by layer and index, what has been asked so far.
    """

    memories: tuple[Memory, ...]
    covers: tuple[NDArray[np.uint8], ...]
    backs: NDArray[np.float64]
    forwards: dict[tuple[bool, int], Homography]
    gains: dict[tuple[bool, int], Gain]


def pool(plate: Plate, view: View, forbidden: frozenset[int]) -> Pool:
    """All frames that may serve `view`."""
    memories = tuple(_candidates(plate, view))
    covers = tuple(blocked(plate, memory, forbidden) for memory in memories)
    layers = (False, True) if view.motion.near.any() else (False,)
    backs = [relate_from(view, [memory.view for memory in memories], near) for near in layers]
    return Pool(memories, covers, np.array(backs, np.float64).reshape(len(layers), -1, 3, 3), {}, {})


def choose(
    plate: Plate,
    among: Pool,
    seconds: float,
    frame: Frame,
    hole: NDArray[np.uint8],
    origin: tuple[int, int],
    count: int,
) -> list[Memory]:
    """Choose up to `count` memories that together see most of the hole several times.

    `hole`: uint8 of a box whose corner is `origin`. Greedy: what is not yet covered counts most, nearer
    frames count more, and those used in the last frame a little more, so that the choice does not flicker.
    """
    candidates = among.memories
    where = cv2.findNonZero(hole)
    if not candidates or where is None:
        return []
    take = np.linspace(0, len(where) - 1, min(len(where), _SAMPLES)).astype(int)
    points = (where.reshape(-1, 2)[take] + np.array(origin)).astype(np.float64)
    seen = np.zeros((len(candidates), len(take)), np.float32)
    for backs in among.backs:
        seen += _look(among.covers, backs, points, frame) / len(among.backs)
    decay = 3.0 + 30.0 * plate.trust
    nearness = np.array([np.exp(-steps(m.seconds, seconds) / decay) for m in candidates], np.float32)
    habit = np.array([0.1 * len(take) * (m.index in plate.used) for m in candidates], np.float32)
    worth = np.ones(len(take), np.float32)
    falls = np.array([1.0, 0.35, 0.2, 0.1, 0.07, 0.05, 0.035, 0.025, 0.02, 0.015], np.float32)
    cover_count = np.zeros(len(take), np.float32)
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        worth = falls[np.minimum(cover_count, len(falls) - 1).astype(int)]
        gain = (seen @ worth + habit * (seen.sum(1) > 0) * worth.mean()) * nearness
        gain[chosen] = -1
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break
        chosen.append(best)
        cover_count += seen[best]
    return [candidates[k] for k in chosen]


def glimpses(
    plate: Plate,
    among: Pool,
    memories: Sequence[Memory],
    view: View,
    frame: Frame,
    current: Memory,
    area: Area,
    forbidden: frozenset[int],
    near: bool,
) -> list[Source]:
    """Bring memories into an area of the frame to fill, at reduced size; those that show something there.

    `current`: the memory of the frame to fill itself, for the exposure.
    """
    new = [m for m in memories if (near, m.index) not in among.forwards]
    found = relate_all([m.view for m in new], view, near)
    among.forwards.update({(near, m.index): forward for m, forward in zip(new, found, strict=True)})
    shown = []
    for memory in memories:
        forward = among.forwards[near, memory.index]
        covered = hidden(plate, memory, forbidden)
        told = memory.view.near
        if memory.view.pose == view.pose:
            valid = u8(np.uint8(1) - covered[area.window])
            grey = memory.grey[area.window]
            told = None if told is None else told[area.window]
        elif not geometry.plausible(forward, frame.width, frame.height, most=1.5):
            continue
        else:
            into = area.of_frame @ forward
            from_grey = into @ geometry.inverse(scale_to(memory.grey.shape, frame.width, frame.height))
            there = cv2.warpPerspective(covered, from_grey, area.size, flags=cv2.INTER_LINEAR, borderValue=1)
            valid = u8(cv2.bitwise_and(inside_of(into, area.size, frame), np.uint8(1) - there))
            grey = u8(
                cv2.warpPerspective(
                    memory.grey, from_grey, area.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
            )
            if told is not None:
                told = u8(
                    cv2.warpPerspective(
                        told, from_grey, area.size, flags=cv2.INTER_LINEAR, borderValue=UNKNOWN
                    )
                )
        if cv2.countNonZero(valid):
            shown.append((memory, forward, grey, valid, told))
    unlit = [(m, forward) for m, forward, *_ in shown if (near, m.index) not in among.gains]
    gains = exposures(plate, [m for m, _ in unlit], current, [f for _, f in unlit], forbidden)
    among.gains.update({(near, m.index): gain for (m, _), gain in zip(unlit, gains, strict=True)})
    lit = [among.gains[near, memory.index] for memory, *_ in shown]
    return [
        Source(memory, forward, gain, _exposed(grey, gain), valid, near=told)
        for (memory, forward, grey, valid, told), gain in zip(shown, lit, strict=True)
    ]


def follow(
    plate: Plate,
    view: View,
    current: Memory,
    area: Area,
    needed: NDArray[np.uint8],
    forbidden: frozenset[int],
    most: int,
) -> tuple[list[Source], Glimmer]:
    """Follow an area's pixels through the frames before and after; return up to `most` that see them.

    For deep scenes, where no homography brings a whole frame over. `needed`: uint8, 1 where the area is to be
    filled. A frame counts when it shows what no nearer one showed, or much of what few did. The second value
    is what pixels showed that have gone too far astray for that.
    """
    glimmer = Glimmer(np.zeros((*needed.shape, 3), np.uint8), np.full(needed.shape, np.inf, np.float32))
    sightings = np.zeros(needed.shape, np.uint8)
    seen_before = np.zeros((2, *needed.shape), np.float32)
    total = max(1, int(np.count_nonzero(needed)))
    height, width = current.grey.shape
    out: list[Source] = []
    for other, place, doubt in trail.walk(plate, view, area.window):
        memory = plate.memory(other.index)
        full = len(out) >= most
        # What is seen only from afar is no clearer from one frame than from the next.
        if memory is None or (full and other.index % 3):
            continue
        covered = hidden(plate, memory, forbidden) * np.uint8(255)
        away = cv2.remap(covered, place, None, cv2.INTER_LINEAR, borderValue=255)  # type: ignore[call-overload]
        x, y = place[..., 0], place[..., 1]
        inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        clear = (away == 0) & inside & (doubt < _NOWHERE)
        valid = (clear & (doubt < _LOST)).astype(np.uint8)
        asked = valid & needed
        lost = clear & (full | (valid == 0)) & (needed > sightings) & (doubt < glimmer.doubt - _BETTER)
        if np.count_nonzero(lost) > 0.004 * total:
            _glimpse(plate, memory, view, current, place, doubt, u8(lost.view(np.uint8)), glimmer, forbidden)
        if full:
            continue
        first = np.count_nonzero(asked & (sightings == 0))
        if first < 0.004 * total and np.count_nonzero(asked & (sightings < _SIGHTINGS)) < 0.15 * total:
            continue
        sightings += asked
        before = seen_before[int(other.index > view.index)]
        doubt = f32(doubt + np.float32(_AGAIN) * before)
        before += valid
        grey = cv2.remap(memory.grey, place, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        forward = by_chain(memory.view, view)
        gain = exposure(plate, memory, current, forward, forbidden)
        out.append(Source(memory, forward, gain, _exposed(u8(grey), gain), valid, place, doubt))
        if not ((sightings < _SIGHTINGS) & (needed > 0)).any():
            break
    return out, glimmer


def _glimpse(
    plate: Plate,
    memory: Memory,
    view: View,
    current: Memory,
    place: Float,
    doubt: Float,
    where: NDArray[np.uint8],
    glimmer: Glimmer,
    forbidden: frozenset[int],
) -> None:
    """Take what a memory shows `where` (0 or 1) pixels were followed to it into `glimmer`."""
    rgb = cv2.remap(memory.half, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    gain = exposure(plate, memory, current, by_chain(memory.view, view), forbidden)
    cv2.copyTo(u8(cv2.multiply(rgb, np.array((*gain, 0.0)))), where, glimmer.rgb)
    cv2.copyTo(doubt, where, glimmer.doubt)


def _exposed(grey: NDArray[np.uint8], gain: tuple[float, float, float]) -> NDArray[np.uint8]:
    if gain == (1.0, 1.0, 1.0):
        return grey
    return u8(cv2.convertScaleAbs(grey, alpha=0.299 * gain[0] + 0.587 * gain[1] + 0.114 * gain[2]))


def rim_error(source: Source, grey: NDArray[np.uint8], ring: NDArray[np.uint8], sigma: float) -> Float:
    """How far a source misses the frame around the hole, spread into it; float32 grey levels.

    `grey`: the frame at reduced size; `ring`: uint8, 1 where it is known and near the hole. `sigma`: pixels
    over which errors spread.
    """
    known = cv2.bitwise_and(ring, source.valid)
    error = cv2.bitwise_and(cv2.absdiff(grey, source.grey), known * np.uint8(255))
    mean = float(cv2.sumElems(error)[0]) / max(1, cv2.countNonZero(known))
    h, w = grey.shape
    small = (max(1, w // 2), max(1, h // 2))
    both = cv2.resize(cv2.merge([error, known * np.uint8(128)]), small, interpolation=cv2.INTER_AREA)
    both = cv2.GaussianBlur(both.astype(np.float32), (0, 0), max(1.0, sigma / 2))
    spread = (both[..., 0] + np.float32(0.01 * mean)) / (
        both[..., 1] * np.float32(1 / 128) + np.float32(0.01)
    )
    return f32(cv2.resize(spread, (w, h), interpolation=cv2.INTER_LINEAR))


def _candidates(plate: Plate, view: View) -> list[Memory]:
    """Memories at growing distances in both directions of time; with few of them, all."""
    indices = np.array([m.index for m in plate.memories])
    position = {int(i): k for k, i in enumerate(indices)}
    if len(indices) == 0:
        return []
    chosen: set[int] = set()
    for sign in (-1, 1):
        for offset in _OFFSETS:
            wanted = view.index + sign * offset
            if wanted < indices[0] - 1 or wanted > indices[-1] + 1:
                break
            at = int(indices[np.argmin(np.abs(indices - wanted))])
            if at != view.index and np.sign(at - view.index) == sign:
                chosen.add(at)
    # What is older than any offset reaches: the thinned memories of long ago, spread evenly.
    old = indices[indices < view.index - _OFFSETS[-1]]
    if len(old):
        chosen.update(int(i) for i in old[np.linspace(0, len(old) - 1, min(len(old), 8)).astype(int)])
    return [plate.memories[position[i]] for i in sorted(chosen)]


def _look(
    covers: Sequence[NDArray[np.uint8]],
    backs: NDArray[np.float64],
    points: NDArray[np.float64],
    frame: Frame,
) -> Float:
    """Where K frames show background at n points (n, 2) of a frame, (K, n): 1 or 0.

    `backs` (K, 3, 3): the maps from its pixels to theirs.
    """
    mapped = backs @ np.vstack([points.T, np.ones(len(points))])
    with np.errstate(divide="ignore", invalid="ignore"):
        places = mapped[:, :2] / mapped[:, 2:]
    x, y = places[:, 0], places[:, 1]
    # A comparison with what is no number is false.
    inside = (x >= 0) & (y >= 0) & (x <= frame.width - 1) & (y <= frame.height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    out = np.empty(inside.shape, bool)
    at: dict[tuple[int, ...], NDArray[np.intp]] = {}
    for k, cover in enumerate(covers):
        height, width = cover.shape
        if cover.shape not in at:
            columns = np.rint((x + 0.5) * (width / frame.width) - 0.5).clip(0, width - 1)
            rows = np.rint((y + 0.5) * (height / frame.height) - 0.5).clip(0, height - 1)
            at[cover.shape] = (rows * width + columns).astype(np.intp)
        np.equal(cover.ravel().take(at[cover.shape][k]), 0, out=out[k])
    return f32(out & inside)


def inside_of(into: Homography, size: tuple[int, int], frame: Frame) -> NDArray[np.uint8]:
    """1 where a pixel of the target comes from within the source frame."""
    w, h = frame.width, frame.height
    # What half a pixel farther out lies is still that pixel's own.
    edge = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32) - np.float32(0.5)
    polygon = geometry.apply(into, edge)
    out = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(out, np.clip(np.rint(polygon), -20000, 20000).astype(np.int32), 1)
    return out
