"""What came of each clip, kept in the output folder, so that the same batch can go on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from stream.batch import storage
from stream.batch.plan import HOME, Clip
from stream.job import job_identity
from stream.options import to_config, to_job

FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """One clip's end; `begun` says that it had none, and that what bears the output's name is ours.

    `was`: the stamp of what bore the output's name when it was begun. `note`: what else is to be said of it.
    `identity`: what must be the same for the output to be still good; `size` its bytes. `report`: that of the
    run, as JSON. `before` and `after`: JPEG pictures in base64, of the moment `at` (seconds) when most was
    replaced. `pixels` of one frame. `attempts`: where and when workers began with it in this batch, for each
    segment; more than one is a retry.
    """

    name: str
    input: str
    output: str
    state: Literal["begun", "done", "partial", "failed"]
    identity: Mapping[str, str] = field(default_factory=dict)
    size: int = -1
    was: str = ""
    note: str = ""
    error: str = ""
    hint: str = ""
    report: Mapping[str, Any] | None = None
    before: str = ""
    after: str = ""
    at: float = 0.0
    seconds: float = 0.0
    pixels: int = 0
    segments: int = 1
    attempts: tuple[tuple[str, ...], ...] = ()


def identity(clip: Clip) -> dict[str, str]:
    """What must be the same for a clip not to be cleaned again; raises what its options and files give."""
    found = job_identity(clip.input, clip.output, to_job(clip.options), to_config(clip.options))
    if storage.local(clip.input) is None:
        found["input's stamp"] = storage.stamp(clip.input)
    return {key: str(value) for key, value in found.items()}


def begun(clip: Clip, identity: Mapping[str, str]) -> Outcome:
    """What is kept while a clip is worked on, so that its output is known even if nothing more is written."""
    return Outcome(clip.name, clip.input, clip.output, "begun", identity=identity, was=_stamp(clip))


def last(folder: str, clip: Clip) -> Outcome | None:
    """What came of a clip before, as `load`; whole outputs whose record was lost are done.

    An output bears its name only when it is whole, so one that got it after the clip was begun is good,
    even if the program ended before it could write down that it was.
    """
    found = load(folder, clip)
    if found is None or found.state != "begun" or not found.identity or storage.local(clip.output) is None:
        return found
    stamp = _stamp(clip)
    if not stamp or stamp == found.was:
        return found
    note = "the program ended before it could write down what it did; the output is whole"
    return replace(found, state="done", size=storage.size(clip.output), note=note)


def _stamp(clip: Clip) -> str:
    return storage.stamp(clip.output) if storage.size(clip.output) >= 0 else ""


def is_good(clip: Clip, outcome: Outcome | None) -> bool:
    """Whether a clip was done before, by the same program, in the same way, and its output is still there."""
    if outcome is None or outcome.state not in ("done", "partial"):
        return False
    return storage.size(clip.output) == outcome.size and identity(clip) == dict(outcome.identity)


def is_ours(clip: Clip, outcome: Outcome | None) -> bool:
    """Whether what bears the output's name was made for this clip by an earlier batch, or nothing does."""
    there = storage.size(clip.output)
    return there < 0 or (outcome is not None and (outcome.state == "begun" or outcome.size == there))


def place_of(folder: str, clip: Clip, kind: str = "clips", suffix: str = ".json") -> str:
    """Where something about a clip is kept."""
    digest = hashlib.sha256(clip.name.encode(errors="surrogateescape")).hexdigest()[:24]
    return storage.beside(folder, f"{HOME}/{kind}/{digest}{suffix}")


def load(folder: str, clip: Clip) -> Outcome | None:
    """What came of a clip before; None when nothing did, or it cannot be read."""
    try:
        told = json.loads(storage.read(place_of(folder, clip)))
        if told.pop("format") != FORMAT:
            return None
        known = {each.name for each in fields(Outcome)}
        found = Outcome(**{key: value for key, value in told.items() if key in known})
        found = replace(found, attempts=tuple(tuple(each) for each in found.attempts))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if found.name == clip.name else None


def save(folder: str, clip: Clip, outcome: Outcome) -> None:
    """Keep what came of a clip; raises OutputError."""
    told = {"format": FORMAT, **asdict(outcome)}
    storage.write(place_of(folder, clip), json.dumps(told, ensure_ascii=False, indent=1).encode())


def note_attempt(folder: str, clip: Clip, run: str, told: str, part: str = "") -> None:
    """Write down that a worker begins with a clip, or with a `part` of it, in this batch (`run`)."""
    lines = (run, *_attempts(folder, clip, run, part), told)
    storage.write(_attempts_of(folder, clip, part), "\n".join(lines).encode())


def attempts(folder: str, clip: Clip, run: str, parts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Where and when workers began with each part of a clip in this batch."""
    found = (_attempts(folder, clip, run, part) for part in parts)
    return tuple(each for each in found if each)


def _attempts(folder: str, clip: Clip, run: str, part: str) -> tuple[str, ...]:
    try:
        lines = storage.read(_attempts_of(folder, clip, part)).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(lines[1:]) if lines[:1] == [run] else ()


def _attempts_of(folder: str, clip: Clip, part: str) -> str:
    return place_of(folder, clip, "attempts", f"{part and '-'}{part}.txt")
