"""How a thing has behaved so far: its speed, how far it has come, how much it looks like the subject."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stream import paths
from stream.inner import WAY_SECONDS, WIDE, cut_off
from stream.life import Life, Scene, fringe_mask, share
from stream.regions import Box
from stream.types import Instance, Track

_SUBJECT_SECONDS = 3.0
_MOST_PLACES = 0.75
_LASTING_SECONDS = 4.0


def account(life: Life, scene: Scene) -> Life:
    """Bring speed, distance covered and subject score up to date with the thing's place in this frame."""
    both = np.vstack([life.path, paths.in_picture(life.path)])  # in one go: the arrays are small
    all_distances, all_seconds = paths.displacements(both, scene.time, life.even, scene.width, scene.height)
    count = len(life.path)
    distance, seconds = all_distances[:count], all_seconds[:count]
    x0, y0, x1, y1 = life.even
    size = max(x1 - x0, y1 - y0, 1.0)
    # Not the largest distance: one bad box in the past would count for as long as it is remembered.
    far = float(np.sort(distance)[int(_MOST_PLACES * (len(distance) - 1))]) / size
    against = paths.speed(distance, seconds)
    wide = x1 - x0 > WIDE * scene.width
    ranged = 0.0 if life.missed else paths.range_of(life.places, life.box)
    if wide:  # its box hardly tells how it moves
        far, ranged = (max(each, math.hypot(*life.way) / size) for each in (far, ranged))
        against = max(against, math.hypot(*life.way) / WAY_SECONDS)
    reach = life.reach + (1 - math.exp(-scene.step / 0.3)) * (far - life.reach)
    apart = paths.speed(all_distances[count:], seconds)
    inside = max(paths.picture_speed(life.path, scene.time, life.even), apart)
    # The camera follows what moves over the background but hardly in the picture.
    followed = 1 - inside / against if against > 0.05 * scene.width else 0.0
    now = paths.subject_now(
        share(life.mask),
        life.even,
        scene.width,
        scene.height,
        wandered=paths.wander(life.path, scene.time, life.even, scene.width),
        drift=min(paths.drift(distance, seconds), paths.drift(all_distances[count:], seconds)) / size,
        stirred=life.stir if cut_off(life.even, scene) and not math.isnan(life.stir) else 0.0,
        followed=max(0.0, min(1.0, followed)),
    )
    age = scene.time - life.born
    gain = scene.step / min(age + scene.step, _SUBJECT_SECONDS)
    return replace(
        life,
        reach=reach,
        travel=max(life.travel, reach),
        ranged=max(life.ranged, ranged),
        speed=against / scene.width,
        subject=life.subject + gain * (now - life.subject),
        path=paths.extend(life.path, scene.time, life.even),
        places=life.places if life.missed else paths.extend(life.places, scene.time, life.box),
    )


def as_track(life: Life, scene: Scene) -> Track:
    """What others may know of the thing."""
    age = scene.time - life.born
    waited = min(scene.elapsed, _LASTING_SECONDS)
    lasting = min(1.0, (age + scene.step) / (waited + scene.step))
    return Track(
        id=life.id,
        label=life.label,
        first=life.first,
        last=life.last,
        hits=life.hits,
        missed=life.missed,
        instance=Instance(
            life.label, life.score, _clipped(life.box, scene), life.mask, life.identity, fringe_mask(life)
        ),
        area=share(life.mask),
        speed=life.speed,
        subject=life.subject * math.sqrt(lasting),
        travel=life.travel,
        ranged=life.ranged,
        age=age,
        confirmed=life.confirmed,
    )


def _clipped(box: Box, scene: Scene) -> Box:
    x0, y0, x1, y1 = box
    return (
        min(max(0.0, x0), scene.width),
        min(max(0.0, y0), scene.height),
        min(max(0.0, x1), scene.width),
        min(max(0.0, y1), scene.height),
    )
