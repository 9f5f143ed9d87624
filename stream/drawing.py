"""A thing that is hidden in part as the network draws it, frame after frame without boiling."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.arrays import Bytes, Float, f32, u8
from stream.boxes import Box
from stream.completed import Found
from stream.glimpses import Nearby
from stream.hole import bounds
from stream.squares import Answer, Network, cut_square, put_square, square_of
from stream.types import INVENTED, REFERENCE, Image
from stream.views import Look

ENOUGH = 0.35
"""Confidence from which a completion is better than the background."""

_NEW = 0.5
_STAYS = 0.2
_DRAWN = 0.1
_EVEN = 0.015
_CRACK = 0.018


@dataclass(frozen=True)
class Drawn:
    """What the network said of a thing last: in which frame, in which box of it, and how sure that was.

    `chance` float32 (h, w): that a pixel is the thing's, by the network; `whole`: the same, by all that is
    known; `rgb` float32 (h, w, 3); `asked` float32 (h, w): 1
    where something was in front, so that there was something to be said.
    """

    index: int
    box: Box
    chance: Float
    whole: Float
    rgb: Float
    asked: Float
    confidence: float


def draw(
    rgb: Image,
    look: Look,
    index: int,
    network: Network,
    doubt: float,
    before: Drawn | None,
    step: NDArray[np.float64],
    near: Nearby | None,
    *,
    shown: bool,
    twice: bool,
) -> Drawn | None:
    """What the network says of a thing, and said a frame before; None where it says that nothing is hidden.

    Each frame for itself is drawn another way: the mean with the last one boils less, and is nearer to the
    truth. `step`: by how much the thing moves, pixels a frame; `near`: what the frames around show, which
    counts more than what is drawn; `doubt`: the confidence is multiplied by it; `shown`: the thing was put
    back a frame before in another way; `twice`: the network is asked of the mirrored picture too.
    """
    if before is not None and index - before.index != 1:
        before = None
    shown = shown or (before is not None and before.confidence >= ENOUGH)
    seen, front = bounds(look.visible > 0), bounds(look.front > 0)
    if seen is None or front is None:
        return None
    x, y, side = square_of(seen, front)
    modal, hiding = (cut_square(each, x, y, side) for each in (look.visible, look.front))
    # What lies beyond the look is taken from the frame itself.
    picture = cut_square(rgb, x + look.box[0], y + look.box[1], side)
    answer = network(picture, modal, hiding)
    if twice:
        answer = _mean(answer, network(*(np.ascontiguousarray(p[:, ::-1]) for p in (picture, modal, hiding))))
    if answer.hidden < 0 and before is None:
        return None
    # Only what is behind something is drawn, and a rim for what is smoothed.
    x0, y0, x1, y1 = _around(front, look.visible.shape)
    part = np.s_[y0:y1, x0:x1]
    box = look.box[0] + x0, look.box[1] + y0, look.box[0] + x1, look.box[1] + y1
    shape = y1 - y0, x1 - x0
    chance = put_square(answer.amodal, x - x0, y - y0, side, shape)
    colours = put_square(answer.rgb, x - x0, y - y0, side, shape).astype(np.float32)
    over = look.front[part]
    asked = over.astype(np.float32)
    if before is not None:
        dx, dy = np.array(before.box[:2]) - box[:2] + step
        move = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
        size = shape[1], shape[0]
        its, was, held = (
            f32(cv2.warpAffine(p, move, size)) for p in (before.chance, before.rgb, before.asked)
        )
        kept = (1 - _NEW) * held
        chance += kept * (its - chance)
        # Only where both are the thing: colours of what is around it would come in otherwise.
        colours += (kept * (its > 0.5))[..., None] * (was - colours)
    whole = chance
    if near is not None:
        whole = (_DRAWN * chance + near.mask[part]) / (_DRAWN + near.weight[part])
        # Strips of several frames do not quite meet.
        whole = f32(cv2.GaussianBlur(whole, (0, 0), max(0.8, _EVEN * look.visible.shape[0])))
    place = (over > 0) & (whole > 0.1)
    sure = float(np.abs(2 * whole[place] - 1).mean()) if place.any() else 0.0
    more = (whole > 0.5).astype(np.uint8) & over & (1 - look.visible[part])
    shows = cv2.countNonZero(look.visible)
    share = shows / max(1, shows + cv2.countNonZero(more))
    confidence = doubt * sure * float(np.clip(2.5 * share, 0, 1)) / (1 + np.exp(-answer.hidden))
    if shown and confidence >= _STAYS:
        # What was there a frame ago does not vanish for being a little less sure.
        confidence = max(confidence, ENOUGH)
    return Drawn(index, box, chance, f32(whole), colours, asked, confidence)


def as_drawn(look: Look, said: Drawn, near: Nearby | None) -> Found:
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
    return Found(look, whole, rgb, origin, said.confidence, np.zeros_like(whole))


def _around(front: Box, shape: tuple[int, ...]) -> Box:
    """A box with a rim, as far as the look reaches."""
    rim = 2 + round(3 * _EVEN * shape[0])
    x0, y0, x1, y1 = front
    return max(0, x0 - rim), max(0, y0 - rim), min(shape[1], x1 + rim), min(shape[0], y1 + rim)


def _mean(first: Answer, mirrored: Answer) -> Answer:
    """The mean of an answer and that to the mirrored picture."""
    amodal = f32((first.amodal + mirrored.amodal[:, ::-1]) / 2)
    rgb = cv2.addWeighted(first.rgb, 0.5, np.ascontiguousarray(mirrored.rgb[:, ::-1]), 0.5, 0)
    return Answer(amodal, u8(rgb), (first.hidden + mirrored.hidden) / 2)


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
