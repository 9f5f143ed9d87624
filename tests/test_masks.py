from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import Clip, make, picture
from numpy.typing import NDArray

from configs.schema import load_config
from stream.errors import InputError, UsageError
from stream.job import Job, clean
from stream.masks import Drawn, open_masks
from stream.source import open_source

COUNT = 6
CLIP = Clip(ticks=tuple(512 * i for i in range(COUNT)))


def drawing(index: int, value: int = 255, size: tuple[int, int] = (96, 64)) -> NDArray[np.uint8]:
    out = np.zeros((size[1], size[0]), np.uint8)
    out[10 : 20 + index, 5:30] = value
    return out


def folder(path: Path, count: int = COUNT, value: int = 255, size: tuple[int, int] = (96, 64)) -> Path:
    path.mkdir()
    for index in range(count):
        cv2.imwrite(str(path / f"{index}.png"), drawing(index, value, size))
    return path


def read(masks: Path, source: Path, **cut: Fraction) -> list[Drawn]:
    with open_source(source, **cut) as frames, open_masks(masks, frames.info) as reader:  # type: ignore[arg-type]
        drawn = [reader.read(frame) for frame in frames]
        assert reader.left_over(len(drawn)) == ()
    return drawn


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "in.mp4", CLIP)


@pytest.mark.parametrize("value", [255, 128, 1])
def test_what_is_not_zero_is_hole(tmp_path: Path, clip: Path, value: int) -> None:
    drawn = read(folder(tmp_path / "masks", value=value), clip)
    for index, each in enumerate(drawn):
        assert each.labels is None
        assert each.mask is not None and each.mask.dtype == bool
        assert np.array_equal(each.mask, drawing(index) > 0)


@pytest.mark.parametrize(
    ("codec", "form", "suffix"), [("ffv1", "gray", ".mkv"), ("libx264", "yuv420p", ".mp4")]
)
def test_a_mask_video(tmp_path: Path, clip: Path, codec: str, form: str, suffix: str) -> None:
    path = tmp_path / f"masks{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"crf": "20"} if codec == "libx264" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, form
        for index in range(COUNT):
            grey = av.VideoFrame.from_ndarray(drawing(index), format="gray")
            out.mux(stream.encode(grey if form == "gray" else grey.reformat(format=form)))
        out.mux(stream.encode(None))
    for index, each in enumerate(read(path, clip)):
        assert each.mask is not None
        assert (each.mask != (drawing(index) > 0)).mean() < (1e-9 if codec == "ffv1" else 0.03)


@pytest.mark.parametrize("count", [COUNT - 1, COUNT + 2])
def test_a_wrong_count_names_both_numbers_before_the_run(tmp_path: Path, clip: Path, count: int) -> None:
    masks = folder(tmp_path / "masks", count)
    with open_source(clip) as frames, pytest.raises(UsageError) as caught:
        open_masks(masks, frames.info)
    assert f"{count} masks" in str(caught.value) and f"{COUNT} frames" in str(caught.value)


def test_too_few_masks_are_found_on_the_way_where_their_count_was_not_known(tmp_path: Path) -> None:
    source = make(tmp_path / "in.ts", CLIP)
    with pytest.raises(UsageError) as caught:
        read(folder(tmp_path / "masks", COUNT - 1), source)
    assert f"{COUNT - 1} masks" in str(caught.value) and str(COUNT) in str(caught.value)


def test_too_many_masks_do_not_cost_the_work(tmp_path: Path) -> None:
    source, output = make(tmp_path / "in.ts", CLIP), tmp_path / "out.mkv"
    masks = folder(tmp_path / "masks", COUNT + 2)
    config = load_config("tourist", None, {"engine.name": "none"})
    report = clean(source, output, config, job=Job(masks=masks))
    assert report.partial and any(f"{COUNT + 2} masks and {COUNT} frames" in each for each in report.warnings)
    assert output.exists()


def test_a_mask_video_of_another_length(tmp_path: Path, clip: Path) -> None:
    longer = make(tmp_path / "masks.mp4", Clip())
    with pytest.raises(UsageError, match="20 masks and 6 frames"):
        read(longer, clip)


def test_a_wrong_size_names_both(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(UsageError, match="50 x 40") as caught:
        read(folder(tmp_path / "masks", size=(50, 40)), clip)
    assert "96 x 64" in str(caught.value)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_masks_of_a_turned_video_are_as_a_viewer_sees_it(tmp_path: Path, turn: int) -> None:
    source = make(tmp_path / "in.mov", Clip(rotation=turn, ticks=CLIP.ticks))
    masks = tmp_path / "masks"
    masks.mkdir()
    for index in range(COUNT):
        upright = np.rot90(drawing(index), -turn // 90)
        cv2.imwrite(str(masks / f"{index}.png"), np.ascontiguousarray(upright))
    for index, each in enumerate(read(masks, source)):
        assert each.mask is not None
        assert np.array_equal(each.mask, drawing(index) > 0)


def test_one_mask_for_one_picture_only(tmp_path: Path, clip: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), drawing(0))
    cv2.imwrite(str(tmp_path / "photo.png"), picture(0))
    assert len(read(tmp_path / "one.png", tmp_path / "photo.png")) == 1
    with pytest.raises(UsageError, match="1 masks and 6 frames"):
        read(tmp_path / "one.png", clip)


def test_a_mask_video_is_cut_like_the_input(tmp_path: Path, clip: Path) -> None:
    whole = make(tmp_path / "masks.mkv", Clip(codec="ffv1", ticks=CLIP.ticks))
    assert len(read(whole, clip, start=Fraction(2, 25), end=Fraction(4, 25))) == 2


def labelled(path: Path, names: dict[str, str], value: int = 7) -> Path:
    folder(path, value=value)
    (path / "objects.json").write_text(json.dumps(names))
    return path


def test_labels_keep_the_numbers_and_names(tmp_path: Path, clip: Path) -> None:
    drawn = read(labelled(tmp_path / "masks", {"7": "person", "300": "car"}), clip)
    assert drawn[2].mask is None
    assert drawn[2].labels is not None
    values, names = drawn[2].labels
    assert values.dtype == np.uint16
    assert np.array_equal(values, drawing(2, 7))
    assert names == {7: "person", 300: "car"}


def test_labels_of_sixteen_bits_and_of_palettes(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    cv2.imwrite(str(masks / "a.png"), drawing(0).astype(np.uint16) * 2)
    rng = np.random.default_rng(0)
    indexed = av.VideoFrame.from_ndarray(
        (drawing(0, 3), rng.integers(0, 256, (256, 4), dtype=np.uint8)),  # type: ignore[arg-type]
        format="pal8",
    )
    context = av.CodecContext.create("png", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.thread_count = 96, 64, "pal8", 1
    (masks / "b.png").write_bytes(b"".join(bytes(each) for each in context.encode(indexed)))
    (masks / "objects.json").write_text(json.dumps({"510": "dog", "3": "cat"}))
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(frames / name), picture(0))
    values = [each.labels[0].max() for each in read(masks, frames) if each.labels is not None]
    assert values == [510, 3]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"7": "persn"}, "persn"),
        ({"7": "zeppelin"}, "zeppelin"),
        ({"x": "person"}, "'x'"),
        ({"0": "person"}, "'0'"),
        ({"8": "person"}, "object 7"),
        ({}, "table"),
    ],
)
def test_a_wrong_table_of_objects(tmp_path: Path, clip: Path, names: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(labelled(tmp_path / "masks", names), clip)
    assert told in str(caught.value)
    if told == "persn":
        assert "'person'" in caught.value.hint


def test_no_masks_there(tmp_path: Path, clip: Path) -> None:
    with open_source(clip) as frames:
        with pytest.raises(InputError):
            open_masks(tmp_path / "none", frames.info)
        with pytest.raises(InputError):
            open_masks(tmp_path / "none.png", frames.info)
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no images"):
            open_masks(tmp_path / "empty", frames.info)
