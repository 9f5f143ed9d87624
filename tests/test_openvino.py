"""The OpenVINO engine: its settings are said, not left to the machine; its operators agree with eager."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import engines
from engines import hardware, openvino
from engines.base import TOLERANCE

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once
from torch import Tensor, nn
from torch.nn import functional

torch.set_num_threads(1)
IMAGE = np.random.default_rng(0).random((1, 4, 16, 24), dtype=np.float32)


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.linspace(-1, 1, 4 * 4 * 9).reshape(4, 4, 3, 3))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = functional.conv2d(image, self.weight, padding=1)
        return features, self.function(features)


OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "enlarge": lambda x: functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False),
    "attention": lambda x: functional.fold(
        functional.unfold(x, 3, padding=1).transpose(1, 2).softmax(1).transpose(1, 2),
        (16, 24), 3, padding=1,
    ),
    "peaks": lambda x: x * (functional.max_pool2d(x, 3, 1, 1) == x),
    "gate": lambda x: functional.elu(x) * torch.sigmoid(x.roll(1, 3)),
    "global": lambda x: functional.adaptive_avg_pool2d(x, 1).expand_as(x),
    "sample": lambda x: functional.grid_sample(
        x, functional.affine_grid(torch.eye(2, 3)[None] * 0.9, [1, 4, 16, 24], align_corners=False),
        align_corners=False, padding_mode="border",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_our_networks_agree_with_eager(name: str) -> None:
    run = engines.open_engine(
        Applied(OPERATORS[name]), [IMAGE], name="openvino", precision="f32", threads=1, cache=False
    )
    assert run.error.within(TOLERANCE["f32"]) and run.reason == "the cache is off"


@pytest.mark.parametrize(("precision", "count"), [("f32", 1), ("f32", 2), ("bf16", 1)])
def test_precision_and_threads_are_said(precision: str, count: int) -> None:
    settings = openvino.settings(precision, count)
    assert settings["INFERENCE_PRECISION_HINT"] == precision
    assert settings["INFERENCE_NUM_THREADS"] == count
    assert settings["ENABLE_CPU_PINNING"] is False


def test_one_file_opens_with_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEANPLATE_CACHE", str(tmp_path))
    module = Applied(OPERATORS["gate"])
    one = engines.open_engine(module, [IMAGE], name="openvino", graph="recipe:a", threads=1)
    two = engines.open_engine(module, [IMAGE], name="openvino", graph="recipe:a", threads=2)
    assert two.reason == ""
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(one(IMAGE), two(IMAGE), strict=True))


@pytest.mark.parametrize(
    ("flags", "capabilities", "expected"),
    [
        (("avx512f",), ["FP32", "BF16"], ("f32",)),  # emulated
        (("avx512f", "avx512_bf16"), ["FP32"], ("f32",)),
        (("avx512f", "avx512_bf16"), ["FP32", "BF16"], ("bf16", "f32")),
        (("amx_bf16",), ["FP32", "BF16"], ("bf16", "f32")),
        ((), ["FP32"], ("f32",)),
    ],
)
def test_auto_takes_bf16_only_where_it_is_native(
    flags: tuple[str, ...],
    capabilities: list[str],
    expected: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Core:
        def get_property(self, *_: str) -> list[str]:
            return capabilities

    monkeypatch.setattr(hardware, "cpu_flags", lambda: flags)
    monkeypatch.setattr(openvino, "_core", Core)
    assert openvino.precisions("auto") == expected
    assert openvino.precisions("f32") == ("f32",)


def test_a_precision_the_processor_does_not_have_is_refused_not_replaced() -> None:
    if "FP16" in openvino._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in f16")
    with pytest.raises(engines.EngineUnavailable, match=r"takes (f32|bf16) for f16"):
        engines.open_engine(
            Applied(OPERATORS["gate"]), [IMAGE], name="openvino", precision="f16", cache=False
        )


def test_a_broken_installation_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(engines.EngineUnavailable, match="cannot be loaded"):
        openvino._core()
