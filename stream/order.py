"""Which of two touching things is in front: cues added up over time, and a total order without cycles.

Each cue says by how much a thing looks nearer than the other one; their weighted sum is the log-odds of a
frame, and a pair's log-odds are carried along its life, so that the order changes only on contrary evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import u8
from stream.boxes import Box
from stream.regions import bounds
from stream.types import Mask, Track

CUES = ("place", "size", "pocket", "junction", "shrink", "changed", "lost", "network")
"""What is looked at, in the order of `WEIGHTS`; `cues` says what each is."""

WEIGHTS = np.array([2.5, 0.1, 2.0, 3.0, 6.0, 8.0, 4.0, 0.5])
"""Log-odds per unit of each cue.

Those of outlines and of the network are near what is fitted (`benchmarks.deocclusion --fit`); that of the
place is set for things that stand on one ground, which pictures put together at random do not know; those of
time are set by clips.
"""

_MEMORY = 0.9
_MOST = 8.0
_NEAR = 2
_LEAST = 4
_SURE = 3.0
_ASK_AGAIN = 6
_CURVE = 4

Judge = Callable[[Track, Track], float]
"""Log-odds that a network sees for the first thing being hidden in part by the second."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two things that touch: `front` covers `back` or could; `odds` > 0 are the log-odds of that."""

    front: int
    back: int
    odds: float


@dataclass(frozen=True)
class Order:
    """The things of one frame from front to back, and the pairs that touch."""

    ids: tuple[int, ...] = ()
    pairs: tuple[Pair, ...] = ()

    def in_front(self, first: int, second: int) -> bool:
        """Whether `first` is nearer than `second`; KeyError when one of them is not in the frame."""
        for each in (first, second):
            if each not in self.ids:
                raise KeyError(f"track {each} is not in this frame")
        return self.ids.index(first) < self.ids.index(second)

    def covering(self, thing: int) -> tuple[int, ...]:
        """The things that touch this one and are in front of it."""
        return tuple(p.front for p in self.pairs if p.back == thing)

    def touching(self, thing: int) -> frozenset[int]:
        """The things that touch this one."""
        return frozenset(
            {each for p in self.pairs if thing in (p.front, p.back) for each in (p.front, p.back)} - {thing}
        )


@dataclass(frozen=True)
class Past:
    """What is known of one pair: the log-odds that the lower id is in front, and when a network was asked.

    `frames`: for how many they touch; `network`: what it said last; `age`: frames since; `asked`: how often
    it was asked.
    """

    odds: float
    frames: int = 1
    network: float = 0.0
    age: int = 0
    asked: int = 0


@dataclass(frozen=True)
class Outline:
    """A thing's part of the picture: bounds and the mask inside them, at working resolution."""

    box: Box
    mask: Mask
    area: float


@dataclass(frozen=True)
class OrderState:
    """What must be known of the past: pairs, the last outlines, areas from when nothing touched a thing."""

    pairs: Mapping[tuple[int, int], Past] = field(default_factory=dict)
    last: Mapping[int, Outline] = field(default_factory=dict)
    whole: Mapping[int, float] = field(default_factory=dict)


def initial() -> OrderState:
    """The state before the first frame of a shot."""
    return OrderState()


def step(
    state: OrderState, tracks: Sequence[Track], height: int, network: Judge | None = None
) -> tuple[Order, OrderState]:
    """Order the things of a frame from front to back.

    `height` of the frame in pixels, that of the tracks' boxes. `network` is asked for pairs that are new, or
    in doubt, and then again now and then. A pair that does not touch is ordered by where the things stand.
    """
    outlines = {each.id: found for each in tracks if (found := outline(each.instance.mask)) is not None}
    things = [each for each in tracks if each.id in outlines]
    pairs: dict[tuple[int, int], Past] = {}
    for number, first in enumerate(things):
        for second in things[number + 1 :]:
            low, high = sorted((first, second), key=lambda each: each.id)
            if touch(outlines[low.id], outlines[high.id]):
                key = low.id, high.id
                pairs[key] = _weigh(state, state.pairs.get(key), low, high, outlines, height, network)
    shown = tuple(
        Pair(*(key if past.odds >= 0 else key[::-1]), abs(past.odds)) for key, past in sorted(pairs.items())
    )
    touched = {each for key in pairs for each in key}
    whole = {
        each.id: outlines[each.id].area
        if each.id not in touched
        else max(outlines[each.id].area, state.whole.get(each.id, 0.0) * 0.995)
        for each in things
    }
    ids = _sorted({each.id: _foot(each, height) for each in things}, shown)
    kept = {pair for pair in shown if ids.index(pair.front) < ids.index(pair.back)}
    shown = tuple(
        pair if pair in kept else Pair(pair.back, pair.front, pair.odds) for pair in shown
    )  # the weakest pair of a cycle is turned round, so that the pairs agree with the order
    return Order(ids, shown), OrderState(pairs, outlines, whole)


def order_still(tracks: Sequence[Track], height: int, network: Judge | None = None) -> Order:
    """Order the things of one picture, of which nothing earlier is known."""
    return step(initial(), tracks, height, network)[0]


def outline(mask: Mask) -> Outline | None:
    """Bounds, mask and area of a thing; None when its mask is empty."""
    box = bounds(mask)
    if box is None:
        return None
    inside = mask[box[1] : box[3], box[0] : box[2]]
    return Outline(box, inside, float(np.count_nonzero(inside)))


def touch(first: Outline, second: Outline, reach: int = _NEAR) -> bool:
    """Whether two masks come within 2 x `reach` pixels of each other along a few pixels."""
    window = _window(first, second, 2 * reach + 1, union=False)
    if window is None:
        return False
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    a, b = (cv2.dilate(_cut(each, window), kernel) for each in (first, second))
    return cv2.countNonZero(cv2.bitwise_and(a, b)) >= _LEAST


def cues(
    first: Track,
    second: Track,
    outlines: tuple[Outline, Outline],
    past: tuple[Outline | None, Outline | None],
    whole: tuple[float, float],
    height: int,
) -> NDArray[np.float64]:
    """How much nearer `first` looks than `second` by each of `CUES` but the network; float64 (7,).

    place: where they touch the ground, in heights of the larger one; size: logarithm of the areas' ratio,
    of things of one class; pocket: share of the other's dents that this one fills; junction: where their
    common border ends this one goes on straight and the other ends in a corner; shrink: the other lost area
    since nothing touched it; changed: the other's area changed since the last frame; lost: the other is not
    seen where this one is.
    """
    a, b = outlines
    tall = max(first.instance.box[3] - first.instance.box[1], second.instance.box[3] - second.instance.box[1])
    place = np.clip((_foot(first, height) - _foot(second, height)) / max(tall, 1.0), -0.5, 0.5)
    size = np.clip(np.log(a.area / b.area), -2, 2) if first.label == second.label else 0.0
    window = _window(a, b, 4, union=True)
    assert window is not None
    mine, its = _cut(a, window), _cut(b, window)
    least = min(a.area, b.area)
    pocket = (_pocket(its, mine) - _pocket(mine, its)) / least
    junction = _junction(mine, its)
    shrink = _shrunk(b, whole[1]) - _shrunk(a, whole[0])
    changed = _changed(b, past[1]) - _changed(a, past[0])
    lost = float(second.missed) - float(first.missed)
    return np.array(
        [
            place,
            size,
            np.clip(pocket, -0.5, 0.5),
            junction,
            np.clip(shrink, -0.5, 0.5),
            np.clip(changed, -0.5, 0.5),
            lost,
        ]
    )


def _weigh(
    state: OrderState,
    past: Past | None,
    low: Track,
    high: Track,
    outlines: Mapping[int, Outline],
    height: int,
    network: Judge | None,
) -> Past:
    """The pair's log-odds with this frame's evidence."""
    seen = cues(
        low,
        high,
        (outlines[low.id], outlines[high.id]),
        (state.last.get(low.id), state.last.get(high.id)),
        (state.whole.get(low.id, 0.0), state.whole.get(high.id, 0.0)),
        height,
    )
    said, age, asked = (past.network, past.age + 1, past.asked) if past is not None else (0.0, 0, 0)
    # Two that have just met show little of who hides whom: the network is soon asked again, then less often.
    waits = min(_ASK_AGAIN, 1 + 2 * asked) if past is None or abs(past.odds) < _SURE else 8 * _ASK_AGAIN
    if network is not None and (past is None or age >= waits) and not (low.missed or high.missed):
        said, age, asked = float(np.clip(network(high, low) - network(low, high), -8, 8)), 1, asked + 1
    now = float(seen @ WEIGHTS[:-1] + WEIGHTS[-1] * said)
    if past is None:
        return Past(float(np.clip(now, -_MOST, _MOST)), 1, said, age, asked)
    # The mean of all frames at first, since two that have just met show little; then what lasts adds up
    # slowly: the cues of two neighbouring frames are nearly the same.
    frames = past.frames + 1
    odds = past.odds + max(1 - _MEMORY, 1 / frames) * (1.5 * now - past.odds)
    return Past(float(np.clip(odds, -_MOST, _MOST)), frames, said, age, asked)


def _sorted(nearness: Mapping[int, float], pairs: Sequence[Pair]) -> tuple[int, ...]:
    """Ids from front to back: no thing before one that covers it, the nearest first where that is free.

    Where things cover each other in a ring the weakest pair among those left is given up.
    """
    left, open_pairs = dict(nearness), list(pairs)
    out: list[int] = []
    while left:
        behind = {pair.back for pair in open_pairs}
        free = [each for each in left if each not in behind]
        if not free:
            ring = _ring(open_pairs)
            open_pairs.remove(min(ring, key=lambda pair: pair.odds))
            continue
        chosen = max(free, key=lambda each: (left[each], -each))
        out.append(chosen)
        del left[chosen]
        open_pairs = [pair for pair in open_pairs if pair.front != chosen]
    return tuple(out)


def _ring(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of one cycle, where every thing has another in front of it."""
    over = {pair.back: pair for pair in pairs}
    way: list[Pair] = []
    at = pairs[0].back
    while at not in {pair.back for pair in way}:
        way.append(over[at])
        at = over[at].front
    return way[next(k for k, pair in enumerate(way) if pair.back == at) :]


def _foot(track: Track, height: int) -> float:
    """Where the thing stands, pixels from the top; one that the frame cuts off stands below the frame."""
    _, y0, _, y1 = track.instance.box
    return y1 if y1 < height - 2 else height + 0.25 * (y1 - y0)


def _window(first: Outline, second: Outline, margin: int, *, union: bool) -> Box | None:
    """The box where both are, or either is, with a margin; None when they are apart."""
    a, b = first.box, second.box
    least, most = (min, max) if union else (max, min)
    x0, y0 = least(a[0], b[0]) - margin, least(a[1], b[1]) - margin
    x1, y1 = most(a[2], b[2]) + margin, most(a[3], b[3]) + margin
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _cut(thing: Outline, window: Box) -> NDArray[np.uint8]:
    """A thing's mask inside a window, uint8 0 or 1; zeros where the window reaches beyond it."""
    out = np.zeros((window[3] - window[1], window[2] - window[0]), np.uint8)
    x0, y0 = max(thing.box[0], window[0]), max(thing.box[1], window[1])
    x1, y1 = min(thing.box[2], window[2]), min(thing.box[3], window[3])
    if x0 < x1 and y0 < y1:
        part = thing.mask[y0 - thing.box[1] : y1 - thing.box[1], x0 - thing.box[0] : x1 - thing.box[0]]
        out[y0 - window[1] : y1 - window[1], x0 - window[0] : x1 - window[0]] = part
    return out


def _pocket(dented: NDArray[np.uint8], filling: NDArray[np.uint8]) -> int:
    """Pixels between a mask and its convex hull that another mask fills."""
    points = cv2.findNonZero(dented)
    hull = np.zeros_like(dented)
    if points is not None:
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return cv2.countNonZero(hull & (1 - dented) & filling)


def _junction(mine: NDArray[np.uint8], its: NDArray[np.uint8]) -> float:
    """How much more of this one than of the other lies around their common border, -0.5..0.5."""
    kernel = np.ones((5, 5), np.uint8)
    place = (u8(cv2.dilate(mine, kernel)) & u8(cv2.dilate(its, kernel))) > 0
    if not place.any():
        return 0.0
    size = 2 * _CURVE + 1, 2 * _CURVE + 1
    around = [cv2.blur(each.astype(np.float32), size)[place].mean() for each in (mine, its)]
    # Two outlines that just meet say nothing yet. The border was made five pixels wide.
    length = np.count_nonzero(place) / 5
    grip = min(1.0, length / (0.8 * np.sqrt(min(cv2.countNonZero(mine), cv2.countNonZero(its)))))
    return float(grip * np.clip(around[0] - around[1], -0.5, 0.5))


def _changed(thing: Outline, past: Outline | None) -> float:
    """By how much the area is another one than a frame ago: what is in front keeps its own."""
    return abs(float(np.log(thing.area / past.area))) if past is not None else 0.0


def _shrunk(thing: Outline, whole: float) -> float:
    """Share of the area that a thing had when nothing touched it and has no more."""
    return max(0.0, 1 - thing.area / whole) if whole > 0 else 0.0
