"""Things to paste over a scene: cut-outs and annotated objects on their way, and their shadows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.footage import Size, pictures_in, read_sequence, sequences

Plane = NDArray[np.float32]
Layer = tuple[Plane, Plane]
"""Premultiplied colour (H, W, 3) and alpha (H, W) in [0, 1] of what lies over the scene."""

_SOURCE_SIZE = (854, 480)


@dataclass(frozen=True)
class Sprite:
    """Pictures of one thing, uint8 RGBA: one for a still cut-out, several for a moving object."""

    name: str
    pictures: tuple[NDArray[np.uint8], ...]

    @property
    def height(self) -> int:
        return max(int(p.shape[0]) for p in self.pictures)

    @property
    def width(self) -> int:
        return max(int(p.shape[1]) for p in self.pictures)

    @property
    def area(self) -> float:
        """Median number of opaque pixels."""
        return float(np.median([np.count_nonzero(p[..., 3] > 127) for p in self.pictures]))

    def at(self, index: int) -> NDArray[np.uint8]:
        """The picture of frame `index`, played forth and back."""
        count = len(self.pictures)
        turn = index % max(1, 2 * count - 2)
        return self.pictures[min(turn, 2 * count - 2 - turn) if count > 1 else 0]


@dataclass(frozen=True)
class Walker:
    """A sprite on its way: where its foot (bottom centre) is in each frame, in pixels; NaN = not there.

    `scale`: picture pixels of the frame per pixel of the sprite. `phase` and `pace`: of its bob, in radians
    and radians a frame; a pace of 0 is a thing that stands.
    """

    sprite: Sprite
    x: NDArray[np.float64]
    foot: NDArray[np.float64]
    scale: float
    phase: float = 0.0
    pace: float = 0.0


def sequence_sprite(data: Path, name: str, frames: int = 60) -> Sprite:
    """The annotated object of a sequence."""
    pictures = []
    for picture, mask in zip(*read_sequence(data, name, frames, _SOURCE_SIZE), strict=True):
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        if w * h >= 200:
            alpha = cv2.GaussianBlur(mask.astype(np.uint8) * np.uint8(255), (3, 3), 0)
            pictures.append(np.dstack([picture, alpha])[y : y + h, x : x + w])
    return Sprite(name, tuple(pictures))


def cutout_sprite(path: Path) -> Sprite:
    """A still RGBA picture, trimmed to what is not transparent."""
    picture = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
    x, y, w, h = cv2.boundingRect((picture[..., 3] > 16).astype(np.uint8))
    return Sprite(path.name, (np.asarray(picture[y : y + h, x : x + w], np.uint8),))


def draw_sprite(data: Path, random: np.random.Generator) -> Sprite:
    """A cut-out (three times of five) or the object of a sequence, drawn at random."""
    cutouts, names = pictures_in(data / "cutouts"), sequences(data)
    if cutouts and (not names or random.random() < 0.6):
        return cutout_sprite(cutouts[int(random.integers(len(cutouts)))])
    return sequence_sprite(data, names[int(random.integers(len(names)))])


def crossing(
    random: np.random.Generator,
    sprite: Sprite,
    size: Size,
    frames: int,
    height: float,
    foot: float,
    *,
    rightwards: bool,
    stops: bool = False,
) -> Walker:
    """A walker from side to side; `height` and `foot` are shares of the frame's height.

    One who stops stands for a third of the clip; others may enter late or leave early.
    """
    scale = height * size[1] / sprite.height
    half = sprite.pictures[0].shape[1] * scale / 2 / size[0]
    start, end = (-half - 0.02, 1 + half + 0.02)[:: 1 if rightwards else -1]
    time = np.linspace(0, 1, frames)
    if stops:
        stand = random.uniform(0.35, 0.65)
        x = np.interp(time, [0, 0.33, 0.67, 1], [start, stand, stand, end])
    else:
        x = start + (end - start) * (time * random.uniform(0.9, 1.2) + random.uniform(-0.1, 0.1))
    phase, pace = random.uniform(0, 2 * np.pi), random.uniform(0.3, 0.45)
    return Walker(sprite, x * size[0], np.full(frames, foot * size[1]), scale, phase, pace)


def draw(walker: Walker, index: int, size: Size) -> Layer:
    """The walker in frame `index`: premultiplied colour and alpha over the whole frame."""
    x, foot = float(walker.x[index]), float(walker.foot[index])
    if not np.isfinite(x):
        return np.zeros((size[1], size[0], 3), np.float32), np.zeros(size[::-1], np.float32)
    swing = walker.phase + walker.pace * index if walker.pace else 0.0
    foot += 0.008 * size[1] * np.sin(2 * swing)
    picture, scale = walker.sprite.at(index), walker.scale
    if scale < 1:
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        scale = 1.0
    padded = np.pad(picture, ((3, 3), (3, 3), (0, 0))).astype(np.float32)
    padded[..., 3] /= 255
    padded[..., :3] *= padded[..., 3:]
    middle, bottom = padded.shape[1] / 2, padded.shape[0] - 3
    place = cv2.getRotationMatrix2D((middle, bottom), 2.0 * np.sin(swing), scale)
    place[:, 2] += x - middle, foot - bottom
    drawn = np.asarray(cv2.warpAffine(padded, place, size, flags=cv2.INTER_LINEAR), np.float32)
    return drawn[..., :3], drawn[..., 3]


def over(picture: Plane, layer: Layer) -> Plane:
    """The layer over the picture."""
    colour, alpha = layer
    return picture * (1 - alpha[..., None]) + colour


def mask_of(alpha: Plane) -> NDArray[np.bool_]:
    """Where there is anything of the thing, grown by 2 pixels or 1/120 of the height."""
    reach = max(2, round(alpha.shape[0] / 120))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate((alpha > 0.02).astype(np.uint8), disc) > 0)


def cast_shadow(alpha: Plane, foot: float, skew: float, dark: float) -> Plane:
    """What a soft shadow leaves of the light: the alpha laid down on the ground from the foot on.

    `skew`: how far it leans sideways per pixel of height; `dark`: the share of light that it takes.
    """
    height = alpha.shape[0]
    flat = np.array([[1, skew, -skew * foot], [0, 0.35, 0.65 * foot - 0.02 * height]], np.float32)
    laid = cv2.warpAffine(alpha, flat, alpha.shape[::-1])
    soft = np.asarray(cv2.GaussianBlur(laid, (0, 0), height / 50))
    return (1 - dark * np.clip(1.3 * soft, 0, 1)).astype(np.float32)


def blob(random: np.random.Generator, size: Size, share: float) -> NDArray[np.bool_]:
    """A smooth star-shaped blob of about `share` of the frame, wholly inside it."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = np.ones(200)
    for k in range(2, 6):
        radius += random.uniform(-0.35, 0.35) / k * np.cos(k * angle + random.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.35, None)
    outline = np.stack([radius * np.cos(angle) * random.uniform(0.9, 1.4), radius * np.sin(angle)], 1)
    frame = np.array(size, float)
    outline *= np.sqrt(share * frame.prod() / cv2.contourArea(outline.astype(np.float32)))
    outline *= min(1.0, float(((frame - 12) / np.ptp(outline, axis=0)).min()))
    first, last = 6 - outline.min(0), frame - 6 - outline.max(0)
    centre = random.uniform(first, np.maximum(first, last))
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, [np.rint(outline + centre).astype(np.int32)], 1)
    return mask > 0
