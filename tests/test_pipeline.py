"""Stages run ahead of each other, in order, and stop when they are told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stream.pipeline import run_ahead


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
