"""Scores of a segmentator on pictures set aside: intersection over union per class, AP50 of people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from ..instances import group_instances
from ..labels import THING_NAMES
from ..segmentator import Segmentator
from .data import GREY, IGNORE, Picture, fit_size, resize
from .losses import teacher_at_stride_4
from .teacher import VOC_CLASSES

Maps = tuple[np.ndarray, np.ndarray, np.ndarray]
Predict = Callable[[np.ndarray], Maps]
VEHICLES = ("bicycle", "car", "motorcycle", "bus", "train", "truck")


def predictor(network: Segmentator) -> Predict:
    """Run a network on one RGB picture (H, W, 3) uint8: logits, centre, offset at stride 4.

    The picture is padded with grey at the right and the bottom to multiples of 32; the maps cover
    the padded size.
    """

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Maps:
        height, width = (-(-v // 32) * 32 for v in image.shape[:2])
        padded = np.full((height, width, 3), GREY, np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image
        device = next(network.parameters()).device
        x = torch.from_numpy(padded).to(device).permute(2, 0, 1)[None].float() / 255
        out = network(x)
        return out.logits[0].cpu().numpy(), out.centre[0].cpu().numpy(), out.offset[0].cpu().numpy()

    return predict


def voc_predictor(trunk: nn.Module, scorer: nn.Module) -> Predict:
    """The same for a trunk with the teacher's 21 classes behind it: no centres, no offsets."""

    @torch.inference_mode()
    def predict(image: np.ndarray) -> Maps:
        height, width = (-(-v // 32) * 32 for v in image.shape[:2])
        padded = np.full((height, width, 3), GREY, np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image
        x = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1
        found = teacher_at_stride_4(scorer(trunk(x)[-1]), (height // 4, width // 4))[0].numpy()
        logits = np.full((len(THING_NAMES) + 1, *found.shape[1:]), -30, np.float32)
        logits[list(VOC_CLASSES)] = found
        nothing = np.zeros((3, *found.shape[1:]), np.float32)
        return logits, nothing[:1] - 9, nothing[1:]

    return predict


def label_map(picture: Picture, height: int, width: int) -> np.ndarray:
    """True classes (H, W) uint8 of a fully annotated or masked picture; 255 in groups of people."""
    label = np.zeros((height, width), np.uint8)
    if picture.mask is not None:
        mask = cv2.imread(str(picture.mask), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f"cannot be read as a mask: {picture.mask}")
        label[mask > 127] = 1
        return label
    ordered = sorted(
        picture.things,
        key=lambda t: (t.box[2] - t.box[0]) * (t.box[3] - t.box[1]),
        reverse=True,
    )
    for thing in ordered:
        for polygon in thing.polygons:
            cv2.fillPoly(label, [np.round(polygon).astype(np.int32)], thing.label)
    for thing in picture.things:
        if thing.crowd:
            x0, y0, x1, y1 = (int(v) for v in thing.box)
            label[y0 : y1 + 1, x0 : x1 + 1] = IGNORE
    return label


@dataclass
class Tally:
    """Pixels right, found and true per class 0..80, summed over pictures."""

    right: np.ndarray
    found: np.ndarray
    true: np.ndarray

    @classmethod
    def empty(cls) -> Tally:
        """All zero."""
        return cls(*(np.zeros(len(THING_NAMES) + 1, np.int64) for _ in range(3)))

    def add(self, found: np.ndarray, true: np.ndarray) -> None:
        """One picture's class maps."""
        known = true != IGNORE
        found, true = found[known], true[known]
        count = len(self.right)
        self.right += np.bincount(true[found == true], minlength=count)
        self.found += np.bincount(found, minlength=count)
        self.true += np.bincount(true, minlength=count)

    def union_share(self, label: int) -> float:
        """Intersection over union; nan where the class occurs nowhere."""
        union = self.found[label] + self.true[label] - self.right[label]
        return float(self.right[label] / union) if union else float("nan")


def average_precision(found: Sequence[tuple[float, bool]], total: int) -> float:
    """Area under the precision envelope, for (score, is right) pairs and the number of true things."""
    if not total or not found:
        return 0.0
    ordered = np.array([right for _, right in sorted(found, key=lambda f: -f[0])])
    hits = np.cumsum(ordered)
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * ordered).sum() / total)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def match_people(
    found: Sequence[tuple[float, tuple[float, ...]]], picture: Picture
) -> tuple[list[tuple[float, bool]], int]:
    """(score, is right) of each found person box at overlap 0.5, and the number of true people.

    Boxes mostly inside an annotated group count neither way.
    """
    people = [t for t in picture.things if t.label == 1 and not t.crowd]
    crowds = [t for t in picture.things if t.label == 1 and t.crowd]
    free, results = list(people), []
    for score, box in sorted(found, key=lambda f: -f[0]):
        best = max(free, key=lambda t: _overlap(box, t.box), default=None)
        if best is not None and _overlap(box, best.box) >= 0.5:
            free.remove(best)
            results.append((score, True))
        elif not any(_overlap(box, t.box) > 0.3 for t in crowds):
            results.append((score, False))
    return results, len(people)


def class_table(predict: Predict, pictures: Sequence[Picture], longer: int) -> dict[str, float]:
    """Intersection over union of each of the 80 classes; 0 for one that is found nowhere."""
    tally = Tally.empty()
    for picture in pictures:
        image = picture.read()
        height, width = image.shape[:2]
        small = fit_size(height, width, longer)
        logits = predict(resize(image, *small))[0]
        full = np.stack([_stretch(m, *small, height, width) for m in logits])
        tally.add(full.argmax(0).astype(np.uint8), label_map(picture, height, width))
    shares = np.nan_to_num([tally.union_share(k) for k in range(1, len(THING_NAMES) + 1)])
    return {name: float(share) for name, share in zip(THING_NAMES, shares, strict=True)}


def score_pictures(predict: Predict, pictures: Sequence[Picture], longer: int) -> dict[str, float]:
    """Scores at one input size: person, mean20, vehicles, vehicle_any, background, ap50, recall50.

    All are shares; classes that occur nowhere are left out of the means. `vehicle_any` takes car,
    bus, train and truck for one class, which is what removing vehicles needs.
    """
    tally, together = Tally.empty(), Tally.empty()
    people: list[tuple[float, bool]] = []
    total = 0
    motor = [THING_NAMES.index(name) + 1 for name in ("car", "bus", "train", "truck")]
    merge = np.arange(256, dtype=np.uint8)
    merge[motor] = motor[0]
    for picture in pictures:
        image = picture.read()
        height, width = image.shape[:2]
        small_height, small_width = fit_size(height, width, longer)
        logits, centre, offset = predict(resize(image, small_height, small_width))
        full = np.stack([_stretch(m, small_height, small_width, height, width) for m in logits])
        found = full.argmax(0).astype(np.uint8)
        true = label_map(picture, height, width)
        tally.add(found, true)
        together.add(merge[found], merge[true])
        scale = height / small_height
        things = group_instances(logits, centre, offset)
        boxes = [(t.score, tuple(v * scale for v in t.box)) for t in things if t.label == 0]
        matched, count = match_people(boxes, picture)
        people += matched
        total += count
    voc = [tally.union_share(label) for label in VOC_CLASSES[1:]]
    wheels = [tally.union_share(THING_NAMES.index(name) + 1) for name in VEHICLES]
    scores = {
        "person": tally.union_share(1),
        "mean20": float(np.nanmean(voc)) if not np.all(np.isnan(voc)) else float("nan"),
        "vehicles": float(np.nanmean(wheels)) if not np.all(np.isnan(wheels)) else float("nan"),
        "vehicle_any": together.union_share(motor[0]),
        "background": tally.union_share(0),
        "ap50": average_precision(people, total),
        "recall50": sum(right for _, right in people) / max(1, total),
    }
    for name in VEHICLES:
        scores[name] = tally.union_share(THING_NAMES.index(name) + 1)
    return scores


def _stretch(cells: np.ndarray, small_height: int, small_width: int, height: int, width: int) -> np.ndarray:
    """A stride-4 map of the padded input, at the picture's own size without the padding."""
    scale_y, scale_x = 4 * height / small_height, 4 * width / small_width
    matrix = np.array([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5]], np.float32)
    return cv2.warpAffine(
        cells, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
