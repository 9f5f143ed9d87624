"""Where the time of a run goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")
_END = object()


class Clock:
    """Seconds spent in each stage, added up over a run and over the threads that do the same."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to `stage`."""
        began = perf_counter()
        try:
            yield
        finally:
            spent = perf_counter() - began
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass `items` on, adding the time it takes to get each of them."""
        source = iter(items)
        while True:
            with self.time(stage):
                item = next(source, _END)
            if item is _END:
                return
            yield item  # type: ignore[misc]
