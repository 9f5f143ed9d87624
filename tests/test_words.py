"""The vocabulary of visual words can be learnt again, and the committed one is what it says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from shots import texture

from models.training.words import Recipe, train
from models.words import bag, describe, load_words


def test_the_committed_vocabulary_is_of_unit_length() -> None:
    words = load_words()
    assert words.shape == (1024, 128)
    assert np.allclose(np.linalg.norm(words, axis=1), 1, atol=1e-5)


def test_each_feature_counts_once() -> None:
    found = describe(cv2.cvtColor(texture(320, 180, 1), cv2.COLOR_RGB2GRAY))
    assert len(found.points) > 50
    assert bag(found, load_words()).sum() == len(found.points)


def test_features_lie_only_where_it_is_clear() -> None:
    clear = np.zeros((180, 320), np.uint8)
    clear[:, :100] = 1
    found = describe(cv2.cvtColor(texture(320, 180, 1), cv2.COLOR_RGB2GRAY), clear)
    assert len(found.points) > 10
    assert found.points[:, 0].max() < 101


def test_a_vocabulary_is_learnt_from_pictures(tmp_path: Path) -> None:
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), texture(320, 180, number))
    recipe = Recipe(words=16, rounds=5)
    written = train(tmp_path, tmp_path / "work", recipe, log=lambda _: None)
    again = train(tmp_path, tmp_path / "again", recipe, log=lambda _: None)
    assert written.read_bytes() == again.read_bytes()
    with pytest.raises(ValueError, match="too few"):
        train(tmp_path, tmp_path / "work", Recipe(words=100_000), log=lambda _: None)
