"""One-to-one pairs of greatest total score.

SciPy has the same, but takes half a second and 45 MB to import, as much as all else a run needs to start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def best_pairs(score: Floats) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum of their scores, (N, M) and none below 0, is greatest.

    In the order of rows; pairs that score 0 are left out. Shortest augmenting paths as in Crouse, "On
    implementing 2D rectangular assignment algorithms", IEEE Transactions on Aerospace and Electronic Systems
    52(4), 2016, section III.
    """
    rows, columns = np.flatnonzero(score.any(1)), np.flatnonzero(score.any(0))
    part = score[np.ix_(rows, columns)]
    if not part.size:
        return []
    if len(set(part.argmax(1).tolist())) == len(rows):
        # Everybody's first choice is free: the usual case.
        chosen = part.argmax(1)
        pairs = [(row, int(chosen[row])) for row in range(len(rows))]
    elif len(rows) <= len(columns):
        pairs = _solve(-part)
    else:
        pairs = sorted((row, column) for column, row in _solve(-part.T))
    return [(int(rows[r]), int(columns[c])) for r, c in pairs if part[r, c] > 0]


def _solve(cost: Floats) -> list[tuple[int, int]]:
    """The cheapest pairs of every row with a column; there are no more rows than columns."""
    count, width = cost.shape
    row_price, column_price = np.zeros(count), np.zeros(width)
    row_of, column_of = np.full(width, -1), np.full(count, -1)
    for start in range(count):
        reached = np.full(width, np.inf)
        came_from = np.full(width, -1)
        open_columns = np.ones(width, bool)
        done_rows = []
        row, length = start, 0.0
        while True:
            done_rows.append(row)
            way = length + cost[row] - row_price[row] - column_price
            shorter = open_columns & (way < reached)
            reached[shorter], came_from[shorter] = way[shorter], row
            nearest = np.where(open_columns, reached, np.inf)
            length = float(nearest.min())
            best = np.flatnonzero(nearest == length)
            free = best[row_of[best] < 0]
            column = int(free[0] if len(free) else best[0])
            open_columns[column] = False
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        row_price[start] += length
        for other in done_rows[1:]:
            row_price[other] += length - reached[column_of[other]]
        column_price[~open_columns] -= length - reached[~open_columns]
        while True:
            row = int(came_from[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
            if row == start:
                break
    return [(row, int(column_of[row])) for row in range(count)]
