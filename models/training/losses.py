"""Losses of the segmentator: the teacher's classes, labels where there are any, centres, offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..labels import THING_NAMES
from ..segmentator import SegmentatorOutput
from .data import IGNORE
from .teacher import VOC_CLASSES

if TYPE_CHECKING:
    from .views import View

OTHERS = tuple(k for k in range(len(THING_NAMES) + 1) if k == 0 or k not in VOC_CLASSES)
"""Background and the 60 classes the teacher does not know: what its background stands for."""


@dataclass(frozen=True)
class Batch:
    """Views as tensors: image (B, 3, S, S) float in [0, 255], the maps of `View` as (B, ..., h, w)."""

    image: Tensor
    label: Tensor
    hint: Tensor
    heat: Tensor
    heat_known: Tensor
    offset: Tensor
    weight: Tensor
    hint_offset: Tensor
    hint_weight: Tensor
    taught: Tensor
    taught_known: Tensor

    @classmethod
    def of(cls, views: list[View], device: torch.device) -> Batch:
        """Stack views and move them to a device."""

        def stack(name: str) -> Tensor:
            values = np.stack([getattr(view, name) for view in views])
            return torch.from_numpy(values).to(device)

        image = stack("image").permute(0, 3, 1, 2).float()
        names = [name for name in cls.__dataclass_fields__ if name != "image"]
        return cls(image, **{name: stack(name) for name in names})


def teacher_at_stride_4(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Teacher scores (B, 21, H/16, W/16), cells centred on pixels 16 i, at the cells of stride 4."""

    def matrix(cells: int, wanted: int) -> Tensor:
        at = ((torch.arange(wanted, dtype=torch.float32) * 4 + 1.5) / 16).clamp(max=cells - 1)
        low = at.floor().long().clamp(max=max(0, cells - 2))
        share = at - low
        rows = torch.zeros(wanted, cells)
        rows[torch.arange(wanted), low] = 1 - share
        rows[torch.arange(wanted), (low + 1).clamp(max=cells - 1)] += share
        return rows.to(scores.device)

    rows, columns = matrix(scores.shape[2], size[0]), matrix(scores.shape[3], size[1])
    return torch.einsum("hy,bcyx,wx->bchw", rows, scores, columns)


def _families() -> np.ndarray:
    family = np.arange(len(THING_NAMES) + 1)
    for names in (
        ("car", "bus", "train", "truck"),
        ("bicycle", "motorcycle"),
        ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
        ("chair", "couch", "bench", "bed"),
        ("tv", "laptop"),
        ("bottle", "wine glass", "vase", "cup"),
    ):
        numbers = [THING_NAMES.index(name) + 1 for name in names]
        family[numbers] = numbers[0]
    return family


FAMILIES = _families()
"""Class 0..80 to a family within which the teacher may mistake one class for another."""


def resolve_hints(batch: Batch, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, offsets and weights once the teacher's classes have cut the boxes without outline.

    teacher: its classes as segmentator classes, (B, h, w). Inside a box, what the teacher takes for
    that class or one of its family gets the box's class: a truck the teacher calls a car is a truck.
    """
    label, hint = batch.label.long(), batch.hint.long()
    family = torch.from_numpy(FAMILIES).to(label.device)
    agrees = (label == IGNORE) & (hint > 0) & (teacher > 0) & (family[teacher] == family[hint])
    label = torch.where(agrees, hint, label)
    offset = torch.where(agrees[:, None], batch.hint_offset, batch.offset)
    weight = torch.where(agrees, batch.hint_weight, batch.weight)
    return label, offset, weight


def teacher_loss(logits: Tensor, scores: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Kullback-Leibler distance to the teacher, our background and unknown classes summed as its own.

    scores (B, 21, h, w), its scores or log probabilities, where `known`. Labelled cells weigh half, and a
    tenth where the label contradicts the teacher. Things weigh no more than background: with four times
    the weight everything doubtful became a thing.
    """
    truth = scores.softmax(1)
    ours = logits.log_softmax(1)
    others = ours[:, list(OTHERS)].logsumexp(1, keepdim=True)
    grouped = torch.cat([others, ours[:, list(VOC_CLASSES[1:])]], 1)
    distance = (truth * (scores.log_softmax(1) - grouped)).sum(1)
    voc_of = torch.zeros(256, dtype=torch.long, device=label.device)
    voc_of[list(VOC_CLASSES)] = torch.arange(len(VOC_CLASSES), device=label.device)
    agrees = voc_of[label] == scores.argmax(1)
    trust = torch.where(label == IGNORE, 1.0, torch.where(agrees, 0.5, 0.1))
    return 1.5 * (trust * known * distance).mean()


def label_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy where the class is known, background a little less (unlabelled things are left out)."""
    loss = F.cross_entropy(logits, label, ignore_index=IGNORE, reduction="none")
    weight = torch.where(label == 0, 0.8, 1.0)
    return (weight * loss).sum() / label.numel()


def centre_loss(centre: Tensor, heat: Tensor, known: Tensor) -> Tensor:
    """Penalty-reduced focal loss of the centre heat map (Law and Deng, "CornerNet", equation 1)."""
    centre = centre[:, 0].float()
    sure = centre.sigmoid()
    at_peak = (heat > 0.999).float()
    missed = at_peak * (1 - sure).square() * F.logsigmoid(centre)
    false = (1 - at_peak) * (1 - heat).pow(4) * sure.square() * F.logsigmoid(-centre)
    mask = known.float()
    return -((missed + false) * mask).sum() / (at_peak * mask).sum().clamp_min(4)


def offset_loss(offset: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Absolute error of the offsets, each cell by its weight (small things more)."""
    error = (offset.float() - wanted).abs().sum(1)
    return (error * weight).sum() / (weight > 0).float().sum().clamp_min(64)


@dataclass(frozen=True)
class Weights:
    """Shares of the losses in the sum."""

    teacher: float = 1.0
    label: float = 1.0
    centre: float = 0.6
    offset: float = 0.5


def total_loss(out: SegmentatorOutput, batch: Batch, shares: Weights) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and each loss for the log; where nothing is taught only the labels speak."""
    logits = out.logits.float()
    voc = torch.tensor(VOC_CLASSES, device=logits.device)
    taught = voc[batch.taught.argmax(1)] * batch.taught_known
    label, offset, weight = resolve_hints(batch, taught)
    parts = {
        "teacher": teacher_loss(logits, batch.taught, label, batch.taught_known),
        "label": label_loss(logits, label),
        "centre": centre_loss(out.centre, batch.heat, batch.heat_known),
        "offset": offset_loss(out.offset, offset, weight),
    }
    total = torch.stack([getattr(shares, name) * value for name, value in parts.items()]).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}
