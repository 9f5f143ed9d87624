"""One job from file to file: open, check, clean, write, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from time import perf_counter

from configs.schema import Config, load_config
from stream import judge, perceive, pipeline, resume
from stream.elsewhere import Elsewhere
from stream.errors import CleanplateError, UsageError
from stream.filling import FillingState
from stream.inpaint import open_inpaint
from stream.masks import MaskReader, open_masks
from stream.memory import give_back
from stream.references import References, find_references, read_references, things_of
from stream.report import Log, Provenance, Report, Tally, open_log, open_provenance, version
from stream.sink import Sink, check_outputs, open_sink
from stream.source import Source, SourceInfo, open_source
from stream.types import Filled, Frame

BYTES_PER_PIXEL = 4.5
"""What a waiting frame holds: 8-bit 4:2:0 planes and the RGB picture made of them."""


_GIVE_BACK = 50
"""Frames after which free memory goes back to the system."""


@dataclass(frozen=True)
class Job:
    """What a run is told besides its configuration.

    `start` and `end` in seconds of the input; `fps` for folders of images; `masks` replaces the judge's hole,
    or with an `objects.json` only the segmentator; `log`, `provenance` and `report` are extra files to
    write. `resume` goes on with an unfinished run of the same job, if there is one.
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
    log: Path | None = None
    provenance: Path | None = None
    report: Path | None = None


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
    if job.masks is None:
        perceive.check_reported(config)
    began = perf_counter()
    with ExitStack() as stack:
        source = stack.enter_context(
            open_source(input, start=job.start, end=job.end, fps=job.fps, deinterlace=job.deinterlace)
        )
        info = source.info
        files = find_references(job.references, info) if job.references else []
        masks = stack.enter_context(open_masks(job.masks, info)) if job.masks else None
        mine = _identity(input, output, job, config)
        begun = resume.find(output, mine) if job.resume else None
        outputs = _open_outputs(stack, output, info, job, begun)
        if on_start is not None:
            on_start(tuple(dict.fromkeys((*info.warnings, *outputs.sink.warnings))))
        networks = perceive.open_networks(config, info.width, info.height, info.rotation)
        things = things_of(networks, config, info)
        references = read_references(files, info, things) if files else References()
        known = (*(getattr(config, name) for name in type(config).model_fields), *references.pictures)
        points = resume.Checkpoints(Path(output), mine, known, config.resume.seconds, begun)
        tally = Tally(input=str(input), output=str(output), config=config, info=info)
        clock = pipeline.Clock()
        again = iter(stack.enter_context(source.reopen())) if _too_much_to_hold(config, source) else None
        state = None if begun is None else _go_on(begun, source, masks, again, tally, known)
        elsewhere = Elsewhere(config.plate.archive_mb << 20, references.pictures)
        analysis = pipeline.Analysis(
            config,
            networks,
            judge.open_relation(config.judge),
            clock,
            still=info.kind == "image",
            state=None if state is None else state.analysis,
        )
        filling = pipeline.Filling(config, open_inpaint(config), clock, again, elsewhere, state)

        def analyse(frame: Frame) -> pipeline.Seen:
            if masks is None:
                return analysis.push(frame)
            drawn = masks.read(frame)
            return analysis.push(frame, mask=drawn.mask, labels=drawn.labels)

        # as if it had begun so much earlier
        ready = perf_counter() - (0.0 if begun is None else begun.spent)
        borders = pipeline.Borders(config.resume.frames, points.save) if info.kind != "image" else None
        done = pipeline.run(source, analyse, filling, clock, borders=borders, stop=stop)
        stack.callback(done.close)
        try:
            for each in done:
                if isinstance(each, pipeline.Border):
                    with clock.time("encode"):
                        _end_part(each, outputs, points, tally, perf_counter() - ready)
                    continue
                with clock.time("encode"):
                    outputs.write(each)
                tally.add(each)
                if tally.frames % _GIVE_BACK == 0:
                    give_back()
                if on_progress is not None:
                    on_progress(Progress(tally.frames, info.frames, perf_counter() - ready, each))
            if masks is not None and not source.damaged:
                masks.finish(tally.frames)
            with clock.time("encode"):
                outputs.sink.close()
        except CleanplateError as error:
            points.advise(error)
            raise
        told = tally.report(
            seconds={"wall": perf_counter() - began, **clock.seconds},
            engines=networks.describe(),
            shots=analysis.cuts,
            streams_copied=outputs.sink.streams_copied,
            warnings=(
                *info.warnings,
                *references.warnings,
                *source.warnings,
                *outputs.sink.warnings,
                *points.warnings,
            ),
            partial=source.damaged,
            references=(*elsewhere.told(), *references.refused),
        )
    if job.report is not None:
        told.write(job.report)
    return told


@dataclass(frozen=True)
class _Outputs:
    sink: Sink
    log: Log | None
    provenance: Provenance | None

    def write(self, filled: Filled) -> None:
        self.sink.write(filled.frame)
        if self.provenance is not None:
            self.provenance.write(filled)
        if self.log is not None:
            self.log.write(filled)


def _open_outputs(
    stack: ExitStack, output: str | Path, info: SourceInfo, job: Job, begun: resume.Begun | None
) -> _Outputs:
    positions = {} if begun is None else begun.positions
    sink = open_sink(
        output, info, lossless=job.lossless, overwrite=job.overwrite, begun=positions.get("output")
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


def _go_on(
    begun: resume.Begun,
    source: Source,
    masks: MaskReader | None,
    again: Iterator[Frame] | None,
    tally: Tally,
    known: Sequence[object],
) -> FillingState:
    """Bring everything to where the unfinished run ended, and return what it knew there."""
    state, counted = resume.read_state(begun)
    wanted: dict[int, Frame] = {}
    for frame in islice(source, begun.analysed):
        if masks is not None:
            masks.read(frame)
        if frame.index in state.frames:
            wanted[frame.index] = frame
    for _ in islice(again or (), begun.frames):
        pass
    tally.restore(resume.load(counted, begun, {}))
    found: FillingState = resume.load(state, begun, wanted, known)
    return found


def _identity(input: str | Path, output: str | Path, job: Job, config: Config) -> dict[str, object]:
    names = ("start", "end", "fps", "lossless", "deinterlace")
    options: dict[str, object] = {name: getattr(job, name) for name in names}
    options["suffix of the output"] = Path(output).suffix.lower()
    for name, path in (("log", job.log), ("provenance", job.provenance)):
        options[name] = None if path is None else path.absolute()
    return resume.identity(
        input, job.masks, job.references, options, config.model_dump(mode="json"), version()
    )


def _too_much_to_hold(config: Config, source: Source) -> bool:
    """Whether the frames between analysis and fill would not fit half of the memory allowed."""
    info = source.info
    if info.kind == "image":
        return False
    wait = config.look_ahead_cap if config.look_ahead == "shot" else config.look_ahead
    frames = float(info.rate) * wait if info.rate else wait * 30
    if info.frames is not None:
        frames = min(frames, info.frames)
    return frames * info.width * info.height * BYTES_PER_PIXEL > config.memory_mb / 2 * 2**20
