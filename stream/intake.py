"""What waits to be analysed while a source runs: the newest picture wins, and what is dropped is counted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

from stream.camera import Away, Captured
from stream.ladder import Meter, Step


class Intake:
    """The few pictures that came and have not been taken; one thread reads into it, another takes.

    `step`: what is given up for speed now, which says how many may wait. `dropped`: how many came and were
    not taken. `away`: since when (`time.monotonic()`) the source has vanished, and why; None while it runs.
    """

    def __init__(self, meter: Meter, step: Step) -> None:
        self.step = step
        self.dropped = 0
        self.away: tuple[float, str] | None = None
        self._meter = meter
        self._waiting: deque[Captured] = deque()
        self._changed = threading.Condition()
        self._over = False

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing will come any more."""
        with self._changed:
            return self._over and not self._waiting

    def read(self, captured: Iterable[Captured | Away]) -> None:
        """Take in all that comes, until the source ends or the intake is closed."""
        for count, each in enumerate(captured):
            with self._changed:
                if self._over:
                    return
                self._came(each, count)
                self._changed.notify_all()
        self.close()

    def put(self, each: Captured) -> None:
        """Let one picture wait, whatever else does."""
        with self._changed:
            self._waiting.append(each)

    def take(self, timeout: float) -> Captured | None:
        """The picture that has waited longest; None when there is none for `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._over, timeout)
            return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Nothing comes in any more; what waits can still be taken."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _came(self, each: Captured | Away, count: int) -> None:
        if isinstance(each, Away):
            if self.away is None:
                self.away = (time.monotonic(), each.why)
            return
        self.away = None
        self._meter.came(each.at)
        if count % self.step.shown:
            # left out on purpose, which is no sign of a load
            self.dropped += 1
            return
        if not each.late:
            self._waiting.append(each)
        lost = int(each.late)
        while len(self._waiting) > self.step.waiting:
            self._waiting.popleft()
            lost += 1
        for _ in range(lost):
            self.dropped += 1
            self._meter.dropped()
