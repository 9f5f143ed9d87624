"""Pictures for the stuff classifier's training: what is known of each, and random views of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.labels import STUFF_NAMES, THING_NAMES
from models.stuff import SIDE

from .data import read_coco

THINGS, STUFF = len(THING_NAMES), len(STUFF_NAMES)
KEPT = 176
"""Pictures are kept in memory squeezed to this square, from which views of 128 x 128 are cut."""

_MORE = ("stuff/scenes", "stuff/camvid/images", "more")


@dataclass(frozen=True)
class Pictures:
    """Files, and what is known of each picture.

    `stuff` (N, 91) of 0 and 1, rows of -1 where unknown; `things` (N, 80) likewise.
    """

    files: tuple[Path, ...]
    stuff: npt.NDArray[np.float32]
    things: npt.NDArray[np.float32]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which pictures have their stuff labels (N,)."""
        return self.stuff[:, 0] >= 0


def read_pictures(data: Path) -> Pictures:
    """COCO pictures with their labels and, to learn surfaces from, unlabelled ones.

    Stuff is known where a picture's number is in `relation/coco_image_labels.npz`, things where COCO's
    annotations are. Raises ValueError when no picture has its stuff labels.
    """
    root = data / "perception" if (data / "perception").is_dir() else data
    with np.load(data / "relation" / "coco_image_labels.npz") as stored:
        rows = {int(number): row for row, number in enumerate(stored["image_ids"])}
        bits = np.unpackbits(stored["bits"], axis=1)[:, : THINGS + STUFF]
    files, stuff, things = [], [], []
    for picture in read_coco(root / "coco"):
        row = rows.get(int(picture.image.stem)) if picture.image.stem.isdigit() else None
        seen = np.zeros(THINGS, np.float32)
        seen[[thing.label - 1 for thing in picture.things]] = 1
        files.append(picture.image)
        things.append(seen if row is None else np.maximum(seen, bits[row, :THINGS]))
        stuff.append(np.full(STUFF, -1) if row is None else bits[row, THINGS:])
    if not any(labels[0] >= 0 for labels in stuff):
        raise ValueError(f"no pictures with known stuff below {data}: see docs/training.md for the layout")
    for file in (file for folder in _MORE for file in sorted((root / folder).glob("*.jpg"))):
        files.append(file)
        stuff.append(np.full(STUFF, -1))
        things.append(np.full(THINGS, -1, np.float32))
    return Pictures(tuple(files), np.stack(stuff).astype(np.float32), np.stack(things).astype(np.float32))


def is_held(file: Path, share: float) -> bool:
    """Whether a picture is set aside; the same on every machine."""
    return int.from_bytes(hashlib.sha256(b"stuff" + file.stem.encode()).digest()[:4], "big") < share * 2**32


def read_image(file: Path) -> npt.NDArray[np.uint8]:
    """RGB (H, W, 3); raises ValueError for what is no picture."""
    bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"cannot be read as a picture: {file}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def squeezed(file: Path, side: int) -> npt.NDArray[np.uint8]:
    """The whole picture squeezed to (side, side, 3)."""
    image = read_image(file)
    way = cv2.INTER_AREA if image.shape[0] * image.shape[1] > side * side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=way), np.uint8)


@dataclass(frozen=True)
class Window:
    """A part of a picture, in shares of its sides, perhaps mirrored."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    mirrored: bool = False

    def cut(self, cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The part of an array (H, W, ...), at least one cell."""
        rows, columns = cells.shape[:2]
        y0, x0 = int(self.top * rows), int(self.left * columns)
        y1, x1 = y0 + max(1, round(self.height * rows)), x0 + max(1, round(self.width * columns))
        part = cells[y0:y1, x0:x1]
        return part[:, ::-1] if self.mirrored else part


def draw_window(random: np.random.Generator, least: float = 0.75) -> Window:
    """At least the share `least` of each side, half of them mirrored."""
    width, height = (float(v) for v in random.uniform(least, 1.0, 2))
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    return Window(float(left), float(top), width, height, bool(random.random() < 0.5))


def view(
    image: npt.NDArray[np.uint8], window: Window, random: np.random.Generator | None = None
) -> npt.NDArray[np.float32]:
    """The window squeezed to (128, 128, 3) float32 in [0, 1]; with `random`, exposed and tinted otherwise."""
    part = np.ascontiguousarray(window.cut(image))
    way = cv2.INTER_AREA if part.shape[0] * part.shape[1] > SIDE * SIDE else cv2.INTER_LINEAR
    found = cv2.resize(part, (SIDE, SIDE), interpolation=way).astype(np.float32) / 255
    if random is not None:
        found = found ** random.uniform(0.8, 1.25) * (
            random.uniform(0.8, 1.2) * random.uniform(0.94, 1.06, 3)
        )
        if random.random() < 0.1:
            found = found.mean(2, keepdims=True).repeat(3, 2)
    return np.clip(found, 0, 1).astype(np.float32)


def as_tensor(views: list[npt.NDArray[np.float32]]) -> Tensor:
    """Views (128, 128, 3) as one batch (B, 3, 128, 128)."""
    batch = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
    return batch.contiguous(memory_format=torch.channels_last)
