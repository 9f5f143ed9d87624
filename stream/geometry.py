"""Homographies: applied, scaled, judged and fitted. Points are (x, y) pixels, the first at (0, 0)."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Homography = NDArray[np.float64]
"""3 x 3, maps (x, y, 1) of one picture to those of another, defined up to scale."""

Points = NDArray[np.float32]
"""N x 2, (x, y)."""


def apply(homography: Homography, points: Points) -> Points:
    """Map N x 2 points."""
    if len(points) == 0:
        return np.zeros((0, 2), np.float32)
    mapped = cv2.perspectiveTransform(points.reshape(-1, 1, 2).astype(np.float64), homography)
    return np.asarray(mapped, np.float32).reshape(-1, 2)


def inverse(homography: Homography) -> Homography:
    """The map back; zeros where there is none."""
    return cast(Homography, cv2.invert(homography)[1])


def scaling(factor_x: float, factor_y: float | None = None) -> Homography:
    """The map from a picture to its copy resized by the factors, pixel centres kept in their places."""
    fx, fy = factor_x, factor_x if factor_y is None else factor_y
    return np.array([[fx, 0.0, (fx - 1) / 2], [0.0, fy, (fy - 1) / 2], [0.0, 0.0, 1.0]])


def shifting(dx: float, dy: float) -> Homography:
    """The map that adds (dx, dy)."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def corner_motion(homography: Homography, width: float, height: float) -> float:
    """How far the farthest corner of a width x height picture is moved, pixels."""
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32)
    return float(np.linalg.norm(apply(homography, corners) - corners, axis=1).max())


def plausible(homography: Homography, width: float, height: float, most: float = 0.6) -> bool:
    """Whether a camera could have moved so: nothing mirrored or folded, area within a factor of 4.

    `most` is the largest corner motion as a share of the width.
    """
    if not np.isfinite(homography).all():
        return False
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    w = corners @ homography[2, :2].astype(np.float32) + np.float32(homography[2, 2])
    if (w * np.sign(homography[2, 2]) <= 1e-3 * abs(homography[2, 2])).any():
        return False
    moved = apply(homography, corners)
    area = cv2.contourArea(moved, oriented=True) / cv2.contourArea(corners, oriented=True)
    if not 0.25 < area < 4.0 or not cv2.isContourConvex(moved):
        return False
    return bool(np.linalg.norm(moved - corners, axis=1).max() < most * width)


def residuals(homography: Homography, source: Points, target: Points) -> NDArray[np.float32]:
    """Distance in pixels between mapped source points and their targets."""
    return cast(NDArray[np.float32], np.linalg.norm(apply(homography, source) - target, axis=1))


def least_squares(source: Points, target: Points, weights: NDArray[np.float64]) -> Homography | None:
    """Weighted direct linear transform with normalised points (Hartley 1997); None when it is singular."""
    p, to_p = _normalise(source)
    q, to_q = _normalise(target)
    h = _solve(p, q, weights)
    return None if h is None else _denormalised(h, to_p, to_q)


def refine(
    start: Homography, source: Points, target: Points, scale: float = 0.7, rounds: int = 4
) -> tuple[Homography, NDArray[np.float32]] | None:
    """Fit a homography near `start` by reweighted least squares (Geman-McClure weights).

    `scale`: residuals below this many pixels count fully. Returns the homography and its residuals in
    pixels, or None when fewer than 8 points or less than half of them agree.
    """
    if len(source) < 8:
        return None
    p, to_p = _normalise(source)
    q, to_q = _normalise(target)
    unit = 1.0 / to_q[0, 0]
    h = to_q @ start @ inverse(to_p)
    for turn in range(rounds + 1):
        mapped = p @ h.T
        r2 = np.square(mapped[:, :2] / mapped[:, 2:] - q[:, :2]).sum(1) * (unit * unit)
        if turn == rounds:
            break
        # The first rounds must pull in points that the drifting start misses as a whole.
        median = float(np.sqrt(np.partition(r2, len(r2) // 2)[len(r2) // 2]))
        s = max(scale, 1.5 * median) if turn < rounds - 1 else 1.5 * scale
        weights = 1.0 / np.square(1.0 + r2 / (s * s))
        if weights.sum() < 4:
            return None
        fitted = _solve(p, q, weights)
        if fitted is None:
            return None
        h = fitted
    r = np.sqrt(r2).astype(np.float32)
    if np.count_nonzero(r < 4 * scale) < max(8, 0.5 * len(r)):
        return None
    full = _denormalised(h, to_p, to_q)
    return None if full is None else (full, r)


def refine_all(
    starts: NDArray[np.float64],
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    valid: NDArray[np.bool_],
    scale: float = 0.7,
    rounds: int = 2,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`refine` for K homographies (K, 3, 3) at once, each on its own `valid` ones of N points (K, N, 2).

    Returns the homographies and which of them agree with their points; the others are what they started as.
    """
    count = valid.sum(1)
    p, to_p = _normalise_all(source, valid)
    q, to_q = _normalise_all(target, valid)
    h = to_q @ starts @ np.linalg.inv(to_p)
    h /= h[:, 2:, 2:]
    x, y, one = p[..., 0], p[..., 1], np.ones(valid.shape)
    u, v, nil = q[..., 0], q[..., 1], np.zeros(valid.shape)
    rows = np.stack(
        [
            np.stack([x, y, one, nil, nil, nil, -u * x, -u * y], -1),
            np.stack([nil, nil, nil, x, y, one, -v * x, -v * y], -1),
        ],
        1,
    ).reshape(len(starts), -1, 8)
    wanted = np.concatenate([u, v], 1)[..., None]
    unit = 1.0 / to_q[:, 0, 0, None]
    for turn in range(rounds + 1):
        mapped = np.concatenate([p, one[..., None]], -1) @ h.transpose(0, 2, 1)
        r2 = np.square(mapped[..., :2] / mapped[..., 2:] - q).sum(-1) * (unit * unit)
        r2[~valid] = np.inf
        if turn == rounds:
            break
        # The first rounds must pull in points that the drifting start misses as a whole.
        middle = np.sqrt(np.take_along_axis(np.sort(r2, 1), count[:, None] // 2, 1))
        s = np.maximum(scale, 1.5 * middle) if turn < rounds - 1 else np.float64(1.5 * scale)
        weights = np.tile(1.0 / np.square(1.0 + r2 / (s * s)), 2)[..., None]
        weighted = (rows * weights).transpose(0, 2, 1)
        solved = np.linalg.solve(weighted @ rows + 1e-12 * np.eye(8), weighted @ wanted)
        h = np.concatenate([solved[..., 0], np.ones((len(h), 1))], 1).reshape(-1, 3, 3)
    good = (np.sqrt(r2) < 4 * scale).sum(1) >= np.maximum(8, 0.5 * count)
    full = np.linalg.inv(to_q) @ h @ to_p
    good &= np.isfinite(full).all((1, 2)) & (np.abs(full[:, 2, 2]) > 1e-12)
    out = starts.copy()
    out[good] = full[good] / full[good][:, 2:, 2:]
    return out, good


def _normalise_all(
    points: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K x N points about their centres at a spread of sqrt 2, and the maps there; 0 where not valid."""
    count = np.maximum(valid.sum(1), 1)
    p = np.where(valid[..., None], points, 0).astype(np.float64)
    centre = p.sum(1) / count[:, None]
    p = np.where(valid[..., None], p - centre[:, None], 0)
    scale = np.sqrt(2 * count) / np.maximum(np.linalg.norm(p, axis=(1, 2)), 1e-9)
    to = np.zeros((len(p), 3, 3))
    to[:, 0, 0] = to[:, 1, 1] = scale
    to[:, :2, 2] = -centre * scale[:, None]
    to[:, 2, 2] = 1
    return p * scale[:, None, None], to


def _solve(p: NDArray[np.float64], q: NDArray[np.float64], weights: NDArray[np.float64]) -> Homography | None:
    """Least squares homography of normalised homogeneous points N x 3, from their weighted moments."""
    u, v = q[:, 0:1], q[:, 1:2]
    m = (p * weights[:, None]).T @ np.hstack([p, u * p, v * p, (u * u + v * v) * p])
    a = np.zeros((9, 9))
    a[0:3, 0:3] = a[3:6, 3:6] = m[:, 0:3]
    a[0:3, 6:9] = a[6:9, 0:3] = -m[:, 3:6]
    a[3:6, 6:9] = a[6:9, 3:6] = -m[:, 6:9]
    a[6:9, 6:9] = m[:, 9:12]
    values, vectors = np.linalg.eigh(a)
    if values[1] < 1e-12 * values[-1]:
        return None
    return cast(Homography, vectors[:, 0].reshape(3, 3))


def _denormalised(h: Homography, to_p: Homography, to_q: Homography) -> Homography | None:
    full = np.linalg.solve(to_q, h @ to_p)
    return cast(Homography, full / full[2, 2]) if abs(full[2, 2]) > 1e-12 else None


def robust(source: Points, target: Points, threshold: float) -> tuple[Homography, NDArray[np.bool_]] | None:
    """Fit a homography against outliers (MAGSAC++, Barath et al. 2020); a similarity below 20 points.

    Returns the homography and which points lie within 2 x `threshold` pixels, or None.
    """
    if len(source) < 6:
        return None
    if len(source) < 20:
        m, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=threshold)
        h = None if m is None else np.vstack([m, [0.0, 0.0, 1.0]])
    else:
        h, _ = cv2.findHomography(source, target, cv2.USAC_MAGSAC, threshold, maxIters=2000, confidence=0.999)
    if h is None or not np.isfinite(h).all():
        return None
    h = np.asarray(h, np.float64)
    return h, residuals(h, source, target) < 2 * threshold


def _normalise(points: Points) -> tuple[NDArray[np.float64], Homography]:
    """Points as N x 3 homogeneous coordinates about their centre at a spread of sqrt 2, and the map there."""
    p = np.ones((len(points), 3))
    centre = points.mean(0, dtype=np.float64)
    p[:, :2] = points - centre
    scale = np.sqrt(2 * len(points)) / max(float(np.linalg.norm(p[:, :2])), 1e-9)
    p[:, :2] *= scale
    return p, np.array([[scale, 0, -centre[0] * scale], [0, scale, -centre[1] * scale], [0, 0, 1]])
