"""One-to-one pairs of greatest total score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def best_pairs(score: Floats) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum of their scores, (N, M) and none below 0, is greatest.

    In the order of rows; pairs that score 0 are left out.
    """
    rows, columns = np.flatnonzero(score.any(1)), np.flatnonzero(score.any(0))
    part = score[np.ix_(rows, columns)]
    if not part.size:
        return []
    chosen = part.argmax(1)
    at = np.arange(len(rows))
    if len(set(chosen.tolist())) < len(rows):
        # Half a second and 45 MB, only for those who need it: mostly everybody's first choice is free.
        from scipy.optimize import linear_sum_assignment

        at, chosen = linear_sum_assignment(part, maximize=True)
    return [(int(rows[r]), int(columns[c])) for r, c in zip(at, chosen, strict=True) if part[r, c] > 0]
