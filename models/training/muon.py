"""Muon: momentum whose matrices are made orthogonal, the others by Adam.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024): the momentum of each
weight matrix is replaced by the nearest orthogonal one, found by five Newton-Schulz steps of an odd
polynomial of the fifth degree. Every direction of a matrix then moves alike, which serves regression on
features whose variances differ much: the pointwise convolutions here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_STEPS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix: Tensor) -> Tensor:
    """The (rows, columns) matrix with nearly all its singular values brought near 1."""
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-12)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = x.T if tall else x
    return out


def muon_groups(module: nn.Module, *, share: float = 1.0) -> list[dict[str, Any]]:
    """One group a tensor, its rate a share of the tensor's root mean square; dense matrices are marked."""
    groups: list[dict[str, Any]] = []
    for part in module.modules():
        dense = isinstance(part, nn.Conv2d) and part.groups == 1
        for name, p in part.named_parameters(recurse=False):
            size = max(1e-2, float(p.detach().square().mean().sqrt()))
            matrix = dense and name == "weight" and min(p.shape[0], p[0].numel()) >= 8
            groups.append({"params": [p], "share": share * size, "matrix": matrix})
    return groups


class Muon(torch.optim.Optimizer):
    """Muon for groups marked `matrix`, Adam for the others; a step has about the size `lr` either way."""

    def __init__(
        self, groups: list[dict[str, Any]], lr: float = 1e-3, *, momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98), weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay,
            "matrix": False,
        }  # fmt: skip
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step with the gradients that are there."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["mean"] = torch.zeros_like(p)
                    state["step"] = 0
                    if not group["matrix"]:
                        state["square"] = torch.zeros_like(p)
                state["step"] += 1
                if group["matrix"]:
                    mean = state["mean"].mul_(group["momentum"]).add_(p.grad)
                    ahead = p.grad.add(mean, alpha=group["momentum"]).reshape(p.shape[0], -1)
                    move = orthogonal(ahead).reshape(p.shape)
                    size = max(ahead.shape) ** 0.5
                    p.add_(move, alpha=-group["lr"] * size)
                    continue
                first, second = group["betas"]
                mean = state["mean"].lerp_(p.grad, 1 - first)
                square = state["square"].lerp_(p.grad.square(), 1 - second)
                mean = mean / (1 - first ** state["step"])
                root = (square / (1 - second ** state["step"])).sqrt_().add_(1e-8)
                p.addcdiv_(mean, root, value=-group["lr"])
