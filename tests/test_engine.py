"""Opening networks: the cache and its key, the choice of an engine, what is refused."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import engines
from engines import cache, engine, hardware
from engines.base import TOLERANCE, Difference, EngineError, Signature, measure

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once
from torch import nn

torch.set_num_threads(1)
IMAGE = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)


class Pair(nn.Module):
    """Two outputs, one of whole numbers, from a picture and a mask."""

    def __init__(self, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=dilation, stride=stride, dilation=dilation)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.first(image * (mask < 1))
        return scores.softmax(1), scores.argmax(1)


MASK = np.random.default_rng(1).integers(0, 2, (1, 1, 16, 24), dtype=np.uint8)


def convolution(stride: int = 1, seed: int = 0, dilation: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=2, stride=stride, dilation=dilation), nn.ReLU())


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLEANPLATE_CACHE", str(tmp_path))
    return tmp_path / "engines"


def test_an_opening_from_the_cache_does_not_import_torch(cache_folder: Path) -> None:
    engines.open_engine(convolution(), [IMAGE], name="openvino", graph="recipe:a", label="net")
    program = (
        "import sys, numpy, engines\n"
        "image = numpy.zeros((1, 3, 16, 24), 'f4')\n"
        "run = engines.open_engine(None, [image], name='openvino', graph='recipe:a', label='net')\n"
        "assert run(image).shape == (1, 4, 18, 26)\n"
        "assert 'torch' not in sys.modules and sys.modules['openvino_telemetry'] is None\n"
    )
    environment = {"CLEANPLATE_CACHE": str(cache_folder.parent), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(engines.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr


def test_without_a_digest_the_exported_graph_is_the_key() -> None:
    opened = [
        engines.open_engine(module, [IMAGE], name="openvino", label="net", threads=1)
        for module in (convolution(), convolution(), convolution(seed=1), convolution(stride=2))
    ]
    assert [run.reason == "" for run in opened] == [False, True, False, False]
    assert all("in graph was graph:" in run.reason for run in opened[2:])


@pytest.mark.parametrize("change", [{"stride": 2}, {"dilation": 2}])
def test_digest_sees_call_arguments_not_only_operators_and_weights(change: dict[str, int]) -> None:
    from engines.export import export_program, program_digest

    inputs = [torch.from_numpy(IMAGE), torch.from_numpy(MASK)]
    same = program_digest(export_program(Pair().eval(), inputs))
    assert same == program_digest(export_program(Pair().eval(), inputs))
    assert same != program_digest(export_program(Pair(**change).eval(), inputs))


KEY = {"engine": "openvino", "graph": "g", "shapes": "s", "precision": "f32", "openvino": "1", "device": "d"}


def entry(key: dict[str, str], label: str = "net") -> cache.Entry:
    inputs = (Signature("float32", (1, 3, 16, 24)),)
    error = Difference(0.1, 0.01)
    return cache.Entry(key, label, "openvino", "d", "f32", error, inputs, ("float32",), True, 1.0)


@pytest.mark.parametrize("field", ["graph", "shapes", "precision", "openvino", "device"])
def test_a_miss_names_the_field_that_differs(field: str) -> None:
    cache.save(entry(KEY), b"bytes")
    cache.save(entry({**KEY, "graph": "quite", "shapes": "other", "device": "here"}), b"bytes")
    wanted = {**KEY, field: "new"}
    assert cache.find(wanted, "net") == (
        f"differs from the nearest cached file in {field} was {KEY[field]}, is new"
    )


def test_what_is_saved_is_found_again() -> None:
    cache.save(entry(KEY), b"line\nline\n")
    found = cache.find(KEY, "net")
    assert found == (entry(KEY), b"line\nline\n")


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: whole.replace(b'"label": "net"', b'"label": "ten"'),
        lambda whole: b"\x00" * len(whole),
        lambda whole: whole + b"more",
    ],
)
def test_a_damaged_file_is_a_miss(damage: Callable[[bytes], bytes]) -> None:
    file = cache.save(entry(KEY), bytes(range(256)))
    file.write_bytes(damage(file.read_bytes()))
    found = cache.find(KEY, "net")
    assert isinstance(found, str) and "damaged" in found


def test_a_whole_file_the_library_cannot_open_is_a_miss_and_replaced() -> None:
    run = engines.open_engine(convolution, [IMAGE], name="openvino", graph="recipe:a", label="net", threads=1)
    (known,) = cache.list_entries()
    cache.save(known, b"not what OpenVINO wrote")
    again = engines.open_engine(
        convolution, [IMAGE], name="openvino", graph="recipe:a", label="net", threads=1
    )
    assert "cannot be opened" in again.reason and np.array_equal(again(IMAGE), run(IMAGE))
    known.path.write_bytes(known.path.read_bytes()[:-9])
    assert (
        "damaged"
        in engines.open_engine(
            convolution, [IMAGE], name="openvino", graph="recipe:a", label="net", threads=1
        ).reason
    )
    last = engines.open_engine(None, [IMAGE], name="openvino", graph="recipe:a", label="net")  # type: ignore
    assert last.reason == ""


def test_a_cache_that_cannot_be_written_costs_only_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("CLEANPLATE_CACHE", str(blocked))
    run = engines.open_engine(convolution(), [IMAGE], name="openvino", graph="recipe:a", threads=1)
    assert run(IMAGE).shape == (1, 4, 18, 26) and "cannot be kept" in caplog.text


def test_listing_sizing_clearing_and_trimming(cache_folder: Path) -> None:
    paths = [cache.save(entry({**KEY, "graph": str(i)}), bytes(1000)) for i in range(3)]
    (cache_folder / "stray.engine").write_bytes(b"garbage")
    (cache_folder / "x.part").write_bytes(b"half")
    assert {e.path for e in cache.list_entries()} == set(paths)
    whole = sum(path.stat().st_size for path in cache_folder.iterdir())
    assert cache.cache_bytes() == whole
    import os

    os.utime(paths[0], (5, 5))
    cache.trim(limit=paths[1].stat().st_size * 2 + 100)
    assert not paths[0].exists() and paths[1].exists() and paths[2].exists()
    assert cache.clear() > 2000 and list(cache_folder.iterdir()) == []
    assert cache.list_entries() == [] and cache.clear() == 0


def test_two_processes_may_write_the_same_file(cache_folder: Path) -> None:
    def write() -> None:
        for _ in range(20):
            cache.save(entry(KEY), bytes(10_000))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    misses = []
    while any(writer.is_alive() for writer in writers):
        found = cache.find(KEY, "net")
        if isinstance(found, str):
            misses.append(found)
    for writer in writers:
        writer.join()
    assert all("nothing is cached" in miss for miss in misses)
    assert [path.suffix for path in cache_folder.iterdir()] == [".engine"]


def test_graph_digest_changes_with_everything_a_network_is_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_up_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "net.py").write_text("width = 1")
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"1")
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(builder: str = "made_up_package.net:build", **arguments: object) -> str:
        cache._code_digest.cache_clear()
        return engines.graph_digest(builder, arguments, weights)

    digests = [digest(), digest(variant="paper"), digest("made_up_package.net:other")]
    weights.write_bytes(b"2")
    digests.append(digest())
    (package / "net.py").write_text("width = 2")
    digests.append(digest())
    assert len(set(digests)) == len(digests) and digest() == digests[-1]
    assert "made_up_package" not in sys.modules
    with pytest.raises(ValueError, match=r"package\.module:function"):
        digest("net")


@pytest.mark.parametrize(
    ("reference", "got", "expected"),
    [
        ([0.0, 2.0], [0.0, 2.5], Difference(0.5, 0.25)),
        ([1.0, 1.0], [1.0, 1.5], Difference(0.5, 0.25)),
        ([np.inf, 0.0, 2.0], [np.inf, 0.0, 2.0], Difference()),
        ([], [], Difference()),
    ],
)
def test_difference_is_in_standard_deviations(
    reference: list[float], got: list[float], expected: Difference
) -> None:
    assert measure([np.array(reference)], [np.array(got)]) == expected


def test_difference_of_classes_is_the_share_that_differs() -> None:
    assert measure([np.array([1, 2, 3, 4])], [np.array([1, 2, 3, 9])]) == Difference(0.25, 0.25)


@pytest.mark.parametrize(("a", "b", "says"), [(np.nan, 1.0, "itself"), (1.0, np.nan, "eager does not have")])
def test_nan_is_never_accepted(a: float, b: float, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        measure([np.array([a, 0.0])], [np.array([b, 0.0])])


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'openvino'"):
        engines.open_engine(convolution(), [IMAGE], name="openvin")
    with pytest.raises(ValueError, match="unknown precision 'fp32'"):
        engines.open_engine(convolution(), [IMAGE], precision="fp32")


def test_auto_takes_openvino_on_a_cpu_and_tensorrt_then_inductor_on_cuda(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "cuda_usable", lambda: False)
    assert engines.auto_engines() == ("openvino", "eager")
    monkeypatch.setattr(hardware, "installed", lambda module: module != "openvino")
    assert engines.auto_engines() == ("eager",)
    monkeypatch.setattr(hardware, "cuda_usable", lambda: True)
    monkeypatch.setattr(engine, "backend_for", lambda *_: _Willing())
    assert engines.auto_engines() == ("tensorrt", "inductor", "eager")


class _Willing:
    def require(self) -> None:
        return None


def test_tensorrt_is_refused_without_a_gpu_and_says_what_to_do() -> None:
    if hardware.cuda_usable():
        pytest.skip("there is a GPU")
    with pytest.raises(engines.EngineUnavailable, match="NVIDIA GPU") as caught:
        engines.open_engine(convolution(), [IMAGE], name="tensorrt")
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("fault", ["wrong", "nan", "raises", "cannot open", "cannot run"])
def test_auto_passes_over_an_engine_that_fails_or_lies(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from engines import openvino

    class Broken:
        TENSORS = False
        require, identity = staticmethod(openvino.require), staticmethod(openvino.identity)
        torch_device, precisions = staticmethod(openvino.torch_device), staticmethod(openvino.precisions)

        @staticmethod
        def build(*_: object) -> bytes:
            if fault == "raises":
                raise EngineError("no such operator")
            return b""

        @staticmethod
        def load(*_: object) -> Callable[[object], list[np.ndarray]]:
            value = np.nan if fault == "nan" else 3.0
            if fault == "cannot open":
                raise RuntimeError("a library of its own mind")
            if fault == "cannot run":
                return lambda *_: [][0]  # type: ignore[misc]
            return lambda *_: [np.full((1, 4, 18, 26), value, np.float32)]

    monkeypatch.setattr(hardware, "cuda_usable", lambda: False)
    monkeypatch.setattr(engine, "backend_for", lambda *_: Broken)
    run = engines.open_engine(convolution(), [IMAGE], threads=1)
    assert run.name == "eager" and "is passed over" in caplog.text
    with pytest.raises(EngineError):
        engines.open_engine(convolution(), [IMAGE], name="openvino")
    assert cache.list_entries() == []


def test_auto_precision_falls_back_to_f32_once_and_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    from engines import openvino

    real, built = openvino.build, []

    def build(program: object, precision: str, count: int) -> bytes:
        built.append(precision)
        return real(program, precision, count)  # type: ignore[arg-type]

    monkeypatch.setattr(openvino, "precisions", lambda *_: ("bf16", "f32"))
    monkeypatch.setattr(openvino, "build", build)
    monkeypatch.setitem(TOLERANCE, "bf16", Difference(-1.0, -1.0))
    for _ in range(2):
        run = engines.open_engine(convolution, [IMAGE], name="openvino", graph="recipe:a", threads=1)
        assert run.precision == "f32"
    assert built == ["bf16", "f32"]


def test_modules_that_cannot_be_served_are_refused() -> None:
    class Words(nn.Module):
        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"image": image}

    with pytest.raises(EngineError, match="flat tuple"):
        engines.open_engine(Words(), [IMAGE], name="eager")
    with pytest.raises(TypeError, match=r"nn\.Module"):
        engines.open_engine(lambda: 3, [IMAGE], name="eager")  # type: ignore[arg-type, return-value]


def test_other_threads_run_while_a_network_does() -> None:
    torch.manual_seed(0)
    heavy = nn.Sequential(*[nn.Conv2d(32, 32, 3, padding=1) for _ in range(12)])
    image = np.random.default_rng(0).random((1, 32, 160, 160), dtype=np.float32)
    run = engines.open_engine(heavy, [image], name="openvino", precision="f32", threads=1)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    ticker = threading.Thread(target=tick)
    ticker.start()
    started = time.perf_counter()
    for _ in range(3):
        run(image)
    ended = time.perf_counter()
    stop.set()
    ticker.join()
    # Were the GIL held, nothing could tick between the calls' starts and ends.
    assert sum(started < at < ended for at in ticks) > 10


def test_example_pictures_are_fixed_and_have_the_statistics_of_photographs() -> None:
    from engines.examples import example_picture

    picture = example_picture(96, 160)
    assert picture.shape == (3, 96, 160) and picture.dtype == np.float32
    assert np.array_equal(picture, example_picture(96, 160)) and picture.min() >= 0 and picture.max() <= 1
    grey = picture.mean(0)
    neighbours = np.corrcoef(grey[:, 1:].ravel(), grey[:, :-1].ravel())[0, 1]
    assert neighbours > 0.9 and 0.1 < grey.std() < 0.35
    image, hole = engines.example_inputs((3, 1), 64, 32)
    assert image.shape == (1, 3, 64, 32) and hole.shape == (1, 1, 64, 32) and set(np.unique(hole)) == {0, 1}
