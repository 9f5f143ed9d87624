"""Who stays is completed in the cleaned clip where who goes hid a part; who is not hidden costs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_deocclusion import SIZE, STREET, painted, person, thing

import stream
from stream import kept, limits
from stream.deocclude import Answer, Completed
from stream.types import INVENTED, SEEN, Filled, Frame, Hole, Verdict

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


def test_who_stays_is_whole_where_no_picture_may_be_late() -> None:
    # Large frames are completed at half their size then, and not each of them from the start.
    said = {1: Verdict(1, "person", "keep", 0.0, ""), 2: Verdict(2, "person", "remove", 0.0, "")}
    state, found = kept.initial(), []
    for index in range(FRAMES):
        small, labels, hidden, alone = scene(index, False)
        large, true = (cv2.resize(each, None, fx=3, fy=3) for each in (small, alone))
        frame = replace(picture_frame(large), index=index, pts=index)
        tracks = [thing(number, labels == number) for number in (1, 2) if (labels == number).any()]
        state = kept.remember(state, frame, tracks, said, lambda: None, limits.EVEN)
        done, state = kept.complete(state, frame, tracks, said, 0.01, lambda: None, limits.EVEN)
        if np.count_nonzero(hidden) <= 200:
            continue
        assert [each.track for each in done] == [1]
        x0, y0, x1, y1 = done[0].box
        drawn = true.copy()
        own = (done[0].alpha > 127)[..., None]
        drawn[y0:y1, x0:x1] = np.where(own, done[0].rgb, drawn[y0:y1, x0:x1])
        behind = cv2.resize(hidden.astype(np.uint8), frame.rgb.shape[1::-1]) > 0
        covered = np.zeros(behind.shape, bool)
        covered[y0:y1, x0:x1] = own[..., 0]
        assert np.mean(covered[behind]) > 0.8
        found.append(np.abs(drawn[behind].astype(int) - true[behind]).mean())
    assert len(found) >= 8 and np.mean(found) < 10


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


def blob(image: np.ndarray, modal: np.ndarray, front: np.ndarray) -> Answer:
    """What a network makes of anything: more of the same, as far as something is in front."""
    colour = image[modal > 0].mean(0) if modal.any() else image.mean((0, 1))
    picture = np.broadcast_to(colour.astype(np.uint8), image.shape).copy()
    near = cv2.dilate(modal, np.ones((31, 31), np.uint8)) & (modal | front)
    return Answer(near * np.float32(0.85), picture, 1.5)


def test_a_piece_of_who_goes_is_not_made_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The bag of the one who passes is taken for somebody who stays: it is left, but nothing is drawn onto it.
    (tmp_path / "in").mkdir()
    (tmp_path / "masks").mkdir()
    streets = []
    for index in range(20):
        x = 80 + 6 * index
        passes = person(x, 164, 120, 0.1)
        bag = np.zeros(SIZE, bool)
        bag[80:120, x + 4 : x + 30] = True
        bag &= ~passes
        noise = np.random.default_rng(index).integers(-2, 3, (*SIZE, 3))
        street = np.clip(STREET + noise, 0, 255).astype(np.uint8)
        frame = np.where((passes | bag)[..., None], (200, 30, 40), street).astype(np.uint8)
        labels = np.where(bag, 1, np.where(passes, 2, 0)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "in" / f"{index:04d}.png"), frame[..., ::-1])
        cv2.imwrite(str(tmp_path / "masks" / f"{index:04d}.png"), labels)
        grown = cv2.dilate(bag.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        streets.append((street, passes & ~grown))
    (tmp_path / "masks" / "objects.json").write_text(json.dumps({"1": "person", "2": "dog"}))
    monkeypatch.setattr("stream.rooms.open_completer", lambda _: blob)
    config = stream.load_config("tourist", overrides=CHEAP)
    stream.clean(tmp_path / "in", tmp_path / "out", config, job=stream.Job(masks=tmp_path / "masks"))
    for (street, gone), path in zip(streets, sorted((tmp_path / "out").glob("*.png")), strict=True):
        shown = cv2.imread(str(path))[..., ::-1]
        apart = np.abs(shown[gone].astype(int) - street[gone]).max(1)
        # The street's colours, and none of the passer's red.
        assert np.mean(apart > 60) < 0.03


@pytest.mark.parametrize("rests", [True, False])
def test_what_the_background_shows_already_is_not_drawn_again(rests: bool) -> None:
    # A screen whose half was hidden: the background knows it. Behind a person it shows the street.
    frame = picture_frame(STREET)
    whole = np.zeros(SIZE, bool)
    whole[40:120, 100:220] = True
    true = np.where(whole[..., None], (20, 22, 24), STREET).astype(np.uint8)
    seen = whole & (np.arange(SIZE[1]) < 150)
    alpha = np.zeros(SIZE, np.uint8)
    alpha[20:150, 150:260] = 255
    plain = true if rests else np.where(seen[..., None], true, STREET).astype(np.uint8)
    rough = np.where((whole & ~seen)[..., None], 28, true).astype(np.uint8)
    drawn = Completed(
        1,
        (100, 40, 220, 120),
        whole[40:120, 100:220],
        rough[40:120, 100:220],
        np.full((80, 120), 255, np.uint8),
        np.where(seen, SEEN, INVENTED)[40:120, 100:220].astype(np.uint8),
        0.5,
        0.9,
        (2,),
        np.zeros((80, 120), bool),
    )
    box = 150, 20, 260, 150
    origin = np.full((130, 110), SEEN, np.uint8)
    filled = Filled(picture_frame(plain), origin, box, (), (), frame)
    shown = kept.put_back(filled, (drawn,), Hole(alpha, box, ())).frame.rgb
    hidden = whole & ~seen
    assert np.array_equal(shown[~hidden], plain[~hidden])
    assert np.array_equal(shown[hidden], (plain if rests else rough)[hidden])


def picture_frame(rgb: np.ndarray) -> Frame:
    return Frame(0, 0, Fraction(1, 25), (rgb,), "rgb24", rgb.shape[1], rgb.shape[0])
