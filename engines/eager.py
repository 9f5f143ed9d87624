"""The network as torch runs it: the reference every other engine is measured against; always available."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from engines import hardware, threads
from engines.base import Run
from engines.export import flatten

TENSORS = True
_DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16}


def precisions(wanted: str) -> tuple[str, ...]:
    """Eager takes f32 unless told otherwise."""
    return ("f32",) if wanted == "auto" else (wanted,)


def torch_device() -> str:
    """The GPU where torch can use one."""
    return "cuda" if hardware.cuda_usable() else "cpu"


def wrap(module: nn.Module, precision: str, count: int = 0) -> Run:
    """Make a module in evaluation mode callable with tensors on its device; below f32 through autocast.

    `count` threads are given to torch; 0 leaves torch's number alone.
    """
    if count:
        threads.give_threads(count)
    device = torch_device()

    def run(inputs: Sequence[Any]) -> list[torch.Tensor]:
        lower = torch.autocast(device, _DTYPES.get(precision, torch.bfloat16), enabled=precision != "f32")
        with torch.no_grad(), lower:
            return flatten(module(*inputs))[0]

    return run
