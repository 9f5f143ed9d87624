"""Does TensorRT take every node of our networks? python -m benchmarks.converters PACKAGE [--json FILE]

PACKAGE is the folder `torch_tensorrt` of an unpacked wheel; neither TensorRT nor a GPU is needed. Each
network that the program ships is exported, lowered to f32, f16 and bf16 as `engines.tensorrt` does, put
through torch-tensorrt's own decompositions and lowering passes, and every node is looked up in its registry,
which asks the converter whether it accepts the node. The JSON also holds the names that the registry has, so
that a test can look networks up without the package.

This proves that no node lacks a converter. It does not prove that a converter is right, that TensorRT builds
the engine, or how fast it is.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import engines
from benchmarks.standins import import_torch_tensorrt
from configs.schema import load_config
from engines.base import PRECISIONS
from engines.export import export_program, lower_precision
from stream.networks import every_network

import torch  # isort: skip - engines comes first: it sets what torch's OpenMP reads once

SIZE = (1280, 720)
HERE = Path(__file__).with_suffix(".json")


def name_of(target: Any) -> str:
    """A node's target as the lists name it: aten.add.Tensor, operator.getitem."""
    if isinstance(target, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return str(target)
    return f"{'operator' if 'operator' in target.__module__ else target.__module__}.{target.__name__}"


def lacking(program: torch.export.ExportedProgram) -> tuple[int, list[str]]:
    """How many nodes torch-tensorrt is left with, and which no converter takes; it has to be imported."""
    from torch_tensorrt.dynamo._settings import CompilationSettings
    from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS
    from torch_tensorrt.dynamo.lowering import get_decompositions, post_lowering, pre_export_lowering

    settings = CompilationSettings(min_block_size=1, require_full_compilation=True)
    program = pre_export_lowering(program, settings)
    module = post_lowering(program.run_decompositions(get_decompositions()).module(), settings)
    DYNAMO_CONVERTERS.set_compilation_settings(settings)
    # torch-tensorrt's partitioner counts the nodes that compute, and so is this.
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    strange = [node for node in module.graph.nodes if node.op in ("call_module", "call_method")]
    wrong = [name_of(node.target) for node in nodes if node not in DYNAMO_CONVERTERS]
    guards = [node.target for node in strange if node.target == "_guards_fn"]
    return len(nodes), sorted(wrong + [str(node.target) for node in strange if node.target not in guards])


def registry() -> dict[str, list[str]]:
    """The names that the imported torch-tensorrt converts, decomposes by torch's rules, and by its own."""
    from torch_tensorrt.dynamo.conversion._ConverterRegistry import DYNAMO_ATEN_CONVERTERS
    from torch_tensorrt.dynamo.lowering import get_decompositions
    from torch_tensorrt.dynamo.lowering._decompositions import TORCH_TRT_DECOMPOSITIONS

    own = set(TORCH_TRT_DECOMPOSITIONS)
    allocating = [
        target for target, ways in DYNAMO_ATEN_CONVERTERS.items() if ways[0].requires_output_allocator
    ]
    return {
        "converters": sorted(map(name_of, DYNAMO_ATEN_CONVERTERS)),
        "data_dependent": sorted(map(name_of, allocating)),
        "decomposed": sorted(name_of(target) for target in get_decompositions() if target not in own),
        "decomposed_by_itself": sorted(name_of(target) for target in get_decompositions() if target in own),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path)
    parser.add_argument("--json", type=Path, default=HERE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        trt = import_torch_tensorrt(given.package, Path(folder))
        found: dict[str, Any] = {"torch_tensorrt": re.sub(r"\+.*", "", trt.__version__), **registry()}
        for name, function in (("compile", trt.dynamo.compile), ("save", trt.save)):
            found[f"{name}_parameters"] = list(inspect.signature(function).parameters)
        found["networks"] = []
        for spec in every_network(load_config(), [SIZE]):
            inputs = [
                torch.from_numpy(i) for i in engines.example_inputs(spec.channels, spec.height, spec.width)
            ]
            for precision in PRECISIONS:
                program = lower_precision(export_program(spec.build(), inputs), precision, "cpu")
                nodes, wrong = lacking(program)
                record = {"network": spec.label, "precision": precision, "nodes": nodes, "lacking": wrong}
                found["networks"].append(record)
                print(
                    f"{spec.label:30} {precision:5} {nodes:5} nodes, without a converter: {wrong}", flush=True
                )
    given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
