"""What hangs together with a thing and is unsure goes with it; what is another kind's or far off does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_hole import make, track

from models.instances import FoundThing
from models.labels import THING_NAMES
from stream.fringe import fringes

CELLS = (45, 80)


def found(name, rows, columns):
    mask = np.zeros(CELLS, bool)
    mask[rows, columns] = True
    return FoundThing(THING_NAMES.index(name), 0.9, (0, 0, 1, 1), mask)


def picture(*areas):
    """Logits of background everywhere, and of (name, log odds, rows, columns)."""
    logits = np.full((1 + len(THING_NAMES), *CELLS), -12.0, np.float32)
    logits[0] = 0
    for name, odds, rows, columns in areas:
        logits[1 + THING_NAMES.index(name), rows, columns] = odds
    return logits


BODY = np.s_[10:40], np.s_[30:45]
ARM = np.s_[15:18], np.s_[45:52]


@pytest.mark.parametrize(("odds", "goes"), [(-1.0, True), (-2.5, False)])
def test_an_arm_of_which_the_network_is_unsure_belongs_to_its_person(odds, goes):
    logits = picture(("person", 4.0, *BODY), ("person", odds, *ARM))
    (fringe,) = fringes([found("person", *BODY)], logits)
    assert fringe[ARM].all() == goes
    assert fringe.sum() == (fringe[ARM].size if goes else 0)


def test_what_may_be_another_kind_of_thing_stays():
    logits = picture(("person", 4.0, *BODY), ("chair", -0.5, *ARM))
    (fringe,) = fringes([found("person", *BODY)], logits)
    assert not fringe.any()


def test_a_patch_apart_or_far_away_stays():
    apart = np.s_[15:18], np.s_[47:52]
    far = np.s_[20:22], np.s_[45:75]
    logits = picture(("person", 4.0, *BODY), ("person", -1.0, *apart), ("person", -1.0, *far))
    (fringe,) = fringes([found("person", *BODY)], logits)
    assert not fringe[apart].any()
    assert fringe[20, 47]
    assert not fringe[:, 60:].any()


def test_two_people_share_what_is_between_them():
    other = np.s_[10:40], np.s_[52:67]
    between = np.s_[15:18], np.s_[45:52]
    logits = picture(("person", 4.0, *BODY), ("person", 4.0, *other), ("person", -1.0, *between))
    first, second = fringes([found("person", *BODY), found("person", *other)], logits)
    assert not (first & second).any()
    assert first[16, 45]
    assert second[16, 51]
    assert not first[16, 51]


def test_a_hole_takes_the_fringe_along():
    plain = track(1, (100, 40, 160, 140))
    fringe = np.zeros(plain.instance.mask.shape, bool)
    fringe[30:33, 80:95] = True
    unsure = replace(plain, instance=replace(plain.instance, fringe=fringe))
    before, after = make([plain], {1}).alpha, make([unsure], {1}).alpha
    assert before[62, 185] == 0
    assert (after[60:66, 160:190] == 255).all()
    assert (after >= before).mean() > 0.999
    stays = track(2, (176, 50, 220, 80))
    assert (make([unsure, stays], {1}).alpha[52:78, 182:214] == 0).all()
