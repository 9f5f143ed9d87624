"""Complete a thing that another one hides in part: its whole mask, and the colours of its hidden part.

Masks follow Zhou et al., "Human De-occlusion: Invisible Perception and Recovery for Humans" (CVPR 2021,
section 3.1): a first hourglass refines the imperfect mask of what is visible, a second one stacked on it
completes the mask, and is given a mixture of templates (k-means of masks) as a prior of shape. Both are
trained by hiding whole things behind others, as in Zhan et al., "Self-Supervised Scene De-occlusion" (CVPR
2020, section 3.2), with its second case: things in front of those that they touch must stay as they are.
Colours follow section 3.2 of the former: partial convolutions (Liu et al., ECCV 2018, equation 1) see only
the visible part, and two streams of attention fill the hidden one: from visible cells to hidden ones, and
from parts of the thing (here learned without labels, as a soft division) to all of their cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .framing import SIDE
from .inpainter import spread

TEMPLATES = 48
"""Templates of whole masks, each `GRID` x `GRID`, as things lie in the square around what is seen."""

GRID = SIDE // 4
PARTS = 8
SHARPNESS = 8.0
"""Scale of the attention's soft-max."""

Variant = Literal["compact"]


class DeocclusionOutput(NamedTuple):
    """Log-odds that each pixel is visible, and that it is of the whole thing, (B, 1, S, S); those that
    something of the thing is hidden, (B, 1); the colours of the whole thing, (B, 3, S, S) in [0, 1].
    """

    refined: Tensor
    amodal: Tensor
    hidden: Tensor
    picture: Tensor


@dataclass(frozen=True)
class Shape:
    """Channels at strides 4, 8, 16 and 32 of the hourglasses, and at strides 2 and 4 of the colours."""

    widths: tuple[int, int, int, int] = (24, 48, 80, 112)
    colours: tuple[int, int] = (16, 48)
    key: int = 16


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, each behind a normalisation of its group."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + y


class Hourglass(nn.Module):
    """Down to stride 32 and back to stride 4, adding what was on the way down."""

    def __init__(self, widths: tuple[int, ...], extra: int = 0) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.enter = nn.Conv2d(widths[0] + extra, widths[0], 3, padding=1)
        self.here = nn.ModuleList(Residual(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.after = nn.ModuleList(Residual(width) for width in widths[:-1])
        self.around = nn.Linear(widths[-1], widths[-1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, W, h, w) to features of the same shape and what the deepest level says of it all, (B, W')."""
        x = self.enter(x)
        kept = []
        for here, down in zip(self.here[:-1], self.down, strict=True):
            x = here(x)
            kept.append(x)
            x = down(F.relu(x))
        x = self.here[-1](x)
        whole = F.relu(x).mean((2, 3))
        x = x + self.around(whole)[:, :, None, None]
        for up, after, across in zip(self.up[::-1], self.after[::-1], kept[::-1], strict=True):
            x = after(across + double(up(F.relu(x))))
        return x, whole


class Masks(nn.Module):
    """Two stacked hourglasses: what is visible, then all of the thing."""

    templates: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        first = shape.widths[0]
        self.stem = nn.Conv2d(5 * 16, first, 3, padding=1)
        self.refine = Hourglass(shape.widths)
        self.refined = nn.Conv2d(first, 16, 3, padding=1)  # 4 x 4 pixels of each cell
        self.choose = nn.Linear(shape.widths[-1], TEMPLATES)
        self.back = nn.Conv2d(16, first, 1)
        self.complete = Hourglass(shape.widths, extra=1)
        self.amodal = nn.Conv2d(first, 16, 3, padding=1)
        self.hidden = nn.Linear(2 * shape.widths[-1], 1)
        self.register_buffer("templates", torch.zeros(TEMPLATES, GRID, GRID))

    def forward(self, image: Tensor, modal: Tensor, front: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Refined and amodal log-odds, those that something is hidden, and features (B, W, GRID, GRID)."""
        entered = self.stem(F.pixel_unshuffle(torch.cat([image - 0.5, modal, front], 1), 4))
        x, seen = self.refine(entered)
        # The mask that came is the first guess of both stages: they only have to correct it.
        given = F.pixel_unshuffle(4 * modal - 2, 4)
        refined = given + self.refined(F.relu(x))
        weights = torch.softmax(self.choose(seen), 1)
        prior = torch.einsum("bk,khw->bhw", weights, self.templates)[:, None]
        x = x + entered + self.back(torch.tanh(refined / 4))
        x, whole = self.complete(torch.cat([x, prior], 1))
        amodal = refined + self.amodal(F.relu(x))
        hidden = self.hidden(torch.cat([seen, whole], 1))
        return F.pixel_shuffle(refined, 4), F.pixel_shuffle(amodal, 4), hidden, x


class PartialConv(nn.Module):
    """ECCV 2018 equation 1: a convolution over known pixels alone, scaled by how many of them it saw."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.stride = stride

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, h, w) and known (B, 1, h, w) in [0, 1] to both after it; what was near something known is
        known.
        """
        share = F.avg_pool2d(known, 3, self.stride, 1)
        there = (share > 1e-3).to(x.dtype)
        y = self.conv(x * known) / (share + 1e-3) + self.bias
        return F.relu(y) * there, there


class Colours(nn.Module):
    """What the hidden part looks like, from the visible part alone."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        at2, at4 = shape.colours
        self.enter = PartialConv(3, at2, 2)
        self.down = PartialConv(at2, at4, 2)
        self.deep = PartialConv(at4, at4)
        self.key = nn.Conv2d(at4 + shape.widths[0] + 2, shape.key, 1)
        self.parts = nn.Conv2d(shape.widths[0] + 2, PARTS, 1)
        self.mix = nn.Conv2d(3 * at4 + shape.widths[0] + 1, at4, 1)
        self.body = Residual(at4)
        self.leave = nn.Conv2d(at4, 4 * at2, 3, padding=1)
        self.head = nn.Conv2d(at2, 12, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(self, image: Tensor, known: Tensor, amodal: Tensor, shape: Tensor) -> Tensor:
        """Picture (B, 3, S, S): `image` where `known`, and its continuation wherever the thing is.

        known and amodal (B, 1, S, S) in [0, 1]; shape (B, W, GRID, GRID): the masks' features.
        """
        smooth = spread(image * known, known)
        x, there = self.enter(image - 0.5, known)
        x, there = self.down(x, there)
        x, _ = self.deep(x, there)
        seen = F.avg_pool2d(known, 4)
        whole = F.avg_pool2d(amodal, 4)
        place = torch.cat([shape, grid(shape)], 1)
        # Stream one: each block of cells from the visible blocks that are alike. A block's value is all
        # of its cells, so that the finer grid is filled for the price of the coarser.
        key = self.key(F.avg_pool2d(torch.cat([x, place], 1), 2)).flatten(2)  # (B, K, n)
        key = key * torch.rsqrt((key * key).sum(1, keepdim=True) + 1e-4)
        likeness = torch.bmm(key.transpose(1, 2), key)  # (B, n asking, n visible)
        weights = torch.softmax(SHARPNESS * likeness - 20 * (1 - F.avg_pool2d(seen, 2).flatten(2)), 2)
        blocks = F.pixel_unshuffle(x, 2)
        found = torch.bmm(blocks.flatten(2), weights.transpose(1, 2)).reshape(blocks.shape)
        found = F.pixel_shuffle(found, 2)
        # Stream two: each part of the thing has the look of its visible cells.
        part = torch.softmax(self.parts(place), 1).flatten(2)  # (B, P, h w)
        mine = part * seen.flatten(2)
        mean = torch.bmm(x.flatten(2), mine.transpose(1, 2)) / (mine.sum(2)[:, None] + 1e-2)  # (B, C, P)
        spoken = torch.bmm(mean, part).reshape(x.shape)
        y = self.mix(torch.cat([x, found, spoken, shape, whole], 1))
        y = self.leave(F.relu(self.body(y)))
        detail = self.head(F.relu(F.pixel_shuffle(y, 2)))
        drawn: Tensor = smooth + F.pixel_shuffle(detail, 2)
        return (image * known + (1 - known) * drawn).clamp(0, 1)


class Deocclusion(nn.Module):
    """Masks, then colours; no state between calls."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.masks = Masks(shape)
        self.colours = Colours(shape)

    def forward(self, image: Tensor, modal: Tensor, front: Tensor) -> DeocclusionOutput:
        """Complete one thing of each square.

        image (B, 3, S, S) float32 RGB in [0, 1], S = `SIDE`; modal (B, 1, S, S), 1 = visible part of it;
        front (B, 1, S, S), 1 = what touches it and may hide the rest.
        """
        refined, amodal, hidden, features = self.masks(image, modal, front)
        # Colours are taken from what is surely the thing: a rim of something else would be smeared over it.
        known = modal * (refined > 0).to(modal.dtype)
        known = 1 - F.max_pool2d(1 - known, 3, 1, 1)
        picture = self.colours(image, known, torch.sigmoid(amodal), features)
        return DeocclusionOutput(refined, amodal, hidden, picture)


def double(x: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    size = (2 * x.shape[2], 2 * x.shape[3])
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def grid(x: Tensor) -> Tensor:
    """Where each cell is, (B, 2, h, w) from -1 to 1."""
    rows = torch.linspace(-1, 1, x.shape[2], dtype=x.dtype, device=x.device)
    columns = torch.linspace(-1, 1, x.shape[3], dtype=x.dtype, device=x.device)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return places.expand(x.shape[0], -1, -1, -1)


def build_deocclusion(*, variant: Variant = "compact") -> Deocclusion:
    """A de-occlusion network with random weights; ValueError on an unknown variant."""
    if variant != "compact":
        raise ValueError(f"unknown de-occlusion variant {variant!r}: there is 'compact'")
    return Deocclusion(Shape())
