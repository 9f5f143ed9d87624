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

from stream import drawing, glimpses, looks, recall, views
from stream.completed import Completed, Found, assemble, visible
from stream.drawing import ENOUGH, Drawn
from stream.glimpses import Glimpse
from stream.order import Order
from stream.recall import Used
from stream.squares import Answer, Network
from stream.types import Image, Track
from stream.views import Look, View

__all__ = [
    "ENOUGH",
    "Answer",
    "Completed",
    "DeoccludeState",
    "Network",
    "Used",
    "complete",
    "initial",
    "observe",
    "visible",
]

_SPACING = 3
_PATIENCE = 3
_FORGOTTEN = 600
_DOUBT = 0.55
_TAKEN = 0.25


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
        known, last = state.views.get(each.id, ()), state.used.get(each.id)
        look = looks.look_at(rgb, each, hiding, reach, known)
        if look is None:
            continue
        found, fit = None, None
        if last is not None and last.step is not None and 0 < index - last.index < every:
            found = recall.as_it_went(look, known, last, index)
        # Where no view fitted a moment ago none is looked for again: that would cost as much each time.
        if found is None and not 0 < index - tried.get(each.id, index) < max(every, _PATIENCE):
            found, fit = recall.from_views(look, known, last, index)
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
            done.append(assemble(each.id, found, tuple(t.id for t in hiding)))
    hiding = [each for each in tracks if each.id in over]
    present = [each for each in tracks if each.id in wanted and not each.missed]
    for number, last in state.used.items() if hiding else ():
        if number in by_id or number not in wanted:
            continue
        place = recall.carried(last, state.views.get(number, ()), index)
        if place is None:
            continue
        found = _lost(rgb, last, place, index, hiding, present, reach)
        if found is None:
            del used[number]  # it is not waited for any more
        else:
            done.append(assemble(number, found, tuple(t.id for t in hiding)))
    tried = {number: last for number, last in tried.items() if number in by_id}
    parts = {number: glimpses.recent(mine, index) for number, mine in state.glimpses.items()}
    parts = {number: mine for number, mine in parts.items() if mine}
    return (
        tuple(each for each in done if each is not None),
        replace(state, used=used, tried=tried, drawn=drawn, glimpses=parts),
    )


def _lost(
    rgb: Image,
    last: Used,
    place: NDArray[np.float64],
    index: int,
    hiding: Sequence[Track],
    present: Sequence[Track],
    reach: float,
) -> Found | None:
    """Who is hidden so far that its track was lost, in this place; None where another track has it by now."""
    look = looks.look_behind(rgb, views.reach(last.view, place), hiding, reach)
    found = recall.from_last(look, last, place, index) if look is not None else None
    if found is None or looks.covered(found.look.box, found.whole, present, rgb.shape) > _TAKEN:
        return None
    return found


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
) -> tuple[Found | None, Drawn | None]:
    """No view fits: as it went on a moment ago, or as the network sees it if that sees enough to be sure.

    `doubt`: the network's confidence is multiplied by it; `twice`: it is asked of the mirrored picture too.
    """
    last, mine = state.used.get(number), state.views.get(number, ())
    going_on = recall.as_it_went(look, mine, last, index)
    if network is None:
        return going_on, None
    if going_on is not None and cv2.countNonZero(look.visible) < recall.ENOUGH_SEEN * cv2.countNonZero(
        going_on.whole
    ):
        return going_on, None
    step = last.step if last is not None and last.step is not None else glimpses.pace(mine, index)
    near = glimpses.gather(look, index, state.glimpses.get(number, ()), mine, step)
    before = state.drawn.get(number)
    shown = last is not None and index - last.index == 1
    said = drawing.draw(rgb, look, index, network, doubt, before, step, near, shown=shown, twice=twice)
    if said is None:
        return going_on, None
    found = drawing.as_drawn(look, said, near)
    if going_on is not None and found.confidence < max(ENOUGH, going_on.confidence):
        return going_on, said
    return found, said
