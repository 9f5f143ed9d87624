"""Training pictures with what is known of them, and the random views the trainings take.

Layout under the data folder (every part is optional, see docs/training.md):
coco/images, coco/annotations.json[.gz]; people/images, people/masks; stuff/camvid/images, labels;
cutouts/*.png (RGBA, named CLASS-anything.png); more/*.jpg.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ..labels import THING_NAMES

Kind = Literal["full", "partial", "selfie", "fashion", "web", "camvid", "plain"]

IGNORE = 255
"""Class of a pixel nothing is known about."""

CAMVID_THINGS = {"person": 1, "car": 3}
GREY = 128
"""What lies outside a picture: the middle of the scale, as the teacher was trained with."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One annotated object: class index 1..80, box (x0, y0, x1, y1) and polygons in pixels."""

    label: int
    box: tuple[float, float, float, float]
    polygons: tuple[np.ndarray, ...] = ()
    crowd: bool = False


@dataclass(frozen=True)
class Picture:
    """One picture on disk, and what is known of it.

    kind "full": every thing has polygons; "partial": every thing has a box, some have polygons;
    "selfie", "fashion", "web": a mask of people; "camvid": a map of street classes; "plain": nothing.
    """

    image: Path
    kind: Kind
    things: tuple[Thing, ...] = ()
    mask: Path | None = None

    @property
    def key(self) -> str:
        """A name that does not depend on where the data lies."""
        return self.image.stem

    def read(self) -> np.ndarray:
        """RGB, (H, W, 3) uint8; ValueError when the file cannot be decoded."""
        bgr = cv2.imread(str(self.image), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"cannot be read as a picture: {self.image}")
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def chance(key: str) -> float:
    """A number in [0, 1) that belongs to a name, the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def _load_json(path: Path) -> dict[str, Any]:
    packed = path.with_suffix(".json.gz")
    if packed.is_file():
        with gzip.open(packed, "rt", encoding="utf-8") as file:
            return dict(json.load(file))
    with path.open(encoding="utf-8") as file:
        return dict(json.load(file))


def read_coco(folder: Path) -> list[Picture]:
    """Pictures of a COCO-style folder; a picture without `labels` counts as fully annotated.

    Run-length masks (COCO's crowds) are read as their box.
    """
    if not (folder / "annotations.json").is_file() and not (folder / "annotations.json.gz").is_file():
        return []
    notes = _load_json(folder / "annotations.json")
    names = {c["id"]: c["name"] for c in notes["categories"]}
    things: dict[int, list[Thing]] = {}
    for note in notes["annotations"]:
        name = names[note["category_id"]]
        if name not in THING_NAMES:
            continue
        x, y, w, h = (float(v) for v in note["bbox"])
        outline = note["segmentation"]
        polygons = tuple(
            np.asarray(p, np.float32).reshape(-1, 2)
            for p in (outline if isinstance(outline, list) else [])
            if len(p) >= 6
        )
        things.setdefault(note["image_id"], []).append(
            Thing(
                THING_NAMES.index(name) + 1,
                (x, y, x + w, y + h),
                polygons,
                bool(note.get("iscrowd", 0)),
            )
        )
    pictures = []
    for entry in notes["images"]:
        kind: Kind = "full" if entry.get("labels", "full") == "full" else "partial"
        found = tuple(things.get(entry["id"], ()))
        pictures.append(Picture(folder / "images" / entry["file_name"], kind, found))
    return pictures


def read_people(folder: Path) -> list[Picture]:
    """Pictures with a mask of people; the file name begins with selfie, fashion or web."""
    pictures = []
    for path in sorted((folder / "images").glob("*.jpg")):
        mask = folder / "masks" / f"{path.stem}.png"
        kind: Kind
        for kind in ("selfie", "fashion", "web"):
            if path.stem.startswith(kind) and mask.is_file():
                pictures.append(Picture(path, kind, mask=mask))
    return pictures


def read_camvid(folder: Path) -> list[Picture]:
    """Street frames with a label map of COCO panoptic ids."""
    return [
        Picture(path, "camvid", mask=folder / "labels" / f"{path.stem}.png")
        for path in sorted((folder / "images").glob("*.jpg"))
        if (folder / "labels" / f"{path.stem}.png").is_file()
    ]


def read_more(folder: Path) -> list[Picture]:
    """Photographs of which nothing is known: only the teacher says what they show."""
    return [Picture(path, "plain") for path in sorted(folder.glob("*.jpg"))]


@dataclass(frozen=True)
class Collection:
    """Training pictures, those set aside to score with, and those to choose by (neither is trained on)."""

    training: tuple[Picture, ...]
    held_coco: tuple[Picture, ...]
    held_people: tuple[Picture, ...]
    choosing_coco: tuple[Picture, ...] = ()
    choosing_people: tuple[Picture, ...] = ()


def read_collection(
    data: Path,
    *,
    held_full: int = 120,
    held_people: int = 60,
    held_street: float = 0.1,
    choosing: int = 40,
) -> Collection:
    """Everything under `data`, split by the names' digests; ValueError when there is nothing."""
    coco, people = read_coco(data / "coco"), read_people(data / "people")
    street = read_camvid(data / "stuff" / "camvid")
    if not coco and not people:
        raise ValueError(f"no training pictures below {data}: see docs/training.md for the layout")
    full = sorted((p for p in coco if p.kind == "full"), key=lambda p: chance(p.key))
    people = sorted(people, key=lambda p: chance(p.key))
    held = tuple(full[: min(held_full, len(full) // 4)])
    aside = tuple(people[: min(held_people, len(people) // 4)])
    # Checkpoints, thresholds and settings are chosen by pictures that are neither trained on nor reported.
    rest, others = full[len(held) :], people[len(aside) :]
    by_coco = tuple(rest[: min(choosing, len(rest) // 4)])
    by_people = tuple(others[: min(choosing // 2, len(others) // 4)])
    hidden = {p.image for p in (*held, *aside, *by_coco, *by_people)}
    training = [p for p in (*coco, *people) if p.image not in hidden]
    training += [p for p in street if chance(p.key) >= held_street]
    training += read_more(data / "more")
    return Collection(tuple(training), held, aside, by_coco, by_people)


def rarity(pictures: Sequence[Picture]) -> np.ndarray:
    """Probability (N,) of drawing each picture such that rare classes are seen more often.

    A picture counts by its rarest class, one over the root of how many pictures show that; pictures
    without annotated things (masks of people, street maps) count as the median of the others.
    """
    shown = [{t.label for t in p.things if not t.crowd} for p in pictures]
    count = np.bincount([label for labels in shown for label in labels], minlength=len(THING_NAMES) + 1)
    weight = np.array([max((count[k] ** -0.5 for k in labels), default=np.nan) for labels in shown])
    middle = float(np.nanmedian(weight)) if np.isfinite(weight).any() else 1.0
    weight = np.where(np.isnan(weight), middle, weight)
    return np.asarray(weight / weight.sum(), np.float64)


def fit_size(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width scaled so that the longer side is `longer`."""
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resized picture: by area when it shrinks, bilinear when it grows."""
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def plain_view(
    picture: Picture, side: int, longer: tuple[int, int], random: np.random.Generator
) -> np.ndarray:
    """A random (side, side, 3) uint8 cut of the picture at a random scale, mirrored at random."""
    image = picture.read()
    shape = image.shape
    height, width = fit_size(shape[0], shape[1], int(random.integers(longer[0], longer[1] + 1)))
    image = resize(image, height, width)
    mirrored = bool(random.random() < 0.5)
    if mirrored:
        image = image[:, ::-1]
    top = int(random.integers(0, max(1, height - side + 1)))
    left = int(random.integers(0, max(1, width - side + 1)))
    if picture.things and random.random() < 0.6:  # a thing rather than any place
        x0, y0, x1, y1 = picture.things[int(random.integers(len(picture.things)))].box
        across, down = width / shape[1], height / shape[0]
        middle = (x0 + x1) / 2 * across, (y0 + y1) / 2 * down
        if mirrored:
            middle = width - middle[0], middle[1]
        jitter = random.uniform(-0.25, 0.25, 2) * side
        left = int(np.clip(middle[0] + jitter[0] - side / 2, 0, max(0, width - side)))
        top = int(np.clip(middle[1] + jitter[1] - side / 2, 0, max(0, height - side)))
    cut = image[top : top + side, left : left + side]
    view = np.full((side, side, 3), GREY, np.uint8)
    view[: cut.shape[0], : cut.shape[1]] = cut
    return view


def pick(pictures: Sequence[Picture], random: np.random.Generator) -> Picture:
    """One picture, all alike likely."""
    return pictures[int(random.integers(len(pictures)))]
