"""What was never seen: invented once, carried along with the camera, faded out as the truth is seen."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import crops, geometry
from stream.arrays import Bytes, f32, u8
from stream.boxes import Box, disjoint, pieces
from stream.crops import CROP, Inpaint, spread
from stream.plate import Paint
from stream.types import Frame, Image, Mask, Motion

_FADE = 0.2
_ANEW = 0.3
_WAITING = 0.4
"""Weight of paint that is not to be carried on, but counts as paint."""

_RIM = 16
"""Pixels around a piece that a smooth fill is made from."""

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
    most: int | None = None,
) -> tuple[Image, Paint | None]:
    """Invent the `unseen` pixels of a box (all arrays of the box's size) and return what to carry on.

    The last frame's paint is moved with the camera and brought to the brightness of what is known around
    it; only what it does not cover is invented, so it does not boil. In a scene that is not `flat` paint goes
    astray within a few frames: there it should have no texture, which would swim, and is mixed with fresh
    paint. `how`: what invents, with texture or without (`stream.crops`). Where seen content replaces paint
    the change takes five frames. `most`: pieces that are invented in one frame, the largest first; others are
    filled smoothly until their turn comes in the next ones.
    """
    move = _move(last, frame, motion)
    regions = _regions(last, unseen, move, box, max(16, round(24 * frame.height / 360)))
    if not regions:
        return patch, None
    out, fresh = patch.copy(), unseen.copy()
    weights = np.zeros(unseen.shape, np.float32)
    done: list[Box] = []
    for x0, y0, x1, y1 in regions:
        region = slice(y0, y1), slice(x0, x1)
        where = box[0] + x0, box[1] + y0, box[0] + x1, box[1] + y1
        missing, part = unseen[region], out[region]
        carried, strength, covered = _carry(last, move, where)
        weight = weights[region]
        falls = (strength > _FADE + 0.01) & (wanted[region] > 0)
        weight[:] = np.where(falls, strength - np.float32(_FADE), np.float32(0))
        fading = u8((weight > 0).view(np.uint8) & (1 - missing))
        kept = u8((strength > 0.5).view(np.uint8) & missing)
        if cv2.countNonZero(kept):
            cv2.copyTo(_fit(carried, part, (missing == 0) & covered), kept, part)
            fresh[region] &= 1 - kept
            if not flat:
                anew = _smoothed(frame, patch, unseen, box, (x0, y0, x1, y1))
                part[:] = _mix(part, anew, kept * np.float32(_ANEW))
        if cv2.countNonZero(fading):
            part[:] = _mix(part, carried, weight * fading)
        weight[missing > 0] = 1
        x, y, w, h = cv2.boundingRect(u8((weight > 0).view(np.uint8)))
        if w:
            done.append((where[0] + x, where[1] + y, where[0] + x + w, where[1] + y + h))
    if fresh.any():
        out, waiting = _invent(frame, out, fresh, box, inpaint, how, most)
        weights[waiting > 0] = _WAITING
    return out, Paint(frame.index, box, out, weights, tuple(done)) if done else None


def _move(last: Paint | None, frame: Frame, motion: Motion) -> geometry.Homography | None:
    """The map from the last frame's pixels to this one's; None where nothing can be carried."""
    if last is None or last.index != frame.index - 1 or motion.cut:
        return None
    return np.eye(3) if motion.static else motion.homographies[0]


def _regions(
    last: Paint | None, unseen: Bytes, move: geometry.Homography | None, box: Box, margin: int
) -> list[Box]:
    """Where in a box anything was painted or is to be, with a margin that is known."""
    found = pieces(unseen, margin)
    if last is not None and move is not None:
        for x0, y0, x1, y1 in last.parts:
            corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32) - np.float32(0.5)
            at = geometry.apply(move, corners) - np.array(box[:2], np.float32)
            (left, top), (right, bottom) = np.floor(at.min(0)) - 1, np.ceil(at.max(0)) + 2
            if np.isfinite(at).all() and right > 0 and bottom > 0:
                found.append((int(left), int(top), int(right), int(bottom)))
    height, width = unseen.shape
    grown = [
        (max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin))
        for x0, y0, x1, y1 in found
    ]
    return disjoint([b for b in grown if b[0] < b[2] and b[1] < b[3]])


def _carry(
    last: Paint | None, move: geometry.Homography | None, box: Box
) -> tuple[Image, NDArray[np.float32], Mask]:
    """What was in a box of the frame before, moved: colours, the paint's weight, and where it reaches."""
    size = box[2] - box[0], box[3] - box[1]
    if last is None or move is None:
        nothing = np.zeros((size[1], size[0]), np.float32)
        return np.zeros((size[1], size[0], 3), np.uint8), nothing, nothing > 0
    into = geometry.shifting(-box[0], -box[1]) @ move @ geometry.shifting(last.box[0], last.box[1])
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
    unseen: Bytes,
    box: Box,
    inpaint: Inpaint | None,
    how: Callable[[Image, Bytes, Inpaint | None, float], Image],
    most: int | None,
) -> tuple[Image, Bytes]:
    """Invent the unseen pixels from the frame with what is known of the hole laid in.

    The second value is 1 where another frame is to do better.
    """
    thin = _THIN * frame.height / 360
    rest, waiting = unseen.copy(), np.zeros_like(unseen)
    out = patch.copy()
    thick = 0
    for piece in pieces(unseen, _RIM):
        x0, y0, x1, y1 = piece
        part = unseen[y0:y1, x0:x1]
        slight = crops.thickness(unseen, piece) <= thin
        thick += not slight
        if slight or (most is not None and thick > most):
            # Of slivers nobody wants to know what is far around them.
            cv2.copyTo(_smoothed(frame, patch, unseen, box, piece), part, out[y0:y1, x0:x1])
            rest[y0:y1, x0:x1] = 0
            if not slight:
                waiting[y0:y1, x0:x1] = part
    if not rest.any():
        return out, waiting
    around, missing, (left, top) = _around(frame, out, rest, box, _bounds(rest), CROP)
    x0, y0, x1, y1 = _bounds(rest)
    done = how(around, missing, inpaint, thin)[y0 - top : y1 - top, x0 - left : x1 - left]
    cv2.copyTo(done, rest[y0:y1, x0:x1], out[y0:y1, x0:x1])
    return out, waiting


def _smoothed(frame: Frame, patch: Image, unseen: Bytes, box: Box, piece: Box) -> Image:
    """A piece of a box with what is unseen in it filled smoothly."""
    around, missing, (left, top) = _around(frame, patch, unseen, box, piece, _RIM)
    x0, y0, x1, y1 = piece
    return crops.sketch(around, missing, None)[y0 - top : y1 - top, x0 - left : x1 - left]


def _around(
    frame: Frame, patch: Image, unseen: Bytes, box: Box, piece: Box, margin: int
) -> tuple[Image, Bytes, tuple[int, int]]:
    """The frame around a piece of a box, with the box laid in; what of it is unseen; its corner."""
    x0, y0, x1, y1 = box
    left, top = max(-x0, piece[0] - margin), max(-y0, piece[1] - margin)
    right, bottom = min(frame.width - x0, piece[2] + margin), min(frame.height - y0, piece[3] + margin)
    around = frame.rgb[y0 + top : y0 + bottom, x0 + left : x0 + right].copy()
    missing = np.zeros(around.shape[:2], np.uint8)
    inner = slice(max(0, top), min(bottom, y1 - y0)), slice(max(0, left), min(right, x1 - x0))
    into = (
        slice(inner[0].start - top, inner[0].stop - top),
        slice(inner[1].start - left, inner[1].stop - left),
    )
    around[into], missing[into] = patch[inner], unseen[inner]
    return around, missing, (left, top)


def _bounds(mask: Bytes) -> Box:
    x, y, w, h = cv2.boundingRect(mask)
    return x, y, x + w, y + h


def _mix(base: Image, other: Image, weight: NDArray[np.float32]) -> Image:
    mixed = base + weight[..., None] * (other.astype(np.float32) - base)
    return u8(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))
