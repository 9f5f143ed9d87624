"""The hole: exactly the user's mask, or the removed things with a margin that spares what stays."""

from __future__ import annotations

import numpy as np
import pytest
from shots import frame

from configs.schema import Hole as HoleConfig
from stream import hole
from stream.types import Instance, Motion, Track, Verdict

STILL = Motion(0, (np.eye(3),), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), True, 1.0)
PICTURE = frame(np.zeros((180, 320, 3), np.uint8), 0)


def track(identity, box, working=(90, 160), speed=0.0):
    x0, y0, x1, y1 = box
    mask = np.zeros(working, bool)
    mask[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = True
    instance = Instance("person", 0.9, tuple(float(v) for v in box), mask)
    return Track(identity, "person", instance, 0, 0, 3, False, 0.1, speed, 0.0)


def verdict(identity, action):
    return Verdict(identity, "person", action, float("nan"), "for the test")


def make(tracks, gone, config=None):
    verdicts = [verdict(t.id, "remove" if t.id in gone else "keep") for t in tracks]
    return hole.make_hole(PICTURE, tracks, verdicts, STILL, config or HoleConfig())


def test_the_users_mask_is_the_hole_and_its_soft_edge_lies_inside():
    mask = np.zeros((180, 320), bool)
    mask[40:120, 100:180] = True
    made = hole.from_mask(mask)
    assert np.array_equal(made.alpha > 0, mask)
    assert made.box == (100, 40, 180, 120)
    assert made.alpha[80, 140] == 255
    assert made.alpha[40, 140] < 255
    assert made.tracks == ()


def test_the_users_mask_is_hard_at_the_edge_of_the_frame():
    mask = np.zeros((180, 320), bool)
    mask[:, :40] = True
    made = hole.from_mask(mask)
    assert (made.alpha[:, 0] == 255).all()
    assert (made.alpha[0, :30] == 255).all()


def test_an_empty_mask_makes_no_hole():
    made = hole.from_mask(np.zeros((180, 320), bool))
    assert made.box is None
    assert not made.alpha.any()


def test_a_removed_thing_goes_with_its_rim():
    made = make([track(7, (100, 40, 160, 140))], {7})
    assert made.tracks == (7,)
    assert (made.alpha[41:139, 101:159] == 255).all()
    # grown by dilate before the soft edge begins
    assert made.alpha[90, 98] == 255
    assert made.box[0] < 100 and made.box[2] > 160
    edge = made.alpha[90, 80:100].astype(int)
    assert (np.diff(edge) >= 0).all()
    assert ((edge > 0) & (edge < 255)).any()


def test_what_is_kept_makes_no_hole():
    assert make([track(7, (100, 40, 160, 140))], set()).box is None


def test_growth_does_not_eat_what_stays():
    gone, kept = track(1, (100, 40, 160, 140)), track(2, (162, 40, 220, 140))
    made = make([gone, kept], {1})
    assert not made.alpha[50:130, 164:].any()
    assert (made.alpha[50:130, 102:158] == 255).all()


def test_a_fast_thing_is_grown_along_its_way():
    slow = make([track(1, (100, 40, 160, 140))], {1})
    fast = make([track(1, (100, 40, 160, 140), speed=1.5)], {1})
    assert fast.box[0] < slow.box[0] - 2
    assert fast.box[1] == slow.box[1]


@pytest.mark.parametrize("working", [(45, 80), (90, 160), (180, 320)])
def test_any_working_resolution_gives_the_same_place(working):
    mask = np.zeros(working, bool)
    h, w = working
    mask[h // 4 : h // 2, w // 4 : w // 2] = True
    full = hole.enlarge(mask, (180, 320), (0, 0, 320, 180))
    ys, xs = np.nonzero(full)
    assert xs.mean() == pytest.approx((w // 4 + w // 2) / 2 * 320 / w - 0.5, abs=1.0)
    assert ys.mean() == pytest.approx((h // 4 + h // 2) / 2 * 180 / h - 0.5, abs=1.0)
    assert len(xs) == pytest.approx(80 * (h // 2 - h // 4) * 180 / h, rel=0.1)
