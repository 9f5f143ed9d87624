"""Learn the vocabulary of visual words: the cluster centres of many pictures' features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from models.words import describe, unit


@dataclass(frozen=True)
class Recipe:
    """How the committed vocabulary was made; every field may be set from the command line."""

    seed: int = 7  # of the choice of pictures and the first centres
    words: int = 1024  # cluster centres
    pictures: int = 700  # pictures used at most
    lines: int = 180  # height to which pictures are brought
    features: int = 200  # of a picture, the strongest
    rounds: int = 15  # of k-means


def train(data: Path, work: Path, recipe: Recipe | None = None, log: Callable[[str], object] = print) -> Path:
    """Cluster the features of the JPEGs below `data` (k-means++) and return the file written below `work`."""
    recipe = recipe or Recipe()
    chance = np.random.default_rng(recipe.seed)
    paths = sorted(data.rglob("*.jpg"))
    if not paths:
        raise ValueError(f"there are no JPEG pictures below {data}")
    chosen = [paths[i] for i in sorted(chance.permutation(len(paths))[: recipe.pictures])]
    found = []
    for path in chosen:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is not None:
            size = max(16, round(grey.shape[1] * recipe.lines / grey.shape[0])), recipe.lines
            small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
            found.append(unit(describe(small, count=recipe.features).descriptors))
    every = np.concatenate(found)
    log(f"{len(every)} features of {len(found)} pictures")
    if len(every) < recipe.words:
        raise ValueError(f"{len(every)} features are too few for {recipe.words} words")
    cv2.setRNGSeed(recipe.seed)
    stop = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, recipe.rounds, 1e-4)
    _, _, centres = cv2.kmeans(every, recipe.words, None, stop, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]  # None: no labels yet
    work.mkdir(parents=True, exist_ok=True)
    path = work / "words.safetensors"
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    save_file({"words": np.clip(np.rint(centres * 400), 0, 255).astype(np.uint8)}, path)
    return path
