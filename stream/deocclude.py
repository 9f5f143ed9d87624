"""Complete what is hidden of things: from their own frames where they were whole, else by a network.

`observe` remembers things while nothing stands before them; `complete` says for each thing that is hidden in
part how far it reaches, what its hidden pixels look like, and how sure that is. With look-ahead `observe` is
ahead of `complete`, so that a thing seen whole only later is completed all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import drawing, glimpses, looks, views
from stream.arrays import Bytes, f32, u8
from stream.boxes import Box
from stream.drawing import ENOUGH, Drawn
from stream.glimpses import Glimpse, Nearby
from stream.hole import bounds
from stream.order import Order
from stream.squares import Answer, Network
from stream.types import INVENTED, REFERENCE, SEEN, Image, Mask, Track
from stream.views import Look, View

__all__ = ["ENOUGH", "Answer", "Completed", "DeoccludeState", "Network", "complete", "observe", "visible"]

_SPACING = 3
_PATIENCE = 3
_FORGOTTEN = 600
_LEAST_HIDDEN = 12
_FITS = 0.5
_SHOWN = 0.08
_ENOUGH_SEEN = 0.35
_CARRIED = 20
_AWAY = 60
_FADING = 0.98
_EASE = 0.3
_DOUBT = 0.55
_CONTRARY = 32.0
_SHOWS = 0.06
_TAKEN = 0.25
_CRACK = 0.018


@dataclass(frozen=True)
class Completed:
    """A thing that is hidden in part, whole again, inside `box` (x0, y0, x1, y1) of the frame.

    `amodal` bool (h, w): all of it; `rgb` uint8 (h, w, 3); `alpha` uint8 (h, w), soft at the edge; `origin`
    uint8 (h, w): 0 = not the thing, SEEN in this frame, REFERENCE = the thing's own other frames, INVENTED.
    `hidden`: share of it that is hidden; `confidence` in [0, 1]: below `ENOUGH` the background is the better
    fill; `by`: the tracks that hide it. `foreign` bool (h, w): pixels that the thing's mask had and that look
    like what is in front of it: they are not its own, and belong to the hole.
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
    foreign: Mask


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


@dataclass(frozen=True)
class DeoccludeState:
    """Views of each track from when it was whole, glimpses from when it was not, how each was completed last,
    when none fitted, and what was drawn of it.
    """

    views: Mapping[int, tuple[View, ...]] = field(default_factory=dict)
    glimpses: Mapping[int, tuple[Glimpse, ...]] = field(default_factory=dict)
    used: Mapping[int, Used] = field(default_factory=dict)
    tried: Mapping[int, int] = field(default_factory=dict)
    drawn: Mapping[int, Drawn] = field(default_factory=dict)


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
    over: Collection[int] = (),
    reach: float = 0.012,
) -> DeoccludeState:
    """Remember those `wanted` things of frame `index` that nothing hides; `rgb` is the whole frame.

    Of one that something of `over` hides what shows is kept for the frames around; `reach` as in `complete`.

    Where there is only one thing nothing will hide it, and nothing is done. A thing that touches one of
    `over` is not remembered, whoever is in front: where two things touch, masks hold pixels of both.
    """
    if len(tracks) < 2:
        return state
    known, parts = dict(state.views), dict(state.glimpses)
    by_id = {each.id: each for each in tracks}
    for each in tracks:
        if each.id not in wanted or each.missed:
            continue
        hiding = [by_id[k] for k in order.covering(each.id) if k in over and k in by_id]
        if hiding:
            seen = glimpses.glimpse_of(rgb, index, each, hiding, known.get(each.id, ()), reach)
            if seen is not None:
                parts[each.id] = glimpses.kept(parts.get(each.id, ()), seen)
            continue
        if order.covering(each.id) or not order.touching(each.id).isdisjoint(over):
            continue
        mine = known.get(each.id, ())
        if mine and abs(index - mine[-1].index) < _SPACING:
            continue
        view = looks.view_of(rgb, index, each)
        if view is not None:
            known[each.id] = looks.thinned((*mine, view))
    for number in [k for k, mine in known.items() if index - mine[-1].index > _FORGOTTEN]:
        del known[number]
    return replace(state, views=known, glimpses=parts)


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
    followed: bool = False,
    every: int = 1,
) -> tuple[tuple[Completed, ...], DeoccludeState]:
    """Complete the `wanted` things that those of `over` hide in part; things that are whole are left out.

    `reach`: how far beyond its mask a thing may hide others, share of the frame's height: as far as the hole
    that is filled. Without a network only what was seen in other frames can be completed. `followed`: the
    things were looked at in other frames too. Then the background is known, and what the network invents must
    be surer: a thing never seen apart from what hides it may well be a piece of that, and of other things
    than people it draws no more than rounded shapes. `every`: a thing is looked for anew every so many frames
    at least, and goes on as it went between.
    """
    done = []
    used, tried, drawn = dict(state.used), dict(state.tried), dict[int, Drawn]()
    by_id = {each.id: each for each in tracks}
    for each in tracks:
        hiding = [by_id[k] for k in order.covering(each.id) if k in over and k in by_id]
        if each.id not in wanted or not hiding:
            continue
        look = looks.look_at(rgb, each, hiding, reach, state.views.get(each.id, ()))
        if look is None:
            continue
        found, fit = _going_on(state, look, each.id, index, every), None
        # Where no view fitted a moment ago none is looked for again: that would cost as much each time.
        if found is None and not 0 < index - tried.get(each.id, index) < max(every, _PATIENCE):
            found, fit = _from_views(state, look, each.id, index)
            if fit is None:
                tried[each.id] = index
        if found is None:
            plain = followed and (each.id not in state.views or each.label != "person")
            doubt = _DOUBT if plain else 1.0
            found, said = _without_views(state, rgb, look, each.id, index, network, doubt, twice=not followed)
            if said is not None:
                drawn[each.id] = said
        if fit is not None:
            used[each.id] = fit
        if found is not None:
            done.append(_assemble(each.id, found, tuple(t.id for t in hiding)))
    # Who is hidden so far that its track was lost goes on for a while.
    present = [each for each in tracks if each.id in wanted and not each.missed]
    for number, last in state.used.items():
        hiding = [each for each in tracks if each.id in over]
        if number in by_id or number not in wanted or not hiding:
            continue
        place = _carried(last, state.views.get(number, ()), index)
        if place is not None:
            look = looks.look_behind(rgb, views.reach(last.view, place), hiding, reach)
            found = _from_last(look, last, place, index) if look is not None else None
            if found is None or looks.covered(found.look.box, found.whole, present, rgb.shape) > _TAKEN:
                # It is not where it should be, or another track has it by now: it is not waited for any more.
                del used[number]
            else:
                done.append(_assemble(number, found, tuple(t.id for t in hiding)))
    tried = {number: last for number, last in tried.items() if number in by_id}
    parts = {number: glimpses.recent(mine, index) for number, mine in state.glimpses.items()}
    return (
        tuple(each for each in done if each is not None),
        replace(
            state,
            used=used,
            tried=tried,
            drawn=drawn,
            glimpses={k: mine for k, mine in parts.items() if mine},
        ),
    )


def visible(rgb: Image, track: Track) -> Completed | None:
    """A thing that nothing hides, as it is seen; None when its mask is empty."""
    view = looks.view_of(rgb, 0, track, least=1)
    if view is None:
        return None
    origin, none = view.mask * np.uint8(SEEN), np.zeros(view.mask.shape, bool)
    return Completed(
        track.id, view.box, view.mask > 0, view.rgb, _soft(view.mask), origin, 0.0, 1.0, (), none
    )


@dataclass(frozen=True)
class _Found:
    """The whole thing's mask, its colours and where they are from, in a look's box, and the confidence."""

    look: Look
    whole: Bytes
    rgb: Image
    origin: Bytes
    confidence: float
    foreign: Bytes


def _from_views(
    state: DeoccludeState, look: Look, number: int, index: int
) -> tuple[_Found | None, Used | None]:
    """Complete from the thing's own other frames; None where none fits."""
    last = state.used.get(number)
    known = state.views.get(number, ())
    chosen = views.choose(look, known, index, last.view.index if last is not None else None)
    if chosen is not None:
        view, dx, dy = chosen
        shown = cv2.countNonZero(look.visible) / max(1, cv2.countNonZero(view.mask))
        laid = views.lay(look, view, (dx, dy)) if shown >= _SHOWN else None
        if laid is not None and (shown >= _ENOUGH_SEEN or not _strays(last, view, laid.place, index)):
            mended, foreign = _mended(look, laid.rgb, laid.mask)
            fit = views.fit(mended, laid.rgb, laid.mask)
            if fit >= _FITS:
                used = _used(last, index, laid, view, fit)
                return _laid_over(mended, laid.rgb, laid.mask, fit, foreign), used
    return None, None


def _going_on(state: DeoccludeState, look: Look, number: int, index: int, every: int) -> _Found | None:
    """A thing that was laid over a moment ago, as it went on; None when it is to be looked for anew."""
    last = state.used.get(number)
    if last is None or last.step is None or not 0 < index - last.index < every:
        return None
    place = _carried(last, state.views.get(number, ()), index)
    return None if place is None else _from_last(look, last, place, index)


def _without_views(
    state: DeoccludeState,
    rgb: Image,
    look: Look,
    number: int,
    index: int,
    network: Network | None,
    doubt: float,
    *,
    twice: bool,
) -> tuple[_Found | None, Drawn | None]:
    """No view fits: as it went on a moment ago, or as the network sees it if that sees enough to be sure.

    `doubt`: the network's confidence is multiplied by it; `twice`: it is asked of the mirrored picture too.
    """
    last = state.used.get(number)
    place = _carried(last, state.views.get(number, ()), index) if last is not None else None
    going_on = _from_last(look, last, place, index) if last is not None and place is not None else None
    if network is None:
        return going_on, None
    if going_on is not None and cv2.countNonZero(look.visible) < _ENOUGH_SEEN * cv2.countNonZero(
        going_on.whole
    ):
        return going_on, None
    mine = state.views.get(number, ())
    step = last.step if last is not None and last.step is not None else glimpses.pace(mine, index)
    near = glimpses.gather(look, index, state.glimpses.get(number, ()), mine, step)
    before = state.drawn.get(number)
    shown = last is not None and index - last.index == 1
    said = drawing.draw(rgb, look, index, network, doubt, before, step, near, shown=shown, twice=twice)
    if said is None:
        return going_on, None
    found = _as_drawn(look, said, near)
    if going_on is not None and found.confidence < max(ENOUGH, going_on.confidence):
        return going_on, said
    return found, said


def _as_drawn(look: Look, said: Drawn, near: Nearby | None) -> _Found:
    """The thing as the network drew it, in the colours it has in the frames around where these show it."""
    x, y = said.box[0] - look.box[0], said.box[1] - look.box[1]
    part = np.s_[y : y + said.whole.shape[0], x : x + said.whole.shape[1]]
    hidden, rgb = np.zeros_like(look.front), look.rgb.copy()
    hidden[part] = (said.whole > 0.5) & (look.front[part] > 0)
    rgb[part] = np.clip(said.rgb + 0.5, 0, 255)
    whole = look.visible | hidden
    origin = np.where(whole > 0, INVENTED, 0).astype(np.uint8)
    if near is not None:
        shown = hidden & near.seen
        cv2.copyTo(near.rgb, shown, rgb)
        origin[shown > 0] = REFERENCE
        rgb = _closed(rgb, shown, hidden & (1 - shown))
    return _Found(look, whole, rgb, origin, said.confidence, np.zeros_like(whole))


def _closed(rgb: Image, known: Bytes, between: Bytes) -> Image:
    """Colours with those near what is known drawn over to what lies `between`: cracks are closed."""
    around = bounds(between)
    if around is None:
        return rgb
    size = 2 * max(2, round(_CRACK * rgb.shape[0])) + 1
    (x0, y0), (x1, y1) = (max(0, each - size) for each in around[:2]), (each + size for each in around[2:])
    part = np.s_[y0:y1, x0:x1]
    inside = cv2.bitwise_and(rgb[part], rgb[part], mask=known[part]).astype(np.float32)
    weight = f32(cv2.blur(known[part].astype(np.float32), (size, size)))
    spread = cv2.blur(inside, (size, size)) / (weight[..., None] + np.float32(1e-3))
    share = (np.minimum(1, 3 * weight) * between[part])[..., None]
    out = rgb.copy()
    out[part] = np.clip(rgb[part] + share * (spread - rgb[part]) + np.float32(0.5), 0, 255)
    return out


def _from_last(look: Look, last: Used, place: NDArray[np.float64], index: int) -> _Found | None:
    """Next to nothing of it shows: it goes on as it went; None where what should show of it does not."""
    rgb, mask = views.placed(look, last.view, place)
    if views.contrary(look, rgb, mask, _SHOWS) > _CONTRARY:
        return None
    fit = last.fit * _FADING ** (index - last.index)
    mended, foreign = _mended(look, rgb, mask)
    return _laid_over(mended, rgb, mask, fit, foreign)


def _mended(look: Look, rgb: Image, mask: Bytes) -> tuple[Look, Bytes]:
    """The look without those visible pixels that are not the thing's, and these."""
    foreign = views.foreign(look, rgb, mask)
    return replace(look, visible=look.visible & (1 - foreign), front=look.front | foreign), foreign


def _laid_over(look: Look, rgb: Image, mask: Bytes, confidence: float, foreign: Bytes) -> _Found:
    whole = look.visible | (mask & look.front)
    origin = np.where(whole > 0, REFERENCE, 0).astype(np.uint8)
    return _Found(look, whole, rgb, origin, confidence, foreign)


def _carried(last: Used, known: Sequence[View], index: int) -> NDArray[np.float64] | None:
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


def _used(last: Used | None, index: int, laid: views.Laid, view: View, fit: float) -> Used:
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


def _assemble(number: int, found: _Found, by: tuple[int, ...]) -> Completed | None:
    """The completed thing, its visible pixels as they are; None where next to nothing of it is hidden."""
    look, whole = found.look, found.whole
    hidden = whole & (1 - look.visible)
    if cv2.countNonZero(hidden) < _LEAST_HIDDEN:
        return None
    box = bounds((whole | found.foreign) > 0)
    assert box is not None
    x0, y0, x1, y1 = max(0, box[0] - 2), max(0, box[1] - 2), box[2] + 2, box[3] + 2
    part = np.s_[y0:y1, x0:x1]
    seen = look.visible[part] > 0
    rgb = np.where(seen[..., None], look.rgb[part], found.rgb[part]).astype(np.uint8)
    height, width = seen.shape
    left, top = look.box[0] + x0, look.box[1] + y0
    return Completed(
        number,
        (left, top, left + width, top + height),
        whole[part] > 0,
        rgb,
        _soft(whole[part]),
        np.where(seen, SEEN, found.origin[part]).astype(np.uint8),
        cv2.countNonZero(hidden) / max(1, cv2.countNonZero(whole)),
        found.confidence,
        by,
        found.foreign[part] > 0,
    )


def _soft(mask: Bytes) -> Bytes:
    """Alpha of a mask, soft at its edge and zero from one pixel beyond it."""
    alpha = u8(cv2.GaussianBlur(mask * np.uint8(255), (3, 3), 0))
    return np.where(cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0, alpha, 0).astype(np.uint8)
