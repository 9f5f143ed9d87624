"""Draw docs/relation-map.png: class vectors in two dimensions, after figure 4 of the ICIP 2019 paper.

    python -m benchmarks.relation_map --data DIR --work WORK/relation [--weights FILE]

t-SNE (scikit-learn, fixed seed) of three sets of vectors: of class words alone, of unmodified captions (both
from the work folder of `cleanplate train relation`), and the authors'. Indoor and outdoor classes have
different colours; benchmarks/relation_map.json has the share of the five nearest neighbours in 128 dimensions
that are of the same kind, and the silhouette of the two kinds there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from benchmarks.relation import authors
from models.labels import INDOOR_NAMES, THING_NAMES
from models.relation import CLASS_NAMES, Floats, load_relation
from models.training.caption_words import class_word

matplotlib.use("Agg")
from matplotlib import pyplot

SEED = 20190927
DOCS = Path(__file__).parent.parent / "docs"
NEIGHBOURS = 5
COLOURS = {True: "#b5482a", False: "#1f7a5a"}


def distinct(vectors: Floats) -> tuple[list[str], Floats]:
    """One row for each class word with a vector: its name and vector."""
    found: dict[str, Floats] = {}
    for name, vector in zip(CLASS_NAMES, vectors, strict=True):
        if np.abs(vector).sum() > 0:
            found.setdefault(class_word(name), vector)
    return list(found), np.stack(list(found.values()))


def separation(words: list[str], vectors: Floats) -> dict[str, float]:
    """How far indoor and outdoor classes lie apart by cosine."""
    indoor = np.array([is_indoor(word) for word in words])
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    nearest = np.argsort(-cosine, 1)[:, :NEIGHBOURS]
    return {
        "neighbours of the same kind": round(float((indoor[nearest] == indoor[:, None]).mean()), 3),
        "silhouette": round(float(silhouette_score(vectors, indoor, metric="cosine")), 3),
    }


def is_indoor(word: str) -> bool:
    """Whether the first class of a word is an indoor one."""
    return next(name for name in CLASS_NAMES if class_word(name) == word) in INDOOR_NAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds relation/")
    parser.add_argument("--work", type=Path, required=True, help="work folder of `train relation`")
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--picture", type=Path, default=DOCS / "relation-map.png")
    arguments = parser.parse_args()
    sets = {
        "class words alone": load_relation(arguments.weights, rule="paper").tensors["vectors"],
        "unmodified captions": np.load(arguments.work / "captions-vectors.npy"),
    }
    reference = arguments.data / "relation" / "icip2019_reference.json.gz"
    if reference.is_file():
        sets["the authors' vectors"] = authors(reference, "vectors").tensors["vectors"]
    figure, axes = pyplot.subplots(1, len(sets), figsize=(7 * len(sets), 7))
    result = {}
    for axis, (title, vectors) in zip(np.atleast_1d(axes), sets.items(), strict=True):
        words, distinct_vectors = distinct(vectors)
        result[title] = separation(words, distinct_vectors)
        flat = TSNE(
            2, metric="cosine", perplexity=15, init="random", random_state=SEED, learning_rate="auto"
        ).fit_transform(distinct_vectors)
        things = {class_word(name) for name in THING_NAMES}
        for word, (x, y) in zip(words, flat, strict=True):
            colour = COLOURS[is_indoor(word)]
            axis.plot(x, y, "o" if word in things else "s", color=colour, markersize=3.5)
            axis.annotate(word, (x, y), fontsize=6.5, color=colour, xytext=(2, 2), textcoords="offset points")
        said = result[title]["neighbours of the same kind"]
        axis.set_title(f"{title}: {said:.0%} of the nearest neighbours are of the same kind", fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle("red: indoor, green: outdoor; dots: things, squares: stuff", fontsize=11)
    figure.tight_layout()
    figure.savefig(arguments.picture, dpi=75)
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
