"""How a drawn scene is seen: cameras in someone's hands, smooth paths, stills as flat scenery.

Stills are at twice the frame's scale with the origin in their centre, so that a frame is averaged over each
pixel's area as a sensor would.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.footage import Size
from benchmarks.sprites import Plane

Camera = NDArray[np.float64]
"""3 x 3, from a still to the frame, both in pixels of the frame with the origin in their centres."""


def wander(
    random: np.random.Generator, frames: int, peak: float, low: float = 0.02, high: float = 0.1
) -> NDArray[np.float64]:
    """A smooth random path of the given peak, made of waves of `low` to `high` cycles a frame."""
    time = np.arange(frames)
    path = np.zeros(frames)
    for _ in range(4):
        strength, pace, phase = (
            random.uniform(0.4, 1),
            random.uniform(low, high),
            random.uniform(0, 2 * np.pi),
        )
        path += strength * np.sin(2 * np.pi * pace * time + phase)
    return peak * path / max(1e-6, float(np.abs(path).max()))


def hold(
    random: np.random.Generator, frames: int, size: Size, shake: float, pan: float = 0.0
) -> list[Camera]:
    """A camera in someone's hands: it shifts by `shake` pixels, turns, zooms and tilts a little.

    `pan`: how far it turns over the clip, in widths of the frame.
    """
    right = wander(random, frames, shake) + pan * size[0] * np.linspace(-0.5, 0.5, frames)
    down, turn = wander(random, frames, 0.8 * shake), np.radians(wander(random, frames, 0.7))
    zoom = 1 + wander(random, frames, 0.012)
    tilt = 1.2e-5 * 640 / size[0]
    over_x, over_y = wander(random, frames, tilt), wander(random, frames, tilt)
    c, s = zoom * np.cos(turn), zoom * np.sin(turn)
    return [
        np.array([[c[i], -s[i], right[i]], [s[i], c[i], down[i]], [over_x[i], over_y[i], 1]])
        for i in range(frames)
    ]


def shoot(picture: Plane, camera: Camera, size: Size) -> Plane:
    """A picture at twice the frame's scale, centred, through the camera; averaged over each pixel's area."""
    width, height = size
    to_frame = np.array([[0.5, 0, -picture.shape[1] / 4], [0, 0.5, -picture.shape[0] / 4], [0, 0, 1]])
    doubled = np.array([[2, 0, width], [0, 2, height], [0, 0, 1.0]])
    large = cv2.warpPerspective(
        picture,
        doubled @ camera @ to_frame,
        (2 * width, 2 * height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_AREA), np.float32)


def ridge(random: np.random.Generator, height: int, width: int, size: Size) -> Plane:
    """Alpha of the near layer: all below a ridge, and two posts."""
    line = height * (0.5 + 0.26 * random.uniform(0.3, 0.6))
    # the waves are as long at every size
    steps = np.linspace(0, 1, width) * 2400
    top = np.interp(steps, np.arange(2400), wander(random, 2400, 0.05 * height, 0.0005, 0.004)) + line
    alpha = (np.arange(height)[:, None] > top[None]).astype(np.float32)
    for _ in range(2):
        post, wide = random.uniform(0.2, 0.8), random.uniform(0.035, 0.06)
        alpha[:, int(post * width) : int(post * width) + int(2 * wide * size[0])] = 1
    return np.asarray(cv2.GaussianBlur(alpha, (5, 5), 0), np.float32)


def joined(pictures: list[Plane]) -> Plane:
    """Pictures side by side, each fading into the next over a tenth of its width."""
    out = pictures[0]
    for picture in pictures[1:]:
        fade = picture.shape[1] // 10
        ramp = np.linspace(0, 1, fade, dtype=np.float32)[None, :, None]
        seam = out[:, -fade:] * (1 - ramp) + picture[:, :fade] * ramp
        out = np.concatenate([out[:, :-fade], seam, picture[:, fade:]], axis=1)
    return out


def ease(frames: int) -> NDArray[np.float64]:
    """From 0 to 1, slow at both ends."""
    time = np.linspace(0, 1, frames)
    return time * time * (3 - 2 * time)


def through(camera: Camera, place: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, w = camera @ np.array([*place, 1.0])
    return np.array([x / w, y / w])


def doubled(size: Size, margin: float) -> Size:
    return int(2 * size[0] * margin), int(2 * size[1] * margin)


def listed(cameras: list[Camera]) -> list[list[list[float]]]:
    return [np.round(camera, 7).tolist() for camera in cameras]
