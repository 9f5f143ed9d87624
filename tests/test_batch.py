from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from walks import CHEAP, make_mask_video, make_walk

from stream.batch import outcomes
from stream.batch.drive import Place, carry_out, cluster, held
from stream.batch.plan import Clip, find_clips
from stream.commands import main
from stream.errors import OutputError
from stream.options import Options
from stream.source import open_source

FRAMES = 40
FAST = tuple(f"{key}={value}" for key, value in CHEAP.items())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips with masks, one that is no video, and a manifest."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for name in ("a.mp4", "b.mkv", "deep/c.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        make_walk(folder / name, FRAMES)
        make_mask_video(folder / f"{name}.masks.mkv", FRAMES)
        rows.append({"input": name, "output": name, "masks": f"{name}.masks.mkv", "set": list(FAST)})
    (folder / "bad.mp4").write_bytes(b"nothing" * 99)
    rows.append({"input": "bad.mp4", "set": list(FAST), "masks": "a.mp4.masks.mkv"})
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def client() -> Any:
    with cluster(Place(workers=2)) as found:
        yield found


def clips_of(place: Path, folder: Path, **wished: Any) -> tuple[Clip, ...]:
    return find_clips([str(place / "list.jsonl")], str(folder), Options(**wished))


def frames_of(path: Path) -> int:
    with open_source(path) as source:
        return sum(1 for _ in source)


def test_each_clip_ends_by_itself(place: Path, tmp_path: Path, client: Any) -> None:
    found = carry_out(clips_of(place, tmp_path), str(tmp_path), client)
    assert [each.state for each in found] == ["done", "done", "done", "failed"]
    assert "not a video" in found[3].error and found[3].hint
    for each in found[:3]:
        assert frames_of(Path(each.output)) == FRAMES and each.before and each.report is not None
    again = clips_of(place, tmp_path)
    good = [outcomes.is_good(clip, outcomes.load(str(tmp_path), clip)) for clip in again]
    assert good == [True, True, True, False]


def test_an_output_of_other_origin_is_not_replaced(place: Path, tmp_path: Path, client: Any) -> None:
    (tmp_path / "a.mp4").write_bytes(b"mine")
    (first, *_) = carry_out(clips_of(place, tmp_path)[:1], str(tmp_path), client)
    assert first.state == "failed" and "there already" in first.error
    assert (tmp_path / "a.mp4").read_bytes() == b"mine"
    (first, *_) = carry_out(clips_of(place, tmp_path)[:1], str(tmp_path), client, overwrite=True)
    assert first.state == "done"


def test_a_long_clip_is_cleaned_in_segments(place: Path, tmp_path: Path, client: Any) -> None:
    from fractions import Fraction

    (found,) = carry_out(clips_of(place, tmp_path)[:1], str(tmp_path), client, every=Fraction(1, 2))
    assert found.state == "done" and found.segments == 3, found.error
    assert frames_of(Path(found.output)) == FRAMES
    assert not list((tmp_path / ".cleanplate" / "segments").iterdir())


def test_a_lost_worker_costs_time_only(place: Path, tmp_path: Path) -> None:
    clips = clips_of(place, tmp_path)[:3]
    with cluster(Place(workers=2)) as client:
        killed: list[int] = []

        def kill() -> None:
            attempts = tmp_path / ".cleanplate" / "attempts"
            while not killed:
                for each in attempts.glob("*.txt") if attempts.exists() else ():
                    words = each.read_text().split()
                    if words:
                        killed.append(int(words[-1]))
                        os.kill(killed[0], signal.SIGKILL)
                        return
                time.sleep(0.01)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        found = carry_out(clips, str(tmp_path), client)
        killer.join(10)
    assert killed
    assert [each.state for each in found] == ["done"] * 3, [each.error for each in found]
    assert max(len(attempts) for each in found for attempts in each.attempts) == 2
    assert all(frames_of(Path(each.output)) == FRAMES for each in found)


def test_two_batches_do_not_share_a_folder(tmp_path: Path) -> None:
    with held(str(tmp_path)), pytest.raises(OutputError, match="another batch"), held(str(tmp_path)):
        pass
    with held(str(tmp_path)):
        pass


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_the_command_goes_on_with_what_is_left(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("batch", place / "list.jsonl", "-o", tmp_path / "out")
    assert run(*common, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "4 clips to clean, 0 are done" in told and "bad.mp4: will fail" in told
    assert not (tmp_path / "out").exists()
    assert run(*common, "--on", "local:1") == 6
    told = capsys.readouterr().err
    assert "3 done, 1 failed" in told and "failed: bad.mp4" in told
    times = [(tmp_path / "out" / name).stat().st_mtime_ns for name in ("a.mp4", "b.mkv", "deep/c.mp4")]
    assert "bad.mp4" in (tmp_path / "out" / "batch.html").read_text()
    assert run(*common, "--only-failed", "--on", "local:1") == 6
    assert "(3 of them before)" in capsys.readouterr().err
    assert times == [
        (tmp_path / "out" / name).stat().st_mtime_ns for name in ("a.mp4", "b.mkv", "deep/c.mp4")
    ]


def test_an_output_whose_record_was_lost_is_not_made_again(place: Path, tmp_path: Path, client: Any) -> None:
    (clip, *_) = clips_of(place, tmp_path)
    (done,) = carry_out([clip], str(tmp_path), client)
    kept = outcomes.Outcome(
        done.name, done.input, done.output, "begun", identity=done.identity
    )  # what a killed program leaves: begun when nothing bore the name
    outcomes.save(str(tmp_path), clip, kept)
    found = outcomes.last(str(tmp_path), clip)
    assert found is not None and found.state == "done" and "whole" in found.note
    assert outcomes.is_good(clip, found)
    stamp = Path(clip.output).stat().st_mtime_ns
    (again,) = carry_out([clip], str(tmp_path), client)
    assert again.state == "done" and Path(clip.output).stat().st_mtime_ns == stamp


def test_an_old_output_is_made_again_when_its_making_was_only_begun(
    place: Path, tmp_path: Path, client: Any
) -> None:
    (clip, *_) = clips_of(place, tmp_path)
    (done,) = carry_out([clip], str(tmp_path), client)
    outcomes.save(str(tmp_path), clip, outcomes.begun(clip, done.identity))
    found = outcomes.last(str(tmp_path), clip)
    assert found is not None and found.state == "begun" and not outcomes.is_good(clip, found)
    stamp = Path(clip.output).stat().st_mtime_ns
    (again,) = carry_out([clip], str(tmp_path), client)
    assert again.state == "done" and Path(clip.output).stat().st_mtime_ns != stamp
