"""One job from file to file: open, check, clean, write, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from time import perf_counter

from configs.schema import Config, load_config
from stream import judge, perceive, pipeline, resume
from stream.errors import CleanplateError, UsageError
from stream.filling import FillingState
from stream.masks import open_masks
from stream.memory import give_back
from stream.references import find_references
from stream.report import Log, Provenance, Report, Tally, open_log, open_provenance, version
from stream.rooms import Rooms, open_rooms
from stream.sink import Sink, check_outputs, open_sink
from stream.source import Source, SourceInfo, open_source
from stream.types import Filled, Frame

_GIVE_BACK = 50
"""Frames after which free memory goes back to the system."""


@dataclass(frozen=True)
class Job:
    """What a run is told besides its configuration.

    `start` and `end` in seconds of the input; `fps` for folders of images; `masks` replaces the judge's hole,
    or with an `objects.json` only the segmentator; `log`, `provenance` and `report` are extra files to
    write. `resume` goes on with an unfinished run of the same job, if there is one. `smart_copy` copies the
    packets of stretches in which nothing was changed, where the codec allows it.
    """

    masks: Path | None = None
    references: Path | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    fps: Fraction = Fraction(25)
    lossless: bool = False
    deinterlace: bool = False
    overwrite: bool = False
    resume: bool = False
    smart_copy: bool = True
    log: Path | None = None
    provenance: Path | None = None
    report: Path | None = None

    @property
    def may_copy(self) -> bool:
        """Whether packets may be copied: a deinterlaced picture is never the input's."""
        return self.smart_copy and not self.deinterlace


@dataclass(frozen=True)
class Progress:
    """Where a run is: frames done, frames in all when known, seconds so far, and the frame just finished."""

    frames: int
    total: int | None
    seconds: float
    last: Filled


def clean(
    input: str | Path,
    output: str | Path,
    config: Config | None = None,
    *,
    job: Job | None = None,
    on_start: Callable[[tuple[str, ...]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Report:
    """Clean a file, a folder of images or one image and return what was done.

    `on_start` gets, before the first frame, what the output will not keep, in words.
    OUTPUT bears its name only when it is whole. `stop` is asked after every frame; once it is true the run
    ends with `InterruptedRunError`, and what was done is kept for `Job.resume`. Raises `InputError`,
    `OutputError`, `UsageError`, `EngineError`; a damaged input is cleaned up to the damage, which
    `Report.warnings` names.
    """
    config = config or load_config()
    job = job or Job()
    check_outputs(
        (Path(input), job.masks, job.references), (Path(output), job.log, job.provenance, job.report)
    )
    judge.check(config.judge)
    if config.engine.name == "none" and job.masks is None:
        raise UsageError(
            "the engine none runs no network, so nothing says what is to go",
            hint="--masks FOLDER or VIDEO says it, or choose another --engine",
        )
    unseen = perceive.check_reported(config) if job.masks is None else ()
    began = perf_counter()
    with ExitStack() as stack:
        source = stack.enter_context(
            open_source(input, start=job.start, end=job.end, fps=job.fps, deinterlace=job.deinterlace)
        )
        info = source.info
        files = find_references(job.references, info) if job.references else []
        masks = stack.enter_context(open_masks(job.masks, info)) if job.masks else None
        mine = job_identity(input, output, job, config)
        begun = resume.find(output, mine) if job.resume else None
        outputs = _open_outputs(stack, output, info, job, begun)
        if on_start is not None:
            on_start(tuple(dict.fromkeys((*info.warnings, *unseen, *outputs.sink.warnings))))
        tally = Tally(input=str(input), output=str(output), config=config, info=info)
        ready = open_rooms(stack, source, config, masks, files)
        points = resume.Checkpoints(Path(output), mine, ready.known, config.resume.seconds, begun)
        state = None if begun is None else _go_on(begun, source, ready, tally)
        analysis, done = ready.start(source, state, _borders(config, points, info), stop)
        # as if it had begun so much earlier
        started = perf_counter() - (0.0 if begun is None else begun.spent)
        clock = ready.clock
        stack.callback(done.close)
        try:
            for each in done:
                if isinstance(each, pipeline.Border):
                    with clock.time("encode"):
                        _end_part(each, outputs, points, tally, perf_counter() - started)
                    continue
                with clock.time("encode"):
                    outputs.write(each, may_copy=not source.damaged)
                tally.add(each)
                if tally.frames % _GIVE_BACK == 0:
                    give_back()
                if on_progress is not None:
                    on_progress(Progress(tally.frames, info.frames, perf_counter() - started, each))
            unused = () if masks is None or source.damaged else masks.left_over(tally.frames)
            with clock.time("encode"):
                outputs.sink.close()
        except CleanplateError as error:
            points.advise(error)
            raise
        told = tally.report(
            seconds={"wall": perf_counter() - began, **clock.seconds},
            engines=ready.networks.describe(),
            shots=analysis.cuts,
            streams_copied=outputs.sink.streams_copied,
            frames_copied=outputs.sink.frames_copied,
            warnings=(
                *info.warnings,
                *unseen,
                *ready.references.warnings,
                *source.warnings,
                *outputs.sink.warnings,
                *points.warnings,
                *unused,
            ),
            partial=source.damaged or bool(unused),
            references=(*ready.elsewhere.told(), *ready.references.refused),
        )
    if job.report is not None:
        told.write(job.report)
    return told


@dataclass(frozen=True)
class _Outputs:
    sink: Sink
    log: Log | None
    provenance: Provenance | None

    def write(self, filled: Filled, may_copy: bool) -> None:
        self.sink.write(filled, may_copy=may_copy)
        if self.provenance is not None:
            self.provenance.write(filled)
        if self.log is not None:
            self.log.write(filled)


def _open_outputs(
    stack: ExitStack, output: str | Path, info: SourceInfo, job: Job, begun: resume.Begun | None
) -> _Outputs:
    positions = {} if begun is None else begun.positions
    sink = open_sink(
        output,
        info,
        lossless=job.lossless,
        overwrite=job.overwrite,
        smart_copy=job.may_copy,
        begun=positions.get("output"),
    )
    stack.enter_context(sink)
    log = provenance = None
    if job.log is not None:
        log = stack.enter_context(open_log(job.log, 0 if begun is None else begun.log))
    if job.provenance is not None:
        place = positions.get("provenance")
        provenance = stack.enter_context(
            open_provenance(job.provenance, info, overwrite=job.overwrite, begun=place)
        )
    return _Outputs(sink, log, provenance)


def _end_part(
    border: pipeline.Border, outputs: _Outputs, points: resume.Checkpoints, tally: Tally, spent: float
) -> None:
    """End a part of every output, and when the state was saved there, make it a place to go on from."""
    kept = border.saved is not None
    positions = {"output": outputs.sink.end_part(resumable=kept)}
    if outputs.provenance is not None:
        positions["provenance"] = outputs.provenance.end_part(resumable=kept)
    if border.saved is not None:
        log = 0 if outputs.log is None else outputs.log.end_part()
        points.commit(border.saved, border.analysed, tally.state, tally.reached, spent, positions, log)


def _borders(config: Config, points: resume.Checkpoints, info: SourceInfo) -> pipeline.Borders | None:
    return None if info.kind == "image" else pipeline.Borders(config.resume.frames, points.save)


def _go_on(begun: resume.Begun, source: Source, ready: Rooms, tally: Tally) -> FillingState:
    """Bring everything to where the unfinished run ended, and return what it knew there."""
    state, counted = resume.read_state(begun)
    wanted: dict[int, Frame] = {}
    for frame in islice(source, begun.analysed):
        if ready.masks is not None:
            ready.masks.read(frame)
        if frame.index in state.frames:
            wanted[frame.index] = frame
    for _ in islice(ready.again or (), begun.frames):
        pass
    tally.restore(resume.load(counted, begun, {}))
    found: FillingState = resume.load(state, begun, wanted, ready.known)
    return found


def job_identity(input: str | Path, output: str | Path, job: Job, config: Config) -> dict[str, object]:
    """What must be the same for two runs to give the same output, by names that a user understands."""
    names = ("start", "end", "fps", "lossless", "deinterlace", "smart_copy")
    options: dict[str, object] = {name: getattr(job, name) for name in names}
    options["suffix of the output"] = Path(output).suffix.lower()
    for name, path in (("log", job.log), ("provenance", job.provenance)):
        options[name] = None if path is None else path.absolute()
    return resume.identity(
        input, job.masks, job.references, options, config.model_dump(mode="json"), version()
    )
