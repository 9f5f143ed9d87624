"""The mirror image of a thing below its foot: on wet ground, ice or a polished floor."""

from __future__ import annotations

import cv2
import numpy as np

from stream.arrays import Bytes, Float, f32, u8
from stream.background import Background, fit, grown

_LEAST = 60
"""Pixels of a thing below which its mirror image is not looked for."""

_CHANGE = 3.0
_ALIKE = 0.6
_SHARE = (0.06, 0.85)
"""A weaker mirror image is noise; a stronger one is no image but more of the thing itself."""


def reflection(picture: Bytes, scene: Background, core: Bytes, others: Bytes) -> Bytes:
    """Where the things of `core` (uint8 0 or 1) are mirrored below their feet, uint8 0 or 255.

    A mirror adds a share of what it mirrors: the change against the background is, over the region, a share
    of what the thing upside down would change. `picture` and `scene` are at the size of comparison; `others`
    (0 or 1) are things that stay.
    """
    shape = picture.shape[:2]
    core, others = fit(core, shape), fit(others, shape)
    found = np.zeros(shape, np.uint8)
    if not scene.calm or not core.any():
        return found
    free = u8(scene.sure & (1 - core) & (1 - others))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    for k in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[k])
        depth = min(h, shape[0] - y - h)
        if area < _LEAST or depth < 6:
            continue
        columns = slice(x, x + w)
        below = slice(y + h, y + h + depth)
        change = _smooth(picture[below, columns]) - _smooth(scene.rgb[below, columns])
        ground = free[below, columns]
        if not ground.any() or float(np.abs(change[ground > 0]).mean()) < _CHANGE:
            continue
        thing = (labels[:, columns] == k).astype(np.uint8)
        best = 0.0, np.zeros_like(ground)
        # Where the mask was grown its foot lies above the mask's edge.
        for above in range(1 + max(3, h // 12)):
            rows = np.arange(y + h - 1 - 2 * above, y + h - 1 - 2 * above - depth, -1)
            rows = rows[rows >= 0]
            if not len(rows):
                break
            mirrored = _smooth(picture[rows][:, columns]) - _smooth(scene.rgb[below, columns][: len(rows)])
            where = u8(thing[rows] & ground[: len(rows)])
            likeness = _likeness(change[: len(rows)], mirrored, where)
            if likeness > best[0] and np.count_nonzero(where) > 0.25 * area:
                best = likeness, np.pad(where, ((0, depth - len(rows)), (0, 0)))
        if best[0] > _ALIKE:
            found[below, columns] |= best[1]
    if not found.any():
        return found
    # Water and rough floors draw the image out a little.
    return u8(grown(found, max(2.0, shape[0] / 90)) & free) * np.uint8(255)


def _smooth(picture: Bytes) -> Float:
    return f32(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.5))


def _likeness(change: Float, mirrored: Float, where: Bytes) -> float:
    """How far a change is a share of what the mirror image would change: a correlation, 0 to 1."""
    d, e = change[where > 0].ravel(), mirrored[where > 0].ravel()
    if len(d) < 3 * _LEAST // 4:
        return 0.0
    both, least = float(d @ e), 1e-6
    share = both / (float(e @ e) + least)
    if not _SHARE[0] < share < _SHARE[1]:
        return 0.0
    return both / (float(np.sqrt((d @ d) * (e @ e))) + least)
