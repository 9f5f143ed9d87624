"""The commands about the machine: doctor, engines, weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
from configs.schema import load_config
from engines import cache, hardware
from engines.base import Difference, Signature
from models import weights
from stream import networks
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


def keep(
    label: str = "segmentator-compact 512x288", build_seconds: float = 0.0, milliseconds: float = 0.0
) -> None:
    key = {"engine": "openvino", "graph": "recipe:abcdef0123456789", "driver": "1", "label": label}
    inputs = (Signature("float32", (1, 3, 288, 512)),)
    error = Difference(0.01, 0.001)
    cache.save(
        cache.Entry(
            key=key,
            label=label,
            engine="openvino",
            device="CPU",
            precision="f32",
            error=error,
            inputs=inputs,
            outputs=("float32",),
            bare=True,
            created=1.0,
            build_seconds=build_seconds,
            milliseconds=milliseconds,
        ),
        bytes(2_000_000),
    )


def test_engines_are_listed_with_their_difference_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    keep()
    code, out, _ = command(capsys, "engines", "list")
    assert code == 0 and "segmentator-compact 512x288" in out and "1.0e-03" in out and "2.0 MB in" in out
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

    def refuse(_: NetworkSpec) -> nn.Module:
        raise AssertionError("a network was made")

    monkeypatch.setattr(NetworkSpec, "build", refuse)
    config = load_config()
    opened = networks.Networks(config)
    for spec in networks.every_network(config, [(64, 32), (128, 64), (32, 64)]):
        assert opened.engine(spec).reason == "" and opened.engine(spec).milliseconds > 0


def test_list_is_aligned_and_has_a_form_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    keep()
    keep("a network with quite a long name 1024x576", build_seconds=12.5, milliseconds=3.25)
    _, out, _ = command(capsys, "engines", "list")
    head, *lines = out.splitlines()
    rows = [line for line in lines[:-1] if not line.startswith(" ")]
    assert len({row.index("openvino") for row in rows} | {head.index("engine")}) == 1
    assert {row.index(" MB") for row in rows} == {rows[0].index(" MB")}
    long = next(row for row in rows if row.startswith("a network"))
    assert "12.5 s" in long and "3.2 ms" in long and "driver 1; graph recipe:abcdef01234;" in out
    _, out, _ = command(capsys, "engines", "list", "--json")
    told = json.loads(out)
    (one,) = [engine for engine in told["engines"] if engine["milliseconds"]]
    assert one["build_seconds"] == 12.5 and one["error"] == {"mean": 0.001, "largest": 0.01}
    assert (
        one["key"]["graph"] == "recipe:abcdef0123456789" and Path(one["path"]).stat().st_size == one["bytes"]
    )
    assert told["bytes"] == sum(engine["bytes"] for engine in told["engines"])


def test_build_shows_a_bar_on_a_terminal_and_what_came_of_it_after(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stream.networks import NetworkSpec

    class Copied(nn.Module):
        def forward(self, *planes: torch.Tensor) -> torch.Tensor:
            return planes[0] * 2

    monkeypatch.setattr(NetworkSpec, "build", lambda _: Copied())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    code, out, err = command(capsys, "engines", "build", "64x32", "--engine", "eager")
    count = len(networks.every_network(load_config(), [(64, 32)]))
    assert code == 0 and len(out.splitlines()) == count and f"/{count}" in err and "compact" in err


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
    (tmp_path / "weights.json").write_bytes((weights.FOLDER / "weights.json").read_bytes())
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(hardware, "cuda_usable", lambda: False)
    monkeypatch.setattr(hardware, "installed", lambda module: module != "openvino")
    found = {finding.what: finding for finding in doctor.examine()}
    assert "CLEANPLATE_CACHE" in found["cache"].remedy
    assert "unset" in found["threads"].remedy
    assert found["engine"].remedy == "pip install openvino"
    for name in weights.shipped():
        assert found[name].broken and "install cleanplate again" in found[name].remedy
    (tmp_path / "weights.json").unlink()
    found = {finding.what: finding for finding in doctor.examine()}
    assert found["weights"].broken and "install cleanplate again" in found["weights"].remedy


def test_doctor_survives_what_it_is_asked_to_diagnose() -> None:
    def broken() -> Iterator[doctor.Finding]:
        raise OSError("libGL.so.1: cannot open shared object file")

    (finding,) = doctor._guarded(broken)
    assert finding.broken and "libGL" in finding.found
