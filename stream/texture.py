"""Texture for a hole that was never seen: real patches of the picture itself, laid over a smooth structure.

Where to copy from is decided on a small picture (stream/offsets.py); the copies are made at full size, so
they are as sharp as the picture. Their brightness is bent to fit the rim and each other as in Perez et al.,
"Poisson Image Editing" (SIGGRAPH 2003), again on the small picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import offsets
from stream.arrays import Bytes, Float, f32, u8
from stream.boxes import Box
from stream.types import Image

_LONGEST, _CELLS, _AREA = 256, 2000, 8000
"""Size of the small picture: its longer side, the hole's pixels, and those of the box around it, at most."""
_BEND, _EDGE = 48.0, 40.0
"""Levels: the most that a copy is bent by, and from where on a difference is an edge of something."""
_STIFF, _TURNS = 0.002, 100


@dataclass(frozen=True)
class _Piece:
    """Neighbouring pixels with one offset: their mask in the small box, and the offset in full pixels."""

    mask: NDArray[np.bool_]
    offset: NDArray[np.int32]


def complete(picture: Image, missing: Bytes, structure: Image, belief: float, box: Box) -> Image:
    """Fill the missing pixels (uint8 0 or 1) inside a box of a picture (uint8 RGB) with copies of known ones.

    `structure` (uint8, like `picture`) has the hole filled smoothly; `belief` in [0, 1] says how much it
    counts in the choice of copies. The same picture and hole always give the same result. The structure
    stays outside the box, and where nothing can be copied.
    """
    out = np.where(missing[..., None] > 0, structure, picture)
    height, width = missing.shape
    scale = _scale(missing, box)
    size = max(8, round(width / scale)), max(8, round(height / scale))
    factors = width / size[0], height / size[1]
    small, gaps, rough = _small(picture, missing, out, size)
    around = _small_box(box, factors, size)
    pool, labels = offsets.choose(small, gaps, rough, belief, around)
    if not (labels >= 0).any():
        return out
    pieces = _refined(picture, missing, _pieces(pool, labels, factors), around, factors)
    whole = _full_box(around, factors, width, height)
    copied = _copied(picture, missing, out, pieces, around, whole, factors)
    bend = _bend(small, gaps, rough, pool, labels, around)
    copied += _enlarged(bend, (around[0], around[1]), whole, factors)
    x0, y0, x1, y1 = whole
    _meet_rim(copied, picture[y0:y1, x0:x1], missing[y0:y1, x0:x1], 1.5 + max(factors) / 4)
    inner = max(box[0], whole[0]), max(box[1], whole[1]), min(box[2], whole[2]), min(box[3], whole[3])
    done = copied[inner[1] - whole[1] : inner[3] - whole[1], inner[0] - whole[0] : inner[2] - whole[0]]
    target = out[inner[1] : inner[3], inner[0] : inner[2]]
    mine = missing[inner[1] : inner[3], inner[0] : inner[2]] > 0
    target[mine] = np.clip(done[mine] + np.float32(0.5), 0, 255).astype(np.uint8)
    return out


def _scale(missing: Bytes, box: Box) -> float:
    """How many times smaller the small picture is."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    hollow = np.count_nonzero(missing[box[1] : box[3], box[0] : box[2]])
    return float(max(1, max(missing.shape) / _LONGEST, (hollow / _CELLS) ** 0.5, (area / _AREA) ** 0.5))


def _small_box(box: Box, factors: tuple[float, float], size: tuple[int, int]) -> Box:
    """A box of the full picture on the small one, with one more pixel on each side."""
    x0, y0 = int(box[0] / factors[0]) - 1, int(box[1] / factors[1]) - 1
    x1, y1 = int(np.ceil(box[2] / factors[0])) + 1, int(np.ceil(box[3] / factors[1])) + 1
    return max(0, x0), max(0, y0), min(size[0], x1), min(size[1], y1)


def _small(
    picture: Image, missing: Bytes, filled: Image, size: tuple[int, int]
) -> tuple[Float, Bytes, Float]:
    """The picture, its hole and the structure at a smaller size; known pixels alone count in the picture."""
    rough = f32(cv2.resize(filled, size, interpolation=cv2.INTER_AREA)).astype(np.float32)
    known = u8(cv2.resize(np.uint8(255) - missing * np.uint8(255), size, interpolation=cv2.INTER_AREA))
    blank = u8(cv2.bitwise_and(picture, picture, mask=np.uint8(1) - missing))
    total = f32(cv2.resize(blank, size, interpolation=cv2.INTER_AREA)).astype(np.float32)
    share = (known.astype(np.float32) / np.float32(255))[..., None]
    small = np.where(share > 0.4, total / np.maximum(share, np.float32(0.4)), rough)
    return small.astype(np.float32), (known < 255).astype(np.uint8), rough


def _pieces(pool: offsets.Offsets, labels: NDArray[np.int16], factors: tuple[float, float]) -> list[_Piece]:
    """Connected pixels of one label, the largest first; specks go to the label around them."""
    found = []
    for label in np.unique(labels[labels >= 0]):
        count, marks = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=4)
        offset = np.round(pool[label] * np.array(factors)).astype(np.int32)
        found += [_Piece(marks == each, offset) for each in range(1, count)]
    return sorted(found, key=lambda piece: -int(piece.mask.sum()))


def _refined(
    picture: Image, missing: Bytes, pieces: list[_Piece], box: Box, factors: tuple[float, float]
) -> list[_Piece]:
    """Move each piece's source by less than a pixel of the small picture, so that lines meet at its edge.

    The edge is compared with what is known, and with pieces that have been placed before.
    """
    reach = int(np.ceil(max(factors) / 2))
    if reach < 1:
        return pieces
    height, width = missing.shape
    owner = np.full(pieces[0].mask.shape, -1, np.int32)
    done: list[_Piece] = []
    spots = np.array([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)])
    for piece in pieces:
        ring = (cv2.dilate(piece.mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~piece.mask
        cells = np.argwhere(ring)
        if len(cells) > 120:
            cells = cells[:: len(cells) // 120 + 1]
        owners = np.repeat(owner[cells[:, 0], cells[:, 1]], len(spots))
        points = (cells[:, None, ::-1] + np.array(box[:2]) + spots).reshape(-1, 2) * np.array(factors)
        at = np.clip(points.astype(np.int32), 0, (width - 1, height - 1))
        known = missing[at[:, 1], at[:, 0]] == 0
        moved = at + np.array([done[k].offset if k >= 0 else (0, 0) for k in owners], np.int32).reshape(-1, 2)
        use = (known | (owners >= 0)) & _inside(moved, width, height)
        moved = np.where(known[:, None], at, moved)[use]
        offset = piece.offset
        if np.count_nonzero(use) >= 12:
            offset = _best_nudge(picture, missing, at[use], picture[moved[:, 1], moved[:, 0]], offset, reach)
        owner[piece.mask] = len(done)
        done.append(_Piece(piece.mask, offset))
    return done


def _best_nudge(
    picture: Image,
    missing: Bytes,
    at: NDArray[np.int32],
    wanted: Image,
    offset: NDArray[np.int32],
    reach: int,
) -> NDArray[np.int32]:
    """The offset near `offset` at which the picture looks most like `wanted`, in ever smaller steps."""
    height, width = missing.shape
    goal = wanted.astype(np.float32)
    best, least = offset, np.inf
    step = max(1, reach // 2) if reach > 3 else 1
    span = reach // step
    while True:
        steps = np.arange(-span, span + 1) * step
        tried = best + np.stack(np.meshgrid(steps, steps), 2).reshape(-1, 1, 2).astype(np.int32)
        there = (at + tried).reshape(-1, 2)
        inside = _inside(there, width, height)
        there = np.clip(there, 0, (width - 1, height - 1))
        free = inside & (missing[there[:, 1], there[:, 0]] == 0)
        error = np.abs(picture[there[:, 1], there[:, 0]].reshape(len(tried), -1, 3) - goal).mean(2)
        error = np.where(free.reshape(error.shape), np.minimum(error, 40), 40)
        cost = error.mean(1) + 0.02 * np.abs(tried - offset).max((1, 2))
        at_least = int(cost.argmin())
        if cost[at_least] < least - 1e-6:
            best, least = tried[at_least, 0], float(cost[at_least])
        if step == 1:
            return best
        step, span = max(1, step // 2), 1


def _inside(points: NDArray[np.int32], width: int, height: int) -> NDArray[np.bool_]:
    return np.asarray((points >= 0).all(1) & (points[:, 0] < width) & (points[:, 1] < height))


def _full_box(box: Box, factors: tuple[float, float], width: int, height: int) -> Box:
    return (
        max(0, int(box[0] * factors[0])),
        max(0, int(box[1] * factors[1])),
        min(width, int(np.ceil(box[2] * factors[0]))),
        min(height, int(np.ceil(box[3] * factors[1]))),
    )


def _enlarged(small: Float, origin: tuple[int, int], whole: Box, factors: tuple[float, float]) -> Float:
    """What lies under a box of the full picture in a part of the small one that begins at `origin`."""
    left, top = (whole[0] + 0.5) / factors[0] - 0.5, (whole[1] + 0.5) / factors[1] - 0.5
    back = np.array([[1 / factors[0], 0, left - origin[0]], [0, 1 / factors[1], top - origin[1]]])
    size = whole[2] - whole[0], whole[3] - whole[1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return f32(cv2.warpAffine(small, back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _copied(
    picture: Image,
    missing: Bytes,
    filled: Image,
    pieces: list[_Piece],
    box: Box,
    whole: Box,
    factors: tuple[float, float],
) -> Float:
    """Copy each piece at full size, (h, w, 3) float32 of the whole box; edges of pieces are soft."""
    height, width = missing.shape
    total = np.zeros((whole[3] - whole[1], whole[2] - whole[0], 3), np.float32)
    weights = np.zeros(total.shape[:2], np.float32)
    for piece in pieces:
        px, py, pw, ph = cv2.boundingRect(piece.mask.astype(np.uint8))
        grown = box[0] + px - 2, box[1] + py - 2, box[0] + px + pw + 2, box[1] + py + ph + 2
        x0, y0, x1, y1 = _full_box(grown, factors, width, height)
        x0, y0, x1, y1 = max(x0, whole[0]), max(y0, whole[1]), min(x1, whole[2]), min(y1, whole[3])
        # Only where the source lies in the picture.
        x0, y0 = max(x0, -int(piece.offset[0])), max(y0, -int(piece.offset[1]))
        x1, y1 = min(x1, width - int(piece.offset[0])), min(y1, height - int(piece.offset[1]))
        if x0 >= x1 or y0 >= y1:
            continue
        mask = np.zeros((ph + 4, pw + 4), np.float32)
        mask[2:-2, 2:-2] = piece.mask[py : py + ph, px : px + pw]
        mask = f32(cv2.GaussianBlur(mask, (0, 0), 0.6))
        # A high power: pieces meet in a narrow seam where two of them overlap.
        soft = _enlarged(mask, (grown[0], grown[1]), (x0, y0, x1, y1), factors) ** 4
        dx, dy = int(piece.offset[0]), int(piece.offset[1])
        source = slice(y0 + dy, y1 + dy), slice(x0 + dx, x1 + dx)
        soft = np.where(missing[source] > 0, np.float32(0), soft)
        into = slice(y0 - whole[1], y1 - whole[1]), slice(x0 - whole[0], x1 - whole[0])
        total[into] += soft[..., None] * picture[source]
        weights[into] += soft
    rest = np.maximum(np.float32(1e-4) - weights, 0)
    total += rest[..., None] * filled[whole[1] : whole[3], whole[0] : whole[2]]
    return np.asarray(total / (weights + rest)[..., None], np.float32)


def _meet_rim(copied: Float, picture: Image, missing: Bytes, reach: float) -> None:
    """Let the copies begin with what is known at the rim, over a few pixels; `copied` is changed.

    Grain that ends in a line shows the outline of what was there; a short ramp does not.
    """
    edge = (u8(cv2.dilate(missing, np.ones((3, 3), np.uint8))) > missing).astype(np.float32)
    share = f32(cv2.GaussianBlur(edge, (0, 0), 0.7 * reach))
    depth = f32(cv2.distanceTransform(missing, cv2.DIST_L2, 3))
    fade = np.exp((1 - depth) / np.float32(reach)) / np.maximum(share, np.float32(1e-4))
    fade[depth == 0] = 0
    for channel in range(3):  # one by one: a hole may be as large as a photograph
        apart = (picture[..., channel] - copied[..., channel]) * edge
        copied[..., channel] += fade * f32(cv2.GaussianBlur(apart, (0, 0), 0.7 * reach))


def _bend(
    small: Float,
    gaps: Bytes,
    rough: Float,
    pool: offsets.Offsets,
    labels: NDArray[np.int16],
    box: Box,
) -> Float:
    """What to add to the copies, on the small box, so that they meet the rim and each other.

    Where two sides differ so much that there is an edge, not another brightness, they are left alone.
    """
    height, width = gaps.shape
    x0, y0, x1, y1 = box
    rows, columns = np.mgrid[y0:y1, x0:x1]
    chosen = np.where(labels[..., None] >= 0, pool[np.maximum(labels, 0)], 0)
    hollow = labels >= 0

    def under(down: int, right: int) -> Float:
        """What each pixel's own offset would put at its neighbour."""
        row = np.clip(rows + chosen[..., 1] + down, 0, height - 1)
        column = np.clip(columns + chosen[..., 0] + right, 0, width - 1)
        return np.asarray(small[row, column])

    copy = np.where((gaps[y0:y1, x0:x1] == 0)[..., None], small[y0:y1, x0:x1], rough[y0:y1, x0:x1])
    copy = np.where(hollow[..., None], under(0, 0), copy)
    # A link between two neighbours: its weight, and by how much the second one's bend should be larger.
    flow = np.zeros_like(copy)
    links = np.zeros((4, *hollow.shape), np.float32)
    for number, (down, right) in enumerate(((1, 0), (0, 1))):
        ahead = (slice(down, None), slice(right, None))
        behind = (slice(0, -down or None), slice(0, -right or None))
        at_ahead = under(down, right)[behind] - copy[ahead]  # the first one's copy less the second one's
        at_behind = copy[behind] - under(-down, -right)[ahead]
        first, second = hollow[behind][..., None], hollow[ahead][..., None]
        jump = np.where(first & second, (at_ahead + at_behind) / 2, np.where(first, at_ahead, at_behind))
        weight = 1 / (1 + ((jump / _EDGE) ** 2).mean(2) ** 2)
        flow[ahead] += weight[..., None] * jump
        flow[behind] -= weight[..., None] * jump
        links[2 * number][ahead] = weight
        links[2 * number + 1][behind] = weight
    total = links.sum(0) + np.float32(_STIFF)
    bend = np.zeros_like(copy)
    parity = (rows + columns) % 2 == 0
    black, white = (hollow & parity)[..., None], (hollow & ~parity)[..., None]
    up, after = links[0][1:, :, None], links[1][:-1, :, None]
    left, right_ = links[2][:, 1:, None], links[3][:, :-1, None]
    shares = 1.7 / total[..., None]
    masks = [np.where(each, shares, np.float32(0)).astype(np.float32) for each in (black, white)]
    for turn in range(_TURNS):
        around = flow - total[..., None] * bend
        around[1:] += up * bend[:-1]
        around[:-1] += after * bend[1:]
        around[:, 1:] += left * bend[:, :-1]
        around[:, :-1] += right_ * bend[:, 1:]
        bend += masks[turn % 2] * around
    return np.asarray(np.clip(bend, -_BEND, _BEND), np.float32)
