"""Object-shaped holes and the references that come with them: the inpainter's made-up damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]
Image = npt.NDArray[Any]


def read_shapes(cutouts: Path) -> list[Mask]:
    """Outlines (0 or 1) of the RGBA pictures in a folder, cut to their bounding box."""
    shapes = []
    for path in sorted(cutouts.glob("*.png")):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if picture is not None and picture.ndim == 3 and picture.shape[2] == 4:
            shapes.append(_cut((picture[:, :, 3] > 127).astype(np.uint8)))
    return [shape for shape in shapes if shape.sum() > 400]


def polygon_shape(polygons: Sequence[npt.NDArray[np.float32]]) -> Mask | None:
    """The filled outline of an annotated object, or None when it is too small to be a hole."""
    points = np.concatenate(list(polygons))
    low, high = points.min(0), points.max(0)
    if np.prod(high - low) < 1600:
        return None
    canvas = np.zeros((int(high[1] - low[1]) + 2, int(high[0] - low[0]) + 2), np.uint8)
    cv2.fillPoly(canvas, [np.round(polygon - low).astype(np.int32) for polygon in polygons], 1)
    return canvas if canvas.sum() > 600 else None


def blob(random: np.random.Generator) -> Mask:
    """A smooth star-shaped outline in a 128 x 128 square."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = np.ones_like(angle)
    for wave in range(1, 6):
        radius += random.normal(0, 0.35 / wave) * np.cos(wave * angle + random.uniform(0, 6.28))
    radius = np.clip(radius, 0.25, None)
    points = np.stack([np.cos(angle) * radius, np.sin(angle) * radius * random.uniform(0.6, 1.8)], 1)
    points = 62 * points / np.abs(points).max() + 64
    canvas = np.zeros((128, 128), np.uint8)
    cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
    return _cut(canvas)


def stroke(random: np.random.Generator) -> Mask:
    """A thick crooked line in a 128 x 128 square: poles, cables, leads."""
    points = np.cumsum(random.normal(0, 26, (random.integers(3, 7), 2)), 0)
    points = points - points.min(0)
    points = 10 + 108 * points / max(float(points.max()), 1.0)
    canvas = np.zeros((128, 128), np.uint8)
    cv2.polylines(canvas, [points.astype(np.int32)], False, 1, int(random.integers(5, 16)))
    return _cut(canvas)


def draw_hole(
    side: int, shapes: Sequence[Mask], busy: Mask, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """A hole (side, side) of 0 and 1 covering about 3 to 28 % of the crop.

    `busy` marks foreground objects: of several places the one that covers least of them is taken, since
    what should be learned is background.
    """
    hole: Mask = np.zeros((side, side), np.uint8)
    for _ in range(2 if random.random() < 0.25 else 1):
        kind = random.random()
        if kind < 0.7 and shapes:
            shape = shapes[int(random.integers(len(shapes)))]
        else:
            shape = blob(random) if kind < 0.9 else stroke(random)
        share = float(np.exp(random.uniform(np.log(0.03), np.log(0.28))))
        scale = min(np.sqrt(share * side * side / shape.sum()), 0.95 * side / max(shape.shape))
        size = (max(6, int(shape.shape[1] * scale)), max(6, int(shape.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        part: Mask = np.asarray(cv2.resize(shape, size, interpolation=method), np.uint8)
        part = part[:, ::-1] if random.random() < 0.5 else part
        best, least = hole, np.inf
        for _ in range(5):
            canvas = np.zeros((side, side), np.uint8)
            top = int(random.integers(0, side - part.shape[0] + 1))
            left = int(random.integers(0, side - part.shape[1] + 1))
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
            cost = float((canvas * busy).sum())
            if cost < least:
                best, least = canvas, cost
        hole = np.maximum(hole, best)
    grow = int(random.integers(1, 5))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
    return cv2.dilate(hole, disc).astype(np.float32)


def draw_validity(side: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Where a reference is known (side, side): a half plane or a smooth random region, 20 to 90 %."""
    if random.random() < 0.4:
        angle = random.uniform(0, 2 * np.pi)
        row, column = np.mgrid[:side, :side] / side - 0.5
        field = np.cos(angle) * column + np.sin(angle) * row
    else:
        coarse = random.normal(size=(int(random.integers(3, 8)),) * 2)
        field = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    valid: npt.NDArray[np.float32] = (field > np.quantile(field, random.uniform(0.1, 0.8))).astype(np.float32)
    return valid


def draw_homography(
    width: int, height: int, reach: float, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """A small misalignment: shifts up to `reach` px, a little rotation, zoom and perspective."""
    if reach <= 0:
        return np.eye(3)
    angle, zoom = random.normal(0, 0.0012 * reach), 1 + random.normal(0, 0.001 * reach)
    centre = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
    turn = np.array(
        [
            [zoom * np.cos(angle), -np.sin(angle), random.uniform(-reach, reach)],
            [np.sin(angle), zoom * np.cos(angle), random.uniform(-reach, reach)],
            [random.normal(0, 1.5e-6 * reach), random.normal(0, 1.5e-6 * reach), 1.0],
        ]
    )
    moved: npt.NDArray[np.float64] = centre @ turn @ np.linalg.inv(centre)
    return moved


def expose(image: Image, random: np.random.Generator) -> Image:
    """Another exposure of a picture (float 0..1): gain, tint per channel, a small offset."""
    gain = random.uniform(0.85, 1.18) * random.uniform(0.97, 1.03, 3)
    changed: Image = np.clip(image * gain + random.uniform(-0.015, 0.015), 0, 1)
    return changed


def _cut(mask: Mask) -> Mask:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(rows):
        return mask[:0, :0]
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
