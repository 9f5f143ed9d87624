"""The plate of a camera at rest: pixels are copied, never resampled, and stay while they are hidden."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, Float, repeated, u8
from stream.background import Background
from stream.boxes import pieces
from stream.consensus import LIKE, PASSING, UNUSUAL, apart_from, confirmed, consensus, last_seen
from stream.covers import blocked, grown, hidden, select
from stream.exposure import UNLIT, Gain, exposure
from stream.newest import newest
from stream.planes import pixels_to_rgb
from stream.plate import Memory, Plate
from stream.pose import View
from stream.sources import steps
from stream.types import Frame, Image

_SIGHTINGS = 12
_RESTED = 10
"""Frames of one view from which a camera rests; a hand that turns round holds still for a few."""

_NEAREST = 16
_ENOUGH = 8
"""The nearest frames are asked of all pixels, others only of those that these do not show often enough."""

_CLOSEST, _OTHERS = 8, 16
"""Where small pictures are asked: so many of the nearest, and so many of all others."""

_ASK_AGAIN = 12
_APART = 16
"""Pixels between pieces that are asked on their own."""

_STRANGE = 40
"""Grey levels from the background as other times show it at which an answer is not believed."""

_DRIFT = 0.03
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
    change = max(abs(g - 1) for g in gain)
    if last is not None and light is not None and _DRIFT < change <= plate.limits.relit:
        # To ask again for all that is known would take many frames' time.
        gains = {index: _both(each, gain) for index, each in last.gains.items()}
        last = replace(last, light=frame.index, rgb=_lit(last.rgb, gain), gains=gains)
        light, gain, change = current, UNLIT, 0.0
    if last is None or light is None or last.pose != view.pose or change > _DRIFT:
        light, gain = current, UNLIT
        nothing = np.zeros(frame.rgb.shape[:2], np.uint8)
        noisy = bool(plate.limits.asked) and _noisy(same, current)
        last = Still(view.pose, forbidden, frame.index, frame.rgb.copy(), nothing, noisy)
    else:
        last = _without(last, forbidden - last.forbidden, same)
        since = frame.index - last.light
        if plate.limits.asked and (since < _ASK_AGAIN or since % _ASK_AGAIN == 0):
            last = replace(last, noisy=_noisy(same, current))
    kept = last.known[box] & wanted
    last.known[:] = 0
    last.known[box] = kept
    new = wanted & (1 - kept)
    if not plate.limits.asked:
        _know_newest(last, plate, same, current, light, new, origin, scene)
        return _lit(last.rgb[box], gain), last.known[box] & wanted, last
    # What hides one piece now hid it for the same frames; so each is asked on its own.
    for left, top, right, bottom in pieces(new, _APART):
        at = np.flatnonzero(new[top:bottom, left:right].view(bool))
        rows, columns = np.divmod(at, right - left)
        ys, xs = rows + (top + y0), columns + (left + x0)
        found, known = _look_up(last, plate, same, current, light, frame, ys, xs, scene)
        last.rgb[ys, xs] = found
        last.known[ys, xs] = known
    return _lit(last.rgb[box], gain), last.known[box] & wanted, last


def _without(still: Still, ids: frozenset[int], memories: list[Memory]) -> Still:
    """A resting plate that knows nothing where any of some more tracks have been."""
    if not ids:
        return still
    where: Bytes | None = None
    for memory in memories:
        if memory.ids & ids:
            mine = select(memory.labels, ids)
            where = mine if where is None else where | mine
    if where is not None:
        size = still.known.shape[1], still.known.shape[0]
        still.known[u8(cv2.resize(grown(where), size, interpolation=cv2.INTER_NEAREST)) > 0] = 0
    return replace(still, forbidden=still.forbidden | ids)


def _lit(rgb: Image, gain: Gain) -> Image:
    """Colours (..., 3) in another light."""
    if gain == UNLIT or not rgb.size:
        return rgb
    levels = np.arange(256, dtype=np.float32)[:, None] * np.array(gain, np.float32) + np.float32(0.5)
    table = np.clip(levels, 0, 255).astype(np.uint8)[None]
    return u8(cv2.LUT(np.ascontiguousarray(rgb).reshape(1, -1, 3), table)).reshape(rgb.shape)


def _both(first: Gain, second: Gain) -> Gain:
    """One change of light after another."""
    return first[0] * second[0], first[1] * second[1], first[2] * second[2]


def _know_newest(
    still: Still,
    plate: Plate,
    same: list[Memory],
    current: Memory,
    light: Memory,
    new: Bytes,
    origin: tuple[int, int],
    scene: Background | None,
) -> None:
    """Lay the newest sightings of the `new` pixels (of a box at `origin`) into the resting plate."""
    near = sorted(same, key=lambda m: steps(m.seconds, current.seconds))
    if len(near) > _CLOSEST + _OTHERS:
        others = np.linspace(_CLOSEST, len(near) - 1, _OTHERS).astype(int).tolist()
        near = near[:_CLOSEST] + [near[k] for k in others]
    # Few frames, and the same ones each time: what was measured once is known.
    steady = all(_gain(still, plate, m, light) == UNLIT for m in near if m.index % _ASK_AGAIN == 0)
    rgb, known = newest(
        near,
        new,
        origin,
        scene,
        lambda memory: hidden(plate, memory, still.forbidden),
        lambda memory, rgb: rgb if steady else _lit(rgb, _gain(still, plate, memory, light)),
        current.seconds,
    )
    box = np.s_[origin[1] : origin[1] + new.shape[0], origin[0] : origin[0] + new.shape[1]]
    cv2.copyTo(rgb, known, still.rgb[box])
    still.known[box] |= known


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
    moved = len(plate.memories) > 2 * len(same)
    same = sorted(same, key=lambda m: steps(m.seconds, current.seconds))[: plate.limits.asked]
    # Asked of each frame this would cost more than all the rest.
    steady = all(_gain(still, plate, m, light) == UNLIT for m in same[:: max(1, len(same) // 6)])
    usual = None
    if scene is not None and scene.calm:
        rows, columns = ys * scene.rgb.shape[0] // frame.height, xs * scene.rgb.shape[1] // frame.width
        usual = _grey(scene.rgb[rows, columns]), scene.sure[rows, columns]
    place = ys * frame.width + xs

    in_cover: dict[tuple[int, ...], NDArray[np.intp]] = {}

    def clear_of(memory: Memory, which: NDArray[np.intp] | None) -> NDArray[np.bool_]:
        """Whether a memory shows background at some pixels, or at all."""
        cover = blocked(plate, memory, still.forbidden)
        if cover.shape not in in_cover:
            height, width = cover.shape
            in_cover[cover.shape] = ys * height // frame.height * width + xs * width // frame.width
        at = in_cover[cover.shape]
        return np.asarray(cover.ravel().take(at if which is None else at[which]) == 0)

    def ask(
        memories: list[Memory], which: NDArray[np.intp]
    ) -> tuple[Image, NDArray[np.bool_], Float, NDArray[np.float64]]:
        """What memories show at some pixels (K, n, 3), whether that counts (K, n), how near, and when (K, 1).

        Only the nearest sightings of a pixel count; no more are asked once every pixel has as many.
        """
        at = place[which]
        rgb = np.empty((len(memories), len(at), 3), np.uint8)
        counts = np.empty((len(memories), len(at)), bool)
        have = np.zeros(len(at), np.uint8)
        asked: list[Memory] = []
        for memory in memories:
            k = len(asked)
            np.logical_and(clear_of(memory, which), have < _SIGHTINGS, out=counts[k])
            if not counts[k].any():
                continue
            rgb[k] = pixels_to_rgb(memory.frame, at)
            if not steady:
                rgb[k] = _lit(rgb[k], _gain(still, plate, memory, light))
            have += counts[k]
            asked.append(memory)
            if have.min() >= _SIGHTINGS:
                break
        apart = np.array([steps(m.seconds, current.seconds) for m in asked])
        nearness = (0.05 + np.exp(-apart / 8.0)).astype(np.float32)[:, None]
        seconds = np.array([m.seconds for m in asked])[:, None]
        return rgb[: len(asked)], counts[: len(asked)], nearness, seconds

    # The user's masks leave nothing out that might be passing.
    passing = PASSING if current.masked is None else -1.0
    best = frame.rgb[ys, xs]
    known = np.zeros(len(ys), np.uint8)
    often = np.zeros(len(ys), np.uint8)
    for memory in same[:_NEAREST]:
        often += clear_of(memory, None)
    near = often >= _ENOUGH
    for which, memories in ((np.flatnonzero(near), same[:_NEAREST]), (np.flatnonzero(~near), same)):
        if not len(which):
            continue
        shown, counted, nearness, seconds = ask(memories, which)
        if not len(shown):
            continue
        there = counted.any(0)
        if not there.all():
            shown, counted, which = shown[:, there], counted[:, there], which[there]
        weight = nearness * counted
        if scene is None or scene.calm:
            expected = None if usual is None else (usual[0][which], usual[1][which])
            best[which] = _agreed(shown, weight, expected, still.noisy, seconds, passing)
        else:
            latest = last_seen(_grey(shown), counted, seconds, passing)
            best[which] = np.take_along_axis(shown, latest[None, :, None], 0)[0]
        known[which] = 1
        if moved:
            # Frames from which the camera stood a little otherwise know better what few of these show.
            sure = confirmed(_grey(shown), counted, seconds, _grey(best[which][None])[0], passing)
            if usual is not None:
                sure &= apart_from(_grey(best[which][None]), usual[0][which])[0] * usual[1][which] < _STRANGE
            known[which] = sure
    return best, known


def _agreed(
    rgb: Image,
    weight: Float,
    usual: tuple[Bytes, Bytes] | None,
    noisy: bool,
    seconds: NDArray[np.float64],
    passing: float,
) -> Image:
    """The colours (N, 3) that K answers agree on, or the mean of those that do where they are `noisy`."""
    grey = _grey(rgb)
    if usual is not None:
        # What contradicts the background as other times show it is what a mask left out.
        weight = weight * cv2.LUT(apart_from(grey, usual[0]) * usual[1], UNUSUAL)
    chosen = consensus(grey, weight, seconds, passing)
    best: Image = np.take_along_axis(rgb, chosen[None, :, None], 0)[0]
    if not noisy:
        return best
    share = cv2.LUT(apart_from(grey, _grey(best)), LIKE) * (weight > 0.02 * weight.max(0))
    mean = np.full(best.shape, 0.5, np.float32)
    for picture, part in zip(rgb, share / np.maximum(share.sum(0), 1e-6), strict=True):
        if part.any():
            mean += picture * repeated(part, 3)
    return mean.astype(np.uint8)


def _gain(still: Still, plate: Plate, memory: Memory, light: Memory) -> Gain:
    """From a memory's light to that of the resting plate; asked once of each memory."""
    known = still.gains.get(memory.index)
    if known is None:
        known = exposure(plate, memory, light, np.eye(3), still.forbidden)
        still.gains[memory.index] = known
    return known


def _noisy(same: list[Memory], current: Memory) -> bool:
    """Whether the mean of several frames foretells the next one better than the last frame does.

    It does where noise is independent from frame to frame, not where compression carries it on.
    """
    near = sorted(same, key=lambda m: steps(m.seconds, current.seconds))
    before = [m for m in near if m.index < current.index][:6] or near[:6]
    if len(before) < 3:
        return True
    every = _SAMPLE * max(1, current.frame.height // 360)
    frame = current.frame
    rows, columns = np.mgrid[every // 2 : frame.height : every, every // 2 : frame.width : every]
    places = (rows * frame.width + columns).ravel()
    now = pixels_to_rgb(frame, places).astype(np.float32)
    pictures = np.stack([pixels_to_rgb(m.frame, places) for m in before]).astype(np.float32)
    last = np.abs(pictures[0] - now)
    mean = np.abs(pictures.mean(0) - now)
    calm = np.abs(pictures - now).max((0, 2)) < 24
    if np.count_nonzero(calm) < 100:
        return True
    return bool(mean[calm].mean() < 0.95 * last[calm].mean())


def _grey(rgb: Image) -> Bytes:
    # As one row: OpenCV takes its time over each.
    return u8(cv2.cvtColor(rgb.reshape(1, -1, 3), cv2.COLOR_RGB2GRAY)).reshape(rgb.shape[:-1])
