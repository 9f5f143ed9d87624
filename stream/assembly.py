"""The winners of a vote brought in at full size, each pixel resampled once, and averaged by their shares.

Only the pixels that are asked for are touched, as a list: holes fill less than half of their boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import geometry
from stream.arrays import Bytes, Float, f32, repeated, u8
from stream.boxes import Box
from stream.covers import blocked
from stream.exposure import UNLIT
from stream.planes import part_to_rgb
from stream.plate import Plate, scale_to
from stream.pose import View
from stream.sources import Source
from stream.types import Frame, Image

_SHARP = np.array([0.02, -0.05, 1.06, -0.05, 0.02], np.float32)
"""Raises the finest detail by what the mean of cubic interpolations at many phases has lost of it."""

_ROW = 1024
"""Pixels a row of the maps that lists are sampled through; OpenCV takes no map longer than 32767."""

_TAPS = 3
"""Pixels that cubic interpolation reads beyond a place, and one more."""

Shares = Sequence[tuple[Source, Float]]
"""Sources, and their shares of each pixel of a box at reduced size."""


@dataclass(frozen=True, slots=True)
class _Pixels:
    """A list of n pixels of a `box`: their indices in it, and their places in the frame, in rows of a map."""

    box: Box
    index: NDArray[np.intp]
    places: Float

    def some(self, which: NDArray[np.intp]) -> _Pixels:
        """Some of them."""
        return _Pixels(self.box, self.index[which], _in_rows(self.places.reshape(-1, 2)[which]))


def assemble(
    plate: Plate, shares: Shares, asked: Bytes, view: View, box: Box, forbidden: frozenset[int]
) -> tuple[Image, Bytes, tuple[int, ...]]:
    """Average what sources show of the pixels `asked` for (uint8 0 or 1, of the box's size).

    Returns uint8 RGB of the box, where it is known (0 or 1), and the frames that served.
    """
    # Two pixels more: detail is raised with its surroundings in sight.
    at = cv2.findNonZero(cv2.dilate(asked, np.ones((5, 5), np.uint8)))
    if at is None:
        return np.zeros((*asked.shape, 3), np.uint8), np.zeros(asked.shape, np.uint8), ()
    at = at.reshape(-1, 2)
    index = at[:, 1].astype(np.intp) * asked.shape[1] + at[:, 0]
    pixels = _Pixels(box, index, _in_rows(at + np.array(box[:2], np.int32)))
    colour, total = np.zeros((len(index), 3), np.float32), np.zeros(len(index), np.float32)
    used = set()
    for source, weight in shares:
        share = _at_full_size(weight, pixels)
        which = np.flatnonzero(share > 0.005)
        if len(which) > 0.5 * len(index):
            rgb, clear = _show(plate, source, view, pixels, forbidden)
            share *= clear
            total += share
            colour += _weighed(rgb, share, source)
        elif len(which):
            rgb, clear = _show(plate, source, view, pixels.some(which), forbidden)
            part = share[which] * clear
            total[which] += part
            colour[which] += _weighed(rgb, part, source)
        if len(which):
            used.add(source.memory.index)
    # Pixels that are background only at full size, at the edge of a mask.
    left = np.flatnonzero(total == 0)
    for source, _ in shares:
        if not len(left):
            break
        rgb, clear = _show(plate, source, view, pixels.some(left), forbidden)
        total[left] = clear
        colour[left] = _weighed(rgb, clear.astype(np.float32), source)
        left = left[~clear]
    picture = np.zeros((*asked.shape, 3), np.float32)
    seen = np.zeros(asked.shape, np.uint8)
    colour *= repeated(f32(1 / np.maximum(total, np.float32(1e-12))), 3)
    picture.reshape(-1, 3)[index] = colour
    seen.ravel()[index] = total > 0
    if any(source.memory.view.pose != view.pose for source, _ in shares):
        amid = cv2.erode(seen, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        cv2.copyTo(f32(cv2.sepFilter2D(picture, -1, _SHARP, _SHARP)), u8(amid), picture)
    rgb = u8(cv2.convertScaleAbs(np.maximum(picture, 0, out=picture)))
    return rgb, seen, tuple(sorted(used))


def _weighed(rgb: Bytes, share: Float, source: Source) -> Float:
    """Colours (n, 3) in the frame's exposure, times their shares (n,)."""
    if source.gain == UNLIT:
        factor = repeated(share, 3)
    else:
        row = share.reshape(1, -1)
        factor = f32(cv2.merge([row * np.float32(each) for each in source.gain])).reshape(-1, 3)
    return f32(cv2.multiply(rgb, factor, dtype=cv2.CV_32F))


def _in_rows(at: NDArray[np.generic]) -> Float:
    """A list of places (n, 2) as rows of a map; the last place fills the last row."""
    places = np.empty((-(-len(at) // _ROW), _ROW, 2), np.float32)
    flat = places.reshape(-1, 2)
    flat[: len(at)], flat[len(at) :] = at, at[-1]
    return places


def _at_full_size(plane: Float, pixels: _Pixels) -> Float:
    """A plane of the box at reduced size, read at its pixels."""
    x0, y0, x1, y1 = pixels.box
    full = f32(cv2.resize(plane, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR))
    return full.reshape(-1, *plane.shape[2:]).take(pixels.index, 0)


def _show(
    plate: Plate, source: Source, view: View, pixels: _Pixels, forbidden: frozenset[int]
) -> tuple[Image, NDArray[np.bool_]]:
    """What a source shows of pixels (n, 3), resampled once, and whether it is background (n,).

    Without the gain; copied where the pose is the same.
    """
    memory = source.memory
    height, width = memory.frame.height, memory.frame.width
    cover = blocked(plate, memory, forbidden)
    places = pixels.places
    if source.place is not None:
        moved = _moved(source.place, memory.grey.shape, (width, height), pixels)
        places = _in_rows(places.reshape(-1, 2)[: len(pixels.index)] + moved)
    elif memory.view.pose != view.pose:
        back = geometry.inverse(source.forward)
        places = f32(cv2.perspectiveTransform(pixels.places, back))
    copied = memory.view.pose == view.pose and source.place is None
    count = len(pixels.index)
    rgb = _read_frame(memory.frame, places, cv2.INTER_NEAREST if copied else cv2.INTER_CUBIC)
    inside = None
    if not copied and not _all_inside(source, pixels, width, height):
        inside = cv2.inRange(places, (-0.5, -0.5, 0, 0), (width - 0.5, height - 0.5, 0, 0))
    if cover.shape != (height, width):
        places = f32(cv2.perspectiveTransform(places, scale_to(cover.shape, width, height)))
    clear = _read(cover, places, cv2.INTER_NEAREST) == 0
    if inside is not None:
        clear &= u8(inside) > 0
    return rgb.reshape(-1, 3)[:count], clear.ravel()[:count]


def _all_inside(source: Source, pixels: _Pixels, width: int, height: int) -> bool:
    """Whether a source is known to show all of a box, without a look at each of its pixels."""
    if source.place is not None:
        return False
    x0, y0, x1, y1 = pixels.box
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    at = geometry.apply(geometry.inverse(source.forward), corners)
    return bool((at >= -0.5).all() and (at <= (width - 0.5, height - 0.5)).all())


def _moved(place: Float, shape: tuple[int, ...], size: tuple[int, int], pixels: _Pixels) -> Float:
    """How far pixels followed at reduced size (`shape` of the whole) moved, in pixels of the frame."""
    fx, fy = size[0] / shape[1], size[1] / shape[0]
    moved = np.empty_like(place)
    rows, columns = place.shape[:2]
    moved[..., 0] = (place[..., 0] - np.arange(columns, dtype=np.float32) - pixels.box[0] / fx) * fx
    moved[..., 1] = (place[..., 1] - np.arange(rows, dtype=np.float32)[:, None] - pixels.box[1] / fy) * fy
    return _at_full_size(moved, pixels)


def _read_frame(frame: Frame, places: Float, how: int) -> Image:
    """A frame's RGB at places in rows of a map; only what lies around them is converted."""
    size = frame.width, frame.height
    low, high = [0, 0], list(size)
    for k, along in enumerate(cv2.split(places)):
        least, most, *_ = cv2.minMaxLoc(along)
        if math.isfinite(least + most):
            low[k] = min(max(0, int(least) - _TAPS), size[k] - 1)
            high[k] = min(max(low[k] + 1, int(most) + _TAPS + 1), size[k])
    part = part_to_rgb(frame, (low[0], low[1], high[0], high[1]))
    return _read(part, f32(cv2.subtract(places, (*low, 0, 0))), how)  # type: ignore[call-overload]


def _read(image: Bytes, places: Float, how: int) -> Bytes:
    return u8(cv2.remap(image, places, None, how, borderMode=cv2.BORDER_REPLICATE))  # type: ignore[call-overload]
