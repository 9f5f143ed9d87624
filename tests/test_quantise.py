"""8-bit convolutions: near eager, only for networks that take one picture, only on OpenVINO."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import engines
from engines import openvino
from engines.base import TOLERANCE

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once
from torch import Tensor, nn

torch.set_num_threads(1)


def separable() -> nn.Module:
    """A picture's convolutions of every kind: dense, depthwise, pointwise, on signed and bounded inputs."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU6()]
    for _ in range(3):
        layers += [nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6(), nn.Conv2d(16, 16, 1)]
    network = nn.Sequential(*layers, nn.Conv2d(16, 4, 1))
    with torch.no_grad():
        for each in network:
            if isinstance(each, nn.Conv2d):
                each.weight.mul_(2)
    return network


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        found: Tensor = self.convolution(image + other)
        return found


def opened(
    make: Callable[[], nn.Module], count: int, precision: str, name: str = "openvino"
) -> engines.Engine:
    inputs = engines.example_inputs((3,) * count, 48, 64)
    return engines.open_engine(make, inputs, name=name, precision=precision, threads=1, cache=False)


def test_int8_is_near_eager_and_is_not_another_precision() -> None:
    whole, coarse = opened(separable, 1, "f32"), opened(separable, 1, "int8")
    assert coarse.precision == "int8" and coarse.error.within(TOLERANCE["int8"])
    picture = np.random.default_rng(1).random((1, 3, 48, 64), np.float32)
    exact, got = whole(picture), coarse(picture)
    assert got.dtype == np.float32 and not np.array_equal(exact, got)
    assert np.abs(exact - got).mean() < 0.1 * exact.std()


def test_networks_of_two_pictures_are_not_quantised() -> None:
    with pytest.raises(engines.EngineUnavailable, match="one picture"):
        opened(Two, 2, "int8")


def test_other_engines_say_that_they_have_no_int8() -> None:
    with pytest.raises(engines.EngineUnavailable, match="eager has no int8"):
        opened(separable, 1, "int8", name="eager")


def test_auto_never_takes_int8() -> None:
    assert "int8" not in openvino.precisions("auto")
    assert opened(separable, 1, "auto").precision != "int8"
