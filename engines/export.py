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
