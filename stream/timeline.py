"""What keeps a damaged or odd stream in order: time stamps that rise, and damage told once with its time."""

from __future__ import annotations

from fractions import Fraction

import av

_MOST_WARNINGS = 20


class Clock:
    """Time stamps that always rise: the stream's own where they do, repaired where they do not.

    `counted`: the container stores no presentation times (AVI), so the order in which pictures come out with
    the demuxer's frame count is all there is.
    """

    def __init__(
        self, time_base: Fraction, step: int, first: int, warnings: list[str], *, counted: bool = False
    ) -> None:
        self._time_base = time_base
        self._step = max(1, step)
        self._first = first
        self._warnings = warnings
        self._counted = counted
        self._shift: int | None = None
        self._last: int | None = None
        self._warned = False

    def stamp(self, picture: av.VideoFrame) -> int:
        """The picture's time stamp in the stream's time base, later than every one before it."""
        pts = picture.pts
        if pts is not None and picture.time_base is not None and picture.time_base != self._time_base:
            pts = round(pts * picture.time_base / self._time_base)
        if self._counted:
            pts = self._count(picture)
        if pts is None or (self._last is not None and pts <= self._last):
            state = "missing" if pts is None else "not rising"
            pts = self._first if self._last is None else self._last + self._step
            if not self._warned:
                self._warned = True
                at = float(pts * self._time_base)
                self._warnings.append(f"time stamps are {state} from {at:.2f} s on and were repaired")
        self._last = pts
        return pts

    def _count(self, picture: av.VideoFrame) -> int:
        if picture.dts is not None and self._shift is None:
            self._shift = self._first - picture.dts
        following = self._first if self._last is None else self._last + self._step
        # the decoder's last pictures come without a count
        return following if picture.dts is None else max(following, picture.dts + (self._shift or 0))


class Damage:
    """Collects what could not be decoded into one warning a stretch, with the time at which it began.

    `found`: whether there was any.
    """

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings
        self._at = 0.0
        self._count = 0
        self._told = 0
        self._reason = ""
        self.found = False

    def broken(self) -> None:
        """A packet could not be decoded."""
        self._count += 1

    def passed(self, picture: av.VideoFrame) -> None:
        """A picture came out, whole or with marks of damage."""
        if picture.is_corrupt:
            self._count += 1
        else:
            self._tell(picture.time)
        if picture.pts is not None:
            self._at = picture.time

    def stopped(self, reason: str) -> None:
        """Nothing more can be read from the file."""
        self._reason = reason

    def finished(self, expected: Fraction | None, reached: Fraction, slack: Fraction) -> None:
        """The end was reached, all in seconds; `expected`: where the headers said that it would be."""
        self._tell(None)
        if expected is not None and reached + slack < expected:
            self.found = True
            self._warnings.append(
                f"the video ends at {float(reached):.2f} s although its header says {float(expected):.2f} s:"
                " it is cut off or damaged"
            )
        elif self._reason:
            self.found = True
            self._warnings.append(f"reading stopped at {float(reached):.2f} s: {self._reason}")

    def _tell(self, until: float | None) -> None:
        if not self._count:
            return
        self._told += 1
        self.found = True
        if self._told <= _MOST_WARNINGS:
            upto = "on" if until is None else f"to {until:.2f} s"
            pictures = "1 picture" if self._count == 1 else f"{self._count} pictures"
            self._warnings.append(
                f"damaged from {self._at:.2f} s {upto}: {pictures} could not be decoded cleanly"
            )
        elif self._told == _MOST_WARNINGS + 1:
            self._warnings.append("more damage follows")
        self._count = 0
