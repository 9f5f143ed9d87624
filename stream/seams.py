"""One label for every pixel of a hole so that the seams between copies show least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.arrays import Float

_SEAM_TOP = np.float32(60.0**2)
_SWEEPS = 2
_CHANGE = np.float32(250)
_PIXELS = 64
"""Pixels worked on in one step, for all pairs of labels, so that it fits the cache."""


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
    apart = _differences(copies[:, wanted])
    number = np.cumsum(wanted.ravel()).reshape(wanted.shape) - 1
    down = _seams(apart, number, wanted)
    right = _seams(apart, number.T, wanted.T)
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
    """Squared differences between every two labels' colours, (K, N, 3), at each of N pixels, (N, K, K)."""
    colours = np.ascontiguousarray(copies.transpose(1, 0, 2))
    own = (colours * colours).sum(2)
    out = np.empty((len(own), *2 * own.shape[1:]), np.float32)
    for first in range(0, len(own), _PIXELS):
        some = slice(first, first + _PIXELS)
        product = colours[some] @ colours[some].transpose(0, 2, 1)
        product *= np.float32(2)
        np.subtract(own[some, :, None] + own[some, None, :], product, out=product)
        np.maximum(product, 0, out=out[some])
    return out


def _seams(apart: Float, number: NDArray[np.intp], wanted: NDArray[np.bool_]) -> Float:
    """What two labels cost at each pixel and the one below it, (H - 1, W, K, K); 0 where not both are wanted.

    `apart` as of `_differences`, `number`: which of its pixels each is.
    """
    both = wanted[:-1] & wanted[1:]
    rows, columns = np.nonzero(both)
    here, there = number[:-1][both], number[1:][both]
    count = apart.shape[1]
    change = _CHANGE * (1 - np.eye(count, dtype=np.float32))
    out = np.zeros((*both.shape, count, count), np.float32)
    for first in range(0, len(here), _PIXELS):
        some = slice(first, first + _PIXELS)
        cost = apart[here[some]]
        cost += apart[there[some]]
        cost *= np.float32(1 / 3)
        np.minimum(cost, _SEAM_TOP, out=cost)
        cost += change
        out[rows[some], columns[some]] = cost
    return out


def _message(belief: Float, seams: Float) -> Float:
    message = (belief[:, :, None] + seams).min(1)
    return np.asarray(message - message.min(1, keepdims=True), np.float32)
