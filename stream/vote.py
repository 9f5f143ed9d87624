"""What the memories say about the pixels of a box: per pixel the best supported answer, averaged over those
that give it, and over the motion layers the one whose sources agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Plate as PlateConfig
from stream import sources as choosing
from stream.plate import Memory, Plate, View
from stream.sources import Box, Float, Source
from stream.types import Frame, Hole, Image, Motion

_AGREE = 14.0
_FLOOR = 1e-30


@dataclass(frozen=True, slots=True)
class Recall:
    """What was found for a box: `rgb` uint8, `seen` uint8 0 or 1, `cost` float32 disagreement in grey levels."""

    rgb: Image
    seen: NDArray[np.uint8]
    cost: Float
    sources: tuple[int, ...]


def recall(
    frame: Frame,
    hole: Hole,
    plate: Plate,
    motion: Motion,
    forbidden: frozenset[int],
    box: Box,
    config: PlateConfig,
) -> Recall | None:
    """Ask the memory what was behind the hole's pixels in `box`; None when it knows nothing."""
    view = plate.view(motion.index)
    if view is None:
        return None
    x0, y0, x1, y1 = box
    missing = (hole.alpha[y0:y1, x0:x1] > 0).astype(np.uint8)
    size = (max(1, frame.width // 8), max(1, frame.height // 8))
    small = cast(Image, cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA))
    grey = cast("NDArray[np.uint8]", cv2.cvtColor(frame.rgb[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY))
    seconds = float(frame.time)
    count = round(config.sources + 9 * (1 - plate.trust)) if plate.trust < 1 else config.sources
    chosen = choosing.choose(plate, view, seconds, frame, missing, (x0, y0), forbidden, count)
    ring = _ring(plate, view, forbidden, missing, box, frame)
    answers = []
    for near in (False, True) if _two_layers(view, chosen) else (False,):
        answer = _layer(plate, view, chosen, frame, small, grey, missing, ring, box, forbidden, near)
        if answer is not None:
            answers.append(answer)
    if not answers:
        return None
    return answers[0] if len(answers) == 1 else _merge(answers[0], answers[1], frame)


def _two_layers(view: View, chosen: Sequence[Memory]) -> bool:
    return bool(np.count_nonzero(view.motion.near) >= 8 and any(m.view.pose != view.pose for m in chosen))


def _ring(
    plate: Plate,
    view: View,
    forbidden: frozenset[int],
    missing: NDArray[np.uint8],
    box: Box,
    frame: Frame,
) -> NDArray[np.uint8]:
    """1 where the frame's own pixels can be compared with what the sources show."""
    near = max(1, round(2 * frame.height / 360))
    grown = cv2.dilate(missing, np.ones((2 * near + 1, 2 * near + 1), np.uint8))
    return cast("NDArray[np.uint8]", cv2.bitwise_xor(grown, 1))


def _layer(
    plate: Plate,
    view: View,
    chosen: Sequence[Memory],
    frame: Frame,
    small: Image,
    grey: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    ring: NDArray[np.uint8],
    box: Box,
    forbidden: frozenset[int],
    near: bool,
) -> Recall | None:
    warped: list[Source] = []
    times: list[float] = []
    for memory in chosen:
        source = choosing.warp(plate, memory, view, frame, small, missing, box, forbidden, near)
        if source is not None:
            warped.append(source)
            times.append(choosing.steps(memory.seconds, float(frame.time)))
    if not warped:
        return None
    tau = 2.0 + 16.0 * plate.trust
    errors = choosing.rim_errors(warped, grey, ring, 16 * frame.height / 360)
    weights: list[Float] = []
    for source, dt, error in zip(warped, times, errors, strict=True):
        weight = cv2.exp(cv2.multiply(error, -1 / 8.0)) * np.float32(np.exp(-dt / tau))
        weights.append(cast(Float, cv2.multiply(weight, source.weight)))
    return tally(warped, weights, grey, ring, frame.height / 360)


def tally(
    warped: Sequence[Source],
    weights: Sequence[Float],
    grey: NDArray[np.uint8],
    ring: NDArray[np.uint8],
    unit: float,
) -> Recall:
    """Per pixel: the source with most support in its surroundings, averaged with those that agree with it."""
    shape = grey.shape
    table = np.exp(-np.square(np.arange(256)) / (2 * _AGREE * _AGREE)).astype(np.float32)
    # Weights fall by many powers of ten over time; only their ratios count.
    most = weights[0].copy()
    for weight in weights[1:]:
        cv2.max(most, weight, dst=most)
    seen = (most > _FLOOR).astype(np.uint8)
    scale = 1.0 / np.maximum(most, _FLOOR)
    relative = [cast(Float, cv2.multiply(w, scale)) for w in weights]
    support = [w.copy() for w in relative]
    for i in range(len(warped)):
        for j in range(i + 1, len(warped)):
            like = cv2.LUT(cv2.absdiff(warped[i].grey, warped[j].grey), table)
            support[i] += cv2.multiply(like, relative[j])
            support[j] += cv2.multiply(like, relative[i])
    best = np.full(shape, -1.0, np.float32)
    best_grey = np.zeros(shape, np.uint8)
    for source, backing in zip(warped, support, strict=True):
        smooth = cv2.GaussianBlur(backing, (0, 0), 1.5 * max(1.0, unit))
        smooth = np.where(source.valid > 0, smooth, np.float32(-1))
        better = cv2.compare(smooth, best, cv2.CMP_GT)
        cv2.copyTo(smooth, better, best)
        cv2.copyTo(source.grey, better, best_grey)
    total = np.zeros(shape, np.float32)
    doubt = np.zeros(shape, np.float32)
    all_weight = np.zeros(shape, np.float32)
    colour = np.zeros((*shape, 3), np.float32)
    for source, weight in zip(warped, relative, strict=True):
        apart = cv2.absdiff(source.grey, best_grey)
        mine = cv2.multiply(cv2.LUT(apart, table), weight)
        total += mine
        doubt += cv2.multiply(cv2.min(apart, 40).astype(np.float32), weight)
        all_weight += weight
        r, g, b = source.gain
        colour += cv2.multiply(source.rgb, cv2.merge([mine * r, mine * g, mine * b]), dtype=cv2.CV_32F)
    rgb = colour / np.maximum(total, 1e-12)[..., None]
    cost = doubt / np.maximum(all_weight, 1e-12)
    rim = cv2.absdiff(grey, best_grey).astype(np.float32)
    cost = np.where((ring > 0) & (seen > 0), rim, cost)
    return Recall(
        cast(Image, np.clip(rgb + 0.5, 0, 255).astype(np.uint8)),
        seen,
        cast(Float, cost),
        tuple(s.index for s in warped),
    )


def _merge(far: Recall, near: Recall, frame: Frame) -> Recall:
    """Per pixel the layer whose sources agree better in its surroundings and with the rim."""
    sigma = 5 * frame.height / 360
    cost_far = cv2.GaussianBlur(np.where(far.seen > 0, far.cost, np.float32(40)), (0, 0), sigma)
    cost_near = cv2.GaussianBlur(np.where(near.seen > 0, near.cost, np.float32(40)), (0, 0), sigma)
    take = (((cost_near < cost_far) | (far.seen == 0)) & (near.seen > 0)).astype(np.float32)
    soft = cv2.GaussianBlur(take, (0, 0), 0.8)
    soft = np.where(far.seen == 0, np.float32(1), np.where(near.seen == 0, np.float32(0), soft))
    rgb = far.rgb + soft[..., None] * (near.rgb.astype(np.float32) - far.rgb)
    seen = cv2.bitwise_or(far.seen, near.seen)
    used = tuple(sorted({*far.sources, *near.sources}))
    return Recall(
        cast(Image, np.clip(rgb + 0.5, 0, 255).astype(np.uint8)), seen, np.minimum(cost_far, cost_near), used
    )
