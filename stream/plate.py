"""The memory of a shot: original frames, what covered them, and how the camera stood.

Pixels are kept once, as they came, and resampled once, when a hole asks for them. Which things may not serve
as background is decided at that moment, from the label maps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Plate as PlateConfig
from stream import geometry
from stream import motion as camera
from stream.arrays import u8
from stream.geometry import Homography
from stream.types import Frame, Image, Mask, Motion

Labels = NDArray[np.uint16]
"""h x w at working resolution: 0 where there is nothing, else the id of the track that covers the pixel."""

_VIEWS = 1200


@dataclass(frozen=True, slots=True)
class View:
    """How the camera stood in one frame: maps from the shot's first frame to it, far layer first.

    `pose` counts the camera's moves: frames with equal pose show the same view, pixel for pixel.
    """

    motion: Motion
    chain: tuple[Homography, Homography]
    pose: int

    @property
    def index(self) -> int:
        return self.motion.index


@dataclass(frozen=True, slots=True)
class Memory:
    """One remembered frame.

    `small` is the frame averaged over 8 x 8 pixels, uint8 RGB; `grey` the frame at the size at which sources
    are compared (`vote_size`), uint8. `masked`: uint8 like `labels`, 1 where the
    user's own mask says that the background cannot be seen; None without one.
    """

    view: View
    seconds: float
    rgb: Image
    labels: Labels
    masked: NDArray[np.uint8] | None
    small: Image
    grey: NDArray[np.uint8]

    @property
    def index(self) -> int:
        return self.view.index


@dataclass(frozen=True, slots=True)
class Paint:
    """What was invented in the last filled frame, to be carried on with the camera.

    `rgb` uint8 and `weight` float32 cover `box` (x0, y0, x1, y1) of frame `index`; weight 1 = invented now,
    falling while what has been seen replaces it.
    """

    index: int
    box: tuple[int, int, int, int]
    rgb: Image
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Plate:
    """What has been seen in a shot. `observe` gives the next one; the cache alone is shared and changes.

    `look_ahead`: seconds by which observing runs ahead of filling. `trust` in [0, 1]: how far memories from
    long ago can be aligned; low in deep scenes. `paint` and `used` (indices of the frames that served last)
    are what the fill hands on from frame to frame.
    """

    config: PlateConfig
    look_ahead: float
    budget: int
    memories: tuple[Memory, ...] = ()
    views: tuple[View, ...] = ()
    trust: float = 1.0
    paint: Paint | None = None
    used: tuple[int, ...] = ()
    blocked_cache: dict[tuple[int, frozenset[int]], tuple[NDArray[np.uint8], NDArray[np.uint8]]] = field(
        default_factory=dict
    )

    def view(self, index: int) -> View | None:
        """How the camera stood in frame `index`, None when it was not observed in this shot."""
        if not self.views:
            return None
        at = index - self.views[0].index
        if 0 <= at < len(self.views) and self.views[at].index == index:
            return self.views[at]
        return next((v for v in self.views if v.index == index), None)


def initial(config: PlateConfig, look_ahead: float = 0.0, budget: int = 512 << 20) -> Plate:
    """Build an empty memory for a shot. `budget`: bytes of pixels remembered at most."""
    return Plate(config, look_ahead, budget)


def observe(plate: Plate, frame: Frame, motion: Motion, labels: Labels, mask: Mask | None = None) -> Plate:
    """Remember `frame`. Frames come in order; those of another shot need a new plate.

    `labels`: uint16 at any resolution, the things of the frame by track id. `mask`: bool H x W, what the user
    says is never background.
    """
    last = plate.views[-1] if plate.views else None
    if last is None or motion.cut:
        view = View(motion, (np.eye(3), np.eye(3)), 0)
    else:
        far, near = motion.homographies[0], motion.homographies[-1]
        chain = (_chained(far, last.chain[0]), _chained(near, last.chain[1]))
        view = View(motion, chain, last.pose + (not motion.static))
    size = (max(1, frame.width // 8), max(1, frame.height // 8))
    small = cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
    masked = None if mask is None else shrunk(mask, labels.shape)
    grey = cv2.cvtColor(
        cv2.resize(frame.rgb, vote_size(frame.width, frame.height), interpolation=cv2.INTER_AREA),
        cv2.COLOR_RGB2GRAY,
    )
    memory = Memory(
        view,
        float(frame.time),
        frame.rgb,
        labels,
        masked,
        u8(small),
        u8(grey),
    )
    trust = float(np.clip((motion.confidence - 0.85) / 0.12, 0.0, 1.0))
    memories = _thin((*plate.memories, memory), plate)
    kept = {m.index for m in memories}
    for key in [k for k in plate.blocked_cache if k[0] not in kept]:
        del plate.blocked_cache[key]
    return replace(plate, memories=memories, views=(*plate.views, view)[-_VIEWS:], trust=trust)


def relate(a: View, b: View, near: bool = False, direct: bool = True) -> Homography:
    """Map pixels of view `a` to pixels of view `b` for one layer; the identity when the camera rested.

    With `direct` the chain of motions is only the start of a fit to the corners that both views share.
    """
    if a.pose == b.pose:
        return np.eye(3)
    layer = int(near)
    chain = b.chain[layer] @ np.linalg.inv(a.chain[layer])
    chain = chain / chain[2, 2]
    if not direct:
        return chain
    found = camera.between(a.motion, b.motion, chain, near)
    return chain if found is None else found


def blocked(plate: Plate, memory: Memory, forbidden: Iterable[int]) -> NDArray[np.uint8]:
    """Pixels of a memory that must not be used, 0 or 1 at its labels' resolution, grown against soft rims."""
    return _covers(plate, memory, frozenset(forbidden))[0]


def usable(plate: Plate, memory: Memory, forbidden: Iterable[int]) -> NDArray[np.uint8]:
    """Pixels of `memory.small` fit to compare brightness: not blocked, neither black nor clipped; 0 or 1."""
    return _covers(plate, memory, frozenset(forbidden))[1]


def _covers(
    plate: Plate, memory: Memory, forbidden: frozenset[int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    key = (memory.index, forbidden)
    known = plate.blocked_cache.get(key)
    if known is None:
        cover = select(memory.labels, forbidden)
        if memory.masked is not None:
            cover = cover | memory.masked
        cover = grown(cover)
        small = memory.small
        away = cv2.resize(cover * np.uint8(255), small.shape[1::-1], interpolation=cv2.INTER_AREA) == 0
        away &= cv2.inRange(small, (13, 13, 13), (244, 244, 244)) > 0
        known = plate.blocked_cache[key] = cover, away.astype(np.uint8)
    return known


def select(labels: Labels, ids: Collection[int]) -> NDArray[np.uint8]:
    """1 where the label is among `ids`, else 0."""
    table = np.zeros(int(labels.max()) + 1, np.uint8)
    for i in ids:
        if 0 < i < len(table):
            table[i] = 1
    return u8(table[labels])


def shrunk(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask at another size, 1 wherever any of it is set."""
    raw = mask.astype(np.uint8) * np.uint8(255)
    if raw.shape != shape[:2]:
        raw = u8(cv2.resize(raw, shape[1::-1], interpolation=cv2.INTER_AREA))
    return (raw > 0).astype(np.uint8)


def grown(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grow a mask by 4 pixels at 360 lines: soft borders and motion blur are never background."""
    r = max(1, round(4 * mask.shape[0] / 360))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1))
    return u8(cv2.dilate(mask, kernel))


def vote_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which sources are compared: half size, at most about 200 lines."""
    times = max(2, height // 180)
    return max(1, round(width / times)), max(1, round(height / times))


def _chained(step: Homography, chain: Homography) -> Homography:
    h = step @ chain
    return cast(Homography, h / h[2, 2])


def _thin(memories: tuple[Memory, ...], plate: Plate) -> tuple[Memory, ...]:
    """Forget what is least missed: the closest neighbours among the old, relative to their age.

    Frames younger than the window before the fill's place are all kept while the budget allows.
    """
    newest = memories[-1].seconds
    dense_from = newest - plate.look_ahead - plate.config.window_seconds
    size = memories[-1].rgb.nbytes
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


def scale_to(labels_shape: tuple[int, ...], width: int, height: int) -> Homography:
    """The map from frame pixels to a label map's pixels."""
    return geometry.scaling(labels_shape[1] / width, labels_shape[0] / height)
