"""What the memories say about a box: per pixel the best supported answer and those that agree with it.

The vote is held at reduced size, over all sources and motion layers; only the winners are then brought in at
full size, so every pixel of the answer has been resampled once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Plate as PlateConfig
from stream import geometry, trail
from stream import sources as choosing
from stream.arrays import Bytes, Float, f32, u8
from stream.assembly import assemble
from stream.background import Background
from stream.boxes import Box
from stream.near_layer import UNKNOWN
from stream.plate import Memory, Plate, vote_size
from stream.pose import View
from stream.sources import Area, Glimmer, Pool, Source
from stream.standing import Vote, stand
from stream.types import Frame, Hole, Image, Motion

_AGREE = 14.0
_DEEP = 0.3
"""Trust below which no homography serves: only followed pixels do."""

_DEEP_IN_TWO = 0.01
"""The same where two homographies are known, and which pixel goes with which."""

_FLAT = 0.8
"""Trust from which homographies alone serve: they are exact where the scene is flat."""

_DOUBT = 5.0
_FOLLOWED_COST = 3.0
_FOLLOWED = 12 / 7
"""Frames into which pixels are followed, for each that is looked at otherwise."""

_MORE = 9 / 7
"""So many times more frames are looked at where homographies are not to be trusted at all."""

_FLOOR = 1e-30
_LIKE = np.exp(-np.square(np.arange(256)) / (2 * _AGREE * _AGREE)).astype(np.float32)

_TOLD = np.clip((np.arange(256) - float(UNKNOWN)) / 8.0, -1, 1).astype(np.float32)
_OWN = tuple(
    (0.002 + 1 / (1 + np.exp(side * (np.arange(256) - float(UNKNOWN)) / 3.0))).astype(np.float32)
    for side in (1, -1)
)
"""The weight of a source's pixels in the far and in the near layer, by what speaks for near there."""

_PULL = 8.0
"""Grey levels of disagreement that are made up for by sources showing the near layer, or the far one."""

_STRANGE = 40.0
"""Grey levels by which, around the hole, a homography of a deep scene may miss the frame."""

_SURE = 2
_UNUSUAL = (0.02 + 0.98 * np.exp(-np.square(np.arange(256) / 20.0))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Recall:
    """What was found for a box of the frame: `rgb` uint8, `seen` uint8 0 or 1, which memories served.

    `astray`: float32, pixels by which what is shown may be misplaced; None when nothing was followed. Where
    it is above 0 though `seen` is 0, `rgb` shows what lies there roughly. `vote`: by which that was decided,
    if the next frames may go by it too.
    """

    rgb: Image
    seen: NDArray[np.uint8]
    sources: tuple[int, ...]
    astray: Float | None = None
    vote: Vote | None = None


@dataclass(frozen=True, slots=True)
class Ballot:
    """The outcome for one layer, all at reduced size.

    `weights`: float32 share of each source; `seen` 0 or 1; `answer`: grey of the best supported source.
    `near`: whether it is of the near layer, None where layers are not told apart. `told`: float32, -1 to 1,
    how far sources show the near layer where a pixel that is near would be.
    """

    sources: tuple[Source, ...]
    weights: tuple[Float, ...]
    seen: NDArray[np.uint8]
    answer: NDArray[np.uint8]
    near: bool | None = None
    told: Float | None = None


def recall(
    frame: Frame,
    hole: Hole,
    plate: Plate,
    motion: Motion,
    forbidden: frozenset[int],
    asked: Sequence[tuple[Box, Bytes]],
    config: PlateConfig,
    scene: Background | None = None,
) -> Iterator[Recall | None]:
    """Ask the memory what was behind pixels of the hole; for each box, None when it knows nothing.

    `asked`: boxes of the frame, each with its pixels that are missing (uint8 0 or 1). `scene`: what the
    background looks like at other times; sources that contradict it show a passer-by.
    """
    view = plate.view(motion.index)
    current = plate.memory(motion.index)
    if view is None or current is None or not asked:
        return
    among = cache(lambda: choosing.pool(plate, view, forbidden))
    for box, missing in asked:
        yield _recall(frame, hole, plate, view, current, forbidden, among, box, missing, config, scene)


def _recall(
    frame: Frame,
    hole: Hole,
    plate: Plate,
    view: View,
    current: Memory,
    forbidden: frozenset[int],
    among: Callable[[], Pool],
    box: Box,
    missing: Bytes,
    config: PlateConfig,
    scene: Background | None,
) -> Recall | None:
    """`recall` for one box."""
    x0, y0, _, y1 = box
    area = area_of(box, frame)
    unit = area.size[1] / max(1, y1 - y0) * frame.height / 360
    ring = _ring(hole, box, area, unit)
    grey = current.grey[area.window]
    usual = None
    if scene is not None and scene.calm:
        grey_scene = u8(cv2.cvtColor(scene.rgb[area.window], cv2.COLOR_RGB2GRAY))
        usual = grey_scene, u8(scene.sure[area.window] * np.uint8(255))
    needed = u8(cv2.resize(missing * np.uint8(255), area.size, interpolation=cv2.INTER_AREA))
    needed = u8(cv2.dilate((needed > 0).astype(np.uint8), np.ones((3, 3), np.uint8)))
    stood = stand(plate, view, current, frame, area, needed, forbidden, among())
    if stood is not None:
        last, carried = stood
        return Recall(*assemble(plate, carried, missing, view, box, forbidden), vote=last)
    candidates: list[tuple[list[Source], bool | None]] = []
    glimmer = None
    two_layers = bool(np.count_nonzero(view.motion.near) >= 8)
    trust = plate.trust if two_layers else trail.trust(plate, view)
    deep = _DEEP_IN_TWO if two_layers else _DEEP
    if view.parallax is not None and (trust < deep or (trust < _FLAT and not two_layers)):
        most = max(3, round(_FOLLOWED * config.sources))
        followed, glimmer = choosing.follow(plate, view, current, area, needed, forbidden, most)
        candidates.append((followed, None))
    # Where nothing can be followed, a homography that fits around the hole is better than nothing.
    if trust >= deep or not any(sources for sources, _ in candidates):
        count = round(config.sources * (1 + _MORE * (1 - plate.trust)))
        chosen = choosing.choose(plate, among(), float(frame.time), frame, missing, (x0, y0), count)
        moved = any(m.view.pose != view.pose for m in chosen)
        for near in (False, True) if two_layers and moved else (False,):
            shown = choosing.glimpses(plate, among(), chosen, view, frame, current, area, forbidden, near)
            if trust < deep:
                shown = [source for source in shown if _fits(source, grey, ring)]
            candidates.append((shown, near if two_layers and moved else None))
    rings = {near: _of_layer(ring, view, area, near) for _, near in candidates}
    ballots = [
        _ballot(kept, plate.trust, float(frame.time), grey, rings[near], unit, usual, near)
        for kept, near in candidates
        if kept
    ]
    if len(ballots) > 1:
        ballots = _split(ballots, grey, ring, unit)
    shares = [pair for b in ballots for pair in zip(b.sources, b.weights, strict=True)]
    if not shares and (glimmer is None or not np.isfinite(glimmer.doubt).any()):
        return None
    rgb, seen, used = assemble(plate, shares, missing, view, box, forbidden)
    astray = None if glimmer is None else _astray(shares, glimmer, rgb, seen, missing)
    return Recall(rgb, seen, used, astray, _held(ballots, view, area, forbidden))


def _astray(
    shares: Sequence[tuple[Source, Float]], glimmer: Glimmer, rgb: Image, seen: Bytes, missing: Bytes
) -> Float:
    """How far off what a box shows may be, pixels; `rgb` gets what is roughly there where it is unseen."""
    doubt, total = np.zeros(glimmer.doubt.shape, np.float32), np.full(glimmer.doubt.shape, 1e-6, np.float32)
    for source, weight in shares:
        total += weight
        if source.doubt is not None:
            doubt += source.doubt * weight
    size = missing.shape[1], missing.shape[0]
    scale = missing.shape[1] / glimmer.doubt.shape[1]
    off = f32(cv2.resize(doubt / total, size, interpolation=cv2.INTER_LINEAR)) * seen
    rough = (missing > seen) & (cv2.resize(glimmer.doubt, size, interpolation=cv2.INTER_NEAREST) < np.inf)
    if rough.any():
        finite = np.where(glimmer.doubt < np.inf, glimmer.doubt, np.float32(0))
        rgb[rough] = u8(cv2.resize(glimmer.rgb, size, interpolation=cv2.INTER_LINEAR))[rough]
        off[rough] = f32(cv2.resize(finite, size, interpolation=cv2.INTER_NEAREST))[rough]
    return f32(off * np.float32(scale))


def _held(ballots: Sequence[Ballot], view: View, area: Area, forbidden: frozenset[int]) -> Vote | None:
    """A vote for the next frames to go by; None where pixels were followed or lie in one of two layers.

    There each moves in its own way, and which pixel goes which way is asked anew in every frame.
    """
    if len(ballots) != 1:
        return None
    (first,) = ballots
    if first.near is not None or any(source.place is not None for source in first.sources):
        return None
    served = tuple(source.memory.index for source in first.sources)
    return Vote(view.index, area.of_frame, served, first.weights, first.seen, forbidden)


def area_of(box: Box, frame: Frame) -> Area:
    """The reduced picture of a box, on the grid of the reduced frame."""
    width, height = vote_size(frame.width, frame.height)
    to_reduced = geometry.scaling(width / frame.width, height / frame.height)
    x0, y0 = box[0] * width // frame.width, box[1] * height // frame.height
    x1, y1 = -(-box[2] * width // frame.width), -(-box[3] * height // frame.height)
    return Area(geometry.shifting(-x0, -y0) @ to_reduced, (x1 - x0, y1 - y0), (slice(y0, y1), slice(x0, x1)))


def _ring(hole: Hole, box: Box, area: Area, unit: float) -> NDArray[np.uint8]:
    """1 where the frame's own pixels, clear of the hole, can be compared with what the sources show."""
    x0, y0, x1, y1 = box
    hidden = cv2.resize(hole.alpha[y0:y1, x0:x1], area.size, interpolation=cv2.INTER_AREA)
    r = max(1, round(2 * unit))
    hidden = cv2.dilate((hidden > 0).astype(np.uint8), np.ones((2 * r + 1, 2 * r + 1), np.uint8))
    return u8(np.uint8(1) - hidden)


def _fits(source: Source, grey: Bytes, ring: Bytes) -> bool:
    """Whether a source shows about the same as the frame around the hole."""
    apart = cv2.absdiff(grey, source.grey)[cv2.bitwise_and(ring, source.valid) > 0]
    # The median: where others pass beside the hole, much of its surroundings is theirs.
    return len(apart) > 0 and float(np.median(apart)) < _STRANGE


def _of_layer(ring: Bytes, view: View, area: Area, near: bool | None) -> Bytes:
    """The part of a ring that may belong to a layer: nothing there can miss the other one."""
    if near is None or view.near is None:
        return ring
    low, high = (UNKNOWN - _SURE, 255) if near else (0, UNKNOWN + _SURE)
    return u8(cv2.bitwise_and(ring, cv2.inRange(view.near[area.window], low, high)))


def _ballot(
    sources: Sequence[Source],
    trust: float,
    seconds: float,
    grey: NDArray[np.uint8],
    ring: NDArray[np.uint8],
    unit: float,
    usual: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None,
    near: bool | None,
) -> Ballot:
    """Weigh sources by nearness in time, agreement at the rim and with what is usual there, then vote."""
    tau = 2.0 + 16.0 * trust
    weights: list[Float] = []
    told, everyone = np.zeros(grey.shape, np.float32), np.full(grey.shape, _FLOOR, np.float32)
    for source in sources:
        error = choosing.rim_error(source, grey, ring, 16 * unit)
        nearness = np.exp(-choosing.steps(source.memory.seconds, seconds) / tau)
        weight = cv2.exp(error * np.float32(-1 / 8))
        if source.doubt is not None:
            # How far off a followed pixel may be says more than how long ago it was seen.
            nearness = 1.0
            weight = cv2.multiply(weight, cv2.exp(source.doubt * np.float32(-_DOUBT)))
        if usual is not None:
            apart = cv2.bitwise_and(cv2.absdiff(source.grey, usual[0]), usual[1])
            weight = cv2.multiply(weight, cv2.LUT(apart, _UNUSUAL))
        weight = f32(cv2.multiply(weight, source.valid, scale=float(nearness), dtype=cv2.CV_32F))
        if near is not None and source.near is not None:
            if near:
                told += f32(cv2.multiply(cv2.LUT(source.near, _TOLD), weight))
                everyone += weight
            # What is seen of the other layer is not what lies here.
            weight = f32(cv2.multiply(weight, cv2.LUT(source.near, _OWN[near])))
        weights.append(weight)
    ballot = tally(sources, weights, unit)
    return replace(ballot, near=near, told=f32(told / everyone) if near else None)


def tally(
    sources: Sequence[Source],
    weights: Sequence[Float],
    unit: float,
) -> Ballot:
    """Per pixel: the source with most support around it, and the share of each that agrees with it."""
    # Weights fall by many powers of ten over time; only their ratios count.
    most = weights[0].copy()
    for weight in weights[1:]:
        cv2.max(most, weight, dst=most)
    seen = (most > _FLOOR).astype(np.uint8)
    scale = np.float32(1.0) / np.maximum(most, np.float32(_FLOOR))
    relative = [f32(cv2.multiply(w, scale)) for w in weights]
    support = [w.copy() for w in relative]
    for i in range(len(sources)):
        for j in range(i + 1, len(sources)):
            like = cv2.LUT(cv2.absdiff(sources[i].grey, sources[j].grey), _LIKE)
            support[i] += cv2.multiply(like, relative[j])
            support[j] += cv2.multiply(like, relative[i])
    best = np.full(most.shape, -1.0, np.float32)
    answer = np.zeros(most.shape, np.uint8)
    for source, backing in zip(sources, support, strict=True):
        smooth = cv2.GaussianBlur(backing, (0, 0), max(0.8, 1.5 * unit))
        better = cv2.bitwise_and(cv2.compare(smooth, best, cv2.CMP_GT), source.valid * np.uint8(255))
        cv2.copyTo(smooth, better, best)
        cv2.copyTo(source.grey, better, answer)
    shares: list[Float] = []
    total = np.full(most.shape, 1e-12, np.float32)
    for source, weight in zip(sources, relative, strict=True):
        mine = cv2.multiply(cv2.LUT(cv2.absdiff(source.grey, answer), _LIKE), weight)
        shares.append(f32(mine))
        total += mine
    for share in shares:
        share /= total
    return Ballot(tuple(sources), tuple(shares), seen, answer)


def _cost(ballot: Ballot, grey: NDArray[np.uint8], ring: NDArray[np.uint8]) -> Float:
    """How far the sources, and at the rim the frame itself, disagree with the answer, grey levels."""
    apart = np.zeros(grey.shape, np.float32)
    everyone = np.full(grey.shape, 1e-6, np.float32)
    for source in ballot.sources:
        # Not the votes' own weights: one vote that outweighs the others would agree with itself.
        doubt = np.float32(0) if source.doubt is None else source.doubt
        weight = source.valid * np.float32(1) / (1 + doubt)
        apart += np.minimum(cv2.absdiff(source.grey, ballot.answer), 40) * weight
        everyone += weight
    cost = np.where((ring > 0) & (ballot.seen > 0), cv2.absdiff(grey, ballot.answer), apart / everyone)
    # A homography is the finer tool where both agree.
    return f32(cost.astype(np.float32) + _FOLLOWED_COST * (ballot.sources[0].place is not None))


def _split(
    ballots: Sequence[Ballot], grey: NDArray[np.uint8], ring: NDArray[np.uint8], unit: float
) -> list[Ballot]:
    """Give each pixel to the ballot whose sources agree best in its surroundings and with the rim."""
    told = next((ballot.told for ballot in ballots if ballot.told is not None), None)
    costs = []
    for ballot in ballots:
        cost = cv2.GaussianBlur(_cost(ballot, grey, ring), (0, 0), 5 * unit)
        if told is not None and ballot.near is not None:
            cost = cost + told * np.float32(-_PULL if ballot.near else _PULL)
        costs.append(cost + np.float32(1000) * (1 - ballot.seen))
    best = np.argmin(costs, 0)
    out = []
    for k, ballot in enumerate(ballots):
        mine = (best == k).astype(np.float32)
        weights = tuple(f32(cv2.multiply(w, mine)) for w in ballot.weights)
        out.append(
            Ballot(ballot.sources, weights, u8((mine > 0).astype(np.uint8) & ballot.seen), ballot.answer)
        )
    return out
