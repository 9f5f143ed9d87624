"""The mimicked blocks strung together, on the student's own features.

`walk` goes from block to block, training and solving each for the teacher's features from what the
student's earlier blocks give; `settle` trains all of them end to end on those features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..segmentator import CompactTrunk, Front, InvertedResidual
from .loop import Average, Journal, cosine, load_checkpoint, save_checkpoint, set_rate
from .mimicry import Scorer, TeacherCache, block_batches, image_tensor, inside, score_loss, spread
from .muon import Muon, muon_groups
from .parallel import Workers
from .precision import widen_depthwise

_APART = 100
"""Steps of `settle` in which the classes learn from the trunk without moving it."""

_LATE_SHARES = (0.5,) * 12 + (1.0, 1.0, 1.0, 2.0)
_LATE_CLASSES = 3.0
"""Weights of joints and classes where the first blocks stay: the decoder then reads only the last joint."""


def refine_block(
    block: nn.Module, index: int, cache: TeacherCache, own: np.ndarray, *, steps: int, rate: float, seed: int
) -> None:
    """Train one block, norms frozen, from the student's own features to the teacher's."""
    batches = block_batches(cache, index, 8, np.random.default_rng((seed, index, 5)), own)
    variance = spread(cache.decode(index, cache.tap(index)[:64]))
    optimizer = torch.optim.Adam(block.parameters(), lr=rate, betas=(0.9, 0.98))
    block.eval()
    for step in range(steps):
        set_rate(optimizer, cosine(step, steps, rate, warm=min(40, steps // 4)))
        x, target, margin = next(batches)
        error = (inside(block(x), margin) - inside(target, margin)).square() / variance
        optimizer.zero_grad(set_to_none=True)
        error.mean().backward()
        optimizer.step()


@torch.no_grad()
def solve_projection(
    block: Front | InvertedResidual, index: int, cache: TeacherCache, inputs: list[Tensor]
) -> tuple[float, float]:
    """Ridge regression of a block's projection towards the teacher's features, from the trained one.

    `inputs` are batches of 8 in the cache's order. Returns the error before and after, shares of the
    target's variance. The projection's norm becomes a plain bias.
    """
    conv, norm = block.project[0], block.project[1]
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * gain
    start = torch.cat([conv.weight[:, :, 0, 0] * gain[:, None], bias[:, None]], 1)
    gram = torch.zeros(start.shape[1], start.shape[1], dtype=torch.float64)
    moment = torch.zeros(start.shape[1], start.shape[0], dtype=torch.float64)
    before = after = power = 0.0
    for number, x in enumerate(inputs):
        target = cache.decode(index, cache.tap(index)[8 * number : 8 * number + len(x)])
        hidden = block.body(x)
        rest = target - x if getattr(block, "shortcut", False) else target
        h = hidden.permute(0, 2, 3, 1).reshape(-1, hidden.shape[1])
        h = torch.cat([h, torch.ones(len(h), 1)], 1)
        rest = rest.permute(0, 2, 3, 1).reshape(-1, rest.shape[1]) - h @ start.T
        gram += (h.T @ h).double()
        moment += (h.T @ rest).double()
        before += float(rest.square().sum())
        power += float((target - target.mean((0, 2, 3), keepdim=True)).square().sum())
    gram.diagonal().add_(1e-3 * float(gram.diagonal().mean()))
    step = torch.linalg.solve(gram, moment).T
    after = before - float((moment.T * step).sum())
    solved = start + step.float()
    conv.weight.copy_(solved[:, :-1, None, None])
    norm.weight.fill_(1.0)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)
    norm.bias.copy_(solved[:, -1])
    return before / power, after / power


def walk(
    trunk: CompactTrunk,
    cache: TeacherCache,
    folder: Path,
    *,
    crops: int,
    steps: int,
    seed: int,
    journal: Journal,
) -> None:
    """String the blocks together: each is trained again, then solved, on the student's own features.

    In order, for each block but the front: `steps` of training from what the student's earlier blocks
    give to the teacher's features, then its projection by ridge regression over `crops` crops. This
    takes away the drift that would build up from block to block. The norms stay as they were trained
    with: measured again they fit the filters before them worse. Finished blocks are kept in `folder`.
    """
    own: np.ndarray = cache.image
    for index, block in enumerate(trunk.blocks):
        assert isinstance(block, Front | InvertedResidual)
        path = folder / f"walked{index:02d}.pt"
        state = load_checkpoint(path)
        block.eval()
        if state is not None:
            block.load_state_dict(state)
        else:
            if index and steps:
                refine_block(block, index, cache, own, steps=steps, rate=3e-3, seed=seed)
            parts = [own[at : at + 8] for at in range(0, min(crops, len(own)), 8)]
            inputs = [_own_tensor(part, index) for part in parts]
            before, after = solve_projection(block, index, cache, inputs)
            journal.write(stage="walk", block=index, before=before, after=after)
            save_checkpoint(path, block.state_dict())
        own = _advance(block, own, index)


def _own_tensor(raw: np.ndarray, index: int) -> Tensor:
    if index == 0:
        return image_tensor(raw)
    return torch.from_numpy(raw).float().contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _advance(block: nn.Module, own: np.ndarray, index: int) -> np.ndarray:
    """A block's output for all crops, (N, C, h, w) float16."""
    parts = [block(_own_tensor(own[at : at + 8], index)).half().numpy() for at in range(0, len(own), 8)]
    return np.concatenate(parts)


@torch.no_grad()
def _ahead(blocks: Iterable[nn.Module], images: np.ndarray) -> np.ndarray:
    """What these blocks, one after the other, give for all crops, (N, C, h, w) float16."""
    parts = []
    for at in range(0, len(images), 8):
        x = image_tensor(images[at : at + 8]).contiguous(memory_format=torch.channels_last)
        for block in blocks:
            x = block(x)
        parts.append(x.half().numpy())
    return np.concatenate(parts)


Sample = tuple[Tensor, list[Tensor], Tensor]
"""What the trained blocks read (pictures, or the features before them), the teacher's features at their
joints, its scores."""


def draw_sample(
    cache: TeacherCache, rows: np.ndarray, first: int = 0, own: np.ndarray | None = None
) -> Sample:
    """The cached crops of these rows, for blocks `first` and later; `own` is what the earlier ones give."""
    if own is None:
        x = image_tensor(cache.image[rows])
    else:
        x = torch.from_numpy(own[rows]).float()
    wanted = [cache.decode(k, cache.tap(k)[rows]) for k in range(first, cache.joints)]
    scores = torch.from_numpy(cache.scores[rows].astype(np.float32))
    return x.contiguous(memory_format=torch.channels_last), wanted, scores


def joint_variances(cache: TeacherCache) -> list[Tensor]:
    """Variance of each channel at each joint."""
    sample = np.arange(0, cache.count, max(1, cache.count // 64))
    return [spread(cache.decode(k, cache.tap(k)[sample])) for k in range(cache.joints)]


def joint_errors(
    blocks: Iterable[nn.Module], x: Tensor, targets: list[Tensor], variances: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Features behind each block, and their errors against the teacher, shares of the variance."""
    outputs, losses = [], []
    for block, variance, target in zip(blocks, variances, targets, strict=True):
        x = block(x)
        outputs.append(x)
        losses.append(((x.float() - target).square() / variance).mean())
    return outputs, losses


def settle(
    trunk: CompactTrunk,
    scorer: Scorer,
    cache: TeacherCache,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    workers: int,
    journal: Journal,
    checkpoint: Path,
    first: int = 0,
    look: Callable[[], dict[str, float]] | None = None,
    look_every: int = 400,
) -> None:
    """Train the strung-together blocks end to end on the teacher's features at all their joints.

    The norms are folded by now; `rate` is relative to each tensor's size. Runs in bfloat16 where a joint
    allows it. Leaves the averaged weights in the modules. `look` scores the averaged weights on the way.
    Resumes at `checkpoint`. Blocks before `first` stay as they are: what they give is computed once.
    """
    both = nn.ModuleDict({"trunk": trunk, "scorer": scorer}).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    widen_depthwise(both)
    optimizer = Muon(muon_groups(nn.ModuleList([*list(trunk.blocks)[first:], scorer])), lr=rate)
    average = Average(both, 0.995)
    variances = joint_variances(cache)[first:]
    shares = torch.tensor([*_LATE_SHARES[first:], _LATE_CLASSES]) if first else torch.ones(cache.joints + 1)
    begin = 0
    state = load_checkpoint(checkpoint)
    if state is not None:
        both.load_state_dict(state["both"])
        average.restore(state["average"])
        begin = int(state["step"])
        if begin < steps:
            optimizer.load_state_dict(state["optimizer"])
    ahead = _ahead(list(trunk.blocks)[:first], cache.image) if first else None
    running: list[float] = []

    def read(step: int) -> list[Sample]:
        random = np.random.default_rng((seed, 77, step))
        rows = random.choice(cache.count, batch, replace=False)
        return [draw_sample(cache, np.sort(part), first, ahead) for part in np.array_split(rows, workers)]

    def run(module: nn.Module, sample: Sample) -> list[float]:
        own, judge = module.get_submodule("trunk"), module.get_submodule("scorer")
        assert isinstance(own, CompactTrunk)
        x, targets, wanted = sample
        with torch.autocast("cpu", torch.bfloat16):
            outputs, losses = joint_errors(list(own.blocks)[first:], x, targets, variances)
            # Random classes would tear at features that are already good.
            scores = judge(outputs[-1].detach() if apart else outputs[-1])
        losses.append(score_loss(scores.float(), wanted))
        (shares * torch.stack(losses)).sum().backward()
        return [float(v.detach()) for v in losses]

    team = Workers[Sample, list[float]](both, workers, run)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read, begin)
        for step in range(begin, steps):
            set_rate(optimizer, cosine(step, steps, rate, warm=20))
            samples = coming.result()
            coming = pool.submit(read, step + 1)
            apart = step < _APART
            optimizer.zero_grad(set_to_none=True)
            values = [sum(v) / workers for v in zip(*team(samples), strict=True)]
            nn.utils.clip_grad_norm_(both.parameters(), 20.0)
            optimizer.step()
            average.update(both)
            running = running or values
            running = [0.97 * a + 0.03 * b for a, b in zip(running, values, strict=True)]
            done = step + 1
            if done % 25 == 0 or done == steps:
                journal.write(stage="settle", step=done, errors=[round(v, 3) for v in running])
            if done % 100 == 0 or done == steps:
                now = {
                    "step": done, "both": both.state_dict(), "optimizer": optimizer.state_dict(),
                    "average": average.state(),
                }  # fmt: skip
                save_checkpoint(checkpoint, now)
            if look is not None and done % look_every == 0:
                own = {key: value.clone() for key, value in both.state_dict().items()}
                both.load_state_dict(average.values)
                journal.write(stage="settle", step=done, **look())
                both.load_state_dict(own)
    both.load_state_dict(average.values)
