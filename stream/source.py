"""Files, folders of images, single images and addresses in; frames with their own time stamps out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.errors import InputError, UsageError
from stream.source_images import IMAGE_SUFFIXES, list_images, open_images
from stream.source_info import SourceInfo, StreamInfo
from stream.source_video import open_video
from stream.types import Frame

__all__ = ["Source", "SourceInfo", "StreamInfo", "open_source"]


class Source:
    """Frames of one input in the order in which they are shown; a context manager and an iterator.

    `info` is fixed; `warnings` grows while damaged or odd places are passed. Closing twice is harmless,
    reading after closing is a ValueError.
    """

    def __init__(
        self,
        info: SourceInfo,
        frames: Generator[Frame, None, None],
        warnings: list[str],
        close: Callable[[], None],
        again: Callable[[], Source],
        damaged: Callable[[], bool],
    ) -> None:
        self.info = info
        self.warnings = warnings
        self._frames = frames
        self._close = close
        self._again = again
        self._damaged = damaged
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        if self._closed:
            raise ValueError("read from a closed source")
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and the decoder."""
        if not self._closed:
            self._closed = True
            self._frames.close()
            self._close()

    @property
    def damaged(self) -> bool:
        """Whether something of the input could not be read so far."""
        return self._damaged()

    def reopen(self) -> Source:
        """The same input from its first frame again, independent of this source."""
        return self._again()


def open_source(
    path: str | Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    fps: Fraction | int = 25,
    deinterlace: bool = False,
) -> Source:
    """Open a video, a folder of images, one image, or an address such as rtsp://.

    `start` and `end`: seconds after the first picture, frames with start <= time < end are read. `fps` gives
    the images of a folder their times. `deinterlace` makes progressive frames of those flagged interlaced.
    Raises InputError for what cannot be read at all; what is damaged further on is read as far as it goes and
    told in `Source.warnings`. Raises UsageError for times that make no sense.
    """
    if (start is not None and start < 0) or (end is not None and end <= (start or 0)):
        raise UsageError(f"no time lies between start {_seconds(start)} and end {_seconds(end)}")
    if fps <= 0:
        raise UsageError(f"{fps} frames per second is not a rate")

    def again() -> Source:
        return open_source(path, start=start, end=end, fps=fps, deinterlace=deinterlace)

    if isinstance(path, str) and "://" in path:
        opened = open_video(path, start=start, end=end, deinterlace=deinterlace)
    else:
        place = Path(path)
        if place.is_dir():
            opened = open_images(place, list_images(place), "folder", Fraction(fps), start, end)
        elif not place.exists():
            raise InputError("there is no such file or folder", where=str(place))
        elif place.suffix.lower() in IMAGE_SUFFIXES:
            opened = open_images(place, [place], "image", Fraction(fps), start, end)
        else:
            opened = open_video(place, start=start, end=end, deinterlace=deinterlace)
    return Source(opened.info, opened.frames, opened.warnings, opened.close, again, opened.damaged)


def _seconds(value: Fraction | None) -> str:
    return "none" if value is None else f"{float(value):g} s"
