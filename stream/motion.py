"""Camera motion outside all things: tracked corners, one or two homographies, how far they can be trusted.

Corners are followed by pyramidal Lucas-Kanade on a picture of at most 400 lines and keep their ids, so that
any two frames are related directly by the corners they share, without the drift of a chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Plate as PlateConfig
from stream import geometry, motion_models
from stream.arrays import u8
from stream.geometry import Homography, Points
from stream.motion_models import Ids
from stream.types import Frame, Mask, Motion

_LINES = 400
_CORNERS = 350
_HISTORY = 17
_CELLS = (10, 6)
_LEVELS = 3
_FITTED = 120
_ASKED = 100
"""Corners that are asked whether a camera at rest rests on."""

_STILL = 0.3
"""Pixels that a camera at rest may be off."""

_LONG = 10
"""Frames of rest from which corners are no longer followed; a hand that turns round holds still for a few."""


@dataclass(frozen=True)
class MotionState:
    """What must be known of the past; corners are in pixels of the reduced grey picture.

    `votes`: float32 (N,), positive for corners that go with the near layer, decaying. `history`: ids and
    corners of the last frames, newest last. `models`: the last homographies, far first. `anchor`: the
    picture and corners of the moment when the camera came to rest; `rested`: for how many frames it has.
    """

    grey: NDArray[np.uint8] | None = None
    corners: Points = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    ids: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    votes: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    next_id: int = 0
    history: tuple[tuple[Ids, Points], ...] = ()
    models: tuple[Homography, ...] = ()
    anchor: tuple[NDArray[np.uint8], Points] | None = None
    explained: float = 1.0
    rested: int = 0


@dataclass(frozen=True, slots=True)
class _Followed:
    """The corners that were followed into a frame, and the homographies (far first) they moved by."""

    models: tuple[Homography, ...]
    corners: Points
    ids: Ids
    votes: NDArray[np.float32]
    explained: float
    static: bool


def initial() -> MotionState:
    """The state before the first frame of a shot."""
    return MotionState()


def step(
    state: MotionState, frame: Frame, blocked: Mask, config: PlateConfig | None = None
) -> tuple[Motion, MotionState]:
    """Relate `frame` to the one before it.

    `blocked`: bool at any resolution, the pixels of all things; nothing is tracked there. A frame of another
    size than the one before begins anew, as the first frame of a shot does.
    """
    grey, scale = _reduce(frame)
    avoid = _avoid(blocked, grey.shape)
    if state.grey is None or state.grey.shape != grey.shape:
        return _first(frame.index, grey, scale, avoid)
    unit = grey.shape[0] / 360.0
    drift = _drift(state, grey, avoid) if state.rested else None
    if drift is not None and drift < _STILL and state.rested >= _LONG:
        return _next(frame.index, state, grey, scale, avoid, _rested(state, avoid))
    before, after, kept = _follow(state.grey, grey, state.corners, avoid, _LEVELS)
    ids, votes = state.ids[kept], state.votes[kept]
    main = _main_model(before, after, unit, grey.shape)
    static = (drift is None or drift < _STILL) and _is_static(main, before, after, grey.shape)
    if static:
        main = np.eye(3)
    history = (*state.history, (ids, after))[-_HISTORY:]
    if (config is None or config.layers > 1) and not static and frame.index % 2 == 0:
        votes = motion_models.vote(votes, ids, after, history, unit)
    near = votes > 0
    models, fits = motion_models.models(main, state.models, before, after, near, unit, grey.shape, static)
    if len(models) == 2:
        votes = motion_models.joined(votes, models, before, after)
    share, wild = motion_models.explained(ids, after, near, history, unit)
    # Wild corners are tracking failures; those that merely miss the layers may be a layer not yet found.
    stay = ((fits < 0.06 * grey.shape[1]) & ~wild) | (len(fits) < 30)
    # A camera at rest sees no parallax: corners that are off lie on what moves, or were badly followed.
    explained = 0.8 * state.explained + 0.2 * (1.0 if static else share) if main is not None else 0.0
    followed = _Followed(models, after[stay], ids[stay], votes[stay], explained, static)
    return _next(frame.index, state, grey, scale, avoid, followed)


def _next(
    index: int,
    state: MotionState,
    grey: NDArray[np.uint8],
    scale: tuple[float, float],
    avoid: NDArray[np.uint8],
    followed: _Followed,
) -> tuple[Motion, MotionState]:
    """A frame's motion from what was followed into it, with fresh corners where they have become few."""
    corners, ids, votes = followed.corners, followed.ids, followed.votes
    history = (*state.history, (ids, corners))[-_HISTORY:]
    if len(ids) < 0.75 * _CORNERS:
        fresh = _find(grey, avoid, corners, _CORNERS - len(corners), grey.shape[0] / 360.0)
        new_ids = np.arange(state.next_id, state.next_id + len(fresh), dtype=np.int64)
        corners, ids = np.vstack([corners, fresh]), np.concatenate([ids, new_ids])
        votes = np.concatenate([votes, np.zeros(len(fresh), np.float32)])
    next_id = max(state.next_id, int(ids[-1]) + 1 if len(ids) else 0)
    anchor = state.anchor if followed.static and state.anchor is not None else (grey, corners)
    full = geometry.scaling(1 / scale[0], 1 / scale[1])
    motion = Motion(
        index=index,
        homographies=tuple(full @ m @ geometry.inverse(full) for m in followed.models),
        corners=geometry.apply(full, corners),
        ids=ids,
        static=followed.static,
        confidence=float(np.clip(followed.explained, 0.0, 1.0)),
        near=votes > 0,
    )
    state = MotionState(
        grey,
        corners,
        ids,
        votes,
        next_id,
        history,
        followed.models,
        anchor,
        followed.explained,
        state.rested + 1 if followed.static else 0,
    )
    return motion, state


def _drift(state: MotionState, grey: NDArray[np.uint8], avoid: NDArray[np.uint8]) -> float | None:
    """How far a camera at rest is from where it came to rest, in pixels; None when too little is in sight.

    Measured against the picture of that moment, so that nothing adds up over the time of a rest.
    """
    if state.anchor is None:
        return None
    then, corners = state.anchor
    at = np.rint(corners).astype(int)
    clear = np.flatnonzero(avoid[at[:, 1], at[:, 0]] == 0)
    some = corners[clear[:: max(1, len(clear) // _ASKED)]]
    before, after, _ = _follow(then, grey, some, avoid, 1)
    if len(before) < 12:
        return None
    shift = float(np.abs(np.median(after - before, axis=0)).max())
    fitted = geometry.refine(np.eye(3), before, after, 0.5, rounds=1) if len(before) >= 40 else None
    turned = 0.0 if fitted is None else geometry.corner_motion(fitted[0], grey.shape[1], grey.shape[0])
    return max(shift, _STILL * turned)


def _rested(state: MotionState, avoid: NDArray[np.uint8]) -> _Followed:
    """The corners of a camera that rests on: those that nothing covers, where they were."""
    at = np.rint(state.corners).astype(int)
    stay = avoid[at[:, 1], at[:, 0]] == 0
    explained = 0.8 * state.explained + 0.2
    return _Followed((np.eye(3),), state.corners[stay], state.ids[stay], state.votes[stay], explained, True)


def between(a: Motion, b: Motion, start: Homography | None = None, near: bool = False) -> Homography | None:
    """Fit the map from pixels of frame `a` to pixels of frame `b` to the corners they share.

    `start` is what the chain of frame-to-frame motions says; the fit refines it. Without it, or when the
    corners contradict it, the fit is made afresh against outliers. None when fewer than 12 corners are
    shared (8 in the near layer): the caller then uses the chain.
    """
    if start is not None:
        return between_all([a], b, [start], near)[0]
    i, j = _shared(a, b, near)
    return _afresh(a.corners[i], b.corners[j]) if len(i) >= (8 if near else 12) else None


def between_all(
    motions: Sequence[Motion], b: Motion, starts: Sequence[Homography], near: bool = False
) -> list[Homography | None]:
    """`between` for the maps from several frames to one."""
    out: list[Homography | None] = [None] * len(motions)
    shared = [_shared(a, b, near) for a in motions]
    which = [k for k, (i, _) in enumerate(shared) if len(i) >= (8 if near else 12)]
    if not which:
        return out
    source = np.zeros((len(which), _FITTED, 2), np.float32)
    target = np.zeros((len(which), _FITTED, 2), np.float32)
    valid = np.zeros((len(which), _FITTED), bool)
    for row, k in enumerate(which):
        i, j = shared[k]
        source[row, : len(i)], target[row, : len(i)] = motions[k].corners[i], b.corners[j]
        valid[row, : len(i)] = True
    fitted, good = geometry.refine_all(np.stack([starts[k] for k in which]), source, target, valid)
    for row, k in enumerate(which):
        if good[row]:
            out[k] = fitted[row]
        else:
            i, j = shared[k]
            out[k] = _afresh(motions[k].corners[i], b.corners[j])
    return out


def _shared(a: Motion, b: Motion, near: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the corners that two frames share, of one layer; not more than a fit has use for."""
    # Both ascend.
    at = np.searchsorted(a.ids, b.ids).clip(max=max(0, len(a.ids) - 1))
    j = np.flatnonzero(a.ids[at] == b.ids) if len(a.ids) else np.zeros(0, np.intp)
    i = at[j]
    if len(b.near) == len(b.ids):
        mine = b.near[j] == near
        i, j = i[mine], j[mine]
    if len(i) > _FITTED:
        # More corners cost time and bring nothing: the fit is already finer than the corners' own error.
        some = np.linspace(0, len(i) - 1, _FITTED).astype(int)
        i, j = i[some], j[some]
    return i, j


def _afresh(source: Points, target: Points) -> Homography | None:
    found = geometry.robust(source, target, 1.5)
    return None if found is None or np.count_nonzero(found[1]) < max(8, 0.4 * len(source)) else found[0]


def _first(
    index: int, grey: NDArray[np.uint8], scale: tuple[float, float], avoid: NDArray[np.uint8]
) -> tuple[Motion, MotionState]:
    corners = _find(grey, avoid, np.zeros((0, 2), np.float32), _CORNERS, grey.shape[0] / 360.0)
    ids = np.arange(len(corners), dtype=np.int64)
    full = geometry.apply(geometry.scaling(1 / scale[0], 1 / scale[1]), corners)
    motion = Motion(index, (np.eye(3),), full, ids, static=False, confidence=1.0, cut=True)
    votes = np.zeros(len(ids), np.float32)
    state = MotionState(grey, corners, ids, votes, len(ids), ((ids, corners),), (), (grey, corners))
    return motion, state


def _reduce(frame: Frame) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Grey picture of at most 400 lines and its (x, y) scale against the frame."""
    grey = u8(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY))
    times = -(-frame.height // _LINES)
    if times > 1:
        size = (max(16, round(frame.width / times)), max(16, round(frame.height / times)))
        grey = u8(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    return grey, (grey.shape[1] / frame.width, grey.shape[0] / frame.height)


def _avoid(blocked: Mask, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Blocked pixels at the grey picture's size, grown so that no tracking window reaches into a thing."""
    mask = blocked.view(np.uint8) if blocked.dtype == bool else (blocked > 0).astype(np.uint8)
    mask = u8(cv2.resize(mask, shape[1::-1], interpolation=cv2.INTER_NEAREST))
    r = max(3, round(8 * shape[0] / 360))
    return u8(cv2.dilate(mask, np.ones((2 * r + 1, 2 * r + 1), np.uint8)))


def _follow(
    then: NDArray[np.uint8],
    grey: NDArray[np.uint8],
    corners: Points,
    avoid: NDArray[np.uint8],
    levels: int,
) -> tuple[Points, Points, NDArray[np.bool_]]:
    """Follow corners into another picture: where they were, where they are, and which were found."""
    if len(corners) == 0:
        return corners, corners, np.zeros(0, bool)
    points, found, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]  # None asks it to allocate
        then,
        grey,
        corners.reshape(-1, 1, 2),
        None,
        winSize=(16, 16),
        maxLevel=levels,
        criteria=(3, 10, 0.03),
    )
    after = points.reshape(-1, 2)
    h, w = grey.shape
    x, y = np.nan_to_num(after[:, 0], nan=-9), np.nan_to_num(after[:, 1], nan=-9)
    kept = (found[:, 0] > 0) & (x >= 2) & (y >= 2) & (x <= w - 3) & (y <= h - 3)
    at = np.clip(np.rint(y), 0, h - 1).astype(int), np.clip(np.rint(x), 0, w - 1).astype(int)
    kept &= avoid[at] == 0
    return corners[kept], after[kept], kept


def _main_model(before: Points, after: Points, unit: float, shape: tuple[int, ...]) -> Homography | None:
    found = geometry.robust(before, after, 1.5 * unit)
    if found is None:
        return None
    h, inliers = found
    polished = geometry.refine(h, before[inliers], after[inliers], 0.5 * unit, rounds=1)
    if polished is not None:
        h = polished[0]
    return h if geometry.plausible(h, shape[1], shape[0]) else None


def _is_static(
    main: Homography | None,
    before: Points,
    after: Points,
    shape: tuple[int, ...],
) -> bool:
    """Whether the camera has not moved since the frame before."""
    if main is None or len(before) < 12:
        return False
    if float(np.median(np.abs(after - before).max(1))) >= 0.2:
        return False
    return geometry.corner_motion(main, shape[1], shape[0]) < 1.0


def _find(grey: NDArray[np.uint8], avoid: NDArray[np.uint8], have: Points, count: int, unit: float) -> Points:
    """Find up to `count` corners away from those at hand: half by strength, half the best of each cell.

    The cells make sure that a plain near layer gets corners at all.
    """
    distance = max(4, round(9 * unit))
    strength = cv2.cornerMinEigenVal(grey, 3)
    peak = cv2.dilate(strength, np.ones((2 * (distance // 2) + 1,) * 2, np.uint8))
    taken = avoid.copy()
    for x, y in have:
        cv2.circle(taken, (round(float(x)), round(float(y))), distance, 1, -1)
    border = 5
    taken[:border], taken[-border:], taken[:, :border], taken[:, -border:] = 1, 1, 1, 1
    # The flattest parts of the picture (clipped ones apart) show what noise alone looks like.
    sample = strength[::4, ::4]
    sample = sample[sample > 1e-7]
    noise = float(np.percentile(sample, 20)) if len(sample) else 0.0
    floor = max(1e-6, 1e-3 * float(strength.max()), 4 * noise)
    ys, xs = np.nonzero((strength >= peak) & (taken == 0) & (strength > floor))
    if len(xs) == 0 or count <= 0:
        return np.zeros((0, 2), np.float32)
    order = np.argsort(-strength[ys, xs], kind="stable")
    xs, ys = xs[order], ys[order]
    cell = (ys * _CELLS[1] // grey.shape[0]) * _CELLS[0] + xs * _CELLS[0] // grey.shape[1]
    # Rank of each corner within its cell: the best of every cell first, then the second best, ...
    by_cell = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[by_cell], np.arange(_CELLS[0] * _CELLS[1]))
    rank = np.empty(len(xs), np.int64)
    rank[by_cell] = np.arange(len(xs)) - starts[cell[by_cell]]
    strongest = np.zeros(len(xs), bool)
    strongest[: count // 2] = True
    spread = np.argsort(np.where(strongest, 1 << 30, rank), kind="stable")[: count - count // 2]
    chosen = np.concatenate([np.flatnonzero(strongest), spread[~strongest[spread]]])
    return np.stack([xs[chosen], ys[chosen]], 1).astype(np.float32)
