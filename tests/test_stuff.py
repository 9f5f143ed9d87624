"""The stuff classifier: shapes, the borrowed trunk, and the pieces its training is made of."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.labels import STUFF_NAMES, THING_NAMES
from models.segmentator import build_segmentator
from models.stuff import DEFAULT_WEIGHTS, NEVER, SIDE, SURFACES, build_stuff, take_trunk
from models.training.loop import Journal, read_weights
from models.training.stuff import (
    Recipe,
    average_precision,
    best_thresholds,
    calibrate,
    f1,
    fit_calibrated,
    fit_head,
    measure,
    silence,
    train,
)
from models.training.stuff_pictures import Window, draw_window, is_held, view
from models.training.stuff_trunk import learn_surfaces
from models.training.surfaces import SURFACE_NAMES

torch.set_num_threads(1)


def test_logits_of_a_batch() -> None:
    torch.manual_seed(0)
    network = build_stuff().eval()
    pictures = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        logits = network(pictures)
        alone = network(pictures[:1])
    assert logits.shape == (2, len(STUFF_NAMES))
    torch.testing.assert_close(logits[:1], alone, atol=1e-4, rtol=1e-4)


def test_bands_tell_above_from_below() -> None:
    torch.manual_seed(0)
    network = build_stuff().eval()
    picture = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        pooled, turned = network.pooled(picture), network.pooled(picture.flip(2))
    assert not torch.allclose(pooled, turned, atol=1e-3)


def test_trunk_is_the_segmentators() -> None:
    torch.manual_seed(0)
    network, segmentator = build_stuff(), build_segmentator()
    assert take_trunk(network, segmentator.state_dict()) == len(network.trunk.state_dict())
    picture = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        mine, its = network.trunk(picture)[2], segmentator.trunk(picture)[2]
    torch.testing.assert_close(mine, its)
    with pytest.raises(ValueError, match="trunk"):
        take_trunk(network, {"trunk.blocks.0.nothing": torch.zeros(1)})


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variant"):
        build_stuff(variant="tiny")  # type: ignore[arg-type]


def test_paper_variant_has_resnet_names() -> None:
    with torch.device("meta"):
        names = build_stuff(variant="paper").trunk.state_dict().keys()
    assert {"conv1.weight", "layer3.22.conv3.weight", "layer4.0.downsample.0.weight"} <= set(names)


def test_shipped_weights_load_and_say_something() -> None:
    network = build_stuff().eval()
    network.load_state_dict(read_weights(DEFAULT_WEIGHTS))
    reported = network.thresholds < NEVER
    assert bool(((network.thresholds > 0.02) & (network.thresholds < 0.95))[reported].all())
    row = np.linspace(0, 1, SIDE)[:, None, None]
    sky_over_grass = np.where(row < 0.6, [0.45, 0.65, 0.95], [0.2, 0.5, 0.15]) * np.ones((SIDE, SIDE, 1))
    grain = np.random.default_rng(0).normal(0, 0.02, sky_over_grass.shape)
    picture = torch.from_numpy((sky_over_grass + grain).clip(0, 1)).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        probability = torch.sigmoid(network(picture))[0]
    score = dict(zip(STUFF_NAMES, probability.tolist(), strict=True))
    assert score["grass"] + score["sky-other"] > score["floor-wood"] + score["ceiling-other"]
    assert 20 < int(reported.sum()) < len(STUFF_NAMES)
    assert float(probability[~reported].max()) < 1e-6, "what cannot be known is never reported"


@pytest.mark.parametrize(
    ("found", "true", "expected"), [([1, 1, 0], [1, 0, 0], 2 / 3), ([0, 0], [0, 0], 0.0), ([1], [1], 1.0)]
)
def test_f1(found: list[int], true: list[int], expected: float) -> None:
    assert f1(torch.tensor(found).bool(), torch.tensor(true).bool()) == pytest.approx(expected)


def test_average_precision() -> None:
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert average_precision(torch.tensor([0.9, 0.8, 0.7, 0.1]), labels) == pytest.approx((1 + 2 / 3) / 2)


def test_calibration_repairs_overconfident_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(600, len(STUFF_NAMES), generator=generator)
    labels = (torch.rand(logits.shape, generator=generator) < torch.sigmoid(logits - 0.5)).float()
    scale, shift = calibrate(4 * logits, labels)
    assert float(scale) == pytest.approx(0.25, abs=0.03)
    assert float(shift.mean()) == pytest.approx(-0.5, abs=0.1)
    probabilities = torch.sigmoid(scale * 4 * logits + shift)
    scores = measure(probabilities, labels, best_thresholds(probabilities, labels))
    assert scores["calibration_error"] < 0.02 < scores["map"]
    assert scores["map"] > scores["chance_map"]


def test_a_head_learns_a_separable_label() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 200, 12, generator=generator)
    features[1] = features[0] + 0.1 * features[1]
    labels = torch.zeros(200, len(STUFF_NAMES))
    labels[:, 3] = (features[0, :, 5] > 0).float()
    head = fit_head(features, labels, Recipe(epochs=60, dropout=0.0, decay=0.0), seed=0)
    with torch.no_grad():
        found = head(features[0])[:, 3] > 0
    assert f1(found, labels[:, 3] > 0) > 0.9


def test_classes_that_cannot_be_learned_are_never_reported() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 240, 12, generator=generator)
    labels = torch.zeros(240, len(STUFF_NAMES))
    labels[:, 3] = (features[0, :, 5] > 0.5).float()  # can be seen
    labels[:, 4] = (torch.rand(240, generator=generator) < 0.1).float()  # cannot
    labels[:5, 5] = 1.0  # too few pictures
    head, thresholds = fit_calibrated(features, labels, Recipe(epochs=20, dropout=0.0, folds=3))
    assert float(thresholds[3]) < NEVER
    assert thresholds[[4, 5, 6]].tolist() == [NEVER] * 3
    silence(head, thresholds)
    with torch.no_grad():
        probability = torch.sigmoid(head(features[0]))
    assert float(probability[:, [4, 5, 6]].max()) < 1e-6 < float(probability[:, 3].min())
    assert not bool((probability >= thresholds)[:, [4, 5, 6]].any())


def test_surfaces_are_learned_from_a_teacher_and_kept(tmp_path: Path) -> None:
    """Pictures red above and green below: the teacher calls red sky and green grass."""
    images = np.zeros((6, 176, 176, 3), np.uint8)
    images[:, :88, :, 0] = images[:, 88:, :, 1] = 200
    grids = np.zeros((6, 32, 32, SURFACES), np.uint8)
    sky, grass = SURFACE_NAMES.index("sky"), SURFACE_NAMES.index("grass")
    grids[:, :16, :, sky] = grids[:, 16:, :, grass] = 255
    recipe = Recipe(steps=30, pictures=4, save_every=10, surface_rate=2e-2)
    things, held = np.full((6, len(THING_NAMES)), -1, np.float32), np.arange(6) == 5
    lines: list[str] = []

    def taught() -> torch.Tensor:
        torch.manual_seed(0)
        network = build_stuff()
        journal = Journal(tmp_path / "journal.jsonl", lines.append)
        learn_surfaces(network, images, grids, things, held, tmp_path, recipe, journal)
        picture = torch.from_numpy(view(images[0], Window())).permute(2, 0, 1)[None]
        with torch.no_grad():
            _, middle, high = network.features(picture)
            return network.surfaces(middle, high).softmax(1)[0]

    found = taught()
    both = float(found[[sky, grass]].sum(0).min())
    assert both > 0.5, "of 32 surfaces only two were ever taught"
    assert float(found[sky, :7].mean()) > float(found[sky, 9:].mean())
    assert float(found[grass, 9:].mean()) > float(found[grass, :7].mean())
    spoken = len(lines)
    assert "held" in lines[-1] and float(lines[-1].split()[-1]) < float(lines[0].split()[-1])
    assert (tmp_path / "curve.png").is_file() or not find_spec("matplotlib")
    assert torch.equal(taught(), found) and len(lines) == spoken, "a finished stage is not repeated"


def test_views_are_deterministic_squares() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 140, 3), dtype=np.uint8)
    plain = view(image, Window())
    assert plain.shape == (SIDE, SIDE, 3) and plain.dtype == np.float32
    once, again = (view(image, Window(), np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_a_window_cuts_picture_and_grid_alike() -> None:
    random = np.random.default_rng(0)
    ramp = np.tile(np.arange(160, dtype=np.uint8)[:, None], (1, 160))
    for _ in range(20):
        window = draw_window(random, 0.5)
        fine, coarse = window.cut(ramp), window.cut(ramp[::5, ::5])
        assert abs(int(fine[0, 0]) - int(coarse[0, 0])) <= 5 and min(coarse.shape) >= 15
        assert abs(int(fine[-1, 0]) - int(coarse[-1, 0])) <= 10


def test_training_runs_from_a_folder_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    (tmp_path / "coco" / "images").mkdir(parents=True)
    (tmp_path / "stuff" / "scenes").mkdir(parents=True)
    (tmp_path / "relation").mkdir()
    names = [f"{number:012d}.jpg" for number in range(1, 25)]
    for name in names:
        picture = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "coco" / "images" / name), picture)
        cv2.imwrite(str(tmp_path / "stuff" / "scenes" / f"sea_{name}"), picture)
    notes = {
        "images": [{"id": i + 1, "file_name": name} for i, name in enumerate(names)],
        "annotations": [],
        "categories": [],
    }
    with gzip.open(tmp_path / "coco" / "annotations.json.gz", "wt") as file:
        json.dump(notes, file)
    bits = random.random((24, len(THING_NAMES) + len(STUFF_NAMES))) < 0.3
    np.savez(
        tmp_path / "relation" / "coco_image_labels.npz",
        image_ids=np.arange(1, 25, dtype=np.int32),
        bits=np.packbits(bits, axis=1),
    )
    trunk = tmp_path / "segmentator.safetensors"
    from models.training.loop import write_weights

    write_weights(trunk, build_segmentator(), {})
    recipe = Recipe(
        trunk=str(trunk), teacher="", views=1, folds=2, epochs=1, batch=4, held=0.5, least_positives=1
    )
    lines: list[str] = []
    first = read_weights(train(tmp_path, tmp_path / "work", recipe, log=lines.append))
    again = read_weights(train(tmp_path, tmp_path / "work", recipe, log=lines.append))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any("unlabelled 24" in line for line in lines) and any("map" in line for line in lines)
    assert 0 < sum(is_held(Path(name), 0.5) for name in names) < 24
