"""What every training here needs: schedules, an average of the weights, checkpoints, a log, a curve."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Log = Callable[[str], None]


def cosine(step: int, total: int, top: float, *, floor: float = 0.0, warm: int = 0) -> float:
    """Rate at `step` of `total`: a linear rise over `warm` steps, then half a cosine to `floor`."""
    if step < warm:
        return top * (step + 1) / warm
    share = min(1.0, (step - warm) / max(1, total - warm))
    return floor + (top - floor) * 0.5 * (1 + math.cos(math.pi * share))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this rate times its own `share` (1 where it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)


def relative_groups(module: nn.Module, *, share: float = 1.0) -> list[dict[str, Any]]:
    """Optimizer groups whose rates are shares of each tensor's own size (its root mean square).

    Folded norms leave tensors of very different sizes; one rate for all would wreck the small ones
    while the large ones stand still.
    """
    return [
        {"params": [p], "share": share * max(1e-2, float(p.detach().square().mean().sqrt()))}
        for p in module.parameters()
    ]


class Average:
    """Exponential moving average of a module's floating parameters and buffers.

    The decay rises with the count, min(decay, (1 + n) / (10 + n)), so that a short run is not
    dominated by its start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step towards the module's weights."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        for name, value in module.state_dict().items():
            mine = self.values[name]
            if mine.is_floating_point():
                mine.lerp_(value.detach(), 1 - decay)
            else:
                mine.copy_(value)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"count": self.count, "values": self.values}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.count = int(state["count"])
        self.values = dict(state["values"])


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint beside `path` and rename it, so that `path` is always whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    torch.save(dict(state), partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint, or None where there is none; only tensors and plain values are unpickled."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def recipe_text(recipe: Any) -> str:
    """A recipe (a dataclass) as its weights tell it: files by their names, not by where they lay."""
    told = {
        name: Path(value).name if isinstance(value, str | Path) and Path(value).is_absolute() else value
        for name, value in asdict(recipe).items()
    }
    return repr(told)


def write_weights(path: Path, module: nn.Module, metadata: Mapping[str, str]) -> Path:
    """Store a module's weights as safetensors, floats in half precision, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={key: str(value) for key, value in metadata.items()})
    partial.replace(path)
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, floats as float32."""
    tensors: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
            value = file.get_tensor(name)
            tensors[name] = value.float() if value.is_floating_point() else value
    return tensors


class Journal:
    """A log of JSON lines in the work folder, each with the wall time; also told to the caller."""

    def __init__(self, path: Path, log: Log) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._log = path, log

    def write(self, **values: Any) -> None:
        """Append one line; floats are rounded to five digits, those that are not a number left out."""
        values = {
            key: round(value, 5) if isinstance(value, float) else value
            for key, value in values.items()
            if not (isinstance(value, float) and math.isnan(value))
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 1), **values}) + "\n")
        self._log(" ".join(f"{key} {value}" for key, value in values.items()))

    def read(self) -> list[dict[str, Any]]:
        """All lines so far."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]


def draw_curve(journal: Journal, path: Path, *, x: str, names: tuple[str, ...]) -> None:
    """Save a picture of the named numbers over `x`; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=110)
    for name in names:
        points = [(line[x], line[name]) for line in journal.read() if x in line and name in line]
        if points:
            axes.plot([p[0] for p in points], [p[1] for p in points], marker=".", label=name)
    axes.set_xlabel(x)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
