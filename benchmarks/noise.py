"""A detector that knows the truth and errs as often as the real one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.walks import Walk
from stream import regions
from stream.types import Frame, Instance, Mask


@dataclass(frozen=True)
class Noise:
    """Error rates; what they are measured as is said in `benchmarks.tracks`.

    `recall` and `gap_frames`: share of frames in which a thing is found, mean length of a gap. `tremble`: how
    far each side of the outline is off, as a share of the thing's size. `pieces`: a part is found once more.
    `merged`: of frames in which two things touch, those in which they are found as one.
    """

    recall: float
    gap_frames: float
    tremble: float
    wrong_label: float
    pieces: float
    merged: float
    false_per_frame: float


NOISE = Noise(
    recall=0.72,
    gap_frames=4.9,
    tremble=0.015,
    wrong_label=0.011,
    pieces=0.02,
    merged=0.5,
    false_per_frame=0.34,
)
"""As measured on the network (see `noise` in tracks.json)."""

_TAKEN_FOR = {"car": "truck", "bus": "truck", "dog": "cat", "suitcase": "handbag", "person": "dog"}


class Told:
    """Truth with `noise`, frame by frame; equal clips give equal errors."""

    def __init__(self, walk: Walk, noise: Noise) -> None:
        self._noise, self._labels = noise, [each.label for each in walk.things]
        self._random = np.random.default_rng([walk.seed, 7])
        self._found = [True] * len(self._labels)

    def look(self, masks: Sequence[Mask], frame: Frame, working: tuple[int, int]) -> tuple[Instance, ...]:
        """What is found of things with these masks (of the `working` size) in a frame."""
        noise, random = self._noise, self._random
        found: list[tuple[str, float, Mask]] = []
        for number, mask in enumerate(masks):
            back = 1 / max(1.0, noise.gap_frames)
            lose = back * (1 - noise.recall) / noise.recall
            self._found[number] = random.random() < (1 - lose if self._found[number] else back)
            if not self._found[number] or mask.sum() < 40:
                continue
            label = self._labels[number]
            if random.random() < noise.wrong_label:
                label = _TAKEN_FOR[label]
            found.append((label, float(random.uniform(0.4, 0.95)), self._trembling(mask)))
        found = self._merged(found)
        for label, sure, mask in list(found):
            if random.random() < noise.pieces:
                found.append((label, 0.8 * sure, _part(mask, lower=bool(random.random() < 0.5))))
        if random.random() < noise.false_per_frame:
            found.append(("person", float(random.uniform(0.15, 0.5)), self._blob(working)))
        return tuple(_instance(*each, frame) for each in found if each[2].any())

    def _trembling(self, mask: Mask) -> Mask:
        bounds = regions.bounds(mask)
        assert bounds is not None
        x0, y0, x1, y1 = bounds
        wide, high = x1 - x0, y1 - y0
        before = np.array([x0, y0, x1, y1], float)
        after = before + self._random.normal(0, self._noise.tremble, 4) * [wide, high, wide, high]
        fx, fy = (after[2] - after[0]) / wide, (after[3] - after[1]) / high
        move = np.array([[fx, 0, after[0] - fx * x0], [0, fy, after[1] - fy * y0]])
        size = mask.shape[::-1]
        return np.asarray(cv2.warpAffine(mask.astype(np.uint8) * 255, move, size) > 127)

    def _merged(self, found: list[tuple[str, float, Mask]]) -> list[tuple[str, float, Mask]]:
        out: list[tuple[str, float, Mask]] = []
        for label, sure, mask in found:
            for place, (other, surer, whole) in enumerate(out):
                touch = cv2.dilate(whole.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
                if other == label and (touch & mask).any() and self._random.random() < self._noise.merged:
                    out[place] = other, max(sure, surer), whole | mask
                    break
            else:
                out.append((label, sure, mask))
        return out

    def _blob(self, working: tuple[int, int]) -> Mask:
        out = np.zeros(working, np.uint8)
        x, y = (int(self._random.integers(0, side)) for side in working[::-1])
        cv2.ellipse(out, (x, y), (6, 14), 0, 0, 360, 1, -1)
        return out > 0


def _part(mask: Mask, *, lower: bool) -> Mask:
    bounds = regions.bounds(mask)
    assert bounds is not None
    out = mask.copy()
    middle = (bounds[1] + bounds[3]) // 2
    out[slice(0, middle) if lower else slice(middle, None)] = False
    return out


def _instance(label: str, score: float, mask: Mask, frame: Frame) -> Instance:
    bounds = regions.bounds(mask)
    assert bounds is not None
    scale = np.array([frame.width / mask.shape[1], frame.height / mask.shape[0]])
    box: NDArray[np.float64] = np.array(bounds) * np.tile(scale, 2)
    return Instance(label, score, (float(box[0]), float(box[1]), float(box[2]), float(box[3])), mask)
