"""One job from file to file: open, check, clean, write, report."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import perf_counter

from configs.schema import Config, load_config
from stream import judge, perceive, pipeline
from stream.errors import PartialError, UsageError
from stream.inpaint import open_inpaint
from stream.masks import MaskReader, open_masks
from stream.report import LogWriter, Report, TrackReport
from stream.sink import open_sink
from stream.source import Source, open_source
from stream.types import INVENTED, REFERENCE, SEEN, Filled, Frame, Verdict


@dataclass(frozen=True)
class Job:
    """What a run is told besides its configuration.

    `start` and `end` in seconds of the input; `fps` for folders of images; `masks` replaces the judge's hole, or
    with an `objects.json` only the segmentator; `log` and `provenance` are extra files to write.
    """

    masks: Path | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    fps: Fraction | None = None
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


OnProgress = Callable[[Progress], None]


def clean(
    input: str | Path,
    output: str | Path,
    config: Config | None = None,
    *,
    job: Job | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Clean a file, a folder of images or one image and return what was done.

    OUTPUT bears its name only when it is whole. Raises `InputError`, `OutputError`, `UsageError`,
    `EngineError`; a damaged input is cleaned up to the damage and reported in `Report.warnings`.
    """
    config = config or load_config()
    job = job or Job()
    began = perf_counter()
    clock = pipeline.Clock()
    tally = _Tally()
    with ExitStack() as stack:
        open_again = _opener(input, job)
        source = stack.enter_context(open_again())
        masks = stack.enter_context(open_masks(job.masks, source.info)) if job.masks else None
        judge.parse_rules((*config.judge.remove, *config.judge.keep))
        sink = stack.enter_context(
            open_sink(output, source.info, lossless=job.lossless, overwrite=job.overwrite, start=job.start, end=job.end)
        )
        log = stack.enter_context(LogWriter(job.log)) if job.log else None
        networks = perceive.open_networks(config, source.info.width, source.info.height)
        analysis = pipeline.Analysis(config, networks, judge.open_relation(config.judge), clock)
        again = None
        if _must_decode_twice(config, source):
            again = iter(stack.enter_context(open_again()))
        inpaint = open_inpaint(config) if config.fill.inpaint else None
        filling = pipeline.Filling(config, inpaint, clock, again)
        ready = perf_counter()
        frames = pipeline.run(source, _with_masks(analysis, masks), filling, clock)
        stack.callback(frames.close)
        for filled in frames:
            with clock.time("encode"):
                sink.write(filled)
            tally.add(filled)
            if log is not None:
                log.write(filled)
            if on_progress is not None:
                on_progress(Progress(tally.frames, source.info.frames, perf_counter() - ready, filled))
        if masks is not None:
            masks.check_finished(tally.frames)
        with clock.time("encode"):
            sink.close()
        warnings = (*source.info.warnings, *source.warnings, *sink.warnings)
        return tally.report(
            input, output, config, networks, analysis, clock, perf_counter() - began, warnings, sink.streams_copied
        )
