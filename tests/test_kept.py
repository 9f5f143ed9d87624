"""Who stays is completed in the cleaned clip where who goes hid a part; who is not hidden costs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_deocclusion import SIZE, STREET, painted, person

import stream
from stream import kept
from stream.deocclude import Answer

CHEAP = {
    "engine.name": "none",
    "look_ahead": 0.4,
    "judge.remove": ("dog",),
    "judge.keep": ("person",),
    "hole.shadow": False,
    "resume.seconds": 0,
}
FRAMES = 44


def scene(index: int, apart: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frame, labels, what is hidden, and the frame without who passes."""
    stays = person(250 if apart else 160, 150, 100)
    noise = np.random.default_rng(index).integers(-2, 3, (*SIZE, 3))
    alone = np.clip(painted(STREET, stays, 160, 150) + noise, 0, 255).astype(np.uint8)
    passes = person(20 + (3 if apart else 6.5) * index, 164, 120, 0.1)
    frame = np.where(passes[..., None], 90, alone).astype(np.uint8)
    labels = (stays * 1).astype(np.uint8)
    labels[passes] = 2
    return frame, labels, stays & passes, alone


def make(folder: Path, frames: int, apart: bool = False) -> tuple[Path, Path]:
    (folder / "in").mkdir()
    (folder / "masks").mkdir()
    for index in range(frames):
        frame, labels, _, _ = scene(index, apart)
        cv2.imwrite(str(folder / "in" / f"{index:04d}.png"), frame[..., ::-1])
        cv2.imwrite(str(folder / "masks" / f"{index:04d}.png"), labels)
    (folder / "masks" / "objects.json").write_text(json.dumps({"1": "person", "2": "dog"}))
    return folder / "in", folder / "masks"


def errors(out: Path, apart: bool = False) -> list[float]:
    """Mean difference from the truth inside what was hidden of who stays, frame by frame."""
    found = []
    for index, path in enumerate(sorted(out.glob("*.png"))):
        _, _, hidden, alone = scene(index, apart)
        if np.count_nonzero(hidden) > 200:
            shown = cv2.imread(str(path))[..., ::-1]
            found.append(float(np.abs(shown[hidden].astype(int) - alone[hidden]).mean()))
    return found


def test_who_stays_is_whole_in_the_cleaned_clip(tmp_path: Path) -> None:
    frames, masks = make(tmp_path, FRAMES)
    config = stream.load_config("tourist", overrides=CHEAP)
    report = stream.clean(frames, tmp_path / "out", config, job=stream.Job(masks=masks))
    assert {track.action for track in report.tracks} == {"keep", "remove"}
    found = errors(tmp_path / "out")
    assert len(found) >= 8 and np.mean(found) < 8 and max(found) < 25
    assert not any("could not be completed" in each for each in report.warnings)


def test_where_nobody_who_stays_is_hidden_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, masks = make(tmp_path, 24, apart=True)
    config = stream.load_config("tourist", overrides=CHEAP)
    stream.clean(frames, tmp_path / "out", config, job=stream.Job(masks=masks))

    monkeypatch.setattr(kept, "put_back", lambda filled, *_: filled)
    monkeypatch.setattr(kept, "widened", lambda hole, _: hole)
    stream.clean(frames, tmp_path / "plain", config, job=stream.Job(masks=masks))
    for path in sorted((tmp_path / "out").glob("*.png")):
        assert path.read_bytes() == (tmp_path / "plain" / path.name).read_bytes()


def test_unsure_completion_is_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, masks = make(tmp_path, 24)
    monkeypatch.setattr("stream.deocclude.observe", lambda state, *_: state)

    def doubtful(image: np.ndarray, modal: np.ndarray, _: np.ndarray) -> Answer:
        return Answer(np.full(modal.shape, 0.55, np.float32), image, 1.0)

    monkeypatch.setattr("stream.rooms.open_completer", lambda _: doubtful)
    config = stream.load_config("tourist", overrides=CHEAP)
    report = stream.clean(frames, tmp_path / "out", config, job=stream.Job(masks=masks))
    told = [each for each in report.warnings if "could not be completed" in each]
    assert len(told) == 1 and "person" in told[0]
