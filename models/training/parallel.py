"""A step's views shared out among threads, each with a copy of the network on the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch import nn

Part = TypeVar("Part")
Result = TypeVar("Result")


class Workers(Generic[Part, Result]):
    """Runs one part of a step in each thread, one core a thread, and adds the gradients up.

    Threads that meet once a step lose less than threads that meet in every layer, above all where other
    programs take a share of the cores. `run(module, part)` does the forward and the backward pass.
    """

    def __init__(self, module: nn.Module, count: int, run: Callable[[nn.Module, Part], Result]) -> None:
        self._run = run
        self._modules = [module]
        for _ in range(count - 1):
            other = copy.deepcopy(module)
            for mine, theirs in zip(module.parameters(), other.parameters(), strict=True):
                theirs.data = mine.data
            self._modules.append(other)
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, parts: Sequence[Part]) -> list[Result]:
        """Results of the parts, one a thread; the module's gradients are the mean over the parts."""
        waiting = [
            self._pool.submit(self._run, module, part)
            for module, part in zip(self._modules, parts, strict=True)
        ]
        results = [future.result() for future in waiting]
        first = self._modules[0]
        for other in self._modules[1:]:
            for mine, theirs in zip(first.parameters(), other.parameters(), strict=True):
                if theirs.grad is not None:
                    mine.grad = theirs.grad if mine.grad is None else mine.grad.add_(theirs.grad)
                    theirs.grad = None
        for mine in first.parameters():
            if mine.grad is not None and len(parts) > 1:
                mine.grad.div_(len(parts))
        return results
