"""The values that cross from one room of the pipeline to the next: frozen dataclasses, nothing else.

Coordinates are pixels of the coded frame (before any display rotation): x to the right, y down, the
centre of the first pixel at (0, 0). Colours are RGB unless a name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""H x W x 3 RGB, or H x W when a name says grey."""

Mask = NDArray[np.bool_]
"""H x W, True where the thing is."""

Action = Literal["keep", "remove"]

UNTOUCHED, SEEN, REFERENCE, INVENTED = 0, 1, 2, 3
"""How a pixel was got, as written to `Filled.origin` and to `--provenance`."""


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour tags of a frame as the numbers of ITU-T H.273 (and of FFmpeg); 2 is unspecified."""

    matrix: int = 2
    full_range: bool = False
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True)
class Frame:
    """One decoded picture with its place in time; the decoder's planes are kept as they came.

    `planes`: one array per plane as the pixel format lays them out, uint8 or uint16 (host order);
    planar YUV has (H, W), (h, w), (h, w); packed RGB has one (H, W, 3) or (H, W, 4) plane.
    `rotation`: degrees clockwise by which a viewer turns the coded picture (0, 90, 180, 270).
    """

    index: int
    pts: int
    time_base: Fraction
    planes: tuple[NDArray[np.generic], ...]
    format: str
    width: int
    height: int
    colour: Colour = field(default_factory=Colour)
    rotation: int = 0
    duration: int = 0
    interlaced: bool = False

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds."""
        return self.pts * self.time_base

    @cached_property
    def rgb(self) -> Image:
        """The picture as uint8 H x W x 3 RGB, converted on first use with the frame's own colour tags."""
        from stream.planes import to_rgb

        return to_rgb(self)

    @cached_property
    def half(self) -> Image:
        """`rgb` at half the size, made on first use; for frames of even sides."""
        from stream.shrink import halve

        return halve(self.rgb)


@dataclass(frozen=True, slots=True)
class Instance:
    """One thing found in one frame: COCO name, score in [0, 1], box (x0, y0, x1, y1) in frame pixels.

    `mask` covers the whole frame at working resolution (`Perception.working`). `identity` is the object id
    that the user's labelled masks gave it, 0 when the segmentator found it. `fringe`, as large: where beside
    the mask the thing may go on, None = nowhere.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: Mask
    identity: int = 0
    fringe: Mask | None = None


@dataclass(frozen=True)
class Perception:
    """What the networks saw in one frame.

    `classes`: uint8 h x w at working resolution, 0 = background, 1..80 = index into COCO's things + 1.
    `stuff`: float32 (91,), the probability of each COCO-Stuff class; empty when not looked at.
    """

    index: int
    classes: NDArray[np.uint8]
    instances: tuple[Instance, ...]
    stuff: NDArray[np.float32]

    @property
    def working(self) -> tuple[int, int]:
        """Working resolution as (height, width)."""
        return self.classes.shape[0], self.classes.shape[1]


@dataclass(frozen=True, slots=True)
class Track:
    """A thing followed through a shot, as known at one frame.

    `instance` is its place in this frame, or a place carried on by motion while it is `missed`.
    `speed` is its median displacement against the background, in widths of the frame per second.
    `subject` in [0, 1]: how much this looks like what the picture is about (large, central, steady, lasting).
    `area` is its share of the frame now; `travel` the farthest it has moved against the background, in its
    own sizes (the longer side of its box); `ranged` the same when what hides parts of it is no motion,
    infinite when that is not known; `age` the seconds since it was first seen. A track that is not yet
    `confirmed` may be a false sighting.
    """

    id: int
    label: str
    instance: Instance
    first: int
    last: int
    hits: int
    missed: bool
    area: float
    speed: float
    subject: float
    travel: float = 0.0
    age: float = 0.0
    confirmed: bool = True
    ranged: float = math.inf


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a track and why; `relation` is NaN when there was not enough evidence.

    One that is not `settled` may well change in the next seconds. A `tentative` one is of something seen for
    a moment only, which may be nothing at all: it stays, and nobody need be told.
    """

    track: int
    label: str
    action: Action
    relation: float
    reason: str
    settled: bool = True
    tentative: bool = False


@dataclass(frozen=True)
class Motion:
    """Camera motion from the previous frame to this one, measured outside every mask.

    `homographies`: one or two 3 x 3 float64 (far layer first, then near) that map pixels of the previous
    frame to pixels of this one. `corners`: float32 (N, 2) and `ids`: int64 (N,) ascending, the tracked
    background corners in this frame, so that any two frames with common ids are related directly.
    `static`: the camera did not move at all, so nothing needs resampling.
    `confidence` in [0, 1]: the share of corners that the homographies explain over the last frames, so it
    is low in deep scenes. `cut`: this frame begins a new shot, so there is no motion.
    `near`: bool (N,), which corners move with the near layer; empty = none does.
    """

    index: int
    homographies: tuple[NDArray[np.float64], ...]
    corners: NDArray[np.float32]
    ids: NDArray[np.int64]
    static: bool
    confidence: float
    cut: bool = False
    near: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class Hole:
    """What is to be replaced in one frame.

    `alpha`: uint8 H x W at full size, 255 = replaced wholly, 0 = untouched, soft at the edge.
    `box`: (x0, y0, x1, y1) integer bounds of alpha > 0, exclusive at the end, or None when nothing goes.
    `tracks`: ids of the removed tracks in this frame.
    """

    alpha: NDArray[np.uint8]
    box: tuple[int, int, int, int] | None
    tracks: tuple[int, ...]


@dataclass(frozen=True)
class Filled:
    """A finished frame and how each of its pixels was got.

    `origin`: uint8 of the hole's box, values UNTOUCHED, SEEN, REFERENCE, INVENTED; `box` as in `Hole`.
    `before`: the frame as it came. `unsure`: ids of tracks that stay, are hidden in part by what went, and
    could not be completed well enough, so that there is background instead.
    """

    frame: Frame
    origin: NDArray[np.uint8]
    box: tuple[int, int, int, int] | None
    verdicts: tuple[Verdict, ...]
    tracks: tuple[Track, ...]
    before: Frame
    unsure: tuple[int, ...] = ()
