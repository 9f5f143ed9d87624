"""DeepLabv3+ with centre and offset heads: classes per pixel, and what tells one thing from the next.

Encoder, atrous spatial pyramid pooling and the stride-4 decoder follow Chen et al., "Encoder-Decoder
with Atrous Separable Convolution for Semantic Image Segmentation" (ECCV 2018): section 3.1 and
figure 2 (encoder-decoder), section 3.1 "Atrous separable convolution". The second skip at stride 8,
the 5x5 separable decoder blocks and the class-agnostic centre and offset heads follow Cheng et al.,
"Panoptic-DeepLab" (CVPR 2020), sections 3.1 to 3.3 and figure 2. The compact trunk is made of inverted
residuals (Sandler et al., "MobileNetV2", CVPR 2018, section 3.3) with widths of its own.

Geometry: a trunk cell (i, j) at stride s is centred on pixel (s i, s j). Outputs follow the picture
convention instead, cell (i, j) covering the pixels 4i..4i+3 by 4j..4j+3, so that a plain resize
aligns them; the decoder's 5x5 filters learn the shift between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .labels import THING_NAMES

STRIDE = 4
"""Input pixels per output cell."""

Variant = Literal["compact", "paper"]


class SegmentatorOutput(NamedTuple):
    """What the network says, all float32 at stride 4.

    logits: (B, 81, H/4, W/4), class scores before the soft-max; 0 background, i + 1 THING_NAMES[i].
    centre: (B, 1, H/4, W/4), logits of the centre heat map (its sigmoid is 1 at a thing's centre).
    offset: (B, 2, H/4, W/4), (dy, dx) in stride-4 cells from the cell to its thing's box centre.
    """

    logits: Tensor
    centre: Tensor
    offset: Tensor


class ConvNorm(nn.Sequential):
    """Convolution, batch norm (or a bias in its stead) and ReLU6; "same" padding for odd kernels."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: bool,
        active: bool = True,
    ) -> None:
        conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=not norm,
        )
        layers: list[nn.Module] = [conv]
        if norm:
            layers.append(nn.BatchNorm2d(outputs))
        if active:
            layers.append(nn.ReLU6())
        super().__init__(*layers)


class SeparableConv(nn.Sequential):
    """Depthwise then pointwise convolution: DeepLabv3+ figure 3 (c), atrous when dilation > 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, dilation: int = 1, norm: bool) -> None:
        super().__init__(
            ConvNorm(inputs, inputs, kernel, dilation=dilation, groups=inputs, norm=norm),
            ConvNorm(inputs, outputs, norm=norm),
        )


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; a shortcut where shapes allow it."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, *, kernel: int, stride: int, norm: bool
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNorm(inputs, hidden, norm=norm),
            ConvNorm(hidden, hidden, kernel, stride=stride, groups=hidden, norm=norm),
        )
        self.project = ConvNorm(hidden, outputs, norm=norm, active=False)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.body(x))
        return x + y if self.shortcut else y


class Front(nn.Module):
    """Picture to stride 4 in one block: two dense strided convolutions, a depthwise one, a projection."""

    def __init__(self, *, norm: bool, width: int = 24, hidden: int = 96, outputs: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNorm(3, width, 5, stride=2, norm=norm),
            ConvNorm(width, hidden, 3, stride=2, norm=norm),
            ConvNorm(hidden, hidden, 3, groups=hidden, norm=norm),
        )
        self.project = ConvNorm(hidden, outputs, norm=norm, active=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.body(x))
        return y


@dataclass(frozen=True)
class UnitShape:
    """One inverted residual of the compact trunk: channels in the hidden layer and out, kernel, stride."""

    hidden: int
    outputs: int
    kernel: int = 3
    stride: int = 1


COMPACT_UNITS: tuple[UnitShape, ...] = (
    UnitShape(96, 24),
    UnitShape(112, 32, stride=2),
    UnitShape(144, 32),
    UnitShape(144, 32),
    UnitShape(160, 64, stride=2),
    UnitShape(320, 64),
    UnitShape(320, 64),
    UnitShape(320, 64),
    UnitShape(352, 96),
    UnitShape(416, 96),
    UnitShape(416, 96),
    UnitShape(448, 160, kernel=5),
    UnitShape(576, 160, kernel=5),
    UnitShape(576, 160, kernel=5),
    UnitShape(576, 320, kernel=5),
)
"""The compact trunk behind its front block; the output stride is 16 and stays there (section 3.1)."""


class CompactTrunk(nn.Module):
    """Front block and inverted residuals; features at strides 4, 8 and 16."""

    channels = (24, 32, 320)

    def __init__(self, *, norm: bool) -> None:
        super().__init__()
        front = Front(norm=norm)
        blocks: list[nn.Module] = [front]
        inputs = 24
        for shape in COMPACT_UNITS:
            blocks.append(
                InvertedResidual(
                    inputs,
                    shape.hidden,
                    shape.outputs,
                    kernel=shape.kernel,
                    stride=shape.stride,
                    norm=norm,
                )
            )
            inputs = shape.outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return self.taps(outputs)

    @staticmethod
    def taps(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Of all blocks' outputs those that the rest of the network reads."""
        return outputs[1], outputs[4], outputs[-1]


class Bottleneck(nn.Module):
    """Residual bottleneck of ResNet with torchvision's parameter names (stride in the 3x3 layer)."""

    def __init__(self, inputs: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


class ResNetTrunk(nn.Module):
    """ResNet-101 at output stride 16: the last stage keeps its size and dilates (DeepLabv3 figure 3)."""

    channels = (256, 512, 2048)

    def __init__(self, depths: Sequence[int] = (3, 4, 23, 3)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 64, depths[0], stride=1, dilation=1)
        self.layer2 = self._stage(256, 128, depths[1], stride=2, dilation=1)
        self.layer3 = self._stage(512, 256, depths[2], stride=2, dilation=1)
        self.layer4 = self._stage(1024, 512, depths[3], stride=1, dilation=2)

    @staticmethod
    def _stage(inputs: int, width: int, depth: int, *, stride: int, dilation: int) -> nn.Sequential:
        # As in torchvision, the first block of a dilated stage still has the previous dilation.
        blocks = [Bottleneck(inputs, width, stride=stride, dilation=1)]
        blocks += [Bottleneck(4 * width, width, stride=1, dilation=dilation) for _ in range(1, depth)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        low = self.layer1(x)
        middle = self.layer2(low)
        return low, middle, self.layer4(self.layer3(middle))


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling with a picture-level branch: DeepLabv3+ section 3.1, figure 2."""

    def __init__(self, inputs: int, width: int, rates: Sequence[int], *, separable: bool, norm: bool) -> None:
        super().__init__()
        self.width = width
        branches: list[nn.Module] = [ConvNorm(inputs, width, norm=norm)]
        for rate in rates:
            if separable:
                branches.append(SeparableConv(inputs, width // 2, dilation=rate, norm=norm))
            else:
                branches.append(ConvNorm(inputs, width, 3, dilation=rate, norm=norm))
        self.branches = nn.ModuleList(branches)
        # A bias, not a norm: this branch sees one value a picture, too few for batch statistics.
        self.pooled = ConvNorm(inputs, width, norm=False)
        side = width // 2 if separable else width
        self.project = ConvNorm(2 * width + side * len(rates), width, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, x.shape[2], x.shape[3])
        y: Tensor = self.project(torch.cat([branch(x) for branch in self.branches] + [pooled], 1))
        return y


def _enlarge(x: Tensor) -> Tensor:
    """Twice as many cells, (B, C, h, w) to (B, C, 2h, 2w), bilinear."""
    size = (2 * x.shape[2], 2 * x.shape[3])
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _fourfold(x: Tensor) -> Tensor:
    """A map at stride 16 (cells centred on pixels 16 i) at the output's cells, to half a pixel."""
    height, width = x.shape[2:]
    wide = F.pad(x, (0, 1, 0, 1), mode="replicate")
    size = (4 * height + 4, 4 * width + 4)
    large = F.interpolate(wide, size=size, mode="bilinear", align_corners=False)
    return large[:, :, 2 : 2 + 4 * height, 2 : 2 + 4 * width]


class Decoder(nn.Module):
    """From stride 16 by way of stride 8 to stride 4, a narrowed skip at each: Panoptic-DeepLab fig. 2."""

    def __init__(
        self,
        inputs: int,
        skips: tuple[int, int],
        narrow: tuple[int, int],
        widths: tuple[int, int],
        *,
        norm: bool,
    ) -> None:
        super().__init__()
        self.skip8 = ConvNorm(skips[1], narrow[1], norm=norm)
        self.skip4 = ConvNorm(skips[0], narrow[0], norm=norm)
        self.fuse8 = SeparableConv(inputs + narrow[1], widths[0], 5, norm=norm)
        self.fuse4 = SeparableConv(widths[0] + narrow[0], widths[1], 5, norm=norm)

    def forward(self, low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
        x = self.fuse8(torch.cat([_enlarge(high), self.skip8(middle)], 1))
        y: Tensor = self.fuse4(torch.cat([_enlarge(x), self.skip4(low)], 1))
        return y


class Segmentator(nn.Module):
    """Class per pixel, centre heat map and offsets of one batch of pictures; no state between calls.

    Input (B, 3, H, W) float32 RGB in [0, 1], H and W multiples of 16, at least 32.
    Output a SegmentatorOutput at stride 4.
    """

    def __init__(
        self,
        trunk: CompactTrunk | ResNetTrunk,
        aspp: Aspp,
        decoder: Decoder,
        *,
        width: int,
        side: int,
        mean: Sequence[float],
        spread: Sequence[float],
        norm: bool,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.aspp = aspp
        self.decoder = decoder
        # Classes at stride 16, what a teacher there can give; the decoder's are added to them.
        self.coarse = nn.Conv2d(aspp.width, len(THING_NAMES) + 1, 1)
        self.classes = nn.Sequential(
            SeparableConv(width, width, norm=norm), nn.Conv2d(width, len(THING_NAMES) + 1, 1)
        )
        self.things = SeparableConv(width, side, norm=norm)
        self.centre = nn.Conv2d(side, 1, 1)
        self.offset = nn.Conv2d(side, 2, 1)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(spread).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.scale: Tensor

    def normalise(self, image: Tensor) -> Tensor:
        """The trunk's input for an RGB picture in [0, 1]."""
        return (image - self.mean) * self.scale

    def decode(self, low: Tensor, middle: Tensor, high: Tensor) -> SegmentatorOutput:
        """Outputs from the trunk's features at strides 4, 8 and 16."""
        high = self.aspp(high)
        x = self.decoder(low, middle, high)
        things = self.things(x)
        logits = self.classes(x) + _fourfold(self.coarse(high))
        return SegmentatorOutput(logits, self.centre(things), self.offset(things))

    def forward(self, image: Tensor) -> SegmentatorOutput:
        return self.decode(*self.trunk(self.normalise(image)))


def build_segmentator(*, variant: Variant = "compact", norm: bool | None = None) -> Segmentator:
    """A segmentator with random weights.

    norm: whether convolutions carry batch norms; by default only the paper variant's do, since the
    compact one is stored with its norms folded into biases (see `fold_norms`).
    Raises ValueError on an unknown variant.
    """
    if variant == "compact":
        norm = bool(norm)
        trunk: CompactTrunk | ResNetTrunk = CompactTrunk(norm=norm)
        aspp = Aspp(320, 160, (6, 12), separable=True, norm=norm)
        decoder = Decoder(160, (24, 32), (16, 32), (72, 64), norm=norm)
        network = Segmentator(
            trunk,
            aspp,
            decoder,
            width=64,
            side=32,
            mean=(0.5, 0.5, 0.5),
            spread=(0.5, 0.5, 0.5),
            norm=norm,
        )
    elif variant == "paper":
        norm = norm is not False
        trunk = ResNetTrunk()
        aspp = Aspp(2048, 256, (6, 12, 18), separable=False, norm=norm)
        decoder = Decoder(256, (256, 512), (32, 64), (256, 256), norm=norm)
        network = Segmentator(
            trunk,
            aspp,
            decoder,
            width=256,
            side=128,
            mean=(0.485, 0.456, 0.406),
            spread=(0.229, 0.224, 0.225),
            norm=norm,
        )
    else:
        raise ValueError(f"unknown segmentator variant {variant!r}: use 'compact' or 'paper'")
    with torch.no_grad():
        assert network.centre.bias is not None
        network.centre.bias.fill_(-4.0)  # centres are rare: start near their share of all cells
    return network


def load_torchvision_trunk(network: Segmentator, state: Mapping[str, Tensor]) -> int:
    """Fill a paper segmentator's trunk from a public torchvision ResNet-101; returns tensors taken.

    `state` is the state dict of torchvision's `resnet101` (names `conv1.weight`, `layer1.0...`) or of
    `deeplabv3_resnet101` (the same names behind `backbone.`). Layer by layer, name to same name:
    conv1, bn1, layer1.{0..2}, layer2.{0..3}, layer3.{0..22}, layer4.{0..2}, in each block conv1 bn1
    conv2 bn2 conv3 bn3 and, in the first, downsample.0 (convolution) and downsample.1 (norm).
    `fc.*`, `classifier.*` and `aux_classifier.*` are left out: the head here is another one.
    Raises ValueError where the trunk is another one, a name is missing or a shape differs.
    """
    if not isinstance(network.trunk, ResNetTrunk):
        raise ValueError("only the paper variant has a ResNet-101 trunk")
    own = network.trunk.state_dict()
    taken: dict[str, Tensor] = {}
    for name, value in own.items():
        source = state.get(name, state.get(f"backbone.{name}"))
        if source is None:
            raise ValueError(f"the state dict has no {name!r}: not a ResNet-101 of torchvision")
        if source.shape != value.shape:
            raise ValueError(f"{name}: shape {tuple(source.shape)}, wanted {tuple(value.shape)}")
        taken[name] = source
    network.trunk.load_state_dict(taken)
    return len(taken)


def fold_norms(module: nn.Module) -> None:
    """Merge, in place, every batch norm of a ConvNorm into its convolution (its running statistics)."""
    for part in module.modules():
        if not (isinstance(part, ConvNorm) and len(part) > 1):
            continue
        conv, norm = part[0], part[1]
        if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            conv.weight.mul_(gain.view(-1, 1, 1, 1))
            conv.bias = nn.Parameter((norm.bias - norm.running_mean * gain).clone())
        rest = list(part)[2:]
        del part[1:]
        for layer in rest:
            part.append(layer)
