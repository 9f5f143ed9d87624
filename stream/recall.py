"""A hidden thing from its own other frames: a view of it that fits, or the last one as it went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import views
from stream.arrays import Bytes
from stream.completed import Found
from stream.types import REFERENCE, Image
from stream.views import Look, View

_FITS = 0.5
_SHOWN = 0.08
_CARRIED = 20
_AWAY = 60
_FADING = 0.98
_EASE = 0.3
_CONTRARY = 32.0
_SHOWS = 0.06
ENOUGH_SEEN = 0.35
"""Share of a thing that must show for what shows to say where the rest is."""


@dataclass(frozen=True)
class Used:
    """How a thing was completed last: in which frame, from which view, how well it fitted, and where it lay.

    `place`: 2 x 3, maps the view's frame to that frame; `step`: (2,) its motion, pixels a
    frame; None = not yet known.
    """

    index: int
    view: View
    fit: float
    place: NDArray[np.float64]
    step: NDArray[np.float64] | None


def from_views(
    look: Look, known: Sequence[View], last: Used | None, index: int
) -> tuple[Found | None, Used | None]:
    """Complete from the thing's own other frames, and what is to be known of that; None where none fits."""
    chosen = views.choose(look, known, index, last.view.index if last is not None else None)
    if chosen is not None:
        view, dx, dy = chosen
        shown = cv2.countNonZero(look.visible) / max(1, cv2.countNonZero(view.mask))
        laid = views.lay(look, view, (dx, dy)) if shown >= _SHOWN else None
        if laid is not None and (shown >= ENOUGH_SEEN or not _strays(last, view, laid.place, index)):
            mended, foreign = _mended(look, laid.rgb, laid.mask)
            fit = views.fit(mended, laid.rgb, laid.mask)
            if fit >= _FITS:
                used = _noted(last, index, laid, view, fit)
                return _laid_over(mended, laid.rgb, laid.mask, fit, foreign), used
    return None, None


def as_it_went(look: Look, known: Sequence[View], last: Used | None, index: int) -> Found | None:
    """A thing that was laid over a while ago, as it went on; None where nobody knows, or it is not there."""
    place = carried(last, known, index) if last is not None else None
    return from_last(look, last, place, index) if last is not None and place is not None else None


def from_last(look: Look, last: Used, place: NDArray[np.float64], index: int) -> Found | None:
    """The last view in this place; None where what should show of it does not."""
    rgb, mask = views.placed(look, last.view, place)
    if views.contrary(look, rgb, mask, _SHOWS) > _CONTRARY:
        return None
    fit = last.fit * _FADING ** (index - last.index)
    mended, foreign = _mended(look, rgb, mask)
    return _laid_over(mended, rgb, mask, fit, foreign)


def carried(last: Used, known: Sequence[View], index: int) -> NDArray[np.float64] | None:
    """Where the last view lies when it goes on as it went, or on its way to where the thing is next seen."""
    gap = index - last.index
    later = [view for view in known if view.index > index]
    if later and gap > 0 and later[0].index - last.index <= _AWAY:
        start = _middle(last.view, last.place)
        x0, y0, x1, y1 = later[0].box
        move = (np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - start) * gap / (later[0].index - last.index)
    elif 0 <= gap <= _CARRIED and last.step is not None:
        move = gap * last.step
    else:
        return None
    place = last.place.copy()
    place[:, 2] += move
    return place


def _mended(look: Look, rgb: Image, mask: Bytes) -> tuple[Look, Bytes]:
    """The look without those visible pixels that are not the thing's, and these."""
    foreign = views.foreign(look, rgb, mask)
    return replace(look, visible=look.visible & (1 - foreign), front=look.front | foreign), foreign


def _laid_over(look: Look, rgb: Image, mask: Bytes, confidence: float, foreign: Bytes) -> Found:
    whole = look.visible | (mask & look.front)
    origin = np.where(whole > 0, REFERENCE, 0).astype(np.uint8)
    return Found(look, whole, rgb, origin, confidence, foreign)


def _noted(last: Used | None, index: int, laid: views.Laid, view: View, fit: float) -> Used:
    """What is to be known of this frame in the next ones; the step is smoothed, since strides are uneven."""
    step = None
    if last is not None and index > last.index:
        moved = (_middle(view, laid.place) - _middle(last.view, last.place)) / (index - last.index)
        step = moved if last.step is None else last.step + _EASE * (moved - last.step)
    return Used(index, view, fit, laid.place, step)


def _strays(last: Used | None, view: View, place: NDArray[np.float64], index: int) -> bool:
    """Whether a view lies far from where the thing should be by now: little of it fits in many places."""
    if last is None or last.step is None or not 0 < index - last.index <= _CARRIED:
        return False
    move = (index - last.index) * last.step
    off = _middle(view, place) - _middle(last.view, last.place) - move
    side = max(view.box[2] - view.box[0], view.box[3] - view.box[1])
    return float(np.hypot(*off)) > 4 + 0.08 * side + 0.5 * float(np.hypot(*move))


def _middle(view: View, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the middle of a view lies once it is placed."""
    x0, y0, x1, y1 = view.box
    return np.asarray(place @ np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0]), np.float64)
