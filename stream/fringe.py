"""Where a thing may go on beyond its outline: hands, feet and tails of which the segmentator is unsure.

An outline runs where the thing is as likely as not, which is right for telling what is there. What is removed
must go whole, so its hole asks less of a pixel that hangs together with the thing and lies close to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.instances import KIND_OF, FoundThing
from stream.arrays import Float
from stream.types import Mask

_ODDS = -1.5
_REACH = 0.4

SMALL = (0.005, 0.02)
"""Shares of the picture from which things grow less small, and from which they are small no more.

The outlines of small things run lower already; a fringe of theirs would be other things more often.
"""


def fringes(things: Sequence[FoundThing], logits: NDArray[np.float32]) -> list[Mask]:
    """Cells of each thing's kind's odds above -1.5 that hang together with it, (h, w) bool without its own.

    `things`: all that were found, which share out the cells between them; `logits` (81, h, w). No cell is
    farther from a thing than 0.4 times the root of its area, and things under 2 % of the picture have less.
    """
    cells = logits.shape[1:]
    owner = np.full(cells, -1, np.intp)
    for number, each in enumerate(things):
        owner[each.mask] = number
    distance, nearest = _nearest(owner)
    areas = np.array([np.count_nonzero(each.mask) for each in things], np.float32)
    reach = _REACH * np.sqrt(areas) * np.interp(areas / owner.size, SMALL, (0, 1))
    near = (owner < 0) & (distance <= reach[nearest])
    kinds = np.array([KIND_OF[each.label] for each in things])
    beside = logits.reshape(len(logits), -1).take(np.flatnonzero(near), axis=1)
    near[near] = _kind_odds(beside, kinds[nearest[near]]) > _ODDS
    return [_held_together(near & (nearest == number), each.mask) for number, each in enumerate(things)]


def _nearest(owner: NDArray[np.intp]) -> tuple[Float, NDArray[np.intp]]:
    """Distance of each cell to the nearest that is owned, and whose that is."""
    free = (owner < 0).view(np.uint8)
    distance, label = cv2.distanceTransformWithLabels(
        free, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(label.max()) + 1, np.intp)
    owned = owner >= 0
    of_label[label[owned]] = owner[owned]
    return np.asarray(distance, np.float32), of_label[label]


def _kind_odds(logits: NDArray[np.float32], kinds: NDArray[np.intp]) -> Float:
    """Log odds of each of N cells' (81, N) being of its kind, against all else."""
    shares = np.exp(logits - logits.max(0))
    mine = (shares[1:] * (KIND_OF[:, None] == kinds)).sum(0)
    return np.asarray(np.log(mine + 1e-9) - np.log(shares.sum(0) - mine + 1e-9), np.float32)


def _held_together(near: Mask, own: Mask) -> Mask:
    """What of `near` hangs together with `own`, without that."""
    if not near.any():
        return near
    count, label = cv2.connectedComponents((near | own).view(np.uint8), connectivity=8)
    together = np.zeros(count, bool)
    together[label[own]] = True
    return np.asarray(near & together[label], np.bool_)
