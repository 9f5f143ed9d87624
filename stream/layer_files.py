"""A folder of layers in formats that editors read: plate, one file a thing, their masks, and `layers.json`.

Stills: PNG pictures as they are seen, and all of them in one OpenRaster file (`layers.ora`). Clips: ProRes
4444 with alpha in `.mov`, VP9 with alpha in `.webm`, or numbered PNG pictures; the masks as lossless grey
video (FFV1) or PNG. Pictures of a layer have the size of the clip, and the numbers and time stamps of its
frames.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.boxes import Box
from stream.layer_contents import Contents, Style, Thing
from stream.matting import Layer
from stream.rgba import BT709, from_planes, png, read_png, to_yuva420, to_yuva444, turn, write_png
from stream.sink import open_sink
from stream.source import open_source
from stream.source_info import SourceInfo
from stream.types import Colour, Frame, Image

_SPOOLED = struct.Struct("<7q")


class Spool:
    """Layers of one thing as they come, on the disk until all are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.count = 0

    def add(self, frame: int, layer: Layer) -> None:
        """Keep the layer of a frame; frames come in order."""
        if self._file is None:
            self._file = self._path.open("ab")
        x0, y0, x1, y1 = layer.box
        body = np.dstack([layer.colours[:, :, ::-1], layer.alpha])
        pictures = png(body, level=1), png(layer.shape, level=1)
        self._file.write(_SPOOLED.pack(frame, x0, y0, x1, y1, *map(len, pictures)))
        self._file.write(b"".join(pictures))
        self.count += 1

    def rest(self) -> None:
        """Close the file until it is read, so that a clip of many things does not need as many handles."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __iter__(self) -> Iterator[tuple[int, Box, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Frame, box, RGBA and shape (`Layer.shape`) of each in its order."""
        self.rest()
        with self._path.open("rb") as file:
            while head := file.read(_SPOOLED.size):
                frame, x0, y0, x1, y1, first, second = _SPOOLED.unpack(head)
                body = cv2.imdecode(np.frombuffer(file.read(first), np.uint8), cv2.IMREAD_UNCHANGED)
                shape = cv2.imdecode(np.frombuffer(file.read(second), np.uint8), cv2.IMREAD_UNCHANGED)
                assert body is not None and shape is not None
                rgba = cv2.cvtColor(body, cv2.COLOR_BGRA2RGBA)
                yield frame, (x0, y0, x1, y1), np.asarray(rgba, np.uint8), np.asarray(shape, np.uint8)


def write_clip(
    folder: Path, name: str, spool: Spool, times: Sequence[int], info: SourceInfo, style: Style
) -> tuple[str, str]:
    """Write the layers of one thing of a clip, and its masks; the names of both files or folders.

    `times`: the time stamp of each frame of the clip. Where the thing is not in the picture between its first
    and last frame, the layer is empty.
    """
    if style == "png":
        return _write_numbered(folder, name, spool, info)
    colour = Colour(BT709, False, info.colour.primaries, info.colour.transfer)
    plain = replace(
        info,
        kind="video",
        streams=(),
        metadata={},
        images=(),
        hdr10=None,
        field_order=1,
        colour=colour,
        range_tag=1,
        warnings=(),
        start=None,
        end=None,
        shown_from=Fraction(0),
        first_pts=0,
    )
    small = style == "vp9"
    form, planes_of = ("yuva420p", to_yuva420) if small else ("yuva444p10le", to_yuva444)
    picture = replace(plain, codec="vp9" if small else "prores", format=form)
    grey = replace(plain, codec="ffv1", format="gray", colour=Colour(full_range=True), range_tag=2)
    file, mask = f"{name}.webm" if small else f"{name}.mov", f"{name}.mask.mkv"
    with (
        open_sink(folder / file, picture, copy_streams=False) as pictures,
        open_sink(folder / mask, grey, copy_streams=False, lossless=True) as masks,
    ):
        for frame, rgba, shape in _every(spool, info):
            pts = times[frame]
            pictures.write(_frame(frame, pts, info, planes_of(rgba), form, colour))
            masks.write(_frame(frame, pts, info, (shape,), "gray", grey.colour))
    return file, mask


def _write_numbered(folder: Path, name: str, spool: Spool, info: SourceInfo) -> tuple[str, str]:
    mask = f"{name}.mask"
    (folder / name).mkdir()
    (folder / mask).mkdir()
    for frame, rgba, shape in _every(spool, info):
        write_png(folder / name / f"{frame:06}.png", turn(rgba, info.rotation))
        write_png(folder / mask / f"{frame:06}.png", turn(shape, info.rotation))
    return name, mask


def _every(spool: Spool, info: SourceInfo) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Number, RGBA and mask of each frame from a thing's first to its last, at the clip's size."""
    width, height = info.width, info.height
    expected: int | None = None
    for frame, box, rgba, shape in spool:
        for missing in range(frame if expected is None else expected, frame):
            yield missing, np.zeros((height, width, 4), np.uint8), np.zeros((height, width), np.uint8)
        expected = frame + 1
        yield frame, _on_canvas(rgba, box, width, height), _on_canvas(shape, box, width, height)


def write_still(folder: Path, name: str, spool: Spool, info: SourceInfo) -> tuple[str, str]:
    """Write the layer of one thing of a still as PNG, and its mask; the names of both files."""
    file, mask = f"{name}.png", f"{name}.mask.png"
    for _, rgba, shape in _every(spool, info):
        write_png(folder / file, turn(rgba, info.rotation))
        write_png(folder / mask, turn(shape, info.rotation))
    return file, mask


def read_plate(folder: Path, contents: Contents) -> Iterator[tuple[Image, Frame | None]]:
    """The plate's pictures (H x W x 3 RGB, as seen), and a video's frames; raises InputError."""
    path = folder / contents.plate
    if contents.filmed:
        with open_source(path) as source:
            for frame in source:
                yield turn(frame.rgb, contents.rotation), frame
        return
    for number in range(contents.frames):
        file = path if contents.kind == "image" else path / f"{number:06}.png"
        yield read_png(file)[:, :, :3], None


def read_layer(
    folder: Path, thing: Thing, contents: Contents
) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
    """Frame number and RGBA picture (H x W x 4, as seen) of a layer, in order; raises InputError."""
    numbers = range(thing.places[0].frame, thing.places[-1].frame + 1)
    path = folder / thing.file
    if contents.filmed:
        with open_source(path) as source:
            for number, frame in zip(numbers, source, strict=False):
                yield number, turn(from_planes(frame), contents.rotation)
        return
    for number in numbers:
        yield number, read_png(path if contents.kind == "image" else path / f"{number:06}.png")


def _on_canvas(part: NDArray[np.uint8], box: Box, width: int, height: int) -> NDArray[np.uint8]:
    whole = np.zeros((height, width, *part.shape[2:]), np.uint8)
    whole[box[1] : box[3], box[0] : box[2]] = part
    return whole


def _frame(
    number: int,
    pts: int,
    info: SourceInfo,
    planes: tuple[NDArray[np.generic], ...],
    form: str,
    colour: Colour,
) -> Frame:
    return Frame(
        index=number,
        pts=pts,
        time_base=info.time_base,
        planes=planes,
        format=form,
        width=info.width,
        height=info.height,
        colour=colour,
        rotation=info.rotation,
    )
