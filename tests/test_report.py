from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import Clip, make, stamps

from configs.schema import Config
from stream.errors import OutputError, UsageError
from stream.progress import summary
from stream.report import Report, Tally, TrackReport, open_log, open_provenance
from stream.source import open_source
from stream.types import INVENTED, SEEN, Action, Filled, Frame, Instance, Track, Verdict

KEYS = [
    *("version", "input", "output", "preset", "engines", "frames", "duration_seconds", "frames_per_second"),
    *("seconds", "peak_memory_bytes", "look_ahead_seconds", "shots", "hole", "tracks", "streams_copied"),
    *("warnings", "partial", "references", "frames_copied"),
]


def track(number: int, label: str = "person") -> Track:
    thing = Instance(label, 0.9, (10.0, 12.25, 30.0, 40.0), np.zeros((4, 4), bool))
    return Track(number, label, thing, 0, 5, 3, False, 0.02, 0.1, 0.3)


def filled(frame: Frame, box: tuple[int, int, int, int] | None, relation: float = math.nan) -> Filled:
    origin = np.zeros((0, 0), np.uint8)
    if box is not None:
        origin = np.full((box[3] - box[1], box[2] - box[0]), SEEN, np.uint8)
        origin[:, : origin.shape[1] // 4] = INVENTED
    verdict = Verdict(1, "person", "remove", relation, "a person passes")
    return Filled(frame, origin, box, (verdict,), (track(1), track(2)), frame)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make(tmp_path / "in.mp4", Clip(ticks=(0, 512, 1024, 2048)))


def report(clip: Path) -> Report:
    with open_source(clip) as source:
        tally = Tally(input="in.mp4", output="out.mp4", config=Config(look_ahead="shot"), info=source.info)
        for frame in source:
            box = (0, 0, 48, 64) if frame.index % 2 else None
            tally.add(filled(frame, box, 0.25 if frame.index else math.nan))
    return tally.report(
        seconds={"wall": 2.0, "decode": 0.5, "motion": 0.25, "track": 0.25, "mystery": 9.0},
        engines={"segmentator": {"engine": "openvino", "precision": "bf16", "device": "CPU"}},
        shots=[Fraction(0), Fraction(2, 25)],
        streams_copied=("audio #1 aac",),
        warnings=("one", "two", "one"),
    )


def test_the_keys_are_a_contract(clip: Path) -> None:
    told = json.loads(report(clip).to_json())
    assert list(told) == KEYS
    assert list(told["seconds"]) == ["wall", "decode", "perceive", "track", "judge", "fill", "encode"]
    assert list(told["hole"]) == ["mean_share", "seen_share", "reference_share", "inpainted_share"]
    assert list(told["tracks"][0]) == [
        "id", "label", "action", "relation", "reason", "first_seconds", "last_seconds", "frames",
        "frames_removed",
    ]  # fmt: skip


def test_the_numbers_add_up(clip: Path) -> None:
    told = report(clip)
    assert (told.frames, told.frames_per_second, told.look_ahead_seconds) == (4, 2.0, 10.0)
    assert told.duration_seconds == pytest.approx(0.2, abs=0.041)
    assert told.hole.mean_share == pytest.approx(0.25)
    assert (told.hole.seen_share, told.hole.inpainted_share) == (0.75, 0.25)
    assert told.seconds["track"] == 0.5, "motion counts to the tracking it serves"
    assert told.shots == (0.0, 0.08)
    assert told.warnings == ("one", "two")
    assert told.peak_memory_bytes > 10_000_000
    [only] = told.tracks
    assert (only.id, only.action, only.relation, only.frames) == (1, "remove", 0.25, 4)
    assert only.frames_removed == 4
    assert (only.first_seconds, only.last_seconds) == (0.0, 0.16)


def test_what_was_seen_for_a_moment_only_is_not_told(clip: Path) -> None:
    def told(tentative: list[bool]) -> tuple[TrackReport, ...]:
        with open_source(clip) as source:
            tally = Tally(input="a", output="b", config=Config(), info=source.info)
            for frame, unsure in zip(source, tentative, strict=True):
                shown = filled(frame, None)
                verdicts = (replace(shown.verdicts[0], tentative=unsure),)
                tally.add(replace(shown, verdicts=verdicts))
            later = Tally(input="a", output="b", config=Config(), info=source.info)
        later.extend(tally, {})
        reports = [
            each.report(seconds={}, engines={}, shots=(), streams_copied=(), warnings=())
            for each in (tally, later)
        ]
        assert reports[0].tracks == reports[1].tracks
        return reports[0].tracks

    assert told([True] * 4) == ()
    [known] = told([True, True, False, False])
    assert (known.frames, known.first_seconds) == (4, 0.0)


def test_who_was_seen_and_removed_by_turns_is_told(clip: Path) -> None:
    def tally_of(actions: Sequence[Action]) -> Tally:
        with open_source(clip) as source:
            tally = Tally(input="a", output="b", config=Config(), info=source.info)
            for frame, action in zip(source, actions, strict=True):
                shown = filled(frame, None)
                tally.add(replace(shown, verdicts=(replace(shown.verdicts[0], action=action),)))
        return tally

    def told(tally: Tally) -> Report:
        return tally.report(seconds={}, engines={}, shots=(), streams_copied=(), warnings=())

    tally = tally_of(["remove", "keep", "keep", "keep"])
    [only] = told(tally).tracks
    assert (only.action, only.frames, only.frames_removed) == ("keep", 4, 1)
    assert not any("by turns" in line for line in summary(told(tally)))
    tally.extend(tally_of(["remove"] * 4), {1: 1})
    [only] = told(tally).tracks
    assert (only.frames, only.frames_removed) == (8, 5)
    assert "seen and removed by turns: person 1 (gone in 5 of 8 frames)" in summary(told(tally))


def test_no_frames_are_a_report_too(clip: Path) -> None:
    with open_source(clip) as source:
        tally = Tally(input="a", output="b", config=Config(), info=source.info)
    told = tally.report(seconds={}, engines={}, shots=(), streams_copied=(), warnings=())
    assert (told.frames, told.duration_seconds, told.hole.mean_share) == (0, 0.0, 0.0)
    json.loads(told.to_json())


def test_the_report_is_written_or_told(clip: Path, tmp_path: Path) -> None:
    report(clip).write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["input"] == "in.mp4"
    with pytest.raises(OutputError):
        report(clip).write(tmp_path / "nowhere" / "report.json")


def test_the_log_has_a_line_for_each_frame_and_track(clip: Path, tmp_path: Path) -> None:
    with open_source(clip) as source, open_log(tmp_path / "log.jsonl") as log:
        for frame in source:
            log.write(filled(frame, None))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    first, second = lines[:2]
    assert (first["frame"], first["track"], first["verdict"], first["relation"]) == (0, 1, "remove", None)
    assert first["box"] == [10.0, 12.2, 30.0, 40.0]
    assert first["evidence"]["hits"] == 3
    assert (second["track"], second["verdict"]) == (2, None)
    with pytest.raises(OutputError), open_log(tmp_path / "no" / "log.jsonl"):
        pass


def test_provenance_says_of_each_pixel_how_it_was_got(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "origin.mkv"
    with open_source(clip) as source, open_provenance(path, source.info) as provenance:
        for frame in source:
            provenance.write(filled(frame, (8, 4, 16, 10) if frame.index else None))
    with open_source(path) as source:
        frames = list(source)
        assert (source.info.codec, source.info.format, source.info.streams) == ("ffv1", "gray", ())
    assert stamps(path) == stamps(clip)
    assert not np.asarray(frames[0].planes[0]).any()
    expected = np.zeros((64, 96), np.uint8)
    expected[4:10, 8:16] = SEEN
    expected[4:10, 8:10] = INVENTED
    assert np.array_equal(frames[2].planes[0], expected)


def test_provenance_needs_matroska(clip: Path, tmp_path: Path) -> None:
    with (
        open_source(clip) as source,
        pytest.raises(UsageError),
        open_provenance(tmp_path / "o.mp4", source.info),
    ):
        pass
