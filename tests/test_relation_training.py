"""The relation's training: corpora, vectors, noisy labels, networks, calibration."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import engines  # noqa: F401 - comes before torch: it sets what torch's OpenMP reads once
from models.relation import CLASS_NAMES, class_index, load_relation
from models.training import word_vectors
from models.training.caption_words import joined_words
from models.training.label_noise import LabelNoise, Reported, measure_noise, read_reported
from models.training.relation import (
    CLASSES,
    THINGS,
    Bits,
    Recipe,
    RelationNet,
    calibrate,
    joined,
    read_label_sets,
    train,
)

import torch  # isort: skip

torch.set_num_threads(1)
STREET = ["car", "bus", "traffic light", "road", "building-other", "pavement"]
KITCHEN = ["oven", "sink", "refrigerator", "cabinet", "counter", "wall-tile"]


def scenes(count: int, seed: int = 0) -> Bits:
    """Label sets of streets and kitchens, four to six of six labels each."""
    random = np.random.default_rng(seed)
    sets = np.zeros((count, CLASSES), np.uint8)
    for row in sets:
        names = STREET if random.random() < 0.5 else KITCHEN
        row[[class_index(name) for name in random.permutation(names)[: random.integers(4, 7)]]] = 1
    return sets


def no_noise() -> LabelNoise:
    return LabelNoise(np.ones(CLASSES, np.float32), np.zeros((CLASSES, CLASSES), np.float32))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "relation"
    folder.mkdir(parents=True)
    np.savez(
        folder / "coco_image_labels.npz",
        image_ids=np.arange(1, 601, dtype=np.int32),
        bits=np.packbits(scenes(600), axis=1),
        class_names=np.array(CLASS_NAMES),
    )
    street, kitchen = "a red car and a bus on the road", "an oven and a sink beside the refrigerator"
    texts = [street if i % 2 else kitchen for i in range(1, 601)]
    lines = [f"coco:{i:012d}\t{text} | {text}" for i, text in enumerate(texts, 1)]
    with gzip.open(folder / "captions.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([*lines, "flickr30k:1\tan elephant on a road"]))
    return tmp_path / "data"


def test_from_a_folder_to_a_table_that_tells_streets_from_kitchens(data: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        held=40, networks=2, epochs=12, ranking_epochs=2, hidden=8, batch=64, dimensions=8, vector_epochs=4
    )
    lines: list[str] = []
    file = train(data, tmp_path / "work", recipe, log=lines.append)
    fitted = load_relation(file)
    assert fitted.score("car", ["road", "pavement", "bus"]) > 0.7
    assert fitted.score("car", ["oven", "cabinet", "counter"]) < 0.3
    for vectors in (fitted.tensors["vectors"], np.load(tmp_path / "work" / "captions-vectors.npy")):
        assert vectors.shape == (CLASSES, 8)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    lines.clear()
    again = load_relation(train(data, tmp_path / "work", recipe, log=lines.append)).tensors
    assert all(np.array_equal(value, again[name]) for name, value in fitted.tensors.items())
    assert not any("epoch" in line for line in lines), "what is done is not done again"


def test_held_pictures_are_in_no_other_part(data: Path) -> None:
    file = data / "relation" / "coco_image_labels.npz"
    sets = read_label_sets(file, Recipe(held=100), without=[1, 2, 3])
    assert len(sets.rich) == len(sets.typical) == len(sets.calibration) == 100
    assert len(sets.train) == 600 - 3 - 300 and len(sets.held_numbers) == 200
    assert not sets.held_numbers & {1, 2, 3}
    texts = word_vectors.paragraphs(data / "relation" / "captions.txt.gz", "class_words", sets.held_numbers)
    assert len(texts) == 400


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        ("class_words", ["car", "bus", "road"]),
        ("captions", ["a", "red", "car", "and", "a", "bus", "on", "the", "road"]),
    ],
)
def test_both_corpora_of_a_caption(corpus: word_vectors.Corpus, words: list[str], data: Path) -> None:
    found = word_vectors.paragraphs(data / "relation" / "captions.txt.gz", corpus)
    assert len(found) == 600, "captions of other collections are passed over"
    assert found[0] == words + words


def test_unmodified_captions_keep_every_word_and_join_names() -> None:
    assert joined_words("A man eats a hot dog.") == ["a", "man", "eats", "a", "hotdog"]


def test_pearson_is_one_for_vectors_whose_cosine_is_the_co_occurrence() -> None:
    sets = scenes(400)
    together = word_vectors.co_occurrence(sets)
    assert together[class_index("car"), class_index("oven")] == 0
    assert 0.5 < together[class_index("car"), class_index("road")] < 1
    values, axes = np.linalg.eigh(together + 3 * np.eye(CLASSES))
    vectors = (axes * np.sqrt(values)).astype(np.float32)
    assert word_vectors.pearson(vectors, together) == pytest.approx(1.0, abs=1e-3)


def test_rates_of_noise_are_those_of_the_reports() -> None:
    """Cars are found in every second street; every third kitchen is said to have grass."""
    grass = class_index("grass")
    true = dict(enumerate(scenes(900, seed=1)))
    reported = {}
    for number, row in true.items():
        labels = row.astype(np.float32)
        if row[class_index("car")]:
            labels[class_index("car")] = number % 2
        if row[class_index("oven")]:
            labels[grass] = number % 3 == 0
        reported[number] = Reported(labels, things=True, stuff=True)
    noise = measure_noise(true, reported)
    assert noise.found[class_index("car")] == pytest.approx(0.5, abs=0.06)
    assert noise.found[class_index("oven")] > 0.95
    drawn = noise.draw(
        torch.from_numpy(np.stack(list(true.values())).astype(np.float32)), torch.Generator().manual_seed(0)
    ).numpy()
    kitchens = np.stack(list(true.values()))[:, class_index("oven")] > 0
    assert drawn[kitchens, grass].mean() == pytest.approx(1 / 3, abs=0.08)
    assert drawn[~kitchens, grass].mean() < 0.15


def test_the_reports_that_come_with_the_program_can_be_read() -> None:
    reported = read_reported()
    assert len(reported) >= 300 and any(each.stuff for each in reported.values())
    assert all(each.labels.shape == (CLASSES,) for each in reported.values())


def test_joined_networks_say_the_mean() -> None:
    torch.manual_seed(0)
    nets = [RelationNet(6, 0.0).eval() for _ in range(3)]
    with torch.no_grad():
        for net in nets:
            for parameter in net.parameters():
                parameter.normal_()
        contexts = torch.from_numpy(scenes(20).astype(np.float32))
        mean = torch.stack([net(contexts) for net in nets]).mean(0)
        torch.testing.assert_close(joined(nets)(contexts), mean, rtol=1e-4, atol=1e-4)
        targets = torch.arange(20)
        torch.testing.assert_close(nets[0].of(contexts, targets), nets[0](contexts)[targets, targets])


def test_calibration_repairs_an_overconfident_network() -> None:
    """A network whose logits are four times too large; natives and strangers overlap."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    sets = (random.random((800, CLASSES)) < 0.03).astype(np.uint8)
    sets[:, :40] |= random.random((800, 40)) < 0.1  # things below 40 are common, those above rare
    net = RelationNet(4, 0.0).eval()
    common = torch.cat([torch.full((40,), 1.5), torch.full((CLASSES - 40,), -0.5)])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    recipe = Recipe(uniform=1.0, polluted=0.0, detected=0.0, dropped=0.0)
    scales = []
    for factor in (1.0, 4.0):
        with torch.no_grad():
            net.bias.copy_(factor * common)
        scale, shift = calibrate(net, sets, no_noise(), recipe)
        assert np.all(np.isfinite(scale)) and np.all(np.isfinite(shift))
        scales.append(scale[5])
    assert scales[1] == pytest.approx(scales[0] / 4, rel=0.15)
    assert THINGS == 80
