"""The relation predictor: what it says of plausible and of foreign things, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.labels import STUFF_NAMES, THING_NAMES
from models.relation import CLASS_NAMES, PAPER_THRESHOLD, Relation, class_index, load_relation
from models.training.caption_words import class_word, class_words

STREET = ["road", "building-other", "pavement", "tree", "traffic light"]
KITCHEN = ["cabinet", "oven", "sink", "refrigerator", "counter", "wall-tile", "bottle"]
BEACH = ["sea", "sand", "sky-other", "surfboard"]
FIELD = ["grass", "tree", "fence", "sky-other"]


@pytest.fixture(scope="module", params=["fitted", "paper"])
def relation(request: pytest.FixtureRequest) -> Relation:
    return load_relation(rule=request.param)


@pytest.fixture(scope="module")
def fitted() -> Relation:
    return load_relation()


@pytest.mark.parametrize(
    ("native", "foreign", "others"),
    [
        ("car", "oven", STREET),
        ("bus", "toilet", STREET),
        ("microwave", "car", KITCHEN),
        ("bowl", "elephant", KITCHEN),
        ("cow", "laptop", FIELD),
        ("keyboard", "zebra", ["laptop", "mouse", "desk-stuff", "wall-other"]),
        ("fork", "airplane", ["knife", "dining table", "cup", "food-other"]),
    ],
)
def test_natives_rank_above_intruders_under_both_rules(
    relation: Relation, native: str, foreign: str, others: list[str]
) -> None:
    assert relation.score(native, others) > relation.score(foreign, others)


@pytest.mark.parametrize(
    ("thing", "fits", "does_not"),
    [("car", STREET, KITCHEN), ("oven", KITCHEN, BEACH), ("boat", BEACH, KITCHEN), ("cow", FIELD, KITCHEN)],
)
def test_a_thing_fits_its_own_scene_better(
    relation: Relation, thing: str, fits: list[str], does_not: list[str]
) -> None:
    assert relation.score(thing, fits) > relation.score(thing, does_not)


def test_fitted_probabilities_are_decisive(fitted: Relation) -> None:
    assert fitted.score("elephant", KITCHEN) < 0.1
    assert fitted.score("car", STREET) > 0.7
    assert fitted.score("airplane", KITCHEN) < PAPER_THRESHOLD < fitted.score("person", STREET)


def test_one_false_label_does_not_condemn_the_natives(fitted: Relation) -> None:
    assert fitted.score("car", [*STREET, "toilet"]) > 0.5
    assert fitted.score("oven", [*KITCHEN, "zebra"]) > 0.5


@pytest.mark.parametrize("others", [[], ["person"], list(CLASS_NAMES), ["road", "road"]])
@pytest.mark.parametrize("thing", ["person", "toaster", "hair drier", "banner"])
def test_score_is_a_number_in_range(relation: Relation, thing: str, others: list[str]) -> None:
    assert 0.0 <= relation.score(thing, others) <= 1.0


def test_every_thing_scores_alone_and_in_a_street(relation: Relation) -> None:
    scores = [relation.score(name, context) for name in THING_NAMES for context in ([], STREET)]
    assert np.all(np.isfinite(scores)) and min(scores) >= 0 and max(scores) <= 1


def test_order_and_repetition_do_not_matter(relation: Relation) -> None:
    assert relation.score("car", STREET) == relation.score("car", [*reversed(STREET), *STREET])


def test_a_class_does_not_vouch_for_itself(relation: Relation) -> None:
    # Two cars in one kitchen made each other native before the own name was left out.
    assert relation.score("car", [*KITCHEN, "car"]) == relation.score("car", KITCHEN)


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("elefant", "elephant"), ("skye-other", "sky-other"), ("hair dryer", "hair drier")]
)
def test_unknown_names_are_refused_on_either_side(relation: Relation, wrong: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=nearest):
        relation.score(wrong, STREET)
    with pytest.raises(ValueError, match=nearest):
        relation.score("car", [wrong])


def test_scores_of_many_contexts_agree_with_single_ones(relation: Relation) -> None:
    contexts = np.zeros((2, len(CLASS_NAMES)), np.float32)
    for row, names in enumerate((STREET, KITCHEN)):
        contexts[row, [class_index(name) for name in names]] = 1
    table = relation.scores(contexts)
    assert table.shape == (2, len(CLASS_NAMES)) and table.dtype == np.float32
    assert table[0, class_index("car")] == pytest.approx(relation.score("car", STREET), abs=1e-6)
    assert table[1, class_index("cup")] == pytest.approx(relation.score("cup", KITCHEN), abs=1e-6)
    with pytest.raises(ValueError, match="171"):
        relation.scores(np.zeros((1, 80), np.float32))


def test_paper_rule_is_the_mean_cosine_between_two_constants() -> None:
    paper = load_relation(rule="paper")
    low, high = paper.tensors["paper_range"]
    vectors = paper.tensors["vectors"]
    cosines = [float(vectors[class_index("car")] @ vectors[class_index(name)]) for name in STREET]
    expected = np.clip((np.mean(cosines) - low) / (high - low), 0, 1)
    assert paper.score("car", STREET) == pytest.approx(expected, abs=1e-5)


def test_bad_files_and_rules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_relation(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a table")
    with pytest.raises(ValueError, match="safetensors"):
        load_relation(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="rule"):
        load_relation(rule="best")  # type: ignore[arg-type]


def test_import_needs_neither_torch_nor_gensim() -> None:
    code = (
        "import sys; from models.relation import load_relation; load_relation().score('car', ['road']);"
        "print([m for m in ('torch', 'gensim', 'scipy') if m in sys.modules])"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A hot dog next to a dog.", ["hotdog", "dog"]),
        ("Two men riding bikes down the street", ["person", "bicycle", "road"]),
        ("A teddy bear and a wine glass on a dining table", ["teddybear", "wineglass", "diningtable"]),
        ("An empty sentence about nothing", []),
    ],
)
def test_captions_become_class_words(caption: str, words: list[str]) -> None:
    assert class_words(caption) == words


def test_stuff_of_one_family_shares_a_word() -> None:
    assert {class_word(n) for n in STUFF_NAMES if n.startswith("wall-")} == {"wall"}
    assert class_word("hair drier") == "hairdryer" and class_word("desk-stuff") == "desk"
