"""Random training views with everything the segmentator's losses need, from pictures and pasted things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from ..labels import THING_NAMES
from .data import CAMVID_THINGS, GREY, IGNORE, Picture, Thing, fit_size, rarity, resize
from .taught import CELL, read_taught, taught_path
from .teacher import VOC_CLASSES

STRIDE = 4
PASTED = frozenset(
    THING_NAMES.index(name) + 1
    for name in (
        "person", "bicycle", "car", "motorcycle", "bus", "truck", "bird", "cat", "dog", "horse",
        "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
    )
)  # fmt: skip
"""Classes whose annotated outlines are cut out and pasted elsewhere."""


@dataclass(frozen=True)
class View:
    """One training view; maps are at stride 4, (h, w).

    image (S, S, 3) uint8; label uint8, class 0..80 or 255 unknown; hint uint8, class of a thing known
    by its box only (0 none); heat float32 in [0, 1] and heat_known bool; offset and hint_offset
    (2, h, w) float32 in cells to the box centre, each with a weight (h, w), 0 where unknown;
    taught (21, h, w) float32, the teacher's log probabilities, and taught_known bool.
    """

    image: np.ndarray
    label: np.ndarray
    hint: np.ndarray
    heat: np.ndarray
    heat_known: np.ndarray
    offset: np.ndarray
    weight: np.ndarray
    hint_offset: np.ndarray
    hint_weight: np.ndarray
    taught: np.ndarray
    taught_known: np.ndarray


class Canvas:
    """A view while it is made: full-size maps of class, hint and owner, and the owners' boxes."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.image = np.full((side, side, 3), GREY, np.uint8)
        self.label = np.full((side, side), IGNORE, np.uint8)
        self.hint = np.zeros((side, side), np.uint8)
        self.owner = np.zeros((side, side), np.int32)
        self.hint_owner = np.zeros((side, side), np.int32)
        self.heat_known = np.zeros((side, side), np.uint8)
        self.taught = np.zeros((len(VOC_CLASSES), side // STRIDE, side // STRIDE), np.float32)
        self.taught_known = np.zeros((side, side), np.uint8)
        self.boxes: list[tuple[float, float, float, float]] = []
        self.painted: list[int] = []

    def add_box(self, box: tuple[float, float, float, float]) -> int:
        """Register a thing by its box, clipped to the view; 0 when too little of it is inside."""
        x0, y0, x1, y1 = box
        area = max(1.0, (x1 - x0) * (y1 - y0))
        x0, y0 = max(0.0, x0), max(0.0, y0)
        x1, y1 = min(float(self.side), x1), min(float(self.side), y1)
        if x1 - x0 < 3 or y1 - y0 < 3:
            return 0
        if (x1 - x0) * (y1 - y0) < 0.15 * area:
            self.heat_known[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = 0
            return 0
        self.boxes.append((x0, y0, x1, y1))
        self.painted.append(0)
        return len(self.boxes)

    def add_outline(self, mask: np.ndarray, label: int, owner: int) -> None:
        """Paint a thing's exact outline."""
        self.label[mask] = label
        self.hint[mask] = 0
        self.owner[mask] = owner
        self.hint_owner[mask] = 0
        if owner:
            self.painted[owner - 1] = int(mask.sum())

    def finish(self) -> View:
        """The maps at stride 4."""
        half = STRIDE // 2
        small = np.s_[half::STRIDE, half::STRIDE]
        heat = np.zeros((self.side // STRIDE,) * 2, np.float32)
        left = np.bincount(self.owner.reshape(-1), minlength=len(self.boxes) + 1)
        for number, (box, area) in enumerate(zip(self.boxes, self.painted, strict=True), 1):
            if area and left[number] < 0.25 * area:
                continue  # what is pasted over it hides it
            _draw_centre(heat, box)
        offset, weight = _offsets(self.owner[small], self.boxes)
        hint_offset, hint_weight = _offsets(self.hint_owner[small], self.boxes)
        return View(
            self.image, self.label[small], self.hint[small], heat,
            self.heat_known[small].astype(bool), offset, weight, hint_offset, hint_weight,
            self.taught, self.taught_known[small].astype(bool),
        )  # fmt: skip


def _draw_centre(heat: np.ndarray, box: tuple[float, float, float, float]) -> None:
    """A Gaussian of height 1 at the box's centre, as wide as a seventh of the smaller side."""
    x0, y0, x1, y1 = (v / STRIDE for v in box)
    cx, cy = (x0 + x1) / 2 - 0.5, (y0 + y1) / 2 - 0.5
    cx, cy = round(cx), round(cy)
    sigma = float(np.clip(min(x1 - x0, y1 - y0) / 7, 0.6, 2.5))
    reach = int(3 * sigma) + 1
    ys = np.arange(max(0, cy - reach), min(heat.shape[0], cy + reach + 1))
    xs = np.arange(max(0, cx - reach), min(heat.shape[1], cx + reach + 1))
    if len(ys) == 0 or len(xs) == 0:
        return
    bump = np.exp(-((ys[:, None] - cy) ** 2 + (xs[None] - cx) ** 2) / (2 * sigma**2))
    part = heat[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    np.maximum(part, bump.astype(np.float32), out=part)


def _offsets(
    owner: np.ndarray, boxes: Sequence[tuple[float, float, float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """(dy, dx) in cells to the owner's box centre, and a weight that falls with the thing's size."""
    table = np.zeros((len(boxes) + 1, 3), np.float32)
    for number, (x0, y0, x1, y1) in enumerate(boxes, 1):
        size = min(x1 - x0, y1 - y0) / STRIDE
        table[number] = (y0 + y1) / 8 - 0.5, (x0 + x1) / 8 - 0.5, 1 / (2 + 0.5 * size)
    ys, xs = np.mgrid[: owner.shape[0], : owner.shape[1]].astype(np.float32)
    found = table[owner]
    inside = owner > 0
    offset = np.stack([(found[..., 0] - ys) * inside, (found[..., 1] - xs) * inside])
    return offset, found[..., 2] * inside


@dataclass(frozen=True)
class Placement:
    """How a picture lies on a view: scale, then mirror at the scaled width, then shift."""

    scale: float
    width: int
    left: int
    top: int
    mirrored: bool

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) x, y in picture pixels to view pixels."""
        x, y = xy[:, 0] * self.scale, xy[:, 1] * self.scale
        if self.mirrored:
            x = self.width - x
        return np.stack([x - self.left, y - self.top], 1)

    def box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box likewise."""
        p = self.points(np.array([[box[0], box[1]], [box[2], box[3]]], np.float32))
        (x0, y0), (x1, y1) = p.min(0), p.max(0)
        return float(x0), float(y0), float(x1), float(y1)


def _place(
    picture: Picture, canvas: Canvas, longer: int, random: np.random.Generator, taught: Path | None
) -> None:
    image = picture.read()
    height, width = fit_size(image.shape[0], image.shape[1], longer)
    scale = width / image.shape[1]
    image = resize(image, height, width)
    side = canvas.side
    # A view likes to see things: one of them, not just any place, at the middle of two views in three.
    top = int(random.integers(0, max(1, height - side + 1)))
    left = int(random.integers(0, max(1, width - side + 1)))
    mirrored = bool(random.random() < 0.5)
    where = Placement(scale, width, 0, 0, mirrored)
    things = [t for t in picture.things if not t.crowd]
    if things and random.random() < 0.67:
        x0, y0, x1, y1 = where.box(things[int(random.integers(len(things)))].box)
        jitter = random.uniform(-0.3, 0.3, 2) * side
        left = int(np.clip((x0 + x1 - side) / 2 + jitter[0], 0, max(0, width - side)))
        top = int(np.clip((y0 + y1 - side) / 2 + jitter[1], 0, max(0, height - side)))
    where = Placement(scale, width, left, top, mirrored)
    if mirrored:
        image = image[:, ::-1]
    cut = image[top : top + side, left : left + side]
    canvas.image[: cut.shape[0], : cut.shape[1]] = cut
    if taught is not None and taught_path(taught, picture).is_file():
        canvas.taught = _lay(read_taught(taught_path(taught, picture)), canvas.taught.shape, where)
        canvas.taught_known[: cut.shape[0], : cut.shape[1]] = 1
    if picture.kind in ("full", "partial"):
        _label_things(picture.things, canvas, where)
    elif picture.mask is not None:
        mask = cv2.imread(str(picture.mask), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f"cannot be read as a mask: {picture.mask}")
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        mask = mask[:, ::-1] if mirrored else mask
        _label_mask(picture, canvas, mask[top : top + side, left : left + side])


def _lay(maps: np.ndarray, shape: tuple[int, ...], where: Placement) -> np.ndarray:
    """A picture's stored maps at the cells of a view."""
    # Cell a of the view is centred on its pixel 4 a + 1.5, cell k of a map on the picture's CELL k + 3.5.
    step = STRIDE / (where.scale * CELL)

    def first(start: float) -> float:
        return ((start + 0.5) / where.scale - 0.5 * CELL) / CELL

    y = first(where.top + 0.5 * (STRIDE - 1))
    x = first(where.left + 0.5 * (STRIDE - 1))
    if where.mirrored:
        x = first(where.width - 1 - where.left - 0.5 * (STRIDE - 1))
    across = -step if where.mirrored else step
    matrix = np.array([[across, 0, x], [0, step, y]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (shape[2], shape[1])
    return np.stack(
        [cv2.warpAffine(m, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) for m in maps]
    )


def _label_things(things: Sequence[Thing], canvas: Canvas, where: Placement) -> None:
    canvas.label[:] = 0  # every thing has at least a box, so the rest is background
    canvas.heat_known[:] = 1

    def area(thing: Thing) -> float:
        x0, y0, x1, y1 = thing.box
        return (x1 - x0) * (y1 - y0)

    ordered = sorted(things, key=area, reverse=True)
    for thing in (t for t in ordered if t.crowd or not t.polygons):
        x0, y0, x1, y1 = (round(v) for v in where.box(thing.box))
        region = np.s_[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
        canvas.label[region] = IGNORE
        canvas.hint[region] = 0 if thing.crowd else thing.label
        if thing.crowd:
            canvas.heat_known[region] = 0
            canvas.hint_owner[region] = 0
        else:
            canvas.hint_owner[region] = canvas.add_box(where.box(thing.box))
    for thing in (t for t in ordered if t.polygons and not t.crowd):
        owner = canvas.add_box(where.box(thing.box))
        mask = np.zeros((canvas.side, canvas.side), np.uint8)
        outline = [np.round(where.points(p)).astype(np.int32) for p in thing.polygons]
        for polygon in outline:
            cv2.fillPoly(mask, [polygon], 1)
        canvas.add_outline(mask > 0, thing.label, owner)


def _label_mask(picture: Picture, canvas: Canvas, mask: np.ndarray) -> None:
    region = np.s_[: mask.shape[0], : mask.shape[1]]
    label = np.full(mask.shape, IGNORE, np.uint8)
    if picture.kind == "camvid":
        label[mask > 0] = 0
        for number in CAMVID_THINGS.values():
            label[mask == _PANOPTIC[number]] = number
        canvas.label[region] = label
        return
    person = mask > 127
    if picture.kind == "selfie":
        label[:] = 0
    label[person] = 1
    canvas.label[region] = label
    if picture.kind == "web" or not person.any():
        return  # groups: one mask for several people
    ys, xs = np.nonzero(person)
    owner = canvas.add_box((xs.min(), ys.min(), xs.max() + 1.0, ys.max() + 1.0))
    canvas.owner[region][person] = owner
    known = np.ones_like(person) if picture.kind == "selfie" else person
    canvas.heat_known[region] = known


_PANOPTIC = {1: 1, 3: 3}
"""COCO panoptic category of the class numbers used in the street maps."""


@dataclass(frozen=True)
class Cutout:
    """A thing with its outline: RGBA picture file and class, or an annotated thing of a picture."""

    label: int
    file: Path | None = None
    picture: Picture | None = None
    thing: Thing | None = None

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB (h, w, 3) uint8 and alpha (h, w) float32 in [0, 1], cut to the thing's box."""
        if self.file is not None:
            rgba = cv2.imread(str(self.file), cv2.IMREAD_UNCHANGED)
            if rgba is None or rgba.ndim != 3 or rgba.shape[2] != 4:
                raise ValueError(f"cannot be read as a picture with alpha: {self.file}")
            return cv2.cvtColor(rgba[..., :3], cv2.COLOR_BGR2RGB), rgba[..., 3] / np.float32(255)
        assert self.picture is not None and self.thing is not None
        image = self.picture.read()
        mask = np.zeros(image.shape[:2], np.uint8)
        for polygon in self.thing.polygons:
            cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 255)
        x0, y0, x1, y1 = (int(v) for v in self.thing.box)
        part = np.s_[max(0, y0) : y1 + 2, max(0, x0) : x1 + 2]
        alpha = cv2.GaussianBlur(mask, (3, 3), 0)[part] / np.float32(255)
        return image[part], alpha


def read_cutouts(folder: Path, pictures: Sequence[Picture], hidden: Sequence[Picture]) -> list[Cutout]:
    """Ready cut-outs (DAVIS ones and those of hidden pictures left out) and annotated outlines."""
    keys = {str(int(p.key)) for p in hidden if p.key.isdigit()}
    found = []
    for path in sorted(folder.glob("*.png")):
        words = path.stem.split("-")
        if words[0] in THING_NAMES and "davis" not in words and not keys & set(words):
            found.append(Cutout(THING_NAMES.index(words[0]) + 1, file=path))
    found *= 4  # their outlines are the cleanest
    for picture in pictures:
        for thing in picture.things:
            x0, y0, x1, y1 = thing.box
            if thing.polygons and thing.label in PASTED and (x1 - x0) * (y1 - y0) > 2500:
                found.append(Cutout(thing.label, picture=picture, thing=thing))
    return found


def _paste(canvas: Canvas, cutout: Cutout, random: np.random.Generator) -> None:
    image, alpha = cutout.read()
    if min(alpha.shape) < 8:
        return
    longest = float(np.exp(random.uniform(np.log(24), np.log(0.8 * canvas.side))))
    height, width = fit_size(alpha.shape[0], alpha.shape[1], int(min(longest, 1.5 * max(alpha.shape))))
    image = resize(image, height, width)
    alpha = np.clip(resize(alpha, height, width), 0, 1)
    if random.random() < 0.5:
        image, alpha = image[:, ::-1], alpha[:, ::-1]
    tint = random.uniform(0.75, 1.2) * random.uniform(0.93, 1.07, 3)
    side = canvas.side
    x = int(random.integers(-width // 3, side - width // 2))
    y = int(random.integers(-height // 4, side - height // 2))
    mask = np.zeros((side, side), np.float32)
    colour = np.zeros((side, side, 3), np.float32)
    vy, vx = slice(max(0, y), min(side, y + height)), slice(max(0, x), min(side, x + width))
    sy, sx = slice(vy.start - y, vy.stop - y), slice(vx.start - x, vx.stop - x)
    if vy.stop <= vy.start or vx.stop <= vx.start:
        return
    mask[vy, vx] = alpha[sy, sx]
    colour[vy, vx] = image[sy, sx] * tint
    mixed = canvas.image * (1 - mask[..., None]) + colour * mask[..., None]
    canvas.image = np.clip(mixed, 0, 255).astype(np.uint8)
    inside = mask > 0.5
    ys, xs = np.nonzero(inside)
    if len(ys) < 20:
        return
    owner = canvas.add_box((xs.min(), ys.min(), xs.max() + 1.0, ys.max() + 1.0))
    canvas.add_outline(inside, cutout.label, owner)
    canvas.heat_known[inside] = 1
    canvas.taught_known[inside] = 0


def disturb(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Light, colour, blur, noise and compression as cameras and codecs give them."""
    x = image.astype(np.float32)
    x = (x - 128) * random.uniform(0.75, 1.25) + 128 + random.uniform(-25, 25)
    grey = x.mean(2, keepdims=True)
    x = grey + (x - grey) * random.uniform(0.5, 1.3)
    x *= random.uniform(0.93, 1.07, 3).astype(np.float32)
    if random.random() < 0.25:
        x = cv2.GaussianBlur(x, (0, 0), float(random.uniform(0.4, 1.3)))
    if random.random() < 0.2:
        x = x + random.normal(0, random.uniform(2, 8), x.shape).astype(np.float32)
    out: np.ndarray = np.clip(x, 0, 255).astype(np.uint8)
    if random.random() < 0.3:
        quality = int(random.integers(25, 80))
        _, packed = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])
        out = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return out


@dataclass(frozen=True)
class ViewMaker:
    """Draws views: pictures by group and weight, things pasted on some, four small ones on others."""

    groups: tuple[tuple[float, tuple[Picture, ...]], ...]
    cutouts: tuple[Cutout, ...]
    side: int
    longer: tuple[int, int] = (200, 640)
    pasted: float = 0.45
    mosaic: float = 0.15
    taught: Path | None = None

    @cached_property
    def _chances(self) -> list[np.ndarray]:
        return [rarity(pictures) for _, pictures in self.groups]

    def __call__(self, random: np.random.Generator) -> View:
        """One view."""
        if random.random() < self.mosaic:
            half = [self._one(self.side // 2, 0.5, random) for _ in range(4)]
            return _join(half)
        return self._one(self.side, 1.0, random)

    def _one(self, side: int, zoom: float, random: np.random.Generator) -> View:
        weights = np.array([weight for weight, _ in self.groups])
        number = int(random.choice(len(weights), p=weights / weights.sum()))
        group, chances = self.groups[number][1], self._chances[number]
        picture = group[int(random.choice(len(group), p=chances))]
        low, high = np.log(self.longer[0]), np.log(self.longer[1])
        longer = int(zoom * np.exp(random.uniform(low, high)))
        canvas = Canvas(side)
        _place(picture, canvas, max(side // 2, longer), random, self.taught)
        if self.cutouts and random.random() < self.pasted:
            for _ in range(int(random.integers(1, 5))):
                _paste(canvas, self.cutouts[int(random.integers(len(self.cutouts)))], random)
        canvas.image = disturb(canvas.image, random)
        return canvas.finish()


def _join(views: Sequence[View]) -> View:
    """Four views as the quarters of one."""

    def quarters(maps: Sequence[np.ndarray], axis: int) -> np.ndarray:
        rows = [np.concatenate(maps[k : k + 2], axis + 1) for k in (0, 2)]
        return np.concatenate(rows, axis)

    fields = {}
    for name in View.__dataclass_fields__:
        maps = [getattr(view, name) for view in views]
        fields[name] = quarters(maps, int(maps[0].ndim == 3 and name != "image"))
    return View(**fields)
