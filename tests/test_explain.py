"""The explanation of a picture: table, legend, objects.json, folders, videos, and wrong use."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from test_perceive import PaintedSegmentator, painted_stuff
from typer.testing import CliRunner

from stream import networks, overlay
from stream.commands import app

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def painted_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that find what is painted, so that no weights are needed."""

    def engine(_: networks.Networks, spec: networks.NetworkSpec) -> Any:
        return PaintedSegmentator() if spec.name == "segmentator" else painted_stuff

    monkeypatch.setattr(networks.Networks, "engine", engine)


def scene(person: int | None = 120, height: int = 360, width: int = 640) -> np.ndarray:
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[: height // 3] = 230
    noise = np.random.default_rng(3).integers(0, 25, (height, width, 1))
    picture = (picture + noise).astype(np.uint8)
    if person is not None:
        picture[150:310, person : person + 50] = (250, 20, 20)
    picture[250:310, 480:580] = (20, 20, 250)
    return picture


def save(path: Path, rgb: np.ndarray) -> Path:
    cv2.imwrite(str(path), rgb[..., ::-1])
    return path


def save_clip(path: Path, frames: int = 50) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.options = {"crf": "10", "preset": "ultrafast"}
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(40 + 8 * index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def explain(*arguments: object) -> Any:
    return RUNNER.invoke(app, ["explain", *map(str, arguments)])


def test_a_picture_is_explained(tmp_path: Path) -> None:
    picture = save(tmp_path / "plaza.png", scene())
    done = explain(picture, "-o", tmp_path / "why.png", "--objects", tmp_path / "objects")
    assert done.exit_code == 0, done.output
    assert "person" in done.output
    assert "remove" in done.output
    assert "is too small or too far aside to be its subject" in done.output
    assert "around: sky" in done.output
    shown = cv2.imread(str(tmp_path / "why.png"))
    assert shown is not None
    assert shown.shape[1] > shown.shape[0]
    written = json.loads((tmp_path / "objects" / "objects.json").read_text())
    assert {each["label"] for each in written["objects"]} == {"person", "car"}
    assert written["stuff"][0]["label"] == "sky-other"
    for each in written["objects"]:
        assert set(each) == {"id", "label", "score", "relation", "action", "reason", "mask"}
        mask = cv2.imread(str(tmp_path / "objects" / each["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (360, 640)
        assert set(np.unique(mask)) == {0, 255}
    person = next(each for each in written["objects"] if each["label"] == "person")
    mask = cv2.imread(str(tmp_path / "objects" / person["mask"]), cv2.IMREAD_UNCHANGED)
    assert (mask > 0).sum() == pytest.approx(50 * 160, rel=0.15)


def test_a_folder_is_explained_picture_by_picture(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "one.png", scene())
    save(tmp_path / "in" / "two.jpg", scene(None, 480, 600))
    done = explain(tmp_path / "in", "-o", tmp_path / "out", "--objects", tmp_path / "objects", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.output == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]
    assert len(json.loads((tmp_path / "objects" / "one" / "objects.json").read_text())["objects"]) == 2
    assert len(json.loads((tmp_path / "objects" / "two" / "objects.json").read_text())["objects"]) == 1


def test_in_a_video_the_passer_is_told_from_what_rests(tmp_path: Path) -> None:
    clip = save_clip(tmp_path / "walk.mp4")
    done = explain(clip, "-o", tmp_path / "why.png", "--at", "0.2")
    assert done.exit_code == 0, done.output
    assert "passes through the picture" in done.output
    assert "car fits" in done.output
    assert done.output.count(" remove ") == 1


def test_asked_for_classes_go(tmp_path: Path) -> None:
    picture = save(tmp_path / "plaza.png", scene())
    done = explain(picture, "-o", tmp_path / "why.png", "--remove", "car", "--keep", "person")
    assert "goes: you asked to remove every car" in done.output
    assert "stays: you asked to keep every person" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--remove", "persn"], "no class is called 'persn'"),
        (["--at", "99"], "there is no frame at 99 s"),
        (["--set", "judge.tresh=1"], "unknown key 'judge.tresh'"),
    ],
)
def test_wrong_use_is_told(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = explain(save_clip(tmp_path / "walk.mp4", 10), "-o", tmp_path / "why.png", *arguments)
    assert said in str(done.exception)
    assert not (tmp_path / "why.png").exists()


def test_an_output_that_exists_is_kept(tmp_path: Path) -> None:
    picture = save(tmp_path / "plaza.png", scene())
    (tmp_path / "why.png").write_text("mine")
    assert "exists already" in str(explain(picture, "-o", tmp_path / "why.png").exception)
    assert (tmp_path / "why.png").read_text() == "mine"
    assert explain(picture, "-o", tmp_path / "why.png", "--overwrite").exit_code == 0


def test_drawing_keeps_its_promises() -> None:
    picture = np.zeros((90, 160, 3), np.uint8)
    mask = np.zeros((45, 80), bool)
    mask[10:30, 20:40] = True
    overlay.outline(picture, mask, (0, 255, 0), tint=0.5)
    assert picture[40, 60, 1] > 100
    assert not picture[80:, 100:].any()
    both = overlay.side_by_side(picture, picture)
    assert both.shape[0] == 90
    assert both.shape[1] > 320
    sheet = overlay.contact_sheet([picture] * 5, list("abcde"), columns=3, width=120)
    assert sheet.shape[1] == 3 * 126
    assert overlay.wrapped("one two three", 1) == ["one", "two", "three"]
    with pytest.raises(ValueError, match="at least one"):
        overlay.contact_sheet([], [])
