"""TensorRT as far as it can be proved without it: what is handed over, what comes back, how it is kept."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import operator
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engines
from configs.schema import load_config
from engines import cache, graphs, hardware, tensorrt
from engines.base import TOLERANCE, EngineError, measure
from engines.export import export_program, flatten, lower_precision
from models import weights
from stream.networks import NetworkSpec, every_network

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once
from torch import nn
from torch.export import ExportedProgram
from torch.nn import functional

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
KNOWN = json.loads((ROOT / "benchmarks" / "converters.json").read_text())
NETWORKS = every_network(load_config(), [(640, 360)])
IMAGE = np.random.default_rng(0).random((1, 3, 16, 24), dtype=np.float32)
LOWERED_AWAY = {"aten._assert_tensor_metadata.default", "aten.max_pool2d_with_indices.default"}
"""Asserts are removed, pooling loses its unused indices: torch-tensorrt's own passes do both."""


def pictures(spec: NetworkSpec) -> list[torch.Tensor]:
    return [torch.from_numpy(i) for i in engines.example_inputs(spec.channels, spec.height, spec.width)]


@functools.cache
def exported(spec: NetworkSpec) -> ExportedProgram:
    # Strict: torch traces the Python itself and refuses what would break the graph or depend on data.
    return torch.export.export(spec.build(), tuple(pictures(spec)), strict=True)


@functools.cache
def halved(spec: NetworkSpec) -> ExportedProgram:
    return lower_precision(exported(spec), "f16", "cpu")


def test_every_network_that_is_shipped_is_looked_at() -> None:
    networks = set()
    for name in weights.shipped():
        stem, _, variant = name.rpartition("-")
        spec = importlib.util.find_spec(f"models.{stem}") if variant else None
        if spec is not None and spec.origin and f"def build_{stem}(" in Path(spec.origin).read_text():
            networks.add(name)
    assert networks and networks == {spec.weights for spec in NETWORKS}


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: spec.name)
def test_every_network_is_one_graph_of_fixed_shapes(spec: NetworkSpec) -> None:
    program = exported(spec)
    assert not program.range_constraints
    for node in program.graph.nodes:
        values = node.meta.get("val", ())
        for value in values if isinstance(values, tuple | list) else (values,):
            assert isinstance(value, torch.Tensor | None), node
            assert value is None or all(type(side) is int for side in value.shape), node


def without_converter(program: ExportedProgram) -> list[str]:
    """Nodes not in the registry's list, once torch's decompositions that torch-tensorrt asks for are done.

    Operators that torch-tensorrt decomposes by its own code count as taken here; with the package at hand
    `test_the_installed_package_takes_every_node` runs that code too.
    """
    wanted = set(KNOWN["decomposed"])
    known = {**torch._decomp.decomposition_table, **torch.export.default_decompositions().materialize()}
    table = {target: rule for target, rule in known.items() if str(target) in wanted}
    lowered = program.run_decompositions(table)
    called = [node.target for node in lowered.graph.nodes if node.op == "call_function"]
    names = ["operator.getitem" if target is operator.getitem else str(target) for target in called]
    taken = {*KNOWN["converters"], *KNOWN["decomposed_by_itself"], *LOWERED_AWAY} - set(
        KNOWN["data_dependent"]
    )
    return sorted(set(names) - taken)


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: spec.name)
def test_no_node_lacks_a_converter(spec: NetworkSpec) -> None:
    """In half precision, which has the operators of f32 and casts besides."""
    assert without_converter(halved(spec)) == []


def test_a_node_that_lacks_one_is_found() -> None:
    class Folds(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return functional.fold(functional.unfold(image, 3), (16, 24), 3)

    program = export_program(Folds(), [torch.from_numpy(IMAGE)])
    assert without_converter(program) == ["aten._unsafe_index_put.default"]


@pytest.mark.parametrize("spec", NETWORKS, ids=lambda spec: spec.name)
def test_half_precision_says_every_type_and_stays_near_eager(spec: NetworkSpec) -> None:
    program = halved(spec)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "wrap_with_autocast" not in targets
    halves = [node for node in program.graph.nodes if str(node.target).startswith("aten.conv2d")]
    assert halves and all(node.meta["val"].dtype == torch.float16 for node in halves)
    with torch.no_grad():
        reference, got = (
            [output.float().numpy() for output in flatten(module(*pictures(spec)))[0]]
            for module in (spec.build(), program.module())
        )
    assert measure(reference, got).within(TOLERANCE["f16"])


def test_what_is_asked_for_are_parameters_that_torch_tensorrt_has(tmp_path: Path) -> None:
    asked = tensorrt.settings("f16", tmp_path)
    assert set(asked) <= set(KNOWN["compile_parameters"])
    assert {"output_format", "arg_inputs"} <= set(KNOWN["save_parameters"])
    assert asked["require_full_compilation"] and asked["min_block_size"] == 1
    assert not asked["cache_built_engines"] and not asked["reuse_cached_engines"]
    assert Path(asked["timing_cache_path"]).parent == tmp_path
    assert tensorrt.settings("f32", tmp_path)["disable_tf32"] and not asked["disable_tf32"]


def installed_package() -> Path:
    found = None if hardware.version("torch-tensorrt") == "" else importlib.util.find_spec("torch_tensorrt")
    if found is None or found.origin is None:
        pytest.skip("torch-tensorrt is not installed: only the list made from it was looked at")
    return Path(found.origin).parent


def test_the_list_is_that_of_the_installed_package() -> None:
    """By reading its source: every name of the list is registered there, and so is every parameter."""
    package = installed_package()
    registered, parameters = set(), set()
    for file in (package / "dynamo" / "conversion").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.endswith("dynamo_tensorrt_converter") and node.args:  # type: ignore[attr-defined]
                registered.add(ast.unparse(node.args[0]).removeprefix("torch.ops."))  # type: ignore[attr-defined]
    for node in ast.parse((package / "dynamo" / "_compiler.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "compile":
            parameters = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    assert set(tensorrt.settings("f16", Path())) <= parameters
    packets = {name.rpartition(".")[0] for name in KNOWN["converters"]}
    assert (
        set(KNOWN["converters"]) - registered - {f"{name}.default" for name in registered & packets} == set()
    )


@pytest.mark.slow
def test_the_installed_package_takes_every_node(tmp_path: Path) -> None:
    """By running its decompositions, lowering and validators on stand-ins for TensorRT."""
    package = installed_package()
    found = tmp_path / "converters.json"
    command = [sys.executable, "-m", "benchmarks.converters", str(package), "--json", str(found)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = json.loads(found.read_text())["networks"]
    assert {record["network"].rpartition(" ")[0] for record in records} == {spec.weights for spec in NETWORKS}
    assert all(record["nodes"] > 50 and record["lacking"] == [] for record in records)


# --- key, cache and refusals, with a builder that stands for TensorRT ---


class Builder(types.ModuleType):
    """`torch_tensorrt` with a compiler that wraps the graph it is given, as the real one's result looks."""

    def __init__(self) -> None:
        super().__init__("torch_tensorrt")
        self.built: list[dict[str, Any]] = []
        self.dynamo = types.SimpleNamespace(compile=self.compile)
        self.leave: Callable[[torch.fx.GraphModule], None] = lambda _: None

    def compile(self, program: ExportedProgram, *, arg_inputs: list[torch.Tensor], **asked: Any) -> Any:
        assert set(asked) <= set(KNOWN["compile_parameters"])
        self.built.append({"types": {i.dtype for i in arg_inputs}, **asked})
        whole = torch.fx.Graph()
        given = [whole.placeholder(f"x{index}") for index in range(len(arg_inputs))]
        whole.output(whole.call_module("_run_on_acc_0", tuple(given)))
        compiled = torch.fx.GraphModule({"_run_on_acc_0": program.module()}, whole)
        self.leave(compiled)
        return compiled

    def save(self, compiled: Any, path: str, *, output_format: str, arg_inputs: list[torch.Tensor]) -> None:
        assert output_format == "exported_program"
        torch.export.save(torch.export.export(compiled, tuple(arg_inputs)), path)


MACHINE = {"device": "GPU A", "capability": "sm_90", "driver": "580.1, CUDA 13.0"}
VERSIONS = {"torch": "2.13.0", "torch-tensorrt": "2.13.0", "tensorrt": "11.0.0"}


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    made = Builder()
    monkeypatch.setenv("CLEANPLATE_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch_tensorrt", made)
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.setattr(hardware, "cuda_usable", lambda: True)
    monkeypatch.setattr(hardware, "cuda_identity", lambda: dict(MACHINE))
    monkeypatch.setattr(hardware, "version", lambda name: VERSIONS.get(name, ""))
    monkeypatch.setattr(tensorrt, "torch_device", lambda: "cpu")
    monkeypatch.setattr(graphs, "replayed", lambda run: run)
    return made


def convolution(stride: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=stride), nn.ReLU())


def opened(graph: str | None = "recipe:a", stride: int = 1) -> engines.Engine:
    return engines.open_engine(convolution(stride), [IMAGE], name="tensorrt", graph=graph, label="net")


def test_it_is_built_once_in_half_precision_and_opened_from_then_on(builder: Builder) -> None:
    first, second = opened(), opened()
    assert len(builder.built) == 1 and second.reason == ""
    assert (second.name, second.precision, second.device) == ("tensorrt", "f16", "GPU A")
    assert second.error == first.error and 0 < second.error.mean < TOLERANCE["f16"].mean
    with torch.no_grad():
        eager = convolution()(torch.from_numpy(IMAGE)).numpy()
    got = second(IMAGE)
    assert got.dtype == np.float32 and measure([eager], [got]).within(TOLERANCE["f16"])


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        (MACHINE, "device", "GPU B"),
        (MACHINE, "capability", "sm_120"),
        (MACHINE, "driver", "590.1, CUDA 13.1"),
        (VERSIONS, "tensorrt", "11.0.1"),
        (VERSIONS, "torch-tensorrt", "2.13.1"),
        (VERSIONS, "torch", "2.13.1"),
    ],
)
def test_another_gpu_or_library_is_a_miss_that_names_it(
    where: dict[str, str], field: str, value: str, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = where[field]
    opened()
    monkeypatch.setitem(where, field, value)
    assert opened().reason == f"differs from the nearest cached file in {field} was {before}, is {value}"
    assert len(builder.built) == 2


def test_the_whole_graph_is_in_the_key_call_arguments_too(builder: Builder) -> None:
    opened(None)
    assert opened(None).reason == ""
    assert "in graph was graph:" in opened(None, stride=2).reason
    assert len(builder.built) == 2


def test_a_damaged_engine_is_a_miss_and_built_again(builder: Builder) -> None:
    opened()
    (kept,) = cache.list_entries()
    kept.path.write_bytes(kept.path.read_bytes()[:-7])
    assert "damaged" in opened().reason
    cache.save(kept, b"not what TensorRT wrote")
    assert "cannot be opened" in opened().reason
    assert len(builder.built) == 3 and opened().reason == ""


def left_to_torch(compiled: torch.fx.GraphModule) -> None:
    (result,) = compiled.graph.output_node().args
    with compiled.graph.inserting_before(compiled.graph.output_node()):
        compiled.graph.output_node().args = (compiled.graph.call_function(torch.relu, (result,)),)
    compiled.recompile()


def two_engines(compiled: torch.fx.GraphModule) -> None:
    compiled.add_module("_run_on_acc_1", nn.ReLU())
    (result,) = compiled.graph.output_node().args
    with compiled.graph.inserting_before(compiled.graph.output_node()):
        compiled.graph.output_node().args = (compiled.graph.call_module("_run_on_acc_1", (result,)),)
    compiled.recompile()


def nothing_compiled(compiled: torch.fx.GraphModule) -> None:
    for node in compiled.graph.nodes:
        if node.op == "call_module":
            node.op, node.target = "call_function", torch.relu
    compiled.recompile()


@pytest.mark.parametrize(
    ("leave", "says"),
    [
        (left_to_torch, "relu.* left to torch"),
        (nothing_compiled, "left to torch"),
        (two_engines, "2 engines"),
    ],
)
def test_a_network_that_is_not_wholly_taken_is_refused(
    leave: Callable[[torch.fx.GraphModule], None], says: str, builder: Builder
) -> None:
    builder.leave = leave
    with pytest.raises(EngineError, match=f"did not take the whole network: .*{says}"):
        opened()
    assert cache.list_entries() == []


def test_a_compiler_that_fails_is_one_line_with_a_remedy(builder: Builder) -> None:
    def fails(_: torch.fx.GraphModule) -> None:
        raise AssertionError("require_full_compilation=True was specified, but model is not fully supported")

    builder.leave = fails
    with pytest.raises(EngineError, match="TensorRT cannot compile this network: require_full") as caught:
        opened()
    assert "eager" in caught.value.hint


def test_an_old_gpu_is_told_so(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MACHINE, "capability", "sm_61")
    with pytest.raises(engines.EngineUnavailable, match="from sm_75 on, this is sm_61"):
        opened()
    assert builder.built == []
