"""Block-wise distillation of the compact segmentator from a DeepLab teacher.

Each block of the student, whose inner layers have widths and kernels of their own, learns to turn
the teacher's features at one joint into the teacher's features at the next (blocks, never layers
inside one, are matched; the stem and the first two units are one block). `walk.py` strings the
blocks together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..segmentator import Aspp, CompactTrunk, Front, InvertedResidual, Segmentator
from .data import Picture, plain_view, rarity
from .loop import Journal, cosine, load_checkpoint, save_checkpoint, set_rate
from .teacher import VOC_CLASSES, DeeplabTeacher

FIRST_TAP = 1
"""The front block ends where the teacher's second unit (tap 1) does; block i ends at tap i + 1."""

MARGIN = 2
"""Cells at a window's edge left out of the loss: there the block misses its surroundings."""


class TeacherCache:
    """Picture crops with the teacher's features at every joint, in memory-mapped 8-bit files.

    `image` (N, 256, 256, 3) uint8; `tap(i)` (N, C, h, w) uint8 in the teacher's own scale;
    `scores` (N, 21, 16, 16) float16.
    """

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "cache.json").read_text())
        self.count: int = facts["count"]
        self.ranges: list[tuple[float, float]] = [(s, z) for s, z in facts["ranges"]]
        self.image: np.ndarray = np.load(folder / "image.npy", mmap_mode="r")
        self.scores: np.ndarray = np.load(folder / "scores.npy", mmap_mode="r")
        self._taps: list[np.ndarray] = [
            np.load(folder / f"tap{k:02d}.npy", mmap_mode="r")
            for k in range(FIRST_TAP, FIRST_TAP + facts["taps"])
        ]

    @property
    def joints(self) -> int:
        """How many blocks have features here."""
        return len(self._taps)

    def tap(self, block: int) -> np.ndarray:
        """The 8-bit features that block `block` should give."""
        return self._taps[block]

    def decode(self, block: int, raw: np.ndarray) -> Tensor:
        """Floats of 8-bit features of that block's output, channels last (twice as fast here)."""
        scale, zero = self.ranges[block]
        x = torch.from_numpy(np.array(raw)).contiguous(memory_format=torch.channels_last)
        return x.float().sub_(zero).mul_(scale)


def image_tensor(raw: np.ndarray) -> Tensor:
    """(B, 3, H, W) float in [-1, 1] from (B, H, W, 3) uint8: the compact trunk's input."""
    return torch.from_numpy(np.array(raw)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fill_cache(
    folder: Path,
    teacher: DeeplabTeacher,
    pictures: tuple[Picture, ...],
    *,
    count: int,
    side: int,
    seed: int,
    workers: int,
) -> TeacherCache:
    """Run the teacher over random views and store its features; a finished cache is kept."""
    done = folder / "cache.json"
    if done.is_file():
        return TeacherCache(folder)
    folder.mkdir(parents=True, exist_ok=True)
    taps = range(FIRST_TAP, len(teacher.taps) - 1)
    batch = 8
    _, probe = teacher(torch.zeros(1, 3, side, side), taps=taps)

    def create(name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        return np.lib.format.open_memmap(folder / name, "w+", dtype=kind, shape=(count, *shape))

    images = create("image.npy", (side, side, 3), np.uint8)
    scores = create("scores.npy", (21, side // 16, side // 16), np.float16)
    chances = rarity(pictures)
    stores = [
        create(f"tap{k:02d}.npy", tuple(p.shape[1:]), np.uint8) for k, p in zip(taps, probe, strict=True)
    ]

    def work(start: int) -> None:
        random = np.random.default_rng((seed, start))
        stop = min(start + batch, count)
        for row in range(start, stop):
            longer = int(1.2 * side), int(2.3 * side)
            picture = pictures[int(random.choice(len(pictures), p=chances))]
            images[row] = plain_view(picture, side, longer, random)
        x = torch.from_numpy(images[start:stop].transpose(0, 3, 1, 2).astype(np.float32))
        answer, features = teacher(x, taps=taps)
        scores[start:stop] = answer.half().numpy()
        for k, store, feature in zip(taps, stores, features, strict=True):
            scale, zero = teacher.ranges[k]
            store[start:stop] = (feature / scale + zero).round_().clamp_(0, 255).byte().numpy()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(0, count, batch)))
    for store in (images, scores, *stores):
        store.flush()  # type: ignore[attr-defined]
    facts = {"count": count, "taps": len(stores), "ranges": [teacher.ranges[k] for k in taps]}
    done.write_text(json.dumps(facts))
    return TeacherCache(folder)


def _window(block: int, side: int) -> tuple[int, int]:
    """Cells of a training window at a block's input, and its own stride; 0 means the whole crop."""
    if block == 0:
        return min(128, side), 4
    strides = {2: 2, 5: 2}
    cells = {1: 32, 2: 32, 3: 24, 4: 24}.get(block, 0)
    return (cells if cells < side else 0), strides.get(block, 1)


def block_batches(
    cache: TeacherCache,
    block: int,
    batch: int,
    random: np.random.Generator,
    own: np.ndarray | None = None,
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Endless (input, target, margin) batches of one block.

    Inputs are the teacher's own features or, where given, the student's (N, C, h, w) float16.
    """
    source = cache.image if block == 0 else cache.tap(block - 1)
    if own is not None:
        source = own
    side = source.shape[1] if block == 0 else source.shape[2]
    cells, stride = _window(block, side)

    def read(raw: np.ndarray) -> Tensor:
        if own is not None:
            return torch.from_numpy(raw).float().contiguous(memory_format=torch.channels_last)
        return image_tensor(raw) if block == 0 else cache.decode(block - 1, raw)

    while True:
        rows = np.sort(random.choice(len(source), min(batch, len(source)), replace=False))
        if not cells:
            yield read(source[rows]), cache.decode(block, cache.tap(block)[rows]), 0
            continue
        top, left = (int(v) * 4 for v in random.integers(0, (side - cells) // 4 + 1, 2))
        out, o_top, o_left = cells // stride, top // stride, left // stride
        target = np.stack([cache.tap(block)[r, :, o_top : o_top + out, o_left : o_left + out] for r in rows])
        place = slice(top, top + cells), slice(left, left + cells)
        part = place if block == 0 else (slice(None), *place)
        yield read(np.stack([source[r][part] for r in rows])), cache.decode(block, target), MARGIN


def spread(target: Tensor) -> Tensor:
    """Variance per channel (1, C, 1, 1), floored at 5 % of the mean: the loss is a share of it."""
    variance = target.var((0, 2, 3), keepdim=True)
    return variance.clamp_min(0.05 * float(variance.mean()))


def freeze_norms(module: nn.Module) -> None:
    """Let every batch norm use its running statistics, and keep them."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()


@torch.no_grad()
def measure_norms(module: nn.Module, inputs: list[Tensor]) -> None:
    """Replace the running statistics by the plain average over these inputs, then freeze."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for x in inputs:
        module(x)
    for norm in norms:
        norm.momentum = 0.1
        norm.eval()


def _prepare(block: nn.Module, x: Tensor, target: Tensor) -> None:
    """Start the norms well: wide inside, at the target's mean and spread (less the shortcut) outside."""
    rest = target - x if getattr(block, "shortcut", False) else target
    assert isinstance(block, Front | InvertedResidual)
    last = block.project[1]
    assert isinstance(last, nn.BatchNorm2d)
    with torch.no_grad():
        for part in block.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.fill_(1.5)
                part.bias.fill_(1.0)
        last.weight.copy_(rest.std((0, 2, 3)).clamp_min(1e-3))
        last.bias.copy_(rest.mean((0, 2, 3)))


def inside(x: Tensor, margin: int) -> Tensor:
    """The part of a window that lies at least `margin` cells from its edge."""
    return x[:, :, margin:-margin, margin:-margin] if margin else x


def train_block(
    block: nn.Module, index: int, cache: TeacherCache, *, steps: int, batch: int, rate: float, seed: int
) -> float:
    """Fit one block to the teacher; returns its error, a share of the target's variance.

    The first third with batch statistics (from random weights frozen ones get stuck), the rest with
    frozen ones (batch statistics make a fixed target noisy).
    """
    batches = block_batches(cache, index, batch, np.random.default_rng((seed, index)))
    test = block_batches(cache, index, 64, np.random.default_rng((seed, 10_000 + index)))
    x, target, margin = next(test)
    variance = spread(target)
    _prepare(block, x, target)
    optimizer = torch.optim.Adam(block.parameters(), lr=rate, betas=(0.9, 0.98))
    part = steps // 3
    block.train()
    for step in range(steps):
        if step == part:
            measure_norms(block, [next(batches)[0] for _ in range(max(4, 128 // batch))])
            optimizer = torch.optim.Adam(block.parameters(), lr=rate, betas=(0.9, 0.98))
        if step < part:
            set_rate(optimizer, cosine(step, part, rate, floor=0.2 * rate, warm=20))
        else:
            set_rate(optimizer, cosine(step - part, steps - part, 0.6 * rate, warm=20))
        x, target, margin = next(batches)
        error = (inside(block(x), margin) - inside(target, margin)).square() / variance
        optimizer.zero_grad(set_to_none=True)
        error.mean().backward()
        optimizer.step()
    block.eval()
    with torch.no_grad():
        x, target, margin = next(test)
        error = (inside(block(x), margin) - inside(target, margin)).square() / variance
    return float(error.mean())


class Scorer(nn.Module):
    """The pyramid with the teacher's 21 classes behind it; only the pyramid stays in the product."""

    def __init__(self, aspp: Aspp, width: int) -> None:
        super().__init__()
        self.aspp = aspp
        self.classes = nn.Conv2d(width, 21, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classes(self.aspp(x))
        return y


@torch.no_grad()
def take_classes(network: Segmentator, scorer: Scorer) -> None:
    """Give a segmentator the 21 classes learnt behind its pyramid; the decoder's own begin at nothing.

    The other 60 are, until labels tell them apart, rare kinds of background.
    """
    weight, bias = scorer.classes.weight, scorer.classes.bias
    fine = network.classes[-1]
    assert bias is not None and network.coarse.bias is not None and isinstance(fine, nn.Conv2d)
    assert fine.bias is not None
    network.coarse.weight.copy_(weight[:1].expand_as(network.coarse.weight))
    network.coarse.bias.fill_(float(bias[0]) - _RARE)
    network.coarse.weight[list(VOC_CLASSES)] = weight
    network.coarse.bias[list(VOC_CLASSES)] = bias
    fine.weight.zero_()
    fine.bias.zero_()


_RARE = 7.0


def score_loss(scores: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler distance to the teacher's classes, things weighing up to four times."""
    truth = wanted.softmax(1)
    weight = 1 + 3 * (1 - truth[:, 0])
    distance = (truth * (wanted.log_softmax(1) - scores.log_softmax(1))).sum(1)
    centred = scores - scores.mean(1, keepdim=True) - wanted + wanted.mean(1, keepdim=True)
    return (weight * distance).mean() + 0.02 * centred.square().mean() / wanted.var()


def train_scorer(scorer: Scorer, cache: TeacherCache, *, steps: int, batch: int, seed: int) -> float:
    """Fit the pyramid on the teacher's last features; returns the share of cells it labels alike."""
    random = np.random.default_rng((seed, 99))
    last = 15

    def draw(count: int) -> tuple[Tensor, Tensor]:
        rows = np.sort(random.choice(cache.count, min(count, cache.count), replace=False))
        x = cache.decode(last, cache.tap(last)[rows])
        return x, torch.from_numpy(cache.scores[rows].astype(np.float32))

    rate, half = 3e-3, steps // 2
    optimizer = torch.optim.Adam(scorer.parameters(), lr=rate, betas=(0.9, 0.98))
    scorer.train()
    for step in range(steps):
        if step == half:
            measure_norms(scorer, [draw(batch)[0] for _ in range(16)])
        set_rate(optimizer, cosine(step, steps, rate, warm=20))
        x, wanted = draw(batch)
        optimizer.zero_grad(set_to_none=True)
        score_loss(scorer(x), wanted).backward()
        optimizer.step()
    scorer.eval()
    with torch.no_grad():
        x, wanted = draw(128)
        return float((scorer(x).argmax(1) == wanted.argmax(1)).float().mean())


BLOCK_PLAN: tuple[tuple[int, int, float], ...] = (
    (4000, 6, 1e-2), (2000, 8, 1e-2), (1600, 8, 1e-2), (1500, 8, 1e-2), (1500, 8, 1e-2),
    (1000, 8, 8e-3), (1100, 8, 8e-3), (1100, 8, 8e-3), (1100, 8, 8e-3), (1100, 8, 8e-3),
    (1100, 8, 8e-3), (1100, 8, 8e-3), (1400, 8, 6e-3), (1400, 8, 6e-3), (1400, 8, 6e-3),
    (1500, 8, 6e-3),
)  # fmt: skip
"""Steps, crops a step and highest rate of each block, front first; early blocks see windows."""


def train_blocks(
    trunk: CompactTrunk,
    scorer: Scorer,
    cache: TeacherCache,
    folder: Path,
    *,
    effort: float,
    seed: int,
    workers: int,
    journal: Journal,
) -> None:
    """Fit all blocks and the scorer, each on its own, `workers` at a time; finished ones are kept.

    effort: factor on BLOCK_PLAN's steps.
    """

    def job(name: str, module: nn.Module, fit: Callable[[], float]) -> None:
        path = folder / f"{name}.pt"
        state = load_checkpoint(path)
        if state is None:
            torch.set_num_threads(1)
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            error = fit()
            journal.write(stage="mimicry", block=name, error=error)
            save_checkpoint(path, module.state_dict())
        else:
            module.load_state_dict(state)
        module.eval()

    with ThreadPoolExecutor(workers) as pool:
        waiting = []
        scorer_steps = max(4, round(1600 * effort))
        waiting.append(
            pool.submit(
                job, "scorer", scorer,
                lambda: train_scorer(scorer, cache, steps=scorer_steps, batch=8, seed=seed),
            )
        )  # fmt: skip
        for index, block in reversed(list(enumerate(trunk.blocks))):
            steps, batch, rate = BLOCK_PLAN[index]

            def fit(
                block: nn.Module = block, index: int = index, steps: int = steps,
                batch: int = batch, rate: float = rate,
            ) -> float:  # fmt: skip
                count = max(4, round(steps * effort))
                return train_block(block, index, cache, steps=count, batch=batch, rate=rate, seed=seed)

            waiting.append(pool.submit(job, f"block{index:02d}", block, fit))
        for future in waiting:
            future.result()
