"""Mixed precision on a processor: bfloat16 but for the convolutions it makes slower."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WideConv(nn.Conv2d):
    """A convolution that computes in float32 inside a bfloat16 region."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        kind = torch.get_autocast_dtype(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = self._conv_forward(x.float(), self.weight, self.bias)
            return y.to(kind)


def widen_depthwise(module: nn.Module) -> None:
    """Keep strided, dilated and 5 x 5 depthwise convolutions in float32, in place.

    Their backward pass has no fast bfloat16 kernel on processors: as they come, they cost two to four
    times what they cost in float32, and more than all the rest gains.
    """
    for part in module.modules():
        if type(part) is not nn.Conv2d or part.groups == 1:
            continue
        if part.stride[0] > 1 or part.dilation[0] > 1 or part.kernel_size[0] > 3:
            part.__class__ = WideConv
