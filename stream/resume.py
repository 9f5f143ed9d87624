"""Where an interrupted run can go on: a manifest beside the unfinished output, and what was known there.

The state is saved between two parts of the output (`stream/snapshot.py`), with how far each output was. To go
on, the input is decoded from its beginning again, the frames that were remembered are taken from it, and the
rest of the work is done as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from stream.errors import CleanplateError, OutputError, UsageError
from stream.filling import FillingState
from stream.part import output_error, part_of, remove, sync
from stream.sink import Position
from stream.snapshot import Snapshot, SnapshotError, save
from stream.source_images import IMAGE_SUFFIXES
from stream.untouched import Waiting

FORMAT = 1
_MANIFEST = "manifest.json"
_SAMPLE = 1 << 20
_MOST_OF_TIME = 20
"""Saving takes at most one part in so many of the time, unless it is wanted at every border."""


@dataclass(frozen=True)
class Begun:
    """An unfinished run: `frames` were written and `analysed` read.

    What was written ends at `seconds` of the input and took `spent` seconds.

    `positions` of the output and the provenance by name, `log` the log's length in bytes; `state` and `tally`
    are the files of what was known.
    """

    frames: int
    analysed: int
    seconds: float
    spent: float
    positions: Mapping[str, Position]
    log: int
    state: Path
    tally: Path


def identity(
    input: str | Path,
    masks: Path | None,
    references: Path | None,
    options: Mapping[str, object],
    config: Mapping[str, object],
    version: str,
) -> dict[str, object]:
    """What must be the same for a run to be gone on with, by names that a user understands."""
    found: dict[str, object] = {"version": version}
    for name, path in (("input", input), ("masks", masks), ("references", references)):
        found |= _files(name, path)
    found |= {f"option {name}": str(value) for name, value in options.items()}
    for name, value in config.items():
        section = value if isinstance(value, Mapping) else {"": value}
        found |= {f"setting {name}.{key}".rstrip("."): repr(each) for key, each in section.items()}
    return found


def unfinished(output: str | Path) -> float | None:
    """Seconds of the input that an unfinished run of `output` has done, None when there is none."""
    try:
        return float(_read(Path(output))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find(output: str | Path, now: Mapping[str, object]) -> Begun | None:
    """The unfinished run of `output`, None when there is none.

    Raises UsageError that names what differs when it was another job, OutputError when it is damaged.
    """
    folder = part_of(Path(output))
    if not (folder / _MANIFEST).exists():
        return None
    try:
        told = _read(Path(output))
        before = dict(told["identity"])
        positions = {
            name: Position(
                int(each["frames"]),
                int(each["bytes"]),
                tuple(each["warnings"]),
                None if each["waiting"] is None else Waiting(**each["waiting"]),
                int(each["copied"]),
            )
            for name, each in told["positions"].items()
        }
        begun = Begun(
            frames=int(told["frames"]),
            analysed=int(told["analysed"]),
            seconds=float(told["seconds"]),
            spent=float(told["spent"]),
            positions=positions,
            log=int(told["log"]),
            state=folder / Path(told["state"]).name,
            tally=folder / Path(told["tally"]).name,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, str(error)) from None
    check(before, now)
    return begun


def check(before: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Raise UsageError that names the first thing in which two runs differ."""
    for key in (*now, *(each for each in before if each not in now)):
        if before.get(key) != now.get(key):
            raise UsageError(
                f"the unfinished run cannot be gone on with: {key} was {_shown(before.get(key))}, "
                f"now it is {_shown(now.get(key))}",
                hint="make it the same again, or leave out --resume to start over",
            )


def read_state(begun: Begun) -> tuple[Snapshot, Snapshot]:
    """What was known where the run ended: of the frames, and for the report. Raises OutputError."""
    try:
        return Snapshot(begun.state), Snapshot(begun.tally)
    except SnapshotError as error:
        raise _damaged(begun.state.parent, str(error)) from None


def load(snapshot: Snapshot, begun: Begun, frames: Mapping[int, Any], known: Sequence[object] = ()) -> Any:
    """The value in a snapshot; raises OutputError."""
    try:
        return snapshot.load(frames, known)
    except SnapshotError as error:
        raise _damaged(begun.state.parent, str(error)) from None


class Checkpoints:
    """Saves where a run can be gone on with; `last` is the newest such place, seconds of the input.

    When saving fails the run goes on without; `warnings` say so.
    `known`: what whoever goes on has already. `every`: seconds between two savings at least.
    """

    def __init__(
        self,
        output: Path,
        now: Mapping[str, object],
        known: Sequence[object],
        every: float,
        begun: Begun | None,
    ) -> None:
        self.last = None if begun is None else begun.seconds
        self.warnings: list[str] = []
        self._output = output
        self._folder = part_of(output)
        self._identity = dict(now)
        self._known = known
        self._every = every
        self._cost = 0.0
        self._saved = perf_counter()

    def save(self, state: FillingState) -> Path | None:
        """Save the state when it is time, and return where; called by the thread of the fill."""
        began = perf_counter()
        if self._every and began - self._saved < max(self._every, _MOST_OF_TIME * self._cost):
            return None
        path = self._folder / f"state-{state.frames}.zip"
        stored = self._store(path, state, self._known)
        self._saved = perf_counter()
        self._cost = self._saved - began
        return path if stored else None

    def commit(
        self,
        state: Path,
        analysed: int,
        tally: object,
        seconds: float,
        spent: float,
        positions: Mapping[str, Position],
        log: int,
    ) -> None:
        """Make a saved state the place to go on from; all outputs ended a part there."""
        frames = positions["output"].frames
        told = self._folder / f"tally-{frames}.zip"
        if not self._store(told, tally, ()):
            return
        manifest = {
            "format": FORMAT,
            "identity": self._identity,
            "frames": frames,
            "analysed": analysed,
            "seconds": seconds,
            "spent": spent,
            "positions": {name: asdict(each) for name, each in positions.items()},
            "log": log,
            "state": state.name,
            "tally": told.name,
        }
        fresh = self._folder / "manifest.new"
        try:
            fresh.write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
            sync(fresh)
            fresh.replace(self._folder / _MANIFEST)
            sync(self._folder)
        except OSError as error:
            self._give_up(error)
            return
        self.last = seconds
        for each in (*self._folder.glob("state-*.zip"), *self._folder.glob("tally-*.zip")):
            if each not in (state, told) and _number(each) <= frames:
                remove(each)

    def advise(self, error: CleanplateError) -> None:
        """Add to an error that the run can be gone on with, if it can."""
        if self.last is None:
            return
        error.hint = "; ".join(
            filter(None, [error.hint, f"the same command with --resume goes on at {self.last:.2f} s"])
        )

    def _store(self, path: Path, value: object, known: Sequence[object]) -> bool:
        try:
            save(path, value, known)
            sync(path)
        except OSError as error:
            remove(path)
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: OSError) -> None:
        """What cannot be saved is no reason to stop: the output itself may still fit."""
        self._every = math.inf
        reason = output_error(error, self._output).what
        self.warnings.append(f"after an interruption this run could not have gone on: {reason}")


def _number(path: Path) -> int:
    digits = path.stem.partition("-")[2]
    return int(digits) if digits.isdigit() else 0


def _read(output: Path) -> dict[str, Any]:
    told = json.loads((part_of(output) / _MANIFEST).read_text(encoding="utf-8"))
    if told["format"] != FORMAT:
        raise ValueError(f"its format is {told['format']}, this program writes {FORMAT}")
    return dict(told)


def _damaged(folder: Path, reason: str) -> OutputError:
    return OutputError(
        f"the unfinished run cannot be read: {reason}",
        where=str(folder),
        hint="leave out --resume to start over",
    )


def _shown(value: object) -> str:
    return "not there" if value is None else str(value)


def _files(name: str, path: str | Path | None) -> dict[str, object]:
    """Size, time of change and a digest of a file's ends; of a folder, of all its images by name."""
    if path is None:
        return {}
    place = Path(path)
    if not place.exists():
        return {name: str(path)}
    if place.is_dir():
        inside = sorted(each for each in place.iterdir() if each.suffix.lower() in {*IMAGE_SUFFIXES, ".json"})
        return {f"{name}'s files": len(inside), f"{name}'s digest": _digest(_stamps(inside))}
    about = place.stat()
    return {
        f"{name}'s size": about.st_size,
        f"{name}'s time of change": about.st_mtime_ns,
        f"{name}'s digest": _digest(_ends(place, about.st_size)),
    }


def _stamps(files: Iterable[Path]) -> Iterable[bytes]:
    for each in files:
        about = each.stat()
        yield f"{each.name} {about.st_size} {about.st_mtime_ns}\n".encode(errors="surrogateescape")


def _ends(path: Path, size: int) -> Iterable[bytes]:
    with path.open("rb") as file:
        yield file.read(_SAMPLE)
        file.seek(max(0, size - _SAMPLE), os.SEEK_SET)
        yield file.read(_SAMPLE)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for each in parts:
        digest.update(each)
    return digest.hexdigest()
