"""A folder of layers in formats that editors read: plate, one file a thing, their masks, and `layers.json`.

Stills: PNG pictures as they are seen, and all of them in one OpenRaster file (`layers.ora`). Clips: ProRes
4444 with alpha in `.mov`, VP9 with alpha in `.webm`, or numbered PNG pictures; the masks as lossless grey
video (FFV1) or PNG. Pictures of a layer have the size of the clip, and the numbers and time stamps of its
frames.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from stream.boxes import Box
from stream.errors import InputError, OutputError
from stream.matting import Layer
from stream.planes import matrices
from stream.sink import open_sink
from stream.source import open_source
from stream.source_info import SourceInfo
from stream.types import Colour, Frame, Image

Style = Literal["png", "prores", "vp9"]
"""How layers of a clip are stored."""

FORMAT = 1
NAME = "layers.json"
_BT709 = 1
_BEYOND = 12
_SPOOLED = struct.Struct("<7q")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Strict):
    """Where a thing is in one frame: its box with what is hidden of it, and its depth, 0 the rearmost."""

    frame: int
    box: tuple[int, int, int, int]
    depth: int
    hidden: float


class Thing(_Strict):
    """One layer: the thing, what was said of it, its files, and its way through the clip."""

    id: int
    label: str
    action: Literal["keep", "remove"]
    relation: float | None
    reason: str
    file: str
    mask: str
    first_seconds: float
    last_seconds: float
    places: tuple[Place, ...]


class Contents(_Strict):
    """What `layers.json` says.

    Sizes and boxes are those of the picture as it is seen, after `rotation` (degrees clockwise). `codec` and
    `pixel_format` are the input's; `times` the frames' time stamps in `time_base` seconds.
    """

    format: int
    version: str
    input: str
    kind: Literal["image", "clip"]
    style: Style
    width: int
    height: int
    rotation: int
    fps: str
    frames: int
    time_base: str
    times: tuple[int, ...]
    codec: str
    pixel_format: str
    plate: str
    layers: tuple[Thing, ...]

    @property
    def filmed(self) -> bool:
        """Whether plate and layers are videos."""
        return self.kind == "clip" and self.style != "png"


def read_contents(folder: Path) -> Contents:
    """Read `layers.json`; raises InputError when it is not there or makes no sense."""
    path = folder / NAME
    try:
        found = Contents.model_validate_json(path.read_bytes())
    except OSError:
        raise InputError(
            "there are no layers", where=str(folder), hint="cleanplate layers INPUT -o DIR makes them"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{place}: {first['msg']}", where=str(path)) from None
    if found.format != FORMAT:
        raise InputError(f"it is of format {found.format}, this program reads {FORMAT}", where=str(path))
    for name in (found.plate, *(each.file for each in found.layers), *(each.mask for each in found.layers)):
        # the file may come from anywhere, and must not lead out of its folder
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{name!r} lies outside of the folder", where=str(path))
    return found


def write_contents(folder: Path, contents: Contents) -> None:
    """Write `layers.json`, one line for each frame of each layer."""
    told = contents.model_dump(mode="json")
    layers = []
    for each in told.pop("layers"):
        places = ",\n   ".join(map(_json, each.pop("places")))
        layers.append(f'{_json(each)[:-1]}, "places": [\n   {places}]}}')
    head = ",\n ".join(f"{_json(key)}: {_json(value)}" for key, value in told.items())
    text = ",\n  ".join(layers)
    (folder / NAME).write_text(f'{{\n {head},\n "layers": [\n  {text}]\n}}\n', encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


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
        pictures = _png(body, level=1), _png(layer.shape, level=1)
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
    colour = Colour(_BT709, False, info.colour.primaries, info.colour.transfer)
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
    form, planes_of = ("yuva420p", _small_yuva) if small else ("yuva444p10le", _yuva)
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
            file.writestr(inside, _png(_bgr(picture)))


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
                yield number, turn(_rgba(frame), contents.rotation)
        return
    for number in numbers:
        yield number, read_png(path if contents.kind == "image" else path / f"{number:06}.png")


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write H x W, H x W x 3 RGB or H x W x 4 RGBA; raises OutputError."""
    try:
        path.write_bytes(_png(_bgr(picture)))
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


def _on_canvas(part: NDArray[np.uint8], box: Box, width: int, height: int) -> NDArray[np.uint8]:
    whole = np.zeros((height, width, *part.shape[2:]), np.uint8)
    whole[box[1] : box[3], box[0] : box[2]] = part
    return whole


def _tight(rgba: NDArray[np.uint8]) -> Box:
    x, y, w, h = cv2.boundingRect((rgba[:, :, 3] > 0).astype(np.uint8))
    return (x, y, x + w, y + h) if w and h else (0, 0, 1, 1)


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


def _yuva(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
    """RGBA as the planes of yuva444p10le: BT.709, limited range, alpha full."""
    _, backward = matrices(_BT709, False, 10)
    codes = cv2.transform(np.ascontiguousarray(rgba[:, :, :3], dtype=np.float32), backward)
    yuv = np.clip(np.rint(codes), 0, 1023).astype(np.uint16)
    alpha = np.rint(rgba[:, :, 3] * np.float32(1023 / 255))
    return (*(np.ascontiguousarray(yuv[:, :, k]) for k in range(3)), alpha.astype(np.uint16))


def _small_yuva(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
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
    _, backward = matrices(_BT709, False, 8)
    codes = cv2.transform(rgb.astype(np.float32), backward)
    height, width = rgb.shape[:2]
    half = (width + 1) // 2, (height + 1) // 2
    wide = cv2.copyMakeBorder(codes, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    chroma = cv2.resize(wide, half, interpolation=cv2.INTER_AREA)
    parts = codes[:, :, 0], chroma[:, :, 1], chroma[:, :, 2]
    planes = [np.clip(np.rint(part), 0, 255).astype(np.uint8) for part in parts]
    return (*map(np.ascontiguousarray, planes), np.ascontiguousarray(rgba[:, :, 3]))


def _rgba(frame: Frame) -> NDArray[np.uint8]:
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


def _png(picture: NDArray[np.uint8], level: int = 4) -> bytes:
    good, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, level])
    assert good
    return data.tobytes()


def numbered(things: Iterable[tuple[int, str]]) -> dict[int, str]:
    """A file name for each thing by its id: number and class."""
    return {number: f"{number:03}-{label.replace(' ', '-')}" for number, label in things}
