"""Things drawn as rectangles and followed: ids, gaps, crossings, poles, camera motion, speed, subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from configs.schema import Track as TrackConfig
from stream import track
from stream.types import Frame, Instance, Motion, Perception, Track

WIDTH, HEIGHT, RATE = 320, 180, 25
WORKING = (90, 160)
CONFIG = TrackConfig(start=0.4)
COLOURS = {"person": (200, 40, 40), "car": (40, 60, 200), "dog": (90, 60, 20)}

Thing = tuple[str, float, float, float, float]
"""Label, centre x and y, width, height in frame pixels."""


def frame_at(index: int, things: Sequence[Thing] = (), colours: Sequence[tuple[int, int, int]] = ()) -> Frame:
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    picture[::7, ::5] = 90
    for number, (label, x, y, wide, high) in enumerate(things):
        x0, x1 = max(0, round(x - wide / 2)), max(0, round(x + wide / 2))
        y0, y1 = max(0, round(y - high / 2)), max(0, round(y + high / 2))
        picture[y0:y1, x0:x1] = colours[number] if colours else COLOURS[label]
    return Frame(index, index, Fraction(1, RATE), (picture,), "rgb24", WIDTH, HEIGHT)


def instance(thing: Thing, score: float = 0.9, identity: int = 0) -> Instance:
    label, x, y, wide, high = thing
    box = (
        max(0.0, x - wide / 2),
        max(0.0, y - high / 2),
        min(float(WIDTH), x + wide / 2),
        min(float(HEIGHT), y + high / 2),
    )
    mask = np.zeros(WORKING, bool)
    scale = WORKING[1] / WIDTH
    mask[round(box[1] * scale) : round(box[3] * scale), round(box[0] * scale) : round(box[2] * scale)] = True
    return Instance(label, score, box, mask, identity)


def perception(index: int, instances: Sequence[Instance]) -> Perception:
    shown = tuple(each for each in instances if each.mask.any())
    return Perception(index, np.zeros(WORKING, np.uint8), shown, np.zeros(0, np.float32))


def motion(index: int, homography: np.ndarray | None = None) -> Motion:
    maps = (np.eye(3) if homography is None else homography,)
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    return Motion(index, maps, *none, static=homography is None, confidence=1.0)


def follow(
    frames: int,
    where: Callable[[int], Sequence[Thing]],
    *,
    seen: Callable[[int], Sequence[Instance] | None] | None = None,
    homography: np.ndarray | None = None,
    colours: Sequence[tuple[int, int, int]] = (),
    config: TrackConfig = CONFIG,
) -> list[tuple[Track, ...]]:
    """Run the tracker over `frames` drawn frames; `seen` replaces the perfect detector."""
    state = track.initial()
    history = []
    for index in range(frames):
        things = where(index)
        found = [instance(each) for each in things] if seen is None else seen(index)
        looked = None if found is None else perception(index, found)
        moved = motion(index, homography if index else None)
        tracks, state = track.step(state, looked, moved, frame_at(index, things, colours), config)
        history.append(tracks)
    return history


def ids(tracks: Sequence[Track]) -> set[int]:
    return {each.id for each in tracks}


def nearest(tracks: Sequence[Track], x: float) -> Track:
    return min(tracks, key=lambda each: abs((each.instance.box[0] + each.instance.box[2]) / 2 - x))


def test_one_walker_is_one_track() -> None:
    history = follow(50, lambda i: [("person", 40 + 4 * i, 100, 24, 70)])
    assert {number for tracks in history for number in ids(tracks)} == {1}
    last = history[-1][0]
    assert last.hits == 50
    assert last.confirmed
    assert not history[0][0].confirmed
    assert last.speed == pytest.approx(4 * RATE / WIDTH, rel=0.15)
    assert last.travel > 1.5


def test_an_unsure_arm_goes_along_and_lasts_when_it_or_its_person_is_missed_for_a_frame() -> None:
    def seen(i: int) -> list[Instance]:
        found = instance(("person", 60 + 4 * i, 100, 24, 70))
        arm = np.zeros(WORKING, bool)
        if i != 20:
            arm[40:42, 36 + 2 * i : 42 + 2 * i] = True
        return [] if i == 25 else [replace(found, fringe=arm)]

    history = follow(30, lambda i: [("person", 60 + 4 * i, 100, 24, 70)], seen=seen)
    for i in (15, 20, 25):
        (one,) = history[i]
        assert one.instance.fringe is not None
        assert one.instance.fringe[40:42, 37 + 2 * i : 41 + 2 * i].all()
        assert not (one.instance.fringe & one.instance.mask).any()


def test_crossing_people_keep_their_ids() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", 40 + 4 * i, 100, 26, 80), ("person", 280 - 4 * i, 100, 26, 80)]

    def seen(i: int) -> list[Instance]:
        left, right = where(i)
        if abs(left[1] - right[1]) < 22:  # the one behind is not seen
            return [instance(left)]
        return [instance(left), instance(right)]

    history = follow(60, where, seen=seen, colours=[(200, 40, 40), (40, 160, 60)])
    before, after = history[10], history[-1]
    assert nearest(before, 80).id == nearest(after, 276).id
    assert nearest(before, 240).id == nearest(after, 44).id
    assert len(ids(after)) == 2


def test_a_gap_of_five_frames_keeps_the_id_and_fills_it() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", 60 + 3 * i, 100, 24, 70)]

    history = follow(40, where, seen=lambda i: [] if 15 <= i < 20 else [instance(each) for each in where(i)])
    assert {number for tracks in history for number in ids(tracks)} == {1}
    carried = history[19][0]
    assert carried.missed
    x0, _, x1, _ = carried.instance.box
    assert (x0 + x1) / 2 == pytest.approx(60 + 3 * 19, abs=6)
    truth = instance(where(19)[0]).mask
    assert (carried.instance.mask & truth).sum() > 0.7 * truth.sum()


def test_a_thing_that_left_is_given_up_after_its_patience() -> None:
    patient = TrackConfig(patience_seconds=0.4)
    history = follow(
        40,
        lambda i: [("person", 160, 100, 24, 70)] if i < 24 else [],
        config=patient,
    )
    assert history[24 + 8]
    assert not history[24 + 12]


def test_found_again_behind_a_wall_it_has_its_old_id() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", 40 + 3 * i, 100, 24, 70)]

    history = follow(75, where, seen=lambda i: [] if 25 <= i < 55 else [instance(each) for each in where(i)])
    assert ids(history[-1]) == {1}
    assert not history[50]


def test_unsure_sightings_extend_a_track_but_start_none() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", 60 + 2 * i, 100, 24, 70), ("dog", 250, 130, 30, 30)]

    def seen(i: int) -> list[Instance]:
        walker, dog = where(i)
        return [instance(walker, 0.9 if i < 5 else 0.25), instance(dog, 0.25)]

    history = follow(30, where, seen=seen)
    assert {each.label for tracks in history for each in tracks} == {"person"}
    assert history[-1][0].hits == 30


def test_a_flickering_label_breaks_no_track() -> None:
    def seen(i: int) -> list[Instance]:
        return [instance(("truck" if i % 3 == 1 else "car", 60 + 3 * i, 100, 60, 40))]

    history = follow(40, lambda i: [("car", 60 + 3 * i, 100, 60, 40)], seen=seen)
    assert {number for tracks in history for number in ids(tracks)} == {1}
    assert history[-1][0].label == "car"


def test_a_pole_does_not_make_two_of_one() -> None:
    pole = (150, 162)

    def seen(i: int) -> list[Instance]:
        x = 100 + 3 * i
        x0, x1 = x - 20, x + 20
        parts = [(x0, min(x1, pole[0])), (max(x0, pole[1]), x1)]
        return [instance(("person", (a + b) / 2, 100, b - a, 80)) for a, b in parts if b - a >= 8]

    history = follow(40, lambda i: [("person", 100 + 3 * i, 100, 40, 80)], seen=seen)
    assert {number for tracks in history for number in ids(tracks)} == {1}


def test_a_sliver_does_not_move_what_it_is_of() -> None:
    where = [("person", 160, 100, 40, 120)]
    sliver = ("person", 146, 48, 10, 12)

    def seen(i: int) -> list[Instance]:
        return [instance(sliver if 25 <= i < 30 else where[0])]

    history = follow(40, lambda _: where, seen=seen)
    for tracks in history[25:]:
        [track_now] = tracks
        assert track_now.id == history[0][0].id
        x0, y0, x1, y1 = track_now.instance.box
        assert (x1 - x0, y1 - y0) == pytest.approx((40, 120), abs=4)


def test_two_seen_as_one_stay_two() -> None:
    def where(i: int) -> list[Thing]:
        gap = max(18, 80 - 3 * i)
        return [("person", 160 - gap / 2, 100, 20, 70), ("person", 160 + gap / 2, 100, 20, 70)]

    def seen(i: int) -> list[Instance]:
        left, right = (instance(each) for each in where(i))
        if 21 <= i < 30:
            box = (left.box[0], left.box[1], right.box[2], right.box[3])
            return [Instance("person", 0.9, box, left.mask | right.mask)]
        return [left, right]

    history = follow(40, where, seen=seen, colours=[(200, 40, 40), (40, 160, 60)])
    assert all(len(ids(tracks)) == 2 for tracks in history)
    first, second = (each.instance.mask for each in history[25])
    assert (first & second).sum() < 0.3 * first.sum()


def test_three_seen_as_one_stay_three_and_none_has_more_than_its_part() -> None:
    def where(i: int) -> list[Thing]:
        gap = max(21, 80 - 3 * i)
        return [("person", 160 + side * gap, 100, 20, 70) for side in (-1, 0, 1)]

    def seen(i: int) -> list[Instance]:
        each = [instance(thing) for thing in where(i)]
        if 36 <= i < 46:
            box = (each[0].box[0], each[0].box[1], each[2].box[2], each[2].box[3])
            return [Instance("person", 0.9, box, each[0].mask | each[1].mask | each[2].mask)]
        return each

    history = follow(50, where, seen=seen, colours=[(200, 40, 40), (40, 160, 60), (60, 60, 200)])
    assert all(len(ids(tracks)) == 3 for tracks in history)
    for index in range(37, 46):
        masks = [nearest(history[index], thing[1]).instance.mask for thing in where(index)]
        for mask, thing in zip(masks, where(index), strict=True):
            truth = instance(thing).mask
            assert (mask & truth).sum() > 0.7 * (mask | truth).sum()


def test_who_is_passed_right_before_the_camera_takes_nothing_of_the_one_in_front() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", 160, 100, 20, 60), ("person", 40 + 6 * i, 110, 60, 160)]

    def seen(i: int) -> list[Instance]:
        behind, before = (instance(each) for each in where(i))
        if abs(where(i)[0][1] - where(i)[1][1]) < 20:  # seen as one, and the outline bulges
            wide = ("person", where(i)[1][1], 110, 84, 160)
            return [instance(wide)]
        return [behind, before]

    history = follow(40, where, seen=seen, colours=[(200, 40, 40), (40, 160, 60)])
    before = {nearest(tracks, where(i)[1][1]).id for i, tracks in enumerate(history) if i in (5, 39)}
    assert len(before) == 1
    for index in range(17, 23):
        front = next(each for each in history[index] if each.id in before)
        truth = instance(where(index)[1]).mask
        assert (front.instance.mask & truth).sum() > 0.9 * truth.sum()


def test_the_camera_moves_and_what_stands_has_no_speed() -> None:
    shift = np.array([[1.0, 0, -3.0], [0, 1, 0.5], [0, 0, 1]])
    history = follow(30, lambda i: [("person", 250 - 3 * i, 80 + 0.5 * i, 24, 70)], homography=shift)
    assert history[-1][0].speed < 0.01
    assert history[-1][0].travel < 0.1


def test_who_waves_does_not_travel() -> None:
    def where(i: int) -> list[Thing]:
        arm = 12 if (i // 5) % 2 else 0
        return [("person", 160 + arm / 2, 100, 26 + arm, 80)]

    history = follow(60, where)
    assert history[-1][0].travel < 0.1


def test_what_stands_has_not_got_about_though_others_hide_now_this_part_of_it_now_that() -> None:
    def seen(i: int) -> list[Instance]:
        hidden = 2.0 * (i % 60) - 20  # somebody 40 pixels wide walks past again and again
        low, high = (120.0, min(200.0, max(120.0, hidden))), (min(200.0, max(120.0, hidden + 40)), 200.0)
        left, right = max((low, high), key=lambda part: part[1] - part[0])
        return [instance(("car", (left + right) / 2, 100, right - left, 40))]

    history = follow(150, lambda _: [("car", 160, 100, 80, 40)], seen=seen)
    assert history[-1][0].age > 5
    assert history[-1][0].ranged < 0.1
    assert follow(50, lambda i: [("car", 60 + 3 * i, 100, 80, 40)])[-1][0].ranged > 0.5


def test_a_missed_leg_is_filled_from_the_moment_before() -> None:
    whole = instance(("person", 160, 100, 24, 80))
    cut = whole.mask.copy()
    cut[60:] = False
    history = follow(
        12,
        lambda _: [("person", 160, 100, 24, 80)],
        seen=lambda i: [Instance("person", 0.9, whole.box, cut if i == 10 else whole.mask)],
    )
    assert (history[10][0].instance.mask == whole.mask).all()


def test_frames_nobody_looked_at_are_carried_along() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", 60 + 2 * i, 100, 30, 70)]

    history = follow(40, where, seen=lambda i: [instance(each) for each in where(i)] if i % 4 == 0 else None)
    assert {number for tracks in history for number in ids(tracks)} == {1}
    box = history[-1][0].instance.box
    assert (box[0] + box[2]) / 2 == pytest.approx(60 + 2 * 39, abs=5)
    assert not history[-1][0].missed


def test_the_users_ids_are_final() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", 40 + 4 * i, 100, 26, 80), ("person", 280 - 4 * i, 100, 26, 80)]

    def seen(i: int) -> list[Instance]:
        first, second = where(i)
        return [instance(first, identity=7), instance(second, identity=3)] if i != 20 else []

    history = follow(50, where, seen=seen)
    assert history[20] == ()
    assert ids(history[-1]) == {3, 7}
    assert nearest(history[-1], 236).id == 7


def test_the_subject_is_large_central_and_steady() -> None:
    middle = follow(50, lambda _: [("person", 165, 105, 50, 130)])[-1][0]
    walker = follow(50, lambda i: [("person", 20 + 5.6 * i, 105, 50, 130)])[-1][0]
    far = follow(50, lambda _: [("person", 165, 60, 6, 16)])[-1][0]
    aside = follow(50, lambda _: [("person", 300, 105, 36, 130)])[-1][0]
    assert middle.subject > 0.8
    assert max(walker.subject, far.subject, aside.subject) < 0.45


def test_who_comes_in_and_stops_in_the_middle_soon_is_the_subject() -> None:
    def where(i: int) -> list[Thing]:
        return [("person", min(160.0, 8 * (i - 25) - 20), 100, 44, 120)] if i >= 25 else []

    history = follow(180, where)
    stopped = 25 + 23
    score = {i: tracks[0].subject for i, tracks in enumerate(history) if tracks}
    assert score[stopped] < 0.5
    assert score[stopped + 5 * RATE] > 0.6
    # One who only walks through at half the speed never is.
    slow = follow(100, lambda i: [("person", 4 * i - 20, 100, 44, 120)])
    assert max(each.subject for tracks in slow for each in tracks) < 0.6


@pytest.mark.parametrize("speed", [0.15, 0.05])  # widths a second: an ordinary pace, and a stroll
def test_who_walks_through_the_middle_is_soon_known_not_to_be_the_subject(speed: float) -> None:
    start = WIDTH / 2 - 20
    step = speed * WIDTH / RATE
    history = follow(3 * RATE, lambda i: [("person", start + step * i, 100, 24, 70)])
    score = [tracks[0].subject for tracks in history]
    assert max(score[3 * RATE // 2 :]) < 0.6


def test_who_sways_in_the_middle_is_the_subject_from_the_first_second_on() -> None:
    sway = [round(6 * np.sin(2 * np.pi * i / 40)) for i in range(40)]
    history = follow(4 * RATE, lambda i: [("person", 160 + sway[i % 40], 100, 24, 70)])
    assert min(tracks[0].subject for tracks in history) > 0.6


def test_whom_the_camera_follows_is_the_subject() -> None:
    shift = np.array([[1.0, 0, -6.0], [0, 1, 0], [0, 0, 1]])
    wobble = [0, 4, 8, 10, 8, 4, 0, -4, -8, -10, -8, -4]
    history = follow(50, lambda i: [("person", 160 + wobble[i % 12], 100, 30, 80)], homography=shift)
    assert history[-1][0].subject > 0.6
    assert history[-1][0].speed > 0.2


def test_a_cut_ends_all_tracks_and_ids_go_on() -> None:
    state = track.initial()
    things: list[Thing] = [("person", 160, 100, 24, 70)]
    for index in range(3):
        looked = perception(index, [instance(each) for each in things])
        _, state = track.step(state, looked, motion(index), frame_at(index, things), CONFIG)
    cut = Motion(3, (), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), False, 0.0, cut=True)
    tracks, state = track.step(
        state, perception(3, [instance(each) for each in things]), cut, frame_at(3, things), CONFIG
    )
    assert ids(tracks) == {2}
    assert track.initial(state.next_id).next_id == 3
