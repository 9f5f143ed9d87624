"""The degrade ladder: down in order under load, up again by itself, slower where going up has failed."""

from __future__ import annotations

from itertools import pairwise

from configs.schema import load_config
from stream import ladder

GOOD = ladder.Load(drops=0.0, lasting=0.0, latency=0.03, busy=0.2, lasting_busy=0.2)
LATE = ladder.Load(drops=0.0, lasting=0.0, latency=0.15, busy=1.0, lasting_busy=1.0)
DROPPING = ladder.Load(drops=0.3, lasting=0.1, latency=0.05, busy=1.0, lasting_busy=1.0)


def run(state: ladder.State, load: ladder.Load | None, since: float, seconds: float) -> ladder.State:
    for tenth in range(round(10 * seconds)):
        state = ladder.step(state, load, since + tenth / 10)
    return state


def test_nothing_is_given_up_while_all_is_well() -> None:
    assert run(ladder.initial(), GOOD, 10, 60).step.name == "full"
    assert run(ladder.initial(), None, 10, 60).step.name == "full"


def test_what_is_late_at_the_very_beginning_is_no_load() -> None:
    begun = ladder.initial(10.0)
    assert run(begun, LATE, 10, 0.9).step.name == "full"
    assert run(begun, LATE, 10, 1.5).step.name != "full"


def test_steps_are_taken_one_by_one_in_their_order() -> None:
    for load in (LATE, DROPPING):
        state, names = ladder.initial(), ["full"]
        for tenth in range(100):
            state = ladder.step(state, load, 10 + tenth / 10)
            if state.step.name != names[-1]:
                names.append(state.step.name)
        assert names == [each.name for each in ladder.STEPS]


def test_a_moment_of_hesitation_is_no_load() -> None:
    hiccup = ladder.Load(drops=0.2, lasting=0.06, latency=0.06, busy=0.7, lasting_busy=0.6)
    assert run(ladder.initial(), hiccup, 10, 60).step.name == "full"


def test_a_step_must_show_what_it_brings_before_the_next() -> None:
    state = ladder.step(ladder.initial(), LATE, 10.0)
    assert state.at == 1
    assert ladder.step(state, LATE, 10.5).at == 1


def test_everything_is_taken_back_when_the_load_is_gone() -> None:
    bottom = run(ladder.initial(), LATE, 10, 20)
    assert bottom.step == ladder.STEPS[-1]
    assert run(bottom, GOOD, 31, 60).step.name == "full"


def test_a_step_that_would_not_fit_is_not_taken_back() -> None:
    half = run(ladder.initial(), LATE, 10, 4)
    assert half.step.shown == 2
    # half of the pictures keep a room busy for six tenths of the time: all of them would not fit
    busy = ladder.Load(drops=0.0, lasting=0.0, latency=0.05, busy=0.6, lasting_busy=0.6)
    assert run(half, busy, 16, 60).at == half.at


def test_going_up_in_vain_is_tried_less_often() -> None:
    state, tries, moment = ladder.initial(), [], 10.0
    state = ladder.step(state, LATE, moment)
    for _ in range(1200):
        moment += 0.1
        before = state.at
        state = ladder.step(state, LATE if state.at == 0 else GOOD, moment)
        if state.at < before:
            tries.append(moment)
    pauses = [b - a for a, b in pairwise(tries)]
    assert len(pauses) >= 3 and pauses[-1] > 2 * pauses[0]


def test_each_step_costs_no_more_than_the_one_above() -> None:
    config = load_config("webcam")
    given = [ladder.applied(config, each) for each in ladder.STEPS]
    assert given[0] == config
    for each, (above, below) in enumerate(pairwise(given)):
        shown = ladder.STEPS[each + 1].shown
        assert below.perceive.every * shown >= above.perceive.every
        assert below.plate.sources <= above.plate.sources
