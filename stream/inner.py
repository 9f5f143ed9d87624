"""How a thing moves inside its outline, measured at its texture where its box does not tell."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import geometry, regions
from stream.life import Life, Scene, share
from stream.regions import Affine, Box
from stream.types import Mask

_LEAST_CORNERS = 5
_LARGE = 0.015
WIDE = 0.45
_EDGE = 0.01
_STIR_SECONDS = 0.3
WAY_SECONDS = 1.0
_FLOW = {"winSize": (15, 15), "maxLevel": 2, "criteria": (3, 20, 0.03)}


def own_motion(
    previous: NDArray[np.uint8] | None, grey: NDArray[np.uint8] | None, before: Life, scene: Scene
) -> Affine | None:
    """How the thing itself moved since the last frame: a similarity fitted with RANSAC to corners inside it.

    Frame pixels; None when too little agrees.
    """
    points, after = _tracked(previous, grey, before.mask)
    if len(points) < _LEAST_CORNERS:
        return None
    fitted, inliers = cv2.estimateAffinePartial2D(points, after, ransacReprojThreshold=1.5)
    if fitted is None or inliers.sum() < 0.5 * len(points):
        return None
    scale = math.hypot(fitted[0, 0], fitted[1, 0])
    if not 0.8 < scale < 1.25:
        return None
    full = np.vstack([fitted, [0.0, 0.0, 1.0]])
    return cast(Affine, (scene.from_working @ full @ scene.to_working)[:2])


def _tracked(
    previous: NDArray[np.uint8] | None, grey: NDArray[np.uint8] | None, mask: Mask
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Corners inside a mask of the previous frame and where they are now, (N, 2) working pixels each.

    Pyramidal Lucas-Kanade on a window around the thing: pyramids of the whole picture would cost more.
    """
    none = np.zeros((0, 2), np.float32)
    found = regions.bounds(mask)
    if previous is None or grey is None or found is None or previous.shape != grey.shape:
        return none, none
    if previous.shape != mask.shape:
        return none, none
    x0, y0, x1, y1 = found
    region = mask[y0:y1, x0:x1].view(np.uint8)
    corners = cv2.goodFeaturesToTrack(previous[y0:y1, x0:x1], 40, 0.02, 3, mask=region * np.uint8(255))
    if corners is None or len(corners) < _LEAST_CORNERS:
        return none, none
    reach = 24 + max(x1 - x0, y1 - y0) // 2
    left, top = max(0, x0 - reach), max(0, y0 - reach)
    window = (slice(top, y1 + reach), slice(left, x1 + reach))
    points = (corners.reshape(-1, 2) + np.array([x0 - left, y0 - top])).astype(np.float32)
    after, status, _ = cv2.calcOpticalFlowPyrLK(previous[window], grey[window], points, None, **_FLOW)  # type: ignore[call-overload]
    good = status.ravel() > 0
    offset = np.array([left, top], np.float32)
    return points[good] + offset, after[good] + offset


def stirred(
    life: Life,
    before: Life,
    previous: NDArray[np.uint8] | None,
    grey: NDArray[np.uint8],
    homography: NDArray[np.float64],
    scene: Scene,
) -> Life:
    """Measure how a large thing moves inside its outline.

    What fills half of the picture, or is cut off at a side, moves without its box telling; its texture does.
    All others are left as they are.
    """
    if life.missed or not cut_off(life.even, scene) or share(life.mask) < _LARGE:
        return life
    points, after = _tracked(previous, grey, before.mask)
    if len(points) < _LEAST_CORNERS:
        return life
    per_pixel = scene.width / scene.working[1]
    flows = (after - points).astype(np.float64) * per_pixel
    sizes = np.hypot(flows[:, 0], flows[:, 1])
    # A rough mask holds background too, which rests: the livelier half of the corners tells.
    flow = flows[sizes >= np.median(sizes)].mean(0)
    x0, y0, x1, y1 = before.box
    middle = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]], np.float32)
    camera = (geometry.apply(homography, middle) - middle)[0]
    own = flow - camera
    # Where the camera follows it, what is left of its motion in the picture says little.
    alone = float(np.hypot(*own)) / max(float(np.hypot(*flow)), 1e-6)
    speed = float(np.hypot(*flow)) / scene.step / scene.width * min(1.0, max(0.0, 3 - 2 * alone))
    gain = 1 - math.exp(-scene.step / _STIR_SECONDS)
    stir = speed if math.isnan(life.stir) else life.stir + gain * (speed - life.stir)
    fade = math.exp(-scene.step / WAY_SECONDS)
    way = life.way[0] * fade + float(own[0]), life.way[1] * fade + float(own[1])
    return replace(life, stir=stir, way=way)


def cut_off(box: Box, scene: Scene) -> bool:
    """Whether a box is so wide, or so near to a side of the picture, that it does not tell its motion."""
    x0, _, x1, _ = box
    edge = _EDGE * scene.width
    return x1 - x0 > WIDE * scene.width or x0 < edge or x1 > scene.width - edge
