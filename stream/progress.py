"""Progress and summaries on the terminal: a bar where there is one, a plain line each 10 s otherwise."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.job import Progress
    from stream.report import ReferenceReport, Report, TrackReport

LINE_SECONDS = 10.0


@contextmanager
def show_progress(*, quiet: bool = False, doing: str = "cleaning") -> Iterator[Callable[[Progress], None]]:
    """Yield an `on_progress` that shows what is done, frames, frames per second and time left on stderr."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar(doing) as update:
            yield update
    else:
        yield _lines(doing)


@contextmanager
def _bar(doing: str) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} fps"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("preparing", total=None, rate=0.0)

        def update(progress: Progress) -> None:
            rate = progress.frames / progress.seconds if progress.seconds else 0.0
            bar.update(task, description=doing, completed=progress.frames, total=progress.total, rate=rate)

        yield update


def _lines(doing: str) -> Callable[[Progress], None]:
    last = monotonic()

    def update(progress: Progress) -> None:
        nonlocal last
        if monotonic() - last < LINE_SECONDS:
            return
        last = monotonic()
        of = f" of {progress.total}" if progress.total else ""
        rate = progress.frames / progress.seconds if progress.seconds else 0.0
        print(f"{doing}: {progress.frames}{of} frames, {rate:.1f} fps", file=sys.stderr)

    return update


_NAMED = 3
_GLIMPSE = 3
"""Frames below which nobody sees that a thing is there or not."""


def summary(report: Report, said: Sequence[str] = ()) -> list[str]:
    """What was done, in a few lines for a person; the warnings in `said` were shown already."""
    gone = [track for track in report.tracks if track.action == "remove"]
    kept = [track for track in report.tracks if track.action == "keep"]
    lines = [
        f"{report.output}: {report.frames} frames at {report.frames_per_second:.1f} fps; "
        f"removed {_count(gone)}, kept {_count(kept)}"
    ]
    changed = [
        track
        for track in report.tracks
        if min(track.frames_removed, track.frames - track.frames_removed) >= _GLIMPSE
    ]
    if changed:
        told = ", ".join(
            f"{track.label} {track.id} (gone in {track.frames_removed} of {track.frames} frames)"
            for track in changed[:_NAMED]
        )
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        lines.append(f"seen and removed by turns: {told}{more}")
    hole = report.hole
    if hole.mean_share > 0:
        references = f"{hole.reference_share:.0%} from references, " if report.references else ""
        lines.append(
            f"replaced {hole.mean_share:.1%} of the picture: {hole.seen_share:.0%} seen in other frames, "
            f"{references}{hole.inpainted_share:.0%} invented"
        )
    if report.frames_copied:
        lines.append(f"nothing went in {report.frames_copied} frames: they are the input's own packets")
    lines += [f"reference {each.file}: {_told(each)}" for each in report.references]
    lines += [f"warning: {text}" for text in report.warnings if text not in said]
    return lines


def _told(reference: ReferenceReport) -> str:
    if reference.used:
        return f"used for {reference.share:.0%} of what was replaced ({reference.reason})"
    return f"not used: {reference.reason}"


def _count(tracks: list[TrackReport]) -> str:
    labels = Counter(track.label for track in tracks)
    return ", ".join(f"{number} {label}" for label, number in labels.most_common()) or "nothing"
