"""Clips in which somebody passes before somebody who stays, with all that is hidden known.

Backgrounds are pictures of empty places, with noise and, in half of the clips, a slowly panning camera. Who
stays stands and sways, or walks: a photograph whose legs are bent to and fro; or is cut out of a film, where
a man jumps and a woman dances, which is as hard as it gets. Photographs are those that the de-occlusion
network was not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.footage import Size, cover, pictures_in, read_rgb, read_sequence
from benchmarks.sprites import Sprite, cutout_sprite
from models.training.occlusions import is_held, roughened, source_key
from stream.types import Image, Instance, Mask, Track

SIZE: Size = (640, 360)
WORKING: Size = (512, 288)
FILMS = ("parkour", "dance-twirl")
_SMOOTH = 8
Kind = Literal["stands", "walks", "film"]
KINDS: tuple[Kind, ...] = ("stands", "walks", "film")


@dataclass(frozen=True)
class Crossing:
    """Frames as they come; `alone`: without the one who passes; `empty`: without both; masks at full size.

    `tracks`: 1 stays, 2 passes, with masks as a segmentator writes them.
    """

    name: str
    frames: list[Image]
    alone: list[Image]
    empty: list[Image]
    whole: list[Mask]
    passer: list[Mask]
    tracks: list[tuple[Track, ...]]


@dataclass(frozen=True)
class Places:
    """What crossings are made of."""

    backgrounds: Sequence[Path]
    people: Sequence[Sprite]
    films: Sequence[Sprite]


def read_places(data: Path) -> Places:
    """Backgrounds, people of photographs that are kept for scoring, and people of films."""
    people = [
        cutout_sprite(path)
        for path in pictures_in(data / "cutouts")
        if path.name.startswith("person") and "davis" not in path.name and is_held(source_key(path.stem))
    ]
    for path in pictures_in(data / "perception" / "people" / "images"):
        if path.stem.startswith("fashion") and is_held(source_key(path.stem)):
            mask = cv2.imread(str(data / "perception" / "people" / "masks" / f"{path.stem}.png"), 0)
            if mask is not None:
                people.append(_sprite(path.stem, read_rgb(path), np.asarray(mask, np.uint8)))
    backgrounds = [*sorted((data / "video").glob("*.plate.png")), *pictures_in(data / "stills")[:40]]
    films = [film_sprite(data, name) for name in FILMS]
    return Places(backgrounds, [each for each in people if each.height > 120], films)


def make_crossing(places: Places, seed: int, kind: Kind, frames: int = 60) -> Crossing:
    """One clip; the same seed gives the same clip."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    walks, film = kind != "stands", kind == "film"
    width, height = SIZE
    background = read_rgb(places.backgrounds[int(random.integers(len(places.backgrounds)))])
    place = cover(background, (width + 120, height + 20))
    pan = float(random.choice([-0.8, 0.8])) if random.random() < 0.5 else 0.0
    order = random.permutation(len(places.people))
    stays = places.films[int(random.integers(len(places.films)))] if film else places.people[order[0]]
    passes = places.people[order[1]]
    tall = float(random.uniform(0.45, 0.68)) * height
    foot = float(random.uniform(0.8, 0.92)) * height
    pass_tall, pass_foot = tall * random.uniform(0.95, 1.25), foot + random.uniform(0.0, 0.05) * height
    speed = float(random.uniform(5.5, 9)) * random.choice([-1, 1])
    drift = float(random.uniform(0.8, 1.8)) * random.choice([-1, 1]) if walks else 0.0
    centre = width / 2 - drift * frames / 2
    size = max(cv2.boundingRect(each[..., 3])[3] for each in stays.pictures)
    noise = float(random.uniform(0.8, 2.5))
    phase = float(random.uniform(0, 6))
    made = Crossing(f"{kind}-{seed}", [], [], [], [], [], [])
    for index in range(frames):
        offset = 60 + pan * (index - frames / 2)
        move = np.array([[1, 0, -offset], [0, 1, -10]], np.float64)
        empty = np.asarray(cv2.warpAffine(place, move, SIZE, borderMode=cv2.BORDER_REFLECT), np.float32)
        x = centre + drift * index - pan * (index - frames / 2)
        turn = 0.012 * np.sin(0.21 * index + phase) if not walks else 0.0
        bend = 0.085 * np.sin(0.33 * index + phase) if walks and not film else 0.0
        picture = stays.at(index) if film else bent(stays.pictures[0], bend)
        # A film's pictures are cut to the thing: one scale for all, so that it does not breathe.
        mine, my_alpha = placed(picture, x, foot, tall / size, turn)
        px = width / 2 + speed * (index - frames / 2)
        bob = 2 * abs(np.sin(0.3 * index))
        other = bent(passes.pictures[0], 0.085 * np.sin(0.3 * index))
        its, its_alpha = placed(other, px, pass_foot - bob, pass_tall / passes.height, 0.0)
        grain = random.normal(0, noise, (height, width, 1)).astype(np.float32)
        alone = empty + my_alpha[..., None] * (mine - empty)
        full = alone + its_alpha[..., None] * (its - alone)
        for kept, value in (made.empty, empty), (made.alone, alone), (made.frames, full):
            kept.append(np.clip(value + grain + 0.5, 0, 255).astype(np.uint8))
        whole, passer = my_alpha > 0.5, its_alpha > 0.5
        made.whole.append(whole)
        made.passer.append(passer)
        made.tracks.append(_tracks(whole & ~passer, passer, made.tracks, [seed, index // 4, 7]))
    return made


def bent(picture: NDArray[np.uint8], amount: float) -> NDArray[np.uint8]:
    """A standing person (RGBA) with the legs swung by `amount` of the height, one to and one fro."""
    if amount == 0:
        return picture
    height, width = picture.shape[:2]
    room = int(0.12 * height)
    wide = np.zeros((height, width + 2 * room, 4), np.uint8)
    wide[:, room:-room] = picture
    y, x = np.mgrid[: wide.shape[0], : wide.shape[1]].astype(np.float32)
    low = np.clip((y / height - 0.52) / 0.48, 0, 1)
    # Left half one way, right half the other; at the hip nothing moves.
    side = np.tanh((x - wide.shape[1] / 2) / (0.06 * height))
    at = (x - amount * height * low * side).astype(np.float32)
    return np.asarray(cv2.remap(wide, at, y, cv2.INTER_LINEAR), np.uint8)


def placed(
    picture: NDArray[np.uint8], x: float, foot: float, scale: float, turn: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colours (H, W, 3) and alpha (H, W) of an RGBA picture whose bottom middle is at (x, foot)."""
    height, width = picture.shape[:2]
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    bottom = width / 2, float(height)
    place = np.array(
        [
            [cos, -sin, x - cos * bottom[0] + sin * bottom[1]],
            [sin, cos, foot - sin * bottom[0] - cos * bottom[1]],
        ]
    )
    source = cv2.GaussianBlur(picture, (0, 0), 0.35 / scale) if scale < 0.7 else picture
    # Premultiplied, so that no colour from outside the thing comes in at its edge.
    alpha = source[..., 3:].astype(np.float32) / 255
    parts = np.concatenate([source[..., :3] * alpha, alpha], 2)
    out = np.asarray(cv2.warpAffine(parts, place, SIZE, flags=cv2.INTER_LINEAR), np.float32)
    return out[..., :3] / np.maximum(out[..., 3:], 1e-3), np.clip(out[..., 3], 0, 1)


def film_sprite(data: Path, name: str, frames: int = 60) -> Sprite:
    """The person of a film, all pictures of one size, cut around its middle as that drifts.

    Cut to the person in each frame, whoever stretches an arm would jump aside with the whole body.
    """
    pictures, masks = read_sequence(data, name, frames, (854, 480))
    boxes = np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in masks], np.float64)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    count = 2 * _SMOOTH + 1
    weight = np.exp(-(np.linspace(-2, 2, count) ** 2))

    def smooth(path: NDArray[np.float64]) -> NDArray[np.float64]:
        wide = np.pad(path, ((_SMOOTH, _SMOOTH), (0, 0)), mode="reflect", reflect_type="odd")
        ways = [np.convolve(wide[:, k], weight / weight.sum(), "valid") for k in (0, 1)]
        return np.stack(ways, 1)

    # Where the middle and the feet would be without the haste of single frames.
    anchor = smooth(np.stack([(low[:, 0] + high[:, 0]) / 2, high[:, 1]], 1))
    left, up = (anchor - low).max(0)
    right, down = (high - anchor).max(0)
    across = 2 * int(np.ceil(max(left, right))) + 4
    tall = int(np.ceil(up + max(down, 0))) + 4
    out = []
    for picture, mask, (x, y) in zip(pictures, masks, anchor, strict=True):
        alpha = cv2.GaussianBlur(mask.astype(np.uint8) * np.uint8(255), (3, 3), 0)
        move = np.array([[1, 0, across / 2 - x], [0, 1, up + 2 - y]], np.float64)
        rgba = np.dstack([picture, alpha])
        out.append(np.asarray(cv2.warpAffine(rgba, move, (across, tall), flags=cv2.INTER_LINEAR), np.uint8))
    return Sprite(name, tuple(out))


def _tracks(
    visible: Mask, passer: Mask, before: Sequence[tuple[Track, ...]], seed: list[int]
) -> tuple[Track, ...]:
    random = np.random.default_rng(seed)
    masks = []
    for mask in (visible, passer):
        small = cv2.resize(mask.astype(np.uint8), WORKING, interpolation=cv2.INTER_AREA)
        masks.append(roughened(np.asarray(small, np.uint8), random) > 0 if small.any() else small > 0)
    masks[0] &= ~masks[1]
    found = []
    for number, mask in enumerate(masks, 1):
        missed = np.count_nonzero(mask) < 60
        if missed:  # a track goes on where it was seen last
            last = [each for tracks in before[-1:] for each in tracks if each.id == number]
            if not last or number == 2:
                continue
            mask = last[0].instance.mask
        found.append(track(number, mask, SIZE, missed=missed))
    return tuple(found)


def track(number: int, mask: Mask, size: Size, *, missed: bool = False, label: str = "person") -> Track:
    """A thing with this mask, its box in pixels of a frame of `size`."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    fx, fy = size[0] / mask.shape[1], size[1] / mask.shape[0]
    box = x * fx, y * fy, (x + w) * fx, (y + h) * fy
    return Track(number, label, Instance(label, 0.9, box, mask), 0, 0, 9, missed, float(mask.mean()), 0, 0)


def _sprite(name: str, rgb: Image, mask: NDArray[np.uint8]) -> Sprite:
    alpha = cv2.GaussianBlur((mask > 127).astype(np.uint8) * np.uint8(255), (3, 3), 0)
    x, y, w, h = cv2.boundingRect((alpha > 16).astype(np.uint8))
    return Sprite(name, (np.dstack([rgb, alpha])[y : y + h, x : x + w],))
