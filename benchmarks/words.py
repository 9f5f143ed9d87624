"""Score the vocabulary of visual words: is a place found again, and is another place never taken for it?

    python -m benchmarks.words PICTURES [--clips CLIPS]

Each JPEG of PICTURES becomes two views of a place that share about half of what they show: the second is seen
from aside, exposed otherwise, noisy and compressed. All first views, and a frame a second of every clip below
CLIPS as distractors, are the album in which each second view is looked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.words import Features, bag, describe, load_words
from stream.align import match

LINES = 180
SHARE, SHIFT = 0.62, 0.35

Grey = NDArray[np.uint8]


def views(picture: Grey, chance: np.random.Generator) -> tuple[Grey, Grey]:
    """Two views of a picture at 180 lines."""
    height, width = picture.shape
    w, h = int(width * SHARE), int(height * SHARE)
    x, y = int(width * 0.02), int(height * 0.1)
    first = picture[y : y + h, x : x + w]
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]]) + chance.uniform(-0.04, 0.04, (4, 2)) * [w, h]
    corners = (corners + np.array([x + SHIFT * w, y + 8])).astype(np.float32)
    target = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    turn = cv2.getPerspectiveTransform(corners, target)
    second = cv2.warpPerspective(picture, turn, (w, h), borderMode=cv2.BORDER_REFLECT)
    noisy = second * chance.uniform(0.7, 1.3) + chance.normal(0, 3, second.shape)
    coded = cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return reduced(first), reduced(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))


def reduced(grey: NDArray[np.generic] | None) -> Grey:
    """A picture at 180 lines."""
    assert grey is not None
    size = round(grey.shape[1] * LINES / grey.shape[0]), LINES
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def distractors(folder: Path) -> Iterator[Grey]:
    """A frame a second of each clip."""
    for path in sorted(folder.glob("*.mp4")):
        clip = cv2.VideoCapture(str(path))
        every, index = max(1, round(clip.get(cv2.CAP_PROP_FPS))), 0
        while (read := clip.read())[0]:
            if index % every == 0:
                yield reduced(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY))
            index += 1


def ranks(album: list[Features], asked: list[Features]) -> NDArray[np.int64]:
    """For each picture asked about, how many of the album come before its own, which has its number."""
    words = load_words()
    bags = np.stack([bag(each, words) for each in album])
    rare = np.log((1 + len(bags)) / (1 + (bags > 0).sum(0))) + 0.05
    rows = np.sqrt(bags) * rare
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    likeness = [rows @ (np.sqrt(bag(each, words)) * rare) for each in asked]
    return np.array([np.count_nonzero(found > found[k]) for k, found in enumerate(likeness)])


def main() -> None:
    """Print how often a place is found first and among the first four, and what geometry says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--clips", type=Path)
    told = parser.parse_args()
    chance = np.random.default_rng(0)
    greys = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(told.pictures.glob("*.jpg"))]
    pairs = [views(np.asarray(grey, np.uint8), chance) for grey in greys if grey is not None]
    first, second = ([describe(pair[k]) for pair in pairs] for k in (0, 1))
    others = [describe(each) for each in distractors(told.clips)] if told.clips else []
    place = ranks([*first, *others], second)
    sizes = [pair[1].shape[::-1] for pair in pairs]
    same = [match(a, b, *size) for a, b, size in zip(first, second, sizes, strict=True)]
    wrong = [match(a, b, *size) for a, b, size in zip([*first[7:], *first[:7]], second, sizes, strict=True)]
    print(f"{len(pairs)} places among {len(first) + len(others)} pictures")
    print(f"first {np.mean(place == 0):.3f}, among the first four {np.mean(place < 4):.3f}")
    fitted, mistaken = (np.mean([each is not None for each in found]) for found in (same, wrong))
    print(f"laid over its own place {fitted:.3f}, over another place {mistaken:.3f}")


if __name__ == "__main__":
    main()
