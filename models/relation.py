"""How well a thing belongs among the other things and stuff of its picture.

Two rules live behind one call, `Relation.score(thing, others)`, both in [0, 1]:

* ``paper`` is the rule of "Occlusion removal by relation" (ICIP 2019): the mean cosine similarity of
  skip-gram word vectors between the thing and every other class of the picture, brought to 0..1 with
  fixed constants, so that below 0.4 the thing counts as an occlusion.
* ``fitted`` is the probability that the thing is native to the picture, from a table and one hidden
  layer fitted to the label sets of COCO; it ranks intruders far better and its numbers mean the same
  for three labels as for ten.

NumPy only: the judge asks this for each track, and importing it must cost nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.labels import STUFF_NAMES, THING_NAMES

Floats = npt.NDArray[np.float32]
Rule = Literal["fitted", "paper"]

CLASS_NAMES: tuple[str, ...] = THING_NAMES + STUFF_NAMES
"""The 171 names a relation knows: COCO's 80 things, then COCO-Stuff's 91 stuff classes."""

PAPER_THRESHOLD = 0.4
"""Below this score the ICIP 2019 rule calls a thing an occlusion."""

DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "relation.safetensors"

_INDEX: Mapping[str, int] = {name: i for i, name in enumerate(CLASS_NAMES)}


@dataclass(frozen=True)
class Relation:
    """A loaded relation table; immutable, so threads may share it.

    `tensors` holds, as float32:
    ``linear`` (171, 171) and ``bias`` (171): direct evidence of class j (row) for class i (column);
    ``hidden_weight`` (171, H), ``hidden_bias`` (H), ``output_weight`` (H, 171): the hidden layer;
    ``calibration_knots``, ``calibration_scale``, ``calibration_shift`` (K): logit correction by how
    many labels speak; ``vectors`` (171, 128): unit word vectors; ``words`` (171): equal numbers mark
    classes that share one word; ``paper_range`` (2): the cosine that becomes 0 and the one that becomes 1.
    """

    rule: Rule
    tensors: Mapping[str, Floats]

    def score(self, thing: str, others: Sequence[str]) -> float:
        """Return how well `thing` fits `others`, 0 (foreign) to 1 (native).

        `others` are the picture's other classes, each counted once whatever its order; the thing's own
        name among them is ignored, since a class cannot vouch for itself. With no others the fitted rule
        gives the class's prior and the paper's rule 0.5. Raises ValueError, naming the nearest name, for
        a name that is neither a COCO thing nor a COCO-Stuff class.
        """
        index = class_index(thing)
        context = np.zeros((1, len(CLASS_NAMES)), np.float32)
        for name in others:
            context[0, class_index(name)] = 1.0
        context[0, index] = 0.0
        return float(self.scores(context)[0, index])

    def scores(self, contexts: Floats) -> Floats:
        """Return the score of all 171 classes in each of N contexts at once.

        `contexts` (N, 171) holds 1 for a class that is present and 0 otherwise; a caller who asks about
        class i must leave i out of the row. Returns (N, 171) float32 in [0, 1].
        """
        if contexts.ndim != 2 or contexts.shape[1] != len(CLASS_NAMES):
            raise ValueError(f"contexts must be (N, {len(CLASS_NAMES)}), not {contexts.shape}")
        present = (contexts > 0).astype(np.float32)
        return self._fitted(present) if self.rule == "fitted" else self._paper(present)

    def _fitted(self, present: Floats) -> Floats:
        t = self.tensors
        hidden = np.maximum(present @ t["hidden_weight"] + t["hidden_bias"], 0.0)
        logits = present @ t["linear"] + t["bias"] + hidden @ t["output_weight"]
        count = present.sum(axis=1)
        scale = np.interp(count, t["calibration_knots"], t["calibration_scale"])[:, None]
        shift = np.interp(count, t["calibration_knots"], t["calibration_shift"])[:, None]
        scores: Floats = (1.0 / (1.0 + np.exp(-np.clip(scale * logits + shift, -30, 30)))).astype(np.float32)
        return scores

    def _paper(self, present: Floats) -> Floats:
        # ICIP 2019, section 3: relation(thing, image) = mean cosine with the image's other classes.
        # Classes that share the thing's word (wall-brick and wall-tile) are left out: their cosine is 1
        # whatever the picture shows.
        t = self.tensors
        comparable = (t["words"][:, None] != t["words"][None, :]).astype(np.float32)
        total = present @ (comparable * (t["vectors"] @ t["vectors"].T))
        count = present @ comparable
        low, high = t["paper_range"]
        mean = np.where(count > 0, total / np.maximum(count, 1.0), 0.5 * (low + high))
        scores: Floats = np.clip((mean - low) / (high - low), 0.0, 1.0).astype(np.float32)
        return scores


def class_index(name: str) -> int:
    """Return the place of a COCO or COCO-Stuff name in CLASS_NAMES; ValueError names the nearest."""
    try:
        return _INDEX[name]
    except (KeyError, TypeError):
        nearest = difflib.get_close_matches(str(name), CLASS_NAMES, n=1, cutoff=0.0)
        raise ValueError(
            f"unknown class {name!r}: not a COCO or COCO-Stuff name; did you mean {nearest[0]!r}?"
        ) from None


def load_relation(path: Path | str | None = None, *, rule: Rule = "fitted") -> Relation:
    """Read the relation table (`path` None: the one that comes with the package).

    Raises ValueError for an unknown rule or a file that is not a relation table, FileNotFoundError when
    there is no file, WeightsError when the package's own is missing or is not what was published.
    """
    if rule not in ("fitted", "paper"):
        raise ValueError(f"unknown rule {rule!r}: 'fitted' or 'paper'")
    from safetensors.numpy import load_file  # deferred: half of this module's import time

    from models.weights import verify

    file = verify(DEFAULT_WEIGHTS.stem) if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no relation weights at {file}")
    try:
        tensors = {name: value.astype(np.float32) for name, value in load_file(file).items()}
    except Exception as error:
        raise ValueError(f"{file} is not a readable safetensors file: {error}") from error
    missing = _SHAPED - tensors.keys()
    if missing or tensors["linear"].shape != (len(CLASS_NAMES), len(CLASS_NAMES)):
        raise ValueError(f"{file} is not a relation table (missing {sorted(missing) or 'the right shape'})")
    return Relation(rule=rule, tensors=tensors)


_SHAPED = frozenset(
    {
        "linear",
        "bias",
        "hidden_weight",
        "hidden_bias",
        "output_weight",
        "calibration_knots",
        "calibration_scale",
        "calibration_shift",
        "vectors",
        "words",
        "paper_range",
    }
)
