from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from walks import background, cheap, make_mask_video, make_walk

from stream.job import Job, clean
from stream.segments import LEAD_SECONDS, Segment, clean_segment, join, may_split, plan
from stream.source import open_source

FRAMES = 90


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk")
    make_walk(folder / "walk.mp4", FRAMES)
    make_mask_video(folder / "masks.mkv", FRAMES)
    return folder


def job(place: Path) -> Job:
    return Job(masks=place / "masks.mkv", lossless=True)


def sound(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(each.pts, bytes(each)) for each in container.demux(audio=0) if each.size]


def test_joined_segments_are_what_one_run_makes(place: Path, tmp_path: Path) -> None:
    clip, config = place / "walk.mp4", cheap()
    whole = clean(clip, tmp_path / "whole.mp4", config, job=job(place))
    parts = (
        Segment(0, Fraction(0), Fraction(1), Fraction(0)),
        Segment(1, Fraction(1), Fraction(5, 2), Fraction(4, 5)),
        Segment(2, Fraction(5, 2), None, Fraction(4, 5)),
    )
    output = tmp_path / "joined.mp4"
    done = [
        clean_segment(clip, output, job(place), config, each, tmp_path / f"{each.number}.packets")
        for each in parts
    ]
    assert not output.exists()
    report = join(clip, output, job(place), config, done, 1.0)
    assert report.frames == whole.frames == FRAMES and not report.warnings
    assert report.hole.mean_share == pytest.approx(whole.hole.mean_share, rel=0.02)
    assert sound(output) == sound(tmp_path / "whole.mp4")
    with open_source(output) as ours, open_source(tmp_path / "whole.mp4") as theirs:
        assert ours.info.duration == theirs.info.duration
        for one, other in zip(ours, theirs, strict=True):
            assert one.time == other.time and one.duration == other.duration
            assert np.abs(one.rgb.astype(int) - background(one.index)).mean() < 3
            assert np.abs(one.rgb.astype(int) - other.rgb).mean() < 0.5


def test_a_clip_is_divided_evenly_and_read_from_before_each_segment(place: Path) -> None:
    segments = plan(place / "walk.mp4", Job(), Fraction(1))
    assert len(segments) == 4 and segments[0].start == 0 and segments[-1].end is None
    assert all(one.end == other.start for one, other in pairwise(segments))
    assert all(each.lead == min(LEAD_SECONDS, each.start) for each in segments)
    assert len(plan(place / "walk.mp4", Job(), Fraction(3))) == 1


def test_a_segment_begins_where_a_shot_does(tmp_path: Path) -> None:
    path = tmp_path / "shots.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "10"})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        for index in range(100):
            image = background(index) if index < 40 else 255 - np.roll(background(index), (40, 70), (0, 1))
            container.mux(
                video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"))
            )
        container.mux(video.encode())
    first, second = plan(path, Job(), Fraction(2))
    assert first.end == second.start == Fraction(40, 25) and second.lead == 0


def test_what_cannot_be_divided_is_said(place: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("masks").mkdir()
    assert may_split(Job(masks=tmp_path / "masks"), Path("out.mp4"))
    assert may_split(Job(), Path("folder"))
    assert may_split(Job(log=tmp_path / "log"), Path("out.mp4"))
    assert not may_split(job(place), Path("out.mp4"))
