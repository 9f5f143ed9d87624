"""A frame taken apart: what is behind everything, and each thing on it as colours with an alpha.

With the background known, a thing's alpha and colours follow from the compositing equation
I = alpha F + (1 - alpha) B (Smith and Blinn, "Blue Screen Matting", SIGGRAPH 1996, eq. 1): B is what lies
behind, the colour of the thing beside its outline stands for F, and where that colour cannot be right the
smallest alpha is taken that can. Things laid back over the background from the rearmost to the foremost give
the frame again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.boxes import Box
from stream.hole import bounds
from stream.types import Image, Mask

_NOISE = 3.0
"""Levels by which a pixel beside a thing may differ from the background and still be it."""
_PLAIN = 30.0
"""Levels by which a few pixels together differ plainly, wherever they are."""
_PATTERN = 40.0
"""Levels between the darkest and the brightest of what makes a background's pattern."""
_BAND = 0.008
"""Half the width of the uncertain band along an outline, in heights of the frame."""


@dataclass(frozen=True)
class Cut:
    """A thing of one frame before it is taken out.

    `mask` H x W: where it is seen. `amodal` H x W: where it is, seen or hidden; `hidden` H x W x 3 RGB: its
    colours where `amodal` goes beyond `mask`; both None when nothing is known of what is hidden.
    """

    id: int
    mask: Mask
    amodal: Mask | None = None
    hidden: Image | None = None


@dataclass(frozen=True)
class Layer:
    """One thing of one frame, in a box of it.

    `colours`: uint8 h x w x 3 RGB, not multiplied by alpha, continued beyond the outline. `alpha`: uint8
    h x w. `shape`: uint8 h x w, 255 where the thing is seen, 128 where it is hidden, else 0.
    """

    id: int
    box: Box
    colours: Image
    alpha: NDArray[np.uint8]
    shape: NDArray[np.uint8]


def take_apart(picture: Image, plate: Image, replaced: Mask, things: Sequence[Cut]) -> list[Layer]:
    """The layers of a frame, from the rearmost thing to the foremost, as `things` are given.

    `picture`, `plate`: H x W x 3 RGB, with and without all things. `replaced`: H x W, where they may differ;
    what of it no mask covers (rims, shadows) goes with the nearest thing. Layers come out empty where a
    thing is wholly hidden and nothing is known of it; these are left out.
    """
    owner = _owners(replaced, things)
    canvas = plate.astype(np.float32)
    goal = picture.astype(np.float32)
    band = _band(picture.shape[0])
    layers = []
    for number, thing in enumerate(things, 1):
        box = _reach(owner == number, thing)
        if box is None:
            continue
        x0, y0, x1, y1 = box
        part = slice(y0, y1), slice(x0, x1)
        mine = owner[part] == number
        before = _covered(owner[part], number, things, part, band)
        layer = _layer(thing, box, goal[part], canvas[part], mine, before, band)
        if not layer.alpha.any():
            continue
        lay_over(canvas[part], layer.colours, layer.alpha)
        layers.append(layer)
    return layers


def lay_over(canvas: NDArray[np.float32], colours: Image, alpha: NDArray[np.uint8]) -> None:
    """Lay colours over a float32 canvas of the same size, in place (Porter and Duff's over)."""
    share = (alpha.astype(np.float32) / 255)[:, :, None]
    canvas += share * (colours - canvas)


def put_together(plate: Image, layers: Sequence[Layer]) -> Image:
    """The picture of a plate with layers laid over it, the rearmost first; H x W x 3 RGB."""
    canvas = plate.astype(np.float32)
    for layer in layers:
        x0, y0, x1, y1 = layer.box
        lay_over(canvas[y0:y1, x0:x1], layer.colours, layer.alpha)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _band(height: int) -> int:
    return max(1, round(_BAND * height))


def _owners(replaced: Mask, things: Sequence[Cut]) -> NDArray[np.int32]:
    """Which thing (from 1) each pixel belongs to, 0 none."""
    seen = np.zeros(replaced.shape, np.int32)
    for number, thing in enumerate(things, 1):
        seen[thing.mask] = number
    if not seen.any():
        return seen
    box = bounds(replaced | (seen > 0))
    assert box is not None
    x0, y0, x1, y1 = box
    inside = seen[y0:y1, x0:x1]
    _, nearest = cv2.distanceTransformWithLabels(
        (inside == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(nearest.max()) + 1, np.int32)
    of_label[nearest[inside > 0]] = inside[inside > 0]
    around = of_label[nearest]
    seen[y0:y1, x0:x1] = np.where(replaced[y0:y1, x0:x1] | (inside > 0), around, 0)
    return seen


def _covered(
    owner: NDArray[np.int32], number: int, things: Sequence[Cut], part: tuple[slice, slice], band: int
) -> Mask:
    """Where a thing may be hidden: on things in front of it, as far as their outlines are soft."""
    over = owner > number
    if things[number - 1].amodal is None or not over.any():
        return over
    masks = np.zeros(over.shape, bool)
    for other in things[number:]:
        masks |= other.mask[part]
    return over & _within(masks, band)


def _reach(mine: Mask, thing: Cut) -> Box | None:
    whole = mine if thing.amodal is None else mine | thing.amodal
    box = bounds(whole)
    if box is None:
        return None
    height, width = mine.shape
    # a margin, so that colours go on beyond the outline for whoever scales or filters the layer
    x0, y0, x1, y1 = box
    margin = 2 * _band(height)
    return max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)


def _layer(
    thing: Cut,
    box: Box,
    goal: NDArray[np.float32],
    behind: NDArray[np.float32],
    mine: Mask,
    before: Mask,
    band: int,
) -> Layer:
    """One thing in its box; `mine`: its pixels, `before`: those of things in front of it."""
    x0, y0, x1, y1 = box
    seen = thing.mask[y0:y1, x0:x1] & mine
    seen = seen & ~_seen_through(goal, behind, seen, band)
    core, colour = _own_colours(goal, seen, band)
    difference = goal - behind
    alpha = _likely(difference, colour - behind)
    alpha[core] = 1.0
    near = _within(seen, band)
    alpha[~near] = 0.0
    # no alpha smaller than this explains the pixel with colours that exist
    least = np.max(
        np.where(difference > 0, difference / (255.5 - behind), -difference / (behind + 0.5)), axis=2
    )
    most = np.abs(difference).max(axis=2)
    changed = (most > _NOISE) & near
    changed |= _solid(_replaced(goal, behind), min(band, 3)) | _together(most > _PLAIN)
    alpha = np.where(changed | core, np.maximum(alpha, least), np.where(seen, alpha, 0.0))
    alpha = np.clip(np.ceil(alpha * 255), 0, 255)
    alpha[~mine] = 0
    share = np.maximum(alpha, 1.0)[:, :, None] / 255
    colours = np.where(alpha[:, :, None] > 0, behind + difference / share, colour)
    shape = np.where(seen, np.uint8(255), np.uint8(0))
    if thing.amodal is not None and thing.hidden is not None:
        # Where nothing is in front of it nothing of it is hidden: it would be seen.
        hidden = thing.amodal[y0:y1, x0:x1] & before
        soft = cv2.GaussianBlur((thing.amodal[y0:y1, x0:x1]).astype(np.float32), (0, 0), max(0.5, band / 3))
        # between what is seen and what is hidden there is no outline
        joint = thing.amodal[y0:y1, x0:x1] & mine & _within(hidden, 2 * band)
        alpha[joint] = 255
        colours = np.where(joint[:, :, None], goal, colours)
        alpha = np.where(mine, alpha, np.where(hidden, np.rint(255 * np.clip(2 * soft - 0.5, 0, 1)), 0))
        colours = np.where(hidden[:, :, None], thing.hidden[y0:y1, x0:x1], colours)
        shape[hidden] = 128
    return Layer(
        thing.id, box, np.clip(np.rint(colours), 0, 255).astype(np.uint8), alpha.astype(np.uint8), shape
    )


def _own_colours(goal: NDArray[np.float32], seen: Mask, band: int) -> tuple[Mask, NDArray[np.float32]]:
    """What is surely the thing, and at every pixel the colour of the nearest such pixel."""
    inside = seen.astype(np.uint8)
    depth = cv2.distanceTransform(
        cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_L2, 5
    )
    core = depth[1:-1, 1:-1] > band
    if not core.any():
        core = seen
    if not core.any():
        return core, goal
    _, nearest = cv2.distanceTransformWithLabels(
        (~core).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    smooth = cv2.GaussianBlur(goal * core[:, :, None], (0, 0), band)
    weight = cv2.GaussianBlur(core.astype(np.float32), (0, 0), band)[:, :, None]
    mean = np.where(weight > 1e-3, smooth / np.maximum(weight, 1e-3), goal)
    table = np.zeros((int(nearest.max()) + 1, 3), np.float32)
    table[nearest[core]] = mean[core]
    return core, np.where(core[:, :, None], goal, table[nearest])


def _likely(difference: NDArray[np.float32], away: NDArray[np.float32]) -> NDArray[np.float32]:
    """The alpha that explains a pixel best with the thing's colour: least squares over the channels."""
    found = (difference * away).sum(axis=2) / np.maximum((away * away).sum(axis=2), 25.0)
    return np.asarray(np.clip(found, 0.0, 1.0), np.float32)


def _replaced(goal: NDArray[np.float32], behind: NDArray[np.float32]) -> Mask:
    """Where a pixel is none of those around it in the background: what is a pixel off is no thing's."""
    around = np.ones((3, 3), np.uint8)
    low, high = cv2.erode(behind, around) - 2 * _NOISE, cv2.dilate(behind, around) + 2 * _NOISE
    return np.asarray(((goal < low) | (goal > high)).any(axis=2))


def _seen_through(goal: NDArray[np.float32], behind: NDArray[np.float32], seen: Mask, band: int) -> Mask:
    """What a mask took for its thing though the background's own pattern is there, from its outline inwards.

    Where the background is even, a thing of its colour cannot be told from it, and the mask is believed.
    """
    wide = np.ones((2 * band + 3, 2 * band + 3), np.uint8)
    pattern = (cv2.dilate(behind, wide) - cv2.erode(behind, wide)).max(axis=2) > _PATTERN
    same = (pattern & ~_replaced(goal, behind)).astype(np.uint8)
    same = cv2.morphologyEx(same, cv2.MORPH_OPEN, np.ones((band + 2, band + 2), np.uint8))
    _, pieces = cv2.connectedComponents((same > 0).astype(np.uint8) | (~seen).astype(np.uint8))
    outside = np.unique(pieces[~seen])
    return np.asarray((same > 0) & seen & np.isin(pieces, outside))


def _solid(changed: Mask, reach: int) -> Mask:
    """Where most of the pixels around changed: single ones are the fill's and the encoder's noise."""
    return np.asarray(cv2.medianBlur(changed.astype(np.uint8), 2 * reach + 1)) > 0


def _together(changed: Mask) -> Mask:
    """Pixels of even the smallest pieces, but not single ones."""
    pieces = cv2.dilate(_solid(changed, 1).astype(np.uint8), np.ones((3, 3), np.uint8))
    return changed & (pieces > 0)


def _within(seen: Mask, distance: int) -> Mask:
    return np.asarray(cv2.distanceTransform((~seen).astype(np.uint8), cv2.DIST_L2, 5) <= 2 * distance)


def hidden_share(layer: Layer) -> float:
    """How much of a thing is hidden, in [0, 1]."""
    hidden = int(np.count_nonzero(layer.shape == 128))
    return hidden / max(1, int(np.count_nonzero(layer.shape)))


def by_foot(masks: Mapping[int, Mask]) -> list[int]:
    """Ids from the rearmost to the foremost, by how low in the picture each thing stands."""
    lowest = {number: (bounds(mask) or (0, 0, 0, 0))[3] for number, mask in masks.items()}
    return sorted(masks, key=lambda number: (lowest[number], -number))
