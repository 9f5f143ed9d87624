"""What a worker does with one clip, or with one segment of a long one."""

from __future__ import annotations

import base64
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import cv2
import numpy as np

from stream import segments
from stream.batch import outcomes, storage
from stream.batch.outcomes import Outcome
from stream.batch.plan import Clip
from stream.errors import BusyError, CleanplateError, UsageError
from stream.job import Job, Progress, clean
from stream.options import to_config, to_job
from stream.report import Report
from stream.segments import Done, Segment
from stream.source import open_source
from stream.types import Filled, Image

TOPIC = "cleanplate"
"""Under which workers tell how far they are."""

_TELL_SECONDS = 1.0
_BUSY_SECONDS = 60.0
_THUMB = 360


@dataclass(frozen=True)
class Batch:
    """What all clips of a batch share: the output folder, this batch's name, whether outputs are replaced."""

    folder: str
    run: str
    overwrite: bool


@dataclass(frozen=True)
class Look:
    """What is known of a clip before it is cleaned; `frames` None when nobody knows."""

    width: int
    height: int
    frames: int | None
    segments: tuple[Segment, ...]


def look(clip: Clip, every: Fraction | None) -> Look:
    """Size and length of a clip, and its segments of about `every` seconds if it is to be split.

    Raises what its options and its file give.
    """
    job = to_job(clip.options)
    to_config(clip.options)
    with tempfile.TemporaryDirectory(prefix="cleanplate-") as folder:
        path = storage.fetch(clip.input, Path(folder))
        with open_source(path, start=job.start, end=job.end, fps=job.fps) as source:
            info = source.info
        whole = Segment(0, job.start or Fraction(0), job.end, Fraction(0))
        parts: tuple[Segment, ...] = (whole,)
        if every is not None and not segments.may_split(job, Path(clip.name)):
            parts = segments.plan(path, job, every)
    return Look(info.width, info.height, info.frames, parts)


def prepare(clip: Clip, width: int, height: int) -> None:
    """Build the networks for clips of this size, which all workers with this cache then share."""
    from stream.networks import every_network

    config = to_config(clip.options)
    if config.engine.name == "none":
        return
    for spec in every_network(config, [(width, height)]):
        spec.open(config).close()


def clean_clip(clip: Clip, batch: Batch) -> Outcome:
    """Clean one clip, keep what came of it, and return it; errors of the clip are its outcome."""

    def work(here: Path, job: Job, seen: _Thumbs) -> Report:
        path = storage.fetch(clip.input, here)
        output = _output(clip, here)
        return _cleaned(clip, path, output, job, seen)

    return _carried_out(clip, batch, [""], work)


def clean_segment(clip: Clip, batch: Batch, segment: Segment) -> tuple[Done, _Moment | None]:
    """Clean one segment of a clip; its packets are kept in the output folder. Raises what the clip gives."""
    outcomes.note_attempt(batch.folder, clip, batch.run, _whoami(), str(segment.number))
    name = f"{clip.name} [{segment.number + 1}]"
    place = _packets(clip, batch, segment.number)
    with tempfile.TemporaryDirectory(prefix="cleanplate-") as folder:
        here = Path(folder)
        path, job = storage.fetch(clip.input, here), _local(clip, here)
        seen = _Thumbs()
        tell = _telling(name)

        def on_progress(progress: Progress) -> None:
            seen.look(progress.last)
            tell(progress)

        done = segments.clean_segment(
            path,
            Path(clip.name),
            job,
            to_config(clip.options),
            segment,
            here / "done.packets",
            on_progress=on_progress,
        )
        storage.store(done.packets, place)
        moment = seen.moment()
    return replace(done, packets=Path(place)), moment


def join_segments(
    clip: Clip, batch: Batch, parts: Sequence[tuple[Done, _Moment | None]], seconds: float
) -> Outcome:
    """Join the segments of a clip, keep what came of it, and return it."""

    def work(here: Path, job: Job, seen: _Thumbs) -> Report:
        fetched = []
        for done, moment in parts:
            seen.offer(moment)
            packets = storage.fetch(_packets(clip, batch, done.segment.number), here)
            fetched.append(replace(done, packets=packets))
        path, output = storage.fetch(clip.input, here), _output(clip, here)
        report = segments.join(path, output, job, to_config(clip.options), fetched, seconds)
        for done, _ in parts:
            storage.remove(_packets(clip, batch, done.segment.number))
        return report

    return _carried_out(clip, batch, parts_of(len(parts)), work)


def parts_of(segments: int) -> list[str]:
    """Names of what is begun by itself for a clip of so many segments: the clip, and each segment."""
    return ["", *(str(each) for each in range(segments))] if segments > 1 else [""]


def failed(clip: Clip, error: BaseException, attempts: tuple[tuple[str, ...], ...] = ()) -> Outcome:
    """The outcome of a clip that could not be cleaned."""
    what, hint = f"unexpected {type(error).__name__}: {error}".splitlines()[0], ""
    known = isinstance(error, CleanplateError) or type(error).__name__ in ("ConfigError", "WeightsError")
    if known:
        what, hint = str(error), getattr(error, "hint", "") or ""
    return Outcome(clip.name, clip.input, clip.output, "failed", error=what, hint=hint, attempts=attempts)


@dataclass(frozen=True)
class _Moment:
    """The moment when most was replaced: JPEG pictures in base64 before and after."""

    share: float
    at: float
    before: str
    after: str
    pixels: int


class _Thumbs:
    """Keeps the moment of a run when most was replaced."""

    def __init__(self) -> None:
        self._share = 0.0
        self._best: Filled | None = None
        self._given: _Moment | None = None

    def look(self, filled: Filled) -> None:
        """Take this frame if clearly more of it was replaced than of the best so far."""
        share = float(np.count_nonzero(filled.origin)) / (filled.frame.width * filled.frame.height)
        if self._best is None or share > 1.1 * self._share:
            self._share, self._best = share, filled

    def offer(self, moment: _Moment | None) -> None:
        """Take the moment of another part of the clip if it is better."""
        if moment is not None and (self._given is None or moment.share > self._given.share):
            self._given = moment

    def moment(self) -> _Moment | None:
        """The best, None when nothing was seen."""
        if self._best is None:
            return self._given
        frame, before = self._best.frame, self._best.before or self._best.frame
        return _Moment(
            self._share, float(frame.time), _jpeg(before.rgb), _jpeg(frame.rgb), frame.width * frame.height
        )


def _jpeg(rgb: Image) -> str:
    height, width = rgb.shape[:2]
    times = min(1.0, _THUMB / max(height, width))
    size = (max(1, round(width * times)), max(1, round(height * times)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return base64.b64encode(data.tobytes()).decode()


def _carried_out(
    clip: Clip, batch: Batch, parts: Sequence[str], work: Callable[[Path, Job, _Thumbs], Report]
) -> Outcome:
    """Do the work on one clip, made of `parts`, in a folder of its own and keep what came of it."""
    began = perf_counter()
    outcomes.note_attempt(batch.folder, clip, batch.run, _whoami())
    attempts = outcomes.attempts(batch.folder, clip, batch.run, parts)
    seen = _Thumbs()
    mine = False
    try:
        before = outcomes.last(batch.folder, clip)
        if before is not None and outcomes.is_good(clip, before):
            # the worker that was lost had finished it
            for part in parts[1:]:
                storage.remove(_packets(clip, batch, int(part)))
            outcomes.save(batch.folder, clip, replace(before, attempts=attempts))
            return replace(before, attempts=attempts)
        mine = outcomes.is_ours(clip, before)
        identity = outcomes.identity(clip)
        if mine or batch.overwrite:
            # a worker may die between giving an output its name and writing down that it did
            outcomes.save(batch.folder, clip, outcomes.begun(clip, identity))
        with tempfile.TemporaryDirectory(prefix="cleanplate-") as folder:
            here = Path(folder)
            job = replace(_local(clip, here), overwrite=batch.overwrite or mine)
            report = work(here, job, seen)
            if storage.local(clip.output) is None:
                storage.store(_output(clip, here), clip.output)
        moment = seen.moment()
        outcome = Outcome(
            clip.name,
            clip.input,
            clip.output,
            "partial" if report.partial else "done",
            identity=identity,
            size=storage.size(clip.output),
            report=asdict(report),
            before=moment.before if moment else "",
            after=moment.after if moment else "",
            at=moment.at if moment else 0.0,
            pixels=moment.pixels if moment else 0,
            seconds=round(report.seconds["wall"] if len(parts) > 1 else perf_counter() - began, 3),
            segments=max(1, len(parts) - 1),
            attempts=attempts,
        )
    except Exception as error:
        outcome = failed(clip, error, attempts)
        # what an earlier batch made is still ours to replace
        outcome = replace(outcome, size=storage.size(clip.output) if mine else -1)
    outcomes.save(batch.folder, clip, outcome)
    return outcome


def _cleaned(clip: Clip, path: Path, output: Path, job: Job, seen: _Thumbs) -> Report:
    tell = _telling(clip.name)

    def on_progress(progress: Progress) -> None:
        seen.look(progress.last)
        tell(progress)

    config = to_config(clip.options)
    until = monotonic() + _BUSY_SECONDS
    resume = True
    while True:
        try:
            return clean(path, output, config, job=replace(job, resume=resume), on_progress=on_progress)
        except BusyError:
            # a worker that was given up may still be at it
            if monotonic() > until:
                raise
            sleep(1.0)
        except UsageError as error:
            # what an earlier run left was of another job
            if not resume or "unfinished run" not in error.what:
                raise
            resume = False


def _output(clip: Clip, here: Path) -> Path:
    path = storage.local(clip.output)
    if path is None:
        return here / f"out.{clip.name.rpartition('.')[2]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _local(clip: Clip, here: Path) -> Job:
    """The clip's job with its masks and references on this file system."""
    options = clip.options
    masks, references = (
        None if place is None else str(storage.fetch(place, here))
        for place in (options.masks, options.references)
    )
    return to_job(replace(options, masks=masks, references=references))


def _packets(clip: Clip, batch: Batch, number: int) -> str:
    return outcomes.place_of(batch.folder, clip, "segments", f"-{number}.packets")


def _whoami() -> str:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return f"{now} {socket.gethostname()} process {os.getpid()}"


def _telling(name: str) -> Callable[[Progress], None]:
    """A function that tells whoever drives the batch how far this worker is, now and then."""
    from distributed import get_worker

    try:
        worker: Any = get_worker()
    except ValueError:
        return lambda _: None
    last = monotonic()
    worker.log_event(TOPIC, {"name": name, "frames": 0, "total": None, "rate": 0.0})

    def tell(progress: Progress) -> None:
        nonlocal last
        if monotonic() - last < _TELL_SECONDS:
            return
        last = monotonic()
        rate = progress.frames / progress.seconds if progress.seconds else 0.0
        told = {"name": name, "frames": progress.frames, "total": progress.total, "rate": rate}
        worker.log_event(TOPIC, told)

    return tell
