"""RGBA pictures: turned, as PNG, as the planes of a video, and stacked in an OpenRaster file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.boxes import Box
from stream.errors import InputError, OutputError
from stream.planes import matrices
from stream.types import Frame, Image

BT709 = 1
_BEYOND = 12


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write H x W, H x W x 3 RGB or H x W x 4 RGBA; raises OutputError."""
    try:
        path.write_bytes(png(_bgr(picture)))
    except OSError as error:
        raise OutputError(f"it cannot be written: {error.strerror}", where=str(path)) from None


def read_png(path: Path) -> NDArray[np.uint8]:
    """Read H x W x 4 RGBA; raises InputError."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError:
        raise InputError("a picture of the layer is missing", where=str(path)) from None
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None or picture.dtype != np.uint8:
        raise InputError("it is not a picture with 8 bits", where=str(path))
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    code = cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGBA
    return np.asarray(cv2.cvtColor(picture, code), np.uint8)


def turn(picture: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """Turn a picture clockwise by 0, 90, 180 or 270 degrees (negative: counter-clockwise)."""
    return np.ascontiguousarray(np.rot90(picture, -(rotation // 90) % 4))


def turn_box(box: Box, rotation: int, width: int, height: int) -> Box:
    """The box where a picture of `width` x `height` has it after it was turned as by `turn`."""
    x0, y0, x1, y1 = box
    match rotation % 360:
        case 90:
            return height - y1, x0, height - y0, x1
        case 180:
            return width - x1, height - y1, width - x0, height - y0
        case 270:
            return y0, width - x1, y1, width - x0
    return box


def write_ora(
    path: Path, plate: Image, things: Sequence[tuple[str, NDArray[np.uint8]]], merged: Image
) -> None:
    """Write an OpenRaster file: the plate at the bottom, then named RGBA pictures, the rearmost first.

    As the OpenRaster 0.0.5 baseline asks: `mimetype` first and stored, `stack.xml`, `mergedimage.png` and a
    thumbnail of at most 256 pixels.
    """
    height, width = plate.shape[:2]
    entries, pictures = [], []
    for number, (name, rgba) in enumerate([("plate", plate), *things]):
        box = (0, 0, width, height) if number == 0 else _tight(rgba)
        x0, y0, x1, y1 = box
        inside = f"data/{number:03}.png"
        pictures.append((inside, rgba[y0:y1, x0:x1]))
        entries.append(f'  <layer name={quoteattr(name)} src="{inside}" x="{x0}" y="{y0}" opacity="1.0"/>')
    # the first in the file is the topmost
    stack = "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<image version="0.0.5" w="{width}" h="{height}">',
            " <stack>",
            *reversed(entries),
            " </stack>",
            "</image>",
        ]
    )
    times = min(1.0, 256 / max(width, height))
    size = max(1, round(width * times)), max(1, round(height * times))
    small = np.asarray(cv2.resize(merged, size, interpolation=cv2.INTER_AREA), np.uint8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("mimetype", "image/openraster")
        file.writestr("stack.xml", stack)
        for inside, picture in (*pictures, ("mergedimage.png", merged), ("Thumbnails/thumbnail.png", small)):
            file.writestr(inside, png(_bgr(picture)))


def to_yuva444(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
    """RGBA as the planes of yuva444p10le: BT.709, limited range, alpha full."""
    _, backward = matrices(BT709, False, 10)
    codes = cv2.transform(np.ascontiguousarray(rgba[:, :, :3], dtype=np.float32), backward)
    yuv = np.clip(np.rint(codes), 0, 1023).astype(np.uint16)
    alpha = np.rint(rgba[:, :, 3] * np.float32(1023 / 255))
    return (*(np.ascontiguousarray(yuv[:, :, k]) for k in range(3)), alpha.astype(np.uint16))


def to_yuva420(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
    """RGBA as the planes of yuva420p: BT.709, limited range, alpha full.

    Colours go on a little beyond the alpha's edge: those of blocks and of two by two pixels are coded as one.
    """
    rgb = np.ascontiguousarray(rgba[:, :, :3])
    clear = (rgba[:, :, 3] == 0).astype(np.uint8)
    if clear.any() and not clear.all():
        way = cv2.DIST_LABEL_PIXEL
        far, nearest = cv2.distanceTransformWithLabels(clear, cv2.DIST_L2, 3, labelType=way)
        colours = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
        colours[nearest[clear == 0]] = rgb[clear == 0]
        beyond = (clear > 0) & (far < _BEYOND)
        rgb[beyond] = colours[nearest[beyond]]
    _, backward = matrices(BT709, False, 8)
    codes = cv2.transform(rgb.astype(np.float32), backward)
    height, width = rgb.shape[:2]
    half = (width + 1) // 2, (height + 1) // 2
    wide = cv2.copyMakeBorder(codes, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    chroma = cv2.resize(wide, half, interpolation=cv2.INTER_AREA)
    parts = codes[:, :, 0], chroma[:, :, 1], chroma[:, :, 2]
    planes = [np.clip(np.rint(part), 0, 255).astype(np.uint8) for part in parts]
    return (*map(np.ascontiguousarray, planes), np.ascontiguousarray(rgba[:, :, 3]))


def from_planes(frame: Frame) -> NDArray[np.uint8]:
    """A decoded frame as H x W x 4 RGBA; opaque when its format has no alpha."""
    alpha = np.full((frame.height, frame.width), 255, np.uint8)
    if frame.format.startswith("yuva"):
        peak = np.iinfo(np.uint8).max if frame.planes[3].dtype == np.uint8 else _peak(frame.format)
        alpha = np.rint(frame.planes[3].astype(np.float32) * (255 / peak)).astype(np.uint8)
    return np.dstack([frame.rgb, alpha])


def _peak(form: str) -> int:
    bits = int(form.partition("p")[2].rstrip("lbe") or 8)
    return (1 << bits) - 1


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.ndim == 2:
        return picture
    code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), code), np.uint8)


def png(picture: NDArray[np.uint8], level: int = 4) -> bytes:
    good, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert good
    return data.tobytes()


def _tight(rgba: NDArray[np.uint8]) -> Box:
    x, y, w, h = cv2.boundingRect((rgba[:, :, 3] > 0).astype(np.uint8))
    return (x, y, x + w, y + h) if w and h else (0, 0, 1, 1)
