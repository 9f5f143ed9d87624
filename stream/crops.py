"""Inventing what is missing in a picture: structure from a network, texture from the picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from stream import texture
from stream.arrays import Bytes, Float, f32, u8
from stream.boxes import Box, parts
from stream.networks import INPAINT_SIDE
from stream.types import Image

Inpaint = Callable[[Bytes, Bytes, Bytes, Bytes], Bytes]
"""Image (S, S, 3) RGB with the hole blanked, hole (S, S) 0 or 1, reference (S, S, 3), validity (S, S) 0 or 1
-> the completed image (S, S, 3); all uint8, S the `INPAINT_SIDE`."""

CROP = 256
"""Pixels across of the least that the network is shown."""

_MOST = 6
_SMOOTH = 500
"""Pixels across from which a smooth fill is made on a smaller picture."""
_MOST_TEXTURED, _SPECK = 24, 24
"""Regions that get texture, the largest first, and the pixels below which nobody would see it."""


def invent(picture: Image, missing: Bytes, inpaint: Inpaint | None, thin: float = 0.0) -> Image:
    """Fill the `missing` pixels (uint8 0 or 1) of a picture of any size (uint8 RGB) from what is around them.

    The structure comes from the network, or without one is a smooth fill; the texture is copied from the
    picture (stream/texture.py). Regions nowhere wider than twice `thin` pixels are filled smoothly and no
    more. The same picture and hole always give the same result.
    """
    regions = _regions(missing, 24)
    thick = [box for box in regions if thin <= 0 or thickness(missing, box) > thin]
    out = _sketched(picture, missing, inpaint, regions, thick)
    belief = 0.15 if inpaint is None else 0.4
    for box in thick[:_MOST_TEXTURED]:
        if np.count_nonzero(missing[box[1] : box[3], box[0] : box[2]]) < _SPECK:
            continue
        x0, y0, x1, y1 = _around(box, missing.shape)
        region = slice(y0, y1), slice(x0, x1)
        inner = box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0
        out[region] = texture.complete(picture[region], missing[region], out[region], belief, inner)
    return out


def sketch(picture: Image, missing: Bytes, inpaint: Inpaint | None, thin: float = 0.0) -> Image:
    """Fill the `missing` pixels smoothly: what the network paints, without texture.

    Regions too many or too `thin` to be worth a network each, and all without one, are filled from their rim
    alone.
    """
    regions = _regions(missing, 24)
    thick = [box for box in regions if thin <= 0 or thickness(missing, box) > thin]
    return _sketched(picture, missing, inpaint, regions, thick)


def thickness(missing: Bytes, box: Box) -> float:
    """How far the innermost missing pixel of a box is from what is known."""
    x0, y0, x1, y1 = box
    inner = cv2.copyMakeBorder(missing[y0:y1, x0:x1], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return float(cv2.distanceTransform(inner, cv2.DIST_L2, 3).max())


def _sketched(
    picture: Image, missing: Bytes, inpaint: Inpaint | None, regions: list[Box], thick: list[Box]
) -> Image:
    out = picture.copy()
    rest = missing
    if inpaint is not None:
        rest = missing.copy()
        for box in thick[:_MOST]:
            if np.count_nonzero(rest[box[1] : box[3], box[0] : box[2]]) >= 32:
                _complete(out, rest, box, inpaint)
    for box in regions:
        x0, y0, x1, y1 = max(0, box[0] - 8), max(0, box[1] - 8), box[2] + 8, box[3] + 8
        region = slice(y0, y1), slice(x0, x1)
        if rest[region].any():
            out[region] = _smooth(out[region], rest[region])
    return out


def _regions(missing: Bytes, gap: int) -> list[Box]:
    """Boxes of the missing pieces, the largest first; looked for on a smaller mask where they are large."""
    height, width = missing.shape
    x, y, across, down = cv2.boundingRect(missing)
    if across == 0:
        return []
    inner = missing[y : y + down, x : x + across]
    times = max(1, max(across, down) // 800)
    if times > 1:
        size = -(-across // times), -(-down // times)
        inner = (u8(cv2.resize(inner * np.uint8(255), size, interpolation=cv2.INTER_AREA)) > 0).astype(
            np.uint8
        )
    found = []
    for box in parts(inner, max(4, gap // times)):
        x0, y0 = x + int(box[0] * across / inner.shape[1]), y + int(box[1] * down / inner.shape[0])
        x1, y1 = x - (-box[2] * across // inner.shape[1]), y - (-box[3] * down // inner.shape[0])
        found.append((max(0, x0), max(0, y0), min(width, x1), min(height, y1)))
    return sorted(found, key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))


def _around(box: Box, shape: tuple[int, ...]) -> Box:
    """A region with what its texture may be copied from: as far again as it is large on every side."""
    reach = max(96, box[2] - box[0], box[3] - box[1])
    return (
        max(0, box[0] - reach),
        max(0, box[1] - reach),
        min(shape[1], box[2] + reach),
        min(shape[0], box[3] + reach),
    )


def _smooth(picture: Image, hole: Bytes) -> Image:
    """A hole filled smoothly from its rim, on ever coarser pictures where it is wide (push and pull)."""
    height, width = hole.shape
    times = max(1, max(height, width) // _SMOOTH)
    known, total = u8(1 - hole) * np.uint8(255), u8(picture * (1 - hole)[..., None])
    if times > 1:
        size = -(-width // times), -(-height // times)
        known = u8(cv2.resize(known, size, interpolation=cv2.INTER_AREA))
        total = u8(cv2.resize(total, size, interpolation=cv2.INTER_AREA))
    filled = spread(total.astype(np.float32), known.astype(np.float32) / np.float32(255))
    smooth = np.clip(filled + np.float32(0.5), 0, 255).astype(np.uint8)
    if times > 1:
        smooth = u8(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.where(hole[..., None] > 0, smooth, picture)


def spread(total: Float, known: Float) -> Float:
    """Spread sums over known shares into what is not known, by ever coarser pictures (push and pull).

    `total` (H, W, 3) float32, 0 where `known` (H, W) in [0, 1] is 0.
    """
    height, width = known.shape
    if max(height, width) <= 2:
        mean = total.sum((0, 1)) / max(float(known.sum()), 1e-6)
        return np.full_like(total, mean)
    size = (width + 1) // 2, (height + 1) // 2
    weight = f32(cv2.resize(known, size, interpolation=cv2.INTER_AREA))
    colours = f32(cv2.resize(total, size, interpolation=cv2.INTER_AREA))
    # A cell that is known in part is believed as if it were known wholly, so that the rim carries far.
    full = np.minimum(weight * np.float32(4), np.float32(1))
    colours *= (full / np.maximum(weight, np.float32(1e-6)))[..., None]
    coarse = f32(cv2.resize(spread(colours, full), (width, height), interpolation=cv2.INTER_LINEAR))
    coarse = f32(cv2.GaussianBlur(coarse, (3, 3), 0))
    return total + (1 - known)[..., None] * coarse


def _complete(out: Image, rest: Bytes, box: Box, inpaint: Inpaint) -> None:
    """Complete one region with the network; `out` and `rest` are changed."""
    height, width = rest.shape
    side = max(CROP, int(1.4 * max(box[2] - box[0], box[3] - box[1])))
    x0 = _place((box[0] + box[2]) // 2 - side // 2, side, width)
    y0 = _place((box[1] + box[3]) // 2 - side // 2, side, height)
    x1, y1 = min(width, x0 + side), min(height, y0 + side)
    pad = 0, side - (y1 - y0), 0, side - (x1 - x0)
    picture = u8(cv2.copyMakeBorder(out[y0:y1, x0:x1], *pad, cv2.BORDER_REFLECT))
    hole = u8(cv2.copyMakeBorder(rest[y0:y1, x0:x1], *pad, cv2.BORDER_REFLECT))
    # Averaged over the known pixels only, so that the blank hole does not darken its rim.
    size = (INPAINT_SIDE, INPAINT_SIDE)
    known = np.asarray(cv2.resize((1 - hole).astype(np.float32), size, interpolation=cv2.INTER_AREA))
    total = cv2.resize(u8(picture * (1 - hole)[..., None]), size, interpolation=cv2.INTER_AREA)
    gaps = (known < 0.5).astype(np.uint8)
    small = np.clip(total / np.maximum(known, 1e-3)[..., None] + 0.5, 0, 255).astype(np.uint8)
    blanked = u8(small * (np.uint8(1) - gaps)[..., None])
    nothing = np.zeros((INPAINT_SIDE, INPAINT_SIDE, 3), np.uint8)
    done = inpaint(blanked, gaps, nothing, nothing[..., 0].copy())
    done = u8(cv2.resize(done, (side, side), interpolation=cv2.INTER_CUBIC))
    mine = rest[y0:y1, x0:x1] > 0
    out[y0:y1, x0:x1][mine] = done[: y1 - y0, : x1 - x0][mine]
    rest[y0:y1, x0:x1] = 0


def _place(start: int, side: int, length: int) -> int:
    return max(0, min(start, length - side))
