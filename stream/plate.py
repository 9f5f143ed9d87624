"""The memory of a shot: original frames, what covered them, and what is known of the background.

Pixels are kept once, as they came, and resampled once, when a hole asks for them. Which things may not serve
as background is decided at that moment, from the label maps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Plate as PlateConfig
from stream import geometry, limits, near_layer, parallax, pose
from stream.arrays import u8
from stream.boxes import Box
from stream.geometry import Homography
from stream.limits import Limits
from stream.parallax import Parallax, ParallaxState
from stream.pose import View
from stream.shrink import shrink
from stream.types import Frame, Image, Mask, Motion

if TYPE_CHECKING:
    from stream.background import Background
    from stream.standing import Vote
    from stream.still import Still
    from stream.surround import Difference

Labels = NDArray[np.uint16]
"""h x w at working resolution: 0 where there is nothing, else the id of the track that covers the pixel."""

_BEFORE = 16
_FLAT = 0.95
_LAYERED = 0.5
"""Trust from which dense motion is not even measured: of one homography, and of two."""

_UNTOLD = 12
_LATE = 12
"""Frames that are told of a second layer when it is found."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One remembered frame, as the decoder's planes: half of what RGB takes, and they are there already.

    `small` is the frame averaged over 8 x 8 pixels, uint8 RGB; `half` and `grey` the frame at the size at
    which sources are compared (`vote_size`), uint8. `masked`: uint8 like `labels`, 1 where the
    user's own mask says that the background cannot be seen; None without one. `things`: all of both at the
    size of `grey`, uint8 0 or 1. `ids`: the tracks of `labels`.
    """

    view: View
    frame: Frame
    labels: Labels
    masked: NDArray[np.uint8] | None
    small: Image
    half: Image
    grey: NDArray[np.uint8]
    things: NDArray[np.uint8]
    ids: frozenset[int]

    @property
    def index(self) -> int:
        return self.view.index

    @property
    def seconds(self) -> float:
        return self.view.seconds


def _index(memory: Memory) -> int:
    return memory.view.motion.index


@dataclass(frozen=True, slots=True)
class Paint:
    """What was invented in the last filled frame, to be carried on with the camera.

    `rgb` uint8 and `weight` float32 cover `box` (x0, y0, x1, y1) of frame `index`; weight 1 = invented now,
    falling while what has been seen replaces it. `parts`: the bounds of its pieces, in pixels of the frame.
    """

    index: int
    box: tuple[int, int, int, int]
    rgb: Image
    weight: NDArray[np.float32]
    parts: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True)
class Plate:
    """What has been seen in a shot. `observe` gives the next one.

    The dictionaries and `still` alone are shared and change. `limits`: what one picture may cost.
    `look_ahead`: seconds by which observing runs ahead of filling. `trust` in [0, 1]: how far memories from
    long ago can be aligned; low in deep scenes. `paint` and `used` (indices of the frames that served last)
    are what the fill hands on from frame to frame. `shaded` and `mirrored` in [0, 1]: how constantly a shadow
    and a mirror image have gone with what is removed. `depth`: the last frame of the dense motion; `returns`:
    the same carried back from later frames, by index; `still`: what is behind while the camera rests;
    `votes`: those that may still stand.
    """

    config: PlateConfig
    limits: Limits
    look_ahead: float
    budget: int
    memories: tuple[Memory, ...] = ()
    views: tuple[View, ...] = ()
    trust: float = 1.0
    paint: Paint | None = None
    used: tuple[int, ...] = ()
    depth: ParallaxState | None = None
    still: Still | None = None
    votes: tuple[Vote, ...] = ()
    shaded: float = 0.6
    mirrored: float = 0.4
    returns: dict[int, Parallax] = field(default_factory=dict)
    covers: dict[tuple[int, frozenset[int], str], NDArray[np.uint8]] = field(default_factory=dict)
    parts: dict[tuple[int, int], tuple[Box, NDArray[np.uint8]]] = field(default_factory=dict)
    differences: dict[int, Difference] = field(default_factory=dict)
    backgrounds: dict[int, Background] = field(default_factory=dict)

    def view(self, index: int) -> View | None:
        """How the camera stood in frame `index`, None when it was not observed in this shot."""
        if not self.views:
            return None
        at = index - self.views[0].index
        if 0 <= at < len(self.views) and self.views[at].index == index:
            return self.views[at]
        return next((v for v in self.views if v.index == index), None)

    def memory(self, index: int) -> Memory | None:
        """The remembered frame `index`, None when it has been forgotten."""
        at = bisect_left(self.memories, index, key=_index)
        return self.memories[at] if at < len(self.memories) and self.memories[at].index == index else None


def initial(config: PlateConfig, look_ahead: float = 0.0, budget: int = 512 << 20) -> Plate:
    """Build an empty memory for a shot. `budget`: bytes of pixels remembered at most."""
    return Plate(config, limits.limits_of(config), look_ahead, budget)


def configured(plate: Plate, config: PlateConfig, look_ahead: float) -> Plate:
    """The plate under other settings, with all that is remembered."""
    return replace(plate, config=config, limits=limits.limits_of(config), look_ahead=look_ahead)


def observe(plate: Plate, frame: Frame, motion: Motion, labels: Labels, mask: Mask | None = None) -> Plate:
    """Remember `frame`. Frames come in order; those of another shot need a new plate.

    `labels`: uint16 at any resolution, the things of the frame by track id. `mask`: bool H x W, what the user
    says is never background.
    """
    seconds = float(frame.time)
    last = plate.views[-1] if plate.views else None
    view = pose.following(last, motion, seconds)
    memory = _memory(view, frame, labels, mask, plate)
    trust = pose.trust_of(motion.confidence)
    if last is not None and trust > 0 and np.count_nonzero(motion.near) >= 8:
        plate, memory = _with_layers(plate, memory)
        view = memory.view
    depth = None
    # How deep a scene is shows only after some frames; until then it may be.
    enough = _LAYERED if np.count_nonzero(motion.near) >= 8 else _FLAT
    if not motion.static and (trust < enough or len(plate.views) < _UNTOLD):
        view, depth = _with_parallax(view, plate.depth, memory.grey, memory.things, frame)
        memory = replace(memory, view=view)
    memories = _thin((*plate.memories, memory), plate)
    kept = {m.index for m in memories}
    for key in [k for k in plate.covers if k[0] not in kept]:
        del plate.covers[key]
    for one in [k for k in plate.parts if k[0] not in kept]:
        del plate.parts[one]
    for known in (plate.differences, plate.backgrounds):
        for index in [k for k in known if k not in kept]:
            del known[index]
    views = _recent((*plate.views, view), seconds - plate.look_ahead - plate.config.window_seconds)
    return replace(plate, memories=memories, views=views, trust=trust, depth=depth)


def with_own(plate: Plate, frame: Frame, labels: Labels, mask: Mask | None = None) -> Plate:
    """The plate with the memory of `frame` itself, made anew when there was no room to keep it until now.

    What is to be filled is compared with what is remembered, so it must be remembered too.
    """
    view = plate.view(frame.index)
    if view is None or plate.memory(frame.index) is not None:
        return plate
    own = _memory(view, frame, labels, mask, plate)
    others = tuple(each for each in _thin(_with(plate.memories, own), plate) if each is not own)
    return replace(plate, memories=_with(others, own))


def _with(memories: tuple[Memory, ...], own: Memory) -> tuple[Memory, ...]:
    return tuple(sorted((*memories, own), key=lambda each: each.index))


def _memory(view: View, frame: Frame, labels: Labels, mask: Mask | None, plate: Plate) -> Memory:
    small = shrink(frame, (max(1, frame.width // 8), max(1, frame.height // 8)))
    masked = None if mask is None else shrunk(mask, labels.shape)
    half = shrink(frame, vote_size(frame.width, frame.height))
    grey = u8(cv2.cvtColor(half, cv2.COLOR_RGB2GRAY))
    things = shrunk(labels > 0, grey.shape)
    if masked is not None:
        things |= shrunk(masked > 0, grey.shape)
    ids = frozenset(np.flatnonzero(np.bincount(labels[labels > 0])).tolist())
    # Where nothing waits, no picture may be late: the RGB stands for the planes.
    held = replace(frame) if plate.look_ahead else replace(frame, planes=(frame.rgb,), format="rgb24")
    return Memory(view, held, labels, masked, u8(small), u8(half), grey, things, ids)


def _recent(views: tuple[View, ...], since: float) -> tuple[View, ...]:
    """The views from `since` (seconds) on, and a few before them, without their dense motion.

    Pixels are followed no farther; what is remembered from before has its view with it.
    """
    first = next(v.index for v in views if v.seconds >= since)
    return tuple(
        v if v.parallax is None or v.index >= first else replace(v, parallax=None)
        for v in views
        if v.index >= first - _BEFORE
    )


def _with_parallax(
    view: View,
    last: ParallaxState | None,
    grey: NDArray[np.uint8],
    things: NDArray[np.uint8],
    frame: Frame,
) -> tuple[View, ParallaxState | None]:
    """The view with its dense motion, and what must be known of it for the next frame."""
    r = max(2, round(3 * grey.shape[0] / 180))
    hidden = u8(cv2.dilate(things, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))))
    if last is None or view.motion.cut or last.grey.shape != grey.shape:
        first, depth = parallax.begin(grey, hidden)
        return replace(view, parallax=first), depth
    to_reduced = scale_to(grey.shape, frame.width, frame.height)
    move = to_reduced @ view.motion.homographies[0] @ geometry.inverse(to_reduced)
    found, depth = parallax.step(last, grey, hidden, move)
    return replace(view, parallax=found), depth


def _with_layers(plate: Plate, memory: Memory) -> tuple[Plate, Memory]:
    """The plate, and the memory of the frame after it with what speaks for the near layer at each pixel.

    Frames before it that did not know yet of a second layer learn of it.
    """
    view = memory.view
    late = [v for v in plate.views[-_LATE:] if v.leg == view.leg]
    known = [k for k, v in enumerate(late) if v.near is not None]
    late = late[known[-1] + 1 :] if known else late
    if late:
        motions, chains, first = near_layer.catch_up(
            [v.motion for v in (*late, view)], [v.chain for v in (*late, view)]
        )
        learnt = {
            v.index: replace(v, motion=motion, chain=chain)
            for v, motion, chain in zip(late, motions, chains, strict=False)
        }
        before = late[0].index

        def taught(old: View) -> View:
            if old.index < before and old.leg == view.leg:
                return replace(
                    old, chain=(pose.chained(old.chain[0], first[0]), pose.chained(old.chain[1], first[1]))
                )
            return learnt.get(old.index, old)

        plate = replace(
            plate,
            views=tuple(map(taught, plate.views)),
            memories=tuple(replace(m, view=taught(m.view)) for m in plate.memories),
        )
    memory = _with_near(memory, plate.memories, -1)
    later = [memory]
    for index in sorted((v.index for v in late), reverse=True):
        own = plate.memory(index)
        if own is not None:
            later.append(_with_near(own, later, 1))
    told = {m.index: m for m in later[1:]}
    return replace(
        plate,
        views=tuple(told[v.index].view if v.index in told else v for v in plate.views),
        memories=tuple(told.get(m.index, m) for m in plate.memories),
    ), memory


def _with_near(memory: Memory, others: Sequence[Memory], way: int) -> Memory:
    """A memory with what speaks for the near layer, by frames before it (`way` -1) or after it (1)."""
    view = memory.view
    height, width = memory.frame.height, memory.frame.width
    to_reduced = scale_to(memory.grey.shape, width, height)
    from_reduced = geometry.inverse(to_reduced)
    held = []
    last = None
    for other in others:
        apart = (other.index - view.index) * way
        if (
            apart not in (1, *near_layer.BACK)
            or other.view.leg != view.leg
            or other.grey.shape != memory.grey.shape
        ):
            continue
        far, near = (
            to_reduced @ pose.by_chain(other.view, view, layer) @ from_reduced for layer in (False, True)
        )
        if apart == 1 and other.view.near is not None:
            last = other.view.near, far, near
            if other.view.pose == view.pose:
                return replace(memory, view=replace(view, near=other.view.near))
        if apart in near_layer.BACK:
            held.append((other.grey, other.things, other.view.near, far, near))
    near_told = near_layer.measure(memory.grey, memory.things, held, last)
    return replace(memory, view=replace(view, near=near_told))


def shrunk(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask at another size, 1 wherever any of it is set."""
    raw = mask.view(np.uint8) if mask.dtype == bool else (mask > 0).astype(np.uint8)
    if raw.shape == shape[:2]:
        return raw.copy()
    times = max(raw.shape[0] / shape[0], raw.shape[1] / shape[1])
    if times > 1:
        # Grown by what one pixel of the other size covers; to average would take ten times as long.
        reach = 2 * int(np.ceil((times - 1) / 2)) + 1
        raw = u8(cv2.dilate(raw, np.ones((reach, reach), np.uint8)))
    return u8(cv2.resize(raw, shape[1::-1], interpolation=cv2.INTER_NEAREST))


def vote_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which sources are compared: about 180 to 270 lines."""
    times = 1 if height < 270 else max(2, height // 180)
    return max(1, round(width / times)), max(1, round(height / times))


def _thin(memories: tuple[Memory, ...], plate: Plate) -> tuple[Memory, ...]:
    """Forget what is least missed: the closest neighbours among the old, relative to their age.

    Frames younger than the window before the fill's place are all kept while the budget allows.
    """
    newest = memories[-1].seconds
    dense_from = newest - plate.look_ahead - plate.config.window_seconds
    size = 3 * memories[-1].frame.width * memories[-1].frame.height
    most = max(8, plate.budget // max(size, 1))
    old = sum(m.seconds < dense_from for m in memories)
    out = list(memories)
    while old > plate.config.keyframes or len(out) > most:
        # At most one of the dense frames goes a step; the oldest always stays.
        last = max(2, old) if old > plate.config.keyframes else len(out) - 1
        front = newest - plate.look_ahead
        gaps = [
            (out[k + 1].seconds - out[k - 1].seconds) / (abs(out[k].seconds - front) + 0.2)
            for k in range(1, last)
        ]
        at = 1 + int(np.argmin(gaps)) if gaps else 0
        old -= out[at].seconds < dense_from
        del out[at]
    return tuple(out)


def scale_to(shape: tuple[int, ...], width: int, height: int) -> Homography:
    """The map from frame pixels to those of a copy of the frame with another shape."""
    return geometry.scaling(shape[1] / width, shape[0] / height)
