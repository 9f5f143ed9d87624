"""Things are put before each other as the truth wants it, and a training goes on where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.deocclusion import build_deocclusion
from models.training import deocclusion
from models.training.loop import read_weights
from models.training.occlusions import (
    by_kind,
    cut,
    draw_scene,
    is_held,
    read_wholes,
    roughened,
    source_key,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cut-outs of ellipses with stripes, each another shape."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "cutouts").mkdir()
    random = np.random.default_rng(3)
    for number in range(14):
        picture = np.zeros((160, 140, 4), np.uint8)
        axes = int(random.integers(24, 60)), int(random.integers(40, 74))
        cv2.ellipse(picture[..., 3:].copy(), (70, 80), axes, 0, 0, 360, 255, -1)
        alpha = np.zeros((160, 140), np.uint8)
        cv2.ellipse(alpha, (70, 80), axes, float(random.uniform(0, 180)), 0, 360, 255, -1)
        stripes = (np.arange(160)[:, None] // 8 % 2 * 90 + random.integers(20, 140, 3)).astype(np.uint8)
        picture[..., :3] = stripes[:, None]
        picture[..., 3] = alpha
        cv2.imwrite(str(folder / "cutouts" / f"person-own-{number:03d}.png"), picture)
    return folder


def test_what_is_hidden_is_known_and_nothing_else_changes(data: Path) -> None:
    wholes = read_wholes(data, lambda _: True)
    kinds = by_kind(wholes)
    shares = []
    for number in range(40):
        random = np.random.default_rng(number)
        hides = number % 2 == 0
        scene = draw_scene(wholes, kinds, random, covered=(0.1, 0.6), uncovered=0.0 if hides else 1.0)
        assert scene.hidden == hides and not (scene.modal & scene.front).any()
        assert not (scene.visible & ~scene.amodal & 1).any()
        if hides:
            shares.append(1 - scene.visible.sum() / scene.amodal.sum())
            seen = cv2.erode(scene.visible, np.ones((5, 5), np.uint8)) > 0
            assert np.abs(scene.rgb[seen].astype(int) - scene.truth[seen]).max() <= 1
        else:
            assert np.array_equal(scene.visible, scene.amodal)
        square = cut(scene)
        assert square is not None and square.rgb.shape == (128, 128, 3) and square.amodal.any()
    assert min(shares) >= 0.1 and max(shares) <= 0.6 and np.std(shares) > 0.05


def test_rough_masks_are_like_the_true_one() -> None:
    mask = np.zeros((128, 128), np.uint8)
    cv2.ellipse(mask, (64, 64), (30, 50), 0, 0, 360, 1, -1)
    overlaps = []
    for number in range(60):
        rough = roughened(mask, np.random.default_rng(number))
        overlaps.append(np.count_nonzero(rough & mask) / np.count_nonzero(rough | mask))
    assert np.mean(overlaps) > 0.85 and min(overlaps) < 0.95 and max(overlaps) == 1


def test_all_of_one_photograph_is_on_one_side_of_the_split() -> None:
    assert source_key("person-coco-10764-471070") == source_key("000000010764") == "10764"
    assert source_key("car-davis-car-roundabout-00025") == source_key("car-davis-car-roundabout-00060")
    assert 0.15 < np.mean([is_held(str(number)) for number in range(2000)]) < 0.25


def test_a_folder_without_things_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no whole things below"):
        read_wholes(tmp_path, lambda _: True)


def test_training_goes_on_and_its_weights_load(data: Path, tmp_path: Path) -> None:
    recipe = deocclusion.Recipe(
        mask_steps=4,
        colour_steps=2,
        mask_batch=4,
        colour_batch=2,
        prior=60,
        probes=4,
        save_every=2,
        half=False,
    )
    said: list[str] = []
    deocclusion.train(
        data, tmp_path / "first", replace(recipe, mask_steps=2, colour_steps=0), log=said.append
    )
    path = deocclusion.train(data, tmp_path / "first", recipe, log=said.append)
    assert any("resumed 2" in line for line in said)
    steps = [json.loads(line) for line in (tmp_path / "first" / "journal.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "step" in line] == [2, 4, 6]
    net = build_deocclusion()
    net.load_state_dict(read_weights(path))
    with torch.no_grad():
        found = net(torch.rand(1, 3, 128, 128), torch.ones(1, 1, 128, 128), torch.zeros(1, 1, 128, 128))
    assert all(bool(torch.isfinite(part).all()) for part in found)
    assert net.masks.templates.max() > 0.5
    assert (tmp_path / "first" / "curve.png").is_file() or not find_spec("matplotlib")
