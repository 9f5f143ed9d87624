"""The perception benchmark counts as its description says."""

from __future__ import annotations

import numpy as np

from benchmarks.perception import Found, Matches, band, overlap, painted


def block(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_things_are_matched_once_and_groups_count_neither_way() -> None:
    one, other = block(0, 0, 20, 20), block(50, 50, 20, 20)
    found = [
        Found(1, 0.9, block(2, 0, 20, 20)),
        Found(1, 0.8, one),  # a second answer for the same thing is wrong
        Found(1, 0.7, block(80, 0, 15, 15)),  # inside a group
        Found(1, 0.6, block(50, 50, 3, 3)),  # too small to be asked about
    ]
    matches = Matches()
    matches.add(found, [one, other], [block(75, 0, 25, 25)], 0.01)
    told = matches.summary()
    assert (told["true"], told["found"]) == (2, 2)
    assert told["recall"] == 0.5 and told["precision"] == 0.5
    assert told["recall_at_75"] == 0.5 and told["score_at_75"] == 0.9


def test_small_true_things_found_are_no_mistake() -> None:
    matches = Matches()
    matches.add([Found(1, 0.9, block(0, 0, 9, 9))], [block(0, 0, 9, 9)], [], 0.01)
    assert matches.summary()["found"] == 0
    assert matches.summary()["recall_at_75"] == 0.0


def test_bands_follow_outlines_but_not_the_pictures_edge() -> None:
    inner = band(block(20, 20, 40, 40))
    assert inner[21, 40] and not inner[40, 40]
    assert not band(np.ones((100, 100), bool)).any()
    shifted = overlap(inner, band(block(22, 22, 40, 40)))
    assert 0 < shifted < overlap(block(20, 20, 40, 40), block(22, 22, 40, 40))


def test_surer_things_are_painted_over_the_others() -> None:
    classes = painted([Found(3, 0.9, block(0, 0, 10, 10)), Found(1, 0.2, block(5, 5, 10, 10))], (100, 100))
    assert classes[6, 6] == 3 and classes[12, 12] == 1 and classes[50, 50] == 0
