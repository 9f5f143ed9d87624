"""The stuff classifier's first stage: a trunk that tells surfaces apart, by a teacher."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.stuff import SIDE, SURFACES, StuffClassifier, pooled_size

from .loop import (
    Average,
    Journal,
    cosine,
    draw_curve,
    load_checkpoint,
    relative_groups,
    save_checkpoint,
    set_rate,
)
from .stuff_pictures import THINGS, Window, as_tensor, draw_window, view
from .stuff_recipe import Recipe
from .surfaces import SURFACE_NAMES

_SCORED = 64


class Learner(nn.Module):
    """The network with what only its training needs: things from the pooled features."""

    def __init__(self, network: StuffClassifier) -> None:
        super().__init__()
        self.network = network
        inputs = pooled_size(network.trunk.channels)
        self.things = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, THINGS))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """RGB (B, 3, 128, 128) to logits of surfaces (B, 32, 16, 16) and of things (B, 80)."""
        low, middle, high = self.network.features(image)
        return self.network.surfaces(middle, high), self.things(self.network.gather(low, middle, high))


def learn_surfaces(
    network: StuffClassifier,
    images: npt.NDArray[np.uint8],
    grids: npt.NDArray[np.uint8],
    things: npt.NDArray[np.float32],
    held: npt.NDArray[np.bool_],
    work: Path,
    recipe: Recipe,
    journal: Journal,
) -> None:
    """Teach the trunk in place; the moving average of the weights is what it ends with.

    `images` (N, 176, 176, 3) uint8; `grids` (N, 32, 32, 32) the teacher's answers; `things` (N, 80), -1 where
    unknown. Of the `held` (N) 64 are only scored. Runs on a GPU where torch sees one, there in bfloat16. The
    paper's trunk has batch norms and is as large as the teacher is small: there only `surfaces` learn.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner = Learner(network).to(device)
    average = Average(learner, 0.999)
    optimizer = _optimizer(learner, recipe)
    kept = work / "surfaces.pt"
    state = load_checkpoint(kept)
    first = 0
    if state is not None:
        first = int(state["step"])
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        values = {name: value.to(device) for name, value in state["average"]["values"].items()}
        average.restore({**state["average"], "values": values})
    choices = np.nonzero(~held)[0]
    aside = np.nonzero(held)[0][:_SCORED]
    spent: list[tuple[float, float]] = []
    for step in range(first, recipe.steps):
        learner.train()
        network.trunk.eval()
        random = np.random.default_rng((recipe.seed, step))
        rows = random.choice(choices, recipe.pictures)
        batch, target = (each.to(device) for each in _batch(images, grids, rows, random))
        set_rate(optimizer, cosine(step, recipe.steps, 1.0, warm=min(100, recipe.steps // 10)))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            made_of, seen = learner(batch)
        surface_loss = F.cross_entropy(made_of.float(), target)
        things_loss = _things_loss(seen.float(), torch.from_numpy(things[rows]).to(device))
        optimizer.zero_grad()
        (surface_loss + recipe.things_weight * things_loss).backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
        optimizer.step()
        average.update(learner)
        spent.append((float(surface_loss.detach()), float(things_loss.detach())))
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            mean = np.mean(spent, 0)
            scored = _score(learner, average, images, grids, aside, device)
            journal.write(step=step + 1, surfaces=float(mean[0]), things=float(mean[1]), held=scored)
            spent = []
            made = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(kept, {**made, "average": average.state(), "step": step + 1})
            with contextlib.suppress(ImportError):  # matplotlib comes with the extra for training
                draw_curve(journal, work / "curve.png", x="step", names=("surfaces", "held"))
    learner.load_state_dict(average.values)
    network.cpu().eval()


def _optimizer(learner: Learner, recipe: Recipe) -> torch.optim.Optimizer:
    frozen = recipe.variant == "paper"
    trunk = learner.network.trunk
    own = [p for name, p in learner.named_parameters() if ".trunk." not in name and ".head." not in name]
    for parameter in trunk.parameters():
        parameter.requires_grad_(not frozen)
    groups: list[dict[str, Any]] = [{"params": own, "share": recipe.surface_rate}]
    if not frozen:
        groups += relative_groups(trunk, share=recipe.trunk_rate)
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), weight_decay=1e-4)


def _things_loss(seen: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy of the pictures whose things are known, ten times the mean."""
    rows = known[:, 0] >= 0
    if not bool(rows.any()):
        return torch.zeros((), device=seen.device)
    return F.binary_cross_entropy_with_logits(seen[rows], known[rows]) * 10


@torch.no_grad()
def _score(
    learner: Learner,
    average: Average,
    images: npt.NDArray[np.uint8],
    grids: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    device: torch.device,
) -> float:
    """Loss on surfaces of the averaged weights on whole held pictures; not a number where none are held."""
    if not len(rows):
        return math.nan
    present = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.load_state_dict(average.values)
    learner.eval()
    batch, target = (each.to(device) for each in _batch(images, grids, rows, None))
    loss = float(F.cross_entropy(learner(batch)[0].float(), target))
    learner.load_state_dict(present)
    return loss


def _batch(
    images: npt.NDArray[np.uint8],
    grids: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    random: np.random.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Random views (B, 3, 128, 128), or whole pictures, and what the teacher says of them (B, 32, 16, 16)."""
    views, targets = [], []
    for row in rows:
        window = Window() if random is None else draw_window(random, 0.5)
        views.append(view(images[row], window, random))
        cells = torch.from_numpy(np.ascontiguousarray(window.cut(grids[row]))).permute(2, 0, 1)[None].float()
        targets.append(F.interpolate(cells, size=(SIDE // 8, SIDE // 8), mode="area"))
    target = torch.cat(targets)
    assert target.shape[1] == SURFACES == len(SURFACE_NAMES)
    return as_tensor(views), target / target.sum(1, keepdim=True)
