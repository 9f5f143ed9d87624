"""Train the stuff classifier: its trunk by a teacher of surfaces, its head by labels; then calibrate it.

1. **Surfaces.** The segmentator's trunk is shown whole pictures at 128 x 128 and learns, by a teacher, of
   which of 32 surfaces each cell is made, and from the annotations which things are there. No stuff label is
   used, so pictures without labels serve as well, and what follows may be judged on the labelled ones.
2. **Head.** Fitted to kept features of several views. Heads that have not seen a picture judge it (folds),
   and by those the calibration, the thresholds and the classes that are never reported are chosen.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.labels import STUFF_NAMES
from models.stuff import (
    HIDDEN,
    NEVER,
    SIDE,
    StuffClassifier,
    StuffHead,
    build_stuff,
    take_trunk,
)

from .loop import (
    Journal,
    read_weights,
    recipe_text,
    write_weights,
)
from .stuff_pictures import (
    KEPT,
    Pictures,
    Window,
    as_tensor,
    draw_window,
    is_held,
    read_pictures,
    squeezed,
    view,
)
from .stuff_recipe import Recipe
from .stuff_trunk import learn_surfaces
from .surfaces import SurfaceTeacher, surfaces_of

SEGMENTATOR = Path(__file__).parent.parent / "weights" / "segmentator-compact.safetensors"
CLASSES = len(STUFF_NAMES)


def train(data: Path, work: Path, recipe: Recipe, *, log: Callable[[str], None]) -> Path:
    """Train, or go on training, in `work`; returns the path of the weights.

    `data` as for the segmentator and the relation (docs/training.md). Raises ValueError when it holds no
    picture whose stuff is known.
    """
    journal = Journal(work / "journal.jsonl", log)
    pictures = read_pictures(data)
    held = np.array([is_held(file, recipe.held) for file in pictures.files]) & pictures.labelled
    fitted = pictures.labelled & ~held
    journal.write(fitted=int(fitted.sum()), held=int(held.sum()), unlabelled=int((~pictures.labelled).sum()))
    torch.manual_seed(recipe.seed)
    network = first_network(recipe)
    images = _images(pictures, work)
    if recipe.teacher:
        grids = _surfaces(data, work, pictures, recipe, log)
        learn_surfaces(network, images, grids, pictures.things, held, work, recipe, journal)
    network.eval()
    plain, views = _features(network, pictures, images, fitted, work, recipe, journal)
    labels = torch.from_numpy(pictures.stuff[pictures.labelled])
    fitted, held = fitted[pictures.labelled], held[pictures.labelled]
    inputs = torch.cat([plain[fitted][None], views])
    head, thresholds = fit_calibrated(inputs, labels[fitted], recipe)
    with torch.no_grad():
        scores = measure(torch.sigmoid(head(plain[held])), labels[held], thresholds)
    journal.write(**scores)
    silence(head, thresholds)
    network.head.load_state_dict(head.state_dict())
    network.thresholds.copy_(thresholds)
    never = [name for name, cut in zip(STUFF_NAMES, thresholds, strict=True) if cut >= NEVER]
    journal.write(never_reported=", ".join(never))
    metadata = {"model": "stuff", "variant": recipe.variant, "recipe": recipe_text(recipe)}
    metadata |= {name: f"{value:.4f}" for name, value in scores.items()}
    metadata["never_reported"] = json.dumps(never)
    return write_weights(work / f"stuff-{recipe.variant}.safetensors", network, metadata)


def _images(pictures: Pictures, work: Path) -> npt.NDArray[np.uint8]:
    """All pictures, squeezed (N, 176, 176, 3), kept in `work`."""
    kept, shape = work / "images.npy", (len(pictures.files), KEPT, KEPT, 3)
    if kept.is_file():
        found = np.load(kept, mmap_mode="r")
        if found.shape == shape:
            return np.asarray(found)
    found = np.stack([squeezed(file, KEPT) for file in pictures.files])
    np.save(kept, found)
    return found


def first_network(recipe: Recipe) -> StuffClassifier:
    """The network with its trunk filled from the segmentator's weights or, `paper`, torchvision's."""
    network = build_stuff(variant=recipe.variant)
    if recipe.variant == "paper":
        from models.torchvision import RESNET101, load_torchvision, read_state_dict

        load_torchvision(network, read_state_dict(recipe.trunk or RESNET101))
        return network
    take_trunk(network, read_weights(Path(recipe.trunk) if recipe.trunk else SEGMENTATOR))
    return network


def _surfaces(
    data: Path, work: Path, pictures: Pictures, recipe: Recipe, log: Callable[[str], None]
) -> npt.NDArray[np.uint8]:
    root = data / "perception" if (data / "perception").is_dir() else data
    teacher = SurfaceTeacher(root / "teachers" / recipe.teacher)
    return surfaces_of(teacher, pictures.files, work / "surfaces.npy", log)


# ---------------------------------------------------------------- second stage: the head


def _features(
    network: StuffClassifier,
    pictures: Pictures,
    images: npt.NDArray[np.uint8],
    fitted: npt.NDArray[np.bool_],
    work: Path,
    recipe: Recipe,
    journal: Journal,
) -> tuple[Tensor, Tensor]:
    """Head inputs of labelled pictures (N, D) and of views of the fitted ones (V, M, D), kept in `work`."""
    kept = work / "features.pt"
    if kept.is_file():
        plain, views = torch.load(kept, weights_only=True)
        return plain, views
    random = np.random.default_rng(recipe.seed)
    labelled = [file for file, known in zip(pictures.files, pictures.labelled, strict=True) if known]
    plain = features_of(network, np.stack([squeezed(file, SIDE) for file in labelled]), None)
    chosen = images[fitted]
    views = torch.stack([features_of(network, chosen, random) for _ in range(recipe.views)])
    torch.save((plain, views), kept)
    journal.write(features=list(views.shape))
    return plain, views


@torch.no_grad()
def features_of(
    network: StuffClassifier, images: npt.NDArray[np.uint8], random: np.random.Generator | None
) -> Tensor:
    """The head's inputs for one view of each image, (N, D): the whole, or with `random` a random part."""
    found = []
    for start in range(0, len(images), 16):
        windows = [Window() if random is None else draw_window(random) for _ in images[start : start + 16]]
        views = [view(image, w, random) for image, w in zip(images[start : start + 16], windows, strict=True)]
        found.append(network.pooled(as_tensor(views)))
    return torch.cat(found)


def fit_head(features: Tensor, labels: Tensor, recipe: Recipe, seed: int) -> StuffHead:
    """Fit a head to kept views: features (V, N, D), labels (N, 91)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    hidden = HIDDEN if recipe.variant == "compact" else 512
    head = StuffHead(features.shape[2], hidden, dropout=recipe.dropout)
    norm, last = head[0], head[5]
    assert isinstance(norm, nn.BatchNorm1d) and isinstance(last, nn.Linear)
    assert norm.running_mean is not None and norm.running_var is not None
    share = labels.mean(0).clamp(0.002, 0.9)
    with torch.no_grad():
        last.bias.copy_(torch.logit(share))
        norm.running_mean.copy_(features.mean((0, 1)))
        norm.running_var.copy_(features.flatten(0, 1).var(0) + 1e-6)
    optimizer = torch.optim.AdamW(head.parameters(), recipe.rate, weight_decay=recipe.decay)
    views, count = features.shape[:2]
    steps = recipe.epochs * (views * count // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    head.train()
    norm.eval()
    for _ in range(steps):
        row = torch.randint(count, (recipe.batch,), generator=generator)
        which = torch.randint(views, (recipe.batch,), generator=generator)
        loss = F.binary_cross_entropy_with_logits(head(features[which, row]), labels[row]) * CLASSES
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def fit_calibrated(inputs: Tensor, labels: Tensor, recipe: Recipe) -> tuple[StuffHead, Tensor]:
    """The head with its calibration folded in, and the thresholds (91,), NEVER for what it cannot know."""
    outside = logits_from_other_folds(inputs, labels, recipe)
    scale, shift = calibrate(outside, labels)
    calibrated = torch.sigmoid(scale * outside + shift)
    thresholds = best_thresholds(calibrated, labels)
    for number in range(CLASSES):
        if not is_known(calibrated[:, number], labels[:, number], recipe):
            thresholds[number] = NEVER
    head = copy.deepcopy(fit_head(inputs, labels, recipe, recipe.seed))
    last = head[5]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(shift)
    return head, thresholds


@torch.no_grad()
def silence(head: StuffHead, thresholds: Tensor) -> None:
    """Take out of a head, in place, the classes that are never reported: their probability becomes 0."""
    last = head[5]
    assert isinstance(last, nn.Linear)
    last.weight[thresholds >= NEVER] = 0.0
    last.bias[thresholds >= NEVER] = -30.0


def is_known(probability: Tensor, labels: Tensor, recipe: Recipe) -> bool:
    """Whether a class may be reported: enough pictures to learn from, and better than a guess."""
    positives = int(labels.sum())
    if positives < recipe.least_positives:
        return False
    found = average_precision(probability, labels)
    return found >= recipe.least_precision


def logits_from_other_folds(inputs: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Logits (N, 91) of each picture from a head that has not seen it: what calibration must be made on."""
    fold = torch.arange(len(labels)) % recipe.folds
    found = torch.zeros_like(labels)
    for number in range(recipe.folds):
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
    """mAP over classes with at least `least` positives, micro and macro F1, calibration error.

    `map_reported`: over those of these classes that may be reported.
    """
    known = [c for c in range(CLASSES) if float(labels[:, c].sum()) >= least]
    precision = {c: average_precision(probabilities[:, c], labels[:, c]) for c in known}
    reported = [c for c in known if float(thresholds[c]) < NEVER]
    found = probabilities >= thresholds
    return {
        "classes": float(len(known)),
        "map": float(np.mean(list(precision.values()))) if known else 0.0,
        "chance_map": float(labels[:, known].mean()) if known else 0.0,
        "classes_reported": float(len(reported)),
        "map_reported": float(np.mean([precision[c] for c in reported])) if reported else 0.0,
        "micro_f1": f1(found, labels > 0),
        "macro_f1": float(np.mean([f1(found[:, c], labels[:, c] > 0) for c in known])) if known else 0.0,
        "calibration_error": calibration_error(probabilities, labels),
    }


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Mean gap between probability and share of positives over ten bins of probability."""
    gaps = []
    for low in np.arange(0, 1, 0.1):
        inside = (probabilities >= low) & (probabilities < low + 0.1)
        if bool(inside.any()):
            gap = (probabilities[inside].mean() - labels[inside].mean()).abs()
            gaps.append(float(gap) * float(inside.float().mean()))
    return float(np.sum(gaps))
