"""Photographs filmed by a camera that shakes, pans or is knocked, with a walker, noise, light and shadows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from shots import Shot

W, H = 320, 180
Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Film(Shot):
    """A shot with the walker's shadow, where it takes any light at all; `moves`: true shift in each frame."""

    shadow: list[NDArray[np.bool_]] = field(default_factory=list)
    moves: list[NDArray[np.float64]] = field(default_factory=list)


def photograph(name: str = "coffee") -> Picture:
    """A photograph of scikit-image with 40 or more pixels to spare around a frame, float32 RGB."""
    import skimage.data

    picture = getattr(skimage.data, name)().astype(np.float32)
    scale = max((W + 160) / picture.shape[1], (H + 90) / picture.shape[0])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # As sharp as a lens makes it, so that shifts by parts of a pixel are well defined.
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.8), 12, 238)


def soft_ground(seed: int = 1) -> Picture:
    """Soft colours without edges: what is fine in it is noise."""
    chance = np.random.default_rng(seed)
    coarse = chance.uniform(70, 190, (12, 20, 3)).astype(np.float32)
    blobs = cv2.resize(coarse, (W + 160, H + 90), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):  # a few soft dots, so that the camera's motion can be measured
        x, y = int(chance.integers(0, W + 160)), int(chance.integers(0, H + 90))
        cv2.circle(
            blobs, (x, y), int(chance.integers(4, 9)), tuple(map(float, chance.uniform(60, 200, 3))), -1
        )
    return np.clip(cv2.GaussianBlur(blobs, (0, 0), 2.0), 20, 230)


def resting(frames: int) -> NDArray[np.float64]:
    """Shift and turn (x, y in pixels, degrees) of a camera on a tripod."""
    return np.zeros((frames, 3))


def panning(frames: int, speed: float) -> NDArray[np.float64]:
    """A pan of `speed` pixels a frame about the middle."""
    return np.stack([speed * (np.arange(frames) - frames / 2), *np.zeros((2, frames))], 1)


def handheld(frames: int, peak: float = 4.0, seed: int = 5) -> NDArray[np.float64]:
    """The slow sway of a camera held in the hand."""
    chance = np.random.default_rng(seed)
    time = np.arange(frames)
    sway = np.zeros((frames, 3))
    for column, size in enumerate((peak, 0.8 * peak, 0.5)):
        for _ in range(3):
            pace, phase = chance.uniform(0.02, 0.08), chance.uniform(0, 6.28)
            sway[:, column] += size / 2 * np.sin(2 * np.pi * pace * time + phase)
    return sway


def shaken(frames: int, peak: float = 5.0, seed: int = 6) -> NDArray[np.float64]:
    """A new place in every frame, up to `peak` pixels and a third of a degree off."""
    return np.random.default_rng(seed).uniform(-1, 1, (frames, 3)) * (peak, peak, 0.35)


def film(
    still: Picture,
    moves: NDArray[np.float64],
    *,
    noise: float = 0.0,
    held: bool = False,
    light: Sequence[Sequence[float]] | None = None,
    speed: float = 6.0,
    width: int = 34,
    start: float = -20.0,
    shadow: float = 0.0,
    stays: bool = False,
    seed: int = 2,
) -> Film:
    """Film a still with a striped box walking over it; the masks are the box grown by two pixels.

    `noise`: sigma; `held`: noise changes slowly, as in compressed video. `light`: gain of R, G and B a frame.
    `speed`, `width`, `start`: of the walker, pixels. `shadow`: the share of light that its soft shadow takes.
    `stays`: the box belongs to the scene and moves with it.
    """
    chance = np.random.default_rng(seed)
    out = Film([], [], [])
    grain = chance.normal(0, noise, (H, W, 3))
    for t, (right, down, turn) in enumerate(moves):
        view = cv2.getRotationMatrix2D((still.shape[1] / 2, still.shape[0] / 2), float(turn), 1.0)
        view[:, 2] += (W - still.shape[1]) / 2 - right, (H - still.shape[0]) / 2 - down
        clean = cv2.warpAffine(still, view, (W, H), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        if light is not None:
            clean = clean * np.asarray(light[t], np.float32)
        fresh = chance.normal(0, noise, (H, W, 3))
        grain = 0.98 * grain + 0.2 * fresh if held else fresh
        x = round(start + speed * t - (right if stays else 0))
        body, dim = np.zeros((H, W), bool), np.ones((H, W), np.float32)
        body[H // 4 : H - 24, max(0, x) : max(0, min(W, x + width))] = True
        mask = cv2.dilate(body.astype(np.uint8), np.ones((5, 5))) > 0
        if shadow:
            cast = np.zeros((H, W), np.float32)
            cast[H - 34 : H - 12, max(0, x + 8) : max(0, min(W, x + width + 40))] = 1
            dim = 1 - shadow * cv2.GaussianBlur(cast, (0, 0), 4)
        seen = clean * dim[..., None]
        seen[body] = (200, 40, 40)
        seen[H // 4 : H - 24 : 7][body[H // 4 : H - 24 : 7]] = (30, 30, 90)
        true = np.clip(clean + grain + 0.5, 0, 255).astype(np.uint8)
        touched = mask | (dim < 1)
        out.truth.append(true)
        out.seen.append(
            np.where(touched[..., None], np.clip(seen + grain + 0.5, 0, 255), true).astype(np.uint8)
        )
        out.masks.append(mask)
        out.shadow.append((dim < 1) & ~mask)
        out.moves.append(view)
    return out


def core(mask: NDArray[np.bool_], by: int = 3) -> NDArray[np.bool_]:
    """The mask without its soft edge."""
    return cv2.erode(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1)), borderValue=1) > 0


def noise_level(picture: NDArray[np.uint8], place: NDArray[np.bool_]) -> float:
    """Noise of the grey picture at a place, blind to slopes and straight edges."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    grey = cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY)
    return float(np.median(np.abs(cv2.filter2D(grey, -1, mask)[place])) / 0.6745)
