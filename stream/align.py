"""Lay a picture of the same place over a frame: homography, colours, and whether the two really agree.

Features are matched and fitted against outliers (RANSAC); the fit is then sharpened by optical flow between
the frame and the picture laid over it, near the hole first, because a scene that has depth bends away from
it. A picture that fits must also look like the frame all around the hole, or it shows the place with
something else in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.words import Features, unit
from stream import geometry
from stream.arrays import Bytes, Float, f32, u8
from stream.geometry import Homography, Points
from stream.types import Image

_LINES = 400
_LEAST = 12
_RATIO = 0.8
_CELL = 8


@dataclass(frozen=True, slots=True)
class Look:
    """A frame at the size of comparison (at most 400 lines).

    `rgb` and `grey` uint8; `clear` uint8 1 where neither a thing nor the hole is; `of_frame` maps frame
    pixels to its own; `lines`: how many of its pixels are one pixel of a picture of 360 lines.
    """

    rgb: Image
    grey: Bytes
    clear: Bytes
    of_frame: Homography
    lines: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A homography from a picture to the frame, and how many features or corners speak for it."""

    forward: Homography
    points: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """A laid picture against the frame around the hole.

    `error`: mean difference, grey levels; `strange`: share of the ring that shows something else; `alike`:
    the correlation of the two, in [-1, 1]; `trusted`: uint8 1 where the ring nearby agrees, at the look's
    size.
    """

    error: float
    strange: float
    alike: float
    trusted: Bytes


def look(rgb: Image, clear: Bytes) -> Look:
    """Reduce a frame for comparison; `clear` uint8 0 or 1 at any size."""
    height, width = rgb.shape[:2]
    small = reduced(rgb)
    shape = small.shape[:2]
    mask = u8(cv2.resize(clear, shape[::-1], interpolation=cv2.INTER_NEAREST))
    to_small = geometry.scaling(shape[1] / width, shape[0] / height)
    return Look(small, u8(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)), mask, to_small, shape[0] / 360)


def reduced(rgb: Image) -> Image:
    """A picture at an integer part of its size, at most 400 lines."""
    times = -(-rgb.shape[0] // _LINES)
    if times == 1:
        return rgb
    size = max(16, round(rgb.shape[1] / times)), max(16, round(rgb.shape[0] / times))
    return u8(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def match(picture: Features, frame: Features, width: int, height: int) -> Fit | None:
    """Fit a homography from a picture to a frame of width x height by their features.

    Matches are mutual and clearly better than the second best (Lowe 2004); the fit must explain more of them
    than chance would (Brown and Lowe 2007), and they must be spread over it.
    """
    if min(len(picture.points), len(frame.points)) < _LEAST:
        return None
    alike = unit(picture.descriptors) @ unit(frame.descriptors).T
    first, second = _two_nearest(alike)
    back = np.argmax(alike, axis=0)
    rows = np.arange(len(alike))
    good = (1 - alike[rows, first] < _RATIO**2 * (1 - second)) & (back[first] == rows)
    source, target = picture.points[good], frame.points[first[good]]
    found = geometry.robust(source, target, 2.5 * height / 360)
    if found is None:
        return None
    forward, inside = found
    count = int(np.count_nonzero(inside))
    if count < max(_LEAST, 8 + 0.22 * len(source)) or not _spread(target[inside], width, height):
        return None
    polished = geometry.refine(forward, source[inside], target[inside], 1.0 * height / 360)
    return Fit(forward if polished is None else polished[0], count)


def possible(forward: Homography, size: tuple[int, int], width: int, height: int) -> bool:
    """Whether one camera could have taken a picture of `size` and another the frame, by this homography."""
    fitted = forward @ geometry.scaling(size[0] / width, size[1] / height)
    return geometry.plausible(fitted, width, height, most=1.6)


def corners_of(seen: Look) -> Points:
    """Corners of the clear part of a frame, in the look's pixels."""
    r = round(6 * seen.lines)
    mask = u8(cv2.erode(seen.clear, np.ones((2 * r + 1, 2 * r + 1), np.uint8)))
    found = cv2.goodFeaturesToTrack(seen.grey, 300, 0.01, 8 * seen.lines, mask=mask)
    return np.zeros((0, 2), np.float32) if found is None else f32(found.reshape(-1, 2))


def sharpen(
    forward: Homography,
    picture: Bytes,
    size: tuple[int, int],
    seen: Look,
    corners: Points,
    around: tuple[float, float],
) -> Fit | None:
    """Fit the homography anew to the optical flow that remains when the picture is laid over the frame.

    `picture`: grey uint8 at its reduced size, of a picture of `size` (width, height) pixels. `corners`: those
    of the frame (`corners_of`). `around`: the hole's middle in frame pixels; where enough corners lie near
    it, they decide. None when the corners contradict the fit.
    """
    into = seen.of_frame @ forward @ _from_reduced(picture.shape, size)
    shape = seen.grey.shape
    laid = u8(cv2.warpPerspective(picture, into, shape[::-1], flags=cv2.INTER_LINEAR))
    valid = inside(into, picture.shape, shape) & seen.clear
    have, want = cv2.mean(laid, valid)[0], cv2.mean(seen.grey, valid)[0]
    laid = u8(cv2.convertScaleAbs(laid, alpha=want / max(have, 1.0)))
    x, y = np.rint(corners).astype(int).T
    corners = corners[valid[y, x] > 0]
    if len(corners) < _LEAST:
        return None
    moved, ok, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]  # None asks it to allocate
        seen.grey, laid, corners.reshape(-1, 1, 2), None, winSize=(15, 15), maxLevel=2, criteria=(3, 12, 0.02)
    )
    target, source = corners, moved.reshape(-1, 2)
    kept = (ok[:, 0] > 0) & (np.linalg.norm(source - target, axis=1) < 8 * seen.lines)
    target, source = target[kept], source[kept]
    fitted = geometry.refine(np.eye(3), source, target, 0.7 * seen.lines)
    if fitted is None or len(target) < 0.3 * len(corners):
        return None
    step, count = fitted[0], int(np.count_nonzero(fitted[1] < 2 * seen.lines))
    middle = geometry.apply(seen.of_frame, np.array([around], np.float32))[0]
    near = np.linalg.norm(target - middle, axis=1) < 110 * seen.lines
    if np.count_nonzero(near) >= 30:
        local = geometry.refine(step, source[near], target[near], 0.7 * seen.lines)
        if local is not None and np.median(local[1]) < 0.8 * np.median(fitted[1][near]):
            step = local[0]
    return Fit(geometry.inverse(seen.of_frame) @ step @ seen.of_frame @ forward, count)


def balance(laid: Image, seen: Look, both: Bytes) -> Float:
    """RGB factors that bring a laid picture to the frame's colours: float32 (h / 8, w / 8, 3), smooth.

    `both`: uint8 1 where both show background. One gain a channel (the median ratio), then what is left of
    it, blurred over a ninth of the picture; pixels that are something else in one of the two are left out.
    """
    shape = seen.grey.shape
    size = max(1, shape[1] // _CELL), max(1, shape[0] // _CELL)
    have, want = (np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA)) for p in (laid, seen.rgb))
    fit = np.asarray(cv2.resize(both * np.uint8(255), size, interpolation=cv2.INTER_AREA)) > 250
    fit &= (cv2.inRange(have, (8, 8, 8), (247, 247, 247)) > 0) & (
        cv2.inRange(want, (8, 8, 8), (247, 247, 247)) > 0
    )
    if np.count_nonzero(fit) < 20:
        return np.ones((size[1], size[0], 3), np.float32)
    ratio = want[fit].astype(np.float32) / have[fit]
    gain = np.clip(np.median(ratio, axis=0), 0.4, 2.5).astype(np.float32)
    spread = np.abs(ratio / gain - 1).max(1)
    fit[fit] = spread < max(0.15, 2.5 * float(np.median(spread)))
    weight = fit.astype(np.float32)[..., None]
    sigma = size[1] / 9
    top = cv2.GaussianBlur(want.astype(np.float32) * weight, (0, 0), sigma)
    below = cv2.GaussianBlur(have.astype(np.float32) * weight, (0, 0), sigma)
    # Where little is known the one gain holds.
    prior = np.float32(4.0)
    field = (top + prior * gain) / (below + prior)
    return f32(np.clip(field, 0.75 * gain, 1.35 * gain).astype(np.float32))


def matched(picture: Image, gain: Float) -> Image:
    """A picture times a gain of its own shape, uint8."""
    return u8(cv2.multiply(picture, gain, dtype=cv2.CV_8U))


def agreement(laid: Image, valid: Bytes, seen: Look, hole: Bytes) -> Agreement | None:
    """Compare a laid picture, its colours matched, with the frame in a ring around the hole.

    `valid`, `hole`: uint8 0 or 1 at the look's size. Differences count against the contrast there: a fit off
    by half a pixel is no other thing. None when next to nothing can be compared.
    """
    x, y, w, h = cv2.boundingRect(hole)
    reach = round(26 * seen.lines)
    rows = slice(max(0, y - reach), y + h + reach)
    columns = slice(max(0, x - reach), x + w + reach)
    trusted = np.zeros_like(valid)
    ring = _ring(hole[rows, columns], reach, seen.lines) & valid[rows, columns] & seen.clear[rows, columns]
    count = cv2.countNonZero(ring)
    if count < 40:
        return None
    sigma = max(0.8, 1.2 * seen.lines)
    one = cv2.GaussianBlur(laid[rows, columns], (0, 0), sigma)
    two = cv2.GaussianBlur(seen.rgb[rows, columns], (0, 0), sigma)
    r, g, b = cv2.split(cv2.absdiff(one, two))
    apart = cv2.max(cv2.max(r, g), b).astype(np.float32)
    grey = u8(cv2.cvtColor(two, cv2.COLOR_RGB2GRAY))
    contrast = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
    strange = ((apart > 14 + 0.8 * contrast) & (ring > 0)).astype(np.float32)
    spread = 7 * seen.lines
    share = cv2.GaussianBlur(strange, (0, 0), spread) / (
        cv2.GaussianBlur(ring.astype(np.float32), (0, 0), spread) + np.float32(0.02)
    )
    trusted[rows, columns] = (share < 0.3).astype(np.uint8)
    error = float(np.minimum(apart, 60)[ring > 0].mean())
    there = u8(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY))[ring > 0].astype(np.float32)
    here = grey[ring > 0].astype(np.float32)
    there, here = there - there.mean(), here - here.mean()
    alike = float((there @ here) / max(1e-6, float(np.linalg.norm(there) * np.linalg.norm(here))))
    return Agreement(error, float(strange.sum()) / count, alike, trusted)


def inside(into: Homography, source: tuple[int, ...], target: tuple[int, ...]) -> Bytes:
    """1 where a pixel of the target comes from within the source, two pixels from its edge."""
    h, w = source[:2]
    edge = np.array([[2, 2], [w - 3, 2], [w - 3, h - 3], [2, h - 3]], np.float32)
    out = np.zeros(target[:2], np.uint8)
    polygon = np.clip(np.rint(geometry.apply(into, edge)), -20000, 20000).astype(np.int32)
    cv2.fillConvexPoly(out, polygon, 1)
    return out


def _from_reduced(shape: tuple[int, ...], size: tuple[int, int]) -> Homography:
    return geometry.scaling(size[0] / shape[1], size[1] / shape[0])


def _ring(hole: Bytes, reach: int, lines: float) -> Bytes:
    """1 outside the hole up to `reach` from it, its very border apart."""
    distance = cv2.distanceTransform(u8(1 - hole), cv2.DIST_L2, 3)
    return ((distance > 2 * lines) & (distance <= reach)).astype(np.uint8)


def _two_nearest(alike: Float) -> tuple[NDArray[np.int64], Float]:
    first = np.argmax(alike, axis=1)
    rows = np.arange(len(alike))
    best = alike[rows, first].copy()
    alike[rows, first] = -1
    second = alike.max(1)
    alike[rows, first] = best
    return first, second


def _spread(points: Points, width: int, height: int) -> bool:
    """Whether points span enough of the frame to fix a homography over it."""
    hull = cv2.convexHull(points.astype(np.float32))
    return bool(cv2.contourArea(hull) > 0.06 * width * height)
