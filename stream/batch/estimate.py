"""How long a batch will take, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from engines.threads import available_threads
from stream.batch import work
from stream.batch.drive import Place, default_workers
from stream.batch.outcomes import Outcome
from stream.batch.plan import Clip
from stream.errors import CleanplateError

FIRST_GUESS = 2.5e6
"""Pixels a core cleans in a second with the tourist preset; what was done here before says better."""

_FIXED = 3.0
"""Seconds of a clip for opening, networks and closing."""


def expected(clips: Sequence[Clip], earlier: Sequence[Outcome], place: Place) -> tuple[list[str], float]:
    """A line for each clip, and the seconds that all of them will take on workers of this machine."""
    rates = [
        each.report["frames"] * each.pixels / max(each.seconds - _FIXED, 0.1)
        for each in earlier
        if each.report is not None and each.pixels
    ]
    cores = available_threads()
    workers = place.workers or default_workers(cores)
    rate = median(rates) if rates else FIRST_GUESS * max(1, cores // workers)
    lines, seconds, longest = [], 0.0, 0.0
    for clip in clips:
        try:
            seen = work.look(clip, None)
        except CleanplateError as error:
            lines.append(f"{clip.input}: will fail: {error}")
            continue
        frames = seen.frames or 0
        own = _FIXED + frames * seen.width * seen.height / rate
        seconds, longest = seconds + own, max(longest, own)
        size = f"{seen.width}x{seen.height}, {frames} frames" if frames else f"{seen.width}x{seen.height}"
        lines.append(f"{clip.input} -> {clip.output}: {size}, {in_words(own)}")
    return lines, max(seconds / workers, longest)


def in_words(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
