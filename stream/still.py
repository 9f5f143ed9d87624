"""The plate of a camera at rest: pixels are copied, never resampled, and stay while they are hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, f32
from stream.background import Background
from stream.covers import blocked
from stream.plate import Memory, Plate, View
from stream.sources import exposure, steps
from stream.types import Frame, Image

_SIGHTINGS = 12
_RESTED = 10
"""Frames of one view from which a camera rests; a hand that turns round holds still for a few."""

_LOOKED_AT = 48
_ASK_AGAIN = 12
_AGREE = 14.0
_DRIFT = 0.03
_UNSETTLED = 0.6
_SAMPLE = 7


@dataclass(frozen=True)
class Still:
    """What is behind the pixels that were hidden in the last filled frame of one camera pose.

    `rgb` uint8 H x W x 3 and `known` uint8 H x W (0 or 1) at full size; they are changed in place from frame
    to frame. `forbidden`: the tracks that may not serve. `light`: index of the frame in whose light `rgb` is.
    `noisy`: the mean of frames is nearer to the truth than the last of them.
    """

    pose: int
    forbidden: frozenset[int]
    light: int
    rgb: Image
    known: Bytes
    noisy: bool


def recall(
    last: Still | None,
    plate: Plate,
    view: View,
    frame: Frame,
    wanted: Bytes,
    origin: tuple[int, int],
    forbidden: frozenset[int],
    scene: Background | None = None,
) -> tuple[Image, Bytes, Still] | None:
    """Know what is behind the `wanted` pixels (uint8 0 or 1 in a box at `origin`) of a frame.

    Only pixels that have become hidden are looked up, in the frames that show the same view. Returns the
    box's colours in the frame's light, where they are known (0 or 1), and what to hand on; None when too few
    frames show the view.
    """
    current = plate.memory(frame.index)
    same = [m for m in plate.memories if m.view.pose == view.pose and m.index != frame.index]
    if current is None or len(same) < _RESTED:
        return None
    y0, x0 = origin[1], origin[0]
    box = np.s_[y0 : y0 + wanted.shape[0], x0 : x0 + wanted.shape[1]]
    light = None if last is None else plate.memory(last.light)
    gain = (1.0, 1.0, 1.0)
    if light is not None:
        gain = exposure(plate, light, current, frame, np.eye(3), forbidden)
    if (
        last is None
        or light is None
        or last.pose != view.pose
        or not forbidden <= last.forbidden
        or max(abs(g - 1) for g in gain) > _DRIFT
    ):
        light, gain = current, (1.0, 1.0, 1.0)
        nothing = np.zeros(frame.rgb.shape[:2], np.uint8)
        noisy = _noisy(same, current)
        last = Still(view.pose, forbidden, frame.index, frame.rgb.copy(), nothing, noisy)
    elif (since := frame.index - last.light) < _ASK_AGAIN or since % _ASK_AGAIN == 0:
        last = replace(last, noisy=_noisy(same, current))
    kept = last.known[box] & wanted
    last.known[:] = 0
    last.known[box] = kept
    ys, xs = np.nonzero(wanted & (1 - kept))
    if len(ys):
        found, known = _look_up(last, plate, same, current, light, frame, ys + y0, xs + x0, scene)
        last.rgb[ys + y0, xs + x0] = found
        last.known[ys + y0, xs + x0] = known
    return _lit(last.rgb[box], gain), last.known[box] & wanted, last


def _lit(rgb: Image, gain: tuple[float, float, float]) -> Image:
    if gain == (1.0, 1.0, 1.0):
        return rgb
    lit: Image = np.clip(rgb * np.array(gain, np.float32) + 0.5, 0, 255).astype(np.uint8)
    return lit


def _look_up(
    still: Still,
    plate: Plate,
    same: list[Memory],
    current: Memory,
    light: Memory,
    frame: Frame,
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    scene: Background | None,
) -> tuple[Image, Bytes]:
    """The colours (N, 3), in one frame's light, that the frames nearest in time agree on at N pixels.

    The second value says where there are any (0 or 1).
    """
    same = sorted(same, key=lambda m: steps(m.seconds, current.seconds))[:_LOOKED_AT]
    forbidden, unlit = still.forbidden, (1.0, 1.0, 1.0)
    # Asked of each frame this would cost more than all the rest.
    steady = all(
        exposure(plate, m, light, frame, np.eye(3), forbidden) == unlit
        for m in same[:: max(1, len(same) // 6)]
    )
    sightings = np.zeros(len(ys), np.uint8)
    colours, seen, weights = [], [], []
    for memory in same:
        cover = blocked(plate, memory, forbidden)
        rows, columns = ys * cover.shape[0] // frame.height, xs * cover.shape[1] // frame.width
        clear = (cover[rows, columns] == 0) & (sightings < _SIGHTINGS)
        if not clear.any():
            if sightings.min() >= _SIGHTINGS:
                break
            continue
        sightings += clear
        gain = unlit if steady else exposure(plate, memory, light, frame, np.eye(3), forbidden)
        colours.append(_lit(memory.rgb[ys, xs], gain))
        seen.append(clear)
        weights.append(0.05 + np.exp(-steps(memory.seconds, current.seconds) / 8.0))
    if not colours:
        return frame.rgb[ys, xs], np.zeros(len(ys), np.uint8)
    rgb = np.stack(colours)  # (K, N, 3)
    weight = np.stack(seen) * np.array(weights, np.float32)[:, None]
    if scene is not None and scene.calm:
        # What contradicts the background as other times show it is what a mask left out.
        rows = ys * scene.rgb.shape[0] // frame.height
        columns = xs * scene.rgb.shape[1] // frame.width
        apart = np.abs(_grey(rgb) - _grey(scene.rgb[rows, columns])) * scene.sure[rows, columns]
        weight *= 0.02 + 0.98 * np.exp(-np.square(apart / 20.0))
    best = _consensus(rgb, weight)
    if still.noisy:
        share = (weight > 0.02 * weight.max(0)) * np.exp(
            -np.square(_grey(rgb) - _grey(best)) / (2 * _AGREE * _AGREE)
        )
        mean = (rgb * share[..., None]).sum(0) / np.maximum(share.sum(0), 1e-6)[:, None]
        best = np.where(sightings[:, None] > 0, np.clip(mean + 0.5, 0, 255), best).astype(np.uint8)
    return best, (sightings > 0).astype(np.uint8)


def _consensus(rgb: Image, weight: NDArray[np.float32]) -> Image:
    """For each of N pixels the colour with most support, of equal ones the nearest in time (the first).

    Where most frames differ something always moves there: then what was seen last is most likely there still.
    """
    grey = _grey(rgb)
    support = np.zeros_like(grey)
    for k in range(len(grey)):
        support += weight[k] * np.exp(-np.square(grey - grey[k]) / (2 * _AGREE * _AGREE))
    support = np.where(weight > 0, support, -1)
    most = support.max(0)
    near = (support >= 0.9 * most).argmax(0)
    near = np.where(most < _UNSETTLED * weight.sum(0), (weight > 0).argmax(0), near)
    chosen: Image = np.take_along_axis(rgb, near[None, :, None], 0)[0]
    return chosen


def _noisy(same: list[Memory], current: Memory) -> bool:
    """Whether the mean of several frames foretells the next one better than the last frame does.

    It does where noise is independent from frame to frame, not where compression carries it on.
    """
    near = sorted(same, key=lambda m: steps(m.seconds, current.seconds))
    before = [m for m in near if m.index < current.index][:6] or near[:6]
    if len(before) < 3:
        return True
    step = np.s_[_SAMPLE // 2 :: _SAMPLE, _SAMPLE // 2 :: _SAMPLE]
    now = current.rgb[step].astype(np.float32)
    pictures = np.stack([m.rgb[step] for m in before]).astype(np.float32)
    last = np.abs(pictures[0] - now)
    mean = np.abs(pictures.mean(0) - now)
    calm = np.abs(pictures - now).max((0, 3)) < 24
    if np.count_nonzero(calm) < 100:
        return True
    return bool(mean[calm].mean() < 0.95 * last[calm].mean())


def _grey(rgb: Image) -> NDArray[np.float32]:
    return f32(rgb @ np.array([0.299, 0.587, 0.114], np.float32))
