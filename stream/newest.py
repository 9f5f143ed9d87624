"""What is behind newly hidden pixels when no picture may be late: from few frames, on small pictures.

Where `stream.still` asks a dozen frames of each pixel, here a few are asked of each pixel of the pictures in
which sources are compared. What they agree on says which frame serves, and its own pixels are taken as they
are, so that a whole thing costs little more than a sliver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, u8
from stream.background import Background
from stream.boxes import Box
from stream.consensus import UNUSUAL, apart_from, consensus, last_seen
from stream.planes import part_to_rgb
from stream.plate import Memory
from stream.sources import steps
from stream.types import Image

_SIGHTINGS = 12
_LONG_AGO = 0.2
_MOST = 250
_NONE = 255


def newest(
    memories: Sequence[Memory],
    new: Bytes,
    origin: tuple[int, int],
    scene: Background | None,
    cover: Callable[[Memory], Bytes],
    lit: Callable[[Memory, Image], Image],
    now: float,
) -> tuple[Image, Bytes]:
    """The colours (h, w, 3) of the `new` pixels (0 or 1) of a box at `origin`, and where they are known.

    `memories` show the same view, in the order in which they are asked. `scene`: what the background looks
    like at other times. `cover`: 1 where a memory must not be used, at the size of its `grey`. `lit` brings
    a memory's colours to the wanted light. `now`: the time of the frame, seconds.
    """
    colours, known = np.zeros((*new.shape, 3), np.uint8), np.zeros(new.shape, np.uint8)
    x, y, w, h = cv2.boundingRect(new)
    if not w or not memories:
        return colours, known
    left, top = origin[0] + x, origin[1] + y
    cells, rows, columns = _cells(memories[0], (left, top, left + w, top + h))
    inner = np.s_[y : y + h, x : x + w]
    asked = np.zeros((cells[0].stop - cells[0].start, cells[1].stop - cells[1].start), np.uint8)
    at_y, at_x = np.divmod(np.flatnonzero(new[inner]), w)
    asked[rows[at_y], columns[at_x]] = 1
    chosen = _choose(memories[:_MOST], asked, cells, scene, cover, now)
    for k in np.flatnonzero(np.bincount(chosen.ravel(), minlength=_NONE + 1)[:_NONE]).tolist():
        # Only as far as this memory serves.
        cx, cy, cw, ch = cv2.boundingRect(u8((chosen == k).view(np.uint8)))
        down, across = (
            slice(*np.searchsorted(each, (start, start + length)))
            for each, start, length in ((rows, cy, ch), (columns, cx, cw))
        )
        mine = (chosen.take(rows[down], 0).take(columns[across], 1) == k).view(np.uint8)
        mine &= new[inner][down, across]
        memory = memories[k]
        part = left + across.start, top + down.start, left + across.stop, top + down.stop
        shown = part_to_rgb(memory.frame, part)
        cv2.copyTo(lit(memory, shown), mine, colours[inner][down, across])
        known[inner][down, across] |= mine
    return colours, known


def _cells(memory: Memory, box: Box) -> tuple[tuple[slice, slice], NDArray[np.intp], NDArray[np.intp]]:
    """The part of the small picture that a box of the frame lies in, and in which of its rows and columns."""
    height, width = memory.grey.shape
    rows = np.arange(box[1], box[3]) * height // memory.frame.height
    columns = np.arange(box[0], box[2]) * width // memory.frame.width
    part = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return part, rows - rows[0], columns - columns[0]


def _choose(
    memories: Sequence[Memory],
    asked: Bytes,
    cells: tuple[slice, slice],
    scene: Background | None,
    cover: Callable[[Memory], Bytes],
    now: float,
) -> Bytes:
    """Which memory is to serve each of the `asked` pixels of the small picture, `_NONE` where none can."""
    chosen = np.full(asked.shape, _NONE, np.uint8)
    which = np.flatnonzero(asked)
    served = np.full((_SIGHTINGS, len(which)), _NONE, np.uint8)
    greys = np.zeros((_SIGHTINGS, len(which)), np.uint8)
    count = np.zeros(len(which), np.intp)
    left = np.arange(len(which))
    for k, memory in enumerate(memories):
        at = which[left]
        clear = cover(memory)[cells].ravel().take(at) == 0
        seen = left[clear]
        if not len(seen):
            continue
        served[count[seen], seen] = k
        greys[count[seen], seen] = memory.grey[cells].ravel().take(at[clear])
        count[seen] += 1
        left = left[count[left] < _SIGHTINGS]
        if not len(left):
            break
    apart = np.array([steps(memory.seconds, now) for memory in memories], np.float32)
    near = np.zeros(_NONE + 1, np.float32)
    near[: len(memories)] = _LONG_AGO + np.exp(-apart / 8)
    weight = near[served]
    times = np.zeros(_NONE + 1)
    times[: len(memories)] = [memory.seconds for memory in memories]
    seconds = times[served]
    if scene is not None and not scene.calm:
        # Where things come and go all the time, what was seen last is most likely there still.
        best = last_seen(greys, weight > 0, seconds)
    else:
        if scene is not None:
            # What contradicts the background as other times show it is what a mask left out.
            grey = u8(cv2.cvtColor(scene.rgb[cells], cv2.COLOR_RGB2GRAY)).ravel().take(which)
            sure = scene.sure[cells].ravel().take(which)
            weight = weight * cv2.LUT(apart_from(greys, grey) * sure, UNUSUAL)
        best = consensus(greys, weight, seconds)
    chosen.ravel()[which] = np.take_along_axis(served, best[None], 0)[0]
    return chosen
