"""Drawn shots with known truth for the tests of motion, plate and fill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Config, load_config
from stream import fill, hole, motion, plate
from stream.types import Filled, Frame, Hole, Motion

cv2.setNumThreads(1)


def texture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture with corners at several scales and soft colours, RGB."""
    chance = np.random.default_rng(seed)
    out = np.full((height, width, 3), 120, np.float32)
    for cell, strength in ((48, 60), (16, 40), (6, 25)):
        coarse = chance.uniform(-1, 1, (height // cell + 3, width // cell + 3, 3)).astype(np.float32)
        big = cv2.resize(coarse, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        out += strength * big[:height, :width]
    for _ in range(60):
        x, y = int(chance.integers(0, width)), int(chance.integers(0, height))
        colour = tuple(float(c) for c in chance.integers(40, 220, 3))
        cv2.rectangle(
            out, (x, y), (x + int(chance.integers(4, 22)), y + int(chance.integers(4, 22))), colour, -1
        )
    return np.clip(cv2.GaussianBlur(out, (0, 0), 0.8), 16, 235).astype(np.uint8)


def frame(rgb: NDArray[np.uint8], index: int) -> Frame:
    """A packed RGB frame at 25 frames a second."""
    return Frame(index, index, Fraction(1, 25), (rgb,), "rgb24", rgb.shape[1], rgb.shape[0], duration=1)


@dataclass(frozen=True)
class Shot:
    """What the camera saw, what it would have seen without the walker, and where the walker is."""

    seen: list[NDArray[np.uint8]]
    truth: list[NDArray[np.uint8]]
    masks: list[NDArray[np.bool_]]


def walker_shot(
    frames: int,
    *,
    size: tuple[int, int] = (320, 180),
    pan: float = 0.0,
    noise: float = 0.0,
    gain: float = 0.0,
    speed: float = 6.0,
    width: int = 34,
    seed: int = 3,
) -> Shot:
    """A box with stripes walks from left to right over a texture.

    `pan`: pixels per frame to the right; `noise`: sigma; `gain`: exposure change over the shot, a share.
    """
    w, h = size
    big = texture(w + int(abs(pan) * frames) + 8, h, seed)
    chance = np.random.default_rng(seed + 1)
    shot = Shot([], [], [])
    for t in range(frames):
        shift = np.array([[1, 0, -pan * t], [0, 1, 0]], np.float64)
        clean = cv2.warpAffine(big, shift, (w, h), flags=cv2.INTER_CUBIC).astype(np.float32)
        clean *= 1 + gain * t / max(1, frames - 1)
        if noise:
            clean = clean + chance.normal(0, noise, clean.shape)
        truth = np.clip(clean + 0.5, 0, 255).astype(np.uint8)
        mask = np.zeros((h, w), bool)
        x = int(10 + speed * t)
        mask[h // 4 : h - 12, max(0, x) : max(0, min(w, x + width))] = True
        seen = truth.copy()
        seen[mask] = (200, 40, 40)
        seen[h // 4 : h - 12 : 7][mask[h // 4 : h - 12 : 7]] = (30, 30, 90)
        shot.seen.append(seen)
        shot.truth.append(truth)
        shot.masks.append(mask)
    return shot


def run(
    shot: Shot,
    ahead: int = 0,
    *,
    config: Config | None = None,
    inpaint: fill.Inpaint | None = None,
    holes: list[Hole] | None = None,
) -> Iterator[Filled]:
    """Fill a shot with its masks, observing `ahead` frames before filling."""
    config = config or load_config("tourist")
    state, known = motion.initial(), plate.initial(config.plate, look_ahead=ahead / 25)
    motions: list[Motion] = []
    for index in range(len(shot.seen) + ahead):
        if index < len(shot.seen):
            mask = shot.masks[index]
            picture = frame(shot.seen[index], index)
            moved, state = motion.step(state, picture, mask, config.plate)
            motions.append(moved)
            known = plate.observe(known, picture, moved, np.zeros(mask.shape, np.uint16), mask)
        at = index - ahead
        if 0 <= at < len(shot.seen):
            wanted = holes[at] if holes else hole.from_mask(shot.masks[at])
            filled, known = fill.fill(
                frame(shot.seen[at], at), wanted, known, motions[at], (), inpaint, config
            )
            yield filled


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Over the masked pixels, dB."""
    error = np.square(a.astype(np.float64) - b)[mask].mean()
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))
