"""Outlines follow the picture where it has an edge, and the odds where it has none."""

from __future__ import annotations

import cv2
import numpy as np

from stream.edges import DEPENDS, follow


def test_an_outline_moves_to_the_edge_of_the_colour() -> None:
    picture = np.full((96, 128, 3), (90, 120, 60), np.uint8)
    picture[:, 53:] = (200, 60, 60)
    picture = np.clip(picture + np.random.default_rng(0).normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    # The cells think, not very surely, that it begins at pixel 48.
    odds = np.tile(np.clip(0.8 * (np.arange(32, dtype=np.float32) - 11.5), -3, 3), (24, 1))
    coarse = cv2.resize(odds, (128, 96), interpolation=cv2.INTER_LINEAR)
    fine = follow(odds, picture)
    assert fine.shape == (96, 128) and fine.dtype == np.float32
    starts = [(each[20:76] > 0).argmax(1) for each in (coarse, fine)]
    assert abs(starts[0].mean() - 48) < 1
    assert abs(starts[1].mean() - 53) < 1.5


def test_a_plain_picture_leaves_the_outline_where_it_was() -> None:
    picture = np.full((64, 64, 3), 128, np.uint8)
    odds = np.full((16, 16), -9, np.float32)
    odds[4:12, 4:12] = 9
    inside = follow(odds, picture) > 0
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:48] = True
    share = (inside & expected).sum() / (inside | expected).sum()
    assert share > 0.85


def test_a_part_with_its_surroundings_has_the_odds_of_the_whole() -> None:
    random = np.random.default_rng(3)
    odds = random.normal(0, 3, (48, 64)).astype(np.float32)
    picture = random.integers(0, 256, (192, 256, 3), np.uint8)
    whole = follow(odds, picture)
    top, left, bottom, right = 16, 20, 30, 40
    reach = DEPENDS
    cells = (slice(top - reach, bottom + reach), slice(left - reach, right + reach))
    pixels = (
        slice(4 * (top - reach), 4 * (bottom + reach)),
        slice(4 * (left - reach), 4 * (right + reach)),
    )
    part = follow(odds[cells], picture[pixels])[4 * reach : -4 * reach, 4 * reach : -4 * reach]
    assert np.allclose(part, whole[4 * top : 4 * bottom, 4 * left : 4 * right], atol=1e-4)
