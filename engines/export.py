"""From a module to an exported graph, and what identifies that graph. Imports torch."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from engines.base import USE_EAGER, EngineError, first_line


def export_program(module: nn.Module, inputs: Sequence[torch.Tensor]) -> ExportedProgram:
    """Export a module in evaluation mode for exactly these shapes; raises `EngineError`."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations, nothing a user can act on
            return torch.export.export(module, tuple(inputs))
    except Exception as error:  # export raises dozens of unrelated types
        name = type(module).__name__
        raise EngineError(f"{name} cannot be exported: {first_line(error)}", hint=USE_EAGER) from error


def lower_precision(program: ExportedProgram, precision: str, place: str) -> ExportedProgram:
    """The same graph with torch's autocast to "f16" or "bf16" written into it as casts; "f32" is as it was.

    Convolutions and products of matrices take half precision, what does not bear it (powers, norms,
    soft-max) stays in f32, by torch's own lists for the device `place`. Every type is then said in the
    graph, as a strongly typed compiler wants it. Raises `EngineError`.
    """
    if precision == "f32":
        return program
    if program.example_inputs is None:
        raise EngineError("the exported graph has lost its example inputs", hint=USE_EAGER)
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16}[precision]
    # Autocast does not reach into an einsum that is traced again: its products are made visible first.
    einsum = torch.ops.aten.einsum.default
    if any(node.target is einsum for node in program.graph.nodes):
        rules = {einsum: torch.export.default_decompositions()[einsum]}
        inner = program.run_decompositions(rules).module()
    else:
        inner = program.module()

    class Lowered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *inputs: torch.Tensor) -> Any:
            with torch.autocast(place, dtype):
                return self.inner(*inputs)

    # Export keeps the autocast region as one node; tracing again with no decomposition dissolves it.
    lowered: ExportedProgram = export_program(Lowered(), program.example_inputs[0]).run_decompositions({})
    return lowered


def program_digest(program: ExportedProgram) -> str:
    """The digest of a graph with every call's arguments, of its weights, buffers and constants.

    Call arguments matter: two convolutions that differ only in stride have the same operators and weights.
    """
    total = hashlib.sha256()
    for name, graph_module in program.graph_module.named_modules():
        if not isinstance(graph_module, torch.fx.GraphModule):
            continue
        total.update(f"graph {name}\n".encode())
        for node in graph_module.graph.nodes:
            total.update(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs}\n".encode())
    for kind, values in (("state", program.state_dict), ("constant", program.constants)):
        for name, value in sorted(values.items()):
            total.update(f"{kind} {name}\n".encode())
            if isinstance(value, torch.Tensor):
                total.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
                flat = value.detach().cpu().contiguous().reshape(-1)
                total.update(flat.view(torch.uint8).numpy().tobytes())
            else:
                total.update(repr(value).encode())
    return f"graph:{total.hexdigest()}"


def flatten(output: Any) -> tuple[list[torch.Tensor], bool]:
    """A module's output as a list of tensors, and whether it was one bare tensor; raises `EngineError`."""
    if isinstance(output, torch.Tensor):
        return [output], True
    if isinstance(output, tuple | list) and all(isinstance(part, torch.Tensor) for part in output):
        return list(output), False
    raise EngineError(f"a module must return a tensor or a flat tuple of them, not {type(output).__name__}")
