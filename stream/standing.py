"""A vote that still stands: what was agreed on a moment ago is carried along with the camera.

Which sources serve which pixels changes little from frame to frame. Between two votes on a place the shares
of the last one are moved with the camera; the sources' pixels themselves are brought in anew for every
frame, so nothing is resampled twice and no drift adds up.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stream import geometry
from stream.arrays import Bytes, Float, f32, u8
from stream.exposure import exposures
from stream.plate import Memory, Plate
from stream.pose import View, by_chain, relate_all
from stream.sources import Area, Pool, Source
from stream.types import Frame

_LASTS = 2
"""Frames after a vote for which it stands."""

_MOVED = 0.02
"""Share of the width by which the camera may have moved since then."""

_COVERS = 0.98
"""Share of the pixels in need that a vote must have settled."""


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a vote in frame `index`, at reduced size: `of_frame` maps frame pixels to its pixels.

    `served`: the indices of the memories; `shares`: float32 h x w of each. `settled`: uint8, 1 where anybody
    knew something. `forbidden`: the tracks that could not serve.
    """

    index: int
    of_frame: geometry.Homography
    served: tuple[int, ...]
    shares: tuple[Float, ...]
    settled: Bytes
    forbidden: frozenset[int]


def stand(
    plate: Plate,
    view: View,
    current: Memory,
    frame: Frame,
    area: Area,
    needed: Bytes,
    forbidden: frozenset[int],
    among: Pool,
) -> tuple[Vote, list[tuple[Source, Float]]] | None:
    """The vote that settles the `needed` pixels (uint8 0 or 1) of an area, and its sources' shares there.

    None when none does: it was too long ago, elsewhere, or a source is forgotten.
    """
    for vote in plate.votes:
        there = plate.view(vote.index)
        if there is None or not 0 < view.index - vote.index <= _LASTS or vote.forbidden != forbidden:
            continue
        move = by_chain(there, view)
        if not geometry.corner_motion(move, frame.width, frame.height) < _MOVED * frame.width:
            continue
        into = area.of_frame @ move @ geometry.inverse(vote.of_frame)
        settled = u8(cv2.warpPerspective(vote.settled, into, area.size, flags=cv2.INTER_NEAREST))
        if cv2.countNonZero(settled & needed) < _COVERS * cv2.countNonZero(needed):
            continue
        sources = _again(plate, view, current, frame, vote, forbidden, among)
        if sources is not None:
            return vote, [
                (source, f32(cv2.warpPerspective(share, into, area.size, flags=cv2.INTER_LINEAR)))
                for source, share in zip(sources, vote.shares, strict=True)
            ]
    return None


def _again(
    plate: Plate,
    view: View,
    current: Memory,
    frame: Frame,
    vote: Vote,
    forbidden: frozenset[int],
    among: Pool,
) -> list[Source] | None:
    """The sources of a vote as they lie over the frame now; None when one of them is no longer of use."""
    held = [memory for memory in map(plate.memory, vote.served) if memory is not None]
    if len(held) < len(vote.served):
        return None
    new = [m for m in held if (False, m.index) not in among.forwards]
    maps = relate_all([m.view for m in new], view)
    among.forwards.update({(False, m.index): forward for m, forward in zip(new, maps, strict=True)})
    forwards = [among.forwards[False, m.index] for m in held]
    for memory, forward in zip(held, forwards, strict=True):
        resting = memory.view.pose == view.pose
        if not resting and not geometry.plausible(forward, frame.width, frame.height, most=1.5):
            return None
    dark = [m for m in held if (False, m.index) not in among.gains]
    gains = exposures(plate, dark, current, [among.forwards[False, m.index] for m in dark], forbidden)
    among.gains.update({(False, m.index): gain for m, gain in zip(dark, gains, strict=True)})
    return [
        Source(memory, forward, among.gains[False, memory.index], _NOTHING, _NOTHING)
        for memory, forward in zip(held, forwards, strict=True)
    ]


_NOTHING = np.zeros((0, 0), np.uint8)
"""At reduced size the sources of a vote that stands are not looked at."""
