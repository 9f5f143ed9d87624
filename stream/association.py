"""Which of the things seen now is which of the things followed so far.

Two steps as in ByteTrack (Zhang et al., ECCV 2022, section 3): first the sure sightings compete for all
tracks, then the unsure ones may extend tracks that are still without, but start none. The similarity is
that of masks and boxes after both camera motion and the track's own motion, with a little colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stream.assignment import best_pairs
from stream.regions import Box, box_overlap

Floats = NDArray[np.float64]

_FAMILIES = (
    {"car", "truck", "bus", "train"},
    {"bicycle", "motorcycle"},
    {"dog", "cat", "sheep", "cow", "horse", "bear", "elephant", "zebra", "giraffe"},
    {"backpack", "handbag", "suitcase"},
    {"chair", "couch", "bench", "bed"},
    {"tv", "laptop"},
    {"cup", "bottle", "vase", "wine glass", "bowl"},
    {"skis", "snowboard", "skateboard", "surfboard"},
)

_LEAST = 0.25
_LEAST_UNSURE = 0.35
_LEAST_UNLIKE = 0.6
_PART = 0.6
_WEIGHTS = (0.3, 0.2, 0.2, 0.3)
_WEIGHTS_CROWDED = (0.2, 0.1, 0.2, 0.5)
_COLOUR_STEP = 0.08
_CROWDED = 0.2
_SLIVER = 0.05
_SURELY = 0.3


@dataclass(frozen=True)
class Shapes:
    """Things side by side: labels, boxes (N, 4) in frame pixels, small masks (N, P), colours (N, 6).

    `whole`: the boxes with what is hidden.
    """

    labels: tuple[str, ...]
    boxes: Floats
    whole: Floats
    small: NDArray[np.float32]
    colours: NDArray[np.float32]


def related(first: str, second: str) -> bool:
    """Whether two labels are the same or often mistaken for one another."""
    return first == second or any(first in family and second in family for family in _FAMILIES)


def overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
    """Areas in common of small masks (N, P) and (M, P): (N, M), with their own areas (N,) and (M,)."""
    common = (first @ second.T).astype(np.float64)
    return common, first.sum(1, dtype=np.float64), second.sum(1, dtype=np.float64)


def similarity(
    tracks: Shapes,
    seen: Shapes,
    unseen_seconds: Floats,
    hidden: NDArray[np.bool_],
    crowded: NDArray[np.bool_],
) -> Floats:
    """How well each of N tracks' predicted places agrees with each of M sightings: (N, M) in [0, 1].

    A track unseen for long is looked for farther around. Of one that was `hidden` (N,), at least in part, a
    part may be what is seen now. Where tracks are `crowded` (N,) their places tell little, so colours decide.
    """
    common, area_tracks, area_seen = overlaps(tracks.small, seen.small)
    by_mask = common / (area_tracks[:, None] + area_seen[None, :] - common + 1e-9)
    by_box = np.maximum(box_overlap(tracks.boxes, seen.boxes), box_overlap(tracks.whole, seen.boxes))
    centre = [(shapes.whole[:, :2] + shapes.whole[:, 2:]) / 2 for shapes in (tracks, seen)]
    size = [np.clip(shapes.whole[:, 2:] - shapes.whole[:, :2], 1, None) for shapes in (tracks, seen)]
    apart = np.linalg.norm(centre[0][:, None] - centre[1][None], axis=2)
    reach = 0.5 * np.linalg.norm(np.maximum(size[0][:, None], size[1][None]), axis=2)
    near = np.clip(1 - apart / (reach * (1 + 1.5 * unseen_seconds[:, None])), 0, 1)
    tall = np.log(size[0][:, None, 1] / size[1][None, :, 1])
    alike = np.exp(-np.abs(tall))
    if hidden.any():
        part = np.where(hidden[:, None], _inside(seen.boxes, tracks.whole), 0)
        by_box, alike = np.maximum(by_box, _PART * part), np.maximum(alike, part)
    difference = np.abs(tracks.colours[:, None] - seen.colours[None]).mean(2)
    colour = np.where(np.isnan(difference), 0.5, np.exp(-difference / _COLOUR_STEP))
    weight = np.where(crowded[:, None, None], _WEIGHTS_CROWDED, _WEIGHTS)  # (N, 1, 4)
    parts = np.stack([by_mask, by_box, near * alike, colour * (near > 0)], axis=2)
    score = (weight * parts).sum(2)
    touching = (by_mask > 0.02) | (by_box > 0.05) | (near > 0.3)
    penalty = np.array(
        [[0.0 if a == b else 0.05 if related(a, b) else 0.25 for b in seen.labels] for a in tracks.labels]
    ).reshape(score.shape)
    kin = penalty < 0.2
    score = np.where(touching, score - penalty, 0.0)
    # A sliver says nothing of where the thing is that it is thought to be of.
    shown = size[1].prod(1)[None, :] / size[0].prod(1)[:, None]
    score = np.where((shown < _SLIVER) & (by_mask < _SURELY), 0.0, score)
    return cast(Floats, np.where(kin | (score + penalty > _LEAST_UNLIKE), score, 0.0))


def crowded(boxes: Floats, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the things with these (N, 4) boxes has one of the `present` (N,) others over or behind it."""
    inside = _inside(boxes, boxes)
    inside = np.maximum(inside, inside.T)
    np.fill_diagonal(inside, 0)
    return np.asarray((inside[:, present] > _CROWDED).any(1), bool)


def _inside(boxes: Floats, around: Floats) -> Floats:
    """Share of each of M boxes that lies in each of N others, (N, M)."""
    low = np.maximum(around[:, None, :2], boxes[None, :, :2])
    high = np.minimum(around[:, None, 2:], boxes[None, :, 2:])
    wide, tall = np.maximum(boxes[:, 2:] - boxes[:, :2], 1).T
    across, down = np.moveaxis(np.maximum(high - low, 0), 2, 0)
    return cast(Floats, across * down / (wide * tall)[None])


def assign(
    score: Floats, sure: NDArray[np.bool_], recent: NDArray[np.bool_], known: NDArray[np.bool_]
) -> dict[int, int]:
    """Match tracks with sightings one to one: {track row: sighting column}.

    `sure` (M,): sightings that may also start tracks; `recent` (N,): tracks seen so lately that an unsure
    sighting may extend them; `known` (N,): tracks that are believed, which come first.
    """
    matched: dict[int, int] = {}
    columns = np.flatnonzero(sure)
    _match(score, np.flatnonzero(known), columns, _LEAST, matched)
    left = np.setdiff1d(columns, list(matched.values()))
    _match(score, np.flatnonzero(~known), left, _LEAST, matched)
    rows = np.array([row for row in np.flatnonzero(recent) if row not in matched], np.int64)
    _match(score, rows, np.flatnonzero(~sure), _LEAST_UNSURE, matched)
    return matched


def _match(
    score: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64], least: float, matched: dict[int, int]
) -> None:
    if not len(rows) or not len(columns):
        return
    part = score[np.ix_(rows, columns)]
    # What is below the limit must not be traded for: as good as nothing at all.
    for row, column in best_pairs(np.where(part < least, 0, part)):
        matched[int(rows[row])] = int(columns[column])


def colours(
    small_rgb: NDArray[np.float32] | None, small: NDArray[np.float32], boxes: Floats, height: int
) -> NDArray[np.float32]:
    """Mean colour of the upper and lower half of each thing, (N, 6) in [0, 1]; NaN where nothing is known.

    `small_rgb`: (h, w, 3) of the small masks' size; `boxes` in frame pixels, `height` of the frame.
    """
    out = np.full((len(small), 6), np.nan, np.float32)
    if small_rgb is None:
        return out
    h, w = small_rgb.shape[:2]
    flat = small_rgb.reshape(-1, 3)
    for row, mask, box in zip(out, small, boxes, strict=True):
        middle = int(np.clip((box[1] + box[3]) / 2 / height * h, 1, h - 1)) * w
        for half, part in enumerate((slice(0, middle), slice(middle, None))):
            weight = float(mask[part].sum())
            if weight > 0.5:
                row[3 * half : 3 * half + 3] = mask[part] @ flat[part] / weight
    return out


def as_boxes(boxes: list[Box]) -> Floats:
    """Boxes as (N, 4) float64, also when there are none."""
    return np.array(boxes, np.float64).reshape(-1, 4)
