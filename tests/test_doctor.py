"""The commands about the machine: doctor, engines, weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
from engines import cache, hardware
from engines.base import Difference, Signature
from models import weights
from stream.commands import doctor, main

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once
from torch import nn

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEANPLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLEANPLATE_WEIGHTS", str(tmp_path / "weights"))


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


def keep(label: str = "segmentator-compact 512x288") -> None:
    inputs = (Signature("float32", (1, 3, 288, 512)),)
    error = Difference(0.01, 0.001)
    cache.save(
        cache.Entry(
            {"engine": "openvino"}, label, "openvino", "CPU", "f32", error, inputs, ("float32",), True, 1.0
        ),
        bytes(2_000_000),
    )


def test_engines_are_listed_with_their_difference_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    keep()
    code, out, _ = command(capsys, "engines", "list")
    assert code == 0 and "segmentator-compact 512x288" in out and "1.0e-03 mean" in out and "2.0 MB in" in out
    code, out, _ = command(capsys, "engines", "clear")
    assert code == 0 and "removed 1 engines, 2.0 MB" in out and engines.cache_bytes() == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("engines", "build", "1280"), "not a frame size: '1280'"),
        (("engines", "build", "0x720"), "not a frame size: '0x720'"),
        (("engines", "build", "--preset", "turist"), "tourist"),
        (("engines", "build", "--engine", "openvin"), "engine"),
        (("engines", "bild"), "bild"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(capsys, *arguments)
    assert code == 2 and says in err and err.startswith("error: ")


def test_build_opens_every_network_of_a_run_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stream import networks
    from stream.networks import NetworkSpec

    def build(spec: NetworkSpec) -> nn.Module:
        return nn.Conv2d(spec.channels[0], 1, 1) if len(spec.channels) == 1 else Stacked()

    class Stacked(nn.Module):
        def forward(self, *planes: torch.Tensor) -> torch.Tensor:
            return torch.cat(planes, 1)

    file = weights.FOLDER / "relation.safetensors"  # any file: its content is all that is asked for
    monkeypatch.setattr(NetworkSpec, "build", build)
    monkeypatch.setattr(weights, "weights_path", lambda _: file)
    monkeypatch.setattr(networks, "INPAINT_SIDE", 64)
    sizes = ("64x32", "128x64", "32x64")  # the first two have one shape, the third another
    code, out, err = command(capsys, "engines", "build", *sizes)
    assert code == 0, err
    labels = [line.split()[0] for line in out.splitlines()]
    assert sorted(labels) == [
        "deocclusion-compact",
        "inpainter-compact",
        "segmentator-compact",
        "segmentator-compact",
        "stuff-compact",
    ]
    assert out.count("built: ") == 5
    code, out, _ = command(capsys, "engines", "build", *sizes)
    assert code == 0 and out.count("from the cache") == 5


def test_weights_are_listed_and_verified(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "weights", "list")
    assert code == 0 and "relation" in out and "Apache-2.0" in out
    code, out, _ = command(capsys, "weights", "verify", "relation")
    assert code == 0 and "relation" in out and "ok" in out


def test_weights_that_are_damaged_or_unknown_are_exit_code_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in weights.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes() + b" ")
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    code, out, err = command(capsys, "weights", "verify")
    assert code == 5 and "FAILED" in out and "cannot be used" in err
    code, _, err = command(capsys, "weights", "fetch", "relatoin")
    assert code == 5 and "hint: did you mean 'relation'?" in err
    code, out, _ = command(capsys, "weights", "verify", "--update")
    assert code == 0 and "changed: " in out and "relation" in out


def test_doctor_looks_at_everything_and_agrees_with_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(capsys, "doctor")
    for what in (
        "python",
        "processor",
        "torch",
        "av",
        "openvino",
        "encoders",
        "gpu",
        "engine",
        "cache",
        "relation",
    ):
        assert any(line[3:].startswith(what) for line in out.splitlines()), what
    assert code == (5 if "!!" in out else 0) and ("cannot be cleaned" in err) == (code == 5)


def test_doctor_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("CLEANPLATE_CACHE", str(blocked))
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "nowhere")
    monkeypatch.setattr(hardware, "cuda_usable", lambda: False)
    monkeypatch.setattr(hardware, "nvidia_driver", lambda: "590.1")
    monkeypatch.setattr(hardware, "installed", lambda module: module != "openvino")
    found = {finding.what: finding for finding in doctor.examine()}
    assert "CLEANPLATE_CACHE" in found["cache"].remedy
    assert "unset" in found["threads"].remedy
    assert "torch" in found["gpu"].remedy
    assert found["engine"].remedy == "pip install openvino"
    assert found["relation"].broken and "install cleanplate again" in found["relation"].remedy


def test_doctor_survives_what_it_is_asked_to_diagnose() -> None:
    def broken() -> Iterator[doctor.Finding]:
        raise OSError("libGL.so.1: cannot open shared object file")

    (finding,) = doctor._guarded(broken)
    assert finding.broken and "libGL" in finding.found
