"""From the segmentator's maps to single things: Panoptic-DeepLab's grouping, and what it would lose.

Cheng et al., CVPR 2020, section 3.2: centres are the maxima of the heat map, every foreground cell
goes to the centre nearest to where its offset points (equation 1), the class is voted. Three changes:
a centre's cells are split by kind (a rider and the bicycle share a centre more often than not);
touching parts whose offsets point at each other are one thing (a weak heat map has several maxima on
a large one); foreground that no centre claims becomes connected regions instead of nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .labels import THING_NAMES

STRIDE = 4

_KINDS: dict[str, tuple[str, str]] = {
    "person": ("person", "person"),
    "cycle": ("bicycle", "motorcycle"),
    "vehicle": ("car", "boat"),
    "outdoor": ("traffic light", "bench"),
    "animal": ("bird", "giraffe"),
    "carried": ("backpack", "suitcase"),
    "sports": ("frisbee", "tennis racket"),
    "kitchen": ("bottle", "bowl"),
    "food": ("banana", "cake"),
    "indoor": ("chair", "toothbrush"),
}
"""Kinds of things as (first, last) runs of COCO's order; cycles come first and are taken out."""


def _kind_table() -> np.ndarray:
    table = np.zeros(len(THING_NAMES), np.int64)
    for number, (first, last) in enumerate(_KINDS.values()):
        if first == "bicycle":
            continue
        table[THING_NAMES.index(first) : THING_NAMES.index(last) + 1] = number
    for name in _KINDS["cycle"]:
        table[THING_NAMES.index(name)] = list(_KINDS).index("cycle")
    return table


_FAR = 16.0
"""Cells between the middles of two parts from which on a weaker agreement joins them."""

KIND_OF = _kind_table()
"""For each of the 80 things the number of its kind."""


class FoundThing(NamedTuple):
    """One thing in a picture.

    label: index into THING_NAMES. score: in [0, 1], mean probability of the class times the root of
    the centre's heat (a half where no centre was found). box: (x0, y0, x1, y1) in input pixels,
    x1 and y1 exclusive. mask: (H/4, W/4) bool at stride 4.
    """

    label: int
    score: float
    box: tuple[int, int, int, int]
    mask: np.ndarray


def group_instances(
    logits: np.ndarray,
    centre: np.ndarray,
    offset: np.ndarray,
    *,
    foreground: float = 0.5,
    peak: float = 0.15,
    window: int = 5,
    reach: float = 6.0,
    agreement: float = 0.18,
    smallest: int = 8,
    most: int = 100,
) -> tuple[FoundThing, ...]:
    """The things of one picture, best score first.

    logits (81, h, w), centre (1, h, w) and offset (2, h, w), float32: the network's output for one
    picture. A cell is foreground where the probability of any thing exceeds `foreground`; a centre
    is a heat maximum of at least `peak` within `window` x `window` cells (odd), on or beside the
    foreground, at most `most` of them; a cell whose offset misses every centre by more than `reach`
    cells (plus a quarter of the offset's length) goes to no centre; touching parts of a kind whose
    offsets point at each other by more than `agreement` (0 two things, 1 one thing; half of it serves
    things other than people, and less yet where these are large) are joined; what
    has under `smallest` cells is dropped. Raises ValueError when the three maps do not fit each other.
    """
    height, width = logits.shape[1:]
    if centre.shape[-2:] != (height, width) or offset.shape != (2, height, width):
        raise ValueError(
            f"maps do not fit: logits {logits.shape}, centre {centre.shape}, offset {offset.shape}"
        )
    # Only where some thing comes within 1 / 80 of the background can all things together exceed it.
    odds = foreground / (1 - foreground)
    close = np.flatnonzero(logits[1:].max(0) > logits[0] + np.log(odds / len(THING_NAMES)))
    scores = logits.reshape(len(logits), -1).take(close, axis=1)
    scores -= scores.max(0)
    np.exp(scores, out=scores)
    keep = scores[0] * odds < scores[1:].sum(0)
    if not keep.any():
        return ()
    cells, scores = close[keep], scores.compress(keep, axis=1)
    ys, xs = np.divmod(cells, width)
    offsets = offset.reshape(2, -1).take(cells, axis=1)
    probability = scores[1:] / scores.sum(0)  # (80, N)
    inside = np.zeros((height, width), np.uint8)
    inside[ys, xs] = 1
    kind = KIND_OF[probability.argmax(0)]

    py, px, heat = _peaks(centre.reshape(height, width), inside, peak, window, most)
    owner = _owners(offsets, ys, xs, py, px, reach)
    part = _parts(owner, kind, ys, xs, (height, width), len(py))
    part = _join(part, kind, ys, xs, offsets, (height, width), agreement)

    order = np.argsort(part, kind="stable")
    starts = np.flatnonzero(np.diff(part[order], prepend=-1))
    votes = np.add.reduceat(probability.take(order, axis=1), starts, axis=1)  # (80, parts)
    found = []
    for number, start in enumerate(starts):
        stop = starts[number + 1] if number + 1 < len(starts) else len(order)
        if stop - start < smallest:
            continue
        cells = order[start:stop]
        label = int(votes[:, number].argmax())
        # Classes of one kind share their probability (car and truck), so the kind's sum counts.
        sure = float(votes[KIND_OF[label] == KIND_OF, number].sum()) / len(cells)
        centres = owner[cells]
        centres = centres[centres >= 0]
        strength = float(np.sqrt(heat[centres].max())) if len(centres) else 0.5
        rows, columns = ys[cells], xs[cells]
        mask = np.zeros((height, width), bool)
        mask[rows, columns] = True
        box = (
            STRIDE * int(columns.min()),
            STRIDE * int(rows.min()),
            STRIDE * (int(columns.max()) + 1),
            STRIDE * (int(rows.max()) + 1),
        )
        found.append(FoundThing(label, min(1.0, sure * strength), box, mask))
    return tuple(sorted(found, key=lambda thing: -thing.score))


def _owners(
    offset: np.ndarray, ys: np.ndarray, xs: np.ndarray, py: np.ndarray, px: np.ndarray, reach: float
) -> np.ndarray:
    """Number of the centre each cell's offset points to, -1 where it misses them all (equation 1)."""
    if len(py) == 0:
        return np.full(len(ys), -1, np.int64)
    at_y, at_x = ys + offset[0], xs + offset[1]
    squared = np.square(at_y[:, None] - py[None].astype(np.float32))
    squared += np.square(at_x[:, None] - px[None].astype(np.float32))
    nearest = squared.argmin(1)
    limit = reach + 0.25 * np.hypot(offset[0], offset[1])
    hits = squared[np.arange(len(ys)), nearest] <= np.square(limit)
    return np.where(hits, nearest, -1)


def _peaks(
    centre: np.ndarray, inside: np.ndarray, peak: float, window: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and heat of the centres, strongest first."""
    heat = 1 / (1 + np.exp(-centre.astype(np.float32)))
    near = cv2.dilate(inside, np.ones((3, 3), np.uint8)) > 0
    top = cv2.dilate(heat, np.ones((window, window), np.uint8))
    py, px = np.nonzero((heat >= top) & (heat >= peak) & near)
    order = np.argsort(-heat[py, px], kind="stable")[:most]
    py, px = py[order], px[order]
    return py, px, heat[py, px]


def _parts(
    owner: np.ndarray,
    kind: np.ndarray,
    ys: np.ndarray,
    xs: np.ndarray,
    size: tuple[int, int],
    centres: int,
) -> np.ndarray:
    """Number of the thing each foreground cell belongs to.

    A centre's cells form one part a kind; a kind with under a fifth of them joins the largest.
    Cells without a centre form connected regions of one kind.
    """
    kinds = len(_KINDS)
    if centres:
        claimed = owner >= 0
        counts = np.bincount(owner[claimed] * kinds + kind[claimed], minlength=centres * kinds).reshape(
            centres, kinds
        )
        main = counts.argmax(1)
        slight = counts < 0.2 * counts.sum(1, keepdims=True)
        joins = claimed & slight[owner, kind]
        kind = np.where(joins, main[owner], kind)
    key = np.where(owner >= 0, owner * kinds + kind, -1)
    free = owner < 0
    first = centres * kinds
    for number in np.unique(kind[free]):
        chosen = free & (kind == number)
        region = np.zeros(size, np.uint8)
        region[ys[chosen], xs[chosen]] = 1
        count, labels = cv2.connectedComponents(region, connectivity=8)
        key[chosen] = first + labels[ys[chosen], xs[chosen]] - 1
        first += count - 1
    return np.unique(key, return_inverse=True)[1].reshape(-1)


def _join(
    part: np.ndarray,
    kind: np.ndarray,
    ys: np.ndarray,
    xs: np.ndarray,
    offset: np.ndarray,
    size: tuple[int, int],
    agreement: float,
) -> np.ndarray:
    """Numbers of the parts after joining touching ones of a kind that vote for a common centre.

    With m a part's mean place, v the mean place its offsets point to, and d from one part's m to the
    other's, the two approach each other by ((v_a - m_a) - (v_b - m_b)) . d / d . d: 0 when each votes
    for its own middle, 1 when both vote for one place.
    """
    count = int(part.max()) + 1
    number = np.full(size, -1, np.int64)
    number[ys, xs] = part
    kinds = np.zeros(count, np.int64)
    kinds[part] = kind
    keys = []
    for one, other in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
        meets = (one != other) & (one >= 0) & (other >= 0)
        one, other = one[meets], other[meets]
        one, other = one[kinds[one] == kinds[other]], other[kinds[one] == kinds[other]]
        keys.append(np.minimum(one, other) * count + np.maximum(one, other))
    pairs = np.stack(np.divmod(np.unique(np.concatenate(keys)), count), 1)
    cells = np.bincount(part, minlength=count).astype(np.float64)[:, None]
    place = np.stack([np.bincount(part, v, count) for v in (ys, xs)], 1)  # sums, so that parts add up
    shift = np.stack([np.bincount(part, v, count) for v in offset], 1)
    leader = np.arange(count)
    while len(pairs):
        a, b = pairs[:, 0], pairs[:, 1]
        apart = place[b] / cells[b] - place[a] / cells[a]
        towards = shift[a] / cells[a] - shift[b] / cells[b]
        squared = np.maximum(1e-6, (apart * apart).sum(1))
        approach = (towards * apart).sum(1) / squared
        # Offsets fall short on large things; people, who crowd, are seldom that large.
        large = 0.5 * agreement * np.minimum(1, _FAR / np.sqrt(squared))
        limit = np.where(kinds[a] == 0, agreement, large)
        surplus = approach - limit
        best = int(surplus.argmax())
        if surplus[best] < 0:
            break
        stays, goes = (int(v) for v in pairs[best])
        for sums in (cells, place, shift):
            sums[stays] += sums[goes]
        leader[leader == goes] = stays
        pairs = np.where(pairs == goes, stays, pairs)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(leader[part], return_inverse=True)[1].reshape(-1)
