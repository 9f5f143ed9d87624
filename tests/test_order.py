"""Which thing is in front: single pictures, things that pass each other, rings of things."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stream import order
from stream.types import Instance, Mask, Track

SIZE = (120, 200)


def thing(number: int, mask: Mask, label: str = "person", *, missed: bool = False) -> Track:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    instance = Instance(label, 0.9, (x, y, x + w, y + h), mask)
    return Track(number, label, instance, 0, 0, 5, missed, float(mask.mean()), 0.0, 0.0)


def body(x: int, foot: int, height: int = 60) -> Mask:
    """A head and a trunk: the outline of somebody who stands."""
    canvas = np.zeros(SIZE, np.uint8)
    cv2.ellipse(canvas, (x, foot - height // 2), (height // 5, height // 2), 0, 0, 360, 1, -1)
    return canvas > 0


def covered(back: Mask, front: Mask) -> Mask:
    return back & ~front


def test_who_stands_lower_and_cuts_the_other_is_in_front() -> None:
    front, back = body(100, 110, 80), body(116, 90, 70)
    found = order.order_still([thing(1, covered(back, front)), thing(2, front)], SIZE[0])
    assert found.ids == (2, 1) and found.in_front(2, 1) and not found.in_front(1, 2)
    assert found.covering(1) == (2,) and found.covering(2) == ()


def test_outline_alone_tells_where_the_ground_does_not() -> None:
    front, back = body(100, 100), body(112, 100)
    found = order.order_still([thing(1, front), thing(2, covered(back, front))], SIZE[0])
    assert found.covering(2) == (1,)


def test_things_apart_are_ordered_by_where_they_stand_and_no_pair_is_named() -> None:
    found = order.order_still([thing(4, body(30, 70)), thing(9, body(150, 100))], SIZE[0])
    assert found.ids == (9, 4) and found.pairs == () and found.touching(4) == frozenset()


def test_unknown_thing_is_an_error() -> None:
    with pytest.raises(KeyError, match="track 7"):
        order.order_still([thing(1, body(30, 70))], SIZE[0]).in_front(1, 7)


@pytest.mark.parametrize("walker_in_front", [True, False])
def test_motion_tells_who_covers_whom_and_the_order_stays(walker_in_front: bool) -> None:
    # the walker's foot says the opposite of the truth: what is covered over time must win
    stands = body(100, 96 if walker_in_front else 90)
    state, said = order.initial(), []
    for x in range(40, 164, 4):
        walks = body(x, 90 if walker_in_front else 96)
        masks = (stands & ~walks, walks) if walker_in_front else (stands, walks & ~stands)
        things = [thing(1, masks[0]), thing(2, masks[1])]
        now, state = order.step(state, [each for each in things if each.instance.mask.any()], SIZE[0])
        said += [pair.front for pair in now.pairs if abs(x - 100) < 30]
    truth = 2 if walker_in_front else 1
    assert len(said) > 8
    assert np.mean(np.array(said) == truth) > 0.7 and set(said[-6:]) == {truth}


def test_ring_is_broken_at_its_weakest_pair() -> None:
    masks = [np.zeros(SIZE, bool) for _ in range(3)]
    masks[0][20:60, 40:80] = masks[1][60:100, 40:80] = masks[2][20:100, 80:120] = True
    # who hides whom, as a network would say it: 1 hides 2, 2 hides 3, and weakly 3 hides 1
    hides = {(1, 2): 30.0, (2, 3): 30.0, (3, 1): 20.0}

    def network(back: Track, front: Track) -> float:
        return hides.get((front.id, back.id), 0.0)

    found = order.order_still([thing(k + 1, mask) for k, mask in enumerate(masks)], SIZE[0], network)
    assert sorted(found.ids) == [1, 2, 3]
    for pair in found.pairs:
        assert found.in_front(pair.front, pair.back)


def test_a_thing_lost_behind_another_is_behind_it() -> None:
    front = body(100, 100, 80)
    hidden = body(101, 104, 60)
    found = order.order_still([thing(1, front), thing(2, hidden, missed=True)], SIZE[0])
    assert found.covering(2) == (1,)


def test_a_wrong_first_answer_is_soon_corrected_and_a_pair_in_doubt_is_not_asked_without_end() -> None:
    # Two alike side by side: nothing but the network tells, and it errs while they have just met.
    sides = thing(1, body(90, 100)), thing(2, body(113, 100))
    state, asked, fronts = order.initial(), [], []
    for index in range(40):

        def network(back: Track, _: Track, index: int = index) -> float:
            asked.append(index)
            return (1.0 if index < 2 else -1.5) * (1 if back.id == 1 else -1)

        now, state = order.step(state, sides, SIZE[0], network)
        fronts.append(now.ids[0])
    assert fronts[0] == 2 and fronts[6:] == [1] * 34
    assert len(set(asked)) < 12 and len([each for each in set(asked) if each < 6]) >= 2


def test_two_that_have_just_met_are_turned_round_as_soon_as_one_plainly_covers_the_other() -> None:
    # At first their outlines only meet, and the network guesses; two frames later it sees it.
    sides = thing(1, body(90, 100)), thing(2, body(113, 100))
    state, fronts = order.initial(), []
    for index in range(8):

        def network(back: Track, _: Track, index: int = index) -> float:
            return (1.2 if index < 2 else -6.0) * (1 if back.id == 1 else -1)

        now, state = order.step(state, sides, SIZE[0], network)
        fronts.append(now.ids[0])
    assert fronts[0] == 2 and fronts[2:] == [1] * 6
