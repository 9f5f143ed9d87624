"""A track in a frame: what is seen of it and what hides it, and its views from when it was whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from stream.arrays import Bytes, u8
from stream.boxes import Box
from stream.hole import bounds, enlarge
from stream.types import Image, Track
from stream.views import Look, View

_BYTES = 24 << 20
_FEWEST, _MOST = 6, 48
_SMALLEST = 150


def look_at(
    rgb: Image, track: Track, hiding: Sequence[Track], reach: float, known: Sequence[View]
) -> Look | None:
    """What is seen of a thing and what hides it, in a box for the whole thing; None: nothing is near."""
    shape = rgb.shape[0], rgb.shape[1]
    own = bounds(track.instance.mask)
    if own is None:
        return None
    fx, fy = shape[1] / track.instance.mask.shape[1], shape[0] / track.instance.mask.shape[0]
    x0, y0, x1, y1 = own[0] * fx, own[1] * fy, own[2] * fx, own[3] * fy
    # As far around as it was large when it was whole, or as the network looks.
    far_x = far_y = 0.0
    for view in known[-1:]:
        far_x, far_y = view.box[2] - view.box[0] - (x1 - x0), view.box[3] - view.box[1] - (y1 - y0)
    if not known:
        far_x = far_y = max(x1 - x0, y1 - y0)
    margin = 8 + int(0.05 * (y1 - y0))
    box = (
        max(0, int(x0 - max(0.0, far_x)) - margin),
        max(0, int(y0 - max(0.0, far_y)) - margin),
        min(shape[1], int(x1 + max(0.0, far_x)) + margin),
        min(shape[0], int(y1 + max(0.0, far_y)) + margin),
    )
    look = look_behind(rgb, box, hiding, reach)
    if look is None:
        return None
    mine = enlarge(track.instance.mask, shape, box) & (1 - look.bare)
    if track.missed:
        # Its mask is a guess: only what shows beside the one in front can be it.
        mine &= 1 - look.front
    return replace(look, visible=mine, front=look.front & (1 - mine))


def look_behind(rgb: Image, box: Box, hiding: Sequence[Track], reach: float) -> Look | None:
    """What hides things in a box of the frame, nothing of which is known to be seen; None: nothing does."""
    shape = rgb.shape[0], rgb.shape[1]
    box = max(0, box[0]), max(0, box[1]), min(shape[1], box[2]), min(shape[0], box[3])
    if box[0] >= box[2] or box[1] >= box[3]:
        return None
    bare = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    for each in hiding:
        bare |= enlarge(each.instance.mask, shape, box)
    if not bare.any():
        return None
    grow = max(1, round(reach * shape[0]))
    round_ = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1,) * 2)
    front = u8(cv2.dilate(bare, round_))
    return Look(box, rgb[box[1] : box[3], box[0] : box[2]], np.zeros_like(bare), front, bare)


def covered(box: Box, mask: Bytes, tracks: Sequence[Track], shape: tuple[int, ...]) -> float:
    """Share of a mask, which lies in a box of the frame, that the masks of these tracks cover."""
    taken = np.zeros_like(mask)
    for each in tracks:
        taken |= enlarge(each.instance.mask, (shape[0], shape[1]), box)
    return cv2.countNonZero(taken & mask) / max(1, cv2.countNonZero(mask))


def view_of(rgb: Image, index: int, track: Track, least: int = _SMALLEST) -> View | None:
    """The thing's pixels now; None when it is too small to be worth it."""
    shape = rgb.shape[0], rgb.shape[1]
    own = bounds(track.instance.mask)
    if own is None:
        return None
    fx, fy = shape[1] / track.instance.mask.shape[1], shape[0] / track.instance.mask.shape[0]
    box = (
        max(0, int(own[0] * fx) - 3),
        max(0, int(own[1] * fy) - 3),
        min(shape[1], int(np.ceil(own[2] * fx)) + 3),
        min(shape[0], int(np.ceil(own[3] * fy)) + 3),
    )
    mask = enlarge(track.instance.mask, shape, box)
    if np.count_nonzero(mask) < least:
        return None
    return View(index, box, rgb[box[1] : box[3], box[0] : box[2]].copy(), mask)


def thinned(kept: tuple[View, ...]) -> tuple[View, ...]:
    """At most as many views as fit the memory for one thing, denser the later they are."""
    most = int(np.clip(_BYTES // max(1, kept[-1].rgb.nbytes + kept[-1].mask.nbytes), _FEWEST, _MOST))
    out = list(kept)
    while len(out) > most:
        newest = out[-1].index
        gaps = [
            (out[k + 1].index - out[k - 1].index) / (newest - out[k].index + 60)
            for k in range(1, len(out) - 1)
        ]
        del out[1 + int(np.argmin(gaps))]
    return tuple(out)
