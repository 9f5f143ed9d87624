"""Masks as arrays: bounds, overlap, moving, blending. All are H x W at working resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.types import Mask

Soft = NDArray[np.uint8]
"""H x W, 0 = certainly not the thing, 255 = certainly the thing."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1; the end is exclusive."""

Affine = NDArray[np.float64]
"""2 x 3, maps (x, y, 1) of one picture to (x, y) of another."""

SMALL = 4
"""Overlaps are measured on masks this many times smaller."""

_FIRST = 1


def bounds(mask: Mask | Soft) -> tuple[int, int, int, int] | None:
    """Smallest (x0, y0, x1, y1) that holds every non-zero pixel, end exclusive; None for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (x, y, x + width, y + height) if width else None


def box_overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each of N boxes with each of M: (N, 4), (M, 4) to (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    across, down = np.moveaxis(np.maximum(high - low, 0), 2, 0)
    common = across * down
    size = []
    for boxes in (first, second):
        wide, tall = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).T
        size.append(wide * tall)
    return cast(NDArray[np.float64], common / (size[0][:, None] + size[1][None, :] - common + 1e-9))


def small_size(working: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the small masks."""
    return len(range(_FIRST, working[0], SMALL)), len(range(_FIRST, working[1], SMALL))


def stack_small(masks: Sequence[Mask | Soft], working: tuple[int, int]) -> NDArray[np.float32]:
    """N masks as rows of samples in [0, 1], (N, h w) float32: every `SMALL`-th pixel each way."""
    height, width = small_size(working)
    rows = np.zeros((len(masks), height, width), np.float32)
    for row, mask in zip(rows, masks, strict=True):
        row[:] = mask[_FIRST::SMALL, _FIRST::SMALL]
        if mask.dtype != np.bool_:
            row *= np.float32(1 / 255)
    return rows.reshape(len(masks), height * width)


def local_affine(homography: NDArray[np.float64], x: float, y: float) -> Affine:
    """The affine map that equals a homography and its first derivatives at (x, y)."""
    h = homography
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    u = (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w
    v = (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w
    out = np.empty((2, 3))
    out[0, :2] = (h[0, :2] - u * h[2, :2]) / w
    out[1, :2] = (h[1, :2] - v * h[2, :2]) / w
    out[0, 2] = u - out[0, 0] * x - out[0, 1] * y
    out[1, 2] = v - out[1, 0] * x - out[1, 1] * y
    return out


def move_box(affine: Affine, box: Box) -> Box:
    """Bounds of a box after an affine map."""
    x0, y0, x1, y1 = box
    (a, b, c), (d, e, f) = affine.tolist()  # plain numbers: arrays of four cost ten times as much
    x = (a * x0 + b * y0, a * x1 + b * y0, a * x0 + b * y1, a * x1 + b * y1)
    y = (d * x0 + e * y0, d * x1 + e * y0, d * x0 + e * y1, d * x1 + e * y1)
    return min(x) + c, min(y) + f, max(x) + c, max(y) + f


def move_soft(affine: Affine, soft: Soft) -> Soft:
    """Move a soft mask; `affine` is in pixels of the mask. A move of under a third of a pixel is none."""
    height, width = soft.shape
    found = bounds(soft)
    if found is None:
        return soft
    box = cast(Box, tuple(float(value) for value in found))
    x0, y0, x1, y1 = move_box(affine, box)
    if max(abs(x0 - box[0]), abs(y0 - box[1]), abs(x1 - box[2]), abs(y1 - box[3])) < 1 / 3:
        return soft
    moved = np.zeros_like(soft)
    left, top = max(0, int(np.floor(x0)) - 1), max(0, int(np.floor(y0)) - 1)
    right, bottom = min(width, int(np.ceil(x1)) + 1), min(height, int(np.ceil(y1)) + 1)
    if right <= left or bottom <= top:
        return moved
    # From the source's crop straight into the target's: small things cost little.
    inner = affine.copy()
    inner[:, 2] += affine[:, :2] @ np.array([found[0], found[1]]) - (left, top)
    crop = soft[found[1] : found[3], found[0] : found[2]]
    moved[top:bottom, left:right] = cv2.warpAffine(crop, inner, (right - left, bottom - top))
    return moved


def blend(new: Soft, old: Soft, weight: float) -> Soft:
    """`weight` of the old soft mask and the rest of the new one."""
    found, other = bounds(new), bounds(old)
    out = np.zeros_like(old)
    boxes = [each for each in (found, other) if each is not None]
    if not boxes:
        return out
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    window = (slice(y0, y1), slice(x0, x1))
    out[window] = cv2.addWeighted(old[window], weight, new[window], 1 - weight, 0.5)
    return out
