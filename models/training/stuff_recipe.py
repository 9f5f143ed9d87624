"""Settings of the stuff classifier's training."""

from __future__ import annotations

from dataclasses import dataclass

from models.stuff import Variant


@dataclass(frozen=True)
class Recipe:
    """How the committed weights were made; every field may be set from the command line."""

    variant: Variant = "compact"  # "paper": a ResNet-101, whose trunk stays as it is
    trunk: str = ""  # weights the trunk comes from; "": the package's segmentator, or ResNet-101 as fetched
    teacher: str = "mosaic_ade20k32_r4_512_uint8.tflite"  # below DATA/teachers; "": none, the trunk stays
    seed: int = 20190928  # of every random draw
    held: float = 0.16  # share of pictures set aside by the digest of their names, never fitted
    steps: int = 2000  # of the first stage
    pictures: int = 32  # views a step of the first stage
    trunk_rate: float = 2e-3  # of the first stage, relative to the size of each tensor
    surface_rate: float = 2e-3  # of the layers that the trunk does not have
    things_weight: float = 1.0  # of the loss on things beside that on surfaces
    save_every: int = 100  # steps between checkpoints
    views: int = 6  # random views of each training picture whose features are kept for the head
    folds: int = 5  # heads fitted on different folds for the calibration; the stored one sees all
    epochs: int = 12  # passes over the kept views
    batch: int = 64  # views a step of the second stage
    rate: float = 1e-3  # AdamW's, falling along a cosine
    decay: float = 0.05  # AdamW weight decay
    dropout: float = 0.4  # on the head's input and hidden layer
    least_positives: int = 12  # a class with fewer pictures is never reported
    least_precision: float = 0.15  # nor one whose average precision, folds apart, stays below this
