"""The trained inpainter as a function on pictures: crops of a fixed size in, completed crops out."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from stream.fill import Inpaint
from stream.networks import inpainter_spec
from stream.types import Image


def open_inpaint(config: Config) -> Inpaint | None:
    """Open the inpainter, None when the configuration wants none; no torch when the engine's cache has it.

    The function takes image (S, S, 3) uint8 RGB with S = `INPAINT_SIDE`, hole (S, S) uint8 0 or 1, reference
    like the image and its validity like the hole, and returns the completed image.
    """
    if not config.fill.inpaint or config.engine.name == "none":
        return None
    engine = inpainter_spec(config).open(config)

    def inpaint(
        image: NDArray[np.uint8],
        hole: NDArray[np.uint8],
        reference: NDArray[np.uint8],
        validity: NDArray[np.uint8],
    ) -> Image:
        hollow = _plane(hole)
        _, fine = engine(_picture(image) * (1 - hollow), hollow, _picture(reference), _plane(validity))
        shown = np.clip(fine[0].transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)
        return np.where(hole[..., None] > 0, shown, image).astype(np.uint8)

    return inpaint


def inpaint_on_demand(config: Config) -> Inpaint | None:
    """What `open_inpaint` gives, opened when it is first called: many clips show all that was behind.

    Raises errors of the weights at once.
    """
    if not config.fill.inpaint or config.engine.name == "none":
        return None
    inpainter_spec(config).graph()
    opened = cache(lambda: open_inpaint(config))

    def inpaint(*pictures: NDArray[np.uint8]) -> Image:
        network = opened()
        assert network is not None
        return network(*pictures)

    return inpaint


def _picture(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (H, W, 3) to float32 (1, 3, H, W) in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def _plane(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (H, W) 0 or 1 to float32 (1, 1, H, W)."""
    return mask[None, None].astype(np.float32)
