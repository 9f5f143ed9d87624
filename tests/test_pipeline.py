"""Stages run ahead of each other, in order, and stop when they are told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from walks import cheap, make_masks, make_walk

import stream
from stream.errors import InterruptedRunError
from stream.pipeline import at_once, run_ahead


def test_items_arrive_in_order() -> None:
    assert list(run_ahead(range(100), depth=3)) == list(range(100))


def test_a_failure_reaches_the_reader_after_what_came_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    items = run_ahead(failing(), depth=2)
    assert next(items) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(items)


def test_a_reader_who_leaves_stops_the_producer() -> None:
    made = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            made.append(number)
            yield number
            number += 1

    before = threading.active_count()
    items = run_ahead(endless(), depth=2)
    assert next(items) == 0
    items.close()
    assert threading.active_count() == before
    assert len(made) < 10


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("walk")
    return make_walk(folder / "walk.mp4", 20), make_masks(folder / "masks", 20)


@pytest.mark.parametrize("room", ["stream.source.Source.__next__", "stream.track.step", "stream.fill.fill"])
def test_a_failure_in_any_room_reaches_the_caller_and_every_thread_ends(
    walk: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    before = threading.active_count()
    calls = 0

    def fail(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        raise MemoryError("no room left")

    monkeypatch.setattr(room, fail)
    # the exception is held here, and its traceback with it: threads must not depend on its being let go
    with pytest.raises(MemoryError, match="no room left") as caught:
        stream.clean(walk[0], tmp_path / "out.mp4", cheap(), job=stream.Job(masks=walk[1]))
    assert calls == 1 and caught.value is not None
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_stopped_leaves_no_thread(walk: tuple[Path, Path], tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(InterruptedRunError) as caught:
        stream.clean(walk[0], tmp_path / "out.mp4", cheap(), job=stream.Job(masks=walk[1]), stop=lambda: True)
    assert caught.value.exit_code == 130
    assert threading.active_count() == before


def test_items_worked_on_at_once_come_in_their_order() -> None:
    def slow_when_even(number: int) -> int:
        time.sleep(0.02 if number % 2 == 0 else 0)
        return number * number

    assert list(at_once(range(9), slow_when_even, 3)) == [(k, k * k) for k in range(9)]


def test_an_error_of_one_of_several_is_raised_in_its_place() -> None:
    def picky(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    done = at_once(range(6), picky, 2)
    assert [next(done), next(done)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="two"):
        next(done)


def test_whoever_stops_early_leaves_no_thread_behind() -> None:
    done = at_once(range(1000), lambda number: number, 2)
    assert next(done) == (0, 0)
    done.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("cleanplate-at-once")]
