"""What a live run shows, recorded: every picture at the moment it was taken, however many were dropped."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from stream.encoders import CONTAINERS
from stream.errors import CleanplateError, OutputError, UsageError
from stream.types import Image

_TIME_BASE = Fraction(1, 90_000)
_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "mp4": ("libx264", {"preset": "superfast", "crf": "20", "tune": "zerolatency"}),
    "mov": ("libx264", {"preset": "superfast", "crf": "20", "tune": "zerolatency"}),
    "matroska": ("libx264", {"preset": "superfast", "crf": "20", "tune": "zerolatency"}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0", "row-mt": "1"}),
}
_BACKLOG = 12
"""Pictures that may wait for the encoder; more are left out."""


class Worker(Protocol):
    """A thread that was started."""

    def join(self) -> None:
        """Wait for its end."""

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""


class Recording:
    """A file that grows while pictures are added, and bears its name from `close` on.

    It is written in fragments beside its place, so that what was recorded before a power cut can be played.
    When writing fails what is there until then is kept, `error` says why, and nothing more is taken.
    Pictures of another size than the first are fitted into it. Encoding has a thread of its own, got from
    `start`; `left_out` counts pictures that came faster than it could encode.
    """

    def __init__(
        self, path: Path, start: Callable[[str, Callable[[], None]], Worker], *, overwrite: bool = False
    ) -> None:
        self.path = path
        self.left_out = 0
        self.error: CleanplateError | None = None
        container = CONTAINERS.get(path.suffix.lower(), "")
        if container not in _ENCODERS:
            known = ", ".join(suffix for suffix, name in CONTAINERS.items() if name in _ENCODERS)
            raise UsageError(
                f"a recording cannot be a {path.suffix or 'file without a suffix'}",
                where=str(path),
                hint=f"it can be one of {known}",
            )
        if path.exists() and not overwrite:
            raise OutputError("the file exists", where=str(path), hint="choose another name, or --overwrite")
        self._part = path.with_name(f".{path.name}.part")
        self._encoder, self._options = _ENCODERS[container]
        fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        try:
            self._part.touch()  # the library opens it only when the first picture comes
            self._output = av.open(
                f"file:{self._part}",
                "w",
                format=container,
                options=fragments if container in ("mp4", "mov") else {},
            )
        except (av.FFmpegError, OSError) as error:
            said = str(getattr(error, "strerror", None) or error)
            raise OutputError(f"the recording cannot be written: {said}", where=str(path)) from None
        self._stream: VideoStream | None = None
        self._first = self._last = Fraction(-1)
        self._waiting: queue.Queue[tuple[Image, Fraction] | None] = queue.Queue(_BACKLOG)
        self._thread = start("recording", self._encode)

    def add(self, image: Image, time: Fraction) -> None:
        """Record a picture (uint8 H x W x 3 RGB) taken at `time` seconds; never waits."""
        if self.error is not None:
            return
        try:
            self._waiting.put_nowait((image, time))
        except queue.Full:
            self.left_out += 1

    def close(self) -> None:
        """Encode what waits and give the file its name; nothing remains of a recording without pictures."""
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=0.1)
                break
        self._thread.join()
        if self._stream is None or self._last < 0:
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)
            return
        self._part.replace(self.path)

    def _encode(self) -> None:
        try:
            while (item := self._waiting.get()) is not None:
                self._write(*item)
            if self._stream is not None:
                for packet in self._stream.encode(None):
                    self._output.mux(packet)
        except Exception as error:  # the run must go on, whatever an encoder raises
            said = str(getattr(error, "strerror", None) or error)
            self.error = OutputError(f"the recording cannot be written: {said}", where=str(self.path))
        finally:
            with contextlib.suppress(av.FFmpegError, OSError):
                self._output.close()

    def _write(self, image: Image, time: Fraction) -> None:
        if self._stream is None:
            self._first = time
            self._stream = self._begin(image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
        stream = self._stream
        moment = time - self._first
        if moment <= self._last:
            return
        self._last = moment
        picture = av.VideoFrame.from_ndarray(fitted(image, stream.width, stream.height), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        picture.pts, picture.time_base, picture.pict_type = round(moment / _TIME_BASE), _TIME_BASE, 0
        for packet in stream.encode(picture):
            self._output.mux(packet)

    def _begin(self, width: int, height: int) -> VideoStream:
        stream = self._output.add_stream(self._encoder, rate=30, options=self._options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = max(2, width), max(2, height), "yuv420p"
        stream.time_base = _TIME_BASE
        context = stream.codec_context
        context.time_base, context.gop_size = _TIME_BASE, 60
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        return stream


def fitted(image: Image, width: int, height: int) -> Image:
    """The picture (uint8 RGB) at another size, whole, in the middle of black; one of that size as it is."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    if image.shape[0] - height in (0, 1) and image.shape[1] - width in (0, 1):
        return np.ascontiguousarray(image[:height, :width])
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    out = np.zeros((height, width, 3), np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    out[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return out
