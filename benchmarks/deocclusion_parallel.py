"""Complete things one by one or all at once: train both ways for the same time and compare them.

    python -m benchmarks.deocclusion_parallel DATA [--minutes 6] [--pictures 150] [--json FILE] [--sheet FILE]

DATA is a folder of training data (docs/training.md). Pictures are ensembles of three to six things put
before each other (models/training/ensembles.py), their masks as rough as a segmentator's. Two networks start
from random weights and are given as much processor time each: `direct` (models/deocclusion.py, masks only)
sees one thing in the square around it, `parallel` (models/deocclusion_parallel.py) all things of a
picture in one map. Rows of `parallel`, as in the paper's table 2: one thing a pass, the things of a layer
together, all together.

amodal_iou and hidden_iou are of things that were not trained on and of which 10-60 % is hidden, given the
order; ms is processor time a picture, PyTorch, one thread, all of its things completed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.deocclusion import Deocclusion, build_deocclusion
from models.deocclusion_parallel import Parallel, build_parallel
from models.framing import SIDE
from models.training import deocclusion as recipe
from models.training.ensembles import Ensemble, draw_ensemble
from models.training.loop import Average, cosine, set_rate
from models.training.occlusions import Pixels, Sample, Whole, by_kind, cut, is_held, read_wholes
from stream.hole import bounds
from stream.squares import cut_square, put_square, square_of

RATE = 1.5e-3
THINGS = 24
"""Things a step: that many squares, or pictures until there are as many."""


def ensembles(wholes: list[Whole], seed: int) -> Iterator[Ensemble]:
    """Pictures without end."""
    kinds = by_kind(wholes)
    number = 0
    while True:
        yield draw_ensemble(wholes, kinds, np.random.default_rng([seed, number]))
        number += 1


def squares(source: Iterator[Ensemble]) -> Iterator[Sample]:
    """Each hidden thing of each picture in the square around it, and as many that nothing hides."""
    for each in source:
        for k in range(len(each.modal)):
            hides = k in each.hidden
            if not hides and k % 2:
                continue
            behind = each.modal[k + 1 :].max(0) if k + 1 < len(each.modal) else np.zeros_like(each.modal[k])
            before = each.front[k] if each.front[k].any() else behind
            sample = Sample(each.rgb, each.modal[k], before, each.visible[k], each.amodal[k], each.rgb, hides)
            found = cut(sample)
            if found is not None:
                yield found


def fit(net: nn.Module, loss: Callable[[], Tensor], seconds: float) -> int:
    """Minimise for as much processor time; leaves the moving average of the weights; the steps done."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    average = Average(net, 0.99)
    started, steps = time.process_time(), 0
    while (spent := time.process_time() - started) < seconds:
        set_rate(optimizer, cosine(int(1000 * spent / seconds), 1000, RATE, floor=RATE / 100, warm=40))
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net)
        steps += 1
    net.load_state_dict(average.values)
    net.eval()
    return steps


def planes(masks: Pixels) -> Tensor:
    """(N, V, V) uint8 to (N, 1, V, V) float32."""
    return torch.from_numpy(np.ascontiguousarray(masks))[:, None].float()


def view(rgb: Pixels) -> Tensor:
    """A picture as the networks take it."""
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float()[None] / 255


def parallel_loss(net: Parallel, source: Iterator[Ensemble], random: np.random.Generator) -> Tensor:
    """Of some pictures: mostly of one layer of each, now and then of one thing, or of all."""
    images, modal, front, amodal, scene = [], [], [], [], []
    count = 0
    while count < THINGS:
        each = next(source)
        way = random.random()
        if way < 0.5:
            chosen = np.flatnonzero(each.layer == random.choice(each.layer))
        elif way < 0.7:
            chosen = np.array([random.integers(len(each.layer))])
        else:
            chosen = np.arange(len(each.layer))
        scene += [len(images)] * len(chosen)
        images.append(view(each.rgb))
        for planes_of, masks in (modal, each.modal), (front, each.front), (amodal, each.amodal):
            planes_of.append(planes(masks[chosen]))
        count += len(chosen)
    over, truth = torch.cat(front), torch.cat(amodal)
    said = net(torch.cat(images), torch.cat(modal), over, torch.tensor(scene)).float()
    weight = 0.5 + 2 * F.max_pool2d(over, 9, 1, 4)
    chance = torch.sigmoid(said)
    common = (chance * truth).sum((1, 2, 3))
    dice = 1 - (2 * common + 1) / (chance.sum((1, 2, 3)) + truth.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(said, truth, weight=weight) + 0.5 * dice.mean()


@torch.no_grad()
def one_by_one(net: Deocclusion, each: Ensemble) -> Pixels:
    """The whole masks by the direct network, of those things that something is in front of."""
    out = each.modal.copy()
    for k in range(len(out)):
        seen, over = bounds(each.modal[k] > 0), bounds(each.front[k] > 0)
        if seen is None or over is None:
            continue
        x, y, side = square_of(seen, over)
        modal, front = (planes(cut_square(part, x, y, side)[None]) for part in (each.modal[k], each.front[k]))
        _, amodal, _, _ = net.masks(view(cut_square(each.rgb, x, y, side)), modal, front)
        chance = put_square(torch.sigmoid(amodal)[0, 0].numpy(), x, y, side, out[k].shape)
        out[k] |= (chance > 0.5).astype(np.uint8) & each.front[k]
    return out


@torch.no_grad()
def at_once(net: Parallel, each: Ensemble, groups: list[list[int]]) -> Pixels:
    """The whole masks by the parallel network, a pass for each group of things."""
    out = each.modal.copy()
    for group in groups:
        modal, front = planes(each.modal[group]), planes(each.front[group])
        said = net(view(each.rgb), modal, front, torch.zeros(len(group), dtype=torch.int64))
        out[group] |= (said[:, 0] > 0).numpy().astype(np.uint8) & each.front[group]
    return out


def groupings(each: Ensemble) -> dict[str, list[list[int]]]:
    """Which things go together: none, those of a layer, all; what nothing is in front of is left out."""
    asked = [k for k in range(len(each.modal)) if each.front[k].any()]
    layers = sorted({int(each.layer[k]) for k in asked})
    return {
        "parallel, one by one": [[k] for k in asked],
        "parallel, layer by layer": [[k for k in asked if each.layer[k] == layer] for layer in layers],
        "parallel, once for all": [asked],
    }


def overlap(first: Pixels, second: Pixels) -> float:
    """Intersection over union."""
    return np.count_nonzero(first & second) / max(1, np.count_nonzero(first | second))


def score(direct: Deocclusion, parallel: Parallel, pictures: list[Ensemble]) -> dict[str, dict[str, float]]:
    """Rows of the table."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for each in pictures:
        ways: dict[str, Callable[[], Pixels]] = {
            "nothing completed": lambda each=each: each.modal,
            "direct, one by one": lambda each=each: one_by_one(direct, each),
        }
        for name, groups in groupings(each).items():
            ways[name] = lambda each=each, groups=groups: at_once(parallel, each, groups)
        for name, way in ways.items():
            started = time.process_time()
            made = way()
            spent = 1000 * (time.process_time() - started)
            for k in each.hidden:
                unseen = each.amodal[k] & (1 - each.visible[k])
                said = made[k] & (1 - each.visible[k]) & (1 - each.modal[k])
                rows.setdefault(name, []).append(
                    (overlap(made[k], each.amodal[k]), overlap(said, unseen), spent / len(each.hidden))
                )
    return {
        name: {
            "amodal_iou": round(float(np.mean([row[0] for row in found])), 3),
            "hidden_iou": round(float(np.mean([row[1] for row in found])), 3),
            "ms": round(float(np.sum([row[2] for row in found])) / len(pictures), 1),
        }
        for name, found in rows.items()
    }


def sheet(direct: Deocclusion, parallel: Parallel, pictures: list[Ensemble]) -> Pixels:
    """Of one hidden thing of each picture: input, visible, direct, layer by layer, truth."""
    columns = []
    for each in pictures:
        k = each.hidden[0]
        layered = at_once(parallel, each, groupings(each)["parallel, layer by layer"])
        masks = each.modal[k], one_by_one(direct, each)[k], layered[k], each.amodal[k]
        columns.append(np.vstack([each.rgb, *(np.repeat(m[..., None] * np.uint8(255), 3, 2) for m in masks)]))
    return np.hstack(columns)


def main() -> None:
    """Train both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=6.0, help="processor time of training, each network")
    parser.add_argument("--pictures", type=int, default=150)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--sheet", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(1)
    trained = read_wholes(arguments.data, lambda key: not is_held(key), overlap=0.5)
    held = read_wholes(arguments.data, is_held)
    direct, parallel = build_deocclusion(), build_parallel()
    source = squares(ensembles(trained, 11))
    direct.masks.templates.copy_(recipe.templates([next(source) for _ in range(1200)], 11))

    def direct_loss() -> Tensor:
        batch = recipe.stack([next(source) for _ in range(THINGS)])
        return torch.stack(list(recipe.mask_losses(direct, batch).values())).sum()

    scenes, random = ensembles(trained, 12), np.random.default_rng(12)
    steps = {
        "direct": fit(direct.masks, direct_loss, 60 * arguments.minutes),
        "parallel": fit(parallel, lambda: parallel_loss(parallel, scenes, random), 60 * arguments.minutes),
    }
    tests = ensembles(held, 13)
    pictures = [next(tests) for _ in range(arguments.pictures)]
    direct.eval()
    result = {
        "minutes": arguments.minutes,
        "steps": steps,
        "pictures": len(pictures),
        "things": sum(len(each.hidden) for each in pictures),
        "side": {"direct": SIDE, "parallel": pictures[0].rgb.shape[0]},
        "methods": score(direct, parallel, pictures),
    }
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.sheet is not None:
        cv2.imwrite(str(arguments.sheet), sheet(direct, parallel, pictures[:8])[..., ::-1])


if __name__ == "__main__":
    main()
