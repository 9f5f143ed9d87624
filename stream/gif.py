"""Pictures of at most 256 colours, as GIF wants them: exact where a picture has no more."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from stream.pixel_format import layout
from stream.planes import to_rgb
from stream.types import Frame

Palette = NDArray[np.uint32]
"""Up to 256 colours, each alpha, red, green, blue in the order of memory."""

_MANY = 4096


def to_palette(frame: Frame, known: Palette | None = None) -> tuple[av.VideoFrame, Palette | None]:
    """A frame as pal8, and the palette to go on with. Up to 256 colours are kept exactly.

    Of more, the most frequent are kept exactly, so that what was not touched stays, and the rest become the
    nearest of these; a picture of thousands of colours, which no GIF was, gets a palette of its own choice.
    `known`: the palette of the picture before, kept as long as it is enough, which makes small files.
    """
    colours, places, counts = np.unique(_packed(frame), return_inverse=True, return_counts=True)
    if len(colours) > _MANY:
        return _quantised(frame), None
    order = np.argsort(counts, kind="stable")[::-1]
    palette = colours[order[:256]]
    if known is not None:
        together = np.concatenate([known, np.setdiff1d(palette, known)])
        palette = together if len(together) <= 256 else palette
    target = np.argsort(palette, kind="stable")
    found = np.searchsorted(palette[target], colours).clip(max=len(palette) - 1)
    nearest = target[found]
    absent = np.flatnonzero(palette[nearest] != colours)
    if len(absent):
        bytes_of = palette.view(np.uint8).reshape(-1, 4).astype(np.int32)
        rest = colours[absent].view(np.uint8).reshape(-1, 4).astype(np.int32)
        nearest[absent] = ((rest[:, None] - bytes_of[None]) ** 2).sum(2).argmin(1)
    indices = nearest[places].reshape(frame.height, frame.width).astype(np.uint8)
    table = np.zeros((256, 4), np.uint8)
    # FFmpeg's encoder would use a free transparent entry for "as before", and mixes up palettes doing so
    table[:, 0] = 255
    table[: len(palette)] = palette.view(np.uint8).reshape(-1, 4)
    return av.VideoFrame.from_ndarray((indices, table), format="pal8"), palette  # type: ignore[arg-type]


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
    """FFmpeg's own palette for one picture."""
    rgb = np.ascontiguousarray(to_rgb(frame))
    graph = Graph()
    picture = graph.add_buffer(
        width=frame.width, height=frame.height, format=av.VideoFormat("rgb24"), time_base=Fraction(1, 100)
    )
    both, choose = graph.add("split"), graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    picture.link_to(both)
    both.link_to(choose, 0, 0)
    both.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    given = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    given.pts, given.time_base = 0, Fraction(1, 100)
    graph.push(given)
    graph.push(None)
    done = graph.pull()
    assert isinstance(done, av.VideoFrame)
    return done
