"""The inductor engine on a CPU, where its contract can be proved without a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import engines
from engines import hardware, inductor, tensorrt
from engines.base import TOLERANCE

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once
from torch import nn


@pytest.mark.slow
def test_a_package_is_built_kept_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEANPLATE_CACHE", str(tmp_path))
    image = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for precision in ("f32", "bf16"):
        for expected in (False, True):
            run = engines.open_engine(
                module, [image], name="inductor", precision=precision, graph="recipe:a", threads=1
            )
            assert (run.reason == "") is expected and run.error.within(TOLERANCE[precision])
            assert run(image).shape == (1, 4, 14, 22) and run(image).dtype == np.float32


def test_threads_are_in_the_key_only_where_they_are_in_the_file() -> None:
    if hardware.cuda_usable():
        pytest.skip("there is a GPU")
    assert inductor.identity(1)["threads"] == "1"
    assert "threads" not in engines.backend_for("openvino").identity(1)


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cuda_usable", lambda: False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(engines.EngineUnavailable, match=r"no C\+\+ compiler") as caught:
        inductor.require()
    assert "g++" in caught.value.hint


@pytest.mark.parametrize(
    ("found", "says"),
    [((), "tensorrt is not installed"), (("tensorrt",), "torch_tensorrt is not installed")],
)
def test_tensorrt_says_which_library_is_missing(
    found: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cuda_usable", lambda: True)
    monkeypatch.setattr(hardware, "installed", lambda module: module in found)
    with pytest.raises(engines.EngineUnavailable, match=says):
        tensorrt.require()


@pytest.mark.parametrize(
    ("capability", "wanted", "expected"),
    [
        ("sm_90", "auto", ("bf16", "f32")),
        ("sm_75", "auto", ("f32",)),
        ("sm_90", "f16", ("f16",)),
    ],
)
def test_bf16_is_taken_only_from_gpus_that_compute_in_it(
    capability: str, wanted: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cuda_usable", lambda: True)
    monkeypatch.setattr(hardware, "cuda_identity", lambda: {"capability": capability})
    assert inductor.precisions(wanted) == expected
    assert tensorrt.precisions("auto") == ("f16", "f32")
