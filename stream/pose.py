"""How the camera stood in each frame of a shot, and the maps from one frame's pixels to another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from stream import geometry
from stream import motion as camera
from stream.geometry import Homography
from stream.near_layer import Evidence
from stream.parallax import Parallax
from stream.types import Motion

_NOWHERE = geometry.shifting(1e6, 1e6)
"""The map between views that share nothing, or have turned too far from each other."""


@dataclass(frozen=True, slots=True)
class View:
    """How the camera stood in one frame: maps from the shot's first frame to it, far layer first.

    `pose` counts the camera's moves: frames with equal pose show the same view, pixel for pixel. `leg` counts
    the times the camera was lost: views of different legs cannot be related by motion. `seconds`: the frame's
    time. `near`: what speaks for the near layer at each pixel of the reduced picture, where there are two.
    """

    motion: Motion
    chain: tuple[Homography, Homography]
    pose: int
    parallax: Parallax | None = None
    near: Evidence | None = None
    leg: int = 0
    seconds: float = 0.0

    @property
    def index(self) -> int:
        return self.motion.index


def following(last: View | None, motion: Motion, seconds: float) -> View:
    """The view of the frame after `last` (None: the shot's first one), which was taken at `seconds`."""
    if last is None or motion.cut:
        return View(motion, (np.eye(3), np.eye(3)), 0, seconds=seconds)
    far, near = motion.homographies[0], motion.homographies[-1]
    chain = (chained(far, last.chain[0]), chained(near, last.chain[1]))
    lost = not motion.static and motion.confidence == 0.0 and np.array_equal(far, np.eye(3))
    return View(motion, chain, last.pose + (not motion.static), leg=last.leg + lost, seconds=seconds)


def trust_of(confidence: float) -> float:
    """How far homographies align memories from long ago, in [0, 1], from a motion's confidence."""
    return float(np.clip((confidence - 0.85) / 0.12, 0.0, 1.0))


def relate(a: View, b: View, near: bool = False) -> Homography:
    """Map pixels of view `a` to pixels of view `b` for one layer; the identity when the camera rested.

    The chain of motions is only the start of a fit to the corners that both views share.
    """
    return relate_all([a], b, near)[0]


def relate_all(views: Sequence[View], b: View, near: bool = False) -> list[Homography]:
    """`relate` for the maps from several views to one, each fitted to the corners that both share."""
    out = [by_chain(a, b, near) for a in views]
    asked = [k for k, a in enumerate(views) if a.pose != b.pose and a.leg == b.leg and out[k] is not _NOWHERE]
    found = camera.between_all([views[k].motion for k in asked], b.motion, [out[k] for k in asked], near)
    for k, h in zip(asked, found, strict=True):
        out[k] = out[k] if h is None else h
    return out


def relate_from(a: View, views: Sequence[View], near: bool = False) -> list[Homography]:
    """`relate` for the maps from one view to several, as the chain of motions says."""
    back = geometry.inverse(a.chain[int(near)])
    return [by_chain(a, b, near, back) for b in views]


def by_chain(a: View, b: View, near: bool = False, back: Homography | None = None) -> Homography:
    """`relate` as the chain of motions says; `back`: the inverse of the first view's."""
    if a.pose == b.pose:
        return np.eye(3)
    if a.leg != b.leg:
        return _NOWHERE
    layer = int(near)
    chain = b.chain[layer] @ (geometry.inverse(a.chain[layer]) if back is None else back)
    if not np.isfinite(chain).all() or abs(chain[2, 2]) < 1e-12:
        return _NOWHERE
    return cast(Homography, chain / chain[2, 2])


def chained(step: Homography, chain: Homography) -> Homography:
    """One map after another, at the scale of homographies."""
    h = step @ chain
    return cast(Homography, h / h[2, 2])
