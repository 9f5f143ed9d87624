"""Simple ways to fill a scene, against which the fill is judged. Each takes a scene and gives its frames."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.footage import Scene
from configs.schema import Config
from stream import crops, geometry, motion
from stream.crops import Inpaint
from stream.geometry import Homography
from stream.types import Frame, Image


def telea(scene: Scene) -> list[Image]:
    """Telea's method on each frame alone (OpenCV, radius 4)."""
    return [_paint(p, m.astype(np.uint8)) for p, m in zip(scene.input, scene.masks, strict=True)]


def inpainter(scene: Scene, inpaint: Inpaint) -> list[Image]:
    """The trained network on each frame alone, without a reference."""
    return [
        crops.invent(_blank(picture, mask), mask.astype(np.uint8), inpaint)
        for picture, mask in zip(scene.input, scene.masks, strict=True)
    ]


def last_seen(scene: Scene) -> list[Image]:
    """Each pixel as it was last seen at the same place, whatever the camera did; Telea where it never was."""
    memory = np.zeros_like(scene.input[0])
    known = np.zeros(memory.shape[:2], bool)
    out = []
    for picture, mask in zip(scene.input, scene.masks, strict=True):
        memory[~mask] = picture[~mask]
        known |= ~mask
        out.append(_paint(memory, (mask & ~known).astype(np.uint8)))
    return out


def median(scene: Scene) -> list[Image]:
    """The median of each pixel over the whole clip outside masks; Telea where it was never seen."""
    height, width = scene.masks[0].shape
    still = np.zeros((height, width, 3), np.uint8)
    known = np.zeros((height, width), bool)
    for top in range(0, height, 16):  # in strips: a whole clip as float would not fit
        rows = slice(top, top + 16)
        hidden = np.stack([mask[rows] for mask in scene.masks])
        values = np.stack([picture[rows] for picture in scene.input]).astype(np.float32)
        values[hidden] = np.nan
        seen = ~hidden.all(0)
        known[rows] = seen
        still[rows][seen] = np.rint(np.nanmedian(values[:, seen], axis=0)).astype(np.uint8)
    out = []
    for picture, mask in zip(scene.input, scene.masks, strict=True):
        done = np.where(mask[..., None], still, picture)
        out.append(_paint(done, (mask & ~known).astype(np.uint8)))
    return out


def aligned(scene: Scene, chain: list[Homography], window: int | None) -> list[Image]:
    """Each pixel from the frame nearest in time that sees it, through the chained homographies, bilinear.

    `chain`: from the first frame to each (`camera_chain`). `window`: so many frames before and after; None:
    all those before and none after. Telea where no frame sees the pixel. It is hard to beat in deep scenes.
    """
    out = []
    for index, (picture, mask) in enumerate(zip(scene.input, scene.masks, strict=True)):
        done, missing = picture.copy(), mask.astype(np.uint8)
        for other in _by_distance(index, len(scene.input), window):
            if not missing.any():
                break
            _copy(scene, done, missing, other, chain[index] @ geometry.inverse(chain[other]))
        out.append(_paint(done, missing))
    return out


def camera_chain(scene: Scene, frames: Iterable[Frame], config: Config) -> list[Homography]:
    """The maps from the first frame to each: one homography a step, the identity where the camera rests."""
    state, chain, plate = motion.initial(), np.eye(3), config.plate.model_copy(update={"layers": 1})
    out: list[Homography] = []
    for frame, mask in zip(frames, scene.masks, strict=True):
        moved, state = motion.step(state, frame, mask, plate)
        if not moved.cut:
            chain = moved.homographies[0] @ chain
            chain = chain / chain[2, 2]
        out.append(chain)
    return out


def _by_distance(index: int, frames: int, window: int | None) -> list[int]:
    if window is None:
        return list(range(index - 1, -1, -1))
    near = [k for k in range(index - window, index + window + 1) if 0 <= k < frames and k != index]
    return sorted(near, key=lambda k: abs(k - index))


def _copy(scene: Scene, done: Image, missing: NDArray[np.uint8], other: int, to_here: Homography) -> None:
    """Copy what frame `other` sees of the missing pixels; `done` and `missing` are changed."""
    x, y, w, h = cv2.boundingRect(missing)
    place = geometry.shifting(-x, -y) @ to_here
    free = np.where(scene.masks[other], 0, 255).astype(np.uint8)
    seen = cv2.warpPerspective(free, place, (w, h), flags=cv2.INTER_LINEAR) == 255
    take = seen & (missing[y : y + h, x : x + w] > 0)
    if take.any():
        copied = cv2.warpPerspective(scene.input[other], place, (w, h), flags=cv2.INTER_LINEAR)
        done[y : y + h, x : x + w][take] = copied[take]
        missing[y : y + h, x : x + w][take] = 0


def _paint(picture: Image, missing: NDArray[np.uint8]) -> Image:
    if not missing.any():
        return picture.copy()
    return np.asarray(cv2.inpaint(picture, missing, 4, cv2.INPAINT_TELEA), np.uint8)


def _blank(picture: Image, mask: NDArray[np.bool_]) -> Image:
    return np.where(mask[..., None], np.uint8(0), picture)
