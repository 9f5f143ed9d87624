"""What a live run shows: one picture with all that is known of it, and how the run is doing."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from stream.overlay import away_picture
from stream.types import Filled, Image, Track, Verdict


@dataclass(frozen=True)
class Shown:
    """One picture as shown; `number` counts from 0, `time` is when it was taken, seconds since the first.

    `tracks` and `verdicts` are what was known of it; `latency_seconds` from its capture to here. `away`: the
    source has vanished, and this is the last picture, marked; its `filled` is of the last real one.
    """

    number: int
    filled: Filled
    time: Fraction
    latency_seconds: float
    away: bool = False
    away_seconds: float = 0.0

    @cached_property
    def image(self) -> Image:
        """The cleaned picture, uint8 H x W x 3 RGB."""
        clean = self.filled.frame.rgb
        return away_picture(clean, self.away_seconds) if self.away else clean

    @property
    def before(self) -> Image:
        """The picture as it came, uint8 H x W x 3 RGB."""
        return self.filled.before.rgb

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The things in it."""
        return self.filled.tracks

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What happens to each of them, and why."""
        return self.filled.verdicts


@dataclass(frozen=True)
class Status:
    """How a live run is doing; rates and latency (median) are of the last two seconds.

    `dropped`: pictures that came and were not shown since the beginning; `step`: what is given up for speed
    now, "full" = nothing; `recording`: the file, if there is one; `error`: why it `ended`, None at the end of
    a file or after `close`; `warnings`: what went wrong beside the pictures, in words.
    """

    frames_per_second: float
    latency_seconds: float
    dropped: int
    step: str
    recording: str | None
    source: str
    preset: str
    look_ahead: float
    remove: tuple[str, ...]
    keep: tuple[str, ...]
    away: bool
    ended: bool
    error: str | None
    warnings: tuple[str, ...] = ()
