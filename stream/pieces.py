"""One thing seen as two, two seen as one, one followed twice: put right."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stream import association, regions
from stream.association import Shapes
from stream.life import Life, Scene
from stream.types import Instance

PIECE = 0.6
"""A sighting this far inside a track's mask is a piece of it."""

_SAME = 0.7
_SPLIT_SECONDS = 0.5


def distinct(instances: tuple[Instance, ...], working: tuple[int, int]) -> list[Instance]:
    """Sightings without doubles: of two masks that are nearly the same the surer one stays."""
    order = sorted(instances, key=lambda each: -each.score)
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
    known: Shapes,
    seen: list[Instance],
    common: NDArray[np.float64],
    area_known: NDArray[np.float64],
    area_seen: NDArray[np.float64],
) -> tuple[list[Instance], dict[int, NDArray[np.bool_]]]:
    """Where two tracks are seen as one thing, give each its part of the mask: {row without match: mask}."""
    extra: dict[int, NDArray[np.bool_]] = {}
    owner = {column: row for row, column in matched.items()}
    out = list(seen)
    for row, each in enumerate(predicted):
        if row in matched or not each.confirmed or each.identity or not owner:
            continue
        share = np.where(area_known[row] > 0, common[row] / max(area_known[row], 1e-9), 0.0)
        column = int(share.argmax()) if len(share) else -1
        if column not in owner or share[column] < PIECE or seen[column].identity:
            continue
        other = owner[column]
        alike = association.related(each.label, predicted[other].label)
        if not alike or area_seen[column] < 1.25 * area_known[other]:
            continue
        whole = out[column].mask
        mine = _closer(each.mask, predicted[other].mask) & whole
        if mine.sum() < 0.3 * each.mask.sum():
            continue
        extra[row] = mine
        rest = whole & ~mine
        out[column] = _with_mask(out[column], rest, known.boxes[other])
    return out, extra


def _closer(mine: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels nearer to one mask than to another."""
    near = cv2.distanceTransform((~mine).view(np.uint8), cv2.DIST_L2, 3)
    far = cv2.distanceTransform((~other).view(np.uint8), cv2.DIST_L2, 3)
    return near < far


def _with_mask(instance: Instance, mask: NDArray[np.bool_], box: NDArray[np.float64]) -> Instance:
    return replace(instance, mask=mask, box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])))


def join(
    matched: dict[int, int],
    predicted: tuple[Life, ...],
    seen: list[Instance],
    common: NDArray[np.float64],
    area_known: NDArray[np.float64],
    area_seen: NDArray[np.float64],
    scene: Scene,
) -> tuple[list[Instance], dict[int, int]]:
    """Where one track is seen in two pieces, put them together: {row: column of the second piece}.

    Pieces that stay apart for half a second are two things after all.
    """
    joined: dict[int, int] = {}
    out = list(seen)
    taken = set(matched.values())
    for column, piece in enumerate(seen):
        if column in taken or piece.identity or not len(predicted):
            continue
        share = common[:, column] / max(area_seen[column], 1e-9)
        row = int(share.argmax())
        each = predicted[row]
        if row not in matched or row in joined or share[row] < PIECE or not each.confirmed or each.identity:
            continue
        lasting = scene.time - each.split_since > _SPLIT_SECONDS
        first = out[matched[row]]
        together = area_seen[matched[row]] + area_seen[column]
        if lasting or piece.label != each.label or together > 1.4 * area_known[row]:
            continue
        box = np.array([*np.minimum(first.box[:2], piece.box[:2]), *np.maximum(first.box[2:], piece.box[2:])])
        out[matched[row]] = _with_mask(first, first.mask | piece.mask, box)
        joined[row] = column
    return out, joined


def without_doubles(lives: tuple[Life, ...], working: tuple[int, int]) -> tuple[Life, ...]:
    """Of two tracks that have come to lie on the same thing the one known better stays."""
    if len(lives) < 2:
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
