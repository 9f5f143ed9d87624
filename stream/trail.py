"""Where an area's pixels are in the frames before and after it, found by following their dense motion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stream import parallax
from stream.arrays import Float
from stream.plate import Plate
from stream.pose import View, trust_of

_STEPS = 45
_AGAIN = 12
_STEP_DOUBT = np.float32(0.05)


def walk(plate: Plate, view: View, window: tuple[slice, slice]) -> Iterator[tuple[View, Float, Float]]:
    """Follow the pixels of a window of the reduced picture frame by frame, the nearest frames first.

    Yields the other frame's view, the pixels' places there ((h, w, 2) float32, reduced pixels) and how far
    off they may be (float32, pixels). A direction ends where the motion is not known.
    """
    look_back(plate, view)
    rows, columns = window
    start = np.empty((rows.stop - rows.start, columns.stop - columns.start, 2), np.float32)
    start[..., 0] = np.arange(columns.start, columns.stop, dtype=np.float32)
    start[..., 1] = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    doubt = np.zeros(start.shape[:2], np.float32)
    past, future = _past(plate, view, start, doubt), _future(plate, view, start, doubt)
    for _ in range(_STEPS):
        ended = 0
        for way in (past, future):
            found = next(way, None)
            if found is None:
                ended += 1
            else:
                yield found
        if ended == 2:
            return


def _past(plate: Plate, view: View, at: Float, doubt: Float) -> Iterator[tuple[View, Float, Float]]:
    here = view
    while (before := plate.view(here.index - 1)) is not None:
        if here.parallax is not None:
            at, more = parallax.back(here.parallax, at)
            doubt = doubt + more + _STEP_DOUBT
        elif not here.motion.static:
            return
        yield before, at, doubt
        here = before


def _future(plate: Plate, view: View, at: Float, doubt: Float) -> Iterator[tuple[View, Float, Float]]:
    here = view
    while (after := plate.view(here.index + 1)) is not None:
        known = plate.returns.get(here.index)
        if known is not None:
            at, more = parallax.back(known, at)
            doubt = doubt + more + _STEP_DOUBT
        elif after.parallax is not None:
            at, more = parallax.ahead(after.parallax, at)
            doubt = doubt + more + _STEP_DOUBT
        elif not after.motion.static:
            return
        yield after, at, doubt
        here = after


def look_back(plate: Plate, view: View) -> None:
    """Carry what later frames show back to `view` and the frames after it (kept in `plate.returns`).

    Done anew when a dozen frames have been added: each time all frames of the look-ahead are passed.
    """
    newest = _last_followed(plate, view)
    reached = max(plate.returns, default=view.index - 1) + 1
    if newest <= view.index or (view.index in plate.returns and newest - reached < _AGAIN):
        return
    last = plate.view(newest)
    if last is None or last.parallax is None:
        return
    plate.returns.clear()
    state = parallax.end(last.parallax.hidden)
    here = last
    for index in range(newest - 1, view.index - 1, -1):
        before = plate.view(index)
        if before is None or before.parallax is None or here.parallax is None:
            return
        plate.returns[index], state = parallax.step_back(state, before.parallax.hidden, here.parallax)
        here = before


def _last_followed(plate: Plate, view: View) -> int:
    """The last frame to which dense motion leads from `view` without a gap, as far ahead as is of use."""
    newest = view.index
    most = min(plate.views[-1].index, view.index + _STEPS + _AGAIN)
    while newest < most and (after := plate.view(newest + 1)) is not None and after.parallax is not None:
        newest += 1
    return newest if view.parallax is not None else view.index


def trust(plate: Plate, view: View) -> float:
    """How far homographies explain the motion of the frames that may serve `view`, in [0, 1]."""
    first = max(view.index - 8, plate.views[0].index)
    last = min(view.index + _STEPS, plate.views[-1].index + 1)
    around = (plate.view(k) for k in range(first, last))
    return trust_of(min((v.motion.confidence for v in around if v is not None), default=1.0))
