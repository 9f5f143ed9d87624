"""Decoder planes to RGB and back: only what is asked for is converted, and what is not stays bit for bit.

Chroma is read as the decoder's sample repeated over the luma it covers and written as the area average of
that luma, so a patch that came from `to_rgb` goes back to the samples it came from.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream.boxes import Box, pieces
from stream.pixel_format import Layout, layout, nearest_format
from stream.types import Colour, Frame, Image

_TO_RGB: dict[tuple[int, int], int | None] = {
    (3, 0): None,
    (3, 2): cv2.COLOR_BGR2RGB,
    (4, 0): cv2.COLOR_RGBA2RGB,
    (4, 2): cv2.COLOR_BGRA2RGB,
}
_WEIGHTS: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
_BT601, _BT709, _FULL = 6, 1, 2


def colour_of(video: av.VideoFrame) -> Colour:
    """The colour tags of a decoded frame; formats that are full range by nature are said to be."""
    name = video.format.name
    by_nature = name.startswith("yuvj") or video.format.is_rgb or video.format.has_palette
    grey = name.startswith(("gray", "ya", "mono")) and video.color_range == 0
    return Colour(
        matrix=int(video.colorspace),
        full_range=int(video.color_range) == _FULL or by_nature or grey,
        primaries=int(video.color_primaries),
        transfer=int(video.color_trc),
    )


def from_video_frame(
    video: av.VideoFrame,
    *,
    index: int,
    pts: int,
    time_base: Fraction,
    rotation: int = 0,
    duration: int = 0,
) -> Frame:
    """Copy a decoded frame's planes out of the decoder's memory.

    A pixel format that `layout` does not know is first converted to `nearest_format`. The planes are
    read-only, so that what was decoded stays what was decoded.
    """
    colour = colour_of(video)
    name = nearest_format(video.format.name)
    if name != video.format.name:
        video = video.reformat(format=name)
    shape = _known(name)
    planes = []
    for number in range(shape.planes):
        width, height = shape.plane_size(number, video.width, video.height)
        plane = _plane(video, number, height, shape.dtype)[:, : width * shape.channels].copy()
        if shape.kind == "packed":
            plane = plane.reshape(height, width, shape.channels)
        plane.flags.writeable = False
        planes.append(plane)
    return Frame(
        index=index,
        pts=pts,
        time_base=time_base,
        planes=tuple(planes),
        format=name,
        width=video.width,
        height=video.height,
        colour=colour,
        rotation=rotation,
        duration=duration,
        interlaced=video.interlaced_frame,
    )


def to_video_frame(
    frame: Frame, *, pts: int | None = None, time_base: Fraction | None = None
) -> av.VideoFrame:
    """Copy a frame's planes into a new `av.VideoFrame` with its time and colour tags, ready to be encoded.

    `pts` and `time_base` replace the frame's own. The picture type is left to the encoder.
    """
    shape = _known(frame.format)
    video = av.VideoFrame(frame.width, frame.height, frame.format)
    for number, plane in enumerate(frame.planes):
        rows = plane.reshape(plane.shape[0], -1)
        _plane(video, number, rows.shape[0], shape.dtype)[:, : rows.shape[1]] = rows
    video.pts = frame.pts if pts is None else pts
    video.time_base = frame.time_base if time_base is None else time_base
    video.duration = frame.duration
    video.pict_type = 0
    video.colorspace = frame.colour.matrix
    video.color_range = _FULL if frame.colour.full_range else 1
    video.color_primaries = frame.colour.primaries
    video.color_trc = frame.colour.transfer
    return video


def frame_bytes(name: str, width: int, height: int) -> int:
    """How many bytes the planes of a frame of this pixel format and size hold."""
    shape = _known(name)
    sizes = (shape.plane_size(number, width, height) for number in range(shape.planes))
    return sum(w * h for w, h in sizes) * shape.channels * np.dtype(shape.dtype).itemsize


def to_rgb(frame: Frame) -> Image:
    """The whole picture as uint8 H x W x 3 RGB, by the frame's own matrix and range; alpha is left out.

    An unspecified matrix is BT.601 below 720 lines and BT.709 from there on.
    """
    shape = _known(frame.format)
    if shape.kind == "yuv":
        size = (frame.width, frame.height)
        luma, *chroma = _arrays(frame)[:3]
        if _is_common(frame):
            # the one case OpenCV has a conversion for, twice as fast
            return np.asarray(cv2.cvtColorTwoPlane(luma, cv2.merge(chroma), cv2.COLOR_YUV2RGB_NV12), np.uint8)
        if shape.sub_x > 1 or shape.sub_y > 1:
            # resized to whole samples first, so that a part of a sample at the edge shifts nothing
            whole = (chroma[0].shape[1] * shape.sub_x, chroma[0].shape[0] * shape.sub_y)
            chroma = [cv2.resize(c, whole, interpolation=cv2.INTER_NEAREST) for c in chroma]
            if whole != size:
                chroma = [np.ascontiguousarray(c[: frame.height, : frame.width]) for c in chroma]
        to_colour, _ = _matrices(frame)
        return _eight_bit(cv2.transform(cv2.merge([luma, *chroma]), to_colour))
    if shape.kind == "gray":
        scale, offset = _grey_scale(frame)
        # saturating, so that limited-range blacks below 16 become 0 and not their absolute value
        grey = np.clip(frame.planes[0].astype(np.float32) * scale + (offset + 0.5), 0, 255).astype(np.uint8)
        return np.asarray(cv2.merge([grey, grey, grey]), dtype=np.uint8)
    if shape.kind == "gbr":
        picture = cv2.merge([_arrays(frame)[number] for number in shape.order])
    else:
        picture = _arrays(frame)[0]
        swap = _TO_RGB[shape.channels, shape.order[0]]
        if swap is not None:
            picture = cv2.cvtColor(picture, swap)
    if shape.bits > 8:
        picture = cv2.convertScaleAbs(picture, alpha=255.0 / shape.peak)
    return np.asarray(picture, dtype=np.uint8)


def pixels_to_rgb(frame: Frame, places: NDArray[np.intp]) -> Image:
    """What `to_rgb` gives at some pixels, (N, 3), for their price; `places` are those of the flat picture."""
    shape = _known(frame.format)
    across, down = (max(1, shape.sub_x), max(1, shape.sub_y)) if shape.kind == "yuv" else (1, 1)
    rows, columns = np.divmod(places, frame.width)
    fine, coarse = places, (rows // down) * -(-frame.width // across) + columns // across
    planes: list[NDArray[Any]] = []
    for number, plane in enumerate(frame.planes):
        flat = plane.reshape(frame.height * frame.width, -1) if number in (0, 3) else plane.reshape(-1, 1)
        taken = flat.take(coarse if number in (1, 2) else fine, 0)
        planes.append(taken.reshape(1, len(places), -1) if taken.shape[1] > 1 else taken.reshape(1, -1))
    if shape.kind == "yuv" and _is_common(frame):
        # packed, two pixels that share their chroma for each: the same sums as for the whole picture
        pairs = np.empty((1, len(places), 4), np.uint8)
        pairs[..., 0] = pairs[..., 2] = planes[0]
        pairs[..., 1], pairs[..., 3] = planes[1], planes[2]
        picture = cv2.cvtColor(pairs.reshape(1, -1, 2), cv2.COLOR_YUV2RGB_YUY2)
        return np.ascontiguousarray(np.asarray(picture, np.uint8)[0, ::2])
    if shape.kind == "yuv":
        to_colour, _ = _matrices(frame)
        return np.asarray(_eight_bit(cv2.transform(cv2.merge(planes[:3]), to_colour))[0])
    colour = replace(frame.colour, matrix=_matrix_of(frame))
    row = replace(frame, planes=tuple(planes), width=len(places), height=1, colour=colour)
    return np.asarray(to_rgb(row)[0])


def _is_common(frame: Frame) -> bool:
    """Whether a frame is 4:2:0 of 8 bits in BT.601's limited range, and of even sides."""
    shape = _known(frame.format)
    tags = (shape.sub_x, shape.sub_y, shape.bits, _matrix_of(frame) in (5, 6), frame.colour.full_range)
    return tags == (2, 2, 8, True, False) and frame.width % 2 == frame.height % 2 == 0


def part_to_rgb(frame: Frame, box: Box) -> Image:
    """What `to_rgb` gives in a box (x0, y0, x1, y1) of the frame, for the price of the box."""
    x0, y0, x1, y1 = box
    shape = _known(frame.format)
    across, down = (max(1, shape.sub_x), max(1, shape.sub_y)) if shape.kind == "yuv" else (1, 1)
    left, top = x0 // across * across, y0 // down * down
    right, bottom = min(frame.width, -(-x1 // across) * across), min(frame.height, -(-y1 // down) * down)
    planes = []
    for number, plane in enumerate(frame.planes):
        by_x, by_y = (across, down) if number in (1, 2) else (1, 1)
        part = plane[top // by_y : -(-bottom // by_y), left // by_x : -(-right // by_x)]
        planes.append(np.ascontiguousarray(part))
    # The matrix is the whole frame's: an unspecified one depends on the height.
    colour = replace(frame.colour, matrix=_matrix_of(frame))
    size = right - left, bottom - top
    found = to_rgb(replace(frame, planes=tuple(planes), width=size[0], height=size[1], colour=colour))
    return found[y0 - top : y1 - top, x0 - left : x1 - left]


def write_back(frame: Frame, rgb_patch: NDArray[Any], alpha: NDArray[np.uint8], box: Box | None) -> Frame:
    """A new frame with an RGB patch blended in; where alpha is 0 every plane equals the input's bit for bit.

    `box`: (x0, y0, x1, y1) inside the frame, exclusive at the end; None or empty gives the frame back.
    `rgb_patch`: h x w x 3 of the box or of the whole frame, uint8, or float32 on the same 0..255 scale for
    formats of more than 8 bits. `alpha`: uint8 h x w of the box or of the whole frame, 255 = the patch alone.
    A chroma sample blends by the mean alpha of its luma and takes the colour of those of its luma that
    have any. The picture's own alpha channel is not changed. Raises ValueError for sizes that disagree.
    """
    if box is None or box[2] <= box[0] or box[3] <= box[1]:
        return frame
    shape = _known(frame.format)
    patch, weight = _in_box(frame, rgb_patch, box), _in_box(frame, alpha, box)
    if patch.ndim != 3 or patch.shape[2] != 3 or weight.ndim != 2:
        raise ValueError(f"patch {rgb_patch.shape} and alpha {alpha.shape} should be h x w x 3 and h x w")
    # Six things far apart are a small share of the box around them all.
    planes = _arrays(frame)
    # The picture's own alpha channel, where it is a plane, is the fourth.
    planes[:3] = [plane.copy() for plane in planes[:3]]
    for piece in pieces(weight):
        x0, y0, x1, y1 = _whole(piece, box, shape)
        part = slice(y0 - box[1], y1 - box[1]), slice(x0 - box[0], x1 - box[0])
        _blend(frame, shape, planes, patch[part], weight[part], (x0, y0, x1, y1))
    for plane in planes[:3]:
        plane.flags.writeable = False
    return replace(frame, planes=tuple(planes))


def _whole(piece: Box, box: Box, shape: Layout) -> Box:
    """A piece of a box in pixels of the frame, with the rest of its chroma samples as far as the box goes."""
    x0, y0, x1, y1 = box[0] + piece[0], box[1] + piece[1], box[0] + piece[2], box[1] + piece[3]
    sx, sy = shape.sub_x, shape.sub_y
    return (
        max(box[0], x0 // sx * sx),
        max(box[1], y0 // sy * sy),
        min(box[2], -(-x1 // sx) * sx),
        min(box[3], -(-y1 // sy) * sy),
    )


def _blend(
    frame: Frame,
    shape: Layout,
    planes: list[NDArray[Any]],
    patch: NDArray[Any],
    weight: NDArray[np.uint8],
    box: Box,
) -> None:
    """Blend a patch of a box's size into copies of a frame's planes, which are changed."""
    # 1 / 255 in float32 makes alpha 255 exactly 1, so a full patch leaves nothing of what was there
    mix = weight.astype(np.float32) * np.float32(1 / 255)
    colours = np.ascontiguousarray(patch, dtype=np.float32)
    if shape.kind == "yuv":
        _, from_colour = _matrices(frame)
        # Four channels: the constant term of the map is weighed by alpha like everything else.
        stack = cv2.cvtColor(cv2.multiply(colours, cv2.cvtColor(mix, cv2.COLOR_GRAY2RGB)), cv2.COLOR_RGB2RGBA)
        cv2.insertChannel(mix, stack, 3)
        luma = stack.reshape(-1, 4) @ from_colour[0]
        _mix(planes[0], box, luma.reshape(mix.shape), mix, shape.peak)
        cb, cr, chroma_mix, chroma_box = _chroma(frame, shape, stack, box)
        _mix(planes[1], chroma_box, cb, chroma_mix, shape.peak)
        _mix(planes[2], chroma_box, cr, chroma_mix, shape.peak)
    elif shape.kind == "gray":
        scale, offset = _grey_scale(frame)
        kr, kb = _WEIGHTS[_matrix_of(frame)]
        grey = cv2.transform(colours, np.array([[kr, 1 - kr - kb, kb]], np.float32))
        _mix(planes[0], box, (grey - offset) / scale * mix, mix, shape.peak)
    elif shape.kind == "gbr":
        for channel, number in enumerate(shape.order):
            values = colours[:, :, channel] * np.float32(shape.peak / 255) * mix
            _mix(planes[number], box, values, mix, shape.peak)
    else:
        scale = np.float32(shape.peak / 255)
        for channel, number in enumerate(shape.order):
            _mix(planes[0][:, :, number], box, colours[:, :, channel] * scale * mix, mix, shape.peak)


def _chroma(
    frame: Frame, shape: Layout, stack: NDArray[Any], box: Box
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Box]:
    """Cb times alpha, Cr times alpha, alpha and box, all at the chroma's resolution.

    `stack`: RGB times alpha, and alpha, float32 (h, w, 4) of the box.
    """
    x0, y0, x1, y1 = box
    sx, sy = shape.sub_x, shape.sub_y
    target = cx0, cy0, cx1, cy1 = x0 // sx, y0 // sy, -(-x1 // sx), -(-y1 // sy)
    # Averaging and the affine map commute, so the colours are averaged first and only the few are mapped.
    if sx > 1 or sy > 1:
        # Beyond the frame there is no luma: the last column and row stand for it. Inside the frame, luma
        # outside the box has alpha 0.
        edge_x, edge_y = max(cx1 * sx - frame.width, 0), max(cy1 * sy - frame.height, 0)
        if edge_x or edge_y:
            stack = cv2.copyMakeBorder(stack, 0, edge_y, 0, edge_x, cv2.BORDER_REPLICATE)
        left, top = x0 - cx0 * sx, y0 - cy0 * sy
        right, bottom = cx1 * sx - edge_x - x1, cy1 * sy - edge_y - y1
        if left or top or right or bottom:
            stack = cv2.copyMakeBorder(stack, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
        stack = cv2.resize(stack, (cx1 - cx0, cy1 - cy0), interpolation=cv2.INTER_AREA)
    _, from_colour = _matrices(frame)
    cb, cr = cv2.split(cv2.transform(stack, from_colour[1:]))
    return cb, cr, cv2.extractChannel(stack, 3), target


def _mix(plane: NDArray[Any], box: Box, premultiplied: NDArray[Any], mix: NDArray[Any], peak: int) -> None:
    """Mix values, weighed already, into a box of a plane, which is changed."""
    x0, y0, x1, y1 = box
    view = plane[y0:y1, x0:x1]
    # old * (1 - 0) + 0 is exact in float32 for 16-bit samples, so alpha 0 needs no mask
    if view.dtype == np.uint8 and peak == 255:
        rest = cv2.multiply(view, np.float32(1) - mix, dtype=cv2.CV_32F)
        view[...] = cv2.add(rest, premultiplied, dtype=cv2.CV_8U)
        return
    value = view.astype(np.float32)
    value *= np.float32(1) - mix
    value += premultiplied
    value += np.float32(0.5)
    view[...] = np.clip(value, 0, peak, out=value)


def _eight_bit(picture: NDArray[Any]) -> Image:
    if picture.dtype != np.uint8:
        picture = cv2.convertScaleAbs(picture)
    return np.asarray(picture, dtype=np.uint8)


def _arrays(frame: Frame) -> list[NDArray[Any]]:
    return list(frame.planes)


def _in_box(frame: Frame, array: NDArray[Any], box: Box) -> NDArray[Any]:
    x0, y0, x1, y1 = box
    if x0 < 0 or y0 < 0 or x1 > frame.width or y1 > frame.height:
        raise ValueError(f"box {box} is not inside {frame.width} x {frame.height}")
    if array.shape[:2] == (y1 - y0, x1 - x0):
        return array
    if array.shape[:2] == (frame.height, frame.width):
        return array[y0:y1, x0:x1]
    raise ValueError(f"{array.shape} fits neither the box {box} nor the frame {frame.width} x {frame.height}")


def _known(name: str) -> Layout:
    shape = layout(name)
    if shape is None:
        raise ValueError(f"no frame holds planes of pixel format {name}")
    return shape


def _plane(
    video: av.VideoFrame, number: int, height: int, dtype: type[np.uint8] | type[np.uint16]
) -> NDArray[Any]:
    plane = video.planes[number]
    stride = plane.line_size
    rows: NDArray[Any] = np.frombuffer(plane, dtype).reshape(height, abs(stride) // np.dtype(dtype).itemsize)  # type: ignore[call-overload]
    return rows[::-1] if stride < 0 else rows


def _matrix_of(frame: Frame) -> int:
    if frame.colour.matrix in _WEIGHTS:
        return frame.colour.matrix
    return _BT601 if frame.height < 720 else _BT709


def _matrices(frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return matrices(_matrix_of(frame), frame.colour.full_range, _known(frame.format).bits)


@lru_cache(maxsize=32)
def matrices(matrix: int, full_range: bool, bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two 3 x 4 affine maps: code values of Y, Cb, Cr to RGB on the 0..255 scale, and back (H.273, 8.3)."""
    kr, kb = _WEIGHTS[matrix]
    kg = 1 - kr - kb
    to_rgb = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    unit = 1 << (bits - 8)
    peak = (1 << bits) - 1
    scale = np.array([peak, peak, peak] if full_range else [219 * unit, 224 * unit, 224 * unit], float)
    zero = np.array([0 if full_range else 16 * unit, 128 * unit, 128 * unit], float)
    forward = np.zeros((3, 4))
    forward[:, :3] = to_rgb * 255 / scale
    forward[:, 3] = -forward[:, :3] @ zero
    backward = np.zeros((3, 4))
    backward[:, :3] = np.linalg.inv(forward[:, :3])
    backward[:, 3] = zero
    return forward.astype(np.float32), backward.astype(np.float32)


def _grey_scale(frame: Frame) -> tuple[np.float32, np.float32]:
    """Factor and offset from grey code values to the 0..255 scale."""
    shape = _known(frame.format)
    unit = 1 << (shape.bits - 8)
    if frame.colour.full_range:
        return np.float32(255 / shape.peak), np.float32(0)
    return np.float32(255 / (219 * unit)), np.float32(-16 * 255 / 219)
