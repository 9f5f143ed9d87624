"""Train the stuff classifier's head on the segmentator's trunk, and calibrate it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.labels import STUFF_NAMES, THING_NAMES
from models.stuff import HIDDEN, SIDE, StuffClassifier, StuffHead, build_stuff, pooled_size, take_trunk

from .data import read_coco
from .loop import read_weights, write_weights

SEGMENTATOR = Path(__file__).parent.parent / "weights" / "segmentator-compact.safetensors"
CLASSES = len(STUFF_NAMES)


@dataclass(frozen=True)
class Recipe:
    """How the committed weights were made; every field may be set from the command line."""

    seed: int = 20190928  # of every random draw
    held: float = 0.16  # share of pictures set aside by the digest of their names, never fitted
    views: int = 3  # random views of each training picture whose features are kept
    heads: int = 5  # heads fitted on different folds for the calibration; the stored one sees all folds
    epochs: int = 12  # passes over the kept views
    batch: int = 64  # views a step
    rate: float = 1e-3  # AdamW's, falling along a cosine
    decay: float = 0.05  # AdamW weight decay
    dropout: float = 0.4  # on the head's input and hidden layer
    segmentator: str = ""  # weights file the trunk comes from; "": the one in the package


@dataclass(frozen=True)
class Labelled:
    """Pictures and their stuff: files, and (N, 91) of 0 and 1."""

    files: tuple[Path, ...]
    labels: npt.NDArray[np.float32]


def read_labelled(data: Path) -> Labelled:
    """Pictures of coco/ whose label set is known, with their stuff classes."""
    coco = next((f for f in (data / "coco", data / "perception" / "coco") if f.is_dir()), data / "coco")
    with np.load(data / "relation" / "coco_image_labels.npz") as stored:
        rows = {int(number): row for row, number in enumerate(stored["image_ids"])}
        bits = np.unpackbits(stored["bits"], axis=1)[:, len(THING_NAMES) : len(THING_NAMES) + CLASSES]
    files = [picture.image for picture in read_coco(coco) if int(picture.image.stem) in rows]
    if not files:
        raise ValueError(f"no pictures with known stuff below {data}: see docs/training.md for the layout")
    labels = np.stack([bits[rows[int(file.stem)]] for file in files]).astype(np.float32)
    return Labelled(tuple(files), labels)


def is_held(file: Path, share: float) -> bool:
    """Whether a picture is set aside; the same on every machine."""
    return int.from_bytes(hashlib.sha256(b"stuff" + file.stem.encode()).digest()[:4], "big") < share * 2**32


def view(image: npt.NDArray[np.uint8], random: np.random.Generator | None) -> npt.NDArray[np.float32]:
    """The picture squeezed to (128, 128, 3) float32 in [0, 1]; with `random`, cut, mirrored and tinted."""
    if random is not None:
        height, width = image.shape[:2]
        share = random.uniform(0.75, 1.0)
        tall, wide = int(height * share), int(width * min(1.0, share * random.uniform(0.9, 1.1)))
        top, left = int(random.integers(0, height - tall + 1)), int(random.integers(0, width - wide + 1))
        image = image[top : top + tall, left : left + wide]
        if random.random() < 0.5:
            image = image[:, ::-1]
    small = cv2.resize(np.ascontiguousarray(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    found = small.astype(np.float32) / 255
    if random is not None:
        found = found * (random.uniform(0.8, 1.2) * random.uniform(0.95, 1.05, 3))
    return np.clip(found, 0, 1).astype(np.float32)


@torch.no_grad()
def features_of(
    network: StuffClassifier, files: tuple[Path, ...], random: np.random.Generator | None
) -> Tensor:
    """Pooled features of one view of each file, (N, D)."""
    found = []
    for start in range(0, len(files), 16):
        views = []
        for file in files[start : start + 16]:
            bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if bgr is None:
                raise ValueError(f"cannot be read as a picture: {file}")
            views.append(view(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), random))
        batch = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
        found.append(network.pooled(batch.contiguous(memory_format=torch.channels_last)))
    return torch.cat(found)


def fit_head(features: Tensor, labels: Tensor, recipe: Recipe, seed: int) -> StuffHead:
    """Fit a head to kept views: features (V, N, D), labels (N, 91)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head = StuffHead(features.shape[2], HIDDEN, dropout=recipe.dropout)
    last = head[5]
    assert isinstance(last, nn.Linear)
    share = labels.mean(0).clamp(0.002, 0.9)
    with torch.no_grad():
        last.bias.copy_(torch.logit(share))
    optimizer = torch.optim.AdamW(head.parameters(), recipe.rate, weight_decay=recipe.decay)
    views, count = features.shape[:2]
    steps = recipe.epochs * (views * count // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    head.train()
    for _ in range(steps):
        row = torch.randint(count, (recipe.batch,), generator=generator)
        which = torch.randint(views, (recipe.batch,), generator=generator)
        loss = F.binary_cross_entropy_with_logits(head(features[which, row]), labels[row]) * CLASSES
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def logits_from_other_folds(inputs: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Logits (N, 91) of each picture from a head that has not seen it: what calibration must be made on."""
    fold = torch.arange(len(labels)) % recipe.heads
    found = torch.zeros_like(labels)
    for number in range(recipe.heads):
        inside = fold == number
        head = fit_head(inputs[:, ~inside], labels[~inside], recipe, recipe.seed + number)
        with torch.no_grad():
            found[inside] = head(inputs[0, inside])
    return found


def calibrate(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One scale for all classes and a shift for each (91), by maximum likelihood with a pull to 1 and 0."""
    scale = torch.ones(1, requires_grad=True)
    shift = torch.zeros(CLASSES, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=80, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(scale * logits + shift, labels, reduction="sum")
        loss = loss + 10 * (shift**2).sum()  # rare classes have a handful of examples to speak of
        loss.backward()
        return loss

    optimizer.step(closure)
    return scale.detach(), shift.detach()


def best_thresholds(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Per class the cut of best F1, drawn towards the best common cut where examples are few (91)."""
    cuts = torch.linspace(0.08, 0.7, 32)
    common = max(cuts.tolist(), key=lambda cut: f1(probabilities >= cut, labels > 0))
    chosen = torch.full((CLASSES,), common)
    for number in range(CLASSES):
        positives = float(labels[:, number].sum())
        if positives >= 10:
            scores = [f1(probabilities[:, number] >= cut, labels[:, number] > 0) for cut in cuts]
            own = float(cuts[int(np.argmax(scores))])
            trust = positives / (positives + 60)
            chosen[number] = trust * own + (1 - trust) * common
    return chosen


def f1(found: Tensor, true: Tensor) -> float:
    """2 TP / (2 TP + FP + FN); 0 where nothing is found and nothing is there."""
    hits = float((found & true).sum())
    return 2 * hits / max(1.0, float(found.sum()) + float(true.sum()))


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Area under the precision-recall steps of one class."""
    order = torch.argsort(scores, descending=True, stable=True)
    hits = labels[order]
    precision = torch.cumsum(hits, 0) / torch.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def measure(probabilities: Tensor, labels: Tensor, thresholds: Tensor, *, least: int = 5) -> dict[str, float]:
    """mAP over classes with at least `least` positives, micro and macro F1, calibration error."""
    known = [c for c in range(CLASSES) if float(labels[:, c].sum()) >= least]
    found = probabilities >= thresholds
    gaps = []
    for low in np.arange(0, 1, 0.1):
        inside = (probabilities >= low) & (probabilities < low + 0.1)
        if bool(inside.any()):
            gap = (probabilities[inside].mean() - labels[inside].mean()).abs()
            gaps.append(float(gap) * float(inside.float().mean()))
    return {
        "classes": float(len(known)),
        "map": float(np.mean([average_precision(probabilities[:, c], labels[:, c]) for c in known])),
        "chance_map": float(labels[:, known].mean()),
        "micro_f1": f1(found, labels > 0),
        "macro_f1": float(np.mean([f1(found[:, c], labels[:, c] > 0) for c in known])),
        "calibration_error": float(np.sum(gaps)),
    }


def train(data: Path, work: Path, recipe: Recipe, *, log: Callable[[str], None]) -> Path:
    """Fit the head on kept features of the frozen trunk; return the path of the weights.

    `data` as for the segmentator and the relation (coco/, relation/). Features are kept in `work`, so a
    second run resumes behind them; delete `features.pt` when the trunk changes.
    """
    work.mkdir(parents=True, exist_ok=True)
    labelled = read_labelled(data)
    network = build_stuff()
    source = Path(recipe.segmentator) if recipe.segmentator else SEGMENTATOR
    take_trunk(network, read_weights(source))
    network.eval()
    held = torch.tensor([is_held(file, recipe.held) for file in labelled.files])
    labels = torch.from_numpy(labelled.labels)
    log(f"{int((~held).sum())} pictures fitted, {int(held.sum())} held")
    kept = work / "features.pt"
    if kept.is_file():
        plain, views = torch.load(kept, weights_only=True)
    else:
        plain = features_of(network, labelled.files, None)
        random = np.random.default_rng(recipe.seed)
        fitted = tuple(file for file, aside in zip(labelled.files, held, strict=True) if not aside)
        views = torch.stack([features_of(network, fitted, random) for _ in range(recipe.views)])
        torch.save((plain, views), kept)
    inputs = torch.cat([plain[~held][None], views])
    fit_labels, held_labels = labels[~held], labels[held]
    outside = logits_from_other_folds(inputs, fit_labels, recipe)
    scale, shift = calibrate(outside, fit_labels)
    thresholds = best_thresholds(torch.sigmoid(scale * outside + shift), fit_labels)
    head = fit_head(inputs, fit_labels, recipe, recipe.seed)
    last = head[5]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(shift)
        network.head.load_state_dict(head.state_dict())
        network.thresholds.copy_(thresholds)
        scores = measure(torch.sigmoid(network.head(plain[held])), held_labels, thresholds)
    log("held: " + " ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    assert pooled_size(network.trunk.channels) == inputs.shape[2]
    metadata = {"model": "stuff", "variant": "compact", "recipe": repr(recipe)}
    metadata |= {name: f"{value:.4f}" for name, value in scores.items()}
    return write_weights(work / "stuff-compact.safetensors", network, metadata)
