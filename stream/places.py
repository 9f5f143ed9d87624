"""Pictures of places, kept compressed and found again by the visual words in them.

A picture is a keyframe of this run or a photograph that the user gave; what covers the place in it is kept
with it. Which pictures show the same place is asked of a bag of words (Sivic and Zisserman, "Video Google",
2003); whether they really do is for geometry to say (`stream/align.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.words import Features, bag, describe, load_words
from stream import geometry
from stream.arrays import Bytes, Float, f32, u8
from stream.covers import grown, select
from stream.plate import Labels, vote_size
from stream.pose import View
from stream.types import Image

_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
_COARSE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of a place.

    `file`: the user's file it is from, empty for a keyframe of this run, which has its `shot` and `view`.
    `jpeg`: the pixels; `labels`: a PNG (uint16) of what covers the place, by track id, 65535 where it is
    covered for whoever asks; `coarse`: the same at most 64 wide. `features`: points in the picture's pixels.
    `words`: how often each visual word occurs.
    """

    file: str
    seconds: float
    size: tuple[int, int]
    jpeg: Bytes
    labels: Bytes
    coarse: Labels
    features: Features
    words: Float
    shot: int = -1
    view: View | None = None

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(e.nbytes for e in (self.jpeg, self.labels, self.coarse, self.features, self.words))

    def rgb(self) -> Image:
        """The pixels, uint8 H x W x 3."""
        return u8(cv2.cvtColor(u8(cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB))

    def covered(self, forbidden: Collection[int]) -> Bytes:
        """1 where the place is hidden by a forbidden track or for everyone, grown; at the labels' size."""
        labels = np.asarray(cv2.imdecode(self.labels, cv2.IMREAD_UNCHANGED), np.uint16)
        # Wider than in the plate, where what a thing drags along (feet, shadows) can be told by other frames.
        return grown(grown(grown(select(labels, {*forbidden, EVERYONE}))))


EVERYONE = 65535
"""The label of pixels that are background for nobody."""


def keep(
    rgb: Image,
    labels: Labels,
    *,
    file: str = "",
    seconds: float = 0.0,
    shot: int = -1,
    view: View | None = None,
    grey: Bytes | None = None,
    described: tuple[Features, Float] | None = None,
) -> Picture:
    """Compress and describe a picture (uint8 RGB).

    Where they are known already, `grey`: it at `vote_size`; `described`: its features and their bag of words.
    """
    height, width = rgb.shape[:2]
    if described is None:
        if grey is None:
            small = cv2.resize(rgb, vote_size(width, height), interpolation=cv2.INTER_AREA)
            grey = u8(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        found = describe_place(grey, labels, (width, height))
        described = found, bag(found, load_words())
    # Grown too, so that a picture is not looked at in vain.
    wide = cv2.dilate(labels, np.ones((3, 3), np.uint8), iterations=max(1, labels.shape[1] // (2 * _COARSE)))
    coarse_size = min(_COARSE, labels.shape[1]), max(1, round(_COARSE * labels.shape[0] / labels.shape[1]))
    return Picture(
        file=file,
        seconds=seconds,
        size=(width, height),
        jpeg=u8(cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG)[1]),
        labels=u8(cv2.imencode(".png", labels)[1]),
        coarse=np.asarray(cv2.resize(wide, coarse_size, interpolation=cv2.INTER_NEAREST), np.uint16),
        features=described[0],
        words=described[1],
        shot=shot,
        view=view,
    )


def describe_place(grey: Bytes, labels: Labels, size: tuple[int, int]) -> Features:
    """Features of a reduced picture outside all things, their points in pixels of the full `size`."""
    clear = u8(1 - grown((labels > 0).astype(np.uint8)))
    clear = u8(cv2.resize(clear, grey.shape[1::-1], interpolation=cv2.INTER_NEAREST))
    found = describe(grey, clear)
    full = geometry.scaling(size[0] / grey.shape[1], size[1] / grey.shape[0])
    return Features(geometry.apply(full, found.points), found.descriptors)


def similarities(pictures: Sequence[Picture], words: Float) -> Float:
    """How like each picture's bag of words is to `words`, in [0, 1]: float32 (N,).

    Cosine of root counts weighted by inverse document frequency over `pictures`.
    """
    if not pictures:
        return np.zeros(0, np.float32)
    bags = np.stack([each.words for each in pictures])
    rare = np.log((1 + len(bags)) / (1 + (bags > 0).sum(0))).astype(np.float32) + np.float32(0.05)
    rows, asked = np.sqrt(bags) * rare, np.sqrt(words) * rare
    length = np.linalg.norm(rows, axis=1) * np.linalg.norm(asked)
    return f32(rows @ asked / np.maximum(length, np.float32(1e-9)))


def most_redundant(pictures: Sequence[Picture]) -> int:
    """The picture that is least missed: its two nearest others show the most of what it shows."""
    bags = np.sqrt(np.stack([each.words for each in pictures]))
    bags /= np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), np.float32(1e-9))
    alike: NDArray[np.float32] = bags @ bags.T
    np.fill_diagonal(alike, 0)
    nearest = np.sort(alike, axis=1)[:, -2:]
    # The newest is never the one to go: it has not had its chance yet.
    return int(np.argmax(nearest.sum(1)[:-1])) if len(pictures) > 1 else 0
