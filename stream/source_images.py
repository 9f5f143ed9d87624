"""A folder of images, or one image, as frames."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from stream.container import check_size
from stream.description import clockwise
from stream.errors import InputError, UsageError
from stream.pixel_format import nearest_format
from stream.planes import colour_of, from_video_frame
from stream.source_info import MAX_PIXELS, SourceInfo
from stream.source_video import Opened
from stream.types import Frame

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order (2 before 10); raises InputError when there are none."""
    try:
        found = [each for each in folder.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise InputError(f"the folder cannot be read: {error.strerror}", where=str(folder)) from None
    found = [each for each in found if not each.name.startswith(".") and each.is_file()]
    if not found:
        kinds = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise InputError(f"there are no images in the folder (known: {kinds})", where=str(folder))
    return sorted(found, key=lambda each: natural_key(each.name))


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorting key under which numbers inside names count as numbers."""
    parts = re.split(r"(\d+)", name.lower())
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts if part)


def read_image(path: Path) -> av.VideoFrame:
    """Decode one image; raises InputError that names the file."""
    try:
        # By open file, not by name: FFmpeg reads "%03d" in a name as a pattern.
        with (
            path.open("rb") as file,
            av.open(
                file, "r", options={"max_pixels": str(MAX_PIXELS)}, metadata_errors="replace"
            ) as container,
        ):
            stream = container.streams.video[0]
            check_size(stream.codec_context.width, stream.codec_context.height, str(path))
            return next(container.decode(stream))
    except InputError:
        raise
    except (av.FFmpegError, OSError, IndexError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or "it is not an image"
        raise InputError(f"the image cannot be read: {reason}", where=str(path)) from None


def open_images(
    place: Path,
    images: Sequence[Path],
    kind: str,
    fps: Fraction,
    start: Fraction | None,
    end: Fraction | None,
) -> Opened:
    """Frames of `images`, shown `fps` a second. Raises UsageError when the cut leaves none."""
    first_index = 0 if start is None else -(-start * fps // 1)
    last_index = len(images) if end is None else min(len(images), -(-end * fps // 1))
    chosen = list(images[first_index:last_index])
    if not chosen:
        raise UsageError(
            f"no image lies there: {len(images)} images at {float(fps):g} per second end at "
            f"{float(len(images) / fps):g} s",
            where=str(place),
        )
    first = read_image(chosen[0])
    name = chosen[0].suffix.lower().lstrip(".")
    info = SourceInfo(
        path=str(place),
        kind="image" if kind == "image" else "folder",
        container="image",
        codec={"jpeg": "jpg", "tiff": "tif"}.get(name, name),
        width=first.width,
        height=first.height,
        format=nearest_format(first.format.name),
        coded_format=first.format.name,
        colour=colour_of(first),
        range_tag=int(first.color_range),
        time_base=1 / fps,
        rate=fps,
        rotation=clockwise(first),
        field_order=1,
        duration=len(chosen) / fps,
        frames=len(chosen),
        frames_exact=True,
        images=tuple(each.name for each in chosen),
        start=start or None,
        end=end,
        shown_from=first_index / fps,
    )
    return Opened(info, _frames(chosen, first_index, info), [], _nothing)


def _nothing() -> None:
    """Images are closed one by one as they are read."""


def _frames(images: Sequence[Path], offset: int, info: SourceInfo) -> Generator[Frame, None, None]:
    for index, path in enumerate(images):
        picture = read_image(path)
        if (picture.width, picture.height) != (info.width, info.height):
            raise InputError(
                f"it is {picture.width} x {picture.height}, but {info.images[0]} is {info.width} x"
                f" {info.height}; all images of a folder must have one size",
                where=str(path),
            )
        frame = from_video_frame(
            picture,
            index=index,
            pts=offset + index,
            time_base=info.time_base,
            rotation=clockwise(picture),
            duration=1,
        )
        # photographs are flagged as anything; fields exist only in video
        yield replace(frame, interlaced=False)
