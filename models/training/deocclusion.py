"""Train the de-occlusion network: masks first, then colours, on things put before each other by us."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.deocclusion import GRID, TEMPLATES, Deocclusion, build_deocclusion

from .loop import (
    Average,
    Journal,
    cosine,
    draw_curve,
    load_checkpoint,
    read_weights,
    recipe_text,
    save_checkpoint,
    set_rate,
    write_weights,
)
from .muon import Muon, muon_groups
from .occlusions import Sample, Whole, by_kind, draw_sample, is_held, read_wholes


@dataclass(frozen=True)
class Recipe:
    """How the committed weights were made; every field may be set from the command line."""

    seed: int = 20200618  # of every random draw
    mask_steps: int = 4200  # steps of the two stages that complete masks
    colour_steps: int = 1600  # steps of the colours, the masks as they are, frozen
    mask_batch: int = 32  # squares a step; each is shown twice, the second time mirrored
    colour_batch: int = 16
    rate: float = 4e-3  # Muon's for the masks, a share of each tensor's size; warm-up, then a cosine
    colour_rate: float = 6e-4  # AdamW's for the colours
    decay: float = 0.02  # of the colours' weights
    average: float = 0.998  # decay of the weights' moving average, which is what gets stored
    uncovered: float = 0.3  # share of squares in which the thing is in front and must stay as it is
    overlap: float = 0.5  # largest share of a thing's box that another thing's box may cover
    prior: int = 2500  # squares the templates are made from
    held: float = 0.2  # share of photographs kept for scoring
    half: bool = True  # bfloat16 where the processor has it
    start: str = ""  # weights file to begin with; "": at random
    probes: int = 192  # held squares that are scored at every checkpoint
    save_every: int = 100  # steps


@dataclass(frozen=True)
class Batch:
    """Network inputs and the truth, (B, ., S, S) float32; hidden (B, 1)."""

    image: Tensor
    modal: Tensor
    front: Tensor
    visible: Tensor
    amodal: Tensor
    truth: Tensor
    hidden: Tensor


def stack(samples: Sequence[Sample]) -> Batch:
    """Samples as one batch."""

    def planes(name: str) -> Tensor:
        found = np.stack([getattr(each, name) for each in samples])
        return torch.from_numpy(found)[:, None].float()

    def pictures(name: str) -> Tensor:
        found = np.stack([getattr(each, name) for each in samples])
        return torch.from_numpy(found).permute(0, 3, 1, 2).float() / 255

    return Batch(
        pictures("rgb"),
        planes("modal"),
        planes("front"),
        planes("visible"),
        planes("amodal"),
        pictures("truth"),
        torch.tensor([[float(each.hidden)] for each in samples]),
    )


def mirrored(batch: Batch) -> Batch:
    """The same, left and right exchanged."""
    turned = {name: value.flip(3) if value.ndim == 4 else value for name, value in batch.__dict__.items()}
    return Batch(**turned)


def templates(samples: Sequence[Sample], seed: int) -> Tensor:
    """k-means of whole masks as they lie in their squares, (TEMPLATES, GRID, GRID) in [0, 1]."""
    rows = np.stack(
        [
            cv2.resize(each.amodal.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA).reshape(-1)
            for each in samples
        ]
    )
    cv2.setRNGSeed(seed)
    rule = cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 25, 1e-3
    _, _, centres = cv2.kmeans(rows, TEMPLATES, np.empty(0, np.int32), rule, 1, cv2.KMEANS_PP_CENTERS)
    return torch.from_numpy(np.asarray(centres, np.float32)).reshape(TEMPLATES, GRID, GRID)


def mask_losses(net: Deocclusion, batch: Batch) -> dict[str, Tensor]:
    """The weighted terms of both mask stages and of the order; their sum is minimised."""
    refined, amodal, hidden, _ = net.masks(batch.image, batch.modal, batch.front)
    refined, amodal, hidden = refined.float(), amodal.float(), hidden.float()
    # What may be hidden counts more than what is plainly seen.
    weight = 0.5 + 2 * F.max_pool2d(batch.front, 9, 1, 4)
    chance = torch.sigmoid(amodal)
    entropy = F.binary_cross_entropy_with_logits
    # The hidden part alone: of the whole, what is seen anyway is most.
    part = F.max_pool2d(batch.front, 5, 1, 2) * (1 - batch.visible)
    missed = dice(chance * part, batch.amodal * part) * batch.hidden[:, 0]
    return {
        "refined": 0.7 * entropy(refined, batch.visible),
        "edge": 0.3 * dice(torch.sigmoid(refined), batch.visible).mean(),
        "amodal": entropy(amodal, batch.amodal, weight=weight),
        "dice": 0.5 * dice(chance, batch.amodal).mean(),
        "part": 0.3 * missed.mean(),
        "hidden": 0.15 * entropy(hidden, batch.hidden),
    }


def dice(found: Tensor, truth: Tensor) -> Tensor:
    """One minus the Dice overlap of each pair of soft masks, (B, 1, S, S) to (B,)."""
    common = (found * truth).sum((1, 2, 3))
    return 1 - (2 * common + 20) / (found.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + 20)


def colour_losses(net: Deocclusion, batch: Batch) -> dict[str, Tensor]:
    """How far the colours of the hidden part are from the truth, pixels and their differences."""
    with torch.no_grad():
        refined, amodal, _, features = net.masks(batch.image, batch.modal, batch.front)
        known = batch.modal * (refined > 0).float()
        known = 1 - F.max_pool2d(1 - known, 3, 1, 1)
    picture = net.colours(batch.image, known, torch.sigmoid(amodal), features).float()
    place = batch.amodal * (1 - known)
    area = place.sum((1, 2, 3)).clamp(min=64)
    error = (picture - batch.truth) * place
    terms = {"colour": (error.abs().mean(1).sum((1, 2)) / area).mean()}
    slope = torch.zeros(())
    for _ in range(3):
        across = (error[:, :, :, 1:] - error[:, :, :, :-1]).abs().mean(1).sum((1, 2)) / area
        down = (error[:, :, 1:] - error[:, :, :-1]).abs().mean(1).sum((1, 2)) / area
        slope = slope + (across + down).mean()
        error, area = F.avg_pool2d(error, 2), area / 4
    terms["gradient"] = 0.1 * slope
    return terms


def train(data: Path, work: Path, recipe: Recipe, *, log: Callable[[str], None]) -> Path:
    """Train, or go on training, in `work`; returns the path of the weights."""
    journal = Journal(work / "journal.jsonl", log)
    wholes = read_wholes(data, lambda key: not is_held(key, recipe.held), overlap=recipe.overlap)
    others = _held(data, recipe)
    journal.write(things=len(wholes), held=len(others))
    kinds = by_kind(wholes)
    torch.manual_seed(recipe.seed)
    net = build_deocclusion()
    if recipe.start:
        net.load_state_dict(read_weights(Path(recipe.start)))
    else:
        random = np.random.default_rng(recipe.seed)
        net.masks.templates.copy_(
            templates([draw_sample(wholes, kinds, random) for _ in range(recipe.prior)], recipe.seed)
        )
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    probe = probe_batch(others, recipe.probes) if others else None
    average = Average(net, recipe.average)
    total, step = recipe.mask_steps + recipe.colour_steps, 0
    if (saved := load_checkpoint(work / "checkpoint.pt")) is not None:
        net.load_state_dict(saved["net"])
        average.restore(saved["average"])
        step = int(saved["step"])
        journal.write(resumed=step)
    optimizer = _optimizer(net, recipe, step)
    if saved is not None and step != recipe.mask_steps:
        optimizer.load_state_dict(saved["optimizer"])
    sums: dict[str, float] = {}
    waiting: list[Batch] = []
    while step < total:
        masks = step < recipe.mask_steps
        if step == recipe.mask_steps:
            # From here on the masks are what will be stored: the colours see their features.
            net.load_state_dict(average.values)
            optimizer = _optimizer(net, recipe, step)
        net.masks.requires_grad_(masks)
        if not waiting:
            # Drawn by the step, so that a run that was interrupted sees what one that was not would see.
            random = np.random.default_rng([recipe.seed, step])
            count = recipe.mask_batch if masks else recipe.colour_batch
            uncovered = recipe.uncovered if masks else 0.0
            batch = stack([draw_sample(wholes, kinds, random, uncovered=uncovered) for _ in range(count)])
            waiting = [mirrored(batch), batch]
        batch = waiting.pop()
        steps, place = (recipe.mask_steps, step) if masks else (recipe.colour_steps, step - recipe.mask_steps)
        top = recipe.rate if masks else recipe.colour_rate
        set_rate(optimizer, cosine(place, steps, top, floor=top / 50, warm=min(100, steps // 10)))
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
            terms = (mask_losses if masks else colour_losses)(net, batch)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        step += 1
        if step % recipe.save_every == 0 or step == total:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "average": average.state()}
            save_checkpoint(work / "checkpoint.pt", {**state, "step": step})
            scores = score(average, probe) if probe is not None else {}
            journal.write(step=step, **{k: v / recipe.save_every for k, v in sums.items()}, **scores)
            sums = {}
            _store(average, work, recipe)
    if probe is not None:
        with contextlib.suppress(ImportError):  # matplotlib comes with the extra for training
            draw_curve(journal, work / "curve.png", x="step", names=("amodal_iou", "hidden_iou", "order"))
    return _store(average, work, recipe)


def _optimizer(net: Deocclusion, recipe: Recipe, step: int) -> torch.optim.Optimizer:
    """Muon for the masks, then AdamW for the colours."""
    if step < recipe.mask_steps:
        return Muon(muon_groups(net.masks), lr=recipe.rate)
    return torch.optim.AdamW(net.colours.parameters(), lr=recipe.colour_rate, weight_decay=recipe.decay)


def _store(average: Average, work: Path, recipe: Recipe) -> Path:
    final = build_deocclusion()
    final.load_state_dict(average.values)
    return write_weights(
        work / "deocclusion-compact.safetensors",
        final,
        {"model": "deocclusion", "variant": "compact", "recipe": recipe_text(recipe)},
    )


def _held(data: Path, recipe: Recipe) -> list[Whole]:
    """The things that are only scored; none where too few are kept to put one before another."""
    try:
        return read_wholes(data, lambda key: is_held(key, recipe.held))
    except ValueError:
        return []


def probe_batch(wholes: Sequence[Whole], count: int) -> Batch:
    """Fixed squares of things that are not trained on."""
    random = np.random.default_rng(1)
    kinds = by_kind(wholes)
    return stack([draw_sample(wholes, kinds, random, covered=(0.1, 0.6)) for _ in range(count)])


def score(average: Average, batch: Batch) -> dict[str, float]:
    """Overlap of the whole masks and of the hidden parts, share of right orders, l1 of hidden colours."""
    net = build_deocclusion()
    net.load_state_dict(average.values)
    net.eval()
    with torch.no_grad():
        parts = [
            net(batch.image[k : k + 32], batch.modal[k : k + 32], batch.front[k : k + 32])
            for k in range(0, len(batch.image), 32)
        ]
    refined, amodal, hidden, picture = (torch.cat([part[k] for part in parts]) for k in range(4))
    found = ((batch.modal > 0) & (refined > 0)) | ((amodal > 0) & (batch.front + batch.modal > 0))
    covered = batch.hidden[:, 0] > 0
    truth = batch.amodal > 0
    inside = truth & (batch.visible == 0) & covered[:, None, None, None]
    guess = found & (batch.modal == 0)
    error = (picture - batch.truth).abs().mean(1, keepdim=True)
    return {
        "amodal_iou": float(overlap(found, truth)[covered].mean()),
        "hidden_iou": float(overlap(guess, inside)[covered].mean()),
        "kept_iou": float(overlap(found, truth)[~covered].mean()),
        "refined_iou": float(overlap(refined > 0, batch.visible > 0).mean()),
        "modal_iou": float(overlap(batch.modal > 0, truth)[covered].mean()),
        "order": float(((hidden[:, 0] > 0) == covered).float().mean()),
        "colour_l1": float(error[inside].mean()),
    }


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of each pair of boolean masks, (B, 1, S, S) to (B,)."""
    common = (first & second).sum((1, 2, 3)).float()
    return common / (first | second).sum((1, 2, 3)).clamp(min=1)
