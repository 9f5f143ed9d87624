"""Where a hole's content may be copied from: a few offsets, and one of them for every pixel.

Patches of a picture repeat at few offsets (He and Sun, "Statistics of Patch Offsets for Image Completion",
ECCV 2012, section 3). The most frequent ones, and those at which what is around the hole and a rough fill
of it look alike, are the labels of a Markov random field; seams cost what the two copies differ by (section
4).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, Float, f32, u8
from stream.boxes import Box
from stream.seams import assign

Offsets = NDArray[np.int32]
"""(N, 2): what is at (x, y) is copied from (x + dx, y + dy)."""

Planes = Sequence[cv2.typing.MatLike]
Places = tuple[NDArray[np.int64], NDArray[np.int64]]

_ROWS = 64
"""Targets that are compared with all sources in one step, so that it fits the cache."""

_AT_ONCE = 60_000
"""Pixels of all offsets together that are worked on in one step."""

_LABELS = 24
_POOL = 80
_REACH = 3
_SPECK = 12
_TOP = 40.0**2
"""Squared difference of colours from which more does not matter."""


def choose(
    picture: Float, missing: Bytes, rough: Float, belief: float, box: Box
) -> tuple[Offsets, NDArray[np.int16]]:
    """Choose an offset for every missing pixel of a box.

    `picture`, `rough` (H, W, 3) float32 of levels, `rough` with the hole filled smoothly; `missing` (H, W)
    uint8 0 or 1; `belief` in [0, 1]: how much it counts that a copy looks like the rough fill. Returns the
    offsets and the label of each pixel of the box, -1 where nothing is missing or nothing can be copied.
    """
    wanted = missing[box[1] : box[3], box[0] : box[2]] > 0
    labels = np.full(wanted.shape, -1, np.int16)
    mine = np.zeros_like(missing)
    mine[box[1] : box[3], box[0] : box[2]] = wanted
    pool = _pool(picture, missing, mine, rough)
    if not wanted.any() or not len(pool):
        return pool, labels
    costs, blocked = _costs(picture, missing, rough, pool, box, belief)
    few = _cover(costs[:, wanted])
    offsets, costs, blocked = pool[few], costs[few], blocked[few]
    if not len(few):
        return offsets, labels
    copies = np.stack([_shifted(picture, box, each) for each in offsets])
    found = assign(np.where(blocked, np.float32(1e6), costs), copies, wanted).astype(np.int16)
    free = wanted & ~np.take_along_axis(blocked, found[None], 0)[0]
    labels[free] = found[free]
    return offsets, _without_specks(labels, blocked)


def _without_specks(labels: NDArray[np.int16], blocked: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Give pieces of a few pixels to their neighbours: a copy that small is only noise."""
    out = labels.copy()
    specks = np.zeros(labels.shape, bool)
    for label in np.unique(labels[labels >= 0]):
        _, marks, stats, _ = cv2.connectedComponentsWithStats(
            (labels == label).astype(np.uint8), connectivity=4
        )
        small = stats[:, cv2.CC_STAT_AREA] < _SPECK
        small[0] = False
        specks |= small[marks]
    out[specks] = -1
    rows, columns = np.indices(labels.shape)
    for _ in range(_SPECK):
        before = out.copy()
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            moved = np.roll(before, (down, right), (0, 1))
            take = specks & (out < 0) & (moved >= 0) & ~blocked[np.maximum(moved, 0), rows, columns]
            out[take] = moved[take]
    left = specks & (out < 0)
    out[left] = labels[left]
    return out


def _pool(picture: Float, missing: Bytes, mine: Bytes, rough: Float) -> Offsets:
    """Offsets worth a look for the pixels that are `mine`.

    The peaks of two histograms: of what patches near the hole are like, and of what the rough fill is like.
    """
    height, width = missing.shape
    filled = np.where(missing[..., None] > 0, rough, picture)
    features = _features(filled)
    near = u8(cv2.dilate(missing, np.ones((2 * _REACH + 1,) * 2, np.uint8)))
    sources = np.argwhere(near == 0)
    if len(sources) == 0:
        return np.zeros((0, 2), np.int32)
    sources = sources[_spread(len(sources), 4000)]
    size = float(np.sqrt(np.count_nonzero(mine)))
    ring = u8(
        cv2.dilate(mine, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(8, int(0.6 * size)) + 1,) * 2))
    )
    around = np.argwhere((ring > 0) & (near == 0))
    inside = np.argwhere(u8(cv2.dilate(mine, np.ones((2 * _REACH + 1,) * 2, np.uint8))) > 0)
    around, inside = around[_spread(len(around), 400)], inside[_spread(len(inside), 400)]
    # Nearer than this everything is like its neighbour, which says nothing.
    apart = max(4.0, 0.07 * max(height, width), 0.25 * size)
    table = features[sources[:, 0], sources[:, 1]]
    found = []
    for targets in (around, inside):
        if len(targets) == 0:
            continue
        votes = _nearest(features[targets[:, 0], targets[:, 1]], table, targets, sources, apart)
        found.append(_peaks(votes, height, width, _POOL // 2))
    return np.unique(np.concatenate(found), axis=0)


def _features(picture: Float) -> Float:
    """What a patch looks like: 3 x 3 places three pixels apart in a blurred picture, (H, W, 27)."""
    soft = f32(cv2.GaussianBlur(picture, (0, 0), 1.0))
    padded = f32(cv2.copyMakeBorder(soft, 3, 3, 3, 3, cv2.BORDER_REFLECT_101))
    height, width = picture.shape[:2]
    places = [(dy, dx) for dy in (0, 3, 6) for dx in (0, 3, 6)]
    return np.concatenate([padded[dy : dy + height, dx : dx + width] for dy, dx in places], axis=2)


def _nearest(
    targets: Float, table: Float, at: NDArray[np.int64], sources: NDArray[np.int64], apart: float
) -> Offsets:
    """The offset (dx, dy) from each target to the source that is most like it and not closer than `apart`."""
    here, there = at.astype(np.float32), sources.astype(np.float32)
    own, places = (table * table).sum(1)[None], (there * there).sum(1)[None]
    best, sure = np.zeros(len(at), np.intp), np.zeros(len(at), bool)
    for first in range(0, len(at), _ROWS):
        some = slice(first, first + _ROWS)
        unlike = -2 * targets[some] @ table.T
        unlike += own
        away = -2 * here[some] @ there.T
        away += (here[some] * here[some]).sum(1)[:, None]
        away += places
        unlike[away < apart * apart] = np.inf
        best[some] = unlike.argmin(1)
        sure[some] = np.isfinite(np.take_along_axis(unlike, best[some][:, None], 1)[:, 0])
    return np.asarray((sources[best] - at)[sure][:, ::-1], np.int32)


def _peaks(votes: Offsets, height: int, width: int, count: int) -> Offsets:
    """The most frequent offsets, smoothed over neighbours (ECCV 2012, section 3.2)."""
    table = np.zeros((2 * height + 1, 2 * width + 1), np.float32)
    np.add.at(table, (votes[:, 1] + height, votes[:, 0] + width), 1)
    smooth = f32(cv2.GaussianBlur(table, (0, 0), 1.2))
    top = smooth == f32(cv2.dilate(smooth, np.ones((5, 5), np.uint8)))
    rows, columns = np.nonzero(top & (smooth > 1e-3))
    order = np.argsort(-smooth[rows, columns], kind="stable")[:count]
    return np.stack([columns[order] - width, rows[order] - height], 1).astype(np.int32)


def _costs(
    picture: Float, missing: Bytes, rough: Float, pool: Offsets, box: Box, belief: float
) -> tuple[Float, NDArray[np.bool_]]:
    """What each offset costs at each pixel of the box, and where it cannot be used."""
    margin = 6
    height, width = missing.shape
    x0, y0, x1, y1 = (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(width, box[2] + margin),
        min(height, box[3] + margin),
    )
    wide = (x0, y0, x1, y1)
    inner = slice(box[1] - y0, box[3] - y0), slice(box[0] - x0, box[2] - x0)
    known = 1 - missing[y0:y1, x0:x1].astype(np.float32)
    soft = f32(cv2.GaussianBlur(picture, (0, 0), 1.5))
    guide = f32(cv2.GaussianBlur(rough, (0, 0), 1.5))[y0:y1, x0:x1]
    here, around = cv2.split(picture[y0:y1, x0:x1]), cv2.split(guide)
    everywhere, softly = cv2.split(picture), cv2.split(soft)
    size = float(max(height, width))
    costs = np.empty((len(pool), box[3] - box[1], box[2] - box[0]), np.float32)
    blocked = np.empty(costs.shape, bool)
    # Many at a time, for each step takes as long to begin as to do on a small box; but what fits the cache.
    step = max(1, _AT_ONCE // ((x1 - x0) * (y1 - y0)))
    for first in range(0, len(pool), step):
        some = pool[first : first + step]
        free = _allowed(missing, wide, some)
        places = _places(missing.shape, wide, some)
        unlike = np.where(free, _unlike(here, everywhere, places), np.float32(_TOP / 2)) * known
        rough_unlike = _unlike(around, softly, places)
        blocked[first : first + step] = ~free[:, inner[0], inner[1]]
        for number, offset in enumerate(some):
            rim = f32(cv2.blur(unlike[number], (9, 9), borderType=cv2.BORDER_CONSTANT))
            other = f32(cv2.blur(rough_unlike[number], (5, 5)))
            far = np.float32(60 * (abs(offset[0]) + 5 * abs(offset[1])) / size)
            costs[first + number] = (2 * rim + np.float32(belief) * other)[inner] + far
    return np.where(blocked, np.float32(4 * _TOP), costs), blocked


def _cover(costs: Float) -> NDArray[np.int64]:
    """The few offsets, chosen one by one, that leave every pixel a cheap one; (labels, pixels) -> indices."""
    some = costs[:, _spread(costs.shape[1], 600)]
    best = np.full(some.shape[1], 4 * _TOP, np.float32)
    chosen: list[int] = []
    for _ in range(min(_LABELS, len(some))):
        gain = np.maximum(best - some, 0).sum(1)
        gain[chosen] = 0
        at = int(gain.argmax())
        if gain[at] <= 0:
            break
        chosen.append(at)
        best = np.minimum(best, some[at])
    return np.array(chosen, np.int64)


def _unlike(here: Planes, everywhere: Planes, places: Places) -> Float:
    """Mean squared difference of colours between a box and it moved by each of K offsets, (K, h, w).

    Never above the top. Colour by colour, `here` of the box and `everywhere` of the whole picture.
    """
    total: Float | None = None
    for mine, whole in zip(here, everywhere, strict=True):
        part = mine - whole[places]
        part *= part
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    total /= np.float32(3)
    return np.asarray(np.minimum(total, np.float32(_TOP), out=total), np.float32)


def _places(shape: tuple[int, ...], box: Box, some: Offsets) -> Places:
    """Rows (K, h, 1) and columns (K, 1, w) of a box moved by each of K offsets, kept within the picture."""
    rows = np.clip(np.arange(box[1], box[3]) + some[:, 1:], 0, shape[0] - 1)
    columns = np.clip(np.arange(box[0], box[2]) + some[:, :1], 0, shape[1] - 1)
    return rows[:, :, None], columns[:, None, :]


def _shifted(picture: Float, box: Box, offset: NDArray[np.int32]) -> Float:
    """The picture seen in the box moved by the offset, replicated beyond its border."""
    height, width = picture.shape[:2]
    rows = np.clip(np.arange(box[1] + offset[1], box[3] + offset[1]), 0, height - 1)
    columns = np.clip(np.arange(box[0] + offset[0], box[2] + offset[0]), 0, width - 1)
    return np.asarray(picture[rows[:, None], columns[None]])


def _allowed(missing: Bytes, box: Box, some: Offsets) -> NDArray[np.bool_]:
    """Where in the box each of K offsets leads to a known pixel of the picture, (K, h, w)."""
    height, width = missing.shape
    rows = np.arange(box[1], box[3]) + some[:, 1:]
    columns = np.arange(box[0], box[2]) + some[:, :1]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    return np.asarray(inside & (missing[_places(missing.shape, box, some)] == 0), bool)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many indices, evenly over all: the same picture always gives the same ones."""
    if count <= most:
        return np.arange(count)
    # A stride that is no whole number, so that a grid's columns are all met.
    return (np.arange(most) * (count / most)).astype(np.int64)
