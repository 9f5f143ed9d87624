"""Fit the relation table: skip-gram vectors from captions, the native-or-intruder score from label sets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.labels import THING_NAMES
from models.relation import CLASS_NAMES, Floats

from . import word_vectors
from .label_noise import LabelNoise, measure_noise, read_reported

Bits = npt.NDArray[np.uint8]
CLASSES, THINGS = len(CLASS_NAMES), len(THING_NAMES)
KNOTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 14.0, 18.0)
_MOST_COUNTED = 16.0
_CALIBRATION_RIDGE = 1e-5


@dataclass(frozen=True)
class Recipe:
    """How the committed table was made; every field may be set from the command line."""

    seed: int = 20190927  # of every random draw
    held: int = 5000  # pictures left out in each of the two held groups (rich, typical)
    networks: int = 2  # fitted apart, then stored as one whose logit is the mean of all
    clean_networks: int = (
        1  # further ones, fitted to label sets as annotated but for a tenth with a false label
    )
    clean_epochs: int = 7  # passes of these
    epochs: int = 14  # passes of each over all (picture, thing) pairs
    hidden: int = 192  # units of the one hidden layer of each
    ranking_epochs: int = 4  # more passes, in which natives must also beat their picture's intruder
    ranking_rate: float = 1e-3  # Adam's in those
    batch: int = 1024  # pairs of picture and thing a step, and a quarter as many of picture and stuff
    rate: float = 2e-3  # Adam's, falling to 0 along a cosine
    decay: float = 1e-5  # AdamW weight decay
    polluted: float = 0.5  # share of contexts that hold one foreign label more
    detected: float = 0.2  # share of contexts as this project's own detector would report them
    dropped: float = 0.1  # share of contexts that lost some of their labels, any number alike likely
    dropout: float = 0.2  # on the hidden layer
    uniform: float = 0.5  # share of intruders drawn evenly; the rest in proportion to class frequency
    stuff_weight: float = 0.4  # weight of stuff classes as targets
    window: int = 3  # skip-gram window, and the end-of-paragraph tokens between pictures
    dimensions: int = 128  # of a word vector
    vector_epochs: int = 10  # passes of the skip-gram


@dataclass(frozen=True)
class LabelSets:
    """Label sets split into what is fitted, what sets the calibration and what is only scored.

    All are rows (N, 171) of 0 and 1; `numbers` are the COCO numbers of all pictures, `bits` their rows, and
    `held_numbers` those of the pictures that are only scored.
    """

    train: Bits
    calibration: Bits
    rich: Bits
    typical: Bits
    numbers: npt.NDArray[np.int64]
    bits: Bits
    held_numbers: frozenset[int]

    def by_number(self) -> dict[int, Bits]:
        """The true labels of every picture."""
        return dict(zip(self.numbers.tolist(), self.bits, strict=True))


def read_label_sets(file: Path, recipe: Recipe, without: Collection[int] = ()) -> LabelSets:
    """Read `coco_image_labels.npz` and hold out two groups of pictures with at least two things.

    Pictures whose numbers are in `without` are neither held nor fitted.

    rich: half of the pictures with the most labels, so that as many of that kind are left to fit; typical:
    random others with at least three labels.
    """
    with np.load(file) as stored:
        bits: Bits = np.unpackbits(stored["bits"], axis=1)[:, :CLASSES]
        names = tuple(str(name) for name in stored["class_names"])
        numbers = stored["image_ids"].astype(np.int64)
    if names != CLASS_NAMES:
        raise ValueError(f"{file} lists other classes than this version of the program")
    random = np.random.default_rng(recipe.seed)
    count, things = bits.sum(1), bits[:, :THINGS].sum(1)
    order = random.permutation(len(bits))
    order = order[~np.isin(numbers[order], list(without))]
    eligible = order[things[order] >= 2]
    richest = eligible[np.argsort(-count[eligible], kind="stable")[: 2 * recipe.held]]
    rich = random.permutation(richest)[: recipe.held]
    rest = np.setdiff1d(eligible, richest)
    typical = random.permutation(rest[count[rest] >= 3])[: recipe.held]
    held = np.concatenate([rich, typical])
    left = np.setdiff1d(order, held)
    # a quarter of them rich: calibration must hold for long label lists too
    left_rich = np.setdiff1d(richest, rich)
    calibration = np.concatenate(
        [
            random.permutation(left_rich)[: recipe.held // 4],
            random.permutation(np.setdiff1d(left, left_rich))[: recipe.held - recipe.held // 4],
        ]
    )
    train = np.setdiff1d(left, calibration)
    return LabelSets(
        train=bits[train],
        calibration=bits[calibration],
        rich=bits[rich],
        typical=bits[typical],
        numbers=numbers,
        bits=bits,
        held_numbers=frozenset(numbers[held].tolist()),
    )


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
        logits: Tensor = contexts @ self.linear + self.bias + self._hidden(contexts) @ self.output_weight
        return logits

    def of(self, contexts: Tensor, targets: Tensor) -> Tensor:
        """The logit of one class in each context: contexts (N, 171), targets (N), result (N)."""
        direct = (contexts * self.linear[:, targets].T).sum(1) + self.bias[targets]
        return direct + (self._hidden(contexts) * self.output_weight[:, targets].T).sum(1)

    def _hidden(self, contexts: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(functional.relu(self.hidden(contexts)))
        return hidden


def train(data: Path, work: Path, recipe: Recipe, *, log: Callable[[str], None]) -> Path:
    """Fit both rules and write `work/relation.safetensors`; return its path.

    `data` holds `relation/coco_image_labels.npz` and `relation/captions.txt.gz` (or the two files
    themselves). The fit takes minutes; it resumes after the vectors and after each network, which are kept in
    `work`, beside `captions-vectors.npy`: vectors of the unmodified captions, for comparison only.
    """
    from safetensors.numpy import save_file

    work.mkdir(parents=True, exist_ok=True)
    folder = data / "relation" if (data / "relation").is_dir() else data
    reported = read_reported()
    sets = read_label_sets(folder / "coco_image_labels.npz", recipe, reported.keys())
    log(f"label sets: {len(sets.train)} fitted, {len(sets.rich)} rich and {len(sets.typical)} typical held")
    vectors = _vectors(folder / "captions.txt.gz", "class_words", sets, work / "vectors.npy", recipe, log)
    _vectors(folder / "captions.txt.gz", "captions", sets, work / "captions-vectors.npy", recipe, log)
    noise = measure_noise(sets.by_number(), reported)
    nets = []
    clean = replace(
        recipe, epochs=recipe.clean_epochs, ranking_epochs=0, polluted=0.1, detected=0.0, dropped=0.0
    )
    for number in range(recipe.networks + recipe.clean_networks):
        kept = work / f"network-{number}.pt"
        net = RelationNet(recipe.hidden, recipe.dropout)
        if kept.is_file():
            net.load_state_dict(torch.load(kept, weights_only=True))
        else:
            kind = recipe if number < recipe.networks else clean
            net = fit_network(sets.train, noise, kind, number, log)
            torch.save(net.state_dict(), kept)
        nets.append(net.eval())
    net = joined(nets)
    tensors = {
        "linear": net.linear.detach().numpy(),
        "bias": net.bias.detach().numpy(),
        "hidden_weight": net.hidden.weight.detach().numpy().T,
        "hidden_bias": net.hidden.bias.detach().numpy(),
        "output_weight": net.output_weight.detach().numpy(),
        "calibration_knots": np.array(KNOTS, np.float32),
        "vectors": vectors,
        "words": word_vectors.word_numbers(),
        "paper_range": np.array([0.0, 1.0], np.float32),
    }
    scale, shift = calibrate(net, sets.calibration, noise, recipe)
    tensors |= {"calibration_scale": scale, "calibration_shift": shift}
    tensors["paper_range"] = word_vectors.paper_range(tensors, sets.train[:20000], recipe.seed)
    file = work / "relation.safetensors"
    half = {  # halves the file; the loader computes in float32
        name: np.ascontiguousarray(value, np.float16 if value.size > 1000 else np.float32)
        for name, value in tensors.items()
    }
    save_file(half, file, metadata={"model": "relation", "recipe": repr(recipe)})
    log(f"wrote {file} ({file.stat().st_size / 1000:.0f} kB)")
    return file


def _vectors(
    captions: Path,
    corpus: word_vectors.Corpus,
    sets: LabelSets,
    kept: Path,
    recipe: Recipe,
    log: Callable[[str], None],
) -> Floats:
    """Class vectors (171, dimensions) of one corpus, kept in the work folder."""
    if kept.is_file():
        return np.asarray(np.load(kept), np.float32)
    texts = word_vectors.paragraphs(captions, corpus, sets.held_numbers)
    said = word_vectors.skip_gram(
        texts,
        window=recipe.window,
        dimensions=recipe.dimensions,
        epochs=recipe.vector_epochs,
        seed=recipe.seed,
    )
    log(f"skip-gram of {corpus}: {len(texts)} pictures, {len(said)} class words have their own vector")
    vectors = word_vectors.class_vectors(said, sets.train)
    np.save(kept, vectors)
    return vectors


# ---------------------------------------------------------------- the fitted rule


def fit_network(
    sets: Bits, noise: LabelNoise, recipe: Recipe, number: int, log: Callable[[str], None]
) -> RelationNet:
    """Train native-or-intruder on clean, polluted and thinned contexts alike.

    A network that meets intruders only in otherwise clean contexts learns "the others all agree, so it
    is me" and fails natives whose picture is clean. Hence natives and intruders are both drawn from
    the same mixture of contexts: clean, with a false label, with labels missing, as a detector reports them.
    """
    torch.manual_seed(recipe.seed + number)
    net = RelationNet(recipe.hidden, recipe.dropout).train()
    sampler = PairSampler(sets, noise, recipe, recipe.seed + number)
    for name, epochs, rate, loss_of in (
        ("epoch", recipe.epochs, recipe.rate, _loss),
        ("ranking epoch", recipe.ranking_epochs, recipe.ranking_rate, _loss_with_ranking),
    ):
        optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=recipe.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs * sampler.steps))
        for epoch in range(epochs):
            total = 0.0
            for batch in sampler.epoch():
                loss = loss_of(net, batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
            log(f"network {number + 1}, {name} {epoch + 1}/{epochs}: loss {total / sampler.steps:.4f}")
    return net.eval()


@torch.no_grad()
def joined(nets: list[RelationNet]) -> RelationNet:
    """One network with all hidden units, whose logit is the mean of the logits of these."""
    net = RelationNet(sum(each.hidden.out_features for each in nets), 0.0)
    net.linear.copy_(torch.stack([each.linear for each in nets]).mean(0))
    net.bias.copy_(torch.stack([each.bias for each in nets]).mean(0))
    net.hidden.weight.copy_(torch.cat([each.hidden.weight for each in nets]))
    net.hidden.bias.copy_(torch.cat([each.hidden.bias for each in nets]))
    net.output_weight.copy_(torch.cat([each.output_weight for each in nets]) / len(nets))
    return net.eval()


@dataclass(frozen=True)
class PairBatch:
    """Natives scored in `native` contexts and every absent class scored in `foreign` contexts."""

    native: Tensor  # (B, 171) context without the target
    target: Tensor  # (B) class index
    false: Tensor  # (B) the false label in that context, -1 where there is none
    weight: Tensor  # (B)
    foreign: Tensor  # (B, 171) context in which every absent class is an intruder
    intruders: Tensor  # (B, 171) odds of each class as the intruder, rows sum to `weight`


def _loss(net: RelationNet, batch: PairBatch) -> Tensor:
    native = net.of(batch.native, batch.target)
    # all absent classes at once, weighted by how often each would be drawn: no sampling noise
    foreign = (functional.softplus(net(batch.foreign)) * batch.intruders).sum(1)
    return (functional.softplus(-native) * batch.weight + foreign).mean()


def _loss_with_ranking(net: RelationNet, batch: PairBatch) -> Tensor:
    """Besides, each native must score above the thing that is its context's false label.

    That one is scored as the native is: among the other labels, the native among them.
    """
    rows = torch.nonzero((batch.false >= 0) & (batch.false < THINGS) & (batch.target < THINGS))[:, 0]
    target, false = batch.target[rows], batch.false[rows]
    place = torch.arange(len(rows))
    other = batch.native[rows].clone()
    other[place, false], other[place, target] = 0.0, 1.0
    gap = net.of(batch.native[rows], target) - net.of(other, false)
    return _loss(net, batch) + functional.softplus(-gap).sum() / len(batch.target)


class PairSampler:
    """Draws (picture, native class) pairs and their contexts."""

    def __init__(self, sets: Bits, noise: LabelNoise, recipe: Recipe, seed: int) -> None:
        self.recipe, self.noise = recipe, noise
        self.sets = torch.from_numpy(sets.astype(np.float32))
        picture, native = np.nonzero(sets)
        self.thing_pairs = np.stack([picture, native], 1)[native < THINGS]
        self.stuff_pairs = np.stack([picture, native], 1)[native >= THINGS]
        self.steps = max(1, len(self.thing_pairs) // recipe.batch)
        frequency = sets.sum(0).astype(np.float64)
        prior = np.zeros(CLASSES, np.float32)
        for members, share in ((slice(0, THINGS), 1.0), (slice(THINGS, None), recipe.stuff_weight)):
            part = frequency[members] / frequency[members].sum()
            prior[members] = share * (recipe.uniform / len(part) + (1 - recipe.uniform) * part)
        self.prior = torch.from_numpy(prior)
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def epoch(self) -> Iterator[PairBatch]:
        size = self.recipe.batch
        order = self.random.permutation(len(self.thing_pairs))
        for step in range(self.steps):
            things = self.thing_pairs[order[step * size : (step + 1) * size]]
            stuff = self.stuff_pairs[self.random.integers(0, len(self.stuff_pairs), size // 4)]
            yield self._batch(torch.from_numpy(np.concatenate([things, stuff])))

    def _batch(self, pairs: Tensor) -> PairBatch:
        whole, target = self.sets[pairs[:, 0]], pairs[:, 1]
        rows = torch.arange(len(pairs))
        native, false = self._context(whole)
        native[rows, target] = 0.0
        foreign, _ = self._context(whole)
        # what is scored must not be in its own context, neither as a native nor as the false label
        absent = (1 - whole) * (1 - foreign)
        weight = torch.where(target < THINGS, 1.0, self.recipe.stuff_weight)
        intruders = self.prior * absent
        intruders *= (weight / intruders.sum(1))[:, None]
        return PairBatch(native, target, false, weight, foreign, intruders)

    def _context(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Thin and pollute label sets the way detectors do; the false label added to each, -1 for none."""
        rows, recipe = len(whole), self.recipe
        detected = torch.rand(rows, generator=self.generator) < recipe.detected
        reported = torch.where(detected[:, None], self.noise.draw(whole, self.generator), whole)
        keep = torch.ones(rows)
        thinned = torch.rand(rows, generator=self.generator) < recipe.dropped
        keep[thinned] = torch.rand(int(thinned.sum()), generator=self.generator)
        context = reported * (torch.rand(whole.shape, generator=self.generator) < keep[:, None])
        polluted = torch.rand(rows, generator=self.generator) < recipe.polluted
        false = torch.full((rows,), -1)
        if bool(polluted.any()):
            odds = (self.prior * (1 - whole))[polluted]
            false[polluted] = torch.multinomial(odds, 1, generator=self.generator)[:, 0]
            context[torch.nonzero(polluted)[:, 0], false[polluted]] = 1.0
        return context, false


def calibrate(net: RelationNet, sets: Bits, noise: LabelNoise, recipe: Recipe) -> tuple[Floats, Floats]:
    """Return scale and shift of the logit per KNOTS entry, so that 0.7 means 0.7 for 3 labels and for 10.

    By maximum likelihood on natives and intruders of held pictures in the mixture of training contexts,
    each example counted at its two neighbouring knots. For every number of labels natives and intruders
    weigh the same: else the number alone would speak, since taking a native out of a picture leaves one
    label less than adding an intruder.
    """
    sampler = PairSampler(sets, noise, recipe, recipe.seed)
    logits, truth, count = [], [], []
    with torch.no_grad():
        for _ in range(6):
            for batch in sampler.epoch():
                things = batch.target < THINGS
                native = net.of(batch.native, batch.target)[things]
                drawn = torch.multinomial(batch.intruders[things, :THINGS], 1, generator=sampler.generator)
                foreign = net.of(batch.foreign[things], drawn[:, 0])
                logits += [native, foreign]
                truth += [torch.ones_like(native), torch.zeros_like(foreign)]
                count += [batch.native[things].sum(1), batch.foreign[things].sum(1)]
    z, y, n = (torch.cat(part).double() for part in (logits, truth, count))
    bins = n.clamp(max=_MOST_COUNTED).long() * 2 + y.long()
    often = torch.bincount(bins, minlength=2 * int(_MOST_COUNTED) + 2).double()
    weight = (often.view(-1, 2).sum(1) / 2)[bins // 2] / often[bins]
    knots = torch.tensor(KNOTS, dtype=torch.float64)
    place = torch.clamp(torch.bucketize(n, knots, right=True) - 1, 0, len(KNOTS) - 2)
    part = torch.clamp((n - knots[place]) / (knots[place + 1] - knots[place]), 0, 1)
    blend = torch.zeros(len(n), len(KNOTS), dtype=torch.float64)
    blend[torch.arange(len(n)), place] = 1 - part
    blend[torch.arange(len(n)), place + 1] += part
    size = len(KNOTS)
    anchor = torch.cat([torch.ones(size), torch.zeros(size)]).double()
    values = anchor.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([values], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logit = (blend @ values[:size]) * z + blend @ values[size:]
        loss = (functional.binary_cross_entropy_with_logits(logit, y, reduction="none") * weight).mean()
        loss = loss + _CALIBRATION_RIDGE * (values - anchor).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    fitted = values.detach().float().numpy()
    return fitted[:size], fitted[size:]
