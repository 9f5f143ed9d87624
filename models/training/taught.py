"""What the teacher says of each training picture, made once: two sizes averaged, checked against the boxes.

Averaged over two sizes, one of them mirrored, the teacher is better than at any one size, and views can then
be scaled, disturbed and pasted on without asking it again. Where a picture lists all its things by box, a
class outside every box of its family is a mistake and becomes background.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from .data import GREY, Picture, fit_size, resize
from .losses import FAMILIES, teacher_at_stride_4
from .teacher import VOC_CLASSES, DeeplabTeacher

CELL = 8
"""Pixels of the picture per cell of a stored map."""

SIZES = (513, 641)
"""Longer sides the teacher sees; the picture is mirrored at the second."""

_SCALE = 20.0
_GROWN = 0.06
TAUGHT_KINDS = ("full", "partial", "fashion", "web")


def taught_path(folder: Path, picture: Picture) -> Path:
    """Where a picture's map is kept."""
    return folder / f"{picture.key}.npy"


def read_taught(path: Path) -> np.ndarray:
    """Log probabilities (21, h, w) float32 at `CELL` pixels a cell."""
    return np.asarray(np.load(path), np.float32) / -_SCALE


def teach(folder: Path, teacher: DeeplabTeacher, pictures: Sequence[Picture], *, workers: int) -> Path:
    """Write the map of each picture of TAUGHT_KINDS that has none yet; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [p for p in pictures if p.kind in TAUGHT_KINDS and not taught_path(folder, p).is_file()]

    def work(picture: Picture) -> None:
        image = picture.read()
        seen = [_probability(teacher, image, size, mirrored=k == 1) for k, size in enumerate(SIZES)]
        found = np.mean(seen, 0)
        if picture.kind in ("full", "partial"):
            found = checked(found, picture)
        stored = np.clip(-np.log(np.maximum(found, 1e-6)) * _SCALE, 0, 255).round().astype(np.uint8)
        partial = folder / f"{picture.key}.partial.npy"
        np.save(partial, stored)
        partial.replace(taught_path(folder, picture))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, missing))
    return folder


def _probability(teacher: DeeplabTeacher, image: np.ndarray, size: int, *, mirrored: bool) -> np.ndarray:
    """(21, h, w) of the picture at `CELL` pixels a cell."""
    height, width = fit_size(image.shape[0], image.shape[1], size)
    shown = resize(image, height, width)
    shown = shown[:, ::-1] if mirrored else shown
    rows, columns = (-(-v // 32) * 32 for v in (height, width))
    padded = np.full((rows, columns, 3), GREY, np.uint8)
    padded[:height, :width] = shown
    scores, _ = teacher(torch.from_numpy(padded).permute(2, 0, 1)[None].float())
    fine = teacher_at_stride_4(scores.softmax(1), (rows // 4, columns // 4))[0].numpy()
    down, across = (max(1, -(-v // CELL)) for v in image.shape[:2])
    y, x = height / image.shape[0] * CELL / 4, width / image.shape[1] * CELL / 4
    # Cell k of the map is centred on pixel CELL k + (CELL - 1) / 2 of the picture.
    matrix = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5]], np.float32)
    if mirrored:
        matrix[0] = -x, 0, width / 4 - 0.5 * x - 0.5
    out = [
        cv2.warpAffine(
            m, matrix, (across, down), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for m in fine
    ]  # fmt: skip
    return np.stack(out)


def checked(found: np.ndarray, picture: Picture) -> np.ndarray:
    """The map with each class kept inside the boxes of its family, and named as the box says."""
    family = FAMILIES
    down, across = found.shape[1:]
    voc_of = {number: k for k, number in enumerate(VOC_CLASSES)}
    moved = np.zeros_like(found)
    moved[0] = found[0]
    left = found.copy()

    def area(box: tuple[float, float, float, float]) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    for thing in sorted(picture.things, key=lambda t: area(t.box)):  # the smallest box speaks first
        x0, y0, x1, y1 = thing.box
        grown = _GROWN * (x1 - x0), _GROWN * (y1 - y0)
        rows = slice(max(0, int((y0 - grown[1]) / CELL)), min(down, int((y1 + grown[1]) / CELL) + 1))
        columns = slice(max(0, int((x0 - grown[0]) / CELL)), min(across, int((x1 + grown[0]) / CELL) + 1))
        members = [k for k, number in enumerate(VOC_CLASSES) if k and family[number] == family[thing.label]]
        if not members:
            continue
        part = left[:, rows, columns]
        # A thing of a class the teacher does not know: its background stands for it.
        moved[voc_of.get(thing.label, 0), rows, columns] += part[members].sum(0)
        part[members] = 0
    moved[0] += left[1:].sum(0)
    out: np.ndarray = moved / moved.sum(0, keepdims=True)
    return out
