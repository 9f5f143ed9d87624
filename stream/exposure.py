"""Exposure and white balance between remembered frames: what to multiply one by to look like another."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import geometry
from stream.arrays import Bytes, u8
from stream.covers import usable
from stream.geometry import Homography
from stream.plate import Memory, Plate, scale_to

Gain = tuple[float, float, float]
"""Factors of red, green and blue."""

UNLIT: Gain = (1.0, 1.0, 1.0)
_SAMPLES = 500
_LEAST = 40


def exposure(
    plate: Plate, memory: Memory, current: Memory, forward: Homography, forbidden: frozenset[int]
) -> Gain:
    """`exposures` for one memory."""
    return exposures(plate, [memory], current, [forward], forbidden)[0]


def exposures(
    plate: Plate,
    memories: Sequence[Memory],
    current: Memory,
    forwards: Sequence[Homography],
    forbidden: frozenset[int],
) -> list[Gain]:
    """Gains from memories to the current frame: median ratios outside all masks, per channel.

    `forwards`: the maps from their pixels to the frame's. Read at some hundred points of the frames averaged
    over 8 x 8 pixels.
    """
    clear = np.flatnonzero(usable(plate, current, forbidden))
    if len(clear) < _LEAST or not memories:
        return [UNLIT] * len(memories)
    some = clear[:: max(1, len(clear) // _SAMPLES)]
    want = current.small.reshape(-1, 3)[some].astype(np.float32)
    have = np.empty((len(memories), len(some), 3), np.float32)
    fit = np.empty((len(memories), len(some)), bool)
    for k, (memory, forward) in enumerate(zip(memories, forwards, strict=True)):
        small, mask = memory.small, usable(plate, memory, forbidden)
        if memory.view.pose != current.view.pose:
            small, mask = _moved(memory, mask, forward)
        have[k], fit[k] = small.reshape(-1, 3)[some], mask.ravel()[some] > 0
    ratios = want / np.maximum(have, 1)
    ratios[~fit] = np.inf
    count = fit.sum(1)
    median = np.take_along_axis(np.sort(ratios, 1), (count // 2)[:, None, None].clip(max=len(some) - 1), 1)
    # Ratios of small whole numbers are coarse: the sums of those that agree with the median are not.
    agree = np.abs(ratios - median) < 0.15 * median
    ratio = (want * agree).sum(1) / np.maximum((have * agree).sum(1), 1)
    out: list[Gain] = []
    for k, memory in enumerate(memories):
        rests = memory.view.pose == current.view.pose
        if count[k] < _LEAST or (rests and _unchanged(have[k][fit[k]], want[fit[k]], ratio[k])):
            out.append(UNLIT)
        else:
            r, g, b = np.clip(ratio[k], 0.6, 1.6)
            out.append((float(r), float(g), float(b)))
    return out


def _moved(memory: Memory, mask: Bytes, forward: Homography) -> tuple[Bytes, Bytes]:
    """A memory's `small` and which of its pixels are fit to compare, brought to the current frame."""
    size = mask.shape[1], mask.shape[0]
    to_small = scale_to(mask.shape, memory.frame.width, memory.frame.height)
    into = to_small @ forward @ geometry.inverse(to_small)
    small = u8(cv2.warpPerspective(memory.small, into, size, flags=cv2.INTER_LINEAR))
    return small, u8(cv2.warpPerspective(mask, into, size, flags=cv2.INTER_NEAREST))


def _unchanged(have: NDArray[np.float32], want: NDArray[np.float32], ratio: NDArray[np.float32]) -> bool:
    """Whether pixels of one view are better left alone.

    Within half a percent it is as likely noise as exposure, and unchanged pixels are worth more. So are they
    where as many are just as they were as have changed alike: then things move, not the light.
    """
    slack = 0.012 * have + 0.5
    unchanged = np.mean((np.abs(want - have) <= slack).all(1))
    alike = np.mean((np.abs(want - have * ratio) <= slack).all(1))
    return bool(np.abs(ratio - 1).max() < 0.005 or unchanged > max(0.3, 0.85 * alike))
