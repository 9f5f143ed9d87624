"""Several things in one picture, some before others: truth for networks that complete all of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .occlusions import CANVAS, Pixels, Whole, blend, pick, posed, roughened

VIEW = 192
"""Side of the picture."""

_EDGE = (CANVAS - VIEW) // 2


@dataclass(frozen=True)
class Ensemble:
    """A picture (V, V, 3) with N things, V = `VIEW`; masks (N, V, V) uint8 0 or 1, from front to back.

    `modal` and `front` are as a segmentator would give them, `front` being the visible parts of all that
    is nearer and touches; `visible` and `amodal` are true. `layer` (N,): things of one layer do not touch
    each other, and only things of lower layers hide them.
    """

    rgb: Pixels
    modal: Pixels
    front: Pixels
    visible: Pixels
    amodal: Pixels
    layer: Pixels

    @property
    def hidden(self) -> list[int]:
        """The things of which 10-60 % is hidden."""
        shares = 1 - self.visible.sum((1, 2)) / np.maximum(1, self.amodal.sum((1, 2)))
        return [int(k) for k in np.flatnonzero((shares >= 0.1) & (shares <= 0.6))]


def draw_ensemble(
    wholes: Sequence[Whole], kinds: Mapping[str, list[int]], random: np.random.Generator
) -> Ensemble:
    """Three to six things on one ground, who stands lower in front; at least one is hidden in part."""
    for _ in range(60):
        found = _try(wholes, kinds, random)
        if found is not None:
            return found
    raise ValueError("no things can be put before each other")


def _try(
    wholes: Sequence[Whole], kinds: Mapping[str, list[int]], random: np.random.Generator
) -> Ensemble | None:
    picture = cv2.resize(wholes[int(random.integers(len(wholes)))].rgb, (VIEW, VIEW))
    picture = cv2.GaussianBlur(picture, (0, 0), 2.0)
    inside = np.s_[_EDGE : _EDGE + VIEW, _EDGE : _EDGE + VIEW]
    scale = float(random.uniform(0.6, 0.9))
    things = []
    for foot in np.sort(random.uniform(-8, 34, int(random.integers(3, 7)))):
        whole = wholes[pick(dict(kinds), random)]
        size = scale * float(np.exp(random.normal(0, 0.2)))
        shift = int(random.uniform(-58, 58)), int(foot - 30 * (size - 0.75))
        rgb, mask, _ = posed(whole, random, shift, size)
        things.append((rgb[inside], mask[inside]))
    for rgb, mask in things:  # the rearmost is first: it stands highest
        picture = blend(np.asarray(picture, np.uint8), rgb, mask)
    amodal = np.stack([mask for _, mask in things[::-1]])
    taken = np.zeros((VIEW, VIEW), np.uint8)
    visible = np.zeros_like(amodal)
    for number, mask in enumerate(amodal):
        visible[number] = mask & (1 - taken)
        taken |= mask
    if (visible.sum((1, 2)) < 150).any():
        return None
    modal = np.stack([roughened(mask, random) for mask in visible])
    taken[:] = 0
    for mask in modal:  # no pixel belongs to two things
        mask &= 1 - taken
        taken |= mask
    if (modal.sum((1, 2)) < 100).any():
        return None
    near = [np.asarray(cv2.dilate(mask, np.ones((5, 5), np.uint8)), np.uint8) for mask in modal]
    front, layer = np.zeros_like(modal), np.zeros(len(modal), np.uint8)
    for number in range(len(modal)):
        for other in range(number):
            if (near[number] & near[other]).any() or (amodal[number] & amodal[other]).any():
                front[number] |= modal[other]
                layer[number] = max(layer[number], layer[other] + 1)
    found = Ensemble(np.asarray(picture, np.uint8), modal, front, visible, amodal, layer)
    return found if found.hidden else None
