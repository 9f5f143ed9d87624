"""Who stays is whole again where who goes hid a part: remembered ahead of the fill, put back after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from stream import deocclude, judge, order, planes
from stream.arrays import Bytes, u8
from stream.boxes import Box
from stream.completer import witness
from stream.deocclude import Completed
from stream.hole import bounds
from stream.limits import THOROUGH, Limits
from stream.squares import Network
from stream.types import INVENTED, REFERENCE, SEEN, Filled, Frame, Hole, Image, Mask, Track, Verdict

_AWAY = 90
_ALIKE = 8
_SEAM, _SEAM_LEAST = 5, 24

Opener = Callable[[], Network | None]
"""Opens the network, or gives it again; None where there is none."""


@dataclass(frozen=True)
class KeptState:
    """Who is in front of whom, what was seen of whom, and the order of the frames that are not yet filled."""

    ordering: order.OrderState = field(default_factory=order.initial)
    seen: deocclude.DeoccludeState = field(default_factory=deocclude.initial)
    orders: Mapping[int, order.Order] = field(default_factory=dict)


def initial() -> KeptState:
    """The state before the first frame of a shot."""
    return KeptState()


def remember(
    state: KeptState,
    frame: Frame,
    tracks: Sequence[Track],
    verdicts: Mapping[int, Verdict],
    open_network: Opener,
    limits: Limits = THOROUGH,
) -> KeptState:
    """Take in the newest frame; nothing is done where nobody who goes comes near one who stays.

    `limits`: what one picture may cost; `complete` must be told the same.
    """
    kept, gone = _sides(tracks, verdicts)
    mixed = [each for each in tracks if each.id in kept or each.id in gone]
    passing = [each for each in mixed if each.id in gone]
    near = {each.id for each in mixed if each.id in kept and _near(each, passing)}
    # Who was near a moment ago may be hidden wholly now, and have no track.
    present = {each.id for each in mixed}
    missing = any(
        number not in present and frame.index - mine[-1].index < _AWAY
        for number, mine in state.seen.views.items()
    )
    if not passing or not (near or missing):
        return state

    def seen_by_network(back: Track, front: Track) -> float:
        # Who of two that stay is in front is nothing to the fill.
        network = open_network() if (back.id in kept) != (front.id in kept) else None
        return witness(frame.rgb, network)(back, front) if network is not None else 0.0

    now, ordering = order.step(state.ordering, mixed, frame.height, seen_by_network)
    seen = deocclude.observe(state.seen, _picture(frame, limits), frame.index, mixed, now, near, gone)
    return KeptState(ordering, seen, {**state.orders, frame.index: now})


def _picture(frame: Frame, limits: Limits) -> Image:
    """The frame, at half the size where it is too large for all of it."""
    large = frame.height >= limits.halved_from and frame.width % 2 == frame.height % 2 == 0
    return frame.half if large else frame.rgb


def _doubled(done: Completed) -> Completed:
    """What was completed at half the size, at the size of the frame."""
    x0, y0, x1, y1 = (2 * each for each in done.box)

    def larger(mask: Bytes | Mask, smooth: bool) -> Bytes:
        raw = mask.view(np.uint8)
        how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
        return u8(cv2.resize(raw, (x1 - x0, y1 - y0), interpolation=how))

    return replace(
        done,
        box=(x0, y0, x1, y1),
        amodal=larger(done.amodal, smooth=False) > 0,
        rgb=u8(cv2.resize(done.rgb, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)),
        alpha=larger(done.alpha, smooth=True),
        origin=larger(done.origin, smooth=False),
        foreign=larger(done.foreign, smooth=False) > 0,
    )


def _near(thing: Track, passing: Sequence[Track]) -> bool:
    """Whether somebody passes within the thing's own height of it."""
    x0, y0, x1, y1 = thing.instance.box
    reach = y1 - y0
    return any(
        x0 - reach < box[2] and box[0] < x1 + reach and y0 - reach < box[3] and box[1] < y1 + reach
        for box in (each.instance.box for each in passing)
    )


def complete(
    state: KeptState,
    frame: Frame,
    tracks: Sequence[Track],
    verdicts: Mapping[int, Verdict],
    reach: float,
    open_network: Opener,
    limits: Limits = THOROUGH,
) -> tuple[tuple[Completed, ...], KeptState]:
    """Complete who stays and is hidden by who goes, from back to front; mostly nobody is.

    `reach`: how far the hole goes beyond the masks, share of the frame's height. `limits`: as in `remember`.
    """
    now = state.orders.get(frame.index)
    if now is None:
        return (), state
    orders = {index: each for index, each in state.orders.items() if index > frame.index}
    kept, gone = _sides(tracks, verdicts)
    hidden = any(pair.back in kept and pair.front in gone for pair in now.pairs)
    picture = _picture(frame, limits)
    done, seen = deocclude.complete(
        state.seen,
        picture,
        frame.index,
        tracks,
        now,
        wanted=kept,
        over=gone,
        network=open_network() if hidden else None,
        reach=reach,
        # A single picture has no other frames; a clip's first one has those that were looked at ahead.
        followed=frame.index > 0 or bool(orders),
        every=1 + limits.completed_lasts,
    )
    ranks = {number: rank for rank, number in enumerate(now.ids)}
    ordered = sorted(done, key=lambda each: -ranks.get(each.track, 0))
    if picture.shape[0] < frame.height:
        ordered = [_doubled(each) for each in ordered]
    return tuple(ordered), replace(state, seen=seen, orders=orders)


def widened(hole: Hole, done: Sequence[Completed]) -> Hole:
    """The hole with those pixels that were spared as somebody's who stays, and are not."""
    more = [each for each in done if each.confidence >= deocclude.ENOUGH and each.foreign.any()]
    if not more:
        return hole
    alpha = hole.alpha.copy()
    for each in more:
        mine, its = _common(each.box, (0, 0, alpha.shape[1], alpha.shape[0]))
        alpha[its][each.foreign[mine]] = 255
    return Hole(alpha, bounds(alpha > 0), hole.tracks)


def put_back(filled: Filled, done: Sequence[Completed], hole: Hole) -> Filled:
    """The filled frame with who stays completed, inside the hole alone; where there is nobody, as it was.

    `hole`: as it was filled. What is not sure stays background, and its track is named in `Filled.unsure`.
    """
    unsure = tuple(sorted(each.track for each in done if each.confidence < deocclude.ENOUGH))
    for each in done:
        if each.confidence >= deocclude.ENOUGH:
            filled = _with(filled, each, hole)
    return replace(filled, unsure=unsure) if unsure else filled


def _with(filled: Filled, done: Completed, hole: Hole) -> Filled:
    """The frame with the hidden part of one thing."""
    assert filled.box is not None
    mine, its = _common(done.box, filled.box)
    x0, y0 = filled.box[0] + its[1].start, filled.box[1] + its[0].start
    x1, y1 = filled.box[0] + its[1].stop, filled.box[1] + its[0].stop
    hidden = (done.origin[mine] == REFERENCE) | (done.origin[mine] == INVENTED)
    open_to = np.minimum(done.alpha[mine], hole.alpha[y0:y1, x0:x1])
    alpha: Bytes = np.where(hidden, open_to, 0).astype(np.uint8)
    if not alpha.any():
        return filled
    plain = planes.part_to_rgb(filled.frame, (x0, y0, x1, y1))
    if (done.origin == INVENTED).any() and _goes_on(plain, filled.origin[its], done, mine, open_to):
        return filled
    # Where both say the same the background has the pixels themselves.
    apart = cv2.split(cv2.absdiff(plain, done.rgb[mine]))
    alpha[cv2.max(cv2.max(apart[0], apart[1]), apart[2]) <= _ALIKE] = 0
    frame = planes.write_back(filled.frame, done.rgb[mine], alpha, (x0, y0, x1, y1))
    origin = filled.origin.copy()
    got = np.where(done.origin[mine] == REFERENCE, SEEN, INVENTED).astype(np.uint8)
    origin[its] = np.where((alpha > 127) & (origin[its] > 0), got, origin[its])
    return replace(filled, frame=frame, origin=origin)


def _goes_on(plain: Image, origin: Bytes, done: Completed, mine: tuple[slice, slice], open_to: Bytes) -> bool:
    """Whether the background, seen elsewhere, goes on from the thing's visible part as well as the drawing.

    Then what was taken for a thing that moves rests, and the background shows it already.
    """
    visible = (done.origin[mine] == SEEN).astype(np.uint8)
    size = 2 * _SEAM + 1, 2 * _SEAM + 1
    weight = cv2.blur(visible.astype(np.float32), size)
    seam = (visible == 0) & (done.origin[mine] == INVENTED) & (open_to == 255) & (weight > 0.1)
    if np.count_nonzero(seam) < _SEAM_LEAST or np.mean(origin[seam] == SEEN) < 0.8:
        return False
    drawn = done.rgb[mine]
    beside = cv2.blur(drawn.astype(np.float32) * visible[..., None], size)[seam] / weight[seam][:, None]
    apart = [float(np.abs(each[seam] - beside).mean()) for each in (plain, drawn)]
    return apart[0] <= 1.2 * apart[1] + 1


def _common(first: Box, second: Box) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """What two boxes share, as rows and columns of each; empty slices where they are apart."""
    x0, y0 = max(first[0], second[0]), max(first[1], second[1])
    x1, y1 = max(x0, min(first[2], second[2])), max(y0, min(first[3], second[3]))
    a, b = ((slice(y0 - box[1], y1 - box[1]), slice(x0 - box[0], x1 - box[0])) for box in (first, second))
    return a, b


def _sides(tracks: Sequence[Track], verdicts: Mapping[int, Verdict]) -> tuple[frozenset[int], frozenset[int]]:
    """Ids of those that stay and may move, and of those that go.

    What stays and rests is part of the scene: the plate knows it as it is.
    """
    resting = {each.id for each in tracks} - judge.forbidden(tracks, ())
    return (
        frozenset(
            number for number, said in verdicts.items() if said.action == "keep" and number not in resting
        ),
        frozenset(number for number, said in verdicts.items() if said.action == "remove"),
    )
