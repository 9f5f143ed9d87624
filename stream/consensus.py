"""What several frames say of the same pixels: the answer that most of them agree with."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, Float, f32, u8

LIKE = np.exp(-np.square(np.arange(256)) / (2 * 14.0 * 14.0)).astype(np.float32)
"""How far two answers agree, by their difference in grey levels."""

UNUSUAL = (0.02 + 0.98 * np.exp(-np.square(np.arange(256) / 20.0))).astype(np.float32)
"""How far an answer is believed, by its difference from the background as other times show it."""

PASSING = 0.25
"""Seconds after which what was seen is no longer something that was just passing."""

_UNSETTLED = 0.6
_SAME = 20


def consensus(
    grey: Bytes, weight: NDArray[np.float32], seconds: NDArray[np.float64], passing: float = PASSING
) -> NDArray[np.intp]:
    """For each of N pixels which of K frames has most support, of equal ones the nearest in time (the first).

    Where most frames differ something always moves there: then it is the one `last_seen` names. `grey` and
    `weight` (K, N), weight 0 where a frame does not count; `seconds` (K, 1) or (K, N): when each was taken.
    """
    total = weight.sum(0)
    chosen: NDArray[np.intp] = (weight > 0).argmax(0)
    # Nearly everywhere the first agrees with all others, and no other can have more support.
    first = np.take_along_axis(grey, chosen[None], 0)[0]
    asked = np.flatnonzero(_support(grey, weight, first) < 0.9 * total)
    if not len(asked):
        return chosen
    grey, weight = np.ascontiguousarray(grey[:, asked]), weight[:, asked]
    when = seconds if seconds.shape[1] == 1 else seconds[:, asked]
    support = np.stack([_support(grey, weight, each) for each in grey])
    support[weight <= 0] = -1
    most = support.max(0)
    near = (support >= 0.9 * most).argmax(0)
    settled = most >= _UNSETTLED * total[asked]
    chosen[asked] = np.where(settled, near, last_seen(grey, weight > 0, when, passing))
    return chosen


def last_seen(
    grey: Bytes, counted: NDArray[np.bool_], seconds: NDArray[np.float64], passing: float = PASSING
) -> NDArray[np.intp]:
    """For each of N pixels which of K frames, nearest first, to believe where things come and go always.

    What was seen last is most likely there still, unless it was only passing: the nearest that another frame,
    more than `passing` seconds apart, confirms.
    """
    nearest: NDArray[np.intp] = counted.argmax(0)
    first = np.take_along_axis(grey, nearest[None], 0)[0]
    left = np.flatnonzero(~confirmed(grey, counted, seconds, first, passing))
    for k in range(1, len(grey)):
        if not len(left):
            break
        # Only those that this frame shows, and that no nearer one has settled.
        asked = left[counted[k, left] & (nearest[left] < k)]
        if not len(asked):
            continue
        when = seconds if seconds.shape[1] == 1 else seconds[:, asked]
        held = confirmed(grey[:, asked], counted[:, asked], when, grey[k, asked], passing)
        nearest[asked[held]] = k
        left = np.setdiff1d(left, asked[held], assume_unique=True)
    return nearest


def confirmed(
    grey: Bytes,
    counted: NDArray[np.bool_],
    seconds: NDArray[np.float64],
    one: Bytes,
    passing: float = PASSING,
) -> NDArray[np.bool_]:
    """Whether frames more than `passing` seconds apart agree with one answer (N,)."""
    like = (apart_from(grey, one) < _SAME) & counted
    when = (seconds - seconds.min()).astype(np.float32)
    latest = np.where(like, when, np.float32(-1e6)).max(0)
    return np.asarray(latest - np.where(like, when, np.float32(1e6)).min(0) > passing)


def _support(grey: Bytes, weight: Float, one: Bytes) -> Float:
    """The weight of all frames that agree with one answer, for each of N pixels."""
    return f32(np.einsum("kn,kn->n", weight, cv2.LUT(apart_from(grey, one), LIKE)))


def apart_from(grey: Bytes, one: Bytes) -> Bytes:
    """How far K answers (K, N) are from one (N,)."""
    return u8(cv2.absdiff(grey, np.broadcast_to(one, grey.shape).copy()))
