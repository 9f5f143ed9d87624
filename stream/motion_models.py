"""What moves with what: one or two homographies for the corners of a shot, and how much these explain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream import geometry
from stream.geometry import Homography, Points

_BASELINES = (16, 10, 6, 3)
_EXPLAIN_FRAMES = 8
_TOGETHER = 0.85
"""Share of the corners that a model misses which one other model must explain to be a layer."""

_IN_STEP = 3.5
_PARALLAX = 4.0
"""How many times faster than the median corner a near one may seem to move beside the far layer."""
"""About one in three corners that miss a model by parallax has neighbours that miss it alike."""

Ids = NDArray[np.int64]


def vote(
    votes: NDArray[np.float32],
    ids: Ids,
    corners: Points,
    history: tuple[tuple[Ids, Points], ...],
    unit: float,
) -> NDArray[np.float32]:
    """Look for a second layer over the widest baseline that keeps half of the corners."""
    votes = votes * np.float32(0.9)
    for back in _BASELINES:
        if len(history) <= back:
            continue
        old_ids, old = history[-1 - back]
        _, i, j = np.intersect1d(old_ids, ids, assume_unique=True, return_indices=True)
        if len(i) < max(16, 0.5 * len(ids)):
            continue
        source, target = old[i], corners[j]
        first = geometry.robust(source, target, 1.5 * unit)
        if first is None:
            return votes
        in_main = geometry.residuals(first[0], source, target) < 3.0 * unit
        rest = ~in_main
        if np.count_nonzero(rest) < max(8, 0.04 * len(i)):
            votes[j] -= 1
            return votes
        second = geometry.robust(source[rest], target[rest], 2.0 * unit)
        if second is None or np.count_nonzero(second[1]) < max(6, 0.4 * np.count_nonzero(rest)):
            votes[j[in_main]] -= 1
            return votes
        r1 = geometry.residuals(first[0], source, target)
        r2 = geometry.residuals(second[0], source, target)
        in_second, in_first = (r2 < r1) & (r2 < 4 * unit), (r1 <= r2) & (r1 < 4 * unit)
        shift = np.linalg.norm(target - source, axis=1)
        if not in_second.any() or not in_first.any():
            return votes
        # What moves faster across the picture is nearer.
        second_near = float(np.median(shift[in_second])) > float(np.median(shift[in_first]))
        votes[j[in_second]] += 1 if second_near else -1
        votes[j[in_first]] += -1 if second_near else 1
        return votes
    return votes


def models(
    main: Homography | None,
    last: tuple[Homography, ...],
    before: Points,
    after: Points,
    near: NDArray[np.bool_],
    unit: float,
    shape: tuple[int, ...],
    static: bool,
) -> tuple[tuple[Homography, ...], NDArray[np.float32]]:
    """One homography a layer (far first), and each corner's smallest residual."""
    if main is None:
        return (np.eye(3),), np.zeros(len(before), np.float32)
    fits = geometry.residuals(main, before, after)
    if static or np.count_nonzero(near) < 8 or np.count_nonzero(~near) < 8:
        return (main,), fits
    models = []
    for layer, mine in enumerate((~near, near)):
        source, target = before[mine], after[mine]
        # The camera goes on much as it went, so the layer's last motion is the best start there is.
        start = last[layer] if len(last) == 2 else None
        fitted = None if start is None else geometry.refine(start, source, target, 0.7 * unit, rounds=3)
        if fitted is None:
            found = geometry.robust(source, target, 1.5 * unit)
            if found is None or not geometry.plausible(found[0], shape[1], shape[0]):
                return (main,), fits
            fitted = found[0], geometry.residuals(found[0], source, target)
        models.append(fitted[0])
        fits[mine] = np.minimum(fits[mine], fitted[1])
    return tuple(models), fits


def joined(
    votes: NDArray[np.float32], models: tuple[Homography, ...], before: Points, after: Points
) -> NDArray[np.float32]:
    """Let corners that have no vote yet join the layer that they moved with."""
    far, near = (geometry.residuals(h, before, after) for h in models)
    first = np.where(near < far - 0.2, np.float32(0.5), np.float32(-0.5))
    return np.where(np.abs(votes) < 0.02, first, votes).astype(np.float32)


def explained(
    ids: Ids,
    corners: Points,
    near: NDArray[np.bool_],
    history: tuple[tuple[Ids, Points], ...],
    unit: float,
) -> tuple[float, NDArray[np.bool_]]:
    """Share of corners that move as their layer's model says over eight frames, parallax left out.

    Corners more than 1.2 pixels (at 360 lines) off count against one model as far as their neighbours are
    off in the same way: then it is parallax; what is off alone is a corner badly followed. The second value
    marks corners that neither layer explains where the two explain most of the others.
    """
    wild = np.zeros(len(ids), bool)
    back = min(_EXPLAIN_FRAMES, len(history) - 1)
    if back < 1:
        return 1.0, wild
    old_ids, old = history[-1 - back]
    _, i, j = np.intersect1d(old_ids, ids, assume_unique=True, return_indices=True)
    if len(i) < 12:
        return 0.0, wild
    source, target, layer = old[i], corners[j], near[j]
    fits = np.full(len(i), np.inf, np.float32)
    off = np.zeros((len(i), 2), np.float32)
    for mine in (~layer, layer):
        if np.count_nonzero(mine) < 8:
            continue
        fitted = None
        dx, dy = np.median(target[mine] - source[mine], axis=0)
        for start in (np.eye(3), geometry.shifting(dx, dy)):
            fitted = fitted or geometry.refine(start, source[mine], target[mine], 0.7 * unit, rounds=3)
        if fitted is not None:
            beside = target - geometry.apply(fitted[0], source)
            fit = np.linalg.norm(beside, axis=1)
            off[fit < fits] = beside[fit < fits]
            fits = np.minimum(fits, fit)
    # Parallax grows with the camera's own motion; what goes much faster goes by itself or is badly followed.
    moved = float(np.median(np.linalg.norm(target - source, axis=1)))
    alive = np.isfinite(fits) & (fits > _PARALLAX * moved)
    missed = (fits >= 1.2 * unit) & ~alive
    share = float(1 - np.mean(missed))
    lost = fits > 4.0 * unit
    if share > 0.6 and (layer.any() or not _one_layer(source[lost], target[lost], unit)):
        wild[j] = lost
    if share > 0.6 and np.count_nonzero(layer) < 8:
        share = max(share, 1 - _IN_STEP * float(_in_step(target, off, missed).sum()) / len(i))
    return share, wild


def _one_layer(source: Points, target: Points, unit: float) -> bool:
    """Whether corners move together so closely that they are a layer which has not been found yet.

    Things that move by themselves do not, nor do corners badly followed.
    """
    found = geometry.robust(source, target, 2.0 * unit) if len(source) >= 8 else None
    return found is not None and bool(np.mean(found[1]) > _TOGETHER)


def _in_step(at: Points, off: Points, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of some corners are off as the three nearest corners are."""
    apart = np.square(at[which][:, None] - at[None]).sum(2)
    nearest = np.argpartition(apart, 4, axis=1)[:, :4]
    # The corner itself is among the four.
    own = off[which]
    others = np.sort(off[nearest], axis=1)[:, 1:3].mean(1)
    return np.asarray(np.linalg.norm(own - others, axis=1) < 0.5 * np.linalg.norm(own, axis=1), bool)
