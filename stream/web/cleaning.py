"""The process that cleans an upload: `python -m stream.web.cleaning INPUT FOLDER PRESET [KEY=VALUE ...]`.

INPUT is what a stranger sent, so nothing is believed of it: only formats that name no other file are opened,
and whatever happens to this process, the live stream is another one. It tells what it does in lines of JSON
on stdout and ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream.job import Progress
    from stream.types import Image

LARGEST_OUTPUT = 8 << 30
_PICTURE_SECONDS = 0.7
_PICTURE_WIDTH = 480

_SUFFIXES = {
    "mov": ".mp4",
    "matroska": ".mkv",
    "avi": ".avi",
    "gif": ".gif",
    "mpegts": ".ts",
    "mpeg": ".mpg",
    "ogg": ".ogv",
    "flv": ".flv",
    "asf": ".wmv",
    "jpeg_pipe": ".jpg",
    "png_pipe": ".png",
    "webp_pipe": ".webp",
}
"""FFmpeg's name of each format that is taken, and the suffix its file gets. Playlists and the like, which can
name other files and addresses, are not among them."""

_OUTPUTS = (".mp4", ".mkv", ".webm", ".avi", ".gif", ".jpg", ".png", ".webp")


def probe(path: Path) -> tuple[str, str]:
    """Suffixes for the input and the output, by what is in the file; raises InputError for other formats."""
    import av

    from stream.errors import InputError

    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(_SUFFIXES)}
    try:
        with av.open(f"file:{path}", "r", options=options, metadata_errors="replace") as container:
            names = container.format.name.split(",")
            codec = next((stream.codec_context.name for stream in container.streams.video), None)
    except (av.FFmpegError, OSError, ValueError):
        raise InputError(
            "this is no video or photograph that can be read",
            hint="mp4, mov, mkv, webm, avi, gif, jpg, png and webp are taken",
        ) from None
    if codec is None:
        raise InputError("there is no picture in this file")
    suffix = next(_SUFFIXES[name] for name in names if name in _SUFFIXES)
    if suffix == ".mkv" and codec in ("vp8", "vp9"):
        suffix = ".webm"
    return suffix, suffix if suffix in _OUTPUTS else ".mp4"


def main(arguments: Sequence[str]) -> int:
    """Clean and tell; the exit code is 0 when there is a result."""
    given, folder, preset, *change = arguments
    _be_modest()
    from stream.errors import CleanplateError

    try:
        _clean(Path(given), Path(folder), preset, change)
    except CleanplateError as error:
        # where it lies here is nobody's business
        _tell(error=error.what, hint=error.hint)
        return error.exit_code
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        _tell(error=first, hint=str(getattr(error, "hint", "")))
        return 1
    return 0


def _clean(given: Path, folder: Path, preset: str, change: Sequence[str]) -> None:
    from configs.schema import load_config, parse_override
    from stream.job import clean

    suffix, ending = probe(given)
    source = given.rename(folder / f"input{suffix}")
    output = folder / f"output{ending}"
    config = load_config(preset, overrides=dict(parse_override(text) for text in change))
    _tell(state="cleaning")
    report = clean(source, output, config, on_progress=_Show(folder / "picture.jpg"), stop=_parent_is_gone)
    gone = sum(track.action == "remove" for track in report.tracks)
    _tell(
        state="done",
        output=output.name,
        frames=report.frames,
        removed=gone,
        kept=len(report.tracks) - gone,
        seen=round(report.hole.seen_share, 4),
        share=round(report.hole.mean_share, 4),
        warnings=[text[:300] for text in report.warnings[:5]],
    )


class _Show:
    """Tells progress, with a picture of before and after now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = monotonic()
        if now - self._last < _PICTURE_SECONDS and progress.frames != progress.total:
            return
        self._last = now
        last = progress.last
        self._write(last.before.rgb, last.frame.rgb, last.frame.rotation)
        rate = progress.frames / progress.seconds if progress.seconds else 0.0
        _tell(frames=progress.frames, total=progress.total, rate=round(rate, 2))

    def _write(self, before: Image, after: Image, rotation: int) -> None:
        import cv2
        import numpy as np

        from stream.web.picture import jpeg

        both = [np.rot90(image, -rotation // 90) for image in (before, after)]
        height, width = both[0].shape[:2]
        size = (_PICTURE_WIDTH, max(1, round(height * _PICTURE_WIDTH / width)))
        pair = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in both]
        part = self._path.with_suffix(".part")
        part.write_bytes(jpeg(np.hstack(pair).astype(np.uint8)))
        part.replace(self._path)


def _parent_is_gone() -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready)


def _be_modest() -> None:
    """The live stream comes first, and no disk is filled by a clip that claims to be endless."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_OUTPUT, LARGEST_OUTPUT))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tell(**told: Any) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
