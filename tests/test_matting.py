from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.matting import Cut, hidden_share, put_together, take_apart
from stream.types import Image, Mask

HEIGHT, WIDTH = 120, 160
NOISE = 3
"""Levels that are taken for a camera's noise, and left to the plate."""


def place() -> Image:
    rough = np.random.default_rng(3).integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def disc(x: int, y: int, radius: int) -> tuple[Mask, NDArray[np.float32]]:
    """A disc's mask, and its alpha with an edge of some pixels."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(rows - y, columns - x)
    return distance <= radius, np.clip((radius + 1 - distance) / 2, 0, 1).astype(np.float32)


def paint(picture: Image, alpha: NDArray[np.float32], colour: tuple[int, int, int]) -> Image:
    share = alpha[:, :, None]
    return np.rint(picture * (1 - share) + np.array(colour) * share).astype(np.uint8)


def around(*masks: Mask) -> Mask:
    """Where a fill would have replaced something: the masks and some pixels around."""
    every = np.logical_or.reduce(masks).astype(np.uint8)
    return cv2.dilate(every, np.ones((9, 9), np.uint8)) > 0


def test_layers_over_their_plate_are_the_picture() -> None:
    plate = place()
    first, soft = disc(60, 60, 25)
    second, other = disc(85, 70, 20)
    picture = paint(paint(plate, soft, (220, 40, 30)), other, (20, 90, 230))
    things = [Cut(1, first & ~second), Cut(2, second)]
    layers = take_apart(picture, plate, around(first, second), things)
    assert [each.id for each in layers] == [1, 2]
    again = put_together(plate, layers)
    assert np.abs(again.astype(int) - picture).max() <= NOISE
    assert np.array_equal(again[:20], picture[:20])


def test_a_layer_is_the_thing_alone() -> None:
    plate = place()
    mask, soft = disc(80, 60, 25)
    picture = paint(plate, soft, (230, 20, 30))
    (layer,) = take_apart(picture, plate, around(mask), [Cut(7, mask)])
    elsewhere = put_together(np.zeros_like(plate), [layer])
    expected = paint(np.zeros_like(plate), soft, (230, 20, 30))
    assert np.abs(elsewhere.astype(int) - expected).mean() < 1.0
    far = soft == 0
    assert elsewhere[far].max() < 40  # nothing of the background came along


def test_a_shadow_goes_along_as_black_that_lets_through() -> None:
    plate = place()
    mask, soft = disc(80, 50, 20)
    shadow, dark = disc(80, 95, 12)
    picture = paint(paint(plate, 0.5 * dark, (0, 0, 0)), soft, (230, 220, 210))
    (layer,) = take_apart(picture, plate, around(mask, shadow), [Cut(1, mask)])
    differs = np.abs(put_together(plate, [layer]).astype(int) - picture)
    assert differs.mean() < 0.2  # the faintest rim of the shadow stays behind
    white = put_together(np.full_like(plate, 200), [layer])
    inside, _ = disc(80, 95, 8)
    assert abs(float(white[inside].mean()) - 100) < 12


def test_what_is_hidden_comes_forward_when_the_front_is_left_out() -> None:
    plate = place()
    back, soft = disc(60, 60, 25)
    front, other = disc(80, 60, 20)
    alone = paint(plate, soft, (220, 40, 30))
    picture = paint(alone, other, (20, 90, 230))
    known = paint(np.zeros_like(plate), np.ones_like(soft), (220, 40, 30))
    things = [Cut(1, back & ~front, back, known), Cut(2, front)]
    layers = take_apart(picture, plate, around(back, front), things)
    assert np.abs(put_together(plate, layers).astype(int) - picture).max() <= NOISE
    without = put_together(plate, layers[:1])
    inner = cv2.erode(back.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert np.abs(without.astype(int) - alone)[inner].mean() < 2
    assert 0.2 < hidden_share(layers[0]) < 0.6 and hidden_share(layers[1]) == 0


def test_nothing_replaced_is_no_layer() -> None:
    plate = place()
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    assert take_apart(plate, plate, nothing, [Cut(1, nothing)]) == []
    assert take_apart(plate, plate, nothing, []) == []


def test_background_inside_a_mask_does_not_go_along() -> None:
    plate = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    mask, soft = disc(80, 60, 25)
    picture = paint(plate, soft, (230, 20, 30))
    wide = mask.copy()
    wide[40:80, 100:125] = True
    (layer,) = take_apart(picture, plate, around(wide), [Cut(7, wide)])
    x0, y0, x1, y1 = layer.box
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[y0:y1, x0:x1] = layer.alpha
    assert alpha[45:75, 112:122].mean() < 10 and alpha[50:70, 70:90].min() == 255


def test_a_guess_too_large_of_what_is_hidden_shows_nowhere() -> None:
    plate = place()
    back, soft = disc(60, 60, 25)
    front, other = disc(85, 60, 20)
    alone = paint(plate, soft, (220, 40, 30))
    picture = paint(alone, other, (20, 90, 230))
    # the guess reaches below and beyond what is in front, where nothing would hide it
    guess = back | (disc(92, 75, 30)[0] & ~disc(60, 60, 26)[0])
    things = [Cut(1, back & ~front, guess, np.full_like(plate, 250)), Cut(2, front)]
    layers = take_apart(picture, plate, around(back, front, guess), things)
    assert np.abs(put_together(plate, layers).astype(int) - picture).max() <= NOISE
    assert hidden_share(layers[0]) > 0.1


def test_a_small_thing_that_only_the_plate_lost_comes_back() -> None:
    plate = place()
    mask, soft = disc(60, 60, 25)
    picture = paint(plate, soft, (220, 40, 30))
    picture[62:65, 120:132] = 250  # a line on the road
    replaced = around(mask)
    replaced[55:70, 86:140] = True
    layers = take_apart(picture, plate, replaced, [Cut(1, mask)])
    assert np.abs(put_together(plate, layers).astype(int) - picture)[60:67, 118:134].max() <= 4 * NOISE
