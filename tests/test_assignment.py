"""One-to-one pairs: the greatest total, against trying every way."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from stream.assignment import Floats, best_pairs

ROOT = Path(__file__).resolve().parents[1]


def greatest(score: Floats) -> float:
    """The greatest total by trying every way."""
    wide = score if score.shape[0] <= score.shape[1] else score.T
    rows = range(wide.shape[0])
    return max(
        sum(float(wide[row, column]) for row, column in zip(rows, way, strict=True))
        for way in permutations(range(wide.shape[1]), wide.shape[0])
    )


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (5, 2), (4, 4), (5, 6)])
@pytest.mark.parametrize("filled", [0.4, 1.0])
def test_no_other_pairs_have_a_greater_total(shape: tuple[int, int], filled: float) -> None:
    random = np.random.default_rng(7)
    for _ in range(20):
        score = random.random(shape) * (random.random(shape) < filled)
        pairs = best_pairs(score)
        assert sum(float(score[pair]) for pair in pairs) == pytest.approx(greatest(score))
        assert len({row for row, _ in pairs}) == len(pairs) == len({column for _, column in pairs})
        assert pairs == sorted(pairs)


def test_a_first_choice_is_given_up_for_a_better_total() -> None:
    assert best_pairs(np.array([[0.9, 0.8], [0.85, 0.1]])) == [(0, 1), (1, 0)]


def test_what_scores_nothing_is_not_paired() -> None:
    assert best_pairs(np.array([[0.0, 0.0, 0.0], [0.0, 0.3, 0.0]])) == [(1, 1)]
    assert best_pairs(np.zeros((3, 2))) == []
    assert best_pairs(np.zeros((0, 4))) == []


def test_scipy_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, stream.job; print('scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "False"
