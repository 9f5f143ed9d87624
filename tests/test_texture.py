"""What was never seen looks like what is around it: as sharp, lines go on, nothing is smeared or repeated."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

import stream
from stream.commands import main
from stream.crops import invent, sketch
from stream.errors import UsageError

Picture = NDArray[np.uint8]
ROOT = Path(__file__).parent.parent


def photograph(name: str, side: int = 256) -> Picture:
    grey = getattr(data, name)()[:side, :side]
    return np.repeat(grey[..., None], 3, axis=2)


def ellipse(height: int, width: int, centre: tuple[int, int], axes: tuple[int, int]) -> Picture:
    hole = np.zeros((height, width), np.uint8)
    cv2.ellipse(hole, centre, axes, 20, 0, 360, 1, -1)
    return hole


def blanked(picture: Picture, hole: Picture) -> Picture:
    return np.where(hole[..., None] > 0, np.uint8(127), picture)


def detail(picture: Picture, where: NDArray[np.bool_]) -> float:
    return float((cv2.Laplacian(picture.astype(np.float32), cv2.CV_32F)[where] ** 2).mean())


@pytest.mark.parametrize("name", ["grass", "brick", "gravel"])
def test_texture_in_the_hole_is_as_sharp_as_around_it(name: str) -> None:
    picture = photograph(name)
    hole = ellipse(256, 256, (130, 120), (60, 38))
    done = invent(blanked(picture, hole), hole, None)
    inside = cv2.erode(hole, np.ones((3, 3), np.uint8)) > 0
    sharpness = detail(done, inside) / detail(picture, inside)
    assert 0.6 < sharpness < 1.4
    assert detail(sketch(blanked(picture, hole), hole, None), inside) < 0.1 * detail(picture, inside)
    assert np.array_equal(done[hole == 0], picture[hole == 0])


@pytest.mark.parametrize("name", ["grass", "gravel"])
def test_the_hole_s_outline_cannot_be_seen_afterwards(name: str) -> None:
    """Steps across the outline are like steps anywhere else in the picture."""
    picture = photograph(name)
    hole = ellipse(256, 256, (130, 120), (60, 38))
    done = invent(blanked(picture, hole), hole, None).astype(np.float32)[..., 0]
    step = np.abs(np.diff(done, axis=1))
    across = np.diff(hole.astype(int), axis=1) != 0
    assert step[across].mean() < 1.6 * step[(hole[:, 1:] == 0) & ~across].mean()


@pytest.mark.parametrize("turned", [False, True])
def test_a_straight_edge_goes_on(turned: bool) -> None:
    chance = np.random.default_rng(3)
    picture = np.full((200, 240, 3), (90, 140, 200), np.uint8)
    picture[110:] = (60, 90, 50)
    noise = chance.integers(-14, 15, (200, 240, 1))
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    hole = ellipse(200, 240, (120, 105), (34, 50))
    truth = picture
    if turned:
        truth, hole = np.ascontiguousarray(picture.transpose(1, 0, 2)), np.ascontiguousarray(hole.T)
    done = invent(blanked(truth, hole), hole, None)
    error = np.abs(cv2.blur(done, (5, 5)).astype(int) - cv2.blur(truth, (5, 5)).astype(int)).max(2)
    assert (error[hole > 0] > 40).mean() < 0.04


def test_stripes_keep_their_rhythm() -> None:
    columns = (127 + 90 * np.sin(np.arange(300) * 2 * np.pi / 23)).astype(np.uint8)
    picture = np.repeat(np.repeat(columns[None], 220, 0)[..., None], 3, axis=2)
    hole = ellipse(220, 300, (150, 110), (60, 45))
    done = invent(blanked(picture, hole), hole, None)
    assert np.abs(done.astype(int) - picture)[hole > 0].mean() < 12


def test_the_same_copy_is_not_laid_side_by_side() -> None:
    """A unique spot beside the hole may turn up in it once, not as a row of spots."""
    chance = np.random.default_rng(5)
    picture = np.clip(120 + chance.normal(0, 18, (220, 300, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.2))
    cv2.circle(picture, (60, 110), 9, (235, 40, 40), -1)
    hole = ellipse(220, 300, (150, 110), (62, 48))
    done = invent(blanked(picture, hole), hole, None)
    red = ((done[..., 0] > 190) & (done[..., 1] < 90) & (hole > 0)).astype(np.uint8)
    assert cv2.connectedComponents(red)[0] - 1 <= 1


@pytest.mark.parametrize(
    "box",
    [(0, 60, 70, 200), (150, 0, 256, 90), (0, 0, 256, 60), (20, 20, 236, 246), (100, 100, 104, 103)],
    ids=["left border", "corner", "whole top", "most of the picture", "tiny"],
)
def test_any_hole_is_filled_with_what_the_picture_has(box: tuple[int, int, int, int]) -> None:
    picture = np.clip(photograph("gravel"), 40, 215)
    hole = np.zeros((256, 256), np.uint8)
    hole[box[1] : box[3], box[0] : box[2]] = 1
    done = invent(np.where(hole[..., None] > 0, np.uint8(255), picture), hole, None)
    assert np.array_equal(done[hole == 0], picture[hole == 0])
    assert abs(float(done[hole > 0].mean()) - float(picture[hole == 0].mean())) < 35
    if box[2] - box[0] > 10:
        assert done[hole > 0].std() > 0.4 * picture[hole == 0].std()


def test_a_picture_without_any_known_pixel_is_no_error() -> None:
    picture = photograph("grass", 64)
    done = invent(picture, np.ones((64, 64), np.uint8), None)
    assert done.shape == picture.shape and done.dtype == np.uint8


def test_the_same_hole_is_filled_the_same_way_and_a_little_noise_changes_little() -> None:
    picture = photograph("brick")
    hole = ellipse(256, 256, (120, 130), (45, 35))
    first = invent(blanked(picture, hole), hole, None)
    assert np.array_equal(first, invent(blanked(picture, hole), hole, None))
    noise = np.random.default_rng(2).integers(-1, 2, picture.shape)
    other = invent(blanked(np.clip(picture + noise, 0, 255).astype(np.uint8), hole), hole, None)
    same = np.abs(first.astype(int) - other).max(2)[hole > 0] < 12
    assert same.mean() > 0.5


def test_a_hole_of_2000_pixels_across_needs_bounded_memory() -> None:
    chance = np.random.default_rng(9)
    noise = cv2.resize(chance.integers(0, 256, (500, 750, 3), np.uint8), (3000, 2000))
    picture = np.asarray(noise, np.uint8)
    hole = ellipse(2000, 3000, (1500, 1000), (1000, 700))
    tracemalloc.start()
    done = invent(blanked(picture, hole), hole, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(done[hole == 0], picture[hole == 0])
    assert peak < 20 * picture.nbytes
    inside = cv2.erode(hole, np.ones((3, 3), np.uint8)) > 0
    assert 0.6 < detail(done, inside) / detail(picture, inside) < 1.4


def test_the_network_s_structure_is_asked_for_and_decides() -> None:
    """A wall left dark and right bright: the network says which side the hole belongs to."""
    chance = np.random.default_rng(4)
    picture = np.full((256, 256, 3), 70, np.uint8)
    picture[:, 128:] = 170
    picture = np.clip(picture + chance.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)
    hole = ellipse(256, 256, (128, 128), (50, 60))
    level = {}
    for told in (70, 170):

        def inpaint(image: Picture, *_: Picture, told: int = told) -> Picture:
            return np.full_like(image, told)

        level[told] = float(invent(blanked(picture, hole), hole, inpaint)[hole > 0].mean())
    assert level[170] > level[70] + 15


@pytest.fixture
def still(tmp_path: Path) -> tuple[Path, Path]:
    hole = ellipse(256, 256, (130, 120), (40, 30))
    cv2.imwrite(str(tmp_path / "still.png"), photograph("gravel"))
    cv2.imwrite(str(tmp_path / "mask.png"), hole * 255)
    return tmp_path / "still.png", tmp_path / "mask.png"


def test_masks_without_any_network_load_neither_torch_nor_openvino(still: tuple[Path, Path]) -> None:
    picture, mask = still
    program = (
        "import sys; from stream.commands import main\n"
        f"try: main(['clean', {str(picture)!r}, '-o', {str(picture.with_name('out.png'))!r},"
        f" '--masks', {str(mask)!r}, '--engine', 'none', '--quiet'])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print(sorted({'torch', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    before, after = cv2.imread(str(picture)), cv2.imread(str(picture.with_name("out.png")))
    inside = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0
    assert np.array_equal(before[~inside], after[~inside])
    assert (before != after)[inside].mean() > 0.5


def test_the_engine_none_is_refused_where_something_must_be_seen(
    still: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = str(still[0]), str(still[0].with_name("out.png"))
    for arguments in (
        ["clean", picture, "-o", out, "--engine", "none"],
        ["explain", picture, "-o", out, "--engine", "none"],
        ["engines", "build", "--engine", "none"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        told = capsys.readouterr().err
        assert ended.value.code == 2
        assert "engine none" in told and "hint: " in told
        assert not Path(out).exists()
    cleaner = stream.Cleaner(stream.load_config(overrides={"engine.name": "none"}))
    with pytest.raises(UsageError, match="none"):
        cleaner.push(photograph("grass"), 0.0)
