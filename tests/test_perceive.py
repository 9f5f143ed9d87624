"""Perception with engines that answer what is painted: people are red, cars are blue."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.schema import Config, load_config
from models.labels import STUFF_NAMES, THING_NAMES
from stream.errors import UsageError
from stream.networks import Networks, input_size, networks_to_build, segmentator_spec, stuff_spec
from stream.perceive import check_reported, from_labels, perceive, working_size
from stream.types import Frame

CONFIG = load_config("tourist", overrides={"perceive.size": 256})
PERSON, CAR = 1 + THING_NAMES.index("person"), 1 + THING_NAMES.index("car")


class PaintedSegmentator:
    """Finds red people and blue cars, and says where the middle of each painted column lies."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.shapes.append(image.shape)
        small = image[0, :, 2::4, 2::4]
        rows, columns = small.shape[1:]
        logits = np.zeros((1, 81, rows, columns), np.float32)
        logits[:, 0] = 12.0
        centre = np.full((1, 1, rows, columns), -6.0, np.float32)
        offset = np.zeros((1, 2, rows, columns), np.float32)
        for number, channel in ((PERSON, 0), (CAR, 2)):
            ys, xs = np.nonzero((small[channel] > 0.8) & (small[1] < 0.3))
            if not len(ys):
                continue
            logits[0, number, ys, xs] = 16.0
            # Where a dark red says that something may be there the background is a little surer.
            faint = (small[channel] > 0.4) & (small[channel] <= 0.8) & (small[1] < 0.15)
            logits[0, number][faint] = 11.4
            y, x = round(ys.mean()), round(xs.mean())
            centre[0, 0, y, x] = 4.0
            offset[0, 0, ys, xs] = y - ys
            offset[0, 1, ys, xs] = x - xs
        return logits, centre, offset


def painted_stuff(image: np.ndarray) -> np.ndarray:
    assert image.shape == (1, 3, 128, 128)
    logits = np.full((1, len(STUFF_NAMES)), -5.0, np.float32)
    upper_is_light = image[0, :, :32].mean() > image[0, :, -32:].mean()
    logits[0, STUFF_NAMES.index("sky-other" if upper_is_light else "grass")] = 3.0
    return logits


def networks_for(frame: Frame, config: Config = CONFIG) -> tuple[Networks, PaintedSegmentator]:
    height, width = (frame.width, frame.height) if frame.rotation % 180 else (frame.height, frame.width)
    segmentator = PaintedSegmentator()
    opened: dict[Any, Any] = {
        segmentator_spec(config, height, width): segmentator,
        stuff_spec(config): painted_stuff,
    }
    return Networks(config, cast(Any, opened)), segmentator


def scene(rotation: int = 0) -> Frame:
    """A light sky over a dark ground with a tall red person at the left, coded as `rotation` says."""
    picture = np.full((360, 640, 3), 60, np.uint8)
    picture[:120] = 230
    picture[100:320, 80:160] = (250, 20, 20)
    picture[250:310, 400:560] = (20, 20, 250)
    coded = np.ascontiguousarray(np.rot90(picture, rotation // 90))
    height, width = coded.shape[:2]
    return Frame(0, 0, Fraction(1, 25), (coded,), "rgb24", width, height, rotation=rotation)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (360, 640, (288, 512)),
        (1080, 1920, (288, 512)),
        (640, 360, (512, 288)),
        (240, 432, (288, 512)),
        (10, 900, (32, 512)),
    ],
)
def test_input_sizes_are_multiples_of_32(height: int, width: int, expected: tuple[int, int]) -> None:
    assert input_size(height, width, 512) == expected


def test_things_with_smooth_masks_and_boxes_in_frame_pixels() -> None:
    frame = scene()
    networks, segmentator = networks_for(frame)
    seen = perceive(networks, frame, look_at_stuff=True, config=CONFIG)
    assert segmentator.shapes == [(1, 3, 128, 256)]
    assert seen.working == working_size(CONFIG, frame)
    assert sorted(each.label for each in seen.instances) == ["car", "person"]
    person = next(each for each in seen.instances if each.label == "person")
    assert person.box == pytest.approx((80, 100, 160, 320), abs=8)
    assert person.mask.mean() == pytest.approx(80 * 220 / (640 * 360), rel=0.12)
    assert person.score > 0.8
    assert set(np.unique(seen.classes)) == {0, PERSON, CAR}
    assert [STUFF_NAMES[i] for i in np.flatnonzero(seen.stuff > 0.5)] == ["sky-other"]


@pytest.mark.parametrize(("width", "height", "wider"), [(24, 80, True), (80, 300, False)])
def test_of_small_things_what_may_be_a_limb_belongs_to_them(width: int, height: int, wider: bool) -> None:
    picture = np.full((360, 640, 3), 60, np.uint8)
    trunk, top = round(0.7 * height), 20
    picture[top : top + trunk, 300 : 300 + width] = (250, 20, 20)
    picture[top + trunk : top + height, 300 : 300 + width] = (150, 20, 20)
    frame = Frame(0, 0, Fraction(1, 25), (picture,), "rgb24", 640, 360)
    networks, _ = networks_for(frame)
    [person] = perceive(networks, frame, look_at_stuff=False, config=CONFIG).instances
    low = person.box[3] - top
    assert (low > 0.9 * height) if wider else (low < 0.85 * height)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_seen_upright_and_its_masks_turned_back(rotation: int) -> None:
    frame = scene(rotation)
    networks, _ = networks_for(frame)
    seen = perceive(networks, frame, look_at_stuff=True, config=CONFIG)
    assert seen.working[0] / seen.working[1] == pytest.approx(frame.height / frame.width, rel=0.15)
    person = next(each for each in seen.instances if each.label == "person")
    red = (frame.rgb[..., 0] > 200) & (frame.rgb[..., 1] < 60)
    ys, xs = np.nonzero(red)
    assert person.box == pytest.approx((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), abs=8)
    assert [STUFF_NAMES[i] for i in np.flatnonzero(seen.stuff > 0.5)] == ["sky-other"]


def test_what_is_unsure_or_tiny_is_left_out() -> None:
    frame = scene()
    for change in ({"perceive.score": 0.999}, {"perceive.min_area": 0.5}):
        config = load_config("tourist", overrides={"perceive.size": 256, **change})
        networks, _ = networks_for(frame, config)
        assert perceive(networks, frame, look_at_stuff=False, config=config).instances == ()


def test_the_networks_rest_when_not_asked() -> None:
    frame = scene()
    networks, segmentator = networks_for(frame)
    seen = perceive(networks, frame, look_at_stuff=False, look_at_things=False, config=CONFIG)
    assert segmentator.shapes == []
    assert seen.instances == ()
    assert len(seen.stuff) == 0


def test_labelled_masks_replace_the_segmentator() -> None:
    frame = scene()
    labels = np.zeros((360, 640), np.uint16)
    labels[100:320, 80:160] = 7
    labels[250:310, 400:560] = 300
    seen = from_labels(labels, {7: "person", 300: "car"}, frame)
    assert [(each.identity, each.label, each.score) for each in seen.instances] == [
        (7, "person", 1.0),
        (300, "car", 1.0),
    ]
    assert seen.instances[0].box == (80, 100, 160, 320)
    assert (seen.instances[0].mask == (labels == 7)).all()


@pytest.mark.parametrize(
    ("shape", "names", "said"),
    [
        ((180, 320), {7: "person"}, "320x180"),
        ((360, 640), {8: "person"}, "object 7"),
        ((360, 640), {7: "persn"}, "persn"),
    ],
)
def test_wrong_labelled_masks_are_refused(shape: tuple[int, int], names: dict[int, str], said: str) -> None:
    labels = np.zeros(shape, np.uint16)
    labels[20:40, 20:40] = 7
    with pytest.raises(UsageError, match=said):
        from_labels(labels, names, scene())


def test_the_networks_of_a_run_are_known_beforehand() -> None:
    upright = networks_to_build(CONFIG, 640, 360)
    assert [spec.name for spec in upright] == ["segmentator", "stuff"]
    assert upright == networks_to_build(CONFIG, 360, 640, rotation=90)
    assert upright[0].label == "segmentator-compact 256x128"
    other = load_config("tourist", overrides={"models.weights": {"segmentator": "mine.safetensors"}})
    assert networks_to_build(other, 640, 360)[0].weights == "mine.safetensors"


def test_classes_the_weights_leave_out_are_neither_reported_nor_promised(tmp_path: Path) -> None:
    weights = tmp_path / "some.safetensors"
    save_file({"x": np.zeros(1, np.float32)}, weights, metadata={"left_out": "car, toaster"})
    change = {"perceive.size": 256, "models.weights": {"segmentator": str(weights)}}
    config = load_config("tourist", overrides=change)
    frame = scene()
    networks, _ = networks_for(frame, config)
    seen = perceive(networks, frame, look_at_stuff=False, config=config)
    assert [each.label for each in seen.instances] == ["person"]
    for wanted, warnings in ((("person@3,4",), 0), (("person", "toaster"), 1), ((), 0)):
        asked = load_config("tourist", overrides={**change, "judge.remove": wanted})
        assert len(check_reported(asked)) == warnings
    with pytest.raises(UsageError, match="too few of class 'toaster'") as caught:
        check_reported(load_config("tourist", overrides={**change, "judge.remove": ("toaster",)}))
    assert "--masks" in caught.value.hint
