"""Stretches in which nothing goes come out as they went in, packet for packet."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, Clip, make, stamps
from walks import cheap

import stream
from stream.errors import InterruptedRunError
from stream.segments import Segment, clean_segment, join
from stream.source import open_source

FRAMES, GROUP = 48, 8
HIDDEN = range(19, 28)
ENCODED = range(16, 32)
"""The frames with a hole, and the groups of pictures that hold them."""

KINDS = {
    "with B pictures": {"bf": "3", "x264-params": "b-pyramid=normal"},
    "without": {"bf": "0", "profile": "baseline"},
    "another parameter set's number": {"x264-params": "sps-id=1"},
    "with headers before each group": {"x264-params": "repeat-headers=1"},
}


def clip(path: Path, options: dict[str, str] | None = None) -> Path:
    ticks = tuple(512 * i for i in range(FRAMES))
    settings = {"crf": "30", "sc_threshold": "0", "keyint_min": str(GROUP), **(options or {})}
    return make(path, Clip(ticks=ticks, options=settings, audio=[("aac", "eng")]))


def masks(folder: Path, hidden: range = HIDDEN) -> Path:
    folder.mkdir()
    for index in range(FRAMES):
        hole = np.zeros((HEIGHT, WIDTH), np.uint8)
        if index in hidden:
            hole[20:40, 30:60] = 255
        cv2.imwrite(str(folder / f"{index:04}.png"), hole)
    return folder


def blank(path: Path) -> Path:
    """A video of masks in which nothing is hidden."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "gray"
        for _ in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.zeros((HEIGHT, WIDTH), np.uint8), format="gray")
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [each.to_ndarray() for each in container.decode(container.streams.video[0])]


def equal(one: Path, two: Path) -> list[int]:
    pairs = zip(pictures(one), pictures(two), strict=True)
    return [number for number, (a, b) in enumerate(pairs) if np.array_equal(a, b)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [".mp4 .mp4", ".mov .mkv", ".mkv .mp4", ".ts .mp4"])
def test_groups_without_a_hole_are_the_input_s_own(tmp_path: Path, kind: str, way: str) -> None:
    read, written = way.split()
    source, output = clip(tmp_path / f"in{read}", KINDS[kind]), tmp_path / f"out{written}"
    report = stream.clean(source, output, cheap(), job=stream.Job(masks=masks(tmp_path / "masks")))
    untouched = [number for number in range(FRAMES) if number not in ENCODED]
    assert equal(source, output) == untouched
    assert report.frames_copied == len(untouched)
    first = stamps(source)[0]
    shown = [each - first for each in stamps(source)]
    found = [each - stamps(output)[0] for each in stamps(output)]
    assert max(abs(a - b) for a, b in zip(shown, found, strict=True)) <= Fraction(1, 1000)


def test_decoding_from_any_key_picture_gives_the_same(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    stream.clean(source, output, cheap(), job=stream.Job(masks=masks(tmp_path / "masks")))
    whole = pictures(output)
    for number in (8, 20, 33, 41):
        with av.open(str(output)) as container:
            video = container.streams.video[0]
            assert video.time_base is not None
            container.seek(int(Fraction(number, 25) / video.time_base), stream=video)
            found = next(
                each
                for each in container.decode(video)
                if each.pts is not None and each.pts * video.time_base >= Fraction(number, 25)
            )
        assert np.array_equal(found.to_ndarray(), whole[number])


def test_a_clip_in_which_nothing_goes_is_not_encoded(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    report = stream.clean(source, output, cheap(), job=stream.Job(masks=masks(tmp_path / "masks", range(0))))
    assert report.frames_copied == FRAMES
    assert equal(source, output) == list(range(FRAMES))
    assert abs(output.stat().st_size - source.stat().st_size) < 2000


@pytest.mark.parametrize("case", ["asked", "another codec", "an open group"])
def test_everything_is_encoded_where_it_must_be(tmp_path: Path, case: str) -> None:
    options = {"x264-params": "open-gop=1", "bf": "3"} if case == "an open group" else {}
    source = clip(tmp_path / "in.mp4", options)
    output = tmp_path / ("out.webm" if case == "another codec" else "out.mp4")
    job = stream.Job(masks=masks(tmp_path / "masks"), smart_copy=case != "asked")
    report = stream.clean(source, output, cheap(), job=job)
    assert report.frames_copied == 0
    assert len(pictures(output)) == FRAMES


def test_a_cut_copies_the_groups_that_lie_in_it(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    first, last = 11, 45
    job = stream.Job(start=Fraction(first, 25), end=Fraction(last, 25), masks=masks(tmp_path / "masks"))
    report = stream.clean(source, output, cheap(), job=job)
    assert len(pictures(output)) == last - first
    # masks are counted from the cut: frames 30 to 38 have a hole
    assert report.frames_copied == GROUP
    before = pictures(source)[first:last]
    same = [n for n, (a, b) in enumerate(zip(before, pictures(output), strict=True)) if np.array_equal(a, b)]
    assert same == list(range(16 - first, 24 - first))


@pytest.mark.parametrize("until", [12, 21, 37])
def test_an_interrupted_run_goes_on_in_the_middle_of_a_group(tmp_path: Path, until: int) -> None:
    source, drawn = clip(tmp_path / "in.mp4"), masks(tmp_path / "masks")
    config = cheap(**{"resume.frames": 5})
    job = stream.Job(masks=drawn, lossless=True)
    whole = stream.clean(source, tmp_path / "whole.mp4", config, job=job)
    done = 0

    def count(progress: stream.Progress) -> None:
        nonlocal done
        done = progress.frames

    output = tmp_path / "out.mp4"
    with pytest.raises(InterruptedRunError):
        stream.clean(source, output, config, job=job, on_progress=count, stop=lambda: done >= until)
    report = stream.clean(source, output, config, job=replace(job, resume=True))
    assert report.frames_copied == whole.frames_copied
    assert equal(tmp_path / "whole.mp4", output) == list(range(FRAMES))
    assert stamps(output) == stamps(tmp_path / "whole.mp4")


def test_segments_copy_too(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    job = stream.Job(masks=blank(tmp_path / "blank.mkv"))
    parts = (
        Segment(0, Fraction(0), Fraction(20, 25), Fraction(0)),
        Segment(1, Fraction(20, 25), None, Fraction(10, 25)),
    )
    done = [
        clean_segment(source, output, job, cheap(), each, tmp_path / f"{each.number}.packets")
        for each in parts
    ]
    report = join(source, output, job, cheap(), done, 1.0)
    assert equal(source, output) == [*range(16), *range(24, FRAMES)]
    assert report.frames_copied == FRAMES - GROUP


def test_the_output_can_be_cleaned_again(tmp_path: Path) -> None:
    source, once, twice = clip(tmp_path / "in.mp4"), tmp_path / "once.mp4", tmp_path / "twice.mp4"
    drawn = masks(tmp_path / "masks")
    stream.clean(source, once, cheap(), job=stream.Job(masks=drawn))
    report = stream.clean(once, twice, cheap(), job=stream.Job(masks=masks(tmp_path / "none", range(0))))
    assert report.frames_copied == FRAMES
    assert equal(once, twice) == list(range(FRAMES))
    with open_source(twice) as frames:
        assert sum(1 for _ in frames) == FRAMES
