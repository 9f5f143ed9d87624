"""Which background a picture shows: a multi-label classifier over COCO-Stuff's 91 classes at 128 x 128.

ICIP 2019 needs the stuff of a picture only as labels, so a small picture and one vector suffice. The
compact network begins as the segmentator's trunk. Beside its features the head is given what each cell is
made of (`surfaces`), and both by bands of the picture: what is above (sky, ceiling) and below (road,
floor) is told apart by where it is. The paper's trunk is a ResNet-101.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .labels import STUFF_NAMES
from .segmentator import CompactTrunk, ResNetTrunk

SIDE = 128
"""Input height and width in pixels; the whole picture is squeezed to this square."""

BANDS = 4
"""Horizontal bands of the picture that are pooled apart."""

HIDDEN = 192
"""Units of the compact head's hidden layer."""

SURFACES = 32
"""Kinds of surface each cell is told apart into: ADE20K's 31 most frequent classes and anything else."""

NEVER = 1.0
"""The threshold of a class that is never reported."""

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "stuff-compact.safetensors"

Variant = Literal["compact", "paper"]


class StuffClassifier(nn.Module):
    """Multi-label classifier; a sigmoid of its logits is the calibrated probability of each class.

    `thresholds` (91,) are the probabilities from which a class counts as seen, those that give the best
    F1 on pictures set aside; they are stored with the weights (0.5 before training). A class that could not
    be learned has the threshold NEVER, and its probability is 0 for every picture.
    """

    thresholds: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        trunk: CompactTrunk | ResNetTrunk,
        head: nn.Module,
        *,
        mean: tuple[float, float, float],
        spread: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        _, middle, high = trunk.channels
        self.surfaces_middle = nn.Conv2d(middle, SURFACES, 1)
        self.surfaces_high = nn.Conv2d(high, SURFACES, 1, bias=False)
        for layer in (self.surfaces_middle, self.surfaces_high):  # features are large: begin undecided
            nn.init.zeros_(layer.weight)
        self.head = head
        self.register_buffer("thresholds", torch.full((len(STUFF_NAMES),), 0.5))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(spread).view(1, 3, 1, 1), persistent=False)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The trunk's features at strides 4, 8 and 16 of an RGB picture in [0, 1]."""
        low, middle, high = self.trunk((image - self.mean) * self.scale)
        return low, middle, high

    def surfaces(self, middle: Tensor, high: Tensor) -> Tensor:
        """Logits (B, 32, 16, 16) of what each cell is made of."""
        coarse = F.interpolate(self.surfaces_high(high), scale_factor=2.0, mode="nearest")
        made_of: Tensor = self.surfaces_middle(middle) + coarse
        return made_of

    def gather(self, low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
        """The head's input: bands and maxima of the deepest features and of the surfaces, finer means."""
        made_of = self.surfaces(middle, high).softmax(1)
        parts = []
        for cells in (high, made_of):
            parts += [F.adaptive_avg_pool2d(cells, (BANDS, 1)).flatten(1), cells.amax((2, 3))]
        return torch.cat([*parts, middle.mean((2, 3)), low.mean((2, 3))], 1)

    def pooled(self, image: Tensor) -> Tensor:
        """The head's input for a picture, (B, `pooled_size`)."""
        return self.gather(*self.features(image))

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, 128, 128) float32 RGB in [0, 1] to logits (B, 91) in STUFF_NAMES order."""
        logits: Tensor = self.head(self.pooled(image))
        return logits


class StuffHead(nn.Sequential):
    """Two linear layers on inputs brought to mean 0 and spread 1, each by its own constants.

    The constants are the running statistics of the first layer. After training the calibration is folded
    into the last one.
    """

    def __init__(self, inputs: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__(
            nn.BatchNorm1d(inputs, affine=False),
            nn.Dropout(dropout),
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(STUFF_NAMES)),
        )


def pooled_size(channels: tuple[int, int, int]) -> int:
    """Length of `StuffClassifier.pooled` for a trunk with these channels at strides 4, 8 and 16."""
    low, middle, high = channels
    return (BANDS + 1) * (high + SURFACES) + middle + low


def build_stuff(*, variant: Variant = "compact", dropout: float = 0.0) -> StuffClassifier:
    """A stuff classifier with random weights; ValueError on an unknown variant.

    The paper variant's `trunk` has torchvision's ResNet-101 names, see
    `models.segmentator.load_torchvision_trunk`, which takes it as it takes a segmentator.
    """
    if variant == "compact":
        head = StuffHead(pooled_size(CompactTrunk.channels), HIDDEN, dropout=dropout)
        return StuffClassifier(CompactTrunk(norm=False), head, mean=(0.5, 0.5, 0.5), spread=(0.5, 0.5, 0.5))
    if variant == "paper":
        head = StuffHead(pooled_size(ResNetTrunk.channels), 512, dropout=dropout)
        return StuffClassifier(ResNetTrunk(), head, mean=(0.485, 0.456, 0.406), spread=(0.229, 0.224, 0.225))
    raise ValueError(f"unknown stuff variant {variant!r}: use 'compact' or 'paper'")


def take_trunk(network: StuffClassifier, segmentator: Mapping[str, Tensor]) -> int:
    """Copy the trunk out of a segmentator's state dict (names `trunk....`); returns tensors taken.

    Raises ValueError where a name is missing or a shape differs.
    """
    own = network.trunk.state_dict()
    taken: dict[str, Tensor] = {}
    for name, value in own.items():
        source = segmentator.get(f"trunk.{name}")
        if source is None or source.shape != value.shape:
            found = None if source is None else tuple(source.shape)
            raise ValueError(f"trunk.{name}: wanted shape {tuple(value.shape)}, found {found}")
        taken[name] = source
    network.trunk.load_state_dict(taken)
    return len(taken)
