"""One job from file to file: open, check, clean, write, report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter

from configs.schema import Config, load_config
from stream import judge, perceive, pipeline
from stream.elsewhere import Elsewhere
from stream.errors import UsageError
from stream.inpaint import open_inpaint
from stream.masks import open_masks
from stream.references import References, find_references, read_references, things_of
from stream.report import Report, Tally, open_log, open_provenance
from stream.sink import open_sink
from stream.source import Source, open_source
from stream.types import Filled, Frame

BYTES_PER_PIXEL = 4.5
"""What a waiting frame holds: 8-bit 4:2:0 planes and the RGB picture made of them."""


@dataclass(frozen=True)
class Job:
    """What a run is told besides its configuration.

    `start` and `end` in seconds of the input; `fps` for folders of images; `masks` replaces the judge's hole,
    or with an `objects.json` only the segmentator; `log` and `provenance` are extra files to write.
    """

    masks: Path | None = None
    references: Path | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    fps: Fraction = Fraction(25)
    lossless: bool = False
    deinterlace: bool = False
    overwrite: bool = False
    log: Path | None = None
    provenance: Path | None = None


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
) -> Report:
    """Clean a file, a folder of images or one image and return what was done.

    `on_start` gets, before the first frame, what the output will not keep, in words.
    OUTPUT bears its name only when it is whole. Raises `InputError`, `OutputError`, `UsageError`,
    `EngineError`; a damaged input is cleaned up to the damage, which `Report.warnings` names.
    """
    config = config or load_config()
    job = job or Job()
    judge.check(config.judge)
    if config.engine.name == "none" and job.masks is None:
        raise UsageError(
            "the engine none runs no network, so nothing says what is to go",
            hint="--masks FOLDER or VIDEO says it, or choose another --engine",
        )
    began = perf_counter()
    clock = pipeline.Clock()
    with ExitStack() as stack:
        source = stack.enter_context(
            open_source(input, start=job.start, end=job.end, fps=job.fps, deinterlace=job.deinterlace)
        )
        info = source.info
        files = find_references(job.references, info) if job.references else []
        masks = stack.enter_context(open_masks(job.masks, info)) if job.masks else None
        sink = stack.enter_context(open_sink(output, info, lossless=job.lossless, overwrite=job.overwrite))
        if on_start is not None:
            on_start(tuple(dict.fromkeys((*info.warnings, *sink.warnings))))
        log = stack.enter_context(open_log(job.log)) if job.log else None
        provenance = (
            stack.enter_context(open_provenance(job.provenance, info, overwrite=job.overwrite))
            if job.provenance
            else None
        )
        networks = perceive.open_networks(config, info.width, info.height, info.rotation)
        things = things_of(networks, config, info)
        references = read_references(files, info, things) if files else References()
        elsewhere = Elsewhere(config.plate.archive_mb << 20, references.pictures)
        relation = judge.open_relation(config.judge)
        analysis = pipeline.Analysis(config, networks, relation, clock, still=info.kind == "image")
        inpaint = open_inpaint(config)
        again = iter(stack.enter_context(source.reopen())) if _too_much_to_hold(config, source) else None
        tally = Tally(input=str(input), output=str(output), config=config, info=info)

        def analyse(frame: Frame) -> pipeline.Seen:
            if masks is None:
                return analysis.push(frame)
            drawn = masks.read(frame)
            return analysis.push(frame, mask=drawn.mask, labels=drawn.labels)

        ready = perf_counter()
        filling = pipeline.Filling(config, inpaint, clock, again, elsewhere)
        cleaned = pipeline.run(source, analyse, filling, clock)
        stack.callback(cleaned.close)
        for filled in cleaned:
            with clock.time("encode"):
                sink.write(filled.frame)
                if provenance is not None:
                    provenance.write(filled)
            if log is not None:
                log.write(filled)
            tally.add(filled)
            if on_progress is not None:
                on_progress(Progress(tally.frames, info.frames, perf_counter() - ready, filled))
        if masks is not None:
            masks.finish(tally.frames)
        with clock.time("encode"):
            sink.close()
        return tally.report(
            seconds={"wall": perf_counter() - began, **clock.seconds},
            engines=networks.describe(),
            shots=analysis.cuts,
            streams_copied=sink.streams_copied,
            warnings=(*info.warnings, *references.warnings, *source.warnings, *sink.warnings),
            partial=source.damaged,
            references=(*elsewhere.told(), *references.refused),
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
