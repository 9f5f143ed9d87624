"""What was never seen: invented once, carried along with the camera, faded out as the truth is seen."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import geometry
from stream.arrays import f32, u8
from stream.boxes import Box
from stream.crops import CROP, Inpaint, spread
from stream.plate import Paint
from stream.types import Frame, Image, Mask, Motion

_FADE = 0.2
_ANEW = 0.3
_THIN = 3.0
"""Pixels (at 360 lines) from what is known within which a smooth fill looks like any other."""


def complete(
    frame: Frame,
    patch: Image,
    unseen: NDArray[np.uint8],
    wanted: NDArray[np.uint8],
    box: Box,
    motion: Motion,
    last: Paint | None,
    inpaint: Inpaint | None,
    flat: bool,
    how: Callable[[Image, NDArray[np.uint8], Inpaint | None, float], Image],
) -> tuple[Image, Paint | None]:
    """Invent the `unseen` pixels of a box (all arrays of the box's size) and return what to carry on.

    The last frame's paint is moved with the camera and brought to the brightness of what is known around
    it; only what it does not cover is invented, so it does not boil. In a scene that is not `flat` paint goes
    astray within a few frames: there it should have no texture, which would swim, and is mixed with fresh
    paint. `how`: what invents, with texture or without (`stream.crops`). Where seen content replaces paint
    the change takes five frames.
    """
    carried, strength, covered = _carry(last, frame, motion, box)
    fading = (strength > _FADE + 0.01) & (wanted > 0) & (unseen == 0)
    if not unseen.any():
        if not fading.any():
            return patch, None
        weight = np.where(fading, strength - np.float32(_FADE), np.float32(0))
        out = _mix(patch, carried, weight)
        return out, Paint(frame.index, box, out, weight)
    kept = (unseen > 0) & (strength > 0.5)
    out = patch
    if kept.any():
        fitted = _fit(carried, patch, (unseen == 0) & covered)
        out = np.where(kept[..., None], fitted, patch)
    fresh = np.where(kept, np.uint8(0), unseen)
    if fresh.any():
        out = _invent(frame, out, fresh, box, inpaint, how)
    if not flat and kept.any():
        anew = _invent(frame, patch, unseen, box, None, how)
        out = _mix(out, anew, np.where(kept, np.float32(_ANEW), np.float32(0)))
    weight = np.where(fading, strength - np.float32(_FADE), np.float32(0))
    if fading.any():
        out = _mix(out, carried, weight)
    weight = np.where(unseen > 0, np.float32(1), weight)
    return out, Paint(frame.index, box, out, weight)


def _carry(
    last: Paint | None, frame: Frame, motion: Motion, box: Box
) -> tuple[Image, NDArray[np.float32], Mask]:
    """The last frame's box, its paint's weight, and where it reaches, moved into this frame's box."""
    x0, y0, x1, y1 = box
    size = (x1 - x0, y1 - y0)
    if last is None or last.index != frame.index - 1 or motion.cut:
        nothing = np.zeros((size[1], size[0]), np.float32)
        return np.zeros((size[1], size[0], 3), np.uint8), nothing, nothing > 0
    move = np.eye(3) if motion.static else motion.homographies[0]
    into = geometry.shifting(-x0, -y0) @ move @ geometry.shifting(last.box[0], last.box[1])
    # Resampled in every frame, so only a sharp filter keeps the texture.
    rgb = cv2.warpPerspective(last.rgb, into, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpPerspective(last.weight, into, size, flags=cv2.INTER_LINEAR)
    reach = cv2.warpPerspective(np.ones(last.weight.shape, np.uint8), into, size, flags=cv2.INTER_NEAREST)
    return u8(rgb), f32(weight), u8(reach) > 0


def _fit(carried: Image, patch: Image, known: Mask) -> Image:
    """Carried paint, halfway brought to the exposure of what is known around it."""
    height, width = known.shape
    size = max(1, width // 8), max(1, height // 8)
    share = f32(cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA))

    def around(picture: Image) -> NDArray[np.float32]:
        blank = np.where(known[..., None], picture, np.uint8(0)).astype(np.float32)
        total = f32(cv2.resize(blank, size, interpolation=cv2.INTER_AREA)).reshape(*share.shape, 3)
        return spread(total, share) + np.float32(16)  # in the dark a ratio says little

    gain = np.clip(around(patch) / around(carried), 0.92, 1.08)
    gain = f32(cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)) / 2 + np.float32(0.5)
    return u8(np.clip(carried * gain + np.float32(0.5), 0, 255).astype(np.uint8))


def _invent(
    frame: Frame,
    patch: Image,
    unseen: NDArray[np.uint8],
    box: Box,
    inpaint: Inpaint | None,
    how: Callable[[Image, NDArray[np.uint8], Inpaint | None, float], Image],
) -> Image:
    """Invent the unseen pixels from the frame with what is known of the hole laid in."""
    x0, y0, x1, y1 = box
    margin = CROP
    left, top = max(0, x0 - margin), max(0, y0 - margin)
    right, bottom = min(frame.width, x1 + margin), min(frame.height, y1 + margin)
    around = frame.rgb[top:bottom, left:right].copy()
    around[y0 - top : y1 - top, x0 - left : x1 - left] = patch
    pad = y0 - top, bottom - y1, x0 - left, right - x1
    missing = u8(cv2.copyMakeBorder(unseen, *pad, cv2.BORDER_CONSTANT, value=0))
    return how(around, missing, inpaint, _THIN * frame.height / 360)[
        y0 - top : y1 - top, x0 - left : x1 - left
    ]


def _mix(base: Image, other: Image, weight: NDArray[np.float32]) -> Image:
    mixed = base + weight[..., None] * (other.astype(np.float32) - base)
    return u8(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))
