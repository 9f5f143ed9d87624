"""Names for what OpenCV returns, whose own types are wider than what it gives; what NumPy takes long for."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Float = NDArray[np.float32]


def u8(array: Any) -> Bytes:
    """Take an OpenCV result known to be uint8 as such."""
    return cast(Bytes, array)


def f32(array: Any) -> Float:
    """Take an OpenCV result known to be float32 as such."""
    return cast(Float, array)


def repeated(values: Float, channels: int) -> Float:
    """Each value once a channel, (..., channels): to multiply by a column takes five times as long."""
    row = values.reshape(1, -1)
    return f32(cv2.merge([row] * channels)).reshape(*values.shape, channels)


def median(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The median over the first axis; NumPy's own takes twenty times as long for a few values."""
    ordered = np.sort(values, axis=0)
    middle: NDArray[np.floating[Any]] = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle
