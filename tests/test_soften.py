"""What may lie some pixels off is shown blurred by about as much, and what is known stays as it is."""

from __future__ import annotations

import numpy as np

from stream import soften

LINES = 1.0


def stripes():
    """Fine stripes, uint8 RGB 120 x 160."""
    wave = 128 + 80 * np.sin(np.arange(160) * 2 * np.pi / 6)
    return np.tile(wave[None, :, None], (120, 1, 3)).astype(np.uint8)


def contrast(picture, columns):
    return float(picture[30:90, columns].std())


def test_what_is_in_its_place_is_not_touched():
    picture = stripes()
    known = np.ones(picture.shape[:2], np.uint8)
    assert np.array_equal(soften.soften(picture, known, np.zeros(known.shape, np.float32), LINES), picture)
    near = np.full(known.shape, 0.5, np.float32)
    assert np.array_equal(soften.soften(picture, known, near, LINES), picture)


def test_the_farther_astray_the_more_blurred():
    picture = stripes()
    astray = np.zeros(picture.shape[:2], np.float32)
    astray[:, 50:80], astray[:, 80:110] = 2.0, 8.0
    out = soften.soften(picture, np.ones(astray.shape, np.uint8), astray, LINES)
    assert np.array_equal(out[:, :50], picture[:, :50])
    assert contrast(picture, slice(52, 78)) > contrast(out, slice(52, 78)) > contrast(out, slice(82, 108))
    assert contrast(out, slice(84, 106)) < 0.1 * contrast(picture, slice(84, 106))


def test_what_nothing_shows_does_not_bleed_in():
    picture = np.full((120, 160, 3), 100, np.uint8)
    picture[:, 80:] = 255
    known = np.ones((120, 160), np.uint8)
    known[:, 80:] = 0
    astray = np.zeros((120, 160), np.float32)
    astray[:, 40:80] = 6.0
    out = soften.soften(picture, known, astray, LINES)
    assert np.abs(out[:, :80].astype(int) - 100).max() <= 1


def test_a_rough_guess_counts_the_less_the_farther_it_may_be_astray():
    rough, invented = np.full((4, 3, 3), 200, np.uint8), np.full((4, 3, 3), 100, np.uint8)
    astray = np.array([[1.0, 8.0, 14.0]] * 4, np.float32)
    out = soften.mixed(rough, invented, np.ones((4, 3), np.uint8), astray, LINES)[0, :, 0].astype(int)
    assert 200 > out[0] > out[1] > out[2] > 100
    untouched = soften.mixed(rough, invented, np.zeros((4, 3), np.uint8), astray, LINES)
    assert np.array_equal(untouched, invented)
