"""One thing seen as two, two seen as one, one followed twice: put right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream import association, regions
from stream.life import Life, Scene
from stream.regions import Box
from stream.types import Instance, Mask

PIECE = 0.6
"""A sighting this far inside a track's mask is a piece of it."""

_SAME = 0.7
_SPLIT_SECONDS = 0.5
_CROWDED = 0.4
_WIDER = 1.2
_NEARLY = 0.1
_SURPLUS = 0.25
_ALONE = 0.15


def distinct(instances: tuple[Instance, ...], working: tuple[int, int]) -> list[Instance]:
    """Sightings without doubles: of two masks that are nearly the same the surer one stays."""
    order = sorted(instances, key=lambda each: -each.score)
    boxes = association.as_boxes([each.box for each in order])
    if not _crowded(boxes):
        return order
    small = regions.stack_small([each.mask for each in order], working)
    common, area, _ = association.overlaps(small, small)
    kept: list[int] = []
    for i, each in enumerate(order):
        double = any(
            common[i, j] > _SAME * (area[i] + area[j] - common[i, j])
            and association.related(each.label, order[j].label)
            and not each.identity
            for j in kept
        )
        if not double:
            kept.append(i)
    return [order[i] for i in kept]


def divide(
    matched: dict[int, int],
    predicted: tuple[Life, ...],
    seen: list[Instance],
    known: NDArray[np.float32],
    things: NDArray[np.float32],
    scene: Scene,
) -> tuple[list[Instance], dict[int, Instance], set[int]]:
    """Where several tracks are seen as one thing, give each its part of the mask.

    `known` and `things`: small masks (N, P) of the tracks as predicted and (M, P) of what is seen.
    Returns the sightings with what is left of them, the part of each row that has no sighting of its own,
    and the rows that share one.
    """
    extra: dict[int, Instance] = {}
    sharing: set[int] = set()
    out = list(seen)
    owner = {column: row for row, column in matched.items()}
    for column, row in owner.items():
        if seen[column].identity:
            continue
        rows = _sharers(row, things[column], matched, predicted, known)
        if len(rows) < 2:
            continue
        whole = out[column].mask
        nearest = _nearest([predicted[each].whole for each in rows], whole.shape, scene)
        parts = [whole & (nearest == place) for place in range(len(rows))]
        if not all(part.any() for part in parts):
            continue
        boxes = _side_by_side([predicted[each] for each in rows], seen[column].box)
        fringe = out[column].fringe
        fringes = [None if fringe is None else fringe & (nearest == place) for place in range(len(rows))]
        out[column] = replace(out[column], mask=parts[0], box=boxes[0], fringe=fringes[0])
        for each, part, box, unsure in zip(rows[1:], parts[1:], boxes[1:], fringes[1:], strict=True):
            extra[each] = replace(seen[column], mask=part, box=box, fringe=unsure)
        sharing |= set(rows)
    return out, extra, sharing


def _sharers(
    row: int,
    thing: NDArray[np.float32],
    matched: dict[int, int],
    predicted: tuple[Life, ...],
    known: NDArray[np.float32],
) -> list[int]:
    """The tracks that one sighting shows: the one it was matched with, and those without one beside it.

    From the third on each must explain something of it that is not explained without: who is hidden behind a
    large person close to the camera has no part in it.
    """
    rows, taken = [row], known[row]
    left = float(thing @ (1 - taken))
    if left < _SURPLUS * float(taken.sum()):
        return rows
    inside = known @ thing
    for each in np.argsort(-inside):
        life, area = predicted[each], float(known[each].sum())
        if inside[each] < PIECE * area or each in matched or not life.confirmed or life.identity:
            continue
        if not association.related(life.label, predicted[row].label):
            continue
        alone = known[each] * (1 - taken)
        shown = float(alone @ thing)
        if len(rows) == 1 or (shown >= _ALONE * area and shown >= _ALONE * left):
            rows.append(int(each))
            taken = np.maximum(taken, known[each])
    return rows


def _nearest(boxes: list[Box], shape: tuple[int, ...], scene: Scene) -> NDArray[np.intp]:
    """For each pixel of a mask the box whose middle is nearest to it, in units of the box's size."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    distances = np.empty((len(boxes), *shape[:2]), np.float32)
    for distance, (x0, y0, x1, y1) in zip(distances, boxes, strict=True):
        across = (x * (scene.width / shape[1]) - (x0 + x1) / 2) / max(x1 - x0, 1.0)
        down = (y * (scene.width / shape[1]) - (y0 + y1) / 2) / max(y1 - y0, 1.0)
        distance[:] = across * across + down * down
    return np.asarray(distances.argmin(0), np.intp)


def _side_by_side(lives: list[Life], around: Box) -> list[Box]:
    """Where things are that are seen as one: as predicted, or two at its ends if those are nearly there."""
    boxes = [_within(each.whole, around) for each in lives]
    if len(lives) > 2:
        return boxes
    first, second = lives
    wide, largest = around[2] - around[0], max(first.size[0], second.size[0])
    off = max(
        abs(min(first.whole[0], second.whole[0]) - around[0]),
        abs(max(first.whole[2], second.whole[2]) - around[2]),
    )
    if wide < _WIDER * largest or off > _NEARLY * largest:
        return boxes
    left = 0 if sum(first.whole[::2]) < sum(second.whole[::2]) else 1
    for place, each in enumerate(lives):
        x0 = around[0] if place == left else around[2] - each.size[0]
        boxes[place] = x0, boxes[place][1], x0 + each.size[0], boxes[place][3]
    return boxes


def _within(box: Box, around: Box) -> Box:
    """A box shifted so that it lies inside another where it fits."""
    x0, y0, x1, y1 = box
    dx = max(around[0] - x0, 0.0) or min(around[2] - x1, 0.0)
    dy = max(around[1] - y0, 0.0) or min(around[3] - y1, 0.0)
    return x0 + dx, y0 + dy, x1 + dx, y1 + dy


def join(
    matched: dict[int, int],
    predicted: tuple[Life, ...],
    seen: list[Instance],
    common: NDArray[np.float64],
    area_known: NDArray[np.float64],
    area_seen: NDArray[np.float64],
    scene: Scene,
) -> tuple[list[Instance], dict[int, int], set[int]]:
    """Where one track is seen in two pieces, put them together: {row: column of the second piece}.

    A piece lies inside the track's predicted mask, or beside what is seen of it and no farther out than the
    thing is large. Pieces that stay apart for half a second are two things after all; these rows are the
    set returned.
    """
    joined: dict[int, int] = {}
    parted: set[int] = set()
    out = list(seen)
    taken = set(matched.values())
    for column, piece in enumerate(seen):
        if column in taken or piece.identity or not len(predicted):
            continue
        inside = common[:, column] / max(area_seen[column], 1e-9)
        for row in np.argsort(-inside):
            each = predicted[row]
            if row not in matched or row in joined or not each.confirmed or each.identity:
                continue
            first = out[matched[row]]
            together = area_seen[matched[row]] + area_seen[column]
            part = inside[row] >= PIECE and together <= 1.4 * area_known[row]
            if piece.label != each.label or not (part or _beside(first.box, piece.box, each.size)):
                continue
            if scene.time - each.split_since > _SPLIT_SECONDS:
                parted.add(int(row))
                break
            out[matched[row]] = replace(
                first,
                mask=first.mask | piece.mask,
                box=_around(first.box, piece.box),
                fringe=_either(first.fringe, piece.fringe),
            )
            joined[int(row)] = column
            break
    return out, joined, parted


def _either(first: Mask | None, second: Mask | None) -> Mask | None:
    return second if first is None else first if second is None else first | second


def _around(first: Box, second: Box) -> Box:
    return (
        min(first[0], second[0]),
        min(first[1], second[1]),
        max(first[2], second[2]),
        max(first[3], second[3]),
    )


def _beside(first: Box, second: Box, size: tuple[float, float]) -> bool:
    """Whether two boxes may be parts of a thing of this (width, height), cut by a pole or a bar."""
    x0, y0, x1, y1 = _around(first, second)
    if x1 - x0 > 1.15 * size[0] or y1 - y0 > 1.15 * size[1]:
        return False
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    beside = across < 0 and down > 0.6 * size[1]
    above = down < 0 and across > 0.6 * size[0]
    return beside or above


def without_doubles(lives: tuple[Life, ...], working: tuple[int, int]) -> tuple[Life, ...]:
    """Of two tracks that have come to lie on the same thing the one known better stays."""
    if not _crowded(association.as_boxes([each.box for each in lives])):
        return lives
    small = regions.stack_small([each.soft for each in lives], working)
    common, area, _ = association.overlaps(small, small)
    gone: set[int] = set()
    order = sorted(range(len(lives)), key=lambda i: (lives[i].missed, -lives[i].hits))
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            same = common[i, j] > _SAME * (area[i] + area[j] - common[i, j] + 1e-9)
            kin = association.related(lives[i].label, lives[j].label)
            free = not (lives[i].identity or lives[j].identity or lives[j].occluded)
            if i not in gone and j not in gone and same and kin and free:
                gone.add(j)
    return tuple(each for i, each in enumerate(lives) if i not in gone)


def _crowded(boxes: NDArray[np.float64]) -> bool:
    """Whether any two boxes overlap so much that their things may be the same."""
    overlap = regions.box_overlap(boxes, boxes)
    np.fill_diagonal(overlap, 0)
    return bool((overlap > _CROWDED).any())
