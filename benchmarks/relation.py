"""Rank intruders in held-out label sets and write benchmarks/relation.json.

    python -m benchmarks.relation --data DIR [--weights FILE] [--work WORK/relation]

To each held picture's label set one absent thing is added (drawn once); every thing is scored against
the rest. pooled = P(native above intruder) over all pictures, clean = natives scored without the
intruder, image = the same inside pictures, top1 = the intruder is the lowest of its picture. Then, for the
fitted rule, what share of natives is behind a score, by number of labels: of true ones, of true ones with a
detector's errors drawn in, and of those that our own networks reported.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.relation import CLASS_NAMES, Floats, Relation, load_relation
from models.training.label_noise import measure_noise, read_reported
from models.training.relation import THINGS, Bits, LabelSets, Recipe, read_label_sets
from models.training.word_vectors import LEAST_SAID, co_occurrence, paragraphs, pearson, said_sets

Scorer = Callable[[Floats], Floats]
Numbers = npt.NDArray[np.int64]
CUTS = (0.1, 0.2, 0.3, 0.4, 0.5)
GROUPS = ((2, 2), (3, 3), (4, 5), (6, 8), (9, 13), (14, 99))
"""Numbers of labels, the thing in question counted."""


def auc(good: npt.NDArray[np.float64], bad: npt.NDArray[np.float64]) -> float:
    """Return P(good > bad), ties counted half."""
    ordered = np.sort(bad)
    below = np.searchsorted(ordered, good, "left") + np.searchsorted(ordered, good, "right")
    return float(below.mean() / 2 / len(bad))


def intruders(sets: Bits, kind: str, seed: int) -> npt.NDArray[np.int64]:
    """Draw one absent thing a picture: uniform, or in proportion to class frequency."""
    random = np.random.default_rng(seed)
    odds = np.ones(THINGS) if kind == "uniform" else sets[:, :THINGS].sum(0) + 1.0
    drawn = []
    for row in sets:
        free = odds * (row[:THINGS] == 0)
        drawn.append(int(random.choice(THINGS, p=free / free.sum())))
    return np.array(drawn)


def noisy(contexts: Floats, seed: int) -> Floats:
    """Drop a third of the labels and add one false label."""
    random = np.random.default_rng(seed)
    out = contexts * (random.random(contexts.shape) > 1 / 3)
    out[np.arange(len(out)), random.integers(0, len(CLASS_NAMES), len(out))] = 1
    return out.astype(np.float32)


def measure(
    scores: Scorer, sets: Bits, kind: str, *, noise: bool = False, seed: int = 20190927
) -> dict[str, float]:
    """Run the intruder test on label sets (N, 171)."""
    drawn = intruders(sets, kind, seed)
    contexts, targets, pictures, native, clean = [], [], [], [], []
    for number, (row, foreign) in enumerate(zip(sets, drawn, strict=True)):
        mixed = row.copy()
        mixed[foreign] = 1
        for thing in np.nonzero(mixed[:THINGS])[0]:
            for intruder_present in (True, False):
                if thing == foreign and not intruder_present:
                    continue
                context = (mixed if intruder_present else row).astype(np.float32)
                context[thing] = 0
                contexts.append(context)
                targets.append(thing)
                pictures.append(number)
                native.append(thing != foreign)
                clean.append(not intruder_present)
    matrix = np.stack(contexts)
    target = np.array(targets)
    if noise:
        matrix = noisy(matrix, seed)
        matrix[np.arange(len(matrix)), target] = 0
    value = np.concatenate(
        [
            scores(matrix[i : i + 8192])[np.arange(len(matrix[i : i + 8192])), target[i : i + 8192]]
            for i in range(0, len(matrix), 8192)
        ]
    ).astype(np.float64)
    picture, is_native, is_clean = np.array(pictures), np.array(native), np.array(clean)
    good, bad = value[is_native & is_clean], value[~is_native]
    mixed_natives = is_native & ~is_clean
    above, lowest = [], []
    borders = np.nonzero(np.diff(picture[mixed_natives]))[0] + 1
    for score, group in zip(bad, np.split(value[mixed_natives], borders), strict=True):
        above.append(np.mean(group > score) + 0.5 * np.mean(group == score))
        lowest.append(group.min() > score)
    return {
        "pooled": round(auc(value[mixed_natives], bad), 3),
        "clean": round(auc(good, bad), 3),
        "image": round(float(np.mean(above)), 3),
        "top1": round(float(np.mean(lowest)), 3),
        **{f"natives_below_{cut}": round(float(np.mean(good < cut)), 3) for cut in CUTS},
        **{f"intruders_below_{cut}": round(float(np.mean(bad < cut)), 3) for cut in CUTS},
    }


def examples(true: Bits, reported: Floats, seed: int) -> tuple[Floats, Numbers, npt.NDArray[np.bool_]]:
    """Contexts (M, 171), the thing asked about (M) and whether it is native (M).

    For every true thing of a picture one example of it and one of an absent thing, half of these drawn
    evenly and half by frequency, each among the picture's `reported` labels but itself. No picture with two
    labels is held: strangers among two are asked about in pictures of three, one label taken out.
    """
    random = np.random.default_rng(seed)
    drawn = np.stack([intruders(true, kind, seed + k) for k, kind in enumerate(("uniform", "freq"))], 1)
    rows, things = np.nonzero(true[:, :THINGS])
    foreign = drawn[rows, random.integers(0, 2, len(rows))]
    few = np.nonzero(reported[rows].sum(1) == 3)[0]
    fewer = reported[rows[few]].astype(np.float32)
    fewer[np.arange(len(few)), [random.choice(np.nonzero(row)[0]) for row in fewer]] = 0
    contexts = np.concatenate([reported[rows], reported[rows], fewer]).astype(np.float32)
    targets = np.concatenate([things, foreign, foreign[few]])
    contexts[np.arange(len(targets)), targets] = 0
    return contexts, targets, np.arange(len(targets)) < len(rows)


def reliability(scores: Scorer, true: Bits, reported: Floats, seed: int = 7) -> list[dict[str, object]]:
    """By number of labels (the thing itself counted): what share of natives is behind a score.

    In each row natives and intruders weigh the same. `shares`: share of natives among scores of
    0 to 0.2, 0.2 to 0.4 and so on, null where fewer than 20 examples lie; `error`: mean gap between the
    score and the share of natives over ten bins; `mean`: mean score, 0.5 if calibrated.
    """
    contexts, targets, native = examples(true, reported, seed)
    value = np.concatenate(
        [
            scores(contexts[i : i + 8192])[np.arange(len(contexts[i : i + 8192])), targets[i : i + 8192]]
            for i in range(0, len(contexts), 8192)
        ]
    ).astype(np.float64)
    labels = contexts.sum(1) + 1
    rows: list[dict[str, object]] = []
    for low, high in GROUPS:
        inside = (labels >= low) & (labels <= high)
        if inside.sum() < 100 or not native[inside].any() or native[inside].all():
            continue
        mine, good = value[inside], native[inside]
        weight = np.where(good, 0.5 / good.sum(), 0.5 / (~good).sum())
        tenth = np.clip((mine * 10).astype(int), 0, 9)
        gaps = [abs(float((weight * (mine - good))[tenth == k].sum())) for k in range(10)]
        fifth = tenth // 2
        shares = [
            round(float(weight[(fifth == k) & good].sum() / weight[fifth == k].sum()), 3)
            if (fifth == k).sum() >= 20
            else None
            for k in range(5)
        ]
        rows.append(
            {
                "labels": f"{low}" if low == high else f"{low}-{high}" if high < 99 else f"{low}+",
                "examples": int(inside.sum()),
                "mean": round(float((weight * mine).sum()), 3),
                "error": round(float(np.sum(gaps)), 3),
                "auc": round(auc(mine[good], mine[~good]), 3),
                "shares": shares,
            }
        )
    return rows


def authors(file: Path, key: str) -> Relation:
    """Return the mean-cosine rule over the published vectors of the ICIP 2019 authors."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        stored = json.load(stream)
    words = [stored["class_to_word"][name] for name in CLASS_NAMES]
    table = {word: np.array(vector, np.float32) for word, vector in stored[key].items()}
    blank = np.zeros(stored["dim"], np.float32)
    tensors = {
        "vectors": np.stack([table.get(word, blank) for word in words]),
        "words": np.array([words.index(word) for word in words], np.float32),
        "paper_range": np.array([-1.0, 1.0], np.float32),
    }
    return Relation("paper", tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds relation/")
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--work", type=Path, default=None, help="work folder of `train relation`")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    folder = arguments.data / "relation"
    recipe = Recipe()
    reported = read_reported()
    sets = read_label_sets(folder / "coco_image_labels.npz", recipe, without=reported.keys())
    reference = folder / "icip2019_reference.json.gz"
    rules: dict[str, Scorer] = {
        "fitted": load_relation(arguments.weights).scores,
        "paper": load_relation(arguments.weights, rule="paper").scores,
    }
    if reference.is_file():
        rules["authors' vectors (demo)"] = authors(reference, "vectors").scores
        rules["authors' vectors (alt)"] = authors(reference, "vectors_alt").scores
    result: dict[str, Any] = {
        "labels_per_picture": {
            "rich": float(sets.rich.sum(1).mean()),
            "typical": float(sets.typical.sum(1).mean()),
        }
    }
    for name, scores in rules.items():
        rows = {
            f"{group}, {kind}": measure(scores, getattr(sets, group), kind)
            for kind in ("uniform", "freq")
            for group in ("rich", "typical")
        }
        rows["typical, freq, noisy labels"] = measure(scores, sets.typical, "freq", noise=True)
        result[name] = rows
        for row, values in rows.items():
            print(f"{name:26s} {row:30s}", *(f"{k} {v:.3f}" for k, v in values.items() if "below" not in k))
    true = np.concatenate([sets.typical, sets.rich])
    fit = measure_noise(sets.by_number(), reported)
    drawn = fit.draw(torch.from_numpy(true.astype(np.float32)), torch.Generator().manual_seed(7)).numpy()
    numbers = [number for number, entry in reported.items() if entry.stuff and number in sets.by_number()]
    shown = np.stack([sets.by_number()[number] for number in numbers])
    seen = np.stack([reported[number].labels for number in numbers])
    cases = {
        "true labels": (true, true.astype(np.float32)),
        "with a detector's errors": (true, drawn),
        "as reported by our networks": (shown, seen),
    }
    result["reliability"] = {
        case: reliability(rules["fitted"], truth, labels) for case, (truth, labels) in cases.items()
    }
    result["labels"] = {
        case: {
            "pictures": len(truth),
            "labels": round(float(labels.sum(1).mean()), 2),
            "recall": round(float((labels * truth).sum() / truth.sum()), 3),
            "precision": round(float((labels * truth).sum() / labels.sum()), 3),
        }
        for case, (truth, labels) in cases.items()
    }
    for case, rows in result["reliability"].items():
        for row in rows:
            print(case, row)
    result["pearson"] = correlations(folder, arguments, sets)
    print(result["pearson"])
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def correlations(folder: Path, arguments: argparse.Namespace, sets: LabelSets) -> dict[str, dict[str, float]]:
    """Pearson correlation of cosine and co-occurrence, in captions and in pixel labels, of all vectors.

    Classes found in fewer than 20 pictures of what is counted are left out.
    """
    counted = {
        "captions, class words": said_sets(paragraphs(folder / "captions.txt.gz")),
        "captions, literal words": said_sets(paragraphs(folder / "captions.txt.gz", "captions")),
        "pixel labels": sets.bits,
    }
    together = {name: (co_occurrence(each), each.sum(0) >= LEAST_SAID) for name, each in counted.items()}
    reference = folder / "icip2019_reference.json.gz"
    vectors = {"class words": load_relation(arguments.weights, rule="paper").tensors["vectors"]}
    if arguments.work is not None:
        vectors["unmodified captions"] = np.load(arguments.work / "captions-vectors.npy")
    if reference.is_file():
        for key, name in (("vectors", "authors' (demo)"), ("vectors_alt", "authors' (alt)")):
            vectors[name] = authors(reference, key).tensors["vectors"]
    return {
        name: {
            kind: round(pearson(each * often[:, None], shared), 3)
            for kind, (shared, often) in together.items()
        }
        for name, each in vectors.items()
    }


if __name__ == "__main__":
    main()
