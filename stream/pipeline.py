"""The rooms in their order: analysis runs ahead, the fill follows `look_ahead` behind it.

    source -> shots -> perceive -> motion -> track -> judge  |  plate -> hole -> fill -> sink
              `Analysis`, perceiving several frames at once  |  `Filling.each`, as soon as a frame is ripe

Each half owns its state and is fed in order by one thread, and what a frame's networks see depends on that
frame alone, so a result never depends on how threads were scheduled. `run_ahead` and `at_once` are the only
places that start one.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2

from engines import available_threads, one_thread_each
from stream.analysis import Analysis, Plan, Seen, label_map
from stream.clock import Clock
from stream.errors import InterruptedRunError
from stream.filling import Filling, FillingState
from stream.types import Filled, Frame, Perception

__all__ = [
    "Analysis",
    "Border",
    "Borders",
    "Clock",
    "Filling",
    "Seen",
    "Steps",
    "at_once",
    "label_map",
    "run",
    "run_ahead",
]

T = TypeVar("T")
R = TypeVar("R")
_END = object()
_AT_ONCE = 2
"""Frames that are perceived at once: while the network computes with all threads, another is made ready."""


def run_ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Run `items` in a thread of its own, at most `depth` items ahead of whoever reads them.

    An exception of the producer is raised at the reader, in its place in the order. When the reader
    stops early the producer stops at its next item.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def offer(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
            offer(_END)
        except BaseException as error:
            offer(_Failure(error))
        finally:
            # a generator may have threads of its own, which must not be left to the garbage collector
            if isinstance(items, Generator):
                items.close()

    worker = threading.Thread(target=produce, name="cleanplate-ahead", daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        worker.join()


@dataclass(frozen=True)
class _Failure:
    error: BaseException


def at_once(items: Iterable[T], work: Callable[[T], R], count: int) -> Generator[tuple[T, R], None, None]:
    """Each item with what `work` makes of it, in the items' order, `count` at a time in threads of their own.

    Whoever reads may meanwhile work on the last. An exception is raised in its place in the order.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(count, "cleanplate-at-once") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > count:
                    first, done = waiting.popleft()
                    yield first, done.result()
            while waiting:
                first, done = waiting.popleft()
                yield first, done.result()
        finally:
            for _, each in waiting:
                each.cancel()


@dataclass(frozen=True)
class Border:
    """Between two frames, where a part of the output ends: `frames` were finished before it, `analysed` read.

    `saved`: what the caller's `save` gave back, None when nothing was saved here.
    """

    frames: int
    analysed: int
    saved: Path | None


@dataclass(frozen=True)
class Borders:
    """Where a run may be interrupted: about every `every` frames, with what `save` stores of the state there.

    `save` is called in the thread of the fill, while nothing changes; it may decline.
    """

    every: int
    save: Callable[[FillingState], Path | None]


@dataclass(frozen=True)
class Steps:
    """What is done with a frame until it can be filled: planned and followed in order, perceived at once."""

    plan: Callable[[Frame], Plan]
    perceive: Callable[[Plan], Perception | None]
    follow: Callable[[Plan, Perception | None], Seen]


def run(
    frames: Iterable[Frame],
    steps: Steps,
    filling: Filling,
    clock: Clock,
    *,
    depth: int = 4,
    borders: Borders | None = None,
    stop: Callable[[], bool] | None = None,
) -> Generator[Filled | Border, None, None]:
    """Clean `frames` with decoding, perceiving, following and filling each in threads of their own.

    Where the borders lie depends on the frames alone, never on time. Raises `InterruptedRunError` before the
    next frame once `stop` says so.
    """
    planned = run_ahead(map(steps.plan, clock.timed("decode", frames)), depth)
    seen = run_ahead(_followed(planned, steps), depth)
    filled = run_ahead(_filled(seen, filling, borders, stop), depth)
    with _spare_threads(), closing(filled):
        yield from filled


@contextmanager
def _spare_threads() -> Iterator[None]:
    """Give OpenCV the processors that analysis and fill leave; on two it would only wait for both.

    NumPy gets none besides those threads themselves.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(max(1, available_threads() - 2))
    try:
        with one_thread_each():
            yield
    finally:
        cv2.setNumThreads(before)


def _followed(planned: Generator[Plan, None, None], steps: Steps) -> Generator[Seen, None, None]:
    with closing(planned), closing(at_once(planned, steps.perceive, _AT_ONCE)) as perceived:
        for plan, perception in perceived:
            yield steps.follow(plan, perception)


def _filled(
    seen: Generator[Seen, None, None],
    filling: Filling,
    borders: Borders | None,
    stop: Callable[[], bool] | None,
) -> Generator[Filled | Border, None, None]:
    with closing(seen):
        yield from _each_filled(seen, filling, borders, stop)


def _each_filled(
    seen: Iterable[Seen], filling: Filling, borders: Borders | None, stop: Callable[[], bool] | None
) -> Iterator[Filled | Border]:
    last = filling.frames
    for each in seen:
        for done in filling.each(each):
            yield done
            _check(stop)
        _check(stop)
        if borders is not None and filling.frames - last >= borders.every:
            last = filling.frames
            state = filling.state
            yield Border(last, state.analysed, borders.save(state))
    for done in filling.rest():
        yield done
        _check(stop)


def _check(stop: Callable[[], bool] | None) -> None:
    if stop is not None and stop():
        raise InterruptedRunError("interrupted")
