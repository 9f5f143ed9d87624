"""One label for every pixel of a hole so that the seams between copies show least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.arrays import Float

_SEAM_TOP = np.float32(60.0**2)
_SWEEPS = 2
_CHANGE = np.float32(250)


def assign(costs: Float, copies: Float, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Minimise costs and seams by belief propagation; returns labels (H, W).

    `costs` (K, H, W) of each label at each pixel; `copies` (K, H, W, 3), what the label would put there;
    only `wanted` pixels (H, W) matter to each other. A seam between neighbours costs how much the two
    copies differ on both of its sides (Kwatra et al., "Graphcut Textures", SIGGRAPH 2003, equation 1);
    messages are swept down, up, right and left (Tappen and Freeman, "Comparison of Graph Cuts with Belief
    Propagation", ICCV 2003).
    """
    count, height, width = costs.shape
    unary = np.ascontiguousarray(np.where(wanted, costs, np.float32(0)).transpose(1, 2, 0))
    apart = _differences(copies)
    down = _seams(apart[:-1], apart[1:], wanted[:-1] & wanted[1:])
    right = _seams(apart[:, :-1], apart[:, 1:], wanted[:, :-1] & wanted[:, 1:])
    right = np.ascontiguousarray(right.transpose(1, 0, 2, 3))
    rows, columns = _spans(wanted), _spans(wanted.T)
    above, below, before, after = (np.zeros((height, width, count), np.float32) for _ in range(4))
    for _ in range(_SWEEPS):
        side = unary + before + after
        for row, part in enumerate(rows):
            above[row + 1, part] = _message((side[row] + above[row])[part], down[row, part])
        for row, part in reversed(list(enumerate(rows))):
            below[row, part] = _message((side[row + 1] + below[row + 1])[part], down[row, part])
        side = unary + above + below
        for column, part in enumerate(columns):
            belief = side[part, column] + before[part, column]
            before[part, column + 1] = _message(belief, right[column, part])
        for column, part in reversed(list(enumerate(columns))):
            belief = side[part, column + 1] + after[part, column + 1]
            after[part, column] = _message(belief, right[column, part])
    return np.asarray((unary + above + below + before + after).argmin(2))


def _spans(wanted: NDArray[np.bool_]) -> list[slice]:
    """The part of each row that has something to tell the next one."""
    spans = []
    for both in wanted[:-1] & wanted[1:]:
        there = np.flatnonzero(both)
        spans.append(slice(there[0], there[-1] + 1) if len(there) else slice(0, 0))
    return spans


def _differences(copies: Float) -> Float:
    """Squared differences between every two labels' colours at each pixel, (H, W, K, K)."""
    colours = np.ascontiguousarray(copies.transpose(1, 2, 0, 3))
    own = (colours * colours).sum(3)
    product = colours @ colours.transpose(0, 1, 3, 2)
    apart = own[..., :, None] + own[..., None, :] - 2 * product
    return np.asarray(np.maximum(apart, 0), np.float32)


def _seams(here: Float, there: Float, both: NDArray[np.bool_]) -> Float:
    cost = np.minimum((here + there) * np.float32(1 / 3), _SEAM_TOP)
    cost = cost + _CHANGE * (1 - np.eye(cost.shape[2], dtype=np.float32))
    return np.asarray(np.where(both[..., None, None], cost, np.float32(0)), np.float32)


def _message(belief: Float, seams: Float) -> Float:
    message = (belief[:, :, None] + seams).min(1)
    return np.asarray(message - message.min(1, keepdims=True), np.float32)
