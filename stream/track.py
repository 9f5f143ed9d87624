"""Things followed through a shot: ids that last, masks that do not flicker, speed against the background.

Each frame: every thing is predicted by camera motion and its own velocity, matched with what the networks
saw (`stream.sightings`, `stream.association`), corrected or carried on (`stream.life`). A thing hidden by
another, or missed, goes on for `patience_seconds`. Where two things are seen as one their common mask is
divided by their predictions; where a pole cuts one thing in two the pieces are joined again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Track as TrackConfig
from stream import conduct, geometry, inner, life, pieces, sightings
from stream.arrays import median
from stream.life import Life, Scene
from stream.shrink import halved
from stream.types import Frame, Motion, Perception, Track

_TENTATIVE_SECONDS = 0.06
_LOST_SECONDS = 2.5
_KNOWN_HITS = 5


@dataclass(frozen=True)
class TrackState:
    """What must be known of the past; `next_id` is the id of the next new track.

    `lost`: things given up lately, which get their id back if they turn up again where they may be.
    """

    next_id: int = 1
    lives: tuple[Life, ...] = ()
    lost: tuple[Life, ...] = ()
    time: float = math.nan
    looked: float = math.nan
    began: float = math.nan
    working: tuple[int, int] = (0, 0)
    grey: NDArray[np.uint8] | None = None
    corners: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def initial(first_id: int = 1) -> TrackState:
    """The state before the first frame of a shot; ids go on from `first_id`."""
    return TrackState(next_id=first_id)


def step(
    state: TrackState, perception: Perception | None, motion: Motion, frame: Frame, config: TrackConfig
) -> tuple[tuple[Track, ...], TrackState]:
    """Follow every thing into `frame`.

    `perception` None means that nobody looked: all things are carried on by their own motion. Tracks not yet
    believed (`confirmed` false) are returned too, since with look-ahead they may turn out to be real.
    """
    if motion.cut or state.grey is None:
        state = initial(state.next_id)
    working = perception.working if perception is not None else state.working
    if working == (0, 0):
        return (), state
    time = float(frame.time)
    step = time - state.time if time > state.time else 1 / 30
    began = time if math.isnan(state.began) else state.began
    look = step if math.isnan(state.looked) else max(step, time - state.looked)
    scene = Scene(frame.width, frame.height, working, time, step, look, time - began, frame.index)
    grey = _grey(frame, working)
    before = state.lives
    predicted, lost = _predict_all(state, motion, scene)
    if perception is None:
        lives = tuple(
            sightings.carried(old, new, state.grey, grey, scene)
            for old, new in zip(before, predicted, strict=True)
        )
        next_id = state.next_id
    else:
        lives, next_id = sightings.observe_all(
            before, state.grey, lost, state.next_id, predicted, perception, frame, grey, scene, config
        )
    known = {each.id for each in lives}
    lost = tuple(each for each in lost if each.id not in known)
    lost = tuple(each for each in (*lost, *lives) if _lost(each, scene, config))
    lives = _stirred(lives, before, state.grey, grey, motion, scene)
    lives = tuple(conduct.account(each, scene) for each in lives if _alive(each, scene, config))
    lives = pieces.without_doubles(lives, working)
    tracks = tuple(conduct.as_track(each, scene) for each in lives if _shown(each, perception))
    looked = state.looked if perception is None else time
    return tracks, TrackState(
        next_id, lives, lost, time, looked, began, working, grey, motion.corners, motion.ids
    )


def _predict_all(
    state: TrackState, motion: Motion, scene: Scene
) -> tuple[tuple[Life, ...], tuple[Life, ...]]:
    """The followed and the lost things where they should be in this frame."""
    homography = np.eye(3)
    if motion.homographies and not motion.static:
        homography = motion.homographies[0]
    corners, drift = _local_drift(state, motion, homography)
    out = []
    for each in (*state.lives, *state.lost):
        mine = homography
        x0, y0, x1, y1 = each.box
        wide, high = 0.3 * (x1 - x0) + 8, 0.3 * (y1 - y0) + 8
        near = (
            (corners[:, 0] > x0 - wide)
            & (corners[:, 0] < x1 + wide)
            & (corners[:, 1] > y0 - high)
            & (corners[:, 1] < y1 + high)
        )
        if near.sum() >= 6:
            mine = geometry.shifting(*median(drift[near])) @ homography
        out.append(life.predict(each, mine, scene))
    count = len(state.lives)
    return tuple(out[:count]), tuple(out[count:])


def _stirred(
    lives: tuple[Life, ...],
    before: tuple[Life, ...],
    previous: NDArray[np.uint8] | None,
    grey: NDArray[np.uint8],
    motion: Motion,
    scene: Scene,
) -> tuple[Life, ...]:
    """Large things with the motion of their texture; which the others need not."""
    homography = motion.homographies[0] if motion.homographies and not motion.static else np.eye(3)
    known = {each.id: each for each in before}
    return tuple(
        inner.stirred(each, known[each.id], previous, grey, homography, scene) if each.id in known else each
        for each in lives
    )


def _local_drift(
    state: TrackState, motion: Motion, homography: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the background around a point moved otherwise than the homography says (parallax).

    Returns the corners of the previous frame (N, 2) and their residual motion (N, 2), pixels.
    """
    _, i, j = np.intersect1d(state.ids, motion.ids, assume_unique=True, return_indices=True)
    if motion.static or not len(i):
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    source = state.corners[i]
    return source, motion.corners[j] - geometry.apply(homography, source)


def _lost(each: Life, scene: Scene, config: TrackConfig) -> bool:
    """Whether a thing that is no longer followed may still be found again."""
    if each.identity or not each.confirmed or each.hits < _KNOWN_HITS or _alive(each, scene, config):
        return False
    return scene.time - each.seen <= config.patience_seconds + _LOST_SECONDS and _inside(each, scene) > 0.15


def _inside(each: Life, scene: Scene) -> float:
    """Share of the thing's box that lies in the picture."""
    x0, y0, x1, y1 = each.box
    inside = max(0.0, min(x1, scene.width) - max(x0, 0)) * max(0.0, min(y1, scene.height) - max(y0, 0))
    return inside / max((x1 - x0) * (y1 - y0), 1e-9)


def _alive(each: Life, scene: Scene, config: TrackConfig) -> bool:
    if each.identity:
        return True
    if _inside(each, scene) < 0.15:
        return False
    unseen = scene.time - each.seen - scene.look
    if not each.confirmed:
        return unseen <= _TENTATIVE_SECONDS
    # What was seen for a moment only is not waited for much longer than that.
    known = max(_TENTATIVE_SECONDS, 0.5 * (each.seen - each.born))
    return unseen <= min(known, config.patience_seconds) * (2 if each.occluded else 1)


def _shown(each: Life, perception: Perception | None) -> bool:
    if each.identity and each.missed and perception is not None:
        return False
    return bool(each.mask.any())


def _grey(frame: Frame, working: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame's brightness at working resolution, uint8; the luma plane as it is where there is one."""
    plane = frame.planes[0]
    size = (working[1], working[0])
    if frame.format.startswith(("yuv", "nv", "gray")) and plane.ndim == 2 and plane.dtype == np.uint8:
        return _sized(plane.view(np.uint8), size)
    return _sized(np.asarray(cv2.cvtColor(halved(frame, size), cv2.COLOR_RGB2GRAY), np.uint8), size)


def _sized(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Halved as long as it stays large enough, then read between its pixels: a mean of all takes longer."""
    while grey.shape[0] >= 2 * size[1] and grey.shape[1] >= 2 * size[0]:
        half = grey.shape[1] // 2, grey.shape[0] // 2
        grey = np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.uint8)
