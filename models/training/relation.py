"""Fit the relation table: skip-gram vectors from captions, the native-or-intruder score from label sets."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.labels import THING_NAMES
from models.relation import CLASS_NAMES, PAPER_THRESHOLD, Floats, Relation
from models.training.caption_words import class_word, class_words

Bits = npt.NDArray[np.uint8]
CLASSES, THINGS = len(CLASS_NAMES), len(THING_NAMES)
KNOTS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 18.0)


@dataclass(frozen=True)
class Recipe:
    """How the committed table was made; every field may be set from the command line."""

    seed: int = 20190927  # of every random draw
    held: int = 5000  # pictures left out in each of the two held groups (rich, typical)
    epochs: int = 16  # passes over all (picture, thing) pairs
    hidden: int = 192  # units of the one hidden layer
    batch: int = 2048  # pairs a step, half things, half stuff
    rate: float = 2e-3  # Adam's, falling to 0 along a cosine
    decay: float = 1e-5  # AdamW weight decay
    polluted: float = 0.5  # share of contexts that hold one foreign label more
    dropped: float = 0.35  # share of contexts that lost some of their labels, as a detector loses them
    dropout: float = 0.2  # on the hidden layer
    uniform: float = 0.5  # share of intruders drawn evenly; the rest in proportion to class frequency
    stuff_weight: float = 0.2  # weight of stuff classes as targets
    window: int = 3  # skip-gram window, and the end-of-paragraph tokens between pictures
    dimensions: int = 128  # of a word vector
    vector_epochs: int = 10  # passes of the skip-gram


@dataclass(frozen=True)
class LabelSets:
    """Label sets split into what is fitted, what sets the calibration and what is only scored.

    All are rows (N, 171) of 0 and 1.
    """

    train: Bits
    calibration: Bits
    rich: Bits
    typical: Bits


def read_label_sets(file: Path, recipe: Recipe) -> LabelSets:
    """Read `coco_image_labels.npz` and hold out two groups of pictures with at least two things.

    rich: the pictures with the most labels; typical: random ones with at least three labels.
    """
    with np.load(file) as stored:
        bits: Bits = np.unpackbits(stored["bits"], axis=1)[:, :CLASSES]
        names = tuple(str(name) for name in stored["class_names"])
    if names != CLASS_NAMES:
        raise ValueError(f"{file} lists other classes than this version of the program")
    random = np.random.default_rng(recipe.seed)
    count, things = bits.sum(1), bits[:, :THINGS].sum(1)
    order = random.permutation(len(bits))
    eligible = order[things[order] >= 2]
    rich = eligible[np.argsort(-count[eligible], kind="stable")[: recipe.held]]
    rest = np.setdiff1d(eligible, rich)
    typical = random.permutation(rest[count[rest] >= 3])[: recipe.held]
    left = np.setdiff1d(order, np.concatenate([rich, typical]))
    # half random, half the richest of what is left: calibration must hold for long label lists too
    richest = left[np.argsort(-count[left], kind="stable")[: recipe.held // 2]]
    others = random.permutation(np.setdiff1d(left, richest))[: recipe.held // 2]
    calibration = np.concatenate([richest, others])
    train = np.setdiff1d(left, calibration)
    return LabelSets(bits[train], bits[calibration], bits[rich], bits[typical])


class RelationNet(nn.Module):
    """Direct evidence (171 x 171) plus one hidden layer: (N, 171) contexts -> (N, 171) logits."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(CLASSES, CLASSES))
        self.bias = nn.Parameter(torch.zeros(CLASSES))
        self.hidden = nn.Linear(CLASSES, hidden)
        self.output_weight = nn.Parameter(torch.zeros(hidden, CLASSES))
        self.dropout = nn.Dropout(dropout)

    def forward(self, contexts: Tensor) -> Tensor:
        hidden = self.dropout(functional.relu(self.hidden(contexts)))
        logits: Tensor = contexts @ self.linear + self.bias + hidden @ self.output_weight
        return logits


def train(data: Path, work: Path, recipe: Recipe, *, log: Callable[[str], None]) -> Path:
    """Fit both rules and write `work/relation.safetensors`; return its path.

    `data` holds `relation/coco_image_labels.npz` and `relation/captions.txt.gz` (or the two files
    themselves). The fit takes minutes; it resumes after the vectors, which are kept in `work`.
    """
    from safetensors.numpy import save_file

    work.mkdir(parents=True, exist_ok=True)
    folder = data / "relation" if (data / "relation").is_dir() else data
    sets = read_label_sets(folder / "coco_image_labels.npz", recipe)
    log(f"label sets: {len(sets.train)} fitted, {len(sets.rich)} rich and {len(sets.typical)} typical held")
    kept = work / "vectors.npy"
    if kept.is_file():
        vectors = np.load(kept)
    else:
        vectors = fit_vectors(folder / "captions.txt.gz", sets.train, recipe, log)
        np.save(kept, vectors)
    net = fit_network(sets.train, recipe, log)
    tensors = {
        "linear": net.linear.detach().numpy(),
        "bias": net.bias.detach().numpy(),
        "hidden_weight": net.hidden.weight.detach().numpy().T,
        "hidden_bias": net.hidden.bias.detach().numpy(),
        "output_weight": net.output_weight.detach().numpy(),
        "calibration_knots": np.array(KNOTS, np.float32),
        "vectors": vectors,
        "words": word_numbers(),
        "paper_range": np.array([0.0, 1.0], np.float32),
    }
    scale, shift = calibrate(net, sets.calibration, recipe)
    tensors |= {"calibration_scale": scale, "calibration_shift": shift}
    tensors["paper_range"] = paper_range(tensors, sets.train[:20000], recipe)
    file = work / "relation.safetensors"
    half = {  # halves the file; the loader computes in float32
        name: np.ascontiguousarray(value, np.float16 if value.size > 1000 else np.float32)
        for name, value in tensors.items()
    }
    save_file(half, file, metadata={"model": "relation", "recipe": repr(recipe)})
    log(f"wrote {file} ({file.stat().st_size / 1000:.0f} kB)")
    return file


# ---------------------------------------------------------------- the fitted rule


def fit_network(sets: Bits, recipe: Recipe, log: Callable[[str], None]) -> RelationNet:
    """Train native-or-intruder on clean, polluted and thinned contexts alike.

    A network that meets intruders only in otherwise clean contexts learns "the others all agree, so it
    is me" and fails natives whose picture is clean. Hence natives and intruders are both drawn from
    the same mixture of contexts: clean, with a false label, with labels missing.
    """
    torch.manual_seed(recipe.seed)
    net = RelationNet(recipe.hidden, recipe.dropout)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    sampler = PairSampler(sets, recipe)
    steps = recipe.epochs * sampler.steps
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for epoch in range(recipe.epochs):
        total = 0.0
        for batch in sampler.epoch():
            loss = _loss(net, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        log(f"relation epoch {epoch + 1}/{recipe.epochs}: loss {total / sampler.steps:.4f}")
    return net.eval()


@dataclass(frozen=True)
class PairBatch:
    """Natives scored in `native` contexts and every absent class scored in `foreign` contexts."""

    native: Tensor  # (B, 171) context without the target
    target: Tensor  # (B) class index
    weight: Tensor  # (B)
    foreign: Tensor  # (B, 171) context in which every absent class is an intruder
    intruders: Tensor  # (B, 171) odds of each class as the intruder, rows sum to `weight`


def _loss(net: RelationNet, batch: PairBatch) -> Tensor:
    native = net(batch.native).gather(1, batch.target[:, None])[:, 0]
    # all absent classes at once, weighted by how often each would be drawn: no sampling noise
    foreign = (functional.softplus(net(batch.foreign)) * batch.intruders).sum(1)
    return (functional.softplus(-native) * batch.weight + foreign).mean()


class PairSampler:
    """Draws (picture, native class) pairs and their contexts."""

    def __init__(self, sets: Bits, recipe: Recipe) -> None:
        self.recipe = recipe
        self.sets = torch.from_numpy(sets.astype(np.float32))
        picture, native = np.nonzero(sets)
        self.thing_pairs = np.stack([picture, native], 1)[native < THINGS]
        self.stuff_pairs = np.stack([picture, native], 1)[native >= THINGS]
        self.steps = len(self.thing_pairs) // (recipe.batch // 2)
        frequency = sets.sum(0).astype(np.float64)
        prior = np.zeros(CLASSES, np.float32)
        for members, share in ((slice(0, THINGS), 1.0), (slice(THINGS, None), recipe.stuff_weight)):
            part = frequency[members] / frequency[members].sum()
            prior[members] = share * (recipe.uniform / len(part) + (1 - recipe.uniform) * part)
        self.prior = torch.from_numpy(prior)
        self.random = np.random.default_rng(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)

    def epoch(self) -> Iterator[PairBatch]:
        half = self.recipe.batch // 2
        order = self.random.permutation(len(self.thing_pairs))
        for step in range(self.steps):
            things = self.thing_pairs[order[step * half : (step + 1) * half]]
            stuff = self.stuff_pairs[self.random.integers(0, len(self.stuff_pairs), half)]
            yield self._batch(torch.from_numpy(np.concatenate([things, stuff])))

    def _batch(self, pairs: Tensor) -> PairBatch:
        whole, target = self.sets[pairs[:, 0]], pairs[:, 1]
        rows = torch.arange(len(pairs))
        native = self._context(whole)
        native[rows, target] = 0.0
        foreign = self._context(whole)
        # what is scored must not be in its own context, neither as a native nor as the false label
        absent = (1 - whole) * (1 - foreign)
        weight = torch.where(target < THINGS, 1.0, self.recipe.stuff_weight)
        intruders = self.prior * absent
        intruders *= (weight / intruders.sum(1))[:, None]
        return PairBatch(native, target, weight, foreign, intruders)

    def _context(self, whole: Tensor) -> Tensor:
        """Thin and pollute label sets the way detectors do."""
        rows, recipe = len(whole), self.recipe
        keep = torch.ones(rows)
        thinned = torch.rand(rows, generator=self.generator) < recipe.dropped
        keep[thinned] = torch.rand(int(thinned.sum()), generator=self.generator)
        context = whole * (torch.rand(whole.shape, generator=self.generator) < keep[:, None])
        polluted = torch.rand(rows, generator=self.generator) < recipe.polluted
        if bool(polluted.any()):
            odds = (self.prior * (1 - whole))[polluted]
            false = torch.multinomial(odds, 1, generator=self.generator)[:, 0]
            context[torch.nonzero(polluted)[:, 0], false] = 1.0
        return context


def calibrate(net: RelationNet, sets: Bits, recipe: Recipe) -> tuple[Floats, Floats]:
    """Return scale and shift of the logit per KNOTS entry, so that 0.7 means 0.7 for 3 labels and for 10.

    Fitted by Newton steps on natives and intruders of held pictures in the mixture of training contexts,
    each example counted at its two neighbouring knots.
    """
    sampler = PairSampler(sets, recipe)
    logits, truth, count, weight = [], [], [], []
    with torch.no_grad():
        for _ in range(4):
            for batch in sampler.epoch():
                things = batch.target < THINGS
                native = net(batch.native).gather(1, batch.target[:, None])[things, 0]
                drawn = torch.multinomial(batch.intruders[things, :THINGS], 1, generator=sampler.generator)
                foreign = net(batch.foreign)[things].gather(1, drawn)[:, 0]
                logits += [native, foreign]
                truth += [torch.ones_like(native), torch.zeros_like(foreign)]
                count += [batch.native[things].sum(1), batch.foreign[things].sum(1)]
                weight += [torch.ones_like(native)] * 2
    z, y, n = (torch.cat(part).double() for part in (logits, truth, count))
    knots = torch.tensor(KNOTS, dtype=torch.float64)
    place = torch.clamp(torch.bucketize(n, knots, right=True) - 1, 0, len(KNOTS) - 2)
    part = torch.clamp((n - knots[place]) / (knots[place + 1] - knots[place]), 0, 1)
    blend = torch.zeros(len(n), len(KNOTS), dtype=torch.float64)
    blend[torch.arange(len(n)), place] = 1 - part
    blend[torch.arange(len(n)), place + 1] += part
    values = torch.cat([torch.ones(len(KNOTS)), torch.zeros(len(KNOTS))]).double()
    features = torch.cat([blend * z[:, None], blend], 1)
    ridge = 1e-3 * len(n) / 100
    anchor = values.clone()
    for _ in range(15):
        p = torch.sigmoid(features @ values)
        gradient = features.T @ (p - y) + ridge * (values - anchor)
        hessian = features.T @ (features * (p * (1 - p))[:, None]) + ridge * torch.eye(len(values)).double()
        values = values - torch.linalg.solve(hessian, gradient)
    fitted = values.float().numpy()
    return fitted[: len(KNOTS)], fitted[len(KNOTS) :]


# ---------------------------------------------------------------- the paper's rule


def word_numbers() -> Floats:
    """Return (171) numbers, equal where classes share a word."""
    words = [class_word(name) for name in CLASS_NAMES]
    return np.array([words.index(word) for word in words], np.float32)


def corpus(file: Path, window: int) -> list[list[str]]:
    """Read captions of COCO pictures (`coco:` lines) as one list of class words a picture.

    ICIP 2019: pictures are separated by as many end-of-paragraph tokens as the window is wide, so that
    no context crosses pictures.
    """
    paragraphs = []
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            source, _, captions = line.rstrip("\n").partition("\t")
            if source.startswith("coco:"):
                words = [word for caption in captions.split(" | ") for word in class_words(caption)]
                paragraphs.append(words + ["eop"] * window)
    return paragraphs


def fit_vectors(captions: Path, sets: Bits, recipe: Recipe, log: Callable[[str], None]) -> Floats:
    """Train the skip-gram and return unit vectors (171, dimensions).

    A class whose word the captions (almost) never use gets the mean vector of the classes it shares
    pictures with, weighted by normalised pointwise mutual information.
    """
    from gensim.models import Word2Vec

    paragraphs = corpus(captions, recipe.window)
    flat = [word for paragraph in paragraphs for word in paragraph]
    # gensim cuts long sentences; sentences that end in the separators keep contexts inside pictures
    pieces = [flat[i : i + 9000] for i in range(0, len(flat), 9000)]
    model = Word2Vec(
        pieces,
        vector_size=recipe.dimensions,
        window=recipe.window,
        sg=1,
        min_count=1,
        workers=1,
        epochs=recipe.vector_epochs,
        seed=recipe.seed,
        sample=1e-3,
    )
    vectors = np.zeros((CLASSES, recipe.dimensions), np.float32)
    spoken = np.zeros(CLASSES, bool)
    for i, name in enumerate(CLASS_NAMES):
        word = class_word(name)
        if word in model.wv and model.wv.get_vecattr(word, "count") >= 20:
            vectors[i] = model.wv[word] / np.linalg.norm(model.wv[word])
            spoken[i] = True
    together = sets.T.astype(np.float32) @ sets.astype(np.float32) + 0.5
    share = together / len(sets)
    alone = np.diag(share)
    lift = np.log(share / (alone[:, None] * alone[None, :])) / -np.log(share)
    for silent in np.nonzero(~spoken)[0]:
        weights = np.where(spoken, np.maximum(lift[silent], 0.0), 0.0)
        mean = weights @ vectors
        vectors[silent] = mean / np.linalg.norm(mean)
    log(f"skip-gram: {len(paragraphs)} pictures, {spoken.sum()} of {CLASSES} classes have their own word")
    return vectors


def paper_range(tensors: dict[str, Floats], sets: Bits, recipe: Recipe) -> Floats:
    """Return the cosines that become 0 and 1, so that 0.4 parts natives from intruders best.

    ICIP 2019 normalises by the extremes of a set of pictures, which hang on two outliers. Here 1 is
    the 99th percentile of natives and 0 is placed so that the threshold is Youden's point.
    """
    paper = Relation("paper", {**tensors, "paper_range": np.array([-1.0, 1.0], np.float32)})
    random = np.random.default_rng(recipe.seed)
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
