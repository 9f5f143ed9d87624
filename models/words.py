"""Visual words: a picture's local features and the vocabulary that turns them into a bag of words.

Features are SIFT (Lowe 2004) at reduced size, their descriptors normalised as RootSIFT (Arandjelovic and
Zisserman 2012): compared by the Hellinger distance. The vocabulary holds the centres of their clusters, so
that a picture is found again by its histogram of words (Sivic and Zisserman, "Video Google", 2003).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "words.safetensors"
FEATURES = 400
"""Most features a picture."""

_CONTRAST = 0.02
"""Half of Lowe's: dull pictures have features too, and the strongest come first."""

_SCALE = 400.0
"""Descriptors are kept as bytes of this many levels; their entries seldom pass 0.6."""


@dataclass(frozen=True, slots=True)
class Features:
    """Local features of a picture: `points` float32 (N, 2), pixels (x, y); `descriptors` uint8 (N, 128)."""

    points: Floats
    descriptors: Bytes

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.points.nbytes + self.descriptors.nbytes


def describe(grey: Bytes, clear: Bytes | None = None, count: int = FEATURES) -> Features:
    """Find up to `count` features of a grey picture (uint8 H x W) where `clear` (uint8 H x W) is not 0."""
    finder = cv2.SIFT_create(count, contrastThreshold=_CONTRAST)  # type: ignore[attr-defined]  # OpenCV's stubs leave it out
    points, found = finder.detectAndCompute(grey, clear)
    if found is None or not len(points):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8))
    # SIFT may give a few more than asked for.
    places = np.array([point.pt for point in points[:count]], np.float32)
    found = found[:count]
    root = np.sqrt(found / np.maximum(found.sum(1, keepdims=True), 1e-6))
    return Features(places, np.clip(np.rint(root * _SCALE), 0, 255).astype(np.uint8))


def unit(descriptors: Bytes) -> Floats:
    """Descriptors as float32 of unit length, whose dot products are similarities in [0, 1]."""
    out = descriptors.astype(np.float32)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
    return out


@cache
def load_words() -> Floats:
    """The vocabulary: float32 (K, 128), unit length.

    Raises `WeightsError` when its file is missing or is not what was published, `ValueError` for one that is
    no vocabulary.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from models.weights import verify

    file = verify(DEFAULT_WEIGHTS.stem)
    try:
        return unit(load_file(file)["words"])
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{DEFAULT_WEIGHTS} is not a readable vocabulary: {error}") from error


def bag(features: Features, words: Floats) -> Floats:
    """How often each word occurs in a picture: float32 (K,)."""
    if not len(features.descriptors):
        return np.zeros(len(words), np.float32)
    nearest = np.argmax(unit(features.descriptors) @ words.T, axis=1)
    return np.bincount(nearest, minlength=len(words)).astype(np.float32)
