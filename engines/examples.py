"""Inputs that look like pictures, for measuring how far an engine is from eager.

On noise, which no network was trained on, bf16 is several times further from f32 than on photographs, and
would be refused. Photographs are made of things of all sizes that cover each other, with flat insides and
sharp rims: so are these ("dead leaves"), and differences on them are those seen on photographs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LEAVES = 120


def example_picture(height: int, width: int, seed: int = 7) -> NDArray[np.float32]:
    """A picture (3, height, width) in [0, 1], the same for the same arguments."""
    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 0.5, np.float32)
    for _ in range(_LEAVES):
        reach = max(height, width) * min(0.5, 0.03 / np.sqrt(random.random() + 1e-3))  # P(size) ~ size^-3
        down, across = reach * random.uniform(0.2, 0.5, 2)
        y, x = random.random(2) * (height, width)
        rows = slice(max(0, int(y - down)), int(y + down) + 1)
        columns = slice(max(0, int(x - across)), int(x + across) + 1)
        inside = picture[rows, columns]
        colour = random.normal(0.45, 0.22) + random.normal(0, 0.06, 3)
        slope = np.linspace(1, 1 + random.uniform(-0.4, 0.4), inside.shape[0], dtype=np.float32)
        inside[:] = colour.clip(0, 1).astype(np.float32) * slope[:, None, None]
    for axis in (0, 1):  # no lens is as sharp as a pixel
        picture = 0.5 * picture + 0.25 * (np.roll(picture, 1, axis) + np.roll(picture, -1, axis))
    picture += random.standard_normal(picture.shape, np.float32) * np.float32(0.01)
    return np.ascontiguousarray(picture.clip(0, 1).transpose(2, 0, 1))


def example_inputs(channels: Sequence[int], height: int, width: int) -> list[NDArray[np.float32]]:
    """One input (1, count, height, width) for each count of channels: 3 is a picture, 1 a mask of 0 and 1."""
    made = []
    for index, count in enumerate(channels):
        picture = example_picture(height, width, seed=7 + index)
        made.append(
            np.round(picture[:1])[None] if count == 1 else np.resize(picture, (1, count, height, width))
        )
    return made
