"""A walker is there before it is found, and not after it has gone."""

from __future__ import annotations

import pytest
from test_track import HEIGHT, RATE, WIDTH, follow, instance, motion

from stream.hindsight import Moment, with_hindsight
from stream.types import Instance, Track


def moments(history: list[tuple[Track, ...]]) -> list[Moment]:
    return [Moment(i, i / RATE, tracks, motion(i)) for i, tracks in enumerate(history)]


def walk(i: int) -> list[tuple[str, float, float, float, float]]:
    return [("person", -12 + 4 * i, 100, 30, 80)]


def test_it_is_there_before_it_is_found() -> None:
    def seen(i: int) -> list[Instance]:
        return [instance(each) for each in walk(i)] if i >= 8 else []

    told = moments(follow(40, walk, seen=seen))
    for index in (4, 6, 7):
        (early,) = with_hindsight(told[index], told[index + 1 :], WIDTH, HEIGHT)
        assert early.id == 1
        assert early.missed
        truth = instance(walk(index)[0]).mask
        assert (early.instance.mask & truth).sum() > 0.7 * truth.sum()
        assert early.instance.box[2] == pytest.approx(-12 + 4 * index + 15, abs=4)
    assert with_hindsight(told[0], told[1:], WIDTH, HEIGHT) == ()
    assert with_hindsight(told[7], [], WIDTH, HEIGHT) == ()


def test_it_is_not_carried_long_after_it_has_gone() -> None:
    def seen(i: int) -> list[Instance]:
        return [instance(("person", 160, 100, 30, 80))] if i < 40 else []

    told = moments(follow(60, walk, seen=seen))
    assert told[50].tracks
    assert with_hindsight(told[43], told[44:], WIDTH, HEIGHT)
    assert not with_hindsight(told[50], told[51:], WIDTH, HEIGHT)


def test_a_gap_stays_filled() -> None:
    def seen(i: int) -> list[Instance]:
        return [] if 30 <= i < 42 else [instance(("person", 160, 100, 30, 80))]

    told = moments(follow(60, lambda _: [("person", 160, 100, 30, 80)], seen=seen))
    assert with_hindsight(told[40], told[41:], WIDTH, HEIGHT) == told[40].tracks != ()
