"""What doctor says to somebody with a GPU: exactly what is missing, on hardware that is made up."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from engines import hardware, inductor, tensorrt
from engines.base import EngineUnavailable
from stream.commands import doctor

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once


def found(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> dict[str, doctor.Finding]:
    """The findings on a machine with these facts; without any, one that has no GPU."""
    machine = {"driver": "unknown", "cards": 0, "reachable": False, "cuda": None, "usable": False, **facts}
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: machine["driver"])
    monkeypatch.setattr(hardware, "nvidia_cards", lambda: machine["cards"])
    monkeypatch.setattr(hardware, "nvidia_reachable", lambda: machine["reachable"])
    monkeypatch.setattr(hardware, "cuda_usable", lambda: machine["usable"])
    monkeypatch.setattr(torch.version, "cuda", machine["cuda"])
    return {finding.what: finding for finding in doctor.examine()}


@pytest.mark.parametrize(
    ("facts", "says", "remedy"),
    [
        ({}, "no NVIDIA GPU", ""),
        ({"cards": 1}, "no driver", "driver 580 or newer"),
        ({"cards": 1, "driver": "590.48"}, "no GPU can be opened", "--gpus all"),
        (
            {"cards": 1, "driver": "590.48", "reachable": True},
            "built without CUDA",
            'pip install --force-reinstall "torch==2.13.*"',
        ),
        (
            {"cards": 1, "driver": "550.120", "reachable": True, "cuda": "13.0"},
            "550.120 is too old for torch's CUDA 13.0",
            "driver 580 or newer",
        ),
        (
            {"cards": 1, "driver": "590.48", "reachable": True, "cuda": "13.0"},
            "torch cannot use it: ",
            "collect_env",
        ),
    ],
)
def test_a_gpu_that_is_not_used_and_why(
    facts: dict[str, Any], says: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = found(monkeypatch, **facts)["gpu"]
    assert says in gpu.found and remedy in gpu.remedy and bool(gpu.remedy) == bool(remedy)
    assert not gpu.broken  # clips can be cleaned on the processor


GPU = {"device": "GPU A", "capability": "sm_90", "driver": "590.48, CUDA 13.0"}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(hardware, "cuda_identity", lambda: GPU)
    return {"cards": 1, "driver": "590.48", "reachable": True, "cuda": "13.0", "usable": True}


@pytest.mark.parametrize(
    ("missing", "what", "remedy"),
    [
        ("triton", "inductor", "pip install triton"),
        ("torch_tensorrt", "tensorrt", "pip install 'cleanplate[tensorrt]'"),
        ("tensorrt", "tensorrt", "pip install 'cleanplate[tensorrt]'"),
    ],
)
def test_a_gpu_that_works_and_what_is_missing_beside_it(
    missing: str, what: str, remedy: str, gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "installed", lambda module: module != missing)
    findings = found(monkeypatch, **gpu)
    assert "GPU A, sm_90, driver 590.48" in findings["gpu"].found and not findings["gpu"].remedy
    assert "is not installed" in findings[what].found and remedy in findings[what].remedy


def test_libraries_that_do_not_load_are_to_be_installed_again(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "installed", lambda _: True)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)  # importing it raises
    tensorrt_finding = found(monkeypatch, **gpu)["tensorrt"]
    assert "cannot be loaded" in tensorrt_finding.found
    assert "--force-reinstall 'torch-tensorrt==2.13.*'" in tensorrt_finding.remedy


def test_nothing_is_asked_for_where_all_is_there(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "installed", lambda _: True)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", types.ModuleType("torch_tensorrt"))
    monkeypatch.setattr(inductor, "require", lambda: None)
    findings = found(monkeypatch, **gpu)
    assert not any(findings[what].remedy for what in ("gpu", "inductor", "tensorrt"))
    assert "tensorrt at f16, then inductor then eager" in findings["engine"].found


def test_without_a_compiler_inductor_says_so(gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def require() -> None:
        raise EngineUnavailable("there is no C++ compiler", hint="install g++ (Debian: apt install g++)")

    monkeypatch.setattr(inductor, "require", require)
    monkeypatch.setattr(tensorrt, "require", require)
    assert "apt install g++" in found(monkeypatch, **gpu)["inductor"].remedy
