"""A thing that is hidden in part, made whole: as it was found, and as it is handed on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stream import looks
from stream.arrays import Bytes, u8
from stream.boxes import Box
from stream.hole import bounds
from stream.types import SEEN, Image, Mask, Track
from stream.views import Look

_LEAST_HIDDEN = 12


@dataclass(frozen=True)
class Completed:
    """A thing that is hidden in part, whole again, inside `box` (x0, y0, x1, y1) of the frame.

    `amodal` bool (h, w): all of it; `rgb` uint8 (h, w, 3); `alpha` uint8 (h, w), soft at the edge; `origin`
    uint8 (h, w): 0 = not the thing, SEEN in this frame, REFERENCE = the thing's own other frames, INVENTED.
    `hidden`: share of it that is hidden; `confidence` in [0, 1]: below `ENOUGH` the background is the better
    fill; `by`: the tracks that hide it. `foreign` bool (h, w): pixels that the thing's mask had and that look
    like what is in front of it: they are not its own, and belong to the hole.
    """

    track: int
    box: Box
    amodal: Mask
    rgb: Image
    alpha: Bytes
    origin: Bytes
    hidden: float
    confidence: float
    by: tuple[int, ...]
    foreign: Mask


@dataclass(frozen=True)
class Found:
    """The whole thing's mask, its colours and where they are from, in a look's box, and the confidence."""

    look: Look
    whole: Bytes
    rgb: Image
    origin: Bytes
    confidence: float
    foreign: Bytes


def visible(rgb: Image, track: Track) -> Completed | None:
    """A thing that nothing hides, as it is seen; None when its mask is empty."""
    view = looks.view_of(rgb, 0, track, least=1)
    if view is None:
        return None
    origin, none = view.mask * np.uint8(SEEN), np.zeros(view.mask.shape, bool)
    return Completed(
        track.id, view.box, view.mask > 0, view.rgb, _soft(view.mask), origin, 0.0, 1.0, (), none
    )


def assemble(number: int, found: Found, by: tuple[int, ...]) -> Completed | None:
    """The completed thing, its visible pixels as they are; None where next to nothing of it is hidden."""
    look, whole = found.look, found.whole
    hidden = whole & (1 - look.visible)
    if cv2.countNonZero(hidden) < _LEAST_HIDDEN:
        return None
    box = bounds((whole | found.foreign) > 0)
    assert box is not None
    x0, y0, x1, y1 = max(0, box[0] - 2), max(0, box[1] - 2), box[2] + 2, box[3] + 2
    part = np.s_[y0:y1, x0:x1]
    seen = look.visible[part] > 0
    rgb = np.where(seen[..., None], look.rgb[part], found.rgb[part]).astype(np.uint8)
    height, width = seen.shape
    left, top = look.box[0] + x0, look.box[1] + y0
    return Completed(
        number,
        (left, top, left + width, top + height),
        whole[part] > 0,
        rgb,
        _soft(whole[part]),
        np.where(seen, SEEN, found.origin[part]).astype(np.uint8),
        cv2.countNonZero(hidden) / max(1, cv2.countNonZero(whole)),
        found.confidence,
        by,
        found.foreign[part] > 0,
    )


def _soft(mask: Bytes) -> Bytes:
    """Alpha of a mask, soft at its edge and zero from one pixel beyond it."""
    alpha = u8(cv2.GaussianBlur(mask * np.uint8(255), (3, 3), 0))
    return np.where(cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0, alpha, 0).astype(np.uint8)
