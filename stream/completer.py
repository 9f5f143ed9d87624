"""The trained de-occlusion network as a function on squares, and as a witness of who is in front."""

from __future__ import annotations

import numpy as np

from configs.schema import Config
from stream.arrays import Bytes
from stream.hole import bounds
from stream.networks import deocclusion_spec
from stream.order import Judge
from stream.squares import Answer, Network, cut_square, square_of
from stream.types import Image, Track


def open_completer(config: Config) -> Network | None:
    """Open the de-occlusion network, None when the configuration wants no network."""
    if not config.fill.inpaint or config.engine.name == "none":
        return None
    engine = deocclusion_spec(config).open(config)

    def network(image: Image, visible: Bytes, front: Bytes) -> Answer:
        picture = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        _, amodal, hidden, colours = engine(picture, _plane(visible), _plane(front))
        shown = np.clip(colours[0].transpose(1, 2, 0) * 255 + 0.5, 0, 255).astype(np.uint8)
        chance = 1 / (1 + np.exp(-np.clip(amodal[0, 0], -30, 30)))
        return Answer(chance.astype(np.float32), shown, float(hidden[0, 0]))

    return network


def witness(rgb: Image, network: Network) -> Judge:
    """What the network says of two things of a frame, for `stream.order`; `rgb` is the whole frame."""

    def judge(back: Track, front: Track) -> float:
        masks = back.instance.mask.astype(np.uint8), front.instance.mask.astype(np.uint8)
        boxes = bounds(back.instance.mask), bounds(front.instance.mask)
        if boxes[0] is None or boxes[1] is None:
            return 0.0
        x, y, side = square_of(boxes[0], boxes[1])
        visible, before = (cut_square(each, x, y, side) for each in masks)
        fx, fy = rgb.shape[1] / masks[0].shape[1], rgb.shape[0] / masks[0].shape[0]
        scale = (fx + fy) / 2
        picture = cut_square(rgb, round(x * fx), round(y * fy), max(8, round(side * scale)))
        return network(picture, visible, before).hidden

    return judge


def _plane(mask: Bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """uint8 (H, W) 0 or 1 to float32 (1, 1, H, W)."""
    return mask[None, None].astype(np.float32)
