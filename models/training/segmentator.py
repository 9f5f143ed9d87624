"""The segmentator's training, from random weights to the stored file.

Stages of the compact variant: (1) a cache of crops with the teacher's features at its joints,
(2) every block by itself, (3) the walk, (4) all blocks together on the teacher's features,
(5) decoder, 81 classes, centres and offsets with the trunk frozen, (6) everything together, the
teacher on all cells beside the labels. The paper variant starts at (5) with a public trunk.
Each stage leaves a file in the work folder and is not repeated.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..segmentator import (
    CompactTrunk,
    Segmentator,
    Variant,
    build_segmentator,
    fold_norms,
)
from ..torchvision import load_torchvision, read_state_dict
from .data import Collection, Picture, read_collection
from .loop import (
    Average,
    Journal,
    Log,
    cosine,
    draw_curve,
    load_checkpoint,
    read_weights,
    relative_groups,
    save_checkpoint,
    set_rate,
    write_weights,
)
from .losses import Batch, Weights, total_loss
from .mimicry import Scorer, fill_cache, freeze_norms, spread, train_blocks
from .scores import predictor, score_pictures
from .teacher import DeeplabTeacher
from .views import View, ViewMaker, read_cutouts
from .walk import settle, walk

FEATURE_TAPS = (2, 5, 9, 12, 16)
"""Teacher taps (units 3, 6, 10, 13, 17) that the trunk's blocks 1, 4, 8, 11 and 15 are held to."""


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run.

    variant: "compact" or "paper". teacher: file in DATA/teachers, "" for labels alone.
    start: a .safetensors file of a former run; stages 1 to 5 are then left out.
    trunk: for the paper variant, a public state dict of torchvision's: the name of a fetched one
    (`deeplabv3_resnet101_coco-586e9e4e`, `resnet101-cd907fc2`) or a file, see `models.torchvision`.
    seed: of everything random. side: pixels of a square crop, a multiple of 32.
    crops: cached for stages 1 to 4. effort: factor on the steps of stage 2.
    walk_crops, walk_steps: of stage 3, for each block.
    settle_steps, settle_rate: stage 4. heads_steps, heads_rate: stage 5.
    joint_steps, joint_rate: stage 6. joint_heads_rate: there for what lies behind the trunk, while it
    still has norms; without them (`start`) it is `heads_share` times the trunk's rate.
    settle_rate and joint_rate are relative to the size of each tensor.
    batch: views a step. features: weight of the teacher's features at the start of stage 6.
    longest: largest longer side a picture is scaled to. pasted, mosaic: share of such views.
    score_every, save_every, log_every: steps between scores, checkpoints and log lines.
    score_pictures: set-aside pictures of each kind scored on the way; all are at the end.
    score_sizes: longer sides scored at the end; the first of them on the way.
    threads: of torch and of the block jobs; 0 takes all cores.
    """

    variant: Variant = "compact"
    teacher: str = "deeplab_voc_mnv2_513_uint8.tflite"
    start: str = ""
    trunk: str = ""
    seed: int = 1
    side: int = 256
    crops: int = 4000
    effort: float = 2.0
    walk_crops: int = 400
    walk_steps: int = 500
    settle_steps: int = 1500
    settle_rate: float = 3e-4
    heads_steps: int = 600
    heads_rate: float = 2e-3
    joint_steps: int = 4000
    joint_rate: float = 2e-4
    joint_heads_rate: float = 1e-3
    heads_share: float = 4.0
    batch: int = 8
    features: float = 1.0
    longest: int = 640
    pasted: float = 0.45
    mosaic: float = 0.15
    score_every: int = 250
    save_every: int = 50
    log_every: int = 25
    score_pictures: int = 40
    score_sizes: tuple[int, ...] = (385, 513)
    threads: int = 2


GROUP_SHARES: dict[str, float] = {
    "full": 0.3, "partial": 0.43, "selfie": 0.06, "fashion": 0.05, "web": 0.03, "camvid": 0.13,
}  # fmt: skip
"""How often a view is of a picture of each kind; kinds the data lack are left out."""


def train(data: Path, work: Path, recipe: Recipe, *, log: Log) -> Path:
    """Train, or go on training, in `work`; returns the written .safetensors file.

    Raises ValueError when `data` holds no pictures or a file named in the recipe is not there.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    threads = recipe.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    journal = Journal(work / "journal.jsonl", log)
    collection = read_collection(data)
    teacher = _teacher(data, recipe, device)
    network = _first_network(data, work, recipe, collection, journal)
    maker = _view_maker(data, collection, recipe)
    run = _Run(work, recipe, maker, teacher, device, journal, collection)
    if not recipe.start and not (work / "joint.pt").is_file():
        network = run.stage("heads", network)
    torch.set_num_threads(threads)
    network = run.stage("joint", network)
    if recipe.variant == "compact":
        fold_norms(network)
    scores = run.score(network, full=True)
    described = {name: f"{value:.4f}" for name, value in scores.items()}
    metadata = {
        "model": "segmentator",
        "variant": recipe.variant,
        "recipe": repr(asdict(recipe)),
        **described,
    }
    return write_weights(work / f"segmentator-{recipe.variant}.safetensors", network, metadata)


def _teacher(data: Path, recipe: Recipe, device: torch.device) -> DeeplabTeacher | None:
    if not recipe.teacher:
        return None
    path = data / "teachers" / recipe.teacher
    if not path.is_file():
        raise ValueError(f"no teacher {path}: fetch it or set teacher= to train on labels alone")
    return DeeplabTeacher(path, device)


def _first_network(
    data: Path, work: Path, recipe: Recipe, collection: Collection, journal: Journal
) -> Segmentator:
    """The network as stage 5 (or, with `start` or a checkpoint, stage 6) finds it."""
    if recipe.start:
        network = build_segmentator(variant=recipe.variant)
        network.load_state_dict(read_weights(Path(recipe.start)))
        return network
    if recipe.variant == "paper":
        network = build_segmentator(variant="paper")
        if recipe.trunk:
            load_torchvision(network, read_state_dict(recipe.trunk))
        return network
    network = build_segmentator(variant="compact", norm=True)
    fold_norms(network.aspp)
    fold_norms(network.trunk)
    if (work / "joint.pt").is_file():
        return network
    done = load_checkpoint(work / "trunk.pt")
    if done is not None:
        network.trunk.load_state_dict(done["trunk"])
        network.aspp.load_state_dict(done["aspp"])
        return network
    if recipe.teacher:
        trunk, scorer = _mimic(data, work, recipe, collection, journal)
        network.trunk.load_state_dict(trunk.state_dict())
        network.aspp.load_state_dict(scorer.aspp.state_dict())
        state = {"trunk": trunk.state_dict(), "aspp": scorer.aspp.state_dict()}
        save_checkpoint(work / "trunk.pt", state)
    return network


def _mimic(
    data: Path, work: Path, recipe: Recipe, collection: Collection, journal: Journal
) -> tuple[CompactTrunk, Scorer]:
    """Stages 1 to 4: a folded trunk and pyramid that give the teacher's features and classes."""
    threads = torch.get_num_threads()
    student = build_segmentator(variant="compact", norm=True)
    trunk = student.trunk
    assert isinstance(trunk, CompactTrunk)
    scorer = Scorer(student.aspp, 160)
    teacher = DeeplabTeacher(data / "teachers" / recipe.teacher)
    torch.set_num_threads(1)  # the jobs below run side by side instead
    cache = fill_cache(
        work / "cache", teacher, collection.training,
        count=recipe.crops, side=recipe.side, seed=recipe.seed, workers=threads,
    )  # fmt: skip
    train_blocks(
        trunk, scorer, cache, work / "blocks",
        effort=recipe.effort, seed=recipe.seed, workers=threads, journal=journal,
    )  # fmt: skip
    torch.set_num_threads(threads)
    walk(
        trunk, cache, work / "blocks", crops=recipe.walk_crops, steps=recipe.walk_steps,
        seed=recipe.seed, journal=journal,
    )  # fmt: skip
    fold_norms(trunk)
    fold_norms(scorer)
    settle(
        trunk, scorer, cache, steps=recipe.settle_steps, batch=recipe.batch,
        rate=recipe.settle_rate, seed=recipe.seed, journal=journal, checkpoint=work / "settle.pt",
    )  # fmt: skip
    return trunk, scorer


def _view_maker(data: Path, collection: Collection, recipe: Recipe) -> ViewMaker:
    groups: list[tuple[float, tuple[Picture, ...]]] = []
    for kind, share in GROUP_SHARES.items():
        members = tuple(p for p in collection.training if p.kind == kind)
        if members:
            groups.append((share, members))
    hidden = (*collection.held_coco, *collection.held_people)
    cutouts = read_cutouts(data / "cutouts", collection.training, hidden)
    return ViewMaker(
        tuple(groups), tuple(cutouts), recipe.side, (min(200, recipe.longest), recipe.longest),
        recipe.pasted, recipe.mosaic,
    )  # fmt: skip


class _Run:
    """Stages 5 and 6: what they share, and one loop for both."""

    def __init__(
        self, work: Path, recipe: Recipe, maker: ViewMaker, teacher: DeeplabTeacher | None,
        device: torch.device, journal: Journal, collection: Collection,
    ) -> None:  # fmt: skip
        self.work, self.recipe, self.maker, self.teacher = work, recipe, maker, teacher
        self.device, self.journal, self.collection = device, journal, collection

    def stage(self, name: str, network: Segmentator) -> Segmentator:
        """Run or resume one stage; returns the network with its averaged weights."""
        recipe = self.recipe
        heads = name == "heads"
        steps = recipe.heads_steps if heads else recipe.joint_steps
        top = recipe.heads_rate if heads else recipe.joint_rate
        network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = self._optimizer(network, heads)
        average = Average(network, 0.99 if heads else 0.998)
        first = 0
        state = load_checkpoint(self.work / f"{name}.pt")
        if state is not None:
            network.load_state_dict(state["network"])
            average.restore(state["average"])
            first = int(state["step"])
            if first < steps:
                optimizer.load_state_dict(state["optimizer"])
        network.train()
        freeze_norms(network.trunk)
        seen: dict[str, float] = {}
        began = time.monotonic()
        for step, batch in self._batches(name, first, steps):
            set_rate(optimizer, cosine(step, steps, top, warm=min(30, steps // 4)))
            share = 0.0 if heads else cosine(step, steps, recipe.features)
            loss, parts = self._losses(network, batch, heads, share)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            average.update(network)
            seen = {k: 0.96 * seen.get(k, v) + 0.04 * v for k, v in parts.items()}
            done = step + 1
            if done % recipe.log_every == 0 or done == steps:
                speed = recipe.batch * (done - first) / (time.monotonic() - began)
                self.journal.write(stage=name, step=done, **seen, views_a_second=speed)
            if done % recipe.save_every == 0 or done == steps:
                self._save(name, done, network, optimizer, average)
            if done % recipe.score_every == 0 and done < steps:
                self._score_average(name, done, network, average)
        network.load_state_dict(average.values)
        return network.eval()

    def _optimizer(self, network: Segmentator, heads: bool) -> torch.optim.Optimizer:
        for parameter in network.trunk.parameters():
            parameter.requires_grad_(not heads)
        others = [(n, p) for n, p in network.named_children() if n != "trunk"]
        norms = any(isinstance(m, nn.BatchNorm2d) for _, part in others for m in part.modules())
        groups: list[dict[str, Any]] = [] if heads else relative_groups(network.trunk)
        for _, part in others:
            if heads:
                groups.append({"params": list(part.parameters()), "share": 1.0})
            elif norms:
                share = self.recipe.joint_heads_rate / self.recipe.joint_rate
                groups.append({"params": list(part.parameters()), "share": share})
            else:
                groups += relative_groups(part, share=self.recipe.heads_share)
        return torch.optim.AdamW(groups, lr=1e-4, weight_decay=1e-4, betas=(0.9, 0.99))

    def _batches(self, name: str, first: int, steps: int) -> Iterator[tuple[int, Batch]]:
        """(step, batch), each batch drawn from its step's own seed; the next ones are made meanwhile."""
        stage = 1 if name == "heads" else 2

        def make(step: int) -> list[View]:
            random = np.random.default_rng((self.recipe.seed, stage, step))
            return [self.maker(random) for _ in range(self.recipe.batch)]

        with ThreadPoolExecutor(1 if self.device.type == "cpu" else 8) as pool:
            ahead = 3 if self.device.type == "cpu" else 16
            waiting: list[Future[list[View]]] = []
            for step in range(first, steps):
                while len(waiting) < ahead and step + len(waiting) < steps:
                    waiting.append(pool.submit(make, step + len(waiting)))
                yield step, Batch.of(waiting.pop(0).result(), self.device)

    def _losses(
        self, network: Segmentator, batch: Batch, heads: bool, features: float
    ) -> tuple[Tensor, dict[str, float]]:
        scores: Tensor | None = None
        taps: list[Tensor] = []
        mixed = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            image = batch.image.contiguous(memory_format=torch.channels_last)
            if self.teacher is not None:
                wanted = FEATURE_TAPS if features > 0 else ()
                scores, taps = self.teacher(image, taps=wanted)
            x = network.normalise(image / 255)
            outputs: list[Tensor] = []
            if isinstance(network.trunk, CompactTrunk):
                with torch.set_grad_enabled(not heads):
                    for block in network.trunk.blocks:
                        x = block(x)
                        outputs.append(x)
                out = network.decode(outputs[1], outputs[4], outputs[-1])
            else:
                with torch.set_grad_enabled(not heads):
                    maps = network.trunk(x)
                out = network.decode(*maps)
        loss, parts = total_loss(out, batch, scores, Weights())
        if features > 0 and outputs and taps:
            gaps = [
                ((outputs[tap - 1].float() - t).square() / spread(t)).mean()
                for tap, t in zip(FEATURE_TAPS, (t.float() for t in taps), strict=True)
            ]
            gap = torch.stack(gaps).mean()
            parts["features"] = float(gap.detach())
            loss = loss + features * gap
        return loss, parts

    def _save(
        self, name: str, step: int, network: Segmentator,
        optimizer: torch.optim.Optimizer, average: Average,
    ) -> None:  # fmt: skip
        state = {
            "step": step,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average.state(),
        }
        save_checkpoint(self.work / f"{name}.pt", state)

    def _score_average(self, name: str, step: int, network: Segmentator, average: Average) -> None:
        """Score the averaged weights on some set-aside pictures and store them as a weights file."""
        own = {key: value.clone() for key, value in network.state_dict().items()}
        network.load_state_dict(average.values)
        network.eval()
        scores = self.score(network, full=False)
        self.journal.write(stage=name, step=step, **scores)
        if name == "joint":
            path = self.work / f"segmentator-{self.recipe.variant}.latest.safetensors"
            shown = copy.deepcopy(network)
            if self.recipe.variant == "compact":
                fold_norms(shown)
            write_weights(path, shown, {"step": str(step), "variant": self.recipe.variant})
        with contextlib.suppress(ImportError):  # the journal has the numbers; a picture is a comfort
            size = self.recipe.score_sizes[0]
            names = (f"person_{size}", f"mean20_{size}", f"ap50_{size}")
            draw_curve(self.journal, self.work / "curve.png", x="step", names=names)
        network.load_state_dict(own)
        network.train()
        freeze_norms(network.trunk)

    def score(self, network: Segmentator, *, full: bool) -> dict[str, float]:
        """Scores of the set-aside pictures: all at every size, or some at the first."""
        count = None if full else self.recipe.score_pictures
        scores: dict[str, float] = {}
        network.eval()
        for longer in self.recipe.score_sizes[: None if full else 1]:
            for prefix, pictures in (
                ("", self.collection.held_coco),
                ("people_", self.collection.held_people),
            ):
                if not pictures:
                    continue
                found = score_pictures(predictor(network), pictures[:count], longer)
                if prefix:
                    scores[f"people_{longer}"] = found["person"]
                else:
                    scores.update({f"{k}_{longer}": v for k, v in found.items()})
        return scores
