"""A long clip in segments, each cleaned by itself, in parallel, and joined as if by one run.

A segment is read from some seconds before it to some after it, so that tracks, verdicts and the plate agree
across the seam. Its pictures are encoded into a journal of packets, and the journals in their order are what
an unfinished run of the whole would have left: container, sound and time stamps are made as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import numpy as np

from configs.schema import Config
from stream import pipeline, shots
from stream.assignment import best_pairs
from stream.errors import UsageError
from stream.job import Job, Progress
from stream.masks import open_masks
from stream.memory import give_back
from stream.references import find_references
from stream.report import Report, Tally
from stream.rooms import open_rooms
from stream.sink import Position, open_sink
from stream.source import Source, SourceInfo, open_source
from stream.types import Filled

Box = tuple[float, float, float, float]

LEAD_SECONDS = Fraction(8)
"""Read before a segment that begins inside a shot: verdicts rest on the last six seconds."""

_SEARCHED = Fraction(20)
"""A cut so near to where a segment should end ends it, and within a third of a segment."""

_SAME = 0.3
_GIVE_BACK = 50


@dataclass(frozen=True)
class Segment:
    """Pictures of an input with `start` <= time < `end`, seconds after its first; None: to its end.

    `lead`: seconds before `start` from which pictures are looked at, 0 where a shot begins with the segment.
    """

    number: int
    start: Fraction
    end: Fraction | None
    lead: Fraction


@dataclass(frozen=True)
class Thing:
    """A tracked thing in one picture."""

    id: int
    label: str
    action: str
    box: Box


@dataclass(frozen=True)
class Done:
    """What cleaning a segment gave: its packets are at `packets`, what was counted in `tally`.

    `first`, `last`: the things in its first and last picture. `seconds` by stage, `shots` when they began.
    """

    segment: Segment
    packets: Path
    position: Position
    tally: Tally
    first: tuple[Thing, ...]
    last: tuple[Thing, ...]
    shots: tuple[Fraction, ...]
    seconds: dict[str, float]
    engines: dict[str, dict[str, str]]
    warnings: tuple[str, ...]
    damaged: bool


def may_split(job: Job, output: Path) -> str:
    """Why a run cannot be made in segments, nothing when it can."""
    if job.masks is not None and not job.masks.is_file():
        return "its masks are images"
    if job.log is not None or job.provenance is not None:
        return "its log and provenance are written in one go"
    if not output.suffix:
        return "its output is a folder"
    return ""


def plan(input: str | Path, job: Job, every: Fraction) -> tuple[Segment, ...]:
    """Divide a clip into segments of about `every` seconds, at cuts where there is one near.

    One segment for what is not a video, or not longer than one and a half. Raises as `open_source` does.
    """
    with open_source(input, start=job.start, end=job.end, fps=job.fps) as source:
        info = source.info
    begin = job.start or Fraction(0)
    if info.kind != "video" or info.duration is None or info.duration < every * Fraction(3, 2):
        return (Segment(0, begin, job.end, Fraction(0)),)
    count = round(info.duration / every)
    step = info.duration / count
    borders: list[tuple[Fraction, Fraction]] = [(begin, Fraction(0))]
    for number in range(1, count):
        wanted = begin + number * step
        cut = _cut_near(input, wanted, min(_SEARCHED, step / 3))
        if cut is not None:
            borders.append((cut, Fraction(0)))
        else:
            borders.append((wanted, min(LEAD_SECONDS, wanted - begin)))
    ends = [start for start, _ in borders[1:]] + [job.end]
    return tuple(
        Segment(n, start, end, lead) for n, ((start, lead), end) in enumerate(zip(borders, ends, strict=True))
    )


def _cut_near(input: str | Path, wanted: Fraction, reach: Fraction) -> Fraction | None:
    """When the shot nearest to a time begins, seconds after the first picture; None when none is near."""
    low, high = max(Fraction(0), wanted - reach), wanted + reach
    cuts = []
    try:
        with open_source(input, start=low, end=high) as source:
            origin = source.info.first_pts * source.info.time_base
            state = shots.initial()
            for frame in source:
                begins, state = shots.step(state, frame)
                if begins:
                    cuts.append(frame.time - origin)
    except UsageError:
        return None  # what the header says of its length is not true
    return min(cuts, key=lambda each: abs(each - wanted), default=None)


def clean_segment(
    input: str | Path,
    output: Path,
    job: Job,
    config: Config,
    segment: Segment,
    packets: Path,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Done:
    """Clean one segment of what is to become `output`, and leave its pictures at `packets`.

    Raises as `stream.clean` does.
    """
    wait = Fraction(config.longest_wait).limit_denominator(1000)
    after = None if segment.end is None else segment.end + wait
    if job.end is not None:
        after = job.end if after is None else min(after, job.end)
    with ExitStack() as stack:
        whole = stack.enter_context(_open(input, job, job.start, job.end)).info
        first = segment.start - segment.lead
        source = stack.enter_context(_open(input, job, first or None, after))
        origin = source.info.first_pts * source.info.time_base
        files = find_references(job.references, source.info) if job.references else []
        masks = stack.enter_context(open_masks(job.masks, source.info)) if job.masks else None
        rooms = open_rooms(stack, source, config, masks, files)
        place = packets.with_name(f"{packets.stem}{output.suffix}")
        sink = open_sink(
            place, whole, lossless=job.lossless, overwrite=True, copy_streams=False, smart_copy=job.may_copy
        )
        stack.callback(sink.abandon)
        tally = Tally(input=str(input), output=str(output), config=config, info=whole)
        analysis, done = rooms.start(source)
        stack.callback(done.close)
        began = perf_counter()
        first_things: tuple[Thing, ...] = ()
        last: Filled | None = None
        count = None if segment.end is None else round((segment.end - segment.start) * whole.rate)
        for each in done:
            assert not isinstance(each, pipeline.Border)
            time = each.frame.time - origin
            if time < segment.start:
                continue
            if segment.end is not None and time >= segment.end:
                break
            with rooms.clock.time("encode"):
                sink.write(each, may_copy=not source.damaged)
            tally.add(each)
            first_things, last = (first_things if last else _things(each)), each
            if tally.frames % _GIVE_BACK == 0:
                give_back()
            if on_progress is not None:
                on_progress(Progress(tally.frames, count, perf_counter() - began, each))
        position = sink.give_packets(packets)
        cuts = tuple(
            each for each in analysis.cuts if segment.start <= each - origin < (segment.end or each + 1)
        )
        return Done(
            segment,
            packets,
            position,
            tally,
            first_things,
            () if last is None else _things(last),
            cuts,
            dict(rooms.clock.seconds),
            {name: dict(each) for name, each in rooms.networks.describe().items()},
            tuple(dict.fromkeys((*source.warnings, *rooms.references.warnings))),
            source.damaged,
        )


def join(
    input: str | Path, output: Path, job: Job, config: Config, parts: Sequence[Done], wall: float
) -> Report:
    """Make the output of the segments' pictures and of everything else in the input, and say what was done.

    `wall`: seconds that all of it took. Raises OutputError.
    """
    with _open(input, job, job.start, job.end) as source:
        whole = source.info
    packets = [each.packets for each in parts]
    with open_sink(
        output,
        whole,
        lossless=job.lossless,
        overwrite=job.overwrite,
        smart_copy=job.may_copy,
        packets=packets,
    ) as sink:
        sink.close()
    tally, differing = _counted(parts, input, output, config, whole)
    seconds: Counter[str] = Counter()
    for each in parts:
        seconds.update(each.seconds)
    told = [text for each in parts for text in each.warnings]
    report = tally.report(
        seconds={**seconds, "wall": wall},
        engines=parts[0].engines,
        shots=sorted({cut for each in parts for cut in each.shots}),
        streams_copied=sink.streams_copied,
        frames_copied=sum(each.position.copied for each in parts),
        warnings=tuple(dict.fromkeys((*whole.warnings, *told, *sink.warnings, *differing))),
        partial=any(each.damaged for each in parts),
    )
    if job.report is not None:
        report.write(job.report)
    return report


def _counted(
    parts: Sequence[Done], input: str | Path, output: Path, config: Config, whole: SourceInfo
) -> tuple[Tally, list[str]]:
    """What all segments counted, a thing at a seam once, and where its verdict changes there."""
    tally = Tally(input=str(input), output=str(output), config=config, info=whole)
    differing: list[str] = []
    names: dict[int, int] = {}
    for number, part in enumerate(parts):
        links = {} if number == 0 or not part.segment.lead else _same(parts[number - 1].last, part.first)
        for after, before in links.items():
            if before.action != after.action:
                at = float(part.segment.start)
                differing.append(
                    f"where two segments meet, at {at:.2f} s, a {after.label} changes from "
                    f"{before.action} to {after.action}"
                )
        names = tally.extend(part.tally, {a.id: names[b.id] for a, b in links.items() if b.id in names})
    return tally, differing


def _same(before: Sequence[Thing], after: Sequence[Thing]) -> dict[Thing, Thing]:
    """Which things of the first picture of a segment are which of the last one before it."""
    if not before or not after:
        return {}
    overlap = np.array([[_iou(a.box, b.box) * (a.label == b.label) for b in before] for a in after])
    return {after[i]: before[k] for i, k in best_pairs(overlap) if overlap[i, k] > _SAME}


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _things(filled: Filled) -> tuple[Thing, ...]:
    actions = {each.track: each.action for each in filled.verdicts}
    return tuple(
        Thing(each.id, each.label, actions[each.id], each.instance.box)
        for each in filled.tracks
        if each.id in actions
    )


def _open(input: str | Path, job: Job, start: Fraction | None, end: Fraction | None) -> Source:
    return open_source(input, start=start, end=end, fps=job.fps, deinterlace=job.deinterlace)
