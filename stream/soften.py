"""Shown as sharp as its place is known: what may lie some pixels off is blurred by about as much.

The mean of a picture over all the places where it may be is the best guess of what is at one of them.
"""

from __future__ import annotations

import cv2
import numpy as np

from stream.arrays import Bytes, Float, f32, repeated, u8
from stream.types import Image

_BLUR = 0.6
_SHARP = 0.8
"""Sigma for each pixel that something may be astray, beyond the pixels that nobody would see."""

_FIRST = 1.2
"""Sigma of the first level of the pyramid; each further one has twice that of the one before."""

_LEVELS = 4
_HALF = 8.0
"""Pixels (at 240 lines) astray at which a rough guess counts as much as an invented one."""


def soften(picture: Image, known: Bytes, astray: Float, lines: float) -> Image:
    """Blur a picture (uint8 RGB) by how far `astray` (float32, pixels) each pixel may be.

    `known`: uint8 0 or 1, the pixels that show anything. `lines`: how many pixels are one of 240 lines.
    """
    sigma = f32(np.maximum(astray - np.float32(_SHARP * lines), 0) * np.float32(_BLUR))
    x, y, w, h = cv2.boundingRect((sigma > 0.05).astype(np.uint8))
    if not w:
        return picture
    reach = round(4 * _FIRST * 2**_LEVELS)
    rows, columns = (slice(max(0, at - reach), at + size + reach) for at, size in ((y, h), (x, w)))
    part, sigma = picture[rows, columns], sigma[rows, columns]
    out = part.astype(np.float32)
    weight = known[rows, columns].astype(np.float32)
    total = f32(out * repeated(weight, 3))
    size = part.shape[1], part.shape[0]
    level = np.log2(np.maximum(sigma, np.float32(1e-3)) / np.float32(_FIRST)) + np.float32(1)
    # Below the first level the blur of a mixture grows with the square root of its share.
    level = np.where(sigma < _FIRST, np.square(sigma / np.float32(_FIRST)), level)
    for k in range(1, _LEVELS + 1):
        total, weight = f32(cv2.pyrDown(total)), f32(cv2.pyrDown(weight))
        share = np.clip(level - np.float32(k - 1), 0, 1)
        if not share.any():
            break
        mean = total / repeated(f32(np.maximum(weight, np.float32(1e-4))), 3)
        blurred = f32(cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR))
        out += repeated(f32(share), 3) * (blurred - out)
    done = picture.copy()
    done[rows, columns] = np.clip(out + np.float32(0.5), 0, 255).astype(np.uint8)
    return done


def mixed(rough: Image, invented: Image, where: Bytes, astray: Float, lines: float) -> Image:
    """`invented`, drawn `where` (0 or 1) to a rough guess, the more the less far that may be `astray`."""
    weight = where / (1 + np.square(astray / np.float32(_HALF * lines)))
    weight = f32(weight.astype(np.float32))
    return u8(
        np.clip(invented + repeated(weight, 3) * (rough.astype(np.float32) - invented) + 0.5, 0, 255).astype(
            np.uint8
        )
    )
