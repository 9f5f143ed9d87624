"""Names for what OpenCV returns, whose own types are wider than what it gives."""

from __future__ import annotations

from typing import Any, cast

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
