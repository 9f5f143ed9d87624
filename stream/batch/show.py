"""Where a batch is, on the terminal: a live table, or a line each 10 s where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from stream.progress import LINE_SECONDS

if TYPE_CHECKING:
    from rich.console import Group

    from stream.batch.drive import Standing

_ROWS = 16
_ENDED = 4


@contextmanager
def show_standing(*, quiet: bool = False) -> Iterator[Callable[[Standing], None]]:
    """Yield a function that shows where the batch is, on stderr."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
            yield lambda standing: live.update(_picture(standing))
    else:
        yield _lines()


def _picture(standing: Standing) -> Group:
    from rich.console import Group
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name, side in (("clip", "left"), ("frames", "right"), ("fps", "right"), ("left", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    for outcome in standing.outcomes[-_ENDED:]:
        table.add_row(outcome.name, outcome.state, "", "")
    running = sorted(standing.running.items())
    for name, (frames, total, rate) in running[:_ROWS]:
        left = _clock((total - frames) / rate) if total and rate and total > frames else ""
        table.add_row(name, f"{frames} of {total}" if total else f"{frames}", f"{rate:.1f}", left)
    if len(running) > _ROWS:
        table.add_row(f"and {len(running) - _ROWS} more", "", "", "")
    return Group(headline(standing), table)


def headline(standing: Standing) -> str:
    """Clips done and failed, the rate, and the time left, in one line."""
    ended = len(standing.outcomes)
    failed = sum(each.state == "failed" for each in standing.outcomes)
    words = [f"{standing.stage}: {ended} of {standing.clips} clips"]
    words += [f"{failed} failed"] if failed else []
    left = _left(standing)
    words += [f"{_clock(left)} left"] if left is not None else []
    return ", ".join(words)


def _left(standing: Standing) -> float | None:
    """Seconds left, from the frames done a second so far."""
    frames = standing.frames
    if not frames or any(each is None for each in frames.values()):
        return None
    ended = {each.name for each in standing.outcomes}
    done = sum(frames[name] or 0 for name in ended if name in frames)
    done += sum(each[0] for each in standing.running.values())
    everything = sum(each or 0 for each in frames.values())
    spent = monotonic() - standing.began
    return None if done < 1 or spent < 5 else max(0.0, (everything - done) * spent / done)


def _lines() -> Callable[[Standing], None]:
    last = monotonic()

    def update(standing: Standing) -> None:
        nonlocal last
        if monotonic() - last < LINE_SECONDS:
            return
        last = monotonic()
        running = ", ".join(
            f"{name} {frames}" for name, (frames, _, _) in sorted(standing.running.items())[:4]
        )
        print(headline(standing) + (f"; at frame: {running}" if running else ""), file=sys.stderr)

    return update


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
