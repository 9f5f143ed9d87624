"""Frames out: a video with everything else of the input beside it, a folder of images, or one image.

What is written has another name until it is whole: a file that bears OUTPUT's name is a good one.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import av

from stream.encoders import (
    CONTAINERS,
    DEFAULT_PRESET,
    DEFAULT_QUALITY,
    Encoding,
    choose_encoding,
    with_params,
)
from stream.errors import OutputError, UsageError
from stream.journal import append_files, journal_of
from stream.part import Part, output_error, remove, sync
from stream.remux import Copier
from stream.sink_images import ImageWriter
from stream.sink_video import VideoWriter
from stream.source_images import IMAGE_SUFFIXES
from stream.source_info import SourceInfo
from stream.types import Filled, Frame
from stream.untouched import Untouched, Waiting, open_untouched

__all__ = ["Position", "Sink", "check_outputs", "open_sink"]


@dataclass(frozen=True)
class Position:
    """How far an output was when a part of it was closed: frames, bytes of its journal, warnings so far.

    The last `waiting` of the frames are in no packet yet, `copied` were copied as they came.
    """

    frames: int
    bytes: int
    warnings: tuple[str, ...] = ()
    waiting: Waiting | None = None
    copied: int = 0


class _Writer(Protocol):
    warnings: list[str]

    @property
    def copied(self) -> tuple[str, ...]: ...
    @property
    def waiting(self) -> Waiting | None: ...

    frames_copied: int

    def write(self, frame: Frame, same: bool = False, /) -> None: ...
    def settle(self) -> None: ...
    def part(self) -> int: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


class Sink:
    """One output being written; a context manager that keeps the output only when all went well.

    `warnings` says before the first frame what the output cannot hold, `streams_copied` what is copied beside
    the video. `close` makes the output whole and gives it its name. Leaving the context by an exception, or
    calling `abandon`, leaves nothing behind, unless `end_part` was called: then another run can go on from
    there. Closing twice is harmless, writing after closing a ValueError.
    """

    def __init__(
        self, output: Path, whole: Path, writer: _Writer, part: Part, overwrite: bool, begun: Position | None
    ) -> None:
        self.output = output
        self._whole = whole
        self._writer = writer
        self._part = part
        self._overwrite = overwrite
        self._open = True
        self._frames = 0 if begun is None else begun.frames
        self._resumable = begun is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the output does not keep of the input, in words."""
        return tuple(self._writer.warnings)

    @property
    def frames_copied(self) -> int:
        """How many frames were copied as they came, so far."""
        return self._writer.frames_copied

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

    def write(self, frame: Frame | Filled, *, may_copy: bool = True) -> None:
        """Write the next frame; raises OutputError when it cannot be stored.

        `may_copy`: with `smart_copy`, the input's packet may stand for it where nothing was changed.
        """
        if not self._open:
            raise ValueError("write to a closed sink")
        with self._told():
            if isinstance(frame, Filled):
                self._writer.write(frame.frame, may_copy and frame.frame is frame.before)
            else:
                self._writer.write(frame)
        self._frames += 1

    def end_part(self, *, resumable: bool = True) -> Position:
        """End a part, on the disk, and return where. `resumable`: another run is to go on from here."""
        with self._told():
            length = self._writer.part()
        self._resumable = self._resumable or resumable
        writer = self._writer
        return Position(self._frames, length, self.warnings, writer.waiting, writer.frames_copied)

    def give_packets(self, path: Path) -> Position:
        """End without a file: what was encoded is left at `path`, for `open_sink` to join with others."""
        with self._told():
            self._writer.settle()
        position = self.end_part(resumable=False)
        self._writer.abandon()
        with self._told():
            shutil.move(journal_of(self._whole), path)
        self._open = False
        self._part.remove()
        return position

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
        self._part.remove()

    def abandon(self) -> None:
        """Stop, and remove what no other run can go on from."""
        if not self._open:
            return
        self._open = False
        self._writer.abandon()
        if self._resumable:
            if self._whole.is_file():
                remove(self._whole)  # it is made again from what was encoded
            self._part.release()
        else:
            self._part.remove()

    def _name(self) -> None:
        if self._whole.is_dir():
            self._writer.part()
            _replace_folder(self._whole, self.output)
            return
        if self.output.exists() and not self._overwrite:
            raise OutputError("it appeared while this run was writing", where=str(self.output))
        # on the disk before it has the name, so that a power cut cannot leave a hollow file
        sync(self._whole)
        self._whole.replace(self.output)

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        try:
            yield
        except OutputError:
            raise
        except (av.FFmpegError, OSError) as error:
            raise output_error(error, self.output) from error


def open_sink(
    output: str | Path,
    source_info: SourceInfo,
    *,
    lossless: bool = False,
    overwrite: bool = False,
    quality: float = DEFAULT_QUALITY,
    preset: str = DEFAULT_PRESET,
    copy_streams: bool = True,
    smart_copy: bool = False,
    begun: Position | None = None,
    packets: Sequence[Path] = (),
) -> Sink:
    """Open OUTPUT for the frames of an input; its suffix picks the container, no suffix means a folder.

    `lossless`: pixels as they are given, in larger files. `quality`: constant rate factor on x264's scale.
    `copy_streams`: sound and everything else of the input goes along. `smart_copy`: where `Filled` frames are
    as they were for a closed group of an H.264 input, its packets are copied. `begun`: go on where an
    unfinished run ended a part; without it what such a run left is removed. `packets`: pictures that come
    first, as `Sink.give_packets` of sinks for the same input and suffix left them.
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
    part = Part(path)
    whole = part.folder / ("whole" if folder else f"whole{suffix}")
    writer: _Writer | None = None
    try:
        if begun is None:
            part.clear()
        if folder or suffix in IMAGE_SUFFIXES:
            writer = _image_writer(whole, folder, source_info, lossless, begun)
        else:
            container = CONTAINERS[suffix]
            encoding = choose_encoding(
                source_info, container, lossless=lossless, quality=quality, preset=preset
            )
            keep = 0 if begun is None else begun.bytes
            if packets:
                keep = append_files(packets, journal_of(whole))
            untouched = None
            if smart_copy:
                waiting = None if begun is None else begun.waiting
                untouched = open_untouched(source_info, container, encoding.encoder, encoding.format, waiting)
            if untouched is not None:
                encoding = with_params(encoding, "x264-params", [f"sps-id={untouched.free_id}"])
            writer = _video_writer(whole, container, source_info, encoding, copy_streams, keep, untouched)
    except (av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, OutputError | UsageError):
            raise
        raise output_error(error, path) from error
    finally:
        if writer is None and begun is None:
            part.remove()
        elif writer is None:
            part.release()
    if begun is not None:
        writer.warnings += [each for each in begun.warnings if each not in writer.warnings]
        writer.frames_copied = begun.copied
    return Sink(path, whole, writer, part, overwrite, begun)


def _video_writer(
    whole: Path,
    container: str,
    info: SourceInfo,
    encoding: Encoding,
    copy_streams: bool,
    keep: int,
    untouched: Untouched | None,
) -> VideoWriter:
    copier = Copier(info, container, streams=copy_streams)
    try:
        return VideoWriter(whole, container, info, encoding, copier, keep, untouched)
    except BaseException:
        copier.close()
        if untouched is not None:
            untouched.close()
        raise


def _image_writer(
    whole: Path, folder: bool, info: SourceInfo, lossless: bool, begun: Position | None
) -> ImageWriter:
    if not folder:
        return ImageWriter(whole.parent, info, lossless=lossless, name=whole.name)
    whole.mkdir(exist_ok=begun is not None)
    writer = ImageWriter(whole, info, lossless=lossless)
    if begun is not None and not writer.has(begun.frames):
        raise OutputError("images of the unfinished output are missing", where=str(whole))
    return writer


def _check(path: Path, info: SourceInfo, overwrite: bool, folder: bool) -> None:
    where = str(path)
    if not path.parent.is_dir():
        raise OutputError(
            "the folder it should lie in does not exist", where=where, hint=f"make {path.parent}"
        )
    if not path.exists():
        return
    if "://" not in info.path:
        check_outputs([Path(info.path)], [path])
    empty = folder and not any(path.iterdir())
    if not overwrite and not empty:
        raise OutputError("the output is there already", where=where, hint="--overwrite replaces it")


def check_outputs(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Raise OutputError when a file to write is one to read, by whatever name, or another one to write."""
    for number, output in enumerate(outputs):
        if output is None:
            continue
        for path in inputs:
            if path is not None and output.exists() and path.exists() and output.samefile(path):
                hint = "give the output another name"
                raise OutputError("the output would replace the input", where=str(output), hint=hint)
        for other in outputs[:number]:
            if other is not None and output.absolute() == other.absolute():
                raise OutputError("two outputs have one name", where=str(output))


def _replace_folder(part: Path, output: Path) -> None:
    if not output.exists():
        part.replace(output)
        return
    # Into a folder that is there, image by image: what else lies in it is not ours to remove.
    for image in sorted(part.iterdir()):
        image.replace(output / image.name)
    part.rmdir()
