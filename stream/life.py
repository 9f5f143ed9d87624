"""One followed thing from frame to frame: predict it, correct it with what was seen, or carry it on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import paths, regions
from stream.regions import Affine, Box, Soft
from stream.types import Instance, Mask
from stream.whole import whole_box

_HOLD_SECONDS = 0.08
_MOST_HOLD = 0.66
_PART = 0.8
_PART_SECONDS = 0.5
_LITTLE = 0.7
_SOLID = 77
_VELOCITY_SECONDS = 0.15
_BOX_SECONDS = 0.1
_STEADY_HITS = 4
_JUMP = 0.35
_DOUBT_SECONDS = 1.5
_CRUISE_SECONDS = 0.5
_FADE_SECONDS = 1.0
_GROW_SECONDS = 0.2
_SHRINK_SECONDS = 2.0
_BULGE_SECONDS = 1.0
_BULGE = 1.3
_BORDER = 2.0
_KNOWN_HITS = 8


@dataclass(frozen=True, slots=True)
class Scene:
    """What all things of a frame share: its size, the working size (h, w), times in seconds.

    `step` since the last frame, `look` between the last two looks of the networks, `elapsed` since the shot
    began.
    """

    width: int
    height: int
    working: tuple[int, int]
    time: float
    step: float
    look: float
    elapsed: float
    index: int

    @property
    def to_working(self) -> NDArray[np.float64]:
        """3 x 3 from frame pixels to pixels of the working resolution."""
        return _to_working(self.working, self.width, self.height)[0]

    @property
    def from_working(self) -> NDArray[np.float64]:
        """The map back."""
        return _to_working(self.working, self.width, self.height)[1]


@dataclass(frozen=True, slots=True)
class Life:
    """All that is remembered of a thing.

    `box` is where it was last seen or is thought to be, `even` the same without the detector's trembling,
    `whole` the same with what is hidden, and `cut` whether something is; `crowded` the time when another one
    was last over or behind it; `size` its width and height when nothing hides it; `velocity` is against the
    background, pixels per second, and `cruise` the same over a longer time, for when it is not seen; `soft`
    the mask with its memory, and `fringe` where it may go on beside it, with the same memory; `seen` the time
    of the last sighting; `split_since` the time from which a second piece of it has been seen, NaN if none;
    `stir` the speed of a large thing's texture in the picture, widths per second, and `way` how far it went
    against the background lately, pixels; `ranged` is that of its track, and `places` the path that it goes
    by: where the thing was seen, leaps and all.
    """

    id: int
    identity: int
    votes: Mapping[str, float]
    score: float
    box: Box
    even: Box
    whole: Box
    size: tuple[float, float]
    velocity: tuple[float, float]
    soft: Soft
    mask: Mask
    fringe: Soft
    colour: NDArray[np.float32]
    path: paths.Path
    places: paths.Path
    first: int
    last: int
    born: float
    seen: float
    hits: int
    confirmed: bool
    reach: float = 0.0
    travel: float = 0.0
    ranged: float = 0.0
    subject: float = 0.0
    speed: float = 0.0
    missed: bool = False
    crowded: float = -math.inf
    cut: bool = False
    occluded: bool = False
    split_since: float = math.nan
    stir: float = math.nan
    cruise: tuple[float, float] = (0.0, 0.0)
    way: tuple[float, float] = (0.0, 0.0)

    @property
    def label(self) -> str:
        """The class with the most votes so far."""
        return max(self.votes, key=lambda name: self.votes[name])


@lru_cache(maxsize=8)
def _to_working(
    working: tuple[int, int], width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fx, fy = working[1] / width, working[0] / height
    there = np.array([[fx, 0.0, (fx - 1) / 2], [0.0, fy, (fy - 1) / 2], [0.0, 0.0, 1.0]])
    return there, np.linalg.inv(there)


def begin(id: int, seen: Instance, colour: NDArray[np.float32], scene: Scene, *, confirmed: bool) -> Life:
    """A thing seen for the first time."""
    return Life(
        id=id,
        identity=seen.identity,
        votes={seen.label: max(seen.score, 0.01)},
        score=seen.score,
        box=seen.box,
        even=seen.box,
        whole=seen.box,
        size=(seen.box[2] - seen.box[0], seen.box[3] - seen.box[1]),
        velocity=(0.0, 0.0),
        soft=seen.mask.view(np.uint8) * np.uint8(255),
        mask=seen.mask,
        fringe=_solid(seen.fringe, seen.mask),
        colour=colour,
        path=paths.initial(scene.time, seen.box),
        places=paths.initial(scene.time, seen.box),
        first=scene.index,
        last=scene.index,
        born=scene.time,
        seen=scene.time,
        hits=1,
        confirmed=confirmed,
    )


def predict(life: Life, homography: NDArray[np.float64], scene: Scene) -> Life:
    """Where the thing should be in this frame: moved by the camera and by its own velocity."""
    still = np.array_equal(homography, np.eye(3))
    unseen = scene.time - life.seen
    # A thing that was lost sight of is not thought to rush on for ever.
    fade = math.exp(-max(0.0, unseen - 0.3) / _FADE_SECONDS)
    shift = np.array(life.cruise if life.missed else life.velocity) * scene.step * fade
    if still:
        affine = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    else:
        x0, y0, x1, y1 = life.box
        affine = regions.local_affine(homography, (x0 + x1) / 2, (y0 + y1) / 2)
        affine[:, 2] += shift
    if not still:
        life = replace(life, places=paths.carry(life.places, homography))
    return shifted(life, affine, scene, life.path if still else paths.carry(life.path, homography))


def shifted(life: Life, affine: Affine, scene: Scene, path: paths.Path | None = None) -> Life:
    """The thing with box and mask moved by an affine map of frame pixels, and its `path` as it is then."""
    full = np.vstack([affine, [0.0, 0.0, 1.0]])
    small = scene.to_working @ full @ scene.from_working
    soft = regions.move_soft(small[:2], life.soft)
    grown = math.sqrt(abs(float(affine[0, 0] * affine[1, 1] - affine[0, 1] * affine[1, 0])))
    return replace(
        life,
        path=life.path if path is None else path,
        box=regions.move_box(affine, life.box),
        even=regions.move_box(affine, life.even),
        whole=regions.move_box(affine, life.whole),
        size=(life.size[0] * grown, life.size[1] * grown),
        soft=soft,
        mask=life.mask if soft is life.soft else soft >= _SOLID,
        fringe=regions.move_soft(small[:2], life.fringe),
    )


def observe(
    before: Life,
    predicted: Life,
    seen: Instance,
    colour: NDArray[np.float32],
    agreement: float,
    part: float,
    scene: Scene,
    *,
    confirm: int,
) -> Life:
    """Correct the prediction with a sighting.

    `agreement`: overlap of the predicted and the seen mask in [0, 1]; `part`: share of the seen mask inside
    the predicted one. Where both agree the mask keeps what was there a moment ago, so that a leg missed in
    one frame stays; a new part appears at once. Where only a part is seen the rest is kept for longer.
    """
    gain = 1 - math.exp(-scene.step / _VELOCITY_SECONDS)
    known = predicted.hits >= _KNOWN_HITS
    size_now = _grown(predicted.size, seen.box, scene, known=known)
    whole, cut = whole_box(predicted.whole, size_now, seen.box, scene.width, scene.height)
    error = _centre(whole) - _centre(predicted.whole)
    velocity = np.array(before.velocity) + gain * error / scene.step
    if before.hits == 1:
        velocity = np.array(before.velocity) + 0.5 * error / scene.step
    lately = 1 - math.exp(-scene.step / min(_CRUISE_SECONDS, max(scene.time - before.born, scene.step)))
    cruise = np.array(before.cruise) + lately * (velocity - before.cruise)
    hold = 0.0
    if agreement > 0.5:
        hold = min(_MOST_HOLD, math.exp(-scene.step / _HOLD_SECONDS))
    elif part > _PART and predicted.hits >= _STEADY_HITS:
        hold = math.exp(-scene.step / _PART_SECONDS)
    if seen.identity:
        hold = 0.0
    soft, mask = seen.mask.view(np.uint8) * np.uint8(255), seen.mask
    fringe = _solid(seen.fringe, mask)
    if hold > 0.05:
        soft = regions.blend(soft, predicted.soft, hold)
        mask = soft >= _SOLID
        fringe = regions.blend(fringe, predicted.fringe, hold)
    votes = dict(predicted.votes)
    votes[seen.label] = votes.get(seen.label, 0.0) + seen.score
    path = predicted.path
    size = max(seen.box[2] - seen.box[0], seen.box[3] - seen.box[1], 1.0)
    if before.hits >= _STEADY_HITS and float(np.hypot(*error)) > _JUMP * size:
        # No thing leaps: the matching or the mask did, and that must not count as a way gone.
        path = paths.displaced(path, error)
        velocity = np.array(before.velocity)
    near = 1 - math.exp(-scene.step / _BOX_SECONDS)
    if scene.time - before.seen > 2.5 * scene.step:
        near = 1.0
    even = tuple(a + near * (b - a) for a, b in zip(predicted.even, seen.box, strict=True))
    colourless = np.isnan(predicted.colour)
    blended = predicted.colour + (0.1 if agreement > 0.5 else 0.02) * (
        np.where(np.isnan(colour), predicted.colour, colour) - predicted.colour
    )
    hits = predicted.hits + 1
    return replace(
        predicted,
        path=path,
        votes=votes,
        score=predicted.score + 0.3 * (seen.score - predicted.score),
        box=seen.box,
        even=cast(Box, even),
        whole=whole,
        size=size_now,
        cut=cut,
        velocity=(float(velocity[0]), float(velocity[1])),
        cruise=(float(cruise[0]), float(cruise[1])),
        soft=soft,
        mask=mask,
        fringe=fringe,
        colour=np.where(colourless, colour, blended),
        last=scene.index,
        seen=scene.time,
        hits=hits,
        confirmed=predicted.confirmed or hits >= confirm,
        missed=False,
        occluded=False,
    )


def shared(predicted: Life, part: Instance, scene: Scene) -> Life:
    """The thing with its part of a mask that it shares with another one.

    Where little of it is left most of it is thought to be hidden, and what it looks like is kept.
    """
    box = part.box
    little = share(part.mask) < _LITTLE * share(predicted.soft >= _SOLID)
    soft = predicted.soft if little else part.mask.view(np.uint8) * np.uint8(255)
    return replace(
        predicted,
        box=box,
        even=box,
        whole=box,
        mask=part.mask,
        soft=soft,
        fringe=_solid(part.fringe, part.mask),
        seen=scene.time,
        missed=False,
    )


def going_on(life: Life, before: Life, scene: Scene) -> Life:
    """The thing with nearly its velocity of `before`, for frames in which its place is only half known."""
    keep = math.exp(-scene.step / _DOUBT_SECONDS)
    velocity = before.velocity[0] * keep, before.velocity[1] * keep
    return replace(life, velocity=velocity, cruise=before.cruise)


def _grown(size: tuple[float, float], box: Box, scene: Scene, *, known: bool) -> tuple[float, float]:
    """Width and height that follow a growing box soon and a shrinking one slowly: it may be half hidden.

    What is `known` by now and is seen much larger at once is probably seen with something else.
    """
    out = []
    for old, low, high, limit in zip(size, box[:2], box[2:], (scene.width, scene.height), strict=True):
        new = high - low
        entering = low <= _BORDER or high >= limit - _BORDER
        bulging = known and not entering and new > _BULGE * old
        seconds = _BULGE_SECONDS if bulging else _GROW_SECONDS if new > old else _SHRINK_SECONDS
        out.append(old + (1 - math.exp(-scene.step / seconds)) * (new - old))
    return out[0], out[1]


def fringe_mask(life: Life) -> Mask | None:
    """Where beside its mask the thing may go on; None = nowhere."""
    return (life.fringe >= _SOLID) & ~life.mask if life.fringe.any() else None


def _solid(fringe: Mask | None, mask: Mask) -> Soft:
    return np.zeros(mask.shape, np.uint8) if fringe is None else fringe.view(np.uint8) * np.uint8(255)


def share(mask: Mask) -> float:
    """Share of the picture that a mask covers."""
    return cv2.countNonZero(mask.view(np.uint8)) / mask.size


def _centre(box: Box) -> NDArray[np.float64]:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
