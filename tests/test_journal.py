"""Packets come back from the journal as they went in, and their decoding times rise over every border."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Clip, make, stamps

from stream.errors import OutputError
from stream.journal import Journal, Timing, decoding_times
from stream.sink import open_sink
from stream.source import open_source


def packet(data: bytes, pts: int, dts: int, *, key: bool = False) -> av.Packet:
    made = av.Packet(data)
    made.pts, made.dts, made.is_keyframe = pts, dts, key
    return made


def filled(path: Path) -> tuple[Journal, int]:
    """Two parts; the length of the first."""
    journal = Journal(path)
    journal.add([packet(b"one", 0, -2, key=True), packet(b"two", 3, -1)])
    length = journal.sync()
    journal.begin()
    journal.add([packet(b"", 4, 2, key=True), packet(b"x" * 5000, 5, 3)])
    return journal, length


def test_packets_come_back(tmp_path: Path) -> None:
    journal, _ = filled(tmp_path / "packets")
    found = [(bytes(each), each.pts, each.dts, each.is_keyframe) for each in journal.packets()]
    assert found[:2] == [(b"one", 0, -2, True), (b"two", 3, -1, False)]
    assert found[3] == (b"x" * 5000, 5, 3, False)
    timing = journal.timing()
    assert (timing.pts.tolist(), timing.dts.tolist(), timing.starts) == ([0, 3, 4, 5], [-2, -1, 2, 3], (0, 2))


def test_it_is_cut_back_to_a_known_place(tmp_path: Path) -> None:
    journal, length = filled(tmp_path / "packets")
    journal.close()
    again = Journal(tmp_path / "packets", keep=length)
    again.add([packet(b"three", 9, 9, key=True)])
    assert [bytes(each) for each in again.packets()] == [b"one", b"two", b"three"]
    assert again.timing().starts == (0, 2)


@pytest.mark.parametrize("keep", [10**6])
def test_what_is_missing_is_an_error(tmp_path: Path, keep: int) -> None:
    filled(tmp_path / "packets")[0].close()
    with pytest.raises(OutputError, match="missing"):
        Journal(tmp_path / "packets", keep=keep)


def test_a_changed_byte_is_an_error(tmp_path: Path) -> None:
    journal, _ = filled(tmp_path / "packets")
    journal.close()
    data = bytearray((tmp_path / "packets").read_bytes())
    data[-1] ^= 1
    (tmp_path / "packets").write_bytes(data)
    journal = Journal(tmp_path / "packets", keep=len(data))
    with pytest.raises(OutputError, match="damaged"):
        list(journal.packets())


WILD = 6429962245656496395
CASES = {
    "one part, as the encoder said": ([0, 3, 1, 2], [-2, -1, 0, 1], (0,), [-2, -1, 0, 1]),
    "two parts of b-frames": ([0, 3, 1, 4, 7, 5], [-2, -1, 0, 2, 3, 4], (0, 3), [-2, -1, 0, 1, 3, 4]),
    "no b-frames": ([0, 5, 6, 9], [0, 5, 6, 9], (0, 2), [0, 5, 6, 9]),
    "wild times of a short clip": ([0, 80], [WILD, WILD + 80], (0,), [0, 80]),
    "wild times of a short last part": ([0, 2, 1, 3], [-1, 0, 1, -WILD], (0, 3), [-1, 0, 1, 2]),
    "wild, with b-frames": ([0, 4, 2], [WILD] * 3, (0,), [-2, 0, 2]),
    "wild and early": ([0], [-WILD], (0,), [0]),
    "nothing": ([], [], (), []),
}


@pytest.mark.parametrize("name", CASES)
def test_decoding_times_rise_and_are_never_later_than_a_picture(name: str) -> None:
    pts, dts, starts, expected = CASES[name]
    found = decoding_times(Timing(np.array(pts, np.int64), np.array(dts, np.int64), starts)).tolist()
    assert found == expected
    assert all(a < b for a, b in itertools.pairwise(found))
    assert all(a <= b for a, b in zip(found, pts, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_shortest_hevc_clips_are_written(tmp_path: Path, count: int, suffix: str) -> None:
    ticks = tuple(1024 * i for i in range(count))
    quiet = {"x265-params": "log-level=none"}
    source = make(tmp_path / "in.mp4", Clip(ticks=ticks))
    with open_source(source) as frames:
        hevc = make(
            tmp_path / f"hevc{suffix}", Clip(codec="libx265", ticks=(0, 1024, 2048, 3072), options=quiet)
        )
        with open_source(hevc) as like, open_sink(tmp_path / f"out{suffix}", like.info) as sink:
            for frame in frames:
                sink.write(frame)
    assert len(stamps(tmp_path / f"out{suffix}")) == count
