"""Bring a reference picture onto a frame: sub-pixel shift and exposure, in closed form.

The reference was aligned already, by whoever made it; what is left are a few pixels of misalignment
and a change of exposure. Both are estimated where frame and reference are known at once, in wide
windows whose sums reach into the hole, so that the hole's content moves and brightens with its rim.
Nothing here is learned, and every step is a tensor operation an exported graph may hold.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8
"""Pixels per cell of the grid on which shifts and gains are estimated."""

LEVELS = ((4, 2), (2, 3))
"""Stride and rounds of the Lucas-Kanade levels, coarse to fine."""

REACH = 9
"""Width of the box window in cells; it is applied twice, so it spans 17 cells (136 px)."""

GLOBAL = 0.05
"""Weight of the whole picture's evidence beside a window's: decides alone in the middle of big holes."""

NOISE = 0.08
"""Difference of grey, of 1, at which a pixel's say is halved: movers must not bend the alignment."""

RIDGE = 1e-5
"""Variance of a gradient made by noise alone: flat areas stay where they are."""

LIMIT = 6.0
"""Largest shift in pixels."""


class Aligned(NamedTuple):
    """A reference on the frame's grid.

    image (B, 3, H, W) in [0, 1], shifted and exposed like the frame; validity (B, 1, H, W) in [0, 1];
    error (B, 1, H, W): mean difference from the frame in the neighbourhood, where both are known;
    flow (B, 2, H/8, W/8): pixels (x, y) from a frame pixel to the reference pixel it was read from.
    """

    image: Tensor
    validity: Tensor
    error: Tensor
    flow: Tensor


def align_reference(image: Tensor, hole: Tensor, reference: Tensor, validity: Tensor) -> Aligned:
    """Shift and expose `reference` like `image`; shapes as in the inpainter, H and W multiples of 16.

    Lucas-Kanade normal equations per cell, ``(sum w g g^T) d = sum w g (I - gain R)``, with weights w
    that are 0 in the hole and where the reference is invalid, and fall with the difference.
    """
    known = 1 - hole
    grey, other = _grey(image * known), _grey(reference)
    height, width = image.shape[2] // CELL, image.shape[3] // CELL
    flow = image.new_zeros(image.shape[0], 2, height, width)
    for stride, rounds in LEVELS:
        size = (image.shape[2] // stride, image.shape[3] // stride)
        seen = 1 - F.max_pool2d(hole, stride)  # a cell that is partly hole has a wrong mean
        small = F.avg_pool2d(grey, stride)
        stack = torch.cat([F.avg_pool2d(other, stride), 1 - F.max_pool2d(1 - validity, stride)], 1)
        for _ in range(rounds):
            moved = _warp(stack, _resize(flow, size) / stride, "bilinear")
            flow = flow + stride * _step(small, moved[:, :1], seen * _sure(moved[:, 1:]), CELL // stride)
            flow = flow.clamp(-LIMIT, LIMIT)
    return _expose(image * known, known, reference, validity, flow)


def _expose(image: Tensor, known: Tensor, reference: Tensor, validity: Tensor, flow: Tensor) -> Aligned:
    """Resample once, with a cubic kernel (a second resampling would blur), and match the exposure."""
    size = (image.shape[2], image.shape[3])
    shift = _resize(flow, size)
    moved = _warp(reference, shift, "bicubic").clamp(0, 1)
    sure = _sure(_warp(validity, shift, "bilinear"))
    # Exposure is smooth: means of 4 x 4 pixels tell it as well as pixels do, at a sixteenth of the work.
    mine, its = _pool(image, 4), _pool(moved, 4)
    shared = (1 - F.max_pool2d(1 - known, 4)) * (1 - F.max_pool2d(1 - sure, 4))
    gain = _gain(mine, its, shared, CELL // 4)
    difference = (mine - _resize(gain, (mine.shape[2], mine.shape[3])) * its).abs().mean(1, keepdim=True)
    # Once more without what differs: a mover in the reference is no change of exposure.
    gain = _gain(mine, its, shared / (1 + (difference / NOISE) ** 2), CELL // 4)
    difference = (mine - _resize(gain, (mine.shape[2], mine.shape[3])) * its).abs().mean(1, keepdim=True)
    error = _window(_pool(shared * difference, CELL // 4)) / (_window(_pool(shared, CELL // 4)) + 1e-4)
    exposed = (moved * _resize(gain, size)).clamp(0, 1)
    return Aligned(exposed, sure, _resize(error, size), flow)


def _gain(mine: Tensor, its: Tensor, weight: Tensor, cell: int) -> Tensor:
    """Ratio of the windows' means, (B, C, h, w), at most a factor of two."""
    top, bottom = _window(_pool(weight * mine, cell)), _window(_pool(weight * its, cell))
    return ((top + 1e-4) / (bottom + 1e-4)).clamp(0.5, 2.0)


def _step(frame: Tensor, moved: Tensor, weight: Tensor, cell: int) -> Tensor:
    """One Gauss-Newton step: shift (B, 2, h, w) per cell, in pixels of this level, at most one pixel."""
    size = (frame.shape[2], frame.shape[3])
    difference = frame - _resize(_gain(frame, moved, weight, cell), size) * moved
    padded = F.pad(moved, (1, 1, 1, 1), mode="replicate")
    along = 0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2])
    down = 0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1])
    weight = weight / (1 + (difference / NOISE) ** 2)
    products = torch.cat(
        [
            along * along,
            along * down,
            down * down,
            along * difference,
            down * difference,
            torch.ones_like(along),
        ],
        1,
    )
    sums = _window(_pool(weight * products, cell))
    xx, xy, yy, xd, yd, total = sums.split(1, 1)
    ridge = RIDGE * total + 1e-9
    xx, yy = xx + ridge, yy + ridge
    scale = 1 / (xx * yy - xy * xy)
    step = torch.cat([(yy * xd - xy * yd) * scale, (xx * yd - xy * xd) * scale], 1)
    return step.clamp(-1, 1)


def _window(x: Tensor) -> Tensor:
    """Sum over a wide window of cells, with a little of the whole picture's mean."""
    near = F.avg_pool2d(F.avg_pool2d(x, REACH, 1, REACH // 2), REACH, 1, REACH // 2)
    return near + GLOBAL * x.mean((2, 3), keepdim=True)


def _pool(x: Tensor, cell: int) -> Tensor:
    return F.avg_pool2d(x, cell)


def _grey(x: Tensor) -> Tensor:
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def _sure(validity: Tensor) -> Tensor:
    """Validity after resampling: pixels that mix valid and invalid ones do not count."""
    return ((validity - 0.9) * 10).clamp(0, 1)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _warp(x: Tensor, shift: Tensor, mode: str) -> Tensor:
    """Read x at (column + shift x, row + shift y)."""
    height, width = x.shape[2], x.shape[3]
    row = torch.arange(height, device=x.device, dtype=x.dtype)[None, :, None]
    column = torch.arange(width, device=x.device, dtype=x.dtype)[None, None, :]
    across = (2 * (column + shift[:, 0]) + 1) / width - 1
    below = (2 * (row + shift[:, 1]) + 1) / height - 1
    grid = torch.stack([across, below], 3)
    return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)
