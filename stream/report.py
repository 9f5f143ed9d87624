"""What was done, as data: the report, the log of every frame and track, and where each pixel came from."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from configs.schema import Config
from stream.elsewhere import Use
from stream.errors import OutputError, UsageError
from stream.part import output_error
from stream.sink import Position, Sink, open_sink
from stream.source_info import SourceInfo
from stream.types import INVENTED, REFERENCE, SEEN, Colour, Filled, Frame, Track, Verdict

if sys.platform != "win32":
    import resource

STAGES = ("wall", "decode", "perceive", "track", "judge", "fill", "encode")
"""The keys of `Report.seconds`."""

_PART_OF = {"shots": "track", "motion": "track", "plate": "fill", "hole": "fill", "inpaint": "fill"}
_NAMED = 6
"""Tracks that one warning names."""


@dataclass(frozen=True)
class HoleReport:
    """How much was replaced, all in [0, 1]: mean share of the frame, and how the replaced pixels were got."""

    mean_share: float
    seen_share: float
    reference_share: float
    inpainted_share: float


@dataclass(frozen=True)
class TrackReport:
    """One thing that was followed and what became of it; times are of the input.

    `action` and `reason` are those of its last frame; `frames_removed`: of the `frames` in which it was
    there, those from which it was taken.
    """

    id: int
    label: str
    action: str
    relation: float | None
    reason: str
    first_seconds: float
    last_seconds: float
    frames: int
    frames_removed: int


@dataclass(frozen=True)
class ReferenceReport:
    """One of the user's references: `share` of all replaced pixels that are from it, in [0, 1]."""

    file: str
    used: bool
    share: float
    reason: str


@dataclass(frozen=True)
class Report:
    """Everything that is told of a run; the fields are the keys of the JSON.

    `partial`: what was written needs a look: the input was damaged, or masks did not fit its frames.
    `frames_copied`: how many of the frames are the input's own packets.
    """

    version: str
    input: str
    output: str
    preset: str
    engines: Mapping[str, Mapping[str, str]]
    frames: int
    duration_seconds: float
    frames_per_second: float
    seconds: Mapping[str, float]
    peak_memory_bytes: int
    look_ahead_seconds: float
    shots: tuple[float, ...]
    hole: HoleReport
    tracks: tuple[TrackReport, ...]
    streams_copied: tuple[str, ...]
    warnings: tuple[str, ...]
    partial: bool = False
    references: tuple[ReferenceReport, ...] = ()
    frames_copied: int = 0

    def to_json(self) -> str:
        """The report as indented JSON; unknown numbers are null."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the JSON; raises OutputError."""
        try:
            path.write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise output_error(error, path) from None


class Tally:
    """Adds up what is done frame by frame into a report."""

    def __init__(self, *, input: str, output: str, config: Config, info: SourceInfo) -> None:
        self.frames = 0
        self._input, self._output = input, output
        self._config, self._info = config, info
        self._first: Fraction | None = None
        self._end = Fraction(0)
        self._share = 0.0
        self._got = np.zeros(4, np.int64)
        self._tracks: dict[int, TrackReport] = {}
        self._unsure: dict[int, int] = {}
        self._tentative: set[int] = set()

    @property
    def state(self) -> dict[str, object]:
        """What was counted so far, to go on from."""
        own = ("_input", "_output", "_config", "_info")
        return {name: value for name, value in vars(self).items() if name not in own}

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from the `state` of an earlier run."""
        vars(self).update(state)

    @property
    def reached(self) -> float:
        """Seconds of the input up to the end of the last frame that was counted."""
        return float(self._end - (self._first or 0))

    def add(self, filled: Filled) -> None:
        """Count one finished frame."""
        frame = filled.frame
        self.frames += 1
        if self._first is None:
            self._first = frame.time
        self._end = frame.time + (frame.duration * frame.time_base or 1 / self._info.rate)
        got = np.bincount(filled.origin.ravel(), minlength=4)[:4]
        got[0] = 0
        self._got += got
        self._share += float(got.sum()) / (frame.width * frame.height)
        for number in filled.unsure:
            self._unsure[number] = self._unsure.get(number, 0) + 1
        verdicts = {each.track: each for each in filled.verdicts}
        for track in filled.tracks:
            if track.id in verdicts:
                self._add_track(track, verdicts[track.id], float(frame.time))

    def extend(self, later: Tally, same: Mapping[int, int]) -> dict[int, int]:
        """Count what `later` counted of the frames that follow, and return our ids of its tracks.

        `same`: our ids of those that are ours; what was said of them last holds.
        """
        self.frames += later.frames
        if self._first is None:
            self._first = later._first
        self._end = max(self._end, later._end)
        self._share += later._share
        self._got += later._got
        free = max(self._tracks, default=0) + 1
        names: dict[int, int] = {}
        for number, track in later._tracks.items():
            before = self._tracks.get(same.get(number, -1))
            if before is None:
                names[number] = free
                if number in later._tentative:
                    self._tentative.add(free)
                self._tracks[free] = replace(track, id=free)
                free += 1
            else:
                names[number] = before.id
                if number not in later._tentative:
                    self._tentative.discard(before.id)
                self._tracks[before.id] = replace(
                    track,
                    id=before.id,
                    first_seconds=before.first_seconds,
                    frames=before.frames + track.frames,
                    frames_removed=before.frames_removed + track.frames_removed,
                )
        for number, count in later._unsure.items():
            if number in names:
                self._unsure[names[number]] = self._unsure.get(names[number], 0) + count
        return names

    def _not_completed(self) -> list[str]:
        """What the report says of things that stay and could not be completed, in one line."""
        told = [
            f"{self._tracks[number].label} {number} ({count})"
            for number, count in sorted(self._unsure.items())
            if number in self._tracks
        ]
        if not told:
            return []
        more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
        return [
            "what was hidden of some who stay could not be completed, there is background; tracks, and in "
            f"how many frames: {', '.join(told[:_NAMED])}{more}"
        ]

    def _add_track(self, track: Track, verdict: Verdict, time: float) -> None:
        (self._tentative.add if verdict.tentative else self._tentative.discard)(track.id)
        before = self._tracks.get(track.id)
        self._tracks[track.id] = TrackReport(
            id=track.id,
            label=verdict.label,
            action=verdict.action,
            relation=_number(verdict.relation),
            reason=verdict.reason,
            first_seconds=round(time, 6) if before is None else before.first_seconds,
            last_seconds=round(time, 6),
            frames=1 + (0 if before is None else before.frames),
            frames_removed=(verdict.action == "remove") + (0 if before is None else before.frames_removed),
        )

    def report(
        self,
        *,
        seconds: Mapping[str, float],
        engines: Mapping[str, Mapping[str, str]],
        shots: Sequence[Fraction],
        streams_copied: Sequence[str],
        warnings: Sequence[str],
        partial: bool = False,
        references: Sequence[Use] = (),
        frames_copied: int = 0,
    ) -> Report:
        """The finished report. `seconds` of stages without a key of their own count to those they serve."""
        spent = dict.fromkeys(STAGES, 0.0)
        for stage, value in seconds.items():
            key = _PART_OF.get(stage, stage)
            if key in spent:
                spent[key] += value
        total = max(1, int(self._got.sum()))
        wall = spent["wall"]
        return Report(
            version=version(),
            input=self._input,
            output=self._output,
            preset=self._config.preset,
            engines={name: dict(engine) for name, engine in engines.items()},
            frames=self.frames,
            duration_seconds=_round(float(self._end - (self._first or 0))) if self.frames else 0.0,
            frames_per_second=_round(self.frames / wall) if wall > 0 else 0.0,
            seconds={stage: _round(value) for stage, value in spent.items()},
            peak_memory_bytes=peak_memory(),
            look_ahead_seconds=float(self._config.look_ahead_seconds),
            shots=tuple(_round(float(each)) for each in shots),
            hole=HoleReport(
                mean_share=_round(self._share / max(1, self.frames)),
                seen_share=_round(int(self._got[SEEN]) / total),
                reference_share=_round(int(self._got[REFERENCE]) / total),
                inpainted_share=_round(int(self._got[INVENTED]) / total),
            ),
            # What was seen for a moment only is mostly nothing, and nothing was done to it.
            tracks=tuple(self._tracks[key] for key in sorted(self._tracks.keys() - self._tentative)),
            streams_copied=tuple(streams_copied),
            warnings=tuple(dict.fromkeys((*warnings, *self._not_completed()))),
            partial=partial,
            references=tuple(
                ReferenceReport(each.file, each.used, _round(each.pixels / total), each.reason)
                for each in references
            ),
            frames_copied=frames_copied,
        )


class Log:
    """JSON lines, one a frame and track."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, filled: Filled) -> None:
        """One line for each track of this frame; raises OutputError."""
        verdicts = {each.track: each for each in filled.verdicts}
        try:
            for track in filled.tracks:
                line = _line(filled.frame, track, verdicts.get(track.id))
                self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise output_error(error, self._path) from None

    def end_part(self) -> int:
        """Bring the lines onto the disk and return how many bytes there are; raises OutputError."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise output_error(error, self._path) from None


class Provenance:
    """A grey lossless video that says of each pixel how it was got: 0 untouched to 3 invented."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.end_part = sink.end_part

    def write(self, filled: Filled) -> None:
        """Write one frame with the time stamp of the frame it speaks of."""
        frame = filled.frame
        plane = np.zeros((frame.height, frame.width), np.uint8)
        if filled.box is not None:
            x0, y0, x1, y1 = filled.box
            plane[y0:y1, x0:x1] = filled.origin
        self._sink.write(
            replace(frame, planes=(plane,), format="gray", colour=Colour(full_range=True), interlaced=False)
        )


@contextmanager
def open_log(path: Path, keep: int = 0) -> Generator[Log, None, None]:
    """Write a log to `path`, after the first `keep` bytes of what is there; raises OutputError."""
    try:
        if keep and path.stat().st_size < keep:
            raise OutputError("lines of the unfinished log are missing", where=str(path))
        file = path.open("a" if keep else "w", encoding="utf-8")
        file.truncate(keep)
    except OutputError:
        raise
    except OSError as error:
        raise output_error(error, path) from None
    try:
        yield Log(file, path)
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise output_error(error, path) from None


@contextmanager
def open_provenance(
    path: Path, info: SourceInfo, *, overwrite: bool = False, begun: Position | None = None
) -> Generator[Provenance, None, None]:
    """Write a provenance video beside the output of `info`'s cleaning; raises OutputError, UsageError."""
    if path.suffix.lower() != ".mkv":
        raise UsageError("provenance is written as a video that ends in .mkv", where=str(path))
    grey = replace(
        info,
        codec="ffv1",
        format="gray",
        coded_format="gray",
        colour=Colour(full_range=True),
        field_order=1,
        hdr10=None,
    )
    with open_sink(path, grey, lossless=True, overwrite=overwrite, copy_streams=False, begun=begun) as sink:
        yield Provenance(sink)


def version() -> str:
    """The program's version."""
    try:
        return metadata.version("cleanplate")
    except metadata.PackageNotFoundError:
        return "unknown"


def peak_memory() -> int:
    """The most memory that this process held so far, in bytes; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # kilobytes everywhere but on macOS
    return used if sys.platform == "darwin" else used * 1024


def _line(frame: Frame, track: Track, verdict: Verdict | None) -> dict[str, Any]:
    return {
        "frame": frame.index,
        "seconds": _round(float(frame.time)),
        "track": track.id,
        "label": track.label,
        "box": [round(float(side), 1) for side in track.instance.box],
        "score": _number(track.instance.score),
        "missed": track.missed,
        "relation": None if verdict is None else _number(verdict.relation),
        "evidence": {
            "subject": _number(track.subject),
            "speed": _number(track.speed),
            "area": _number(track.area),
            "hits": track.hits,
        },
        "verdict": None if verdict is None else verdict.action,
        "reason": "" if verdict is None else verdict.reason,
    }


def _number(value: float) -> float | None:
    return _round(float(value)) if math.isfinite(value) else None


def _round(value: float) -> float:
    return round(value, 6)
