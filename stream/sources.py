"""Which remembered frames serve a hole, and what they show there once warped and matched in exposure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import geometry
from stream.geometry import Homography
from stream.plate import Memory, Plate, View, blocked, relate, scale_to
from stream.types import Frame, Image

Box = tuple[int, int, int, int]
Float = NDArray[np.float32]

_OFFSETS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 26, 33, 41, 52, 66, 84, 108, 140, 180)
_SAMPLES = 300


@dataclass(frozen=True, slots=True)
class Source:
    """One remembered frame as seen in a box of the frame to fill.

    `rgb` uint8 h x w x 3, resampled once; `grey` uint8 with `gain` (RGB factors) applied; `valid` uint8 0 or 1;
    `weight` float32 h x w, 0 where invalid: nearness in time and agreement at the hole's rim.
    """

    index: int
    rgb: Image
    grey: NDArray[np.uint8]
    valid: NDArray[np.uint8]
    gain: tuple[float, float, float]
    weight: Float


def steps(a: float, b: float) -> float:
    """Distance in time in frames of 1/25 second."""
    return abs(a - b) * 25.0


def choose(
    plate: Plate,
    view: View,
    seconds: float,
    frame: Frame,
    hole: NDArray[np.uint8],
    origin: tuple[int, int],
    forbidden: frozenset[int],
    count: int,
) -> list[Memory]:
    """Choose up to `count` memories that together see most of the hole several times.

    `hole`: uint8 of a box whose corner is `origin`. Greedy: what is not yet covered counts most, nearer frames
    count more, and those used in the last frame a little more, so that the choice does not flicker.
    """
    candidates = _candidates(plate, view)
    if not candidates:
        return []
    ys, xs = np.nonzero(hole)
    take = np.linspace(0, len(xs) - 1, min(len(xs), _SAMPLES)).astype(int)
    points = np.stack([xs[take] + origin[0], ys[take] + origin[1]], 1).astype(np.float32)
    layers = (False, True) if view.motion.near.any() else (False,)
    seen = np.zeros((len(candidates), len(take)), np.float32)
    for k, memory in enumerate(candidates):
        cover = blocked(plate, memory, forbidden)
        to_cover = scale_to(cover.shape, frame.width, frame.height)
        for near in layers:
            back = relate(view, memory.view, near, direct=False)
            seen[k] += _look(cover, to_cover, geometry.apply(back, points), frame) / len(layers)
    decay = 3.0 + 30.0 * plate.trust
    nearness = np.array([np.exp(-steps(m.seconds, seconds) / decay) for m in candidates], np.float32)
    habit = np.array([0.1 * len(take) * (m.index in plate.used) for m in candidates], np.float32)
    worth = np.ones(len(take), np.float32)
    falls = np.array([1.0, 0.35, 0.2, 0.1, 0.07, 0.05, 0.035, 0.025, 0.02, 0.015], np.float32)
    cover_count = np.zeros(len(take), np.float32)
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        worth = falls[np.minimum(cover_count, len(falls) - 1).astype(int)]
        gain = (seen @ worth + habit * (seen.sum(1) > 0) * worth.mean()) * nearness
        gain[chosen] = -1
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break
        chosen.append(best)
        cover_count += seen[best]
    return [candidates[k] for k in chosen]


def warp(
    plate: Plate,
    memory: Memory,
    view: View,
    frame: Frame,
    small: Image,
    hole: NDArray[np.uint8],
    box: Box,
    forbidden: frozenset[int],
    near: bool,
) -> Source | None:
    """Bring a memory into a box of the frame to fill; None when it shows nothing there.

    Frames of the same pose are copied, never resampled. `small`: the frame averaged over 8 x 8 pixels.
    """
    x0, y0, x1, y1 = box
    size = (x1 - x0, y1 - y0)
    cover = blocked(plate, memory, forbidden)
    to_cover = scale_to(cover.shape, frame.width, frame.height)
    if memory.view.pose == view.pose:
        forward = np.eye(3)
        rgb = memory.rgb[y0:y1, x0:x1]
        inside = np.ones((size[1], size[0]), np.uint8)
    else:
        forward = relate(memory.view, view, near)
        if not geometry.plausible(forward, frame.width, frame.height, most=1.5):
            return None
        into_box = geometry.shifting(-x0, -y0) @ forward
        rgb = cast(Image, cv2.warpPerspective(memory.rgb, into_box, size, flags=cv2.INTER_CUBIC))
        inside = _inside(forward, box, frame)
    from_cover = geometry.shifting(-x0, -y0) @ forward @ np.linalg.inv(to_cover)
    covered = cv2.warpPerspective(
        cover, from_cover, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    valid = cast("NDArray[np.uint8]", cv2.bitwise_and(inside, cv2.bitwise_xor(covered, 1)))
    if not cv2.countNonZero(cv2.bitwise_and(valid, hole)):
        return None
    gain = _gain(plate, memory, view, frame, small, forward, forbidden)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if gain != (1.0, 1.0, 1.0):
        factor = 0.299 * gain[0] + 0.587 * gain[1] + 0.114 * gain[2]
        grey = cv2.convertScaleAbs(grey, alpha=factor)
    return Source(memory.index, rgb, cast("NDArray[np.uint8]", grey), valid, gain, valid.astype(np.float32))


def rim_errors(
    sources: Sequence[Source], grey: NDArray[np.uint8], ring: NDArray[np.uint8], reach: float
) -> list[Float]:
    """How far each source misses the frame around the hole, spread into it; float32 grey levels.

    `ring`: uint8, 1 where the frame is known and near the hole. `reach`: pixels over which errors spread.
    """
    out = []
    shape = grey.shape[1], grey.shape[0]
    small = (max(1, shape[0] // 4), max(1, shape[1] // 4))
    sigma = max(1.0, reach / 4)
    for source in sources:
        known = cv2.bitwise_and(ring, source.valid)
        error = cv2.absdiff(grey, source.grey)
        error = cv2.multiply(error, known, dtype=cv2.CV_32F)
        mean = float(error.sum()) / max(1, cv2.countNonZero(known))
        num = cv2.GaussianBlur(cv2.resize(error, small, interpolation=cv2.INTER_AREA), (0, 0), sigma)
        den = cv2.resize(known.astype(np.float32), small, interpolation=cv2.INTER_AREA)
        den = cv2.GaussianBlur(den, (0, 0), sigma)
        spread = (num + 0.01 * mean) / (den + 0.01)
        out.append(cast(Float, cv2.resize(spread, shape, interpolation=cv2.INTER_LINEAR)))
    return out


def _candidates(plate: Plate, view: View) -> list[Memory]:
    """Memories at growing distances in both directions of time; with few of them, all."""
    position = {m.index: k for k, m in enumerate(plate.memories)}
    indices = np.array([m.index for m in plate.memories])
    if len(indices) == 0:
        return []
    chosen: set[int] = set()
    for sign in (-1, 1):
        for offset in _OFFSETS:
            wanted = view.index + sign * offset
            if wanted < indices[0] - 1 or wanted > indices[-1] + 1:
                break
            at = int(indices[np.argmin(np.abs(indices - wanted))])
            if at != view.index and np.sign(at - view.index) == sign:
                chosen.add(at)
    # What is older than any offset reaches: the thinned memories of long ago, spread evenly.
    old = indices[indices < view.index - _OFFSETS[-1]]
    if len(old):
        chosen.update(int(i) for i in old[np.linspace(0, len(old) - 1, min(len(old), 8)).astype(int)])
    return [plate.memories[position[i]] for i in sorted(chosen)]


def _look(cover: NDArray[np.uint8], to_cover: Homography, points: geometry.Points, frame: Frame) -> Float:
    inside = (points >= 0).all(1) & (points[:, 0] <= frame.width - 1) & (points[:, 1] <= frame.height - 1)
    at = np.rint(geometry.apply(to_cover, np.where(inside[:, None], points, 0)))
    x = np.clip(at[:, 0], 0, cover.shape[1] - 1).astype(int)
    y = np.clip(at[:, 1], 0, cover.shape[0] - 1).astype(int)
    return (inside & (cover[y, x] == 0)).astype(np.float32)


def _inside(forward: Homography, box: Box, frame: Frame) -> NDArray[np.uint8]:
    """1 where the box's pixel comes from within the source frame, two pixels from its edge."""
    x0, y0, x1, y1 = box
    edge = np.array(
        [[2, 2], [frame.width - 3, 2], [frame.width - 3, frame.height - 3], [2, frame.height - 3]], np.float32
    )
    polygon = geometry.apply(geometry.shifting(-x0, -y0) @ forward, edge)
    out = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(out, np.clip(np.rint(polygon), -20000, 20000).astype(np.int32), 1)
    return out


def _gain(
    plate: Plate,
    memory: Memory,
    view: View,
    frame: Frame,
    small: Image,
    forward: Homography,
    forbidden: frozenset[int],
) -> tuple[float, float, float]:
    """Exposure and white balance from a source to the frame: median ratio outside all masks, per channel."""
    to_small = geometry.scaling(small.shape[1] / frame.width, small.shape[0] / frame.height)
    size = small.shape[1::-1]
    warped = cv2.warpPerspective(memory.small, to_small @ forward @ np.linalg.inv(to_small), size)
    clear = np.ones(small.shape[:2], bool)
    current = next((m for m in plate.memories if m.index == view.index), None)
    for known, through in ((memory, forward), (current, np.eye(3))):
        if known is None:
            continue
        cover = blocked(plate, known, forbidden)
        to_cover = scale_to(cover.shape, frame.width, frame.height)
        hidden = cv2.warpPerspective(
            cover, to_small @ through @ np.linalg.inv(to_cover), size, flags=cv2.INTER_NEAREST, borderValue=1
        )
        clear &= hidden == 0
    clear &= (warped.min(2) > 12) & (warped.max(2) < 245) & (small.min(2) > 12) & (small.max(2) < 245)
    if np.count_nonzero(clear) < 40:
        return 1.0, 1.0, 1.0
    ratio = np.median(small[clear].astype(np.float32) / warped[clear], axis=0)
    # Within half a percent it is as likely noise as exposure, and unchanged pixels are worth more.
    if np.abs(ratio - 1).max() < 0.005 and memory.view.pose == view.pose:
        return 1.0, 1.0, 1.0
    r, g, b = np.clip(ratio, 0.6, 1.6)
    return float(r), float(g), float(b)
