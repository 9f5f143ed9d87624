"""Inventing what is missing in a picture: fixed square crops for a network, or the classical way."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from stream.arrays import Bytes, u8
from stream.boxes import Box, parts
from stream.types import Image

Inpaint = Callable[[Bytes, Bytes, Bytes, Bytes], Bytes]
"""Image (256, 256, 3) RGB with the hole blanked, hole (256, 256) 0 or 1, reference (256, 256, 3), validity
(256, 256) 0 or 1 -> the completed image (256, 256, 3); all uint8."""

CROP = 256
_MOST = 6


def invent(picture: Image, missing: Bytes, inpaint: Inpaint | None) -> Image:
    """Fill the `missing` pixels (uint8 0 or 1) of a picture from what is around them.

    Regions too many to be worth a network each, and all without one, are filled classically (Telea, "An image
    inpainting technique based on the fast marching method", 2004).
    """
    out = picture.copy()
    rest = missing
    if inpaint is not None:
        rest = missing.copy()
        boxes = sorted(parts(missing, 24), key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))
        for box in boxes[:_MOST]:
            if np.count_nonzero(rest[box[1] : box[3], box[0] : box[2]]) >= 32:
                _complete(out, rest, box, inpaint)
    if rest.any():
        for x0, y0, x1, y1 in parts(rest, 12):
            left, top = max(0, x0 - 8), max(0, y0 - 8)
            right, bottom = min(out.shape[1], x1 + 8), min(out.shape[0], y1 + 8)
            part = np.ascontiguousarray(out[top:bottom, left:right])
            hole = np.ascontiguousarray(rest[top:bottom, left:right])
            out[top:bottom, left:right] = cv2.inpaint(part, hole, 4, cv2.INPAINT_TELEA)
    return out


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
    blanked = u8(picture * (np.uint8(1) - hole)[..., None])
    gaps = hole
    if side != CROP:
        # Averaged over the known pixels only, so that the blank hole does not darken its rim.
        known = cv2.resize((1 - hole).astype(np.float32), (CROP, CROP), interpolation=cv2.INTER_AREA)
        total = cv2.resize(blanked.astype(np.float32), (CROP, CROP), interpolation=cv2.INTER_AREA)
        gaps = (np.asarray(known) < 0.5).astype(np.uint8)
        small = np.clip(total / np.maximum(known, 1e-3)[..., None] + 0.5, 0, 255).astype(np.uint8)
        blanked = u8(small * (np.uint8(1) - gaps)[..., None])
    nothing = np.zeros((CROP, CROP, 3), np.uint8)
    done = inpaint(blanked, gaps, nothing, nothing[..., 0].copy())
    if side != CROP:
        done = u8(cv2.resize(done, (side, side), interpolation=cv2.INTER_CUBIC))
    mine = rest[y0:y1, x0:x1] > 0
    out[y0:y1, x0:x1][mine] = done[: y1 - y0, : x1 - x0][mine]
    rest[y0:y1, x0:x1] = 0


def _place(start: int, side: int, length: int) -> int:
    return max(0, min(start, length - side))
