"""Complete the masks of all things of a picture at once, from one map of features of the whole view.

After PACO (Liu et al., "Object-level Scene Deocclusion", SIGGRAPH 2024) at compact size: each thing's visible
part goes through a first convolution, the results are summed into one map of the whole view, which is looked
at once, and each thing is decoded from it with its visible mask as the query. Things that lie on top of each
other share cells; so the things of one layer, which do not touch, may go together, and layers one by one.
Not the default: `benchmarks/deocclusion_parallel.py` compares it with the direct network (docs/layers.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deocclusion import Hourglass, Shape

_DECODER = (24, 32, 48)


class Parallel(nn.Module):
    """Pictures and any number of things in each; no state between calls."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        first = shape.widths[0]
        self.view = nn.Conv2d(3 * 16, first, 3, padding=1)
        self.thing = nn.Conv2d(5 * 16, first, 3, padding=1)
        self.first = Hourglass(shape.widths)
        self.second = Hourglass(shape.widths)
        self.query = nn.Conv2d(2 * 16, _DECODER[0], 3, padding=1)
        self.ask = nn.Conv2d(first, _DECODER[0], 1)
        self.decode = Hourglass(_DECODER)
        self.amodal = nn.Conv2d(_DECODER[0], 16, 3, padding=1)

    def forward(self, image: Tensor, modal: Tensor, front: Tensor, scene: Tensor) -> Tensor:
        """Log-odds that each pixel is of the whole thing, (N, 1, H, W).

        image (B, 3, H, W) float32 RGB in [0, 1], H and W multiples of 32; of N things: modal (N, 1, H, W),
        1 = visible part; front (N, 1, H, W), 1 = what may hide the rest; scene (N,) int64: whose things.
        """
        seen = F.pixel_unshuffle(torch.cat([(image[scene] - 0.5) * modal, modal, front], 1), 4)
        view = self.view(F.pixel_unshuffle(image - 0.5, 4))
        entered = view.index_add(0, scene, self.thing(seen).to(view.dtype))
        x, _ = self.first(entered)
        x, _ = self.second(x + entered)
        asked = self.query(F.pixel_unshuffle(torch.cat([modal, front], 1), 4))
        y, _ = self.decode(F.relu(self.ask(F.relu(x))[scene] + asked))
        given = F.pixel_unshuffle(4 * modal - 2, 4)
        return F.pixel_shuffle(given + self.amodal(F.relu(y)), 4)


def build_parallel() -> Parallel:
    """A parallel de-occlusion network with random weights."""
    return Parallel(Shape())
