"""Complete what is hidden of things: from their own frames where they were whole, else by a network.

`observe` remembers things while nothing stands before them; `complete` says for each thing that is hidden in
part how far it reaches, what its hidden pixels look like, and how sure that is. With look-ahead `observe` is
ahead of `complete`, so that a thing seen whole only later is completed all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.framing import SIDE, frame_square
from stream import views
from stream.arrays import Bytes, Float, u8
from stream.boxes import Box
from stream.hole import bounds, enlarge
from stream.order import Order
from stream.types import INVENTED, REFERENCE, SEEN, Image, Mask, Track
from stream.views import Look, View

ENOUGH = 0.35
"""Confidence from which a completion is better than the background."""

_SPACING = 3
_BYTES = 24 << 20
_FEWEST, _MOST = 6, 48
_FORGOTTEN = 600
_SMALLEST = 150
_LEAST_HIDDEN = 12
_FITS = 0.45
_SHOWN = 0.08
_CARRIED = 20
_FADING = 0.97
_EASE = 0.3


Number = TypeVar("Number", np.uint8, np.float32)


@dataclass(frozen=True)
class Answer:
    """What the network says of one square, `SIDE` x `SIDE`.

    `amodal` float32 (S, S) in [0, 1]: the whole thing; `rgb` uint8 (S, S, 3): its colours;
    `hidden`: log-odds that what is in front hides a part of it.
    """

    amodal: Float
    rgb: Image
    hidden: float


Network = Callable[[Image, Bytes, Bytes], Answer]
"""Square (S, S, 3) RGB, what is visible of the thing and what may hide it, (S, S) uint8 0 or 1."""


@dataclass(frozen=True)
class Completed:
    """A thing that is hidden in part, whole again, inside `box` (x0, y0, x1, y1) of the frame.

    `amodal` bool (h, w): all of it; `rgb` uint8 (h, w, 3); `alpha` uint8 (h, w), soft at the edge; `origin`
    uint8 (h, w): 0 = not the thing, SEEN in this frame, REFERENCE = the thing's own other frames, INVENTED.
    `hidden`: share of it that is hidden; `confidence` in [0, 1]: below `ENOUGH` the background is the better
    fill; `by`: the tracks that hide it.
    """

    track: int
    box: Box
    amodal: Mask
    rgb: Image
    alpha: Bytes
    origin: Bytes
    hidden: float
    confidence: float
    by: tuple[int, ...]


@dataclass(frozen=True)
class Used:
    """How a thing was completed last: in which frame, from which view, how well it fitted, and where it lay.

    `place`: 2 x 3, maps the view's frame to that frame; `step`: (2,) its motion, pixels a frame.
    """

    index: int
    view: View
    fit: float
    place: NDArray[np.float64]
    step: NDArray[np.float64]


@dataclass(frozen=True)
class DeoccludeState:
    """Views of each track from when it was whole, and how each was completed last."""

    views: Mapping[int, tuple[View, ...]] = field(default_factory=dict)
    used: Mapping[int, Used] = field(default_factory=dict)


def initial() -> DeoccludeState:
    """The state before the first frame of a shot."""
    return DeoccludeState()


def observe(
    state: DeoccludeState,
    rgb: Image,
    index: int,
    tracks: Sequence[Track],
    order: Order,
    wanted: Collection[int],
) -> DeoccludeState:
    """Remember those `wanted` things of frame `index` that nothing hides; `rgb` is the whole frame.

    Where there is only one thing nothing will hide it, and nothing is done.
    """
    if len(tracks) < 2:
        return state
    known = dict(state.views)
    for each in tracks:
        if each.id not in wanted or each.missed or order.covering(each.id):
            continue
        mine = known.get(each.id, ())
        if mine and abs(index - mine[-1].index) < _SPACING:
            continue
        view = _view(rgb, index, each)
        if view is not None:
            known[each.id] = _thinned((*mine, view))
    for number in [k for k, mine in known.items() if index - mine[-1].index > _FORGOTTEN]:
        del known[number]
    return replace(state, views=known)


def complete(
    state: DeoccludeState,
    rgb: Image,
    index: int,
    tracks: Sequence[Track],
    order: Order,
    *,
    wanted: Collection[int],
    over: Collection[int],
    network: Network | None = None,
    reach: float = 0.012,
) -> tuple[tuple[Completed, ...], DeoccludeState]:
    """Complete the `wanted` things that those of `over` hide in part; things that are whole are left out.

    `reach`: how far beyond its mask a thing may hide others, share of the frame's height: as far as the hole
    that is filled. Without a network only what was seen in other frames can be completed.
    """
    done = []
    used = dict(state.used)
    by_id = {each.id: each for each in tracks}
    for each in tracks:
        if each.id not in wanted:
            continue
        hiding = [by_id[k] for k in order.covering(each.id) if k in over and k in by_id]
        if not hiding:
            continue
        look = _look(rgb, each, hiding, reach, state.views.get(each.id, ()))
        if look is None:
            continue
        found, fit = _from_views(state, look, each, index)
        if found is None and network is not None:
            found = _from_network(rgb, look, network)
        if found is None:
            continue
        whole, colours, origin, confidence = found
        completed = _assemble(each.id, look, whole, colours, origin, confidence, tuple(t.id for t in hiding))
        if completed is None:
            continue
        done.append(completed)
        if fit is not None:
            used[each.id] = fit
    return tuple(done), replace(state, used=used)


def visible(rgb: Image, track: Track) -> Completed | None:
    """A thing that nothing hides, as it is seen; None when its mask is empty."""
    view = _view(rgb, 0, track, least=1)
    if view is None:
        return None
    origin = view.mask * np.uint8(SEEN)
    return Completed(track.id, view.box, view.mask > 0, view.rgb, _soft(view.mask), origin, 0.0, 1.0, ())


_Found = tuple[Bytes, Image, Bytes, float]
"""The whole thing's mask, its colours, where they are from, and the confidence, in a look's box."""


def _from_views(
    state: DeoccludeState, look: Look, track: Track, index: int
) -> tuple[_Found | None, Used | None]:
    """Complete from the thing's own other frames; None where none fits and none did a moment ago."""
    last = state.used.get(track.id)
    known = state.views.get(track.id, ())
    chosen = views.choose(look, known, index, last.view.index if last is not None else None)
    if chosen is not None:
        view, dx, dy = chosen
        if cv2.countNonZero(look.visible) >= _SHOWN * cv2.countNonZero(view.mask):
            laid = views.lay(look, view, (dx, dy))
            if laid.fit >= _FITS:
                return _found(look, laid.rgb, laid.mask, laid.fit), _used(last, index, view, laid)
    if last is None or not 0 <= index - last.index <= _CARRIED:
        return None, None
    # Next to nothing of it shows: it goes on as it went.
    gap = index - last.index
    place = last.place.copy()
    place[:, 2] += gap * last.step
    rgb, mask = views.placed(look, last.view, place)
    return _found(look, rgb, mask, last.fit * _FADING**gap), last


def _found(look: Look, rgb: Image, mask: Bytes, confidence: float) -> _Found:
    whole = look.visible | (mask & look.front)
    return whole, rgb, np.where(whole > 0, REFERENCE, 0).astype(np.uint8), confidence


def _used(last: Used | None, index: int, view: View, laid: views.Laid) -> Used:
    """What is to be known of this frame in the next ones; the step is smoothed, since strides are uneven."""
    step = np.zeros(2)
    if last is not None and index > last.index:
        moved = (_middle(view, laid.place) - _middle(last.view, last.place)) / (index - last.index)
        step = last.step + _EASE * (moved - last.step)
    return Used(index, view, laid.fit, laid.place, step)


def _middle(view: View, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the middle of a view lies once it is placed."""
    x0, y0, x1, y1 = view.box
    return np.asarray(place @ np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0]), np.float64)


def _from_network(rgb: Image, look: Look, network: Network) -> _Found | None:
    """Complete by the network; None where it says that nothing is hidden."""
    seen, front = bounds(look.visible > 0), bounds(look.front > 0)
    if seen is None or front is None:
        return None
    x, y, side = square_of(seen, front)
    modal, hiding = (cut_square(part, x, y, side) for part in (look.visible, look.front))
    # What lies beyond the look is taken from the frame itself.
    picture = cut_square(rgb, x + look.box[0], y + look.box[1], side)
    answer = network(picture, modal, hiding)
    if answer.hidden < 0:
        return None
    shape = look.visible.shape
    chance = put_square(answer.amodal, x, y, side, shape)
    colours = put_square(answer.rgb, x, y, side, shape)
    whole = look.visible | ((chance > 0.5).astype(np.uint8) & look.front)
    asked = (look.front > 0) & (chance > 0.1)
    sure = float(np.abs(2 * chance[asked] - 1).mean()) if asked.any() else 0.0
    share = cv2.countNonZero(look.visible) / max(1, cv2.countNonZero(whole))
    confidence = sure * float(np.clip(2.5 * share, 0, 1)) / (1 + np.exp(-answer.hidden))
    origin = np.where(whole > 0, INVENTED, 0).astype(np.uint8)
    return whole, colours, origin, confidence


def square_of(seen: Box, front: Box) -> tuple[int, int, int]:
    """Left, top and side in whole pixels of the square the network is shown."""
    left, top, side = frame_square(seen, front)
    return round(left), round(top), max(8, round(side))


def cut_square(picture: NDArray[np.uint8], x: int, y: int, side: int) -> Bytes:
    """A square of a picture or mask at the network's size; edges repeated in pictures, zeros in masks."""
    height, width = picture.shape[:2]
    part = picture[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
    if part.size == 0:
        return np.zeros((SIDE, SIDE, *picture.shape[2:]), np.uint8)
    around = max(0, -y), max(0, y + side - height), max(0, -x), max(0, x + side - width)
    if any(around):
        border = cv2.BORDER_REPLICATE if picture.ndim == 3 else cv2.BORDER_CONSTANT
        part = u8(cv2.copyMakeBorder(part, *around, border, value=0))
    if picture.ndim == 2:
        soft = cv2.resize(part * np.uint8(255), (SIDE, SIDE), interpolation=_method(side))
        return (u8(soft) > 127).astype(np.uint8)
    return u8(cv2.resize(part, (SIDE, SIDE), interpolation=_method(side)))


def put_square(answer: NDArray[Number], x: int, y: int, side: int, shape: tuple[int, ...]) -> NDArray[Number]:
    """The network's answer back in a box of this shape; zeros where the square does not reach."""
    large = cv2.resize(np.asarray(answer), (side, side), interpolation=cv2.INTER_LINEAR)
    out = np.zeros((*shape[:2], *answer.shape[2:]), answer.dtype)
    top, left = max(0, y), max(0, x)
    bottom, right = min(shape[0], y + side), min(shape[1], x + side)
    if top < bottom and left < right:
        out[top:bottom, left:right] = large[top - y : bottom - y, left - x : right - x]
    return out


def _method(side: int) -> int:
    return cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR


def _assemble(
    number: int,
    look: Look,
    whole: Bytes,
    colours: Image,
    origin: Bytes,
    confidence: float,
    by: tuple[int, ...],
) -> Completed | None:
    """The completed thing, its visible pixels as they are; None where next to nothing of it is hidden."""
    hidden = whole & (1 - look.visible)
    if cv2.countNonZero(hidden) < _LEAST_HIDDEN:
        return None
    box = bounds(whole > 0)
    assert box is not None
    x0, y0, x1, y1 = max(0, box[0] - 2), max(0, box[1] - 2), box[2] + 2, box[3] + 2
    part = np.s_[y0:y1, x0:x1]
    seen = look.visible[part] > 0
    rgb = np.where(seen[..., None], look.rgb[part], colours[part]).astype(np.uint8)
    origin = np.where(seen, SEEN, origin[part]).astype(np.uint8)
    height, width = seen.shape
    left, top = look.box[0] + x0, look.box[1] + y0
    return Completed(
        number,
        (left, top, left + width, top + height),
        whole[part] > 0,
        rgb,
        _soft(whole[part]),
        origin,
        cv2.countNonZero(hidden) / max(1, cv2.countNonZero(whole)),
        confidence,
        by,
    )


def _soft(mask: Bytes) -> Bytes:
    """Alpha of a mask, soft at its edge and zero from one pixel beyond it."""
    alpha = u8(cv2.GaussianBlur(mask * np.uint8(255), (3, 3), 0))
    return np.where(cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0, alpha, 0).astype(np.uint8)


def _look(
    rgb: Image, track: Track, hiding: Sequence[Track], reach: float, known: Sequence[View]
) -> Look | None:
    """What is seen of a thing and what hides it, in a box for the whole thing; None: nothing is near."""
    shape = rgb.shape[0], rgb.shape[1]
    own = bounds(track.instance.mask)
    if own is None:
        return None
    fx, fy = shape[1] / track.instance.mask.shape[1], shape[0] / track.instance.mask.shape[0]
    x0, y0, x1, y1 = own[0] * fx, own[1] * fy, own[2] * fx, own[3] * fy
    # As far around as it was large when it was whole, or as the network looks.
    far_x = far_y = 0.0
    for view in known[-1:]:
        far_x, far_y = view.box[2] - view.box[0] - (x1 - x0), view.box[3] - view.box[1] - (y1 - y0)
    if not known:
        far_x = far_y = max(x1 - x0, y1 - y0)
    margin = 8 + int(0.05 * (y1 - y0))
    box = (
        max(0, int(x0 - max(0.0, far_x)) - margin),
        max(0, int(y0 - max(0.0, far_y)) - margin),
        min(shape[1], int(x1 + max(0.0, far_x)) + margin),
        min(shape[0], int(y1 + max(0.0, far_y)) + margin),
    )
    front = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    for each in hiding:
        front |= enlarge(each.instance.mask, shape, box)
    if not front.any():
        return None
    mine = enlarge(track.instance.mask, shape, box) & (1 - front)
    grow = max(1, round(reach * shape[0]))
    front = u8(cv2.dilate(front, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1,) * 2)))
    if track.missed:
        # Its mask is a guess: only what shows beside the one in front can be it.
        mine &= 1 - front
    front &= 1 - mine
    return Look(box, rgb[box[1] : box[3], box[0] : box[2]], mine, front)


def _view(rgb: Image, index: int, track: Track, least: int = _SMALLEST) -> View | None:
    """The thing's pixels now; None when it is too small to be worth it."""
    shape = rgb.shape[0], rgb.shape[1]
    own = bounds(track.instance.mask)
    if own is None:
        return None
    fx, fy = shape[1] / track.instance.mask.shape[1], shape[0] / track.instance.mask.shape[0]
    box = (
        max(0, int(own[0] * fx) - 3),
        max(0, int(own[1] * fy) - 3),
        min(shape[1], int(np.ceil(own[2] * fx)) + 3),
        min(shape[0], int(np.ceil(own[3] * fy)) + 3),
    )
    mask = enlarge(track.instance.mask, shape, box)
    if np.count_nonzero(mask) < least:
        return None
    return View(index, box, rgb[box[1] : box[3], box[0] : box[2]].copy(), mask)


def _thinned(kept: tuple[View, ...]) -> tuple[View, ...]:
    """At most as many views as fit the memory for one thing, denser the later they are."""
    most = int(np.clip(_BYTES // max(1, kept[-1].rgb.nbytes + kept[-1].mask.nbytes), _FEWEST, _MOST))
    out = list(kept)
    while len(out) > most:
        newest = out[-1].index
        gaps = [
            (out[k + 1].index - out[k - 1].index) / (newest - out[k].index + 60)
            for k in range(1, len(out) - 1)
        ]
        del out[1 + int(np.argmin(gaps))]
    return tuple(out)
