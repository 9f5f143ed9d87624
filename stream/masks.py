"""The user's own masks: what is to go, frame by frame, or which object each pixel belongs to."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from models.labels import THING_NAMES
from stream.errors import InputError, UsageError
from stream.pixel_format import layout
from stream.planes import from_video_frame, to_rgb
from stream.source import Source, open_source
from stream.source_images import IMAGE_SUFFIXES, list_images, read_image
from stream.source_info import SourceInfo
from stream.types import Frame, Mask

_OBJECTS = "objects.json"
_LOSSLESS = frozenset(
    {"ffv1", "png", "gif", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "qtrle", "magicyuv"}
)
_NOISE = 16
"""Below this a pixel of a lossy mask video is black that was compressed."""


@dataclass(frozen=True)
class Drawn:
    """One frame's masks in the frame's own size and turn; exactly one of the two is there.

    `mask`: bool H x W, True is hole. `labels`: uint16 H x W of object ids, 0 = none, and each id's COCO name.
    """

    mask: Mask | None = None
    labels: tuple[NDArray[np.uint16], dict[int, str]] | None = None


class MaskReader:
    """Masks in step with the frames of one input; a context manager.

    `read` is called once a frame in order and raises UsageError when there is no mask for it.
    """

    def __init__(
        self, path: Path, info: SourceInfo, count: int | None, masks: Iterator[Drawn], source: Source | None
    ) -> None:
        self._path = path
        self._info = info
        self._count = count
        self._masks = masks
        self._source = source
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the mask video."""
        if self._source is not None:
            self._source.close()

    def read(self, frame: Frame) -> Drawn:
        """The masks of this frame."""
        drawn = next(self._masks, None)
        if drawn is None:
            known = self._info.frames if self._info.frames_exact else None
            there = str(known) if known is not None else f"at least {frame.index + 1}"
            raise _wrong_count(self._read, there, self._path)
        self._read += 1
        return drawn

    def left_over(self, frames: int) -> tuple[str, ...]:
        """After the last of `frames` frames: a warning when there are more masks than that, else nothing."""
        count = self._count
        if count is None:
            count = self._read + sum(1 for _ in self._masks)
        if count == frames:
            return ()
        # The work is done: it is for the user to say whether it is good.
        return (
            f"there are {count} masks and {frames} frames: the last {count - frames} masks were not used, "
            "and others may belong to other frames",
        )


def open_masks(path: str | Path, info: SourceInfo) -> MaskReader:
    """Open a mask video, a folder of mask images, one image, or a labelled folder with `objects.json`.

    A mask's pixels that are not zero are hole (in lossy video: not nearly black). There is one mask a frame
    of what is read of the input, as large as the picture, in the turn in which a viewer sees it or in the
    coded one. Raises UsageError for a wrong count where it is known before, a wrong size of the first mask,
    an unknown class; InputError for what cannot be read.
    """
    place = Path(path)
    if place.is_dir() or place.suffix.lower() in IMAGE_SUFFIXES:
        if not place.exists():
            raise InputError("there is no such mask", where=str(place))
        images = list_images(place) if place.is_dir() else [place]
        if info.frames is not None and info.frames_exact and len(images) != info.frames:
            raise _wrong_count(len(images), str(info.frames), place)
        names = read_classes(place / _OBJECTS) if (place / _OBJECTS).is_file() else None
        masks = (_of_image(each, info, names) for each in images)
        # the first one now, so that a wrong size is an error before anything is done
        first = next(masks)
        return MaskReader(place, info, len(images), _chained(first, masks), None)
    source = open_source(place)
    try:
        whole = source.info
        if info.start is not None or info.end is not None:
            longer = (whole.frames or 0) > (info.frames or 0) + 2
            if longer:
                source.close()
                source = open_source(place, start=info.start, end=info.end)
        elif whole.frames_exact and info.frames_exact and whole.frames != info.frames:
            raise _wrong_count(whole.frames or 0, str(info.frames), place)
        first_mask = _of_frame(next(source), source.info, info, place)
    except BaseException:
        source.close()
        raise
    rest = (_of_frame(frame, source.info, info, place) for frame in source)
    return MaskReader(place, info, None, _chained(first_mask, rest), source)


def read_classes(path: Path) -> dict[int, str]:
    """Object ids and their COCO names from `objects.json`; raises UsageError for anything else in it."""
    where = str(path)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"the table of objects cannot be read: {error}", where=where) from None
    if not isinstance(table, Mapping) or not table:
        raise UsageError('the table of objects should be {"1": "person", ...}', where=where)
    names: dict[int, str] = {}
    for key, name in table.items():
        if not str(key).isdigit() or not 1 <= int(key) <= 65535:
            raise UsageError(f"object id {key!r} is not a number from 1 to 65535", where=where)
        if name not in THING_NAMES:
            close = difflib.get_close_matches(str(name), THING_NAMES, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "the classes are COCO's 80 things"
            raise UsageError(f"object {key} has the unknown class {name!r}", where=where, hint=hint)
        names[int(key)] = str(name)
    return names


def _chained(first: Drawn, rest: Iterator[Drawn]) -> Iterator[Drawn]:
    yield first
    yield from rest


def _of_image(path: Path, info: SourceInfo, names: dict[int, str] | None) -> Drawn:
    picture = read_image(path)
    values = _turned(_values(picture, path, labelled=names is not None), 0, info, path)
    if names is None:
        return Drawn(mask=values > 0)
    unknown = sorted(set(np.unique(values).tolist()) - {0, *names})
    if unknown:
        raise UsageError(f"object {unknown[0]} in it is not in {_OBJECTS}", where=str(path))
    return Drawn(labels=(values.astype(np.uint16), names))


def _of_frame(frame: Frame, own: SourceInfo, info: SourceInfo, path: Path) -> Drawn:
    values = _brightest(to_rgb(frame))
    floor = 0 if own.codec in _LOSSLESS else _NOISE - 1
    return Drawn(mask=_turned(values, own.rotation, info, path) > floor)


def _values(picture: av.VideoFrame, path: Path, *, labelled: bool) -> NDArray[Any]:
    """One number a pixel: the grey value, for labels also the index of a palette image."""
    name = picture.format.name
    if name == "pal8" and labelled:
        plane = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(picture.height, plane.line_size)  # type: ignore[call-overload]
        return np.asarray(rows[:, : picture.width])
    frame = _plain(picture)
    shape = layout(frame.format)
    if shape is not None and shape.kind == "gray":
        return np.asarray(frame.planes[0])
    if shape is not None and shape.kind == "packed":
        channels = np.asarray(frame.planes[0])[:, :, :3]
        if (channels[:, :, :1] == channels[:, :, 1:]).all():
            return np.asarray(channels[:, :, 0])
        if not labelled:
            return _brightest(channels)
    if not labelled:
        return _brightest(to_rgb(frame))
    raise UsageError(f"a labelled mask should be a grey or palette PNG, this is {name}", where=str(path))


def _brightest(rgb: NDArray[Any]) -> NDArray[Any]:
    red, green, blue = cv2.split(np.ascontiguousarray(rgb))
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def _plain(picture: av.VideoFrame) -> Frame:
    return from_video_frame(picture, index=0, pts=0, time_base=Fraction(1, 25))


def _turned(values: NDArray[Any], rotation: int, info: SourceInfo, path: Path) -> NDArray[Any]:
    """A mask as seen by a viewer, brought into the turn in which the input's frames are coded."""
    turns = (rotation - info.rotation) // 90 % 4
    # np.rot90 turns anticlockwise, rotation is clockwise
    turned = np.rot90(values, -turns) if turns else values
    wanted = (info.height, info.width)
    if turned.shape == wanted:
        return np.ascontiguousarray(turned)
    if values.shape == wanted:
        return values
    height, width = values.shape
    raise UsageError(
        f"the mask is {width} x {height}, the input {info.width} x {info.height}", where=str(path)
    )


def _wrong_count(masks: int, frames: str, path: Path) -> UsageError:
    hint = "there must be one mask for each frame that is read, with --start and --end of these alone"
    return UsageError(f"there are {masks} masks and {frames} frames", where=str(path), hint=hint)
