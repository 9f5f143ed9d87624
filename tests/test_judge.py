"""Who stays and who goes: subject, passers, relation, evidence, the user's rules, groups, plate sources."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from configs.schema import Judge, load_config
from models.labels import STUFF_NAMES
from stream import judge, rules
from stream.errors import UsageError
from stream.types import Frame, Instance, Track, Verdict

WIDTH, HEIGHT, RATE = 640, 360, 10
TOURIST = load_config("tourist").judge
PAPER = load_config("paper").judge
WEBCAM = load_config("webcam").judge
STREET = np.array([0.9 if name in ("road", "building-other") else 0.0 for name in STUFF_NAMES], np.float32)
NOWHERE = np.zeros(0, np.float32)


class Table:
    """A relation table of a few numbers; it notes what it was asked."""

    def __init__(self, scores: dict[str, float] | None = None) -> None:
        self.scores = scores or {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def score(self, thing: str, others: Sequence[str]) -> float:
        self.asked.append((thing, tuple(others)))
        return self.scores.get(thing, 0.9)


def frame_at(index: int, rotation: int = 0) -> Frame:
    plane = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return Frame(index, index, Fraction(1, RATE), (plane,), "rgb24", WIDTH, HEIGHT, rotation=rotation)


def thing(
    id: int = 1, label: str = "person", *, x: float = 320, y: float = 200, size: float = 100, **known: Any
) -> Track:
    """A track `size` pixels high that has been seen for two seconds and rests, unless told otherwise."""
    box = (x - size / 4, y - size / 2, x + size / 4, y + size / 2)
    mask = np.zeros((90, 160), bool)
    x0, y0, x1, y1 = (max(0, round(value / 4)) for value in box)
    mask[y0:y1, x0:x1] = True
    track = Track(
        id=id, label=label, instance=Instance(label, 0.9, box, mask), first=0, last=0, hits=20, missed=False,
        area=float(mask.mean()), speed=0.0, subject=0.1, travel=0.0, age=2.0,
    )  # fmt: skip
    return replace(track, **known)


def walker(id: int = 1, label: str = "person", **known: Any) -> Track:
    return thing(id, label, **{"speed": 0.15, "travel": 1.5, **known})


def run(
    tracks: Callable[[int], Sequence[Track]] | Sequence[Track],
    *,
    config: Judge = TOURIST,
    stuff: np.ndarray = STREET,
    table: Table | None = None,
    frames: int = 20,
    still: bool = False,
    rotation: int = 0,
) -> list[dict[int, Verdict]]:
    state = judge.initial()
    history = []
    for index in range(frames):
        now = tracks(index) if callable(tracks) else tracks
        verdicts, state = judge.step(
            state, now, stuff, table or Table(), config, frame_at(index, rotation), still=still
        )
        history.append({verdict.track: verdict for verdict in verdicts})
    return history


def last(tracks: Sequence[Track], **how: Any) -> dict[int, Verdict]:
    return run(tracks, **how)[-1]


def test_the_companion_stays_and_the_passer_goes() -> None:
    verdicts = last([thing(1, size=250, subject=0.9), walker(2, x=500)])
    assert verdicts[1].action == "keep"
    assert "what the picture is about" in verdicts[1].reason
    assert verdicts[2].action == "remove"
    assert verdicts[2].reason == "passes through the picture (0.15 widths/s) and is not its subject"


@pytest.mark.parametrize(
    ("track", "action", "said"),
    [
        (walker(subject=0.9), "keep", "keeps the middle"),
        (thing(size=30), "keep", "rests"),
        (thing(travel=0.8), "remove", "has passed"),
        (thing(label="dog", speed=0.1, travel=2.0), "remove", "passes"),
        (thing(label="cat"), "keep", "cats are not among"),
        (walker(speed=0.012, size=15), "remove", "passes"),
        (thing(confirmed=False), "keep", "only just"),
    ],
)
def test_passers(track: Track, action: str, said: str) -> None:
    verdict = last([track])[1]
    assert verdict.action == action
    assert said in verdict.reason


@pytest.mark.parametrize(
    ("track", "settled"),
    [
        (thing(travel=0.0), True),
        (thing(travel=0.16, speed=0.015), False),
        (thing(travel=0.16, speed=0.015, age=4.0), True),  # too slow to pass in the time that is waited
        (thing(travel=0.2, speed=0.015, age=7.0), True),
        (thing(subject=0.9, speed=0.1, travel=0.6), False),
        (walker(), True),
        (walker(subject=0.4), True),
        (walker(subject=0.4, speed=0.01), False),
        (thing(label="car", travel=0.2), True),
    ],
)
def test_a_young_verdict_that_may_change_says_so(track: Track, settled: bool) -> None:
    assert last([track])[1].settled == settled


def test_a_verdict_is_open_until_who_stopped_in_the_middle_has_become_the_subject() -> None:
    def he(i: int) -> Track:
        age = 0.1 * i
        # He walks in for five seconds and stands from then on.
        if age < 5:
            return walker(age=age, travel=0.3 * age)
        return walker(age=age, travel=1.5, speed=0.0, subject=min(0.9, 0.3 * (age - 5)))

    verdicts = [each[1] for each in run(lambda i: [he(i)], frames=120)]
    turns = next(i for i, each in enumerate(verdicts) if i > 60 and each.action == "keep")
    assert turns > 65
    assert not any(each.settled for each in verdicts[70:turns])
    assert all(each.settled for each in verdicts[turns:])


def test_what_was_seen_for_a_moment_is_tentative_unless_something_is_done_to_it() -> None:
    glimpse = [thing(confirmed=False)]
    assert last(glimpse)[1].tentative
    assert not last([thing()])[1].tentative
    assert not last(glimpse, still=True)[1].tentative
    wanted = TOURIST.model_copy(update={"remove": ["person"]})
    assert not last(glimpse, config=wanted)[1].tentative


def test_what_the_user_says_is_settled() -> None:
    keep = TOURIST.model_copy(update={"keep": ["person"]})
    assert last([thing(travel=0.2, speed=0.03)], config=keep)[1].settled


def test_a_walker_goes_within_half_a_second_of_walking() -> None:
    history = run(lambda i: [walker(age=0.1 * i, travel=0.15 * i)])
    gone = [verdicts[1].action == "remove" for verdicts in history]
    assert gone.index(True) <= 5
    assert all(gone[5:])


def test_by_relation_over_the_tracks_life() -> None:
    table = Table({"car": 0.82, "boat": 0.04})
    verdicts = last([thing(1, "car"), thing(2, "boat"), thing(3, "car", x=100)], table=table)
    assert verdicts[1].action == "keep"
    assert verdicts[1].reason == "car fits building, road and boat (0.82, would go under 0.30)"
    assert verdicts[1].relation == pytest.approx(0.82)
    assert verdicts[2].action == "remove"
    assert (
        verdicts[2].reason
        == "boat hardly ever appears with building, road and 2 cars (0.04, would stay from 0.30)"
    )
    assert ("boat", ("car", "building-other", "road")) in table.asked


def test_one_odd_score_does_not_change_a_verdict() -> None:
    table = Table({"car": 0.8})

    def tracks(i: int) -> list[Track]:
        table.scores["car"] = 0.05 if 25 <= i < 28 else 0.8
        return [thing(1, "car")]

    assert {verdicts[1].action for verdicts in run(tracks, table=table, frames=60)} == {"keep"}


@pytest.mark.parametrize(
    ("stuff", "others", "action"),
    [
        (NOWHERE, [], "keep"),
        (NOWHERE, ["person"], "keep"),
        (NOWHERE, ["boat", "boat"], "keep"),
        (NOWHERE, ["person", "tv"], "remove"),
        (STREET, [], "remove"),
    ],
)
def test_without_evidence_it_stays(stuff: np.ndarray, others: list[str], action: str) -> None:
    tracks = [thing(1, "boat"), *(thing(2 + i, label) for i, label in enumerate(others))]
    verdict = last(tracks, stuff=stuff, table=Table({"boat": 0.01}))[1]
    assert verdict.action == action
    assert math.isnan(verdict.relation) == (action == "keep")


def test_verdicts_change_only_on_strong_contrary_evidence() -> None:
    # A companion who shifts from one foot to the other for half a second stays.
    def tracks(i: int) -> list[Track]:
        unsteady = 30 <= i < 35
        return [
            thing(1, size=250, subject=0.3 if unsteady else 0.9, speed=0.1 if unsteady else 0.0, travel=0.4)
        ]

    assert {verdicts[1].action for verdicts in run(tracks, frames=60)} == {"keep"}

    # One who gets up after ten seconds on a bench and walks off goes, once.
    def leaves(i: int) -> list[Track]:
        return [thing(1, age=i / RATE) if i < 100 else walker(1, age=i / RATE, travel=(i - 100) * 0.1)]

    actions = [verdicts[1].action for verdicts in run(leaves, frames=160)]
    assert actions[99] == "keep"
    assert actions[-1] == "remove"
    assert sum(a != b for a, b in pairwise(actions)) == 1


@pytest.mark.parametrize(
    ("remove", "keep", "expected"),
    [
        (("car",), (), {1: "remove", 2: "remove"}),
        (("car@100,200",), (), {1: "keep", 2: "remove"}),
        (("car",), ("car@100,200",), {1: "remove", 2: "keep"}),
        (("car@100,200",), ("car",), {1: "keep", 2: "remove"}),
        (("car",), ("car",), {1: "keep", 2: "keep"}),
        (("truck, car",), (), {1: "remove", 2: "remove"}),
    ],
)
def test_what_the_user_says_is_final(
    remove: tuple[str, ...], keep: tuple[str, ...], expected: dict[int, str]
) -> None:
    config = TOURIST.model_copy(update={"remove": remove, "keep": keep})
    verdicts = last([thing(1, "car", x=320), thing(2, "car", x=100)], config=config)
    assert {number: verdict.action for number, verdict in verdicts.items()} == expected


def test_a_point_means_the_thing_that_first_covers_it() -> None:
    config = TOURIST.model_copy(update={"remove": ("car@320,200",)})

    def tracks(i: int) -> list[Track]:
        return [thing(1, "car", x=320 + 20 * i), thing(2, "car", x=-80 + 20 * i)]

    history = run(tracks, config=config, frames=24)
    assert {verdicts[1].action for verdicts in history} == {"remove"}
    assert {verdicts[2].action for verdicts in history} == {"keep"}


@pytest.mark.parametrize(
    ("rotation", "point"), [(0, (100, 200)), (90, (159, 100)), (180, (539, 159)), (270, (200, 539))]
)
def test_points_are_those_of_the_picture_as_it_is_shown(rotation: int, point: tuple[int, int]) -> None:
    assert rules.coded_point(point, frame_at(0, rotation)) == (100, 200)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("persn", "did you mean 'person'?"),
        ("people", "did you mean 'person'?"),
        ("bike", "did you mean 'bicycle'?"),
        ("xyzzy", "there are: person, bicycle"),
        ("car@12", "--remove car"),
        ("car@a,b", "--remove car@320,180"),
        ("", "--remove car"),
    ],
)
def test_wrong_rules_are_refused_with_the_nearest_name(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        judge.parse_rules([text])
    assert said in caught.value.hint
    assert caught.value.exit_code == 2


def test_rules_are_read() -> None:
    parsed = judge.parse_rules(["car,person@320,200, stop_sign"], ["Dog"])
    assert [(rule.action, rule.label, rule.point) for rule in parsed] == [
        ("remove", "car", None),
        ("remove", "person", (320.0, 200.0)),
        ("remove", "stop sign", None),
        ("keep", "dog", None),
    ]


def test_an_unknown_class_in_a_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="lorri"):
        judge.check(TOURIST.model_copy(update={"passers": ("lorri",)}))


def test_a_bag_shares_the_verdict_of_who_carries_it() -> None:
    tracks = [
        walker(1, x=200, size=160),
        walker(2, "handbag", x=220, y=220, size=30),
        thing(3, x=400, size=250, subject=0.9),
        thing(4, "backpack", x=410, y=180, size=50),
    ]
    verdicts = last(tracks)
    assert verdicts[2].action == "remove"
    assert "carried by a person who passes" in verdicts[2].reason
    assert verdicts[4].action == "keep"


def test_a_rider_and_the_bicycle_share_one_verdict() -> None:
    bicycle = replace(
        walker(2, "bicycle", x=300, y=240, size=80),
        instance=Instance("bicycle", 0.9, (250, 200, 350, 290), np.ones((90, 160), bool)),
    )
    verdicts = last([walker(1, x=300, y=190, size=140), bicycle], table=Table({"bicycle": 0.9}))
    assert verdicts[1].action == verdicts[2].action == "remove"
    followed = replace(bicycle, subject=0.9)
    verdicts = last([walker(1, x=300, y=190, size=140), followed])
    assert verdicts[1].action == verdicts[2].action == "keep"
    assert "rides the bicycle" in verdicts[1].reason


def test_a_parked_bicycle_is_not_ridden_by_who_walks_past() -> None:
    parked = replace(
        thing(2, "bicycle"), instance=Instance("bicycle", 0.9, (250, 200, 350, 290), np.ones((90, 160), bool))
    )
    verdicts = last([walker(1, x=300, y=190, size=140), parked], table=Table({"bicycle": 0.9}))
    assert verdicts[1].action == "remove"
    assert verdicts[2].action == "keep"


@pytest.mark.parametrize(
    ("area", "low", "high", "action"),
    [(0.05, 0.0, 1.0, "remove"), (0.05, 0.1, 1.0, "keep"), (0.05, 0.0, 0.02, "keep")],
)
def test_size_limits(area: float, low: float, high: float, action: str) -> None:
    config = TOURIST.model_copy(update={"min_area": low, "max_area": high})
    assert last([walker(area=area)], config=config)[1].action == action


def test_the_paper_judges_each_frame_by_relation_and_area_alone() -> None:
    table = Table({"person": 0.3, "car": 0.5, "boat": 0.1})
    tracks = [
        thing(1, area=0.05, subject=0.9),
        thing(2, "car", area=0.05),
        thing(3, "boat", area=0.01),
    ]
    verdicts = last(tracks, config=PAPER, table=table)
    assert [verdicts[number].action for number in (1, 2, 3)] == ["remove", "keep", "keep"]

    def tracks_of(i: int) -> list[Track]:
        table.scores["car"] = 0.1 if i == 10 else 0.5
        return tracks

    history = run(tracks_of, config=PAPER, table=table)
    assert [verdicts[2].action == "remove" for verdicts in history].count(True) == 1


def test_before_a_camera_who_sits_stays_and_who_passes_behind_goes() -> None:
    verdicts = last([thing(1, size=300, subject=0.5), walker(2, size=120)], config=WEBCAM)
    assert verdicts[1].action == "keep"
    assert verdicts[2].action == "remove"


def test_a_single_picture_is_judged_by_subject_and_relation() -> None:
    tracks = [
        thing(1, size=250, subject=0.8, hits=1, confirmed=False),
        thing(2, size=230, x=420, subject=0.4, hits=1, confirmed=False),
        thing(3, size=40, x=60, hits=1, confirmed=False),
        thing(4, "car", x=500, size=60, hits=1, confirmed=False),
    ]
    verdicts = last(tracks, frames=1, still=True)
    assert [verdicts[number].action for number in (1, 2, 3, 4)] == ["keep", "keep", "remove", "keep"]
    assert verdicts[2].reason == "is as large in the picture as its subject"
    assert verdicts[3].reason == "is not what the picture is about"


@pytest.mark.parametrize(
    ("stuff", "others", "action"), [(NOWHERE, 1, "keep"), (NOWHERE, 2, "remove"), (STREET, 0, "remove")]
)
def test_in_a_single_picture_too_little_around_means_keep(
    stuff: np.ndarray, others: int, action: str
) -> None:
    tracks = [thing(1, size=40), *(thing(2 + k, "cat", x=60 + 90 * k) for k in range(others))]
    assert last(tracks, stuff=stuff, still=True)[1].action == action


def test_forbidden_as_plate_source() -> None:
    tracks = [
        thing(1, "car"),  # parked and kept: part of the scene
        walker(2, "car"),  # kept but driving
        thing(3, size=250, subject=0.9),  # kept but alive
        walker(4),
        thing(5, "bench"),
        # Who passed hid now one part of it and now another: behind him it was invented in every frame.
        walker(6, "bench", age=4.0, ranged=0.05),
        walker(7, "bench", age=1.0, ranged=0.05),  # not known for long enough
        walker(8, "car", age=4.0, ranged=1.2),
    ]
    verdicts = list(last(tracks).values())
    assert judge.forbidden(tracks, verdicts) & {1, 2, 3, 4, 5, 6, 7, 8} - {6} == {2, 3, 4, 7, 8}
    kept = [each for each in verdicts if each.action == "keep"]
    assert 6 not in judge.forbidden(tracks, kept)


def test_a_track_that_went_is_forgotten_and_the_state_stays_small() -> None:
    state = judge.initial()
    for index in range(400):
        now = [walker(index // 4, travel=1.0)]
        _, state = judge.step(state, now, STREET, Table(), TOURIST, frame_at(index * 10))
    assert len(state.memories) < 100


def test_who_walks_with_the_subject_stays_and_who_overtakes_goes() -> None:
    # A family followed by the camera; a stranger as near overtakes it.
    def tracks(i: int) -> list[Track]:
        return [
            walker(1, x=320, size=260, subject=0.8),
            walker(2, x=250, y=260, size=130, subject=0.3),
            walker(3, x=60 + 12 * i, size=220, subject=0.2),
        ]

    history = run(tracks, frames=40)
    assert history[-1][2].action == "keep"
    assert history[-1][2].reason == "goes with what the picture is about"
    assert history[-1][3].action == "remove"
    assert {verdicts[3].action for verdicts in history[5:]} == {"remove"}
