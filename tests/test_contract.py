"""What every engine keeps to, whichever it is.

Those that need a GPU are left out without one; with FAIL_WITHOUT_GPU=1 in the environment that is a failure,
for machines that have one and must not pass by leaving out what they are there for.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import engines
from configs.schema import load_config
from engines import cache, hardware
from engines.base import TOLERANCE, Difference, EngineError, measure
from stream.networks import every_network

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once
from torch import nn

torch.set_num_threads(1)
IMAGE = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)
MASK = np.random.default_rng(1).integers(0, 2, (1, 1, 16, 24), dtype=np.uint8)


class Pair(nn.Module):
    """Two outputs, one of whole numbers, from a picture and a mask."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.first(image * (mask < 1))
        return scores.softmax(1), scores.argmax(1)


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=2), nn.ReLU())


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEANPLATE_CACHE", str(tmp_path))


def needs_gpu(name: str) -> None:
    """Leave out, or fail under FAIL_WITHOUT_GPU=1, what cannot run here."""
    missing = "" if hardware.cuda_usable() else "there is no GPU that torch can use"
    if not missing:
        try:
            engines.backend_for(name).require()
        except engines.EngineUnavailable as error:
            missing = f"{error} ({error.hint})"
    if missing and os.environ.get("FAIL_WITHOUT_GPU") == "1":
        pytest.fail(f"{name}: {missing}")
    if missing:
        pytest.skip(f"{name}: {missing}")


@pytest.fixture(params=engines.ENGINE_NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param in ("inductor", "tensorrt"):
        needs_gpu(request.param)
    return str(request.param)


@pytest.fixture
def kept(name: str) -> str:
    if name == "eager":
        pytest.skip("eager keeps no files")
    return name


def test_same_kind_in_and_out_and_the_same_numbers_as_eager(name: str) -> None:
    module = Pair().eval()
    with torch.no_grad():
        probabilities, classes = module(torch.from_numpy(IMAGE), torch.from_numpy(MASK))
    with engines.open_engine(module, [IMAGE, MASK], name=name, precision="f32", threads=1) as run:
        arrays = run(IMAGE, MASK)
        tensors = run(torch.from_numpy(IMAGE), torch.from_numpy(MASK))
        assert (run.name, run.precision) == (name, "f32") and run.device
        assert run.error.within(TOLERANCE["f32"])
    assert isinstance(arrays, tuple) and isinstance(tensors, tuple)
    assert [a.dtype.name for a in arrays] == ["float32", "int64"]
    assert [str(t.dtype) for t in tensors] == ["torch.float32", "torch.int64"]
    error = measure([probabilities.numpy(), classes.numpy()], arrays)
    assert error.within(TOLERANCE["f32"])
    assert all(np.array_equal(a, t.numpy()) for a, t in zip(arrays, tensors, strict=True))


def test_one_tensor_stays_one_and_earlier_results_stay_as_they_were(name: str) -> None:
    run = engines.open_engine(convolution(), [IMAGE], name=name, threads=1)
    first = run(IMAGE)
    tensor = run(torch.from_numpy(IMAGE))
    copies = first.copy(), tensor.clone()
    others = [run(share * IMAGE) for share in (0.0, 0.5)]
    assert isinstance(first, np.ndarray) and first.shape == (1, 4, 18, 26)
    assert np.array_equal(first, copies[0]) and torch.equal(tensor, copies[1])
    assert not np.array_equal(others[0], first) and not np.array_equal(others[0], others[1])


def test_tensors_on_a_gpu_stay_there(name: str) -> None:
    if not hardware.cuda_usable():
        needs_gpu(name)
    run = engines.open_engine(convolution(), [IMAGE], name=name, threads=1)
    assert run(torch.from_numpy(IMAGE).cuda()).device.type == "cuda"


def test_inputs_may_be_read_only_or_strided(name: str) -> None:
    run = engines.open_engine(convolution(), [IMAGE], name=name, threads=1)
    frozen = IMAGE.copy()
    frozen.flags.writeable = False
    strided = np.repeat(IMAGE, 2, axis=3)[..., ::2]
    assert np.array_equal(run(frozen), run(IMAGE)) and np.array_equal(run(strided), run(IMAGE))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([IMAGE[:, :, :8]], r"takes float32\[1,3,16,24\], not float32\[1,3,8,24\]"),
        ([IMAGE.astype(np.float64)], "not float64"),
        ([], "not nothing"),
        (["picture"], "not str"),
    ],
)
def test_wrong_inputs_are_refused(inputs: list[object], says: str) -> None:
    run = engines.open_engine(convolution(), [IMAGE], name="eager")
    with pytest.raises(ValueError, match=says):
        run(*inputs)


def test_closing_twice_is_harmless_and_use_after_it_an_error(name: str) -> None:
    run = engines.open_engine(convolution(), [IMAGE], name=name, threads=1)
    run.close()
    run.close()
    with pytest.raises(EngineError, match="closed"):
        run(IMAGE)


def test_second_opening_neither_makes_the_network_nor_measures_again(kept: str) -> None:
    made = []

    def make() -> nn.Module:
        made.append(1)
        return convolution()

    first, second = (
        engines.open_engine(make, [IMAGE], name=kept, graph="recipe:a", label="net", threads=1)
        for _ in range(2)
    )
    assert made == [1]
    assert first.reason == "nothing is cached for this engine" and second.reason == ""
    assert second.error == first.error and second.error != Difference()
    assert second.milliseconds == first.milliseconds > 0
    assert np.array_equal(first(IMAGE), second(IMAGE))
    (entry,) = cache.list_entries()
    assert entry.build_seconds > 0 and entry.milliseconds == first.milliseconds


@pytest.mark.slow
def test_on_the_shipped_weights_the_kept_error_is_within_the_table(kept: str) -> None:
    config = load_config(overrides={"engine.name": kept})
    for spec in every_network(config, [(320, 192)]):
        spec.open(config).close()
    entries = cache.list_entries()
    assert len(entries) == len(every_network(config, [(320, 192)]))
    for entry in entries:
        assert entry.error.within(TOLERANCE[entry.precision]) and entry.error.largest > 0, entry.label
