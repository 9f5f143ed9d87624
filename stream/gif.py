"""Pictures of at most 256 colours, as GIF wants them: exact where a picture has no more."""

from __future__ import annotations

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream.pixel_format import layout
from stream.planes import to_rgb
from stream.types import Frame

_MANY = 4096


def to_palette(frame: Frame) -> av.VideoFrame:
    """A frame as pal8. Up to 256 colours are kept exactly.

    Of more, the most frequent are kept exactly, so that what was not touched stays, and the rest become the
    nearest of these; a picture of thousands of colours, which no GIF was, gets a palette of its own choice.
    """
    packed = _packed(frame)
    colours, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    if len(colours) > _MANY:
        return _quantised(frame)
    palette = colours
    if len(colours) > 256:
        order = np.argsort(counts)[::-1]
        palette = colours[order[:256]]
        channels = palette.view(np.uint8).reshape(-1, 4).astype(np.int32)
        nearest = np.empty(len(colours), np.int64)
        nearest[order[:256]] = np.arange(256)
        rest = colours[order[256:]].view(np.uint8).reshape(-1, 4).astype(np.int32)
        distance = ((rest[:, None] - channels[None]) ** 2).sum(2)
        nearest[order[256:]] = distance.argmin(1)
        places = nearest[places]
    indices = places.reshape(frame.height, frame.width).astype(np.uint8)
    return _picture(indices, palette)


def _packed(frame: Frame) -> NDArray[np.uint32]:
    """H x W, alpha in the first byte, then red, green, blue; wholly transparent pixels are all alike."""
    rgb = to_rgb(frame)
    alpha = np.full((*rgb.shape[:2], 1), 255, np.uint8)
    shape = layout(frame.format)
    if shape is not None and shape.kind == "packed" and shape.alpha and shape.bits == 8:
        # GIF knows only all or nothing
        alpha = np.where(np.asarray(frame.planes[0])[:, :, 3:] >= 128, 255, 0).astype(np.uint8)
        rgb = np.where(alpha > 0, rgb, 0).astype(np.uint8)
    return np.ascontiguousarray(np.dstack([alpha, rgb])).view(np.uint32)[:, :, 0]


def _quantised(frame: Frame) -> av.VideoFrame:
    rgb = to_rgb(frame)
    small = cv2.resize(rgb, (min(frame.width, 160), min(frame.height, 120)), interpolation=cv2.INTER_AREA)
    samples = small.reshape(-1, 3).astype(np.float32)
    # seeded, so that the same picture always gets the same palette
    cv2.setRNGSeed(1)
    stop = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 8, 1.0)
    count = min(256, len(samples))
    _, _, centres = cv2.kmeans(samples, count, np.empty(0, np.int32), stop, 1, cv2.KMEANS_PP_CENTERS)
    palette = np.dstack([np.full((count, 1), 255, np.uint8), np.round(centres).astype(np.uint8)[:, None]])
    table = _nearest_table(np.round(centres).astype(np.int32))
    indices = table[rgb[:, :, 0] >> 3, rgb[:, :, 1] >> 2, rgb[:, :, 2] >> 3]
    return _picture(indices, np.ascontiguousarray(palette).view(np.uint32).ravel())


def _nearest_table(centres: NDArray[np.int32]) -> NDArray[np.uint8]:
    red, green, blue = np.meshgrid(
        np.arange(32) * 8 + 4, np.arange(64) * 4 + 2, np.arange(32) * 8 + 4, indexing="ij"
    )
    cells = np.stack([red, green, blue], -1).reshape(-1, 3).astype(np.float32)
    points = centres.astype(np.float32)
    # |a - b|^2 without |a|^2, which is the same for every centre
    distance = (points**2).sum(1)[None] - 2 * cells @ points.T
    return distance.argmin(1).astype(np.uint8).reshape(32, 64, 32)


def _picture(indices: NDArray[np.uint8], palette: NDArray[np.uint32]) -> av.VideoFrame:
    table = np.zeros((256, 4), np.uint8)
    table[: len(palette)] = palette.view(np.uint8).reshape(-1, 4)
    return av.VideoFrame.from_ndarray((indices, table), format="pal8")  # type: ignore[arg-type]
