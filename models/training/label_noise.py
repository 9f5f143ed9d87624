"""What a detector misses and invents: label sets as the judge is given them, made from true ones.

`reported_labels.json` lists pictures with the labels this project's own networks reported of them
(`python -m benchmarks.label_noise` writes it); the rates come from there. Classes of which too few examples
were seen take the mean of all things or of all stuff.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.labels import THING_NAMES
from models.relation import CLASS_NAMES, Floats

Bits = npt.NDArray[np.uint8]
CLASSES, THINGS = len(CLASS_NAMES), len(THING_NAMES)
REPORTED = Path(__file__).with_name("reported_labels.json")

_TRUST = 12.0
"""As many examples as the mean of all classes counts for in the rates of each."""


@dataclass(frozen=True)
class LabelNoise:
    """`found` (171): how often a class that is there is reported.

    `invented` (171, 171): how often class j (column) that is not there is reported where class i (row) is.
    """

    found: Floats
    invented: Floats

    def draw(self, sets: Tensor, generator: torch.Generator) -> Tensor:
        """Label sets (N, 171) as they would be reported, from true ones."""
        around = sets / sets.sum(1, keepdim=True).clamp(min=1.0)
        chance = torch.where(sets > 0, torch.from_numpy(self.found), around @ torch.from_numpy(self.invented))
        return (torch.rand(sets.shape, generator=generator) < chance).float()


@dataclass(frozen=True)
class Reported:
    """Labels (171) reported of a picture, and whether things and stuff of it may be judged by them.

    A picture that a network was trained on says nothing of what that network misses.
    """

    labels: Floats
    things: bool
    stuff: bool


def read_reported(file: Path = REPORTED) -> dict[int, Reported]:
    """What was reported, by COCO number."""
    listed = json.loads(file.read_text(encoding="utf-8"))
    found = {}
    for entry in listed["pictures"]:
        row = np.zeros(CLASSES, np.float32)
        row[[CLASS_NAMES.index(name) for name in entry["reported"]]] = 1
        found[int(entry["id"])] = Reported(row, bool(entry["things"]), bool(entry["stuff"]))
    return found


def measure_noise(true: Mapping[int, npt.NDArray[np.uint8]], reported: Mapping[int, Reported]) -> LabelNoise:
    """Rates from pictures with true and reported labels, by COCO number."""
    there = np.zeros(CLASSES)
    caught = np.zeros(CLASSES)
    absent = np.zeros((CLASSES, CLASSES))
    invented = np.zeros((CLASSES, CLASSES))
    for number, entry in reported.items():
        if number not in true:
            continue
        truth = true[number].astype(np.float64)
        row = entry.labels
        judged = np.repeat([float(entry.things), float(entry.stuff)], [THINGS, CLASSES - THINGS])
        there += truth * judged
        caught += truth * row * judged
        absent += np.outer(truth, (1 - truth) * judged)
        invented += np.outer(truth, (1 - truth) * row * judged)
    found = np.zeros(CLASSES)
    chance = np.zeros((CLASSES, CLASSES))
    for part in (slice(0, THINGS), slice(THINGS, CLASSES)):
        mean = caught[part].sum() / max(there[part].sum(), 1.0)
        found[part] = (caught[part] + _TRUST * mean) / (there[part] + _TRUST)
        overall = invented[:, part].sum(0) / np.maximum(absent[:, part].sum(0), 1.0)
        chance[:, part] = (invented[:, part] + _TRUST * overall) / (absent[:, part] + _TRUST)
    return LabelNoise(found.astype(np.float32), chance.astype(np.float32))
