"""What the frames just before and after show of a part of a thing that is hidden now.

Who dances or jumps was never seen whole in the pose of now. But whoever hides them passes by: most of what is
hidden now showed a frame or two ago, or will show soon, in nearly the same pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import looks
from stream.arrays import Bytes, Float, u8
from stream.boxes import Box
from stream.types import Image, Track
from stream.views import Look, View

NEAR = 4
"""Frames before and after that are asked."""

_FADES = 1.0
_BYTES = 24 << 20
_RIM = 0.008


@dataclass(frozen=True)
class Glimpse:
    """A thing in frame `index` while something is before it, in a box of the frame.

    `rgb` uint8 (h, w, 3); `mask` and `front` uint8 (h, w) 0 or 1: its visible part, and what may hide more.
    """

    index: int
    box: Box
    rgb: Image
    mask: Bytes
    front: Bytes


@dataclass(frozen=True)
class Nearby:
    """What was seen near in time, in a look's box.

    `weight` float32 (h, w): how much is known of a pixel, 0 = nothing; `mask` float32 (h, w): the part of
    the weight that says that it is the thing; `rgb` uint8 (h, w, 3): its colours, where `seen` is 1.
    """

    weight: Float
    mask: Float
    rgb: Image
    seen: Bytes


def glimpse_of(
    rgb: Image, index: int, track: Track, hiding: Sequence[Track], known: Sequence[View], reach: float
) -> Glimpse | None:
    """What shows of a thing now; None when nothing is near it."""
    look = looks.look_at(rgb, track, hiding, reach, known)
    if look is None or not look.visible.any():
        return None
    return Glimpse(index, look.box, look.rgb.copy(), look.visible, look.front)


def kept(glimpses: tuple[Glimpse, ...], more: Glimpse) -> tuple[Glimpse, ...]:
    """With one more, as long as there is room: the first ones are the first to be needed."""
    full = (len(glimpses) + 1) * (more.rgb.nbytes + 2 * more.mask.nbytes) > _BYTES
    return glimpses if full else (*glimpses, more)


def recent(glimpses: tuple[Glimpse, ...], index: int) -> tuple[Glimpse, ...]:
    """Without those that no later frame will ask."""
    return tuple(each for each in glimpses if each.index >= index - NEAR)


def pace(views: Sequence[View], index: int) -> NDArray[np.float64]:
    """How a thing moves, (2,) pixels a frame, from where its whole views before and after lie."""
    before = [view for view in views if view.index <= index]
    after = [view for view in views if view.index > index]
    if before and after:
        pair = before[-1], after[0]
    elif len(before or after) > 1:
        some = before[-3:] or after[:3]
        pair = some[0], some[-1]
    else:
        return np.zeros(2)
    return np.asarray((_middle(pair[1]) - _middle(pair[0])) / (pair[1].index - pair[0].index), np.float64)


def gather(
    look: Look,
    index: int,
    glimpses: Sequence[Glimpse],
    views: Sequence[View],
    step: NDArray[np.float64],
) -> Nearby | None:
    """What glimpses and whole views near in time show, moved by `step` a frame; None where there are none."""
    whole = [Glimpse(view.index, view.box, view.rgb, view.mask, np.zeros_like(view.mask)) for view in views]
    near = [each for each in (*whole, *glimpses) if 0 < abs(each.index - index) <= NEAR]
    if not near:
        return None
    shape = look.visible.shape
    weight, mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    rgb, seen = look.rgb.copy(), np.zeros(shape, np.uint8)
    # The rim of a mask has colours of what is beside the thing: strips would show their seams.
    rim = np.ones((2 * round(_RIM * shape[0]) + 1,) * 2, np.uint8)
    # The nearest last, so that its colours stay.
    for each in sorted(near, key=lambda each: -abs(each.index - index)):
        mine, its = _parts(look, each, (index - each.index) * step)
        share = np.float32(np.exp(-abs(each.index - index) / _FADES))
        if each.front.any():
            weight[mine] += share * (1 - each.front[its])
        else:
            weight += share  # beside a whole view there is nothing of it
        mask[mine] += share * each.mask[its]
        inner = u8(cv2.erode(each.mask, rim))[its]
        cv2.copyTo(each.rgb[its], inner, rgb[mine])
        seen[mine] |= inner
    return Nearby(weight, mask, rgb, seen)


def _parts(
    look: Look, glimpse: Glimpse, move: NDArray[np.float64]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """What a look and a moved glimpse share, as rows and columns of each."""
    dx, dy = (round(float(glimpse.box[k] - look.box[k] + move[k])) for k in (0, 1))
    height, width = look.visible.shape
    h, w = glimpse.mask.shape
    y0, x0 = min(max(0, dy), height), min(max(0, dx), width)
    y1, x1 = max(y0, min(height, dy + h)), max(x0, min(width, dx + w))
    y0, x0 = min(y0, y1), min(x0, x1)
    if y1 == y0 or x1 == x0:
        return (slice(0, 0), slice(0, 0)), (slice(0, 0), slice(0, 0))
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - dy, y1 - dy), slice(x0 - dx, x1 - dx))


def _middle(view: View) -> NDArray[np.float64]:
    """Where the mean of a view's pixels lies in the frame."""
    sums = cv2.moments(view.mask, binaryImage=True)
    area = max(1.0, sums["m00"])
    return np.array([view.box[0] + sums["m10"] / area, view.box[1] + sums["m01"] / area])
