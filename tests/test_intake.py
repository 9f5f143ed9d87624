"""Pictures that come faster than they are taken: the newest are kept, the others counted."""

from __future__ import annotations

import threading
from fractions import Fraction

import numpy as np

from stream.camera import Away, Captured
from stream.intake import Intake
from stream.ladder import STEPS, Meter


def pictures(count: int, late: bool = False) -> list[Captured]:
    image = np.zeros((2, 2, 3), np.uint8)
    return [Captured(Fraction(n, 30), n / 30, image, late=late) for n in range(count)]


def taken(intake: Intake) -> list[int]:
    """The numbers of all pictures that wait, in the order in which they are taken."""
    times = []
    while (each := intake.take(0)) is not None:
        times.append(round(each.time * 30))
    return times


def test_the_newest_pictures_wait_and_the_others_are_counted() -> None:
    intake = Intake(Meter(), STEPS[0])
    intake.read(pictures(10))
    assert intake.dropped == 7
    assert taken(intake) == [7, 8, 9]
    assert intake.empty


def test_the_more_is_given_up_the_fewer_wait() -> None:
    counts = []
    for step in STEPS:
        intake = Intake(Meter(), step)
        intake.read(pictures(12))
        waiting = taken(intake)
        assert waiting[-1] == 12 - step.shown
        assert intake.dropped + len(waiting) == 12
        counts.append(len(waiting))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1


def test_what_comes_late_is_never_shown() -> None:
    intake = Intake(Meter(), STEPS[0])
    intake.read(pictures(3, late=True))
    assert intake.dropped == 3
    assert intake.empty


def test_a_source_that_vanished_is_away_until_a_picture_comes() -> None:
    intake = Intake(Meter(), STEPS[0])
    intake.read([*pictures(1), Away("unplugged"), Away("still unplugged")])
    assert intake.away is not None
    assert intake.away[1] == "unplugged"
    back = Intake(Meter(), STEPS[0])
    back.read([Away("unplugged"), *pictures(1)])
    assert back.away is None


def test_who_waits_for_a_picture_gets_it_when_it_comes() -> None:
    intake = Intake(Meter(), STEPS[0])
    got: list[Captured | None] = []
    waiter = threading.Thread(target=lambda: got.append(intake.take(30)))
    waiter.start()
    intake.read(pictures(1))
    waiter.join(30)
    assert got[0] is not None


def test_nothing_comes_in_after_it_was_closed() -> None:
    intake = Intake(Meter(), STEPS[0])
    intake.close()
    intake.read(pictures(2))
    assert intake.empty
    assert intake.take(30) is None
