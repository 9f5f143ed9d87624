"""Skip-gram vectors of class words from captions: ICIP 2019's recipe, and its comparison.

Two corpora of the same captions: `class_words`, every other word deleted, and `captions`, nothing deleted. In
both, names of several words are joined, or their classes would have no vector.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.labels import THING_NAMES
from models.relation import CLASS_NAMES, PAPER_THRESHOLD, Floats, Relation

from .caption_words import class_word, class_words, joined_words

Bits = npt.NDArray[np.uint8]
Corpus = Literal["class_words", "captions"]
CLASSES, THINGS = len(CLASS_NAMES), len(THING_NAMES)
LEAST_SAID = 20
_PIECE = 9000


def word_numbers() -> Floats:
    """Return (171) numbers, equal where classes share a word."""
    words = [class_word(name) for name in CLASS_NAMES]
    return np.array([words.index(word) for word in words], np.float32)


def paragraphs(file: Path, corpus: Corpus = "class_words", without: Collection[int] = ()) -> list[list[str]]:
    """Read captions of COCO pictures (`coco:` lines) as one list of words a picture.

    Pictures whose number is in `without` are passed over.
    """
    words_of = class_words if corpus == "class_words" else joined_words
    left_out = set(without)
    found = []
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            source, _, captions = line.rstrip("\n").partition("\t")
            number = re.fullmatch(r"coco:0*(\d+)", source)
            if source.startswith("coco:") and not (number and int(number[1]) in left_out):
                found.append([word for caption in captions.split(" | ") for word in words_of(caption)])
    return found


def skip_gram(
    texts: list[list[str]], *, window: int, dimensions: int, epochs: int, seed: int
) -> dict[str, Floats]:
    """Unit vectors of all class words that are said at least 20 times.

    ICIP 2019: pictures are separated by as many end-of-paragraph tokens as the window is wide, so that no
    context crosses pictures.
    """
    from gensim.models import Word2Vec

    flat = [word for text in texts for word in [*text, *["eop"] * window]]
    # gensim cuts long sentences; its own pieces would lose the words beyond
    pieces = [flat[i : i + _PIECE] for i in range(0, len(flat), _PIECE)]
    model = Word2Vec(
        pieces,
        vector_size=dimensions,
        window=window,
        sg=1,
        min_count=1,
        workers=1,
        epochs=epochs,
        seed=seed,
        sample=1e-3,
    )
    vectors = {}
    for word in {class_word(name) for name in CLASS_NAMES}:
        if word in model.wv and model.wv.get_vecattr(word, "count") >= LEAST_SAID:
            vectors[word] = np.asarray(model.wv[word] / np.linalg.norm(model.wv[word]), np.float32)
    return vectors


def class_vectors(vectors: dict[str, Floats], sets: Bits) -> Floats:
    """Unit vectors of all classes (171, dimensions).

    A class whose word the captions (almost) never use gets the mean vector of the classes it shares
    pictures with, weighted by normalised pointwise mutual information in the label sets (N, 171).
    """
    words = [class_word(name) for name in CLASS_NAMES]
    spoken = np.array([word in vectors for word in words])
    size = len(next(iter(vectors.values())))
    found = np.stack([vectors.get(word, np.zeros(size, np.float32)) for word in words])
    together = sets.T.astype(np.float32) @ sets.astype(np.float32) + 0.5
    share = together / len(sets)
    alone = np.diag(share)
    lift = np.log(share / (alone[:, None] * alone[None, :])) / -np.log(share)
    for silent in np.nonzero(~spoken)[0]:
        weights = np.where(spoken, np.maximum(lift[silent], 0.0), 0.0)
        mean = weights @ found
        found[silent] = mean / np.linalg.norm(mean)
    return found


def co_occurrence(sets: Bits) -> Floats:
    """n(a and b) / n(a or b) over pictures (N, 171): (171, 171)."""
    flags = sets.astype(np.float32)
    both = flags.T @ flags
    alone = np.diag(both)
    either = alone[:, None] + alone[None, :] - both
    return np.asarray(both / np.maximum(either, 1.0), np.float32)


def said_sets(texts: list[list[str]]) -> Bits:
    """Which class words are said of each picture: (N, 171)."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(CLASS_NAMES):
        places.setdefault(class_word(name), []).append(i)
    found = np.zeros((len(texts), CLASSES), np.uint8)
    for row, text in enumerate(texts):
        for word in text:
            if word in places:
                found[row, places[word]] = 1
    return found


def pearson(vectors: Floats, together: Floats) -> float:
    """Correlation of cosine and co-occurrence over the pairs of a thing and another class.

    Pairs that share a word and classes without a vector are left out.
    """
    words = word_numbers()
    first, second = np.triu_indices(CLASSES, 1)
    pairs = (first < THINGS) & (words[first] != words[second])
    pairs &= (np.abs(vectors[first]).sum(1) > 0) & (np.abs(vectors[second]).sum(1) > 0)
    cosine = (vectors @ vectors.T)[first[pairs], second[pairs]]
    return float(np.corrcoef(cosine, together[first[pairs], second[pairs]])[0, 1])


def paper_range(tensors: dict[str, Floats], sets: Bits, seed: int) -> Floats:
    """Return the cosines that become 0 and 1, so that 0.4 parts natives from intruders best.

    ICIP 2019 normalises by the extremes of a set of pictures, which hang on two outliers. Here 1 is
    the 99th percentile of natives and 0 is placed so that the threshold is Youden's point.
    """
    paper = Relation("paper", {**tensors, "paper_range": np.array([-1.0, 1.0], np.float32)})
    random = np.random.default_rng(seed)
    enough = sets[sets.sum(1) >= 3]
    native, foreign = [], []
    for row in enough[random.permutation(len(enough))[:6000]]:
        things, absent = np.nonzero(row[:THINGS])[0], np.nonzero(row[:THINGS] == 0)[0]
        context = row.astype(np.float32)
        foreign.append(paper.scores(context[None])[0, random.choice(absent)])
        for thing in things:
            rest = context.copy()
            rest[thing] = 0
            native.append(paper.scores(rest[None])[0, thing])
    good, bad = 2 * np.sort(native) - 1, 2 * np.sort(foreign) - 1
    cuts = np.quantile(np.concatenate([good, bad]), np.linspace(0.02, 0.98, 193))
    youden = np.searchsorted(bad, cuts) / len(bad) - np.searchsorted(good, cuts) / len(good)
    cut, high = cuts[int(youden.argmax())], np.quantile(good, 0.99)
    return np.array([(cut - PAPER_THRESHOLD * high) / (1 - PAPER_THRESHOLD), high], np.float32)
