from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import Clip, make

from stream.batch import storage
from stream.batch.drive import Place, parse_place
from stream.batch.estimate import expected
from stream.batch.outcomes import Outcome, identity, is_good, load, save
from stream.batch.page import make_page
from stream.batch.plan import find_clips
from stream.errors import InputError, UsageError
from stream.options import Options


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_the_outputs_lie_as_the_inputs_do(tmp_path: Path) -> None:
    for name in ("a.mp4", "day 1/b.MOV", "day 1/notes.txt", "day 2/c.mts", ".hidden/d.mp4", "out/a.mp4"):
        touch(tmp_path / name)
    clips = find_clips([str(tmp_path)], str(tmp_path / "out"), Options())
    assert [each.name for each in clips] == ["a.mp4", "day 1/b.MOV", "day 2/c.mp4"]
    assert clips[1].output == str(tmp_path / "out" / "day 1" / "b.MOV")
    only = find_clips([str(tmp_path)], str(tmp_path / "out"), Options(), glob="*.mov")
    assert [each.name for each in only] == ["day 1/b.MOV"]


def test_a_manifest_says_what_differs(tmp_path: Path) -> None:
    touch(tmp_path / "clips" / "a.mp4")
    lines = [
        "input,output,preset,remove,start,lossless",
        "a.mp4,x/y.mkv,paper,car;truck,0:05,yes",
        "b.mp4,,,,,",
    ]
    (tmp_path / "clips" / "list.csv").write_text("\n".join(lines))
    one, two = find_clips(
        [str(tmp_path / "clips" / "list.csv")], str(tmp_path / "out"), Options(keep=("dog",), engine="eager")
    )
    assert one.input == str(tmp_path / "clips" / "a.mp4") and one.output == str(tmp_path / "out/x/y.mkv")
    wished = Options("paper", ("car", "truck"), ("dog",), engine="eager", start="0:05", lossless=True)
    assert one.options == wished
    assert two.name == "b.mp4" and two.options == Options(keep=("dog",), engine="eager")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"input": "a.mp4", "presett": "paper"}, "presett"),
        ({"output": "a.mp4"}, "no input"),
        ({"input": "a.mp4", "output": "../a.mp4"}, "outside"),
        ({"input": "a.mp4", "lossless": "perhaps"}, "lossless"),
    ],
)
def test_a_wrong_manifest_names_the_line(tmp_path: Path, row: dict[str, str], told: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps({"input": "good.mp4"}) + "\n\n" + json.dumps(row))
    with pytest.raises(UsageError, match=told) as caught:
        find_clips([str(path)], str(tmp_path / "out"), Options())
    assert "line 3" in str(caught.value)


def test_two_clips_do_not_get_one_output(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "a" / "x.mp4"), touch(tmp_path / "b" / "x.mp4")
    with pytest.raises(UsageError, match=r"a/x.mp4 and .*b/x.mp4"):
        find_clips([str(one), str(two)], str(tmp_path / "out"), Options())


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such"):
        find_clips([str(tmp_path / "none.mp4")], str(tmp_path / "out"), Options())
    with pytest.raises(InputError, match="no video"):
        find_clips([str(tmp_path / "empty")], str(tmp_path / "out"), Options())
    touch(tmp_path / "in" / "a.mp4")
    with pytest.raises(UsageError, match="among the inputs"):
        find_clips([str(tmp_path / "in")], str(tmp_path / "in"), Options())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("local", Place()),
        ("local:3", Place(workers=3)),
        ("tcp://10.0.0.1:9000", Place(address="tcp://10.0.0.1:9000")),
        ("tls://head", Place(address="tls://head:8786")),
    ],
)
def test_where_the_work_is_done(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["local:0", "local:many", "slurm", "tcp://", "http://x"])
def test_where_no_work_can_be_done(text: str) -> None:
    with pytest.raises(UsageError, match="--on"):
        parse_place(text)


def test_what_was_done_is_known_until_something_changes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    clip = make(tmp_path / "in" / "a.mp4")
    folder = str(tmp_path / "out")
    (each,) = find_clips([str(clip)], folder, Options())
    assert load(folder, each) is None
    touch(Path(each.output))
    outcome = Outcome(each.name, each.input, each.output, "done", identity=identity(each), size=1)
    save(folder, each, outcome)
    assert load(folder, each) == outcome and is_good(each, load(folder, each))
    (other,) = find_clips([str(clip)], folder, Options(remove=("car",)))
    assert not is_good(other, load(folder, other))
    make(clip, Clip(seed=1))
    assert not is_good(each, load(folder, each))
    make(clip)
    Path(each.output).unlink()
    assert not is_good(each, load(folder, each))


def test_the_page_shows_first_what_needs_a_look(tmp_path: Path) -> None:
    names = ("fine.mp4", "torn.mp4", "bad <b>.mp4", "again.mp4")
    fine, torn, bad, again = (
        Outcome(name, f"in/{name}", str(tmp_path / name), "done", attempts=(("one",),)) for name in names
    )
    report = {
        "frames": 50,
        "hole": {"mean_share": 0.1, "seen_share": 0.9, "reference_share": 0.0, "inpainted_share": 0.1},
        "warnings": ["it was torn at 2 s"],
        "tracks": [
            {"action": "remove", "label": "person", "first_seconds": 0, "last_seconds": 1, "reason": "passes"}
        ],
    }
    page = make_page(
        [
            fine,
            Outcome(
                **{**vars(torn), "state": "partial", "report": report, "before": "QQ==", "after": "Qg=="}
            ),
            Outcome(**{**vars(bad), "state": "failed", "error": "no & video"}),
            Outcome(**{**vars(again), "attempts": (("one", "two"),)}),
        ],
        str(tmp_path),
        75.0,
    )
    places = [page.index(text) for text in ("bad &lt;b&gt;.mp4", "torn.mp4", "again.mp4", "fine.mp4")]
    assert places == sorted(places)
    assert "no &amp; video" in page and "it was torn at 2 s" in page and "passes" in page
    assert "a worker was lost" in page and "<a href='torn.mp4'>" in page
    assert "http" not in page


def test_the_plan_says_how_long_it_may_take(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "a.mp4")
    touch(tmp_path / "in" / "b.mp4")
    clips = find_clips([str(tmp_path / "in")], str(tmp_path / "out"), Options())
    lines, seconds = expected(clips, (), Place(workers=1))
    assert "20 frames" in lines[0] and "will fail" in lines[1] and 0 < seconds < 60


def test_files_elsewhere_are_fetched_and_stored(tmp_path: Path) -> None:
    storage.write("memory://bucket/in/a.txt", b"hello")
    assert (
        storage.listing("memory://bucket/in") == ["a.txt"] and storage.listing("memory://bucket/none") is None
    )
    assert storage.fetch("memory://bucket/in/a.txt", tmp_path).read_bytes() == b"hello"
    storage.store(tmp_path / "a.txt", "memory://bucket/out/b.txt")
    assert (
        storage.read("memory://bucket/out/b.txt") == b"hello"
        and storage.size("memory://bucket/out/b.txt") == 5
    )
    assert storage.local(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    storage.remove("memory://bucket/out/b.txt")
    assert not storage.exists("memory://bucket/out/b.txt")
    with pytest.raises(UsageError, match="nosuch"):
        storage.exists("nosuch://bucket/x")
