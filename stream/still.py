"""The plate of a camera at rest: pixels are copied, never resampled, and stay while they are hidden."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, Float, f32, u8
from stream.background import Background
from stream.covers import blocked, grown, select
from stream.exposure import UNLIT, Gain, exposure
from stream.plate import Memory, Plate, View
from stream.sources import steps
from stream.types import Frame, Image

_SIGHTINGS = 12
_RESTED = 10
"""Frames of one view from which a camera rests; a hand that turns round holds still for a few."""

_LOOKED_AT = 48
_NEAREST = 16
_ENOUGH = 8
"""The nearest frames are asked of all pixels, others only of those that these do not show often enough."""

_ASK_AGAIN = 12
_LIKE = np.exp(-np.square(np.arange(256)) / (2 * 14.0 * 14.0)).astype(np.float32)
_UNUSUAL = (0.02 + 0.98 * np.exp(-np.square(np.arange(256) / 20.0))).astype(np.float32)
_DRIFT = 0.03
_UNSETTLED = 0.6
_SAMPLE = 7


@dataclass(frozen=True)
class Still:
    """What is behind the pixels that were hidden in the last filled frame of one camera pose.

    `rgb` uint8 H x W x 3 and `known` uint8 H x W (0 or 1) at full size; they are changed in place from frame
    to frame. `forbidden`: the tracks that may not serve. `light`: index of the frame in whose light `rgb` is.
    `noisy`: the mean of frames is nearer to the truth than the last of them. `gains`: from the light of
    frames, by index, to this one's; asked for as they are needed.
    """

    pose: int
    forbidden: frozenset[int]
    light: int
    rgb: Image
    known: Bytes
    noisy: bool
    gains: dict[int, Gain] = field(default_factory=dict)


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
    gain = UNLIT
    if last is not None and light is not None:
        gain = exposure(plate, light, current, np.eye(3), forbidden)
        # Wanted when this frame is asked what it shows.
        last.gains[frame.index] = 1 / gain[0], 1 / gain[1], 1 / gain[2]
    same_light = max(abs(g - 1) for g in gain) <= _DRIFT
    if last is not None and light is not None and not same_light and plate.config.even:
        # What is known is brought to the new light; to ask again for all of it would take many frames' time.
        last = replace(last, light=frame.index, rgb=_lit(last.rgb, gain), gains={})
        light, gain, same_light = current, UNLIT, True
    if last is None or light is None or last.pose != view.pose or not same_light:
        light, gain = current, UNLIT
        nothing = np.zeros(frame.rgb.shape[:2], np.uint8)
        noisy = _noisy(same, current)
        last = Still(view.pose, forbidden, frame.index, frame.rgb.copy(), nothing, noisy)
    else:
        last = _without(last, forbidden - last.forbidden, same)
        if (since := frame.index - last.light) < _ASK_AGAIN or since % _ASK_AGAIN == 0:
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


def _without(still: Still, ids: frozenset[int], memories: list[Memory]) -> Still:
    """A resting plate that knows nothing where any of some more tracks have been."""
    if not ids:
        return still
    for memory in memories:
        if memory.ids & ids:
            where = grown(select(memory.labels, ids))
            size = still.known.shape[1], still.known.shape[0]
            still.known[u8(cv2.resize(where, size, interpolation=cv2.INTER_NEAREST)) > 0] = 0
    return replace(still, forbidden=still.forbidden | ids)


def _lit(rgb: Image, gain: Gain) -> Image:
    """Colours (..., 3) in another light."""
    if gain == UNLIT or not rgb.size:
        return rgb
    levels = np.arange(256, dtype=np.float32)[:, None] * np.array(gain, np.float32) + np.float32(0.5)
    table = np.clip(levels, 0, 255).astype(np.uint8)[None]
    return u8(cv2.LUT(np.ascontiguousarray(rgb).reshape(-1, 1, 3), table)).reshape(rgb.shape)


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
    # Asked of each frame this would cost more than all the rest.
    steady = all(_gain(still, plate, m, light) == UNLIT for m in same[:: max(1, len(same) // 6)])
    usual = None
    if scene is not None and scene.calm:
        rows, columns = ys * scene.rgb.shape[0] // frame.height, xs * scene.rgb.shape[1] // frame.width
        usual = _grey(scene.rgb[rows, columns]), scene.sure[rows, columns]
    place = ys * frame.width + xs

    def ask(
        memories: list[Memory], which: NDArray[np.intp], have: NDArray[np.intp]
    ) -> tuple[Image, NDArray[np.bool_], Float]:
        """What memories show at some pixels (K, n, 3), whether it is background (K, n), and how near (K, 1).

        `have` (n,): sightings at hand; no more memories are asked once every pixel has as many as count.
        """
        at = place[which]
        rgb = np.empty((len(memories), len(at), 3), np.uint8)
        clear = np.empty((len(memories), len(at)), bool)
        asked = 0
        for k, memory in enumerate(memories):
            cover = blocked(plate, memory, still.forbidden)
            if cover.shape not in in_cover:
                height, width = cover.shape
                rows = ys * height // frame.height
                in_cover[cover.shape] = rows * width + xs * width // frame.width
            np.equal(cover.ravel().take(in_cover[cover.shape][which]), 0, out=clear[k])
            memory.rgb.reshape(-1, 3).take(at, 0, out=rgb[k], mode="clip")
            if not steady:
                rgb[k] = _lit(rgb[k], _gain(still, plate, memory, light))
            have = have + clear[k]
            asked = k + 1
            if have.min() >= _SIGHTINGS:
                break
        apart = np.array([steps(m.seconds, current.seconds) for m in memories[:asked]])
        nearness = (0.05 + np.exp(-apart / 8.0)).astype(np.float32)[:, None]
        return rgb[:asked], clear[:asked], nearness

    in_cover: dict[tuple[int, ...], NDArray[np.intp]] = {}
    best = frame.rgb[ys, xs]
    known = np.zeros(len(ys), np.uint8)
    which = np.arange(len(ys))
    rgb, clear, nearness = ask(same[:_NEAREST], which, np.zeros(len(ys), np.intp))
    for last in (len(same) <= _NEAREST, True):
        count = clear.sum(0)
        done = np.flatnonzero((count >= _ENOUGH) | ((count > 0) & last))
        if len(done):
            chosen = which[done]
            # Only the nearest sightings of a pixel count.
            every = len(done) == len(which)
            seen = clear if every else clear[:, done]
            shown = rgb if every else rgb[:, done]
            weight = nearness * (seen & (np.cumsum(seen, 0, np.uint8) <= _SIGHTINGS))
            there = None if usual is None else (usual[0][chosen], usual[1][chosen])
            if scene is None or scene.calm:
                best[chosen] = _agreed(shown, weight, there, still.noisy)
            else:
                # Where things come and go all the time, what was seen last is most likely there still.
                newest = (weight > 0).argmax(0)
                best[chosen] = np.take_along_axis(shown, newest[None, :, None], 0)[0]
            known[chosen] = 1
        rest = np.flatnonzero(count < _ENOUGH)
        if last or not len(rest):
            break
        which = which[rest]
        more = ask(same[_NEAREST:], which, count[rest])
        rgb, clear = np.concatenate([rgb[:, rest], more[0]]), np.concatenate([clear[:, rest], more[1]])
        nearness = np.concatenate([nearness, more[2]])
    return best, known


def _agreed(rgb: Image, weight: Float, usual: tuple[Bytes, Bytes] | None, noisy: bool) -> Image:
    """The colours (N, 3) that K answers agree on, or the mean of those that do where they are `noisy`."""
    grey = _grey(rgb)
    if usual is not None:
        # What contradicts the background as other times show it is what a mask left out.
        weight = weight * cv2.LUT(_apart(grey, usual[0]) * usual[1], _UNUSUAL)
    chosen = _consensus(grey, weight)
    best: Image = np.take_along_axis(rgb, chosen[None, :, None], 0)[0]
    if not noisy:
        return best
    share = cv2.LUT(_apart(grey, _grey(best)), _LIKE) * (weight > 0.02 * weight.max(0))
    mean = np.full(best.shape, 0.5, np.float32)
    for picture, part in zip(rgb, share / np.maximum(share.sum(0), 1e-6), strict=True):
        mean += picture * part[:, None]
    return mean.astype(np.uint8)


def _gain(still: Still, plate: Plate, memory: Memory, light: Memory) -> Gain:
    """From a memory's light to that of the resting plate; asked once of each memory."""
    known = still.gains.get(memory.index)
    if known is None:
        known = exposure(plate, memory, light, np.eye(3), still.forbidden)
        still.gains[memory.index] = known
    return known


def _consensus(grey: Bytes, weight: NDArray[np.float32]) -> NDArray[np.intp]:
    """For each of N pixels which of K frames has most support, of equal ones the nearest in time (the first).

    Where most frames differ something always moves there: then what was seen last is most likely there still.
    """
    total = weight.sum(0)
    chosen: NDArray[np.intp] = (weight > 0).argmax(0)
    # Nearly everywhere the first agrees with all others, and no other can have more support.
    first = np.take_along_axis(grey, chosen[None], 0)[0]
    asked = np.flatnonzero(_support(grey, weight, first) < 0.9 * total)
    if not len(asked):
        return chosen
    grey, weight = np.ascontiguousarray(grey[:, asked]), weight[:, asked]
    support = np.stack([_support(grey, weight, each) for each in grey])
    support[weight <= 0] = -1
    most = support.max(0)
    near = (support >= 0.9 * most).argmax(0)
    chosen[asked] = np.where(most < _UNSETTLED * total[asked], chosen[asked], near)
    return chosen


def _support(grey: Bytes, weight: Float, one: Bytes) -> Float:
    """The weight of all frames that agree with one answer, for each of N pixels."""
    return f32(np.einsum("kn,kn->n", weight, cv2.LUT(_apart(grey, one), _LIKE)))


def _apart(grey: Bytes, one: Bytes) -> Bytes:
    """How far K answers (K, N) are from one (N,)."""
    return u8(cv2.absdiff(grey, np.broadcast_to(one, grey.shape).copy()))


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


def _grey(rgb: Image) -> Bytes:
    return u8(cv2.cvtColor(rgb.reshape(-1, 1, 3), cv2.COLOR_RGB2GRAY)).reshape(rgb.shape[:-1])
