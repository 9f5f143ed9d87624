"""Outlines that follow the picture: coarse odds carried to full resolution by a guided filter.

He, Sun and Tang, "Guided Image Filtering" (PAMI 2013), section 3.4 (colour guide), in the form of He and
Sun, "Fast Guided Filter" (2015): within each window the odds are a linear function of the picture's colour,
found at the coarse resolution and applied at the fine one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.types import Image

REACH = 4
"""Half a window's side in coarse cells."""

SMOOTH = 20.0
"""Variance of colour (of 255 grey levels) below which a window's odds are smoothed, not made to follow it."""

DEPENDS = 2 * REACH + 2
"""Coarse cells around a place that its odds depend on: two windows, and what a resize reads."""

_SURE = 4.0

Array = NDArray[np.float32]


def follow(odds: Array, picture: Image) -> Array:
    """Log odds at the picture's size, from (h, w) odds and an RGB (H, W, 3) uint8 picture of that field.

    The odds are clipped to +-4 first, so that sure places do not outweigh an outline.
    """
    rows, columns = odds.shape
    half = ((picture.shape[1] + 1) // 2, (picture.shape[0] + 1) // 2)
    guide = cv2.resize(picture, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    value = np.clip(odds, -_SURE, _SURE).astype(np.float32)
    mean, mean_value = _mean(small), _mean(value)
    shared = _mean(_scaled(small, value)) - _scaled(mean, mean_value)
    slope = _solve(small, mean, shared)
    offset = mean_value - _summed(slope * mean)
    # How much of the odds the colours explain in a window; where they do not, the odds stand as they are.
    told = _summed(slope * shared) / (_mean(value * value) - mean_value * mean_value + np.float32(1e-3))
    share = _mean(np.asarray(np.sqrt(np.clip(told, 0, 1)), np.float32))
    slopes = _scaled(_mean(slope), share)
    offsets = np.asarray(_mean(offset) * share + (1 - share) * value, np.float32)
    fine = cv2.resize(slopes, half, interpolation=cv2.INTER_LINEAR)
    rest = cv2.resize(offsets, half, interpolation=cv2.INTER_LINEAR)
    followed = _summed(cv2.multiply(fine, guide, dtype=cv2.CV_32F)) + rest
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.resize(followed, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _scaled(colours: Array, value: Array) -> Array:
    return np.asarray(colours * value[..., None], np.float32)


def _summed(colours: object) -> Array:
    """Sum over the channels (NumPy's own is ten times slower here)."""
    return np.asarray(cv2.transform(np.asarray(colours, np.float32), np.ones((1, 3), np.float32)), np.float32)


def _mean(x: Array) -> Array:
    side = 2 * REACH + 1
    return np.asarray(cv2.blur(x, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


def _solve(guide: Array, mean: Array, shared: Array) -> Array:
    """(covariance of the guide + SMOOTH)^-1 times its covariance with the odds, per cell, (h, w, 3)."""
    r, g, b = guide[..., 0], guide[..., 1], guide[..., 2]
    squares = _mean(np.stack([r * r, g * g, b * b], 2)) - mean * mean + np.float32(SMOOTH)
    mr, mg, mb = mean[..., 0], mean[..., 1], mean[..., 2]
    mixed = _mean(np.stack([r * g, r * b, g * b], 2)) - np.stack([mr * mg, mr * mb, mg * mb], 2)
    rr, gg, bb = squares[..., 0], squares[..., 1], squares[..., 2]
    rg, rb, gb = mixed[..., 0], mixed[..., 1], mixed[..., 2]
    c0, c1, c2 = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c3, c4, c5 = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    whole = c0 * rr + c1 * rg + c2 * rb
    x, y, z = shared[..., 0], shared[..., 1], shared[..., 2]
    solved = [c0 * x + c1 * y + c2 * z, c1 * x + c3 * y + c4 * z, c2 * x + c4 * y + c5 * z]
    return np.asarray(np.stack(solved, 2) / whole[..., None], np.float32)
