"""The segmentator's training, from random weights to the stored file.

Stages of the compact variant: (1) a cache of crops with the teacher's features at its joints,
(2) every block by itself, (3) the walk, (4) all blocks together on the teacher's features,
(5) decoder, 81 classes, centres and offsets with the trunk frozen, (6) everything together, what the
teacher says of each picture (made once, `taught.py`) beside the labels. The paper variant starts at (5)
with a public trunk.
Each stage leaves a file in the work folder and is not repeated.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..reported import KEY, LEAST
from ..segmentator import (
    CompactTrunk,
    Segmentator,
    SegmentatorOutput,
    Variant,
    build_segmentator,
    fold_norms,
)
from ..torchvision import load_torchvision, read_state_dict
from .data import IGNORE, Collection, Picture, read_collection
from .loop import (
    Average,
    Journal,
    Log,
    cosine,
    draw_curve,
    load_checkpoint,
    read_weights,
    recipe_text,
    save_checkpoint,
    set_rate,
    write_weights,
)
from .losses import Batch, Weights, teacher_at_stride_4, teacher_loss, total_loss
from .mimicry import Scorer, TeacherCache, fill_cache, freeze_norms, take_classes, train_blocks
from .muon import Muon, muon_groups
from .parallel import Workers
from .precision import widen_depthwise
from .scores import class_table, predictor, score_pictures, voc_predictor
from .taught import teach
from .teacher import DeeplabTeacher
from .views import ViewMaker, read_cutouts
from .walk import Sample, draw_sample, joint_errors, joint_variances, settle, walk

Drawn = tuple[Batch, Sample | None]
"""Views of one thread, and cached crops with the teacher's features."""

STAGES = ("blocks", "settle", "heads", "joint")


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run.

    variant: "compact" or "paper". teacher: file in DATA/teachers, "" for labels alone.
    start: a .safetensors file of a former run, and `begin` the stage that goes on from it: "settle",
    "heads" or "joint".
    trunk: for the paper variant, a public state dict of torchvision's: the name of a fetched one
    (`deeplabv3_resnet101_coco-586e9e4e`, `resnet101-cd907fc2`) or a file, see `models.torchvision`.
    seed: of everything random. side: pixels of a square crop, a multiple of 32.
    crops: cached for stages 1 to 4. effort: factor on the steps of stage 2.
    walk_crops, walk_steps: of stage 3, for each block.
    settle_steps, settle_rate: stage 4; settle_first: blocks before this one stay as they are in it (5 leaves
    strides 4 and 8 and makes a step three times as cheap). heads_steps, heads_rate: stage 5.
    joint_steps, joint_rate: stage 6; what lies behind the trunk learns `heads_share` times as fast.
    All rates but the blocks' are relative to the size of each tensor (see `muon.py`).
    batch: views a step. rehearsed: cached crops beside them in stage 6 that hold the trunk to the teacher's
    features (`rehearsal` the weight of that loss) and the whole to its classes.
    longest: largest longer side a picture is scaled to. pasted, mosaic: share of such views.
    score_every, save_every, log_every: steps between scores, checkpoints and log lines.
    score_pictures: set-aside pictures of each kind scored on the way; all are at the end.
    score_sizes: longer sides scored at the end; the first of them on the way.
    threads: of torch and of the block jobs; 0 takes all cores.
    """

    variant: Variant = "compact"
    teacher: str = "deeplab_voc_mnv2_513_uint8.tflite"
    start: str = ""
    begin: str = "joint"
    trunk: str = ""
    seed: int = 1
    side: int = 256
    crops: int = 9000
    effort: float = 2.0
    walk_crops: int = 400
    walk_steps: int = 500
    settle_steps: int = 4000
    settle_rate: float = 3e-3
    settle_first: int = 0
    heads_steps: int = 600
    heads_rate: float = 6e-3
    joint_steps: int = 4000
    joint_rate: float = 5e-4
    heads_share: float = 3.0
    batch: int = 16
    rehearsed: int = 6
    rehearsal: float = 0.25
    longest: int = 640
    pasted: float = 0.45
    mosaic: float = 0.15
    score_every: int = 200
    save_every: int = 50
    log_every: int = 25
    score_pictures: int = 40
    score_sizes: tuple[int, ...] = (513, 385)
    threads: int = 2


GROUP_SHARES: dict[str, float] = {
    "full": 0.35, "partial": 0.4, "selfie": 0.07, "fashion": 0.05, "web": 0.04, "camvid": 0.09,
}  # fmt: skip
"""How often a view is of a picture of each kind; kinds the data lack are left out."""


def train(data: Path, work: Path, recipe: Recipe, *, log: Log) -> Path:
    """Train, or go on training, in `work`; returns the written .safetensors file.

    Raises ValueError when `data` holds no pictures or a file named in the recipe is not there.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_num_threads(_threads(recipe))
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    journal = Journal(work / "journal.jsonl", log)
    collection = read_collection(data)
    network = _first_network(data, work, recipe, collection, journal)
    maker = _view_maker(data, collection, recipe, _taught(data, work, recipe, collection, device))
    run = _Run(work, recipe, maker, device, journal, collection)
    if (not recipe.start or recipe.begin != "joint") and not (work / "joint.pt").is_file():
        network = run.stage("heads", network)
    network = run.stage("joint", network)
    if recipe.variant == "compact":
        fold_norms(network)
    scores = run.score(network, full=True)
    described = {name: f"{value:.4f}" for name, value in scores.items()}
    metadata = {
        "model": "segmentator",
        "variant": recipe.variant,
        "recipe": recipe_text(recipe),
        **described,
        KEY: ", ".join(unknown_classes(network, collection, recipe.score_sizes[0])),
    }
    return write_weights(work / f"segmentator-{recipe.variant}.safetensors", network, metadata)


def unknown_classes(network: Segmentator, collection: Collection, longer: int) -> list[str]:
    """Classes too badly known to be reported, by all fully annotated pictures that were not trained on.

    Training pictures would flatter: of a class seen in a few dozen pictures the network learns the pictures.
    """
    pictures = [*collection.held_coco, *collection.choosing_coco]
    table = class_table(predictor(network), pictures, longer)
    return [name for name, share in table.items() if share < LEAST]


def _taught(
    data: Path, work: Path, recipe: Recipe, collection: Collection, device: torch.device
) -> Path | None:
    """The folder of what the teacher says of each training picture, made where it is missing."""
    if not recipe.teacher:
        return None
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    torch.set_num_threads(1)
    teacher = DeeplabTeacher(_teacher_file(data, recipe), device)
    folder = teach(work / "taught", teacher, collection.training, workers=workers)
    torch.set_num_threads(workers)
    return folder


def _teacher_file(data: Path, recipe: Recipe) -> Path:
    path = data / "teachers" / recipe.teacher
    if not path.is_file():
        raise ValueError(f"no teacher {path}: fetch it or set teacher= to train on labels alone")
    return path


def _first_network(
    data: Path, work: Path, recipe: Recipe, collection: Collection, journal: Journal
) -> Segmentator:
    """The network as stage 5 or 6 finds it."""
    if recipe.begin not in STAGES[1:]:
        raise ValueError(f"begin={recipe.begin!r} is no stage to go on with: use {', '.join(STAGES[1:])}")
    if recipe.start:
        network = build_segmentator(variant=recipe.variant)
        network.load_state_dict(_with_coarse(read_weights(Path(recipe.start)), network))
        if recipe.begin == "settle" and isinstance(network.trunk, CompactTrunk):
            torch.set_num_threads(1)
            teacher = DeeplabTeacher(_teacher_file(data, recipe))
            cache = _cache(work, recipe, collection, teacher)
            scorer = Scorer(network.aspp, 160)
            _settle(network.trunk, scorer, cache, work, recipe, collection, journal)
            take_classes(network, scorer)
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
        network.coarse.load_state_dict(done["coarse"])
        return network
    if recipe.teacher:
        trunk, scorer = _mimic(data, work, recipe, collection, journal)
        network.trunk.load_state_dict(trunk.state_dict())
        network.aspp.load_state_dict(scorer.aspp.state_dict())
        take_classes(network, scorer)
        state = {
            "trunk": trunk.state_dict(), "aspp": scorer.aspp.state_dict(),
            "coarse": network.coarse.state_dict(),
        }  # fmt: skip
        save_checkpoint(work / "trunk.pt", state)
    return network


def _with_coarse(state: dict[str, Tensor], network: Segmentator) -> dict[str, Tensor]:
    """Weights of a former run, which may be from before there were classes at stride 16."""
    for name, value in network.coarse.state_dict().items():
        state.setdefault(f"coarse.{name}", torch.zeros_like(value))
    return state


def _mimic(
    data: Path, work: Path, recipe: Recipe, collection: Collection, journal: Journal
) -> tuple[CompactTrunk, Scorer]:
    """Stages 1 to 4: a folded trunk and pyramid that give the teacher's features and classes."""
    student = build_segmentator(variant="compact", norm=True)
    trunk = student.trunk
    assert isinstance(trunk, CompactTrunk)
    scorer = Scorer(student.aspp, 160)
    workers = torch.get_num_threads()
    torch.set_num_threads(1)  # the jobs below run side by side instead
    cache = _cache(work, recipe, collection, DeeplabTeacher(_teacher_file(data, recipe)))
    train_blocks(
        trunk, scorer, cache, work / "blocks",
        effort=recipe.effort, seed=recipe.seed, workers=workers, journal=journal,
    )  # fmt: skip
    torch.set_num_threads(workers)
    walk(
        trunk, cache, work / "blocks", crops=recipe.walk_crops, steps=recipe.walk_steps,
        seed=recipe.seed, journal=journal,
    )  # fmt: skip
    fold_norms(trunk)
    fold_norms(scorer)
    _settle(trunk, scorer, cache, work, recipe, collection, journal)
    return trunk, scorer


def _cache(work: Path, recipe: Recipe, collection: Collection, teacher: DeeplabTeacher) -> TeacherCache:
    return fill_cache(
        work / "cache", teacher, collection.training,
        count=recipe.crops, side=recipe.side, seed=recipe.seed, workers=_threads(recipe),
    )  # fmt: skip


def _settle(
    trunk: CompactTrunk, scorer: Scorer, cache: TeacherCache, work: Path, recipe: Recipe,
    collection: Collection, journal: Journal,
) -> None:  # fmt: skip
    def look() -> dict[str, float]:
        pictures = collection.choosing_coco[: recipe.score_pictures]
        found = score_pictures(voc_predictor(trunk, scorer), pictures, recipe.score_sizes[0])
        return {"person": found["person"], "mean20": found["mean20"]}

    settle(
        trunk, scorer, cache, steps=recipe.settle_steps, batch=recipe.batch, rate=recipe.settle_rate,
        seed=recipe.seed, workers=_threads(recipe), journal=journal, checkpoint=work / "settle.pt",
        first=recipe.settle_first, look=look, look_every=2 * recipe.score_every,
    )  # fmt: skip


def _threads(recipe: Recipe) -> int:
    return recipe.threads or os.cpu_count() or 1


def _view_maker(data: Path, collection: Collection, recipe: Recipe, taught: Path | None) -> ViewMaker:
    groups: list[tuple[float, tuple[Picture, ...]]] = []
    for kind, share in GROUP_SHARES.items():
        members = tuple(p for p in collection.training if p.kind == kind)
        if members:
            groups.append((share, members))
    hidden = (*collection.held_coco, *collection.choosing_coco)
    cutouts = read_cutouts(data / "cutouts", collection.training, hidden)
    return ViewMaker(
        tuple(groups), tuple(cutouts), recipe.side, (min(260, recipe.longest), recipe.longest),
        recipe.pasted, recipe.mosaic, taught,
    )  # fmt: skip


class _Run:
    """Stages 5 and 6: what they share, and one loop for both."""

    def __init__(
        self, work: Path, recipe: Recipe, maker: ViewMaker,
        device: torch.device, journal: Journal, collection: Collection,
    ) -> None:  # fmt: skip
        self.cache: TeacherCache | None = None
        if recipe.rehearsed and device.type == "cpu" and (work / "cache" / "cache.json").is_file():
            self.cache = TeacherCache(work / "cache")
            self.variances = joint_variances(self.cache)
        self.work, self.recipe, self.maker = work, recipe, maker
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
        count = _threads(recipe) if self.device.type == "cpu" else 1
        if self.device.type == "cpu":
            widen_depthwise(network)

        def run(module: nn.Module, drawn: Drawn) -> dict[str, float]:
            assert isinstance(module, Segmentator)
            loss, parts = self._losses(module, drawn[0], heads)
            if drawn[1] is not None:
                loss = loss + self._rehearse(module, drawn[1], parts)
            loss.backward()
            return parts

        team = Workers[Drawn, dict[str, float]](network, count, run)
        for step, batches in self._batches(name, first, steps, count):
            set_rate(optimizer, cosine(step, steps, top, warm=min(30, steps // 4)))
            optimizer.zero_grad(set_to_none=True)
            results = team(batches)
            parts = {k: sum(r[k] for r in results) / len(results) for k in results[0]}
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
        groups: list[dict[str, Any]] = [] if heads else muon_groups(network.trunk)
        for name, part in network.named_children():
            if name != "trunk":
                groups += muon_groups(part, share=1.0 if heads else self.recipe.heads_share)
        return Muon(groups)

    def _batches(self, name: str, first: int, steps: int, count: int) -> Iterator[tuple[int, list[Drawn]]]:
        """(step, its views in `count` batches), drawn from its own seed; the next are made meanwhile."""
        cache = self.cache if name == "joint" else None
        stage = 1 if name == "heads" else 2

        def make(step: int) -> list[Drawn]:
            random = np.random.default_rng((self.recipe.seed, stage, step))
            views = [self.maker(random) for _ in range(self.recipe.batch)]
            batches = [Batch.of(views[k::count], self.device) for k in range(count)]
            if cache is None:
                return [(batch, None) for batch in batches]
            rows = random.choice(cache.count, min(cache.count, self.recipe.rehearsed), replace=False)
            parts = np.array_split(rows, count)
            return [
                (batch, draw_sample(cache, np.sort(part)) if len(part) else None)
                for batch, part in zip(batches, parts, strict=True)
            ]

        with ThreadPoolExecutor(1 if self.device.type == "cpu" else 8) as pool:
            ahead = 3 if self.device.type == "cpu" else 16
            waiting: list[Future[list[Drawn]]] = []
            for step in range(first, steps):
                while len(waiting) < ahead and step + len(waiting) < steps:
                    waiting.append(pool.submit(make, step + len(waiting)))
                yield step, waiting.pop(0).result()

    def _rehearse(self, network: Segmentator, sample: Sample, parts: dict[str, float]) -> Tensor:
        """The weighted error at the trunk's joints, and the teacher's classes; both noted in `parts`."""
        assert isinstance(network.trunk, CompactTrunk)
        image, targets, scores = sample
        with torch.autocast("cpu", torch.bfloat16):
            outputs, losses = joint_errors(network.trunk.blocks, image, targets, self.variances)
            logits = network.decode(*network.trunk.taps(outputs)).logits.float()
        size = (logits.shape[2], logits.shape[3])
        unknown = torch.full((len(logits), *size), IGNORE)
        everywhere = torch.ones(len(logits), *size)
        classes = teacher_loss(logits, teacher_at_stride_4(scores, size), unknown, everywhere)
        parts["joints"] = float(torch.stack(losses).detach().mean())
        parts["cached"] = float(classes.detach())
        return self.recipe.rehearsal * torch.stack(losses).sum() + classes

    def _losses(self, network: Segmentator, batch: Batch, heads: bool) -> tuple[Tensor, dict[str, float]]:
        # Norms that still learn want float32 on a processor; the trunk's are folded or frozen.
        mixed = self.device.type == "cuda" or self.recipe.variant == "compact"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            image = batch.image.contiguous(memory_format=torch.channels_last)
            with torch.set_grad_enabled(not heads):
                maps = network.trunk(network.normalise(image / 255))
            out = network.decode(*maps)
        return total_loss(SegmentatorOutput(*(m.float() for m in out)), batch, Weights())

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
        """Scores of the held pictures at every size, or of those to choose by at the first size."""
        count = None if full else self.recipe.score_pictures
        collection = self.collection
        held = collection.held_coco, collection.held_people
        coco, people = held if full else (collection.choosing_coco, collection.choosing_people)
        scores: dict[str, float] = {}
        network.eval()
        for longer in self.recipe.score_sizes[: None if full else 1]:
            for prefix, pictures in (
                ("", coco),
                ("people_", people),
            ):
                if not pictures:
                    continue
                found = score_pictures(predictor(network), pictures[:count], longer)
                if prefix:
                    scores[f"people_{longer}"] = found["person"]
                else:
                    scores.update({f"{k}_{longer}": v for k, v in found.items()})
        return scores
