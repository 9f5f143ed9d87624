"""What a thing drags along that its mask leaves out: a leg, a bag, a wheel, and the shadow it casts.

Both are found against the background as it looks at other times: leftovers differ from it strongly, shadows
are darker with the same chromaticity, and both touch the thing. They are neither background for other frames
nor to be left behind when the thing goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stream.arrays import Bytes, Float, f32, u8
from stream.background import Background, background, brightness, fit, grown
from stream.plate import Memory, Plate

_ROUND = 12
"""Pixels around a shadow that are looked at with it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A remembered frame against the background, at the size at which sources are compared.

    `strange`: uint8 0 or 1, pixels that cannot be the background. `dark`: uint8, 255 where it is surely in
    shadow, falling to 0 at the soft border, 0 where it is lit or not known. `dimmer`: 0 or 1, darker than the
    background at all. `until`: the newest frame that was known then.
    """

    strange: Bytes
    dark: Bytes
    dimmer: Bytes
    until: int = -1


@dataclass(frozen=True, slots=True)
class Attached:
    """What belongs to certain things beyond their masks: `parts` uint8 0 or 1, `shadow` uint8 0..255."""

    parts: Bytes
    shadow: Bytes


def compare(plate: Plate, memory: Memory) -> Difference:
    """Hold a remembered frame against the background as other times show it."""
    known = plate.differences.get(memory.index)
    if known is None:
        found = background(plate, memory)
        if found is None:
            nothing = np.zeros(memory.half.shape[:2], np.uint8)
            return Difference(nothing, nothing, nothing)
        known = plate.differences[memory.index] = differ(memory, found, plate.memories[-1].index)
    return known


def attached(difference: Difference, core: Bytes, others: Bytes) -> Attached:
    """What of a difference touches the things of `core` and is not covered by `others` (uint8 0 or 1).

    Regions not much smaller than the things themselves are changes of the scene, or other things that nobody
    found, and left alone.
    """
    shape = difference.strange.shape
    core, others = fit(core, shape), fit(others, shape)
    found = Attached(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    if not core.any() or not (difference.strange.any() or difference.dark.any()):
        return found
    # No farther than where shadows are looked for, and a little more for what hangs together beyond it.
    near = _window(core)
    nearby = Difference(difference.strange[near], difference.dark[near], difference.dimmer[near])
    mine, rest = core[near], others[near]
    unit = shape[0] / 180.0
    if nearby.strange.any():
        area = int(np.count_nonzero(mine))
        reach = grown(mine, max(4.0, 0.45 * np.sqrt(area)))
        free = u8((1 - mine) & (1 - rest) & reach)
        found.parts[near] = _pieces(u8(nearby.strange & free), mine, 0.6 * area + 20)
    found.shadow[near] = _shadow(nearby, mine, found.parts[near], rest, unit)
    return found


def shadow(difference: Difference, core: Bytes, parts: Bytes, others: Bytes) -> Bytes:
    """The shadow, 0..255, of the things of `core` and their `parts`: dark ground that touches them.

    `parts` are what belongs to the things beyond `core`; other strange pixels belong to something else.
    """
    shape = difference.strange.shape
    core, others = fit(core, shape), fit(others, shape)
    found = np.zeros(shape, np.uint8)
    near = _window(core)
    nearby = Difference(difference.strange[near], difference.dark[near], difference.dimmer[near])
    found[near] = _shadow(nearby, core[near], parts[near], others[near], shape[0] / 180.0)
    return found


def _shadow(difference: Difference, core: Bytes, parts: Bytes, others: Bytes, unit: float) -> Bytes:
    """`shadow` with all masks at one size; `unit`: pixels for each of 180 lines."""
    nothing = np.zeros(core.shape, np.uint8)
    if not core.any() or not difference.dark.any():
        return nothing
    seeds = grown(core, 3 * unit)
    free = u8((1 - seeds) & (1 - others))
    area = int(np.count_nonzero(core))
    both = grown(seeds | parts, 1.0)
    wide = grown(core, max(6.0, 1.6 * np.sqrt(area)))
    dark = _opened(u8((difference.dark > 60).astype(np.uint8) & free & wide))
    if not dark.any():
        return nothing
    feet = both & u8(grown(_feet(core), 4 * unit) | parts)
    shade = _touching(dark, feet)
    if np.count_nonzero(shade) > 2.0 * area + 40:
        return nothing
    bodies = difference.strange & (difference.dark == 0).astype(np.uint8) & (1 - both) & (1 - others)
    shade = _without_bodies(shade, u8(bodies), unit)
    if not shade.any():
        return nothing
    # Pixels amid the shadow, or between it and the thing, are in shadow too: there the thing's own colour
    # bleeds into the comparison.
    r = max(2, round(5 * unit))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))
    amid = (
        u8(cv2.morphologyEx(shade | core, cv2.MORPH_CLOSE, kernel))
        & (1 - core)
        & (1 - others)
        & difference.dimmer
    )
    near = grown(shade, 3 * unit) & (1 - others)
    return u8(cv2.max(difference.dark * near, amid * np.uint8(255)))


def _feet(core: Bytes) -> Bytes:
    """The lower half of each thing: where it stands, its shadow begins."""
    count, labels = cv2.connectedComponents(core, connectivity=8)
    out = np.zeros_like(core)
    for number in range(1, count):
        mine = u8((labels == number).view(np.uint8))
        x, y, w, h = cv2.boundingRect(mine)
        # From the first row on that is not above the middle.
        lower = np.s_[y + -(-h // 2) : y + h, x : x + w]
        out[lower] |= mine[lower]
    return out


def _without_bodies(shade: Bytes, strange: Bytes, unit: float) -> Bytes:
    """The shadows that are no part of a body: dark trousers hang on a shirt that no shadow explains."""
    if not shade.any() or not strange.any():
        return shade
    count, labels = cv2.connectedComponents(shade, connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count)
    reach = max(2, round(3 * unit))
    near = u8(cv2.dilate(shade, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)))
    bodies, body_labels = cv2.connectedComponents(strange, connectivity=8)
    body_sizes = np.bincount(body_labels.ravel(), minlength=bodies)
    keep = np.ones(count, np.uint8)
    keep[0] = 0
    touched = np.unique(body_labels[(near > 0) & (strange > 0)])
    for body in touched[touched > 0]:
        around = cv2.dilate((body_labels == body).astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
        for k in np.unique(labels[around > 0]):
            if k and body_sizes[body] > 0.3 * sizes[k]:
                keep[k] = 0
    return u8(keep[labels])


def differ(memory: Memory, found: Background, until: int) -> Difference:
    """Hold a remembered frame against a background found for it when `until` was the newest frame."""
    shape = memory.half.shape[:2]
    nothing = np.zeros(shape, np.uint8)
    empty = Difference(nothing, nothing, nothing, until)
    sure = found.sure
    picture = memory.half
    covered = memory.things
    open_ground = (sure > 0) & (grown(covered, 6 * shape[0] / 180) == 0)
    if not found.calm or np.count_nonzero(open_ground) < 200:
        return empty
    low, high = found.range
    apart = cv2.max(cv2.subtract(picture, high), cv2.subtract(low, picture))
    r, g, b = cv2.split(apart)
    most = cv2.max(cv2.max(r, g), b)
    # What open ground shows anyway (noise, misalignment, leaves) is no sign of a thing.
    usual = _percentile(u8(most), open_ground.view(np.uint8), 0.97)
    if usual > 25:
        return empty
    strange = u8((cv2.GaussianBlur(most, (0, 0), 0.8) > max(16.0, 2.0 * usual + 6)).astype(np.uint8) & sure)
    strange = u8(cv2.morphologyEx(strange, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)))
    grey = cv2.medianBlur(u8(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)), 3)
    dimmer = u8(cv2.compare(grey, found.dimmed, cv2.CMP_LT)) & sure
    dark = nothing
    near = _window(covered)
    if np.count_nonzero(open_ground[near]) >= 200:
        dark[near] = _darkness(picture[near], found, near, open_ground[near].view(np.uint8))
    return Difference(strange, dark, u8(dimmer & 1), until)


def _window(things: Bytes) -> tuple[slice, slice]:
    """Where the shadows of things can be: around their common bounds."""
    x, y, w, h = cv2.boundingRect(things)
    margin = round(1.7 * np.sqrt(np.count_nonzero(things))) + 12
    return (
        slice(max(0, y - margin), min(things.shape[0], y + h + margin)),
        slice(max(0, x - margin), min(things.shape[1], x + w + margin)),
    )


def _percentile(levels: Bytes, where: Bytes, share: float) -> int:
    """The level below which a share of the pixels lies."""
    counts = np.cumsum(cv2.calcHist([levels], [0], where, [256], [0, 256]))
    return int(np.searchsorted(counts, share * counts[-1]))


def _darkness(picture: Bytes, found: Background, near: tuple[slice, slice], open_ground: Bytes) -> Bytes:
    """How surely a pixel is the background in shadow: darker, of the same chromaticity, smoothly so.

    `picture` and `open_ground` are what lies in the window `near` of the frame.
    """
    nothing = np.zeros(picture.shape[:2], np.uint8)
    smooth = u8(cv2.GaussianBlur(picture, (0, 0), 1.5))
    calm = found.smooth[near]
    ps, qs = brightness(smooth), brightness(calm)
    ratio = f32(cv2.divide(ps, qs))
    # The soft edge begins well inside the penumbra: pixels that only might be in shadow stay untouched.
    some = np.s_[::3, ::2]
    spread = float(np.percentile(np.abs(ratio[some][open_ground[some] > 0] - 1), 90))
    if spread > 0.08:
        return nothing
    edge, steep = 1 - max(0.03, 1.5 * spread), 255 / 0.06
    dark = u8(cv2.addWeighted(ratio, -steep, ratio, 0, edge * steep, dtype=cv2.CV_8U))
    dark = u8(cv2.bitwise_and(dark, found.sure[near] * np.uint8(255)))
    # Specks are no shadow; all else is looked at only where there is more.
    x, y, w, h = cv2.boundingRect(_opened(u8(cv2.threshold(dark, 60, 1, cv2.THRESH_BINARY)[1])))
    if w == 0:
        return nothing
    where = slice(max(0, y - _ROUND), y + h + _ROUND), slice(max(0, x - _ROUND), x + w + _ROUND)
    p, q = (each[where].astype(np.float32) + np.float32(3) for each in (smooth, calm))
    ps, qs = ps[where], qs[where]
    pr, pb = cv2.extractChannel(p, 0), cv2.extractChannel(p, 2)
    qr, qb = cv2.extractChannel(q, 0), cv2.extractChannel(q, 2)
    # A shadow dims what is there; a dark thing has edges of its own.
    wide = _wide(ps) / _wide(qs)
    # At the shadow's own border the ratio changes fast: there the better of its two sides is asked.
    own = cv2.erode(cv2.GaussianBlur(cv2.absdiff(ps, wide * qs), (0, 0), 1.0), np.ones((7, 7), np.uint8))
    tint = cv2.max(cv2.absdiff(pr / ps, qr / qs), cv2.absdiff(pb / ps, qb / qs))
    same = (tint < 0.03) & (ratio[where] > 0.3) & (own < 0.35 * (qs - ps) + 6)
    nothing[where] = dark[where] * same
    return nothing


def _wide(plane: Float) -> Float:
    """A plane blurred by 4 pixels, by way of half its size."""
    height, width = plane.shape
    half = cv2.resize(plane, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(half, (0, 0), 2)
    return f32(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR))


def _opened(candidates: Bytes) -> Bytes:
    """Candidates without specks."""
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return u8(cv2.morphologyEx(candidates, cv2.MORPH_OPEN, kernel))


def _pieces(candidates: Bytes, core: Bytes, most: float) -> Bytes:
    """The pieces of `candidates` beside `core`, of two pixels in width at least and `most` pixels in all."""
    thick = cv2.morphologyEx(candidates, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    # To ask for statistics as well would take several times as long.
    count, labels = cv2.connectedComponents(candidates, connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count)
    keep = np.zeros(count, np.uint8)
    near = np.intersect1d(labels[thick > 0], labels[grown(core, 3) > 0])
    keep[near[(near > 0) & (sizes[near] <= most)]] = 1
    return u8(keep[labels])


def _touching(candidates: Bytes, seeds: Bytes) -> Bytes:
    """The pieces of `candidates` that touch `seeds`, specks apart."""
    opened = _opened(candidates)
    if not opened.any():
        return opened
    # Opening eats a pixel at the seam between candidates and seeds.
    count, labels = cv2.connectedComponents(opened | grown(seeds, 2), connectivity=8)
    if count <= 1:
        return np.zeros_like(candidates)
    keep = np.zeros(count, np.uint8)
    keep[np.unique(labels[seeds > 0])] = 1
    keep[0] = 0
    return u8(keep[labels] & candidates)
