"""A run that was interrupted is gone on with, and nobody can tell from the result."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import Clip, make, packets, stamps
from walks import cheap, make_masks, make_walk

import stream
from stream.errors import InterruptedRunError, OutputError, UsageError
from stream.resume import unfinished
from stream.sink import open_sink
from stream.source import open_source

FRAMES = 40


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("walk")
    return make_walk(folder / "walk.mp4", FRAMES), make_masks(folder / "masks", FRAMES)


def run(
    walk: tuple[Path, Path], output: Path, *, until: int | None = None, **job: object
) -> stream.Report | None:
    """Clean the walk; `until` stops it after so many frames."""
    done = 0

    def count(progress: stream.Progress) -> None:
        nonlocal done
        done = progress.frames

    config = job.pop("config", None) or cheap()
    job = {"masks": walk[1], "lossless": True, **job}
    stop = None if until is None else lambda: done >= until
    try:
        return stream.clean(walk[0], output, config, job=stream.Job(**job), on_progress=count, stop=stop)
    except InterruptedRunError:
        assert until is not None
        return None


def pictures(path: Path) -> list[np.ndarray]:
    with open_source(path) as source:
        return [plane for frame in source for plane in frame.planes]


def same_pictures(one: Path, two: Path) -> bool:
    pairs = zip(pictures(one), pictures(two), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out"])
@pytest.mark.parametrize("until", [10, 30])
def test_going_on_gives_what_an_uninterrupted_run_gives(
    walk: tuple[Path, Path], tmp_path: Path, name: str, until: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    job = {"log": Path("log.jsonl"), "provenance": Path("kinds.mkv")}
    first = run(walk, whole / name, **{key: whole / path for key, path in job.items()})
    mine = {key: parts / path for key, path in job.items()}
    assert run(walk, parts / name, until=until, **mine) is None
    assert not (parts / name).exists()
    done = unfinished(parts / name)
    assert done is not None and 0 < done <= until / 25
    second = run(walk, parts / name, resume=True, **mine)
    assert first is not None and second is not None
    assert same_pictures(whole / name, parts / name)
    assert same_pictures(whole / "kinds.mkv", parts / "kinds.mkv")
    assert (whole / "log.jsonl").read_bytes() == (parts / "log.jsonl").read_bytes()
    for key in ("frames", "duration_seconds", "hole", "shots", "tracks", "warnings", "streams_copied"):
        assert getattr(first, key) == getattr(second, key), key
    if name != "out":
        assert stamps(whole / name) == stamps(parts / name)
        assert packets(whole / name, "audio") == packets(parts / name, "audio")
    assert sorted(each.name for each in parts.iterdir()) == sorted(each.name for each in whole.iterdir())


def test_a_lossy_result_is_the_same_byte_for_byte(walk: tuple[Path, Path], tmp_path: Path) -> None:
    run(walk, tmp_path / "whole.mp4", lossless=False)
    run(walk, tmp_path / "parts.mp4", lossless=False, until=20)
    run(walk, tmp_path / "parts.mp4", lossless=False, resume=True)
    assert packets(tmp_path / "whole.mp4", "video") == packets(tmp_path / "parts.mp4", "video")


def test_a_run_may_be_interrupted_again_and_again(walk: tuple[Path, Path], tmp_path: Path) -> None:
    run(walk, tmp_path / "whole.mkv")
    for until in (10, 20, 30):
        run(walk, tmp_path / "parts.mkv", until=until, resume=True)
    assert run(walk, tmp_path / "parts.mkv", resume=True) is not None
    assert same_pictures(tmp_path / "whole.mkv", tmp_path / "parts.mkv")


def test_with_frames_decoded_twice_too(tmp_path: Path) -> None:
    # too large for the memory allowed: the fill reads the file a second time
    ticks = tuple(512 * i for i in range(30))
    source = make(tmp_path / "in.mp4", Clip(width=640, height=480, ticks=ticks))
    mask = np.zeros((480, 640), np.uint8)
    mask[160:176] = 255
    (tmp_path / "masks").mkdir()
    for index in range(30):
        cv2.imwrite(str(tmp_path / "masks" / f"{index:02}.png"), mask)
    small = cheap(memory_mb=50, look_ahead=0.8, **{"resume.frames": 3})
    walk = source, tmp_path / "masks"
    run(walk, tmp_path / "whole.mkv", config=small)
    run(walk, tmp_path / "parts.mkv", until=5, config=small)
    assert unfinished(tmp_path / "parts.mkv") is not None
    run(walk, tmp_path / "parts.mkv", resume=True, config=small)
    assert same_pictures(tmp_path / "whole.mkv", tmp_path / "parts.mkv")


def test_without_a_rest_it_simply_begins(walk: tuple[Path, Path], tmp_path: Path) -> None:
    report = run(walk, tmp_path / "out.mp4", resume=True)
    assert report is not None and report.frames == FRAMES


def test_an_interrupted_run_says_how_to_go_on(walk: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError) as caught:
        stream.clean(walk[0], tmp_path / "out.mp4", cheap(), job=stream.Job(masks=walk[1]), stop=lambda: True)
    assert caught.value.exit_code == 130
    assert list(tmp_path.iterdir()) == []
    done = 0

    def stop() -> bool:
        nonlocal done
        done += 1
        return done > 60

    with pytest.raises(InterruptedRunError) as caught:
        stream.clean(walk[0], tmp_path / "out.mp4", cheap(), job=stream.Job(masks=walk[1]), stop=stop)
    assert "--resume" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": cheap(look_ahead=0.4)}, "setting look_ahead"),
        ({"config": cheap(**{"plate.sources": 3})}, "setting plate.sources"),
        ({"lossless": False}, "option lossless"),
    ],
)
def test_another_job_is_refused_and_what_differs_is_named(
    walk: tuple[Path, Path], tmp_path: Path, change: dict[str, object], named: str
) -> None:
    run(walk, tmp_path / "out.mp4", until=20)
    with pytest.raises(UsageError, match=named) as caught:
        run(walk, tmp_path / "out.mp4", resume=True, **change)
    assert "--resume" in caught.value.hint
    assert unfinished(tmp_path / "out.mp4") is not None, "nothing is lost by asking"


def test_another_input_is_refused(walk: tuple[Path, Path], tmp_path: Path) -> None:
    mine = shutil.copy2(walk[0], tmp_path / "walk.mp4"), walk[1]
    run(mine, tmp_path / "out.mp4", until=20)
    about = mine[0].stat()
    data = bytearray(mine[0].read_bytes())
    data[-1] ^= 1
    mine[0].write_bytes(data)
    os.utime(mine[0], ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(UsageError, match="input's digest"):
        run(mine, tmp_path / "out.mp4", resume=True)


@pytest.mark.parametrize("file", ["manifest.json", "state", "whole.packets"])
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_rest_is_one_clear_error(
    walk: tuple[Path, Path], tmp_path: Path, file: str, how: str
) -> None:
    output = tmp_path / "out.mp4"
    run(walk, output, until=20)
    (path,) = [each for each in (tmp_path / ".out.mp4.part").iterdir() if each.name.startswith(file)]
    data = bytearray(path.read_bytes())
    data = data[:90] if how == "cut" else data[:60] + bytes([data[60] ^ 0xFF]) + data[61:]
    path.write_bytes(data)
    with pytest.raises(OutputError, match=r"unfinished"):
        run(walk, output, resume=True)
    assert not output.exists()
    assert run(walk, output) is not None
    assert [each.name for each in tmp_path.iterdir()] == ["out.mp4"]


def test_without_resume_a_rest_is_thrown_away(walk: tuple[Path, Path], tmp_path: Path) -> None:
    run(walk, tmp_path / "out.mp4", until=30)
    report = run(walk, tmp_path / "out.mp4")
    assert report is not None and report.frames == FRAMES
    assert [each.name for each in tmp_path.iterdir()] == ["out.mp4"]


def test_the_manifest_says_where_the_run_is(walk: tuple[Path, Path], tmp_path: Path) -> None:
    run(walk, tmp_path / "out.mp4", until=30)
    told = json.loads((tmp_path / ".out.mp4.part" / "manifest.json").read_text())
    assert told["format"] == 1
    assert 16 < told["frames"] <= 33
    assert told["identity"]["input's size"] == walk[0].stat().st_size


IRREGULAR = (0, 700, 1024, 2100, 2150, 4000, 4512, 5900, 8000, 9001, 9600, 11000, 11001, 14000)
QUIET = {"x265-params": "log-level=none"}
KINDS = {
    "b-frames": (Clip(options={"bf": "3", "b-pyramid": "normal"}), ".mp4"),
    "irregular": (Clip(ticks=IRREGULAR, options={"bf": "3"}), ".mp4"),
    "irregular mkv": (Clip(ticks=IRREGULAR), ".mkv"),
    "hevc": (Clip(codec="libx265", ticks=IRREGULAR, options=QUIET), ".mov"),
    "vp9": (Clip(codec="libvpx-vp9"), ".webm"),
    "av1": (Clip(codec="libsvtav1"), ".mkv"),
    "prores": (Clip(codec="prores_ks", format="yuv422p10le"), ".mov"),
    "gif": (Clip(codec="gif", format="rgb24"), ".gif"),
    "avi": (Clip(), ".avi"),
    "interlaced": (Clip(options={"x264-params": "tff=1"}), ".mp4"),
    "transparent": (Clip(codec="ffv1", format="yuva420p"), ".webm"),
}


@pytest.mark.parametrize("name", KINDS)
def test_parts_change_no_time_stamp_and_no_picture(tmp_path: Path, name: str) -> None:
    os.environ.setdefault("SVT_LOG", "1")
    clip, suffix = KINDS[name]
    source = tmp_path / f"in{suffix}"
    if name == "gif":
        source = make(tmp_path / "in.mp4", Clip())
    elif name == "transparent":
        source = make(tmp_path / "in.mkv", clip)
    else:
        make(source, clip)
    for output, every in (("whole", 1000), ("parts", 5)):
        with open_source(source) as frames, open_sink(tmp_path / f"{output}{suffix}", frames.info) as sink:
            for frame in frames:
                if frame.index and frame.index % every == 0:
                    sink.end_part()
                sink.write(frame)
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    assert stamps(parts) == stamps(whole)
    with open_source(whole) as one, open_source(parts) as two:
        assert one.info.duration == two.info.duration
        assert one.info.frames == two.info.frames
        for a, b in zip(one, two, strict=True):
            assert a.time == b.time
            assert np.abs(a.rgb.astype(float) - b.rgb).mean() < 3
        assert one.warnings == two.warnings == []
    assert decoding_order_is_right(parts)
    if name == "transparent":
        assert has_transparency(parts)


def decoding_order_is_right(path: Path) -> bool:
    """Decoding times rise, and nothing is shown before it is decoded."""
    with av.open(str(path)) as container:
        times = [
            (each.dts, each.pts) for each in container.demux(video=0) if None not in (each.pts, each.dts)
        ]
    return all(a[0] < b[0] for a, b in itertools.pairwise(times)) and all(dts <= pts for dts, pts in times)


def has_transparency(path: Path) -> bool:
    with av.open(str(path)) as container:
        packets = [each for each in container.demux(video=0) if each.size]
        return all(each.has_sidedata("matroska_block_additional") for each in packets)
