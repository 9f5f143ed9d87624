"""Frames out: a video with everything else of the input beside it, a folder of images, or one image.

What is written has another name until it is whole: a file that bears OUTPUT's name is a good one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import av

from stream.encoders import CONTAINERS, DEFAULT_PRESET, DEFAULT_QUALITY, Encoding, choose_encoding
from stream.errors import OutputError, UsageError
from stream.remux import Copier
from stream.sink_images import ImageWriter
from stream.sink_video import VideoWriter
from stream.source_images import IMAGE_SUFFIXES
from stream.source_info import SourceInfo
from stream.types import Filled, Frame

if sys.platform != "win32":
    import fcntl

__all__ = ["Sink", "open_sink"]


class _Writer(Protocol):
    warnings: list[str]

    @property
    def copied(self) -> tuple[str, ...]: ...
    def write(self, frame: Frame) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


class Sink:
    """One output being written; a context manager that keeps the output only when all went well.

    `warnings` says before the first frame what the output cannot hold, `streams_copied` what is copied beside
    the video. `close` makes the output whole and gives it its name; leaving the context by an exception, or
    calling `abandon`, leaves nothing behind. Closing twice is harmless, writing after closing a ValueError.
    """

    def __init__(
        self, output: Path, part: Path, writer: _Writer, lock: BinaryIO | None, overwrite: bool
    ) -> None:
        self.output = output
        self._part = part
        self._writer = writer
        self._lock = lock
        self._overwrite = overwrite
        self._open = True

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the output does not keep of the input, in words."""
        return tuple(self._writer.warnings)

    @property
    def streams_copied(self) -> tuple[str, ...]:
        """The streams copied beside the video, in words."""
        return self._writer.copied

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def write(self, frame: Frame | Filled) -> None:
        """Write the next frame; raises OutputError when it cannot be stored."""
        if not self._open:
            raise ValueError("write to a closed sink")
        with self._told():
            self._writer.write(frame.frame if isinstance(frame, Filled) else frame)

    def close(self) -> None:
        """Finish the file and give it its name; raises OutputError, and leaves nothing, when that fails."""
        if not self._open:
            return
        try:
            with self._told():
                self._writer.finish()
                self._name()
        except BaseException:
            self.abandon()
            raise
        self._open = False
        self._unlock()

    def abandon(self) -> None:
        """Stop and remove what was written."""
        if not self._open:
            return
        self._open = False
        self._writer.abandon()
        _remove(self._part)
        self._unlock()

    def _name(self) -> None:
        if self._part.is_dir():
            _replace_folder(self._part, self.output)
            return
        if self.output.exists() and not self._overwrite:
            raise OutputError("it appeared while this run was writing", where=str(self.output))
        with self._part.open("rb+") as file:
            # on the disk before it has the name, so that a power cut cannot leave a hollow file
            os.fsync(file.fileno())
        self._part.replace(self.output)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        try:
            yield
        except OutputError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise _output_error(error, self.output) from error


def open_sink(
    output: str | Path,
    source_info: SourceInfo,
    *,
    lossless: bool = False,
    overwrite: bool = False,
    quality: float = DEFAULT_QUALITY,
    preset: str = DEFAULT_PRESET,
    copy_streams: bool = True,
) -> Sink:
    """Open OUTPUT for the frames of an input; its suffix picks the container, no suffix means a folder.

    `lossless`: pixels as they are given, in larger files. `quality`: constant rate factor on x264's scale.
    `copy_streams`: sound and everything else of the input goes along.
    Raises OutputError when OUTPUT is the input, is there already without `overwrite`, or cannot be written;
    UsageError for a suffix that is not known.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    folder = path.is_dir() or not suffix
    if not folder and suffix not in CONTAINERS and suffix not in IMAGE_SUFFIXES:
        known = " ".join(sorted({*CONTAINERS, *IMAGE_SUFFIXES}))
        raise UsageError(
            f"no output has the suffix {suffix}", hint=f"known: {known}; none means a folder of images"
        )
    if suffix in IMAGE_SUFFIXES and not folder and source_info.kind != "image":
        raise UsageError(
            f"one image cannot hold {source_info.name}", hint="name a folder or a video, such as out.mp4"
        )
    _check(path, source_info, overwrite, folder)
    part = path.with_name(f".{path.name}.part{suffix if not folder else ''}")
    if folder:
        return _folder_sink(path, part, source_info, lossless, overwrite)
    lock = _locked(part, path)
    writer: _Writer
    try:
        if suffix in IMAGE_SUFFIXES:
            writer = ImageWriter(path.parent, source_info, lossless=lossless, name=part.name)
        else:
            container = CONTAINERS[suffix]
            encoding = choose_encoding(
                source_info, container, lossless=lossless, quality=quality, preset=preset
            )
            writer = _video_writer(part, container, source_info, encoding, copy_streams)
    except (av.FFmpegError, ValueError, OSError) as error:
        lock.close()
        _remove(part)
        if isinstance(error, OutputError | UsageError):
            raise
        raise _output_error(error, path) from error
    return Sink(path, part, writer, lock, overwrite)


def _video_writer(
    part: Path, container: str, info: SourceInfo, encoding: Encoding, copy_streams: bool
) -> VideoWriter:
    copier = Copier(info, container, streams=copy_streams)
    try:
        return VideoWriter(part, container, info, encoding, copier)
    except BaseException:
        copier.close()
        raise


def _folder_sink(path: Path, part: Path, info: SourceInfo, lossless: bool, overwrite: bool) -> Sink:
    try:
        _remove(part)
        part.mkdir()
    except OSError as error:
        raise _output_error(error, path) from None
    return Sink(path, part, ImageWriter(part, info, lossless=lossless), None, overwrite)


def _check(path: Path, info: SourceInfo, overwrite: bool, folder: bool) -> None:
    where = str(path)
    if not path.parent.is_dir():
        raise OutputError(
            "the folder it should lie in does not exist", where=where, hint=f"make {path.parent}"
        )
    if not path.exists():
        return
    source = Path(info.path)
    if "://" not in info.path and source.exists() and path.samefile(source):
        raise OutputError(
            "the output would replace the input", where=where, hint="give the output another name"
        )
    empty = folder and not any(path.iterdir())
    if not overwrite and not empty:
        raise OutputError("the output is there already", where=where, hint="--overwrite replaces it")


def _locked(part: Path, output: Path) -> BinaryIO:
    """The temporary file, made and held, so that two runs cannot write one output."""
    try:
        lock = part.open("ab")
    except OSError as error:
        raise _output_error(error, output) from None
    if sys.platform != "win32":
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise OutputError("another run is writing this output", where=str(output)) from None
        except OSError:
            # some network file systems know no locks; the run is worth more than the guard
            return lock
    return lock


def _replace_folder(part: Path, output: Path) -> None:
    if not output.exists():
        part.replace(output)
        return
    # Into a folder that is there, image by image: what else lies in it is not ours to remove.
    for image in sorted(part.iterdir()):
        image.replace(output / image.name)
    part.rmdir()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _output_error(error: Exception, output: Path) -> OutputError:
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC:
        return OutputError("the disk is full", where=str(output), hint="free some space or write elsewhere")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError("writing there is not permitted", where=str(output), hint="choose another folder")
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"it cannot be written: {reason}", where=str(output))
