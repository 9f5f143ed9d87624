"""Which pixels of a frame belong to the near layer, where two homographies explain the motion.

Each pixel is compared with frames shortly before, brought over by either homography; what speaks for one of
them is carried along with the layer it speaks for and adds up. Layers in the sense of Wang and Adelson,
"Representing moving images with layers" (IEEE TIP 1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from stream.arrays import Bytes, Float, f32, u8
from stream.geometry import Homography, inverse
from stream.motion import between
from stream.types import Motion

Evidence = Bytes
"""h x w: above `UNKNOWN` where a pixel is near, below where it is far, by how much speaks for it."""

Chain = tuple[Homography, Homography]
"""Maps from the shot's first frame to a frame, of the far layer and of the near one."""

UNKNOWN = 128
BACK = (1, 3)
"""How many frames earlier a frame is compared with."""

_MOST = 40
"""Grey levels from which a difference counts no more: the pixel was out of sight then."""

_LEVEL = 2.5
"""Grey levels of difference that are one unit of evidence."""

_FADE = 0.7
_LIMIT = 60.0
_BLUR = 0.7


def measure(
    grey: Bytes,
    hidden: Bytes,
    before: Sequence[tuple[Bytes, Bytes, Evidence | None, Homography, Homography]],
    last: tuple[Evidence, Homography, Homography] | None,
) -> Evidence:
    """Gather what speaks for either layer at each pixel of a frame.

    `grey` uint8 h x w; `hidden` uint8 0 or 1, what is not background. `before`: other frames close in time:
    grey, hidden, their own evidence, and the homographies (far, near) from them to this one. `last`: the
    same of the evidence of the frame next to this one. All in reduced pixels.
    """
    size = grey.shape[1], grey.shape[0]
    told = np.zeros(grey.shape, np.float32)
    detail = _detail(grey)
    for other, unseen, known, far, near in before:
        out = hidden.copy()
        errors = []
        for move in (far, near):
            moved = cv2.warpPerspective(other, move, size, flags=cv2.INTER_LINEAR)
            out |= u8(cv2.warpPerspective(unseen, move, size, flags=cv2.INTER_NEAREST, borderValue=1))
            errors.append(np.minimum(u8(cv2.absdiff(grey, moved)), np.uint8(_MOST)))
        as_far, as_near = errors
        if known is not None:
            # What is far was behind the near layer there: that it is not found does not make it near. Then
            # only detail speaks, which would not be met again by chance.
            behind = cv2.warpPerspective(known, far, size, flags=cv2.INTER_NEAREST, borderValue=UNKNOWN)
            cv2.copyTo(cv2.min(as_far, detail), (behind > UNKNOWN + 2).view(np.uint8), as_far)
        told += cv2.subtract(as_far, as_near, mask=(1 - out), dtype=cv2.CV_32F)
    evidence = cv2.GaussianBlur(told, (0, 0), _BLUR) * np.float32(1 / _LEVEL)
    if last is not None:
        evidence += _carried(*last, size) * np.where(hidden > 0, np.float32(1), np.float32(_FADE))
    return u8(np.rint(np.clip(evidence, -_LIMIT, _LIMIT) + np.float32(UNKNOWN)).astype(np.uint8))


def _detail(grey: Bytes) -> Bytes:
    """By how much a pixel differs from its neighbours on all sides, grey levels.

    The edge of the near layer is no detail of what is plain beside it: that would go along with the layer.
    """
    # The range of the 3 x 3 pixels that end at a pixel; then the least of the four that have it in a corner.
    ranges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8), anchor=(2, 2))
    corners = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1]], np.uint8)
    return u8(cv2.erode(ranges, corners, anchor=(0, 0)))


def _carried(last: Evidence, far: Homography, near: Homography, size: tuple[int, int]) -> Float:
    """Take evidence over into another frame: what is near passes before what is far."""
    values = last.astype(np.float32) - np.float32(UNKNOWN)
    by_near = cv2.warpPerspective(values, near, size, flags=cv2.INTER_LINEAR)
    by_far = cv2.warpPerspective(values, far, size, flags=cv2.INTER_LINEAR)
    return f32(np.where(by_near > 0, by_near, np.minimum(by_near, by_far)))


def catch_up(motions: Sequence[Motion], chains: Sequence[Chain]) -> tuple[list[Motion], list[Chain], Chain]:
    """Tell frames which of their corners are near, now that a frame after them shows two layers.

    Frames come in order of time; the last one has two layers. Returns the motions with their near corners,
    the chains, and the maps by which the chains of still earlier frames must be preceded to go with them.
    """
    after, chain = motions[-1], chains[-1]
    told, linked = [after], [chain]
    for at in range(len(motions) - 2, -1, -1):
        motion = motions[at]
        same = np.searchsorted(after.ids, motion.ids).clip(max=max(0, len(after.ids) - 1))
        motion = replace(motion, near=(after.ids[same] == motion.ids) & after.near[same])
        whole = chains[at + 1][0] @ inverse(chains[at][0])
        found = (between(motion, after, near=layer) for layer in (False, True))
        back = [inverse(whole if step is None else step) for step in found]
        far, near = (step @ link for step, link in zip(back, chain, strict=True))
        chain = far / far[2, 2], near / near[2, 2]
        after = motion
        told.append(motion)
        linked.append(chain)
    first = inverse(chains[0][0]) @ chain[0], inverse(chains[0][1]) @ chain[1]
    return told[::-1], linked[::-1], first
