"""What the de-occlusion network is shown and says: a square of the frame, at one size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.framing import SIDE, frame_square
from stream.arrays import Bytes, Float, u8
from stream.boxes import Box
from stream.types import Image

Number = TypeVar("Number", np.uint8, np.float32)


@dataclass(frozen=True)
class Answer:
    """What the network says of one square, `SIDE` x `SIDE`.

    `amodal` float32 (S, S) in [0, 1]: the whole thing; `rgb` uint8 (S, S, 3): its colours;
    `hidden`: log-odds that what is in front hides a part of it.
    """

    amodal: Float
    rgb: Image
    hidden: float


Network = Callable[[Image, Bytes, Bytes], Answer]
"""Square (S, S, 3) RGB, what is visible of the thing and what may hide it, (S, S) uint8 0 or 1."""


def square_of(seen: Box, front: Box) -> tuple[int, int, int]:
    """Left, top and side in whole pixels of the square the network is shown."""
    left, top, side = frame_square(seen, front)
    return round(left), round(top), max(8, round(side))


def cut_square(picture: NDArray[np.uint8], x: int, y: int, side: int) -> Bytes:
    """A square of a picture or mask at the network's size; edges repeated in pictures, zeros in masks."""
    height, width = picture.shape[:2]
    part = picture[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
    if part.size == 0:
        return np.zeros((SIDE, SIDE, *picture.shape[2:]), np.uint8)
    around = max(0, -y), max(0, y + side - height), max(0, -x), max(0, x + side - width)
    if any(around):
        border = cv2.BORDER_REPLICATE if picture.ndim == 3 else cv2.BORDER_CONSTANT
        part = u8(cv2.copyMakeBorder(part, *around, border, value=0))
    if picture.ndim == 2:
        soft = cv2.resize(part * np.uint8(255), (SIDE, SIDE), interpolation=_method(side))
        return (u8(soft) > 127).astype(np.uint8)
    return u8(cv2.resize(part, (SIDE, SIDE), interpolation=_method(side)))


def put_square(answer: NDArray[Number], x: int, y: int, side: int, shape: tuple[int, ...]) -> NDArray[Number]:
    """The network's answer back in a box of this shape; zeros where the square does not reach."""
    large = cv2.resize(np.asarray(answer), (side, side), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((*shape[:2], *answer.shape[2:]), answer.dtype)
    top, left = max(0, y), max(0, x)
    bottom, right = min(shape[0], y + side), min(shape[1], x + side)
    if top < bottom and left < right:
        out[top:bottom, left:right] = large[top - y : bottom - y, left - x : right - x]
    return out


def _method(side: int) -> int:
    return cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
