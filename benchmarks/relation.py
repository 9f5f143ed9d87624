"""Rank intruders in held-out label sets and write benchmarks/relation.json.

    python -m benchmarks.relation --data DIR [--weights FILE]

To each held picture's label set one absent thing is added (drawn once); every thing is scored against
the rest. pooled = P(native above intruder) over all pictures, clean = natives scored without the
intruder, image = the same inside pictures, top1 = the intruder is the lowest of its picture.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.relation import CLASS_NAMES, Floats, Relation, load_relation
from models.training.relation import THINGS, Bits, Recipe, read_label_sets

Scorer = Callable[[Floats], Floats]
CUTS = (0.1, 0.2, 0.3, 0.4, 0.5)


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
    """Drop a third of the labels and add one false label: what a detector hands over."""
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


def calibration(scores: Scorer, sets: Bits, seed: int = 7) -> dict[str, list[float]]:
    """Return, by number of labels, mean score and true share of natives in score bins (half intruders)."""
    random = np.random.default_rng(seed)
    drawn = intruders(sets, "uniform", seed)
    freq = intruders(sets, "freq", seed)
    result: dict[str, list[float]] = {}
    for low, high in ((2, 4), (5, 8), (9, 14), (15, 99)):
        chosen = np.nonzero((sets.sum(1) >= low) & (sets.sum(1) <= high))[0]
        if len(chosen) < 200:
            continue
        contexts = sets[chosen].astype(np.float32)
        foreign = np.where(random.random(len(chosen)) < 0.5, drawn[chosen], freq[chosen])
        bad = scores(contexts)[np.arange(len(chosen)), foreign]
        thing = np.array([random.choice(np.nonzero(row[:THINGS])[0]) for row in sets[chosen]])
        contexts[np.arange(len(chosen)), thing] = 0
        good = scores(contexts)[np.arange(len(chosen)), thing]
        value, truth = np.concatenate([good, bad]), np.concatenate([np.ones(len(good)), np.zeros(len(bad))])
        bins = np.clip((value * 5).astype(int), 0, 4)
        error = sum(
            abs(value[bins == b].mean() - truth[bins == b].mean()) * np.mean(bins == b)
            for b in range(5)
            if np.any(bins == b)
        )
        result[f"{low}-{high}"] = [round(float(v), 3) for v in (value.mean(), truth.mean(), error)]
    return result


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
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    folder = arguments.data / "relation"
    sets = read_label_sets(folder / "coco_image_labels.npz", Recipe())
    reference = folder / "icip2019_reference.json.gz"
    rules: dict[str, Scorer] = {
        "fitted": load_relation(arguments.weights).scores,
        "paper": load_relation(arguments.weights, rule="paper").scores,
    }
    if reference.is_file():
        rules["authors' vectors (demo)"] = authors(reference, "vectors").scores
        rules["authors' vectors (alt)"] = authors(reference, "vectors_alt").scores
    result: dict[str, object] = {
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
    result["calibration (mean score, share of natives, error)"] = calibration(
        rules["fitted"], np.concatenate([sets.typical, sets.rich])
    )
    print(result["calibration (mean score, share of natives, error)"])
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
