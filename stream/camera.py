"""Cameras, addresses, and files played in real time: pictures as they come, with the moment they were taken.

A camera or an address that vanishes is opened again and again, with growing pauses, until it is back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any, Literal

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from stream.container import check_size, open_container
from stream.errors import InputError, UsageError
from stream.types import Image

Kind = Literal["device", "address", "file"]

_PAUSES = (0.25, 0.5, 1.0, 2.0, 3.0)
"""Seconds before each further try to open a source again; the last one is repeated."""

_OPEN_SECONDS, _READ_SECONDS = 10.0, 3.0
_LATE = 0.25
"""A picture that comes later than this (seconds) is one too many: it is not shown."""

_FAR_LATE = 0.75
"""... and from here on (seconds) not even decoding keeps pace."""

_WINDOW = 10.0
_INPUT_FORMATS = ("v4l2", "avfoundation", "dshow")
_GRAB = {"v4l2": "/dev/", "avfoundation": "", "dshow": "video="}


@dataclass(frozen=True)
class Captured:
    """One picture as it came; `time`: seconds since the source's first, `at`: `time.monotonic()` when taken.

    `late`: it comes too late to be shown. `rgb` is uint8 H x W x 3, upright, converted when first asked for.
    """

    time: Fraction
    at: float
    picture: Any = field(repr=False)
    rotation: int = 0
    late: bool = False

    @cached_property
    def rgb(self) -> Image:
        """The picture as uint8 H x W x 3 RGB, turned upright."""
        if isinstance(self.picture, np.ndarray):
            return np.asarray(cv2.cvtColor(self.picture, cv2.COLOR_BGR2RGB), np.uint8)
        picture = self.picture
        tags = {}
        if picture.colorspace == 2 and picture.height >= 720 and not picture.format.is_rgb:
            tags = {"src_colorspace": "ITU709"}
        rgb = picture.to_ndarray(format="rgb24", **tags)
        turned = np.rot90(rgb, -self.rotation // 90) if self.rotation else rgb
        return np.ascontiguousarray(turned)


@dataclass(frozen=True)
class Away:
    """The source has vanished; `why` in words."""

    why: str


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height from "1280x720"; raises `UsageError`."""
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not cross or not width.isdigit() or not height.isdigit() or not int(width) or not int(height):
        raise UsageError(f"--size wants WIDTHxHEIGHT, got {text!r}", hint="for example --size 1280x720")
    return int(width), int(height)


def kind_of(source: str | int) -> Kind:
    """Whether a source is a camera, an address, or a file."""
    if isinstance(source, int) or source.isdigit() or source.startswith("/dev/"):
        return "device"
    if source.partition(":")[0] in _INPUT_FORMATS:
        return "device"
    return "address" if "://" in source and not source.startswith("file://") else "file"


def captures(
    source: str | int, stop: Event, *, size: tuple[int, int] | None = None, loop: bool = False
) -> Generator[Captured | Away, None, None]:
    """Every picture of a source in real time, and `Away` when it vanishes.

    A file ends at its end, or begins again with `loop`; a camera or an address never ends until `stop` is
    set. `size`: width and height asked of a camera. Raises `InputError` when the source cannot be opened the
    first time.
    """
    if kind_of(source) == "file":
        yield from _file(Path(str(source).removeprefix("file://")), stop, loop=loop)
        return
    began: float | None = None
    for each in _persistent(source, stop, size):
        if isinstance(each, Away):
            yield each
            continue
        began = each.at if began is None else began
        yield Captured(
            Fraction(each.at - began).limit_denominator(90_000),
            each.at,
            each.picture,
            each.rotation,
            each.late,
        )


def _persistent(source: str | int, stop: Event, size: tuple[int, int] | None) -> Iterator[Captured | Away]:
    opened, tries = False, 0
    while not stop.is_set():
        try:
            for each in _device(source, size) if kind_of(source) == "device" else _address(str(source), stop):
                opened, tries = True, 0
                yield each
                if stop.is_set():
                    return
            why = "the stream has ended"
        except InputError as error:
            if not opened:
                raise
            why = str(error)
        if not opened:
            raise InputError("no picture came from it", where=str(source))
        yield Away(why)
        stop.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1


def _device(source: str | int, size: tuple[int, int] | None) -> Iterator[Captured]:
    name = str(source)
    form = name.partition(":")[0]
    if form in _INPUT_FORMATS:
        yield from _grabbed(form, name.partition(":")[2], size)
        return
    camera = cv2.VideoCapture(int(name) if name.isdigit() else name)
    try:
        if not camera.isOpened():
            raise InputError("no camera can be opened there", where=name, hint="is another program using it?")
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if size is not None:
            camera.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            camera.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        while True:
            there, picture = camera.read()
            if not there or picture is None:
                return
            yield Captured(Fraction(0), time.monotonic(), picture)
    finally:
        camera.release()


def _grabbed(form: str, name: str, size: tuple[int, int] | None) -> Iterator[Captured]:
    """A camera through FFmpeg's own capture devices."""
    if not name:
        raise UsageError(f"{form}: names no camera", hint=f"for example {form}:{_GRAB[form]}video0")
    options = {} if size is None else {"video_size": f"{size[0]}x{size[1]}"}
    try:
        container = av.open(name, "r", format=form, options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError("no camera can be opened there", where=f"{form}:{name}", hint=str(error)) from None
    with container:
        stream = container.streams.video[0]
        for picture in _decoded(container, stream):
            yield Captured(Fraction(0), time.monotonic(), picture)


def _address(address: str, stop: Event) -> Iterator[Captured]:
    """Pictures of an address; one that is a whole file is played in real time."""
    options = {"fflags": "nobuffer", "flags": "low_delay", "rtsp_transport": "tcp", "probesize": "500000"}
    options["analyzeduration"] = "1000000"  # microseconds; a camera has one stream, and it is seen at once
    try:
        container = av.open(
            address, "r", options=options, timeout=(_OPEN_SECONDS, _READ_SECONDS), metadata_errors="replace"
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, av.ExitError | TimeoutError):
            what = f"no answer within {_OPEN_SECONDS:g} s"
        else:
            what = str(getattr(error, "strerror", None) or error)
        raise InputError(what, where=address, hint="check the address and the network") from None
    with container:
        stream = _video(container, address)
        # threads by frames would hold back as many pictures as there are threads
        stream.thread_type = "SLICE"
        whole = container.duration is not None and stream.duration is not None
        pictures = _decoded(container, stream)
        yield from _paced(pictures, stop) if whole else _stamped(pictures, stream)


def _stamped(pictures: Iterator[av.VideoFrame], stream: VideoStream) -> Iterator[Captured]:
    """Pictures with the moment they were taken: time stamps laid over the clock by the quickest of late.

    So the time that a picture has waited in the network's buffers counts as latency. It is caught up by
    leaving pictures out and, where that is not enough, by decoding key frames alone.
    """
    decoder = stream.codec_context
    quickest: deque[tuple[float, float]] = deque()
    for picture in pictures:
        now = time.monotonic()
        at = now
        if picture.time is not None:
            offset = now - picture.time
            if quickest and abs(offset - quickest[-1][1]) > 5:
                quickest.clear()  # the stream's clock has jumped
            while quickest and quickest[-1][1] >= offset:
                quickest.pop()
            quickest.append((now, offset))
            while quickest[0][0] < now - _WINDOW:
                quickest.popleft()
            at = picture.time + quickest[0][1]
            if now - at > _FAR_LATE:
                decoder.skip_frame = "NONKEY"
            elif now - at < _LATE and picture.key_frame:
                # from a key frame on the others can be decoded again
                decoder.skip_frame = "DEFAULT"
        yield Captured(Fraction(0), at, picture, -picture.rotation % 360, late=now - at > _LATE)


def _file(path: Path, stop: Event, *, loop: bool) -> Iterator[Captured]:
    if not path.exists():
        raise InputError("there is no such file", where=str(path))
    offset = Fraction(0)
    while True:
        with open_container(path) as container:
            stream = _video(container, str(path))
            stream.thread_type = "AUTO"
            end = offset
            for each in _paced(_decoded(container, stream), stop):
                step = each.time + offset - end
                end = each.time + offset
                yield Captured(end, each.at, each.picture, each.rotation, each.late)
        if stop.is_set() or not loop:
            return
        offset = end + (step if 0 < step < 1 else Fraction(1, 30))


def _paced(pictures: Iterator[av.VideoFrame], stop: Event) -> Iterator[Captured]:
    """Pictures at the moments at which a player would show them; decoding is one picture ahead of that."""
    origin: Fraction | None = None
    begun = 0.0
    for picture in pictures:
        if picture.pts is None or picture.time_base is None:
            continue
        stamp = picture.pts * picture.time_base
        if origin is None:
            origin = stamp
            yield Captured(Fraction(0), time.monotonic(), picture, -picture.rotation % 360)
            begun = time.monotonic()  # the reader may have had to get ready
            continue
        due = begun + float(stamp - origin)
        wait = due - time.monotonic()
        if wait > 0 and stop.wait(wait):
            return
        if wait < -1:  # the machine slept, or is too slow even to decode
            begun -= wait
            due -= wait
        yield Captured(stamp - origin, due, picture, -picture.rotation % 360, late=wait < -_LATE)


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Every picture that can be decoded; ends where reading does, damaged ones are passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                str(getattr(error, "strerror", None) or error), where=str(container.name)
            ) from None
        if packet is None:
            return
        pictures: list[Any] = []
        with suppress(av.InvalidDataError, av.EOFError):
            pictures = list(packet.decode())
        yield from pictures


def _video(container: InputContainer, where: str) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise InputError("there is no video in it", where=where)
    check_size(stream.codec_context.width, stream.codec_context.height, where)
    return stream
