"""Texture for a hole that was never seen: real patches of the picture itself, laid over a smooth structure.

Where to copy from is decided on a small picture (stream/offsets.py); the copies are made at full size, so they are as
sharp as the picture. Their brightness is bent to fit the rim and each other by solving for the picture whose gradients
are the copies' (Perez et al., "Poisson Image Editing", SIGGRAPH 2003), again on the small picture.
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

_LONGEST = 256
_CELLS = 4200
"""Size of the small picture: its longer side, and the pixels of the box around the hole."""
_BEND = 48.0


@dataclass(frozen=True)
class _Piece:
    """Neighbouring pixels copied from the same place: their mask in the small box, and the offset, full size."""

    mask: NDArray[np.bool_]
    offset: NDArray[np.int32]


def complete(picture: Image, missing: Bytes, structure: Image, trust: float) -> Image:
    """Fill the missing pixels (uint8 0 or 1) of a picture with copies of others.

    `structure` (uint8, like `picture`) has the hole filled smoothly; `trust` in [0, 1] says how far it is more than
    a mean of the rim. The same picture and hole always give the same result. Where nothing can be copied,
    the structure stays.
    """
    height, width = missing.shape
    _, _, across, down = cv2.boundingRect(missing)
    scale = max(1.0, max(height, width) / _LONGEST, float(np.sqrt(across * down / _CELLS)))
    size = max(8, round(width / scale)), max(8, round(height / scale))
    small, gaps, rough = _small(picture, missing, structure, size)
    pool, labels, box = offsets.choose(small, gaps, rough, trust)
    out = np.where(missing[..., None] > 0, structure, picture)
    if not (labels >= 0).any():
        return out
    factors = width / size[0], height / size[1]
    pieces = _refined(picture, missing, _pieces(pool, labels, factors), box, factors)
    whole = _full_box(box, factors, width, height)
    copied = _copied(picture, missing, out, pieces, box, whole, factors)
    bend = _bend(small, gaps, rough, pool, labels, box, trust)
    x0, y0, x1, y1 = whole
    shape = np.zeros((*gaps.shape, 3), np.float32)
    shape[box[1] : box[3], box[0] : box[2]] = bend
    lift = _window(shape, whole, factors)
    done = u8(np.clip(copied + lift + np.float32(0.5), 0, 255).astype(np.uint8))
    mine = missing[y0:y1, x0:x1] > 0
    out[y0:y1, x0:x1][mine] = done[mine]
    return out


def _small(picture: Image, missing: Bytes, structure: Image, size: tuple[int, int]) -> tuple[Float, Bytes, Float]:
    """The picture, its hole and the structure at a smaller size; known pixels alone count in the picture."""
    rough = f32(cv2.resize(np.where(missing[..., None] > 0, structure, picture), size, interpolation=cv2.INTER_AREA))
    rough = rough.astype(np.float32)
    known = f32(cv2.resize((1 - missing).astype(np.float32), size, interpolation=cv2.INTER_AREA))
    blank = np.where(missing[..., None] > 0, np.uint8(0), picture)
    total = f32(cv2.resize(blank.astype(np.float32), size, interpolation=cv2.INTER_AREA))
    gaps = (known < 0.999).astype(np.uint8)
    small = np.where(known[..., None] > 0.4, total / np.maximum(known, np.float32(0.4))[..., None], rough)
    return small.astype(np.float32), gaps, rough


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
        if len(cells) > 400:
            cells = cells[:: len(cells) // 400 + 1]
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
        centre = best
        for dy in range(-span, span + 1):
            for dx in range(-span, span + 1):
                tried = centre + np.array((dx, dy), np.int32) * step
                there = at + tried
                inside = _inside(there, width, height)
                there = np.clip(there, 0, (width - 1, height - 1))
                free = inside & (missing[there[:, 1], there[:, 0]] == 0)
                error = np.minimum(np.abs(picture[there[:, 1], there[:, 0]] - goal).mean(1), 40)
                cost = float(np.where(free, error, 40).mean()) + 0.02 * float(np.abs(tried - offset).max())
                if cost < least - 1e-6:
                    best, least = tried, cost
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


def _window(small: Float, whole: Box, factors: tuple[float, float]) -> Float:
    """The part of a small picture that lies under a box of the full one, at full size."""
    size = whole[2] - whole[0], whole[3] - whole[1]
    back = np.array(
        [
            [1 / factors[0], 0, (whole[0] + 0.5) / factors[0] - 0.5],
            [0, 1 / factors[1], (whole[1] + 0.5) / factors[1] - 0.5],
        ]
    )
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
        local = (
            x0 - int(np.floor(grown[0] * factors[0])),
            y0 - int(np.floor(grown[1] * factors[1])),
        )
        shift = (x0 - grown[0] * factors[0], y0 - grown[1] * factors[1])
        del local
        back = np.array(
            [
                [1 / factors[0], 0, (shift[0] + 0.5) / factors[0] - 0.5],
                [0, 1 / factors[1], (shift[1] + 0.5) / factors[1] - 0.5],
            ]
        )
        soft = f32(
            cv2.warpAffine(
                f32(cv2.GaussianBlur(mask, (0, 0), 0.6)),
                back,
                (x1 - x0, y1 - y0),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            )
        )
        soft = soft**4
        dx, dy = int(piece.offset[0]), int(piece.offset[1])
        source = slice(y0 + dy, y1 + dy), slice(x0 + dx, x1 + dx)
        soft = np.where(missing[source] > 0, np.float32(0), soft)
        into = slice(y0 - whole[1], y1 - whole[1]), slice(x0 - whole[0], x1 - whole[0])
        total[into] += soft[..., None] * picture[source]
        weights[into] += soft
    rest = np.maximum(np.float32(1e-4) - weights, 0)
    total += rest[..., None] * filled[whole[1] : whole[3], whole[0] : whole[2]]
    return np.asarray(total / (weights + rest)[..., None], np.float32)


def _bend(
    small: Float,
    gaps: Bytes,
    rough: Float,
    pool: offsets.Offsets,
    labels: NDArray[np.int16],
    box: Box,
    trust: float,
) -> Float:
    """What to add to the copies, on the small box: the picture with their gradients less the copies."""
    height, width = gaps.shape
    x0, y0, x1, y1 = box
    rows, columns = np.mgrid[y0:y1, x0:x1]
    chosen = np.where(labels[..., None] >= 0, pool[np.maximum(labels, 0)], 0)
    known = gaps[y0:y1, x0:x1] == 0

    def under(down: int, right: int) -> Float:
        """What each pixel's own offset would put at its neighbour."""
        row = np.clip(rows + chosen[..., 1] + down, 0, height - 1)
        column = np.clip(columns + chosen[..., 0] + right, 0, width - 1)
        return small[row, column]

    here = np.where((labels >= 0)[..., None], under(0, 0), rough[y0:y1, x0:x1])
    wanted = np.where(known[..., None], small[y0:y1, x0:x1], here)
    steps = {}
    for down, right in ((1, 0), (0, 1)):
        ahead = (slice(down, None), slice(right, None))
        behind = (slice(0, -down or None), slice(0, -right or None))
        forward = (under(down, right) - under(0, 0))[behind]
        backward = (under(0, 0) - under(-down, -right))[ahead]
        a, b = (labels >= 0)[behind], (labels >= 0)[ahead]
        weight_a, weight_b = a.astype(np.float32)[..., None], b.astype(np.float32)[..., None]
        steps[down, right] = (weight_a * forward + weight_b * backward) / np.maximum(weight_a + weight_b, 1)
    pull = np.float32(0.002 + 0.02 * trust)
    guide = f32(cv2.GaussianBlur(rough, (0, 0), 1.0))[y0:y1, x0:x1]
    solved = wanted.copy()
    flow = np.zeros_like(wanted)
    links = np.zeros(wanted.shape[:2], np.float32)
    flow[1:] += steps[1, 0]
    flow[:-1] -= steps[1, 0]
    flow[:, 1:] += steps[0, 1]
    flow[:, :-1] -= steps[0, 1]
    links[1:] += 1
    links[:-1] += 1
    links[:, 1:] += 1
    links[:, :-1] += 1
    free = ~known
    parity = (rows + columns) % 2 == 0
    for turn in range(160):
        around = np.zeros_like(solved)
        around[1:] += solved[:-1]
        around[:-1] += solved[1:]
        around[:, 1:] += solved[:, :-1]
        around[:, :-1] += solved[:, 1:]
        fresh = (around + flow + pull * guide) / (links + pull)[..., None]
        mine = free & (parity == (turn % 2 == 0))
        solved[mine] += np.float32(1.8) * (fresh - solved)[mine]
    return np.asarray(np.clip(solved - wanted, -_BEND, _BEND), np.float32)
