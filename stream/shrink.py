"""Pictures made smaller by the mean of what each new pixel covers; large ones by way of half their size.

Several rooms want a frame at sizes of their own. To average 1280 x 720 pixels takes longer than all else that
some of them do; halving takes a fifteenth of that, and the half is kept with the frame.
"""

from __future__ import annotations

import cv2
import numpy as np

from stream.types import Frame, Image

_LARGE = 500_000
"""Pixels from which a picture is halved first; smaller ones are averaged in one step and rounded once."""


def shrink(frame: Frame, size: tuple[int, int]) -> Image:
    """The frame's RGB at a smaller `size` (width, height)."""
    picture = halved(frame, size)
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def halved(frame: Frame, size: tuple[int, int]) -> Image:
    """The frame's RGB, halved while it is large and stays no smaller than `size` (width, height)."""
    picture = frame.half if _has_half(frame.rgb, size) else frame.rgb
    while _has_half(picture, size):
        picture = halve(picture)
    return picture


def halve(picture: Image) -> Image:
    """A picture of even sides at half its size, each pixel the mean of four."""
    size = picture.shape[1] // 2, picture.shape[0] // 2
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _has_half(picture: Image, size: tuple[int, int]) -> bool:
    """Whether the picture is large, and half of it is whole pixels and still as large as `size`."""
    height, width = picture.shape[:2]
    halves = width % 2 == 0 and height % 2 == 0 and width >= 2 * size[0] and height >= 2 * size[1]
    return bool(halves and width * height > _LARGE)
