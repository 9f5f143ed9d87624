"""A clip in, a clip out: what goes, what stays, and what is said about it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import walks

import stream
from stream.errors import InputError, OutputError, UsageError
from stream.source import open_source

FRAMES, WIDTH, HEIGHT = 24, 160, 96


def background() -> np.ndarray:
    noise = np.random.default_rng(5).integers(0, 256, (HEIGHT // 6, WIDTH // 6, 3)).astype(np.uint8)
    return cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def block(index: int) -> tuple[slice, slice]:
    left = 8 + 5 * index
    return slice(30, 66), slice(left, left + 24)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey block walks over a still background; irregular time stamps, and a tone."""
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=44100, layout="mono")
        for index in range(FRAMES):
            image = background()
            image[block(index)] = 128
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 40 * index + (index % 3), Fraction(1, 1000)
            container.mux(video.encode(frame))
        tone = (np.sin(np.arange(44100) / 20) * 9000).astype(np.int16)[None]
        for start in range(0, tone.shape[1], 1024):
            samples = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], format="s16", layout="mono")
            samples.sample_rate, samples.pts = 44100, start
            container.mux(sound.encode(samples))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    for index in range(FRAMES):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        rows, columns = block(index)
        mask[max(rows.start - 3, 0) : rows.stop + 3, max(columns.start - 3, 0) : columns.stop + 3] = 255
        cv2.imwrite(str(folder / f"{index:04}.png"), mask)
    return folder


def decoded(path: Path) -> list:
    with open_source(path) as source:
        return list(source)


@pytest.fixture(scope="module")
def cleaned(clip: Path, masks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, stream.Report]:
    output = tmp_path_factory.mktemp("out") / "walk.clean.mp4"
    job = stream.Job(
        masks=masks, lossless=True, provenance=output.with_suffix(".mkv"), log=output.with_suffix(".jsonl")
    )
    return output, stream.clean(clip, output, job=job)


def test_the_block_is_gone_and_the_background_is_back(cleaned: tuple[Path, stream.Report]) -> None:
    truth = background().astype(int)
    for frame in decoded(cleaned[0])[3:]:
        where = block(frame.index)
        assert np.abs(frame.rgb[where].astype(int) - truth[where]).mean() < 4


def test_outside_the_hole_every_sample_is_the_input_s(
    clip: Path, cleaned: tuple[Path, stream.Report]
) -> None:
    for before, after in zip(decoded(clip), decoded(cleaned[0]), strict=True):
        rows, columns = block(before.index)
        outside = np.ones((HEIGHT, WIDTH), bool)
        outside[rows.start - 3 : rows.stop + 3, columns.start - 3 : columns.stop + 3] = False
        for one, two in zip(before.planes, after.planes, strict=True):
            assert np.array_equal(one[outside], two[outside])


def test_times_and_sound_are_the_input_s(clip: Path, cleaned: tuple[Path, stream.Report]) -> None:
    assert [frame.time for frame in decoded(clip)] == [frame.time for frame in decoded(cleaned[0])]
    sound = []
    for path in (clip, cleaned[0]):
        with av.open(str(path)) as container:
            sound.append([(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size])
    assert sound[0] == sound[1]


def test_the_report_says_what_was_done(cleaned: tuple[Path, stream.Report]) -> None:
    told = json.loads(cleaned[1].to_json())
    assert told["frames"] == FRAMES
    assert told["preset"] == "tourist"
    assert {"wall", "decode", "perceive", "fill", "encode"} <= set(told["seconds"])
    assert 0.05 < told["hole"]["mean_share"] < 0.2
    assert told["hole"]["seen_share"] > 0.8
    assert told["peak_memory_bytes"] > 0


def test_provenance_names_the_pixels_that_were_replaced(cleaned: tuple[Path, stream.Report]) -> None:
    kinds = decoded(cleaned[0].with_suffix(".mkv"))
    assert len(kinds) == FRAMES
    rows, columns = block(12)
    inside = kinds[12].planes[0][rows, columns]
    assert set(np.unique(inside)) <= {1, 3}
    assert kinds[12].planes[0][:20].max() == 0


@pytest.mark.parametrize(
    ("input", "error", "exit_code"),
    [("missing.mp4", InputError, 3), ("words.mp4", InputError, 3), ("empty", InputError, 3)],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, input: str, error: type, exit_code: int) -> None:
    (tmp_path / "words.mp4").write_text("these are words\n" * 50)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error) as caught:
        stream.clean(tmp_path / input, tmp_path / "out.mp4")
    assert caught.value.exit_code == exit_code
    assert not (tmp_path / "out.mp4").exists()


def test_an_output_that_exists_is_left_alone(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError):
        stream.clean(clip, output)
    assert output.read_bytes() == b"precious"


@pytest.mark.parametrize("change", ["count", "size"])
def test_masks_that_do_not_fit_are_refused_with_both_numbers(
    clip: Path, masks: Path, tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for path in sorted(masks.iterdir())[: 20 if change == "count" else FRAMES]:
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / path.name), mask if change == "count" else mask[:-4])
    with pytest.raises(UsageError, match="20" if change == "count" else str(HEIGHT - 4)):
        stream.clean(clip, tmp_path / "out.mp4", job=stream.Job(masks=folder))
    assert not (tmp_path / "out.mp4").exists()


def test_frames_pushed_one_by_one_come_back_in_order() -> None:
    config = stream.load_config("tourist", overrides={"look_ahead": 0.2})
    cleaner = stream.Cleaner(config)
    done = [cleaner.push(background(), index / 25) for index in range(10)]
    frames = [filled.frame.index for filled in [*done, *cleaner.finish()] if filled is not None]
    assert done[0] is None
    assert frames == list(range(10))


def test_more_frames_than_the_memory_holds_are_filled_with_what_was_seen(tmp_path: Path) -> None:
    size, frames = (640, 384), 90
    clip, masks = tmp_path / "large.mp4", tmp_path / "masks.mkv"
    with av.open(str(clip), "w") as pictures, av.open(str(masks), "w") as holes:
        video = pictures.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
        hole = holes.add_stream("ffv1", rate=25)
        assert isinstance(video, av.VideoStream) and isinstance(hole, av.VideoStream)
        (video.width, video.height), video.pix_fmt = size, "yuv420p"
        (hole.width, hole.height), hole.pix_fmt = size, "gray"
        for index in range(frames):
            picture, mask = walks.background(index), walks.mask_of(index)
            picture[walks.block(index)] = 128
            large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
            pictures.mux(video.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
            drawn = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            holes.mux(hole.encode(av.VideoFrame.from_ndarray(drawn, format="gray")))
        pictures.mux(video.encode())
        holes.mux(hole.encode())
    config = walks.cheap(look_ahead=3.0, memory_mb=50)
    report = stream.clean(clip, tmp_path / "out.mp4", config, job=stream.Job(masks=masks))
    assert report.frames == frames
    assert report.hole.inpainted_share < 0.01
