"""Fill a hole in a picture, from an aligned reference where there is one and by invention elsewhere.

Two stages as in Yu et al., "Generative Image Inpainting with Contextual Attention" (CVPR 2018,
section 3, figure 2): a coarse one finds colours at low resolution, a fine one adds detail with
contextual attention (section 3.1). Layers are gated convolutions (Yu et al., "Free-Form Image
Inpainting with Gated Convolution", ICCV 2019, equation 2). New here is the reference: it is aligned
and exposed in closed form (models/reference.py), pasted where it is valid before either stage looks,
and blended into the output by a learned gate, so that a good reference is copied, not redrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reference import align_reference

CROP = 256
"""Side of the crop the weights were trained for; every multiple of 16 from 64 on works."""

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "inpainter-compact.safetensors"

SHARPNESS = 10.0
"""Scale of the attention's soft-max, lambda in CVPR 2018, section 3.1."""

Variant = Literal["compact", "paper"]


class InpainterOutput(NamedTuple):
    """Both stages' pictures, (B, 3, H, W) float32 in [0, 1]; outside the hole they are the input."""

    coarse: Tensor
    fine: Tensor


class GatedConv(nn.Module):
    """ICCV 2019 equation 2: ``elu(conv(x)) * sigmoid(gate(x))``; "same" padding, odd kernels.

    A pointwise gate (`light`) costs a ninth of a full one.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        light: bool,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.feature = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation)
        if light:
            self.gate = nn.Conv2d(inputs, outputs, 1, stride)
        else:
            self.gate = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.feature(x)) * torch.sigmoid(self.gate(x))


class ResidualGated(nn.Module):
    """A gated convolution beside a shortcut; dilated, so that a few of them see across a hole."""

    def __init__(self, channels: int, *, dilation: int = 1, light: bool) -> None:
        super().__init__()
        self.conv = GatedConv(channels, channels, dilation=dilation, light=light)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y


class ContextualAttention(nn.Module):
    """CVPR 2018 section 3.1 over cells at stride 8, without the transposed convolution.

    ``s[p, q] = <f_p / |f_p|, b_q / |b_q|>`` over 3 x 3 patches of features, weights ``softmax(lambda s)``
    over the cells q that are known. A cell's value is its whole block of finer features, so pasting is a
    matrix product and a pixel shuffle instead of overlapping patches that must be folded together.
    The frame's known cells and the reference's valid ones form one set of cells: the reference lies on
    the frame's grid and stands where the frame is unknown.
    """

    def __init__(self, channels: int, key: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(channels, key, 1)

    def forward(self, features: Tensor, missing: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
        """Return `values` with the missing cells filled from the known ones.

        features (B, C, h, w) at stride 8; missing (B, 1, h, w) in [0, 1]; each of values
        (B, V, k h, k w) with its own whole k.
        """
        batch, _, height, width = features.shape
        patches = F.unfold(self.key(features), 3, padding=1)  # (B, 9 key, h w)
        patches = patches * torch.rsqrt((patches * patches).sum(1, keepdim=True) + 1e-4)
        likeness = torch.bmm(patches.transpose(1, 2), patches)  # (B, h w query, h w known)
        absent = missing.reshape(batch, 1, height * width)
        weights = torch.softmax(SHARPNESS * likeness - 30 * absent, dim=2)
        filled = []
        for value in values:
            factor = value.shape[2] // height
            blocks = F.pixel_unshuffle(value, factor)
            flat = blocks.reshape(batch, blocks.shape[1], height * width)
            found = torch.bmm(flat, weights.transpose(1, 2)).reshape(blocks.shape)
            filled.append(F.pixel_shuffle(blocks + missing * (found - blocks), factor))
        return filled


@dataclass(frozen=True)
class Shape:
    """Channels at strides 2, 4 and 8, the attention's key and value channels, and the dilations."""

    widths: tuple[int, int, int]
    coarse_widths: tuple[int, int]
    key: int
    values: tuple[int, int]
    coarse_dilations: tuple[int, ...]
    fine_dilations: tuple[int, ...]
    light: bool


SHAPES: dict[str, Shape] = {
    "compact": Shape((24, 48, 80), (40, 72), 16, (16, 24), (1, 2, 4, 8, 2, 1), (1, 2, 4), True),
    "paper": Shape(
        (64, 128, 192), (96, 192), 64, (32, 64), (1, 2, 4, 8, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16), False
    ),
}


class CoarseStage(nn.Module):
    """Colours at stride 4 from a picture with its hole: dilated gated convolutions at stride 8."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        at4, at8 = shape.coarse_widths
        light = shape.light
        self.enter = GatedConv(4 * inputs, at4, light=light)
        self.down = GatedConv(at4, at8, stride=2, light=light)
        self.body = nn.Sequential(
            *[ResidualGated(at8, dilation=d, light=light) for d in shape.coarse_dilations]
        )
        self.up = nn.Conv2d(at8, at4, 1)
        self.leave = GatedConv(2 * at4, at4, light=light)
        self.head = nn.Conv2d(at4, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to what is to be added to the smooth fill, (B, 3, H, W)."""
        skip = self.enter(F.pixel_unshuffle(F.avg_pool2d(x, 2), 2))
        deep = _double(self.up(self.body(self.down(skip))))
        return _double(F.pixel_shuffle(self.head(self.leave(torch.cat([deep, skip], 1))), 2))


class FineStage(nn.Module):
    """Detail: an encoder, attention at stride 8, a decoder, and the heads that mix."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        at2, at4, at8 = shape.widths
        value2, value4 = shape.values
        light = shape.light
        self.enter = GatedConv(4 * inputs, at2, light=light)
        self.down4 = GatedConv(at2, at4, stride=2, light=light)
        self.mix4 = ResidualGated(at4, light=light)
        self.down8 = GatedConv(at4, at8, stride=2, light=light)
        self.body = nn.Sequential(
            *[ResidualGated(at8, dilation=d, light=light) for d in shape.fine_dilations]
        )
        self.attention = ContextualAttention(at8, shape.key)
        self.value2, self.value4 = nn.Conv2d(at2, value2, 1), nn.Conv2d(at4, value4, 1)
        self.up8 = nn.Conv2d(at8, value4, 1)
        self.leave4 = GatedConv(at4 + 2 * value4, at4, light=light)
        self.up4 = nn.Conv2d(at4, value2, 1)
        self.leave2 = GatedConv(at2 + 2 * value2, at2, light=light)
        self.last = ResidualGated(at2, light=light)
        self.head = nn.Conv2d(at2, 16, 3, padding=1)  # three colours and a gate for each of 2 x 2 pixels
        self.tint = nn.Conv2d(at4, 3, 1)

    def forward(self, x: Tensor, missing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what to add to the rough picture, the reference's gate logit and its tint (full size)."""
        at2 = self.enter(F.pixel_unshuffle(x, 2))
        at4 = self.mix4(self.down4(at2))
        at8 = self.body(self.down8(at4))
        cells = F.max_pool2d(missing, 8)
        found2, found4 = self.attention(at8, cells, [self.value2(at2), self.value4(at4)])
        back4 = self.leave4(torch.cat([at4, _double(self.up8(at8)), found4], 1))
        back2 = self.last(self.leave2(torch.cat([at2, _double(self.up4(back4)), found2], 1)))
        detail = F.pixel_shuffle(self.head(back2), 2)
        # The tint has a quarter of the picture's resolution: it can move colours, never blur detail.
        tint = _double(_double(self.tint(back4)))
        return detail[:, :3], detail[:, 3:], tint


class Inpainter(nn.Module):
    """Coarse and fine stage over a frame and its aligned reference; no state between calls."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.coarse = CoarseStage(6, shape)
        self.fine = FineStage(13, shape)
        with torch.no_grad():
            # Start as "copy a valid reference, else the smooth fill": training only has to improve it.
            for layer in (self.coarse.head, self.fine.head, self.fine.tint):
                assert layer.bias is not None
                layer.weight.mul_(0.1)
                layer.bias.zero_()
            assert self.fine.head.bias is not None
            self.fine.head.bias[12:] = 3.0  # pixel_shuffle: the last four channels are the gate

    def forward(self, image: Tensor, hole: Tensor, reference: Tensor, validity: Tensor) -> InpainterOutput:
        """Fill the hole.

        image (B, 3, H, W) float32 RGB in [0, 1], anything inside the hole; hole (B, 1, H, W), 1 = hole;
        reference (B, 3, H, W), the same view without what stood in the hole, anything where it is not
        known; validity (B, 1, H, W), 1 = the reference is known. H and W are multiples of 16, at least
        64. Without a reference pass zeros for both.
        """
        known = 1 - hole
        image = image * known
        aligned = align_reference(image, hole, reference, validity)
        usable = hole * aligned.validity
        missing = hole - usable
        pasted = image + usable * aligned.image
        doubt = usable * aligned.error * 10
        rough = self.sketch(pasted, hole, missing, doubt)
        base = pasted + missing * rough
        inputs = torch.cat(
            [base, hole, missing, doubt, rough * hole, aligned.image * aligned.validity, aligned.validity], 1
        )
        detail, gate, tint = self.fine(inputs, missing)
        # The rough picture, not the reference, lies under the detail: where the gate turns the
        # reference down it must be gone.
        drawn = rough + detail
        copied = aligned.image + tint
        share = torch.sigmoid(gate) * aligned.validity
        fine = drawn + share * (copied - drawn)
        return InpainterOutput((image + hole * rough).clamp(0, 1), (image + hole * fine).clamp(0, 1))

    def sketch(self, pasted: Tensor, hole: Tensor, missing: Tensor, doubt: Tensor) -> Tensor:
        """The coarse stage: a smooth fill of what is missing, and what the network adds to it."""
        smooth = spread(pasted, 1 - missing)
        rough: Tensor = smooth + self.coarse(torch.cat([smooth, hole, missing, doubt], 1))
        return rough


def spread(image: Tensor, known: Tensor) -> Tensor:
    """Fill what is not known smoothly from all of its rim: where both stages start from.

    image (B, 3, H, W), 0 where known (B, 1, H, W) is 0. On a grid of 8 x 8 pixels every cell gets the
    mean of all known cells weighted by distance^-8 (Shepard interpolation); finer grids then take
    their own means where they have any.
    """
    levels = [torch.cat([image * known, known], 1)]
    for _ in range(3):
        levels.append(F.avg_pool2d(levels[-1], 2))
    coarsest = levels[-1]
    height, width = coarsest.shape[2], coarsest.shape[3]
    cell = torch.arange(height * width, device=image.device)
    row = (cell // width).to(image.dtype)
    column = (cell % width).to(image.dtype)
    apart = (row[:, None] - row[None, :]) ** 2 + (column[:, None] - column[None, :]) ** 2
    sums = torch.matmul(coarsest.flatten(2), 1 / (apart + 0.25) ** 4)
    fill = (sums[:, :3] / (sums[:, 3:] + 1e-6)).reshape(-1, 3, height, width)
    for level in (levels[2], levels[1], levels[0]):
        own = level[:, :3] / (level[:, 3:] + 1e-6)
        fill = _double(fill)
        fill = fill + level[:, 3:] * (own - fill)
    return fill


def _double(x: Tensor) -> Tensor:
    size = (2 * x.shape[2], 2 * x.shape[3])
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def build_inpainter(*, variant: Variant = "compact") -> Inpainter:
    """An inpainter with random weights; ValueError on an unknown variant."""
    if variant not in SHAPES:
        raise ValueError(f"unknown inpainter variant {variant!r}: use 'compact' or 'paper'")
    return Inpainter(SHAPES[variant])
