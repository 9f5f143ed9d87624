"""Tracker and judge together on small drawn stories: what was moved, what leaves, who stays, who hides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from test_judge import STREET, TOURIST, Table
from test_track import CONFIG, Thing, frame_at, instance, motion, perception

from stream import judge, track
from stream.types import Action, Instance, Verdict

GREY, RED, GREEN, BLUE = (90, 90, 90), (200, 40, 40), (40, 160, 60), (40, 60, 200)


def tell(
    frames: int,
    where: Callable[[int], Sequence[Thing]],
    *,
    seen: Callable[[int], Sequence[Instance]] | None = None,
    homography: np.ndarray | None = None,
    colours: Sequence[tuple[int, int, int]] = (),
) -> list[dict[int, tuple[float, Verdict]]]:
    """For each frame {track: (its middle, its verdict)} of the believed things."""
    following, judging = track.initial(), judge.initial()
    story = []
    for index in range(frames):
        things = where(index)
        found = [instance(each) for each in things] if seen is None else seen(index)
        frame = frame_at(index, things, colours)
        moved = motion(index, homography if index else None)
        tracks, following = track.step(following, perception(index, found), moved, frame, CONFIG)
        verdicts, judging = judge.step(judging, tracks, STREET, Table(), TOURIST, frame)
        known = {each.id: each for each in tracks if each.confirmed}
        story.append(
            {
                verdict.track: (sum(known[verdict.track].instance.box[::2]) / 2, verdict)
                for verdict in verdicts
                if verdict.track in known
            }
        )
    return story


def actions(story: Sequence[dict[int, tuple[float, Verdict]]], number: int) -> list[Action]:
    return [now[number][1].action for now in story if number in now]


def changes(of: Sequence[Action]) -> int:
    return sum(a != b for a, b in pairwise(of))


def number_at(now: dict[int, tuple[float, Verdict]], x: float) -> int:
    return min(now, key=lambda number: abs(now[number][0] - x))


def test_a_bag_put_down_goes_like_who_put_it_down() -> None:
    def where(i: int) -> list[Thing]:
        walker = min(30 + 2 * i, 110) if i < 70 else 110 + 2 * (i - 70)
        return [("person", walker, 100, 24, 70), ("handbag", min(36 + 2 * i, 116), 125, 12, 14)]

    story = tell(150, where, colours=[RED, GREY])
    bag = number_at(story[-1], 116)
    assert story[-1][bag][1].action == "remove"
    assert changes(actions(story, bag)) <= 1


def test_a_parked_car_that_drives_off_stays_all_the_time() -> None:
    story = tell(120, lambda i: [("car", 120 + max(0, i - 60) * 2, 130, 70, 34)])
    assert set(actions(story, 1)) == {"keep"}


def test_who_gets_up_and_leaves_changes_once() -> None:
    story = tell(150, lambda i: [("person", 225 + max(0, i - 75) * 1.2, 110, 14, 40)])
    told = actions(story, 1)
    assert told[70] == "keep"
    assert told[-1] == "remove"
    assert changes(told) == 1


def test_who_rests_aside_stays_while_another_passes() -> None:
    story = tell(
        100,
        lambda i: [("person", 50, 110, 18, 50), ("person", 330 - 3.4 * i, 115, 24, 70)],
        colours=[GREEN, RED],
    )
    assert set(actions(story, number_at(story[0] or story[1], 50))) == {"keep"}
    assert story[80][number_at(story[80], 58)][1].action in ("keep", "remove")
    assert story[60][number_at(story[60], 126)][1].action == "remove"


def test_whom_the_camera_follows_stays_with_the_child_and_others_go() -> None:
    pan = np.array([[1, 0, -2.0], [0, 1, 0], [0, 0, 1]])

    def where(i: int) -> list[Thing]:
        return [
            ("person", 150, 100, 34, 100),
            ("person", 186, 115, 22, 66),
            ("person", 330 - 4.5 * i, 90, 20, 60),
        ]

    story = tell(90, where, homography=pan, colours=[RED, GREEN, BLUE])
    assert story[-1][number_at(story[-1], 150)][1].action == "keep"
    assert story[-1][number_at(story[-1], 186)][1].action == "keep"
    assert story[28][number_at(story[28], 204)][1].action == "remove"


def test_hidden_by_a_wide_pole_it_comes_out_as_itself() -> None:
    pole = (150, 185)

    def where(i: int) -> list[Thing]:
        return [("person", 60 + 3 * i, 100, 26, 70)]

    def seen(i: int) -> list[Instance]:
        x = 60 + 3 * i
        parts = [(x - 13, min(x + 13, pole[0])), (max(x - 13, pole[1]), x + 13)]
        return [instance(("person", (a + b) / 2, 100, b - a, 70)) for a, b in parts if b - a > 3]

    story = tell(70, where, seen=seen)
    assert {number for now in story for number in now} == {1}


def test_who_stands_is_not_taken_along_by_who_passes_before_him() -> None:
    """One sighting covers both for a while, and then goes away with the passer."""

    def where(i: int) -> list[Thing]:
        return [("person", 160, 100, 40, 100), ("person", 20 + 4 * i, 110, 36, 120)]

    def seen(i: int) -> list[Instance]:
        subject, passer = (instance(each) for each in where(i))
        apart = abs(20 + 4 * i - 160)
        return [passer] if apart < 30 else [subject, passer]

    story = tell(80, where, seen=seen, colours=[GREEN, BLUE])
    before, after = number_at(story[10], 160), number_at(story[-1], 160)
    assert before == after
    assert number_at(story[20], 100) == number_at(story[55], 240)
    assert story[-1][after][1].action == "keep"


def test_colours_tell_two_apart_who_met_and_turned_back() -> None:
    """Seen as one while they meet; afterwards only their clothes say who is who."""

    def where(i: int) -> list[Thing]:
        way = 70 - abs(70 - 2 * i) if i < 70 else 0
        return [("person", 90 + way, 100, 24, 70), ("person", 230 - way, 100, 24, 70)]

    def seen(i: int) -> list[Instance]:
        left, right = (instance(each) for each in where(i))
        if left.box[2] < right.box[0]:
            return [left, right]
        box = (left.box[0], left.box[1], right.box[2], right.box[3])
        return [Instance("person", 0.9, box, left.mask | right.mask)]

    story = tell(70, where, seen=seen, colours=[RED, BLUE])
    assert number_at(story[5], 100) == number_at(story[-1], 92)
    assert number_at(story[5], 220) == number_at(story[-1], 228)
