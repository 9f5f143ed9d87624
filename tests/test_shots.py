from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream import shots
from stream.types import Frame

Rgb = NDArray[np.uint8]


def scene(seed: int, width: int = 640, height: int = 180) -> Rgb:
    """A picture with large and small structure, wider than a frame so that one can pan over it."""
    rng = np.random.default_rng(seed)
    out = np.zeros((height, width, 3), np.float32)
    for size, weight in ((4, 0.6), (16, 0.3), (60, 0.1)):
        small = rng.integers(0, 256, (size, size * width // height, 3)).astype(np.float32)
        out += weight * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    tint = np.asarray(rng.integers(-50, 50, 3), np.float32)
    return np.clip(out + tint, 10, 225).astype(np.uint8)


def frame(rgb: NDArray[np.generic]) -> Frame:
    picture = np.ascontiguousarray(rgb, np.uint8)
    return Frame(0, 0, Fraction(1, 25), (picture,), "rgb24", picture.shape[1], picture.shape[0])


def cuts(pictures: Sequence[NDArray[np.generic]]) -> list[int]:
    state, found = shots.initial(), []
    for number, rgb in enumerate(pictures):
        cut, state = shots.step(state, frame(rgb))
        if cut:
            found.append(number)
    return found


def still(seed: int, count: int = 8) -> list[Rgb]:
    rng = np.random.default_rng(seed + 100)
    view = scene(seed)[:, :320]
    return [np.clip(view + rng.normal(0, 3, view.shape), 0, 255).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_a_hard_cut_is_found_at_its_frame(seed: int) -> None:
    assert cuts([*still(seed), *still(seed + 50), *still(seed + 90)]) == [8, 16]


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_a_pan_is_no_cut(seed: int, share: float) -> None:
    wide = scene(seed, 1600)
    step = int(320 * share)
    views = [wide[:, x : x + 320] for x in range(0, 1280, step)]
    blurred = [cv2.blur(view, (max(1, step // 3), 1)) for view in views]
    assert cuts([wide[:, :320]] * 4 + blurred) == []


@pytest.mark.parametrize("light", ["brighter", "glaring", "white", "black"])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_flash_is_no_cut(light: str, frames: int) -> None:
    view = scene(4)[:, :320].astype(np.float32)
    flash = {"brighter": view + 60, "glaring": view * 2.5 + 40, "white": view * 0 + 255, "black": view * 0}[
        light
    ]
    assert cuts([*still(4), *[np.clip(flash, 0, 255)] * frames, *still(4)]) == []


def test_an_exposure_that_adapts_is_no_cut() -> None:
    view = scene(5)[:, :320].astype(np.float32)
    assert cuts([np.clip(view * gain, 0, 255) for gain in np.linspace(0.4, 1.5, 8)]) == []


@pytest.mark.parametrize("speed", [40, 90, 160])
def test_a_passer_by_before_the_lens_is_no_cut(speed: int) -> None:
    views = still(6, 14)
    for number, x in enumerate(range(-170, 330, speed)):
        left, right = max(0, x), max(0, min(320, x + 170))
        views[number + 2] = views[number + 2].copy() if number + 2 < len(views) else views[-1]
        views[number + 2][:, left:right] = (25, 30, 60)
        if number + 3 >= len(views):
            break
    assert cuts(views) == []


def test_a_cut_through_black_is_one_cut() -> None:
    black = [np.zeros((180, 320, 3), np.uint8)] * 3
    assert cuts([*still(1), *black, *still(52)]) == [11]


def test_noise_and_grey_do_not_disturb() -> None:
    rng = np.random.default_rng(0)
    assert cuts([rng.integers(120, 136, (180, 320, 3)) for _ in range(10)]) == []


def test_planes_of_video_are_read_as_they_are() -> None:
    luma = [cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in (*still(1, 4), *still(52, 4))]
    grey = np.full((90, 160), 512, np.uint16)
    state, found = shots.initial(), []
    for number, y in enumerate(luma):
        planes = (y.astype(np.uint16) * 4, grey, grey)
        each = Frame(number, number, Fraction(1, 25), planes, "yuv420p10le", 320, 180)
        cut, state = shots.step(state, each)
        found += [number] if cut else []
    assert found == [4]


def test_the_state_is_a_value() -> None:
    views = [frame(view) for view in (*still(1, 4), *still(52, 2))]
    state = shots.initial()
    for each in views[:4]:
        _, state = shots.step(state, each)
    assert [shots.step(state, views[4])[0] for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (16, 400), (8, 2000)])
def test_any_size_is_taken(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    assert cuts([rng.integers(0, 255, (*size, 3)) for _ in range(3)]) in ([], [1], [2], [1, 2])
