"""What the frames that follow tell about a frame: who was there before being seen, and who had left.

A detector finds a walker at the border a few frames late and loses a leaver early; the tracker then carries
what it lost for a while. With look-ahead both are known better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream import regions
from stream.types import Mask, Motion, Track

LEAD_SECONDS = 0.25
"""A thing is taken to have been there for so long before it was first seen."""

LAG_SECONDS = 0.2
"""A thing that is not seen again is carried for so long at most."""

_LEAST_SIGHTINGS = 3
_VELOCITY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame as far as it matters here; `time` in seconds."""

    index: int
    time: float
    tracks: tuple[Track, ...]
    motion: Motion


def with_hindsight(now: Moment, following: Sequence[Moment], width: int, height: int) -> tuple[Track, ...]:
    """The tracks of a frame, corrected by the frames that follow it in the same shot.

    Added (as `missed`): things first seen within `LEAD_SECONDS`, moved back by camera and own motion. Left
    out: things only carried for more than `LAG_SECONDS` and not seen again in `following`.
    Without following frames nothing changes.
    """
    if not following:
        return now.tracks
    kept = tuple(each for each in now.tracks if not _gone(each, now, following))
    return (*kept, *_not_yet_seen(now, following, width, height))


def _gone(each: Track, now: Moment, following: Sequence[Moment]) -> bool:
    if not each.missed or each.instance.identity:
        return False
    again = any(
        other.id == each.id and other.last > now.index for moment in following for other in moment.tracks
    )
    pause = following[0].time - now.time
    return not again and (now.index - each.last) * pause > LAG_SECONDS


def _not_yet_seen(now: Moment, following: Sequence[Moment], width: int, height: int) -> tuple[Track, ...]:
    known = {each.id for each in now.tracks}
    found = []
    chain = np.eye(3)
    for place, moment in enumerate(following):
        if moment.time - now.time > LEAD_SECONDS or moment.motion.cut:
            break
        if moment.motion.homographies and not moment.motion.static:
            chain = moment.motion.homographies[0] @ chain
        for each in moment.tracks:
            if each.id in known or each.first != moment.index or each.instance.identity:
                continue
            known.add(each.id)
            velocity, sightings = _velocity(each, moment, following[place + 1 :], width, height)
            if sightings >= _LEAST_SIGHTINGS:
                moved = _moved_back(each, chain, velocity * (moment.time - now.time), width, height)
                if moved.instance.mask.any():
                    found.append(moved)
    return tuple(found)


def _velocity(
    each: Track, moment: Moment, following: Sequence[Moment], width: int, height: int
) -> tuple[NDArray[np.float64], int]:
    """Pixels per second against the background after the first sighting, and how often it was seen."""
    chain = np.eye(3)
    velocity = np.zeros(2)
    sightings = 1
    for later in following:
        if later.motion.cut or later.time - moment.time > _VELOCITY_SECONDS:
            break
        if later.motion.homographies and not later.motion.static:
            chain = later.motion.homographies[0] @ chain
        again = next((other for other in later.tracks if other.id == each.id), None)
        if again is None or again.missed:
            continue
        sightings += 1
        before, after = _anchors(each, again, width, height)
        start = chain @ np.array([*before, 1.0])
        velocity = (after - start[:2] / start[2]) / (later.time - moment.time)
    return velocity, sightings


def _anchors(
    first: Track, second: Track, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same point of a thing in two frames: its middle, or its far side where the border cuts it."""
    points = np.zeros((2, 2))
    boxes = first.instance.box, second.instance.box
    for axis, limit in ((0, width), (1, height)):
        low = any(box[axis] <= 2 for box in boxes)
        high = any(box[axis + 2] >= limit - 2 for box in boxes)
        for point, box in zip(points, boxes, strict=True):
            ends = box[axis], box[axis + 2]
            point[axis] = sum(ends) / 2 if low == high else ends[1] if low else ends[0]
    return points[0], points[1]


def _moved_back(
    each: Track, chain: NDArray[np.float64], way: NDArray[np.float64], width: int, height: int
) -> Track:
    x0, y0, x1, y1 = each.instance.box
    back = np.asarray(np.linalg.inv(chain), np.float64)
    affine = regions.local_affine(back, (x0 + x1) / 2, (y0 + y1) / 2)
    affine[:, 2] -= way
    mask = each.instance.mask
    rows, columns = mask.shape
    fx, fy = columns / width, rows / height
    scale = np.array([[fx, 0.0, (fx - 1) / 2], [0.0, fy, (fy - 1) / 2], [0.0, 0.0, 1.0]])
    small = scale @ np.vstack([affine, [0.0, 0.0, 1.0]]) @ np.linalg.inv(scale)
    fringe = each.instance.fringe
    moved = _moved(small[:2], mask)
    box = regions.move_box(affine, each.instance.box)
    inside = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
    instance = replace(
        each.instance,
        mask=moved,
        fringe=None if fringe is None else _moved(small[:2], fringe) & ~moved,
        box=inside,
    )
    return replace(each, instance=instance, missed=True)


def _moved(affine: NDArray[np.float64], mask: Mask) -> Mask:
    return regions.move_soft(affine, mask.view(np.uint8) * np.uint8(255)) > 127
