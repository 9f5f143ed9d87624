"""A live run on clips and on a camera that is scripted: what is shown, decided, recorded, and survives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from walks import HEIGHT, WIDTH, background, block, make_walk

import stream
from stream.commands import main
from stream.errors import InputError, OutputError, UsageError
from stream.types import Frame, Instance, Perception

GREY = (128, 128, 128)


def finds_the_block(_: object, frame: Frame, **__: object) -> Perception:
    """Perception that sees the grey block of the walk as a person."""
    mask = (np.abs(frame.rgb.astype(int) - 128) < 12).all(2)
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9))) > 0
    found: tuple[Instance, ...] = ()
    if mask.sum() > 200:
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        found = (Instance("person", 0.9, (x, y, x + w, y + h), mask),)
    return Perception(frame.index, np.zeros(mask.shape, np.uint8), found, np.zeros(0, np.float32))


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> stream.Config:
    monkeypatch.setattr("stream.perceive.perceive", finds_the_block)
    monkeypatch.setattr("stream.perceive.working_size", lambda _, frame: (frame.height, frame.width))
    return stream.load_config("webcam", overrides={"engine.name": "none", "perceive.every": 1})


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_walk(tmp_path_factory.mktemp("walk") / "walk.mp4", 50)


class Camera:
    """OpenCV's camera as a script: what each opening delivers; None is a camera that cannot be opened."""

    script: ClassVar[list[list[NDArray[np.uint8]] | None]] = []
    last_of_all = threading.Event()

    def __init__(self, _: object) -> None:
        self.pictures = self.script.pop(0) if self.script else None

    def isOpened(self) -> bool:  # noqa: N802
        return self.pictures is not None

    def set(self, *_: object) -> bool:
        return True

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        threading.Event().wait(0.02)
        if self.pictures:
            return True, self.pictures.pop(0)[..., ::-1]
        if not self.script and self.pictures is not None:
            self.last_of_all.wait(0.2)
        return False, None

    def release(self) -> None:
        return


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Camera]]:
    monkeypatch.setattr("cv2.VideoCapture", Camera)
    yield Camera
    Camera.script = []


def our_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("cleanplate")]


def read_clip(path: Path) -> list[tuple[Fraction, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        return [
            (each.pts * each.time_base, each.to_ndarray(format="rgb24"))
            for each in container.decode(video=0)
            if each.pts is not None and each.time_base is not None
        ]


def unlike(picture: NDArray[np.uint8], index: int) -> float:
    """How far the block's place is from the empty scene, grey levels."""
    place = block(index)
    return float(np.abs(picture[place].astype(int) - background(index)[place]).mean())


def test_a_file_is_played_to_its_end_with_its_own_times(walk: Path, config: stream.Config) -> None:
    with stream.live(str(walk), config) as run:
        shown = list(run)
        assert run.status.ended and run.status.error is None
    numbers = [each.number for each in shown]
    assert numbers == sorted(set(numbers)) and len(shown) > 10
    times = [40 * index + index % 3 for index in range(50)]
    assert {round(each.time * 1000) for each in shown} <= set(times)
    assert shown[-1].image.shape == (HEIGHT, WIDTH, 3) and shown[-1].latency_seconds > 0
    assert our_threads() == []


def test_the_users_word_acts_and_can_be_taken_back(walk: Path, config: stream.Config) -> None:
    with stream.live(str(walk), config, loop=True) as run:
        first = next(each for each in run if each.tracks)
        number = first.tracks[0].id
        run.decide(number, "keep")
        kept = next(each for each in run if each.number > first.number + 3 and each.verdicts)
        assert (kept.image == kept.before).all()
        run.decide(number, "remove")
        gone = next(each for each in run if each.filled.box is not None and each.number > kept.number + 5)
        assert gone.verdicts[0].action == "remove" and "you asked" in gone.verdicts[0].reason
        assert (gone.image != gone.before).any()
        run.decide(number, None)
        with pytest.raises(UsageError, match="77"):
            run.decide(77, "keep")


def test_classes_and_presets_act_while_it_runs(walk: Path, config: stream.Config) -> None:
    with stream.live(str(walk), config, loop=True) as run:
        first = next(each for each in run if each.tracks)
        run.classes(remove=["Person"], keep=[])
        assert run.status.remove == ("person",)
        gone = next(each for each in run if each.filled.box is not None)
        assert gone.verdicts[0].action == "remove"
        run.classes(remove=[], keep=["person"])
        back = next(each for each in run if each.number > gone.number + 4 and each.verdicts)
        assert back.filled.box is None and back.number > first.number
        with pytest.raises(UsageError) as caught:
            run.classes(remove=["persn"], keep=[])
        assert "person" in caught.value.hint
        run.preset("tourist")
        assert run.status.preset == "tourist" and run.status.keep == ("person",)
        later = next(each for each in run if each.number > back.number + 4 and each.verdicts)
        assert later.verdicts[0].action == "keep"


def test_what_was_behind_is_shown_once_it_has_been_seen(walk: Path, config: stream.Config) -> None:
    """The block is there from the start: its place is first invented, later remembered; the rest is exact."""
    with stream.live(str(walk), config, loop=True) as run:
        run.classes(remove=["person"], keep=[])
        errors = {}
        for each in run:
            index = round(float(each.time) * 25)
            if each.filled.box is not None and index < 50:
                errors[index] = unlike(each.image, index)
                x0, y0, x1, y1 = each.filled.box
                outside = np.ones((HEIGHT, WIDTH), bool)
                outside[y0:y1, x0:x1] = False
                assert (each.image[outside] == each.before[outside]).all()
            if index >= 49:
                break
    late = [error for index, error in errors.items() if index > 25]
    assert len(late) > 3 and np.median(late) < 8


def test_look_ahead_and_reset_act_while_it_runs(walk: Path, config: stream.Config) -> None:
    with stream.live(str(walk), config, loop=True) as run:
        first = next(iter(run))
        assert first.latency_seconds < 0.4 or run.status.step != "full"
        run.look_ahead(0.5)
        late = next(each for each in run if each.number > first.number + 8)
        assert late.latency_seconds > 0.45
        run.look_ahead(0.0)
        run.reset()
        soon = next(each for each in run if each.number > late.number + 8)
        assert soon.latency_seconds < late.latency_seconds
        with pytest.raises(UsageError):
            run.look_ahead(-1)


def test_a_recording_has_the_times_of_what_was_shown(
    walk: Path, config: stream.Config, tmp_path: Path
) -> None:
    target = tmp_path / "kept.mp4"
    with stream.live(str(walk), config, record=target) as run:
        times = [each.time for each in run]
        assert not (tmp_path / "kept.mp4").exists() or run.status.ended
    assert [each.name for each in tmp_path.iterdir()] == ["kept.mp4"]
    recorded = [time for time, _ in read_clip(target)]
    assert recorded == sorted(set(recorded)) and len(recorded) > 10
    # Where the machine is busy the first picture may be missed by either of the two who look.
    origins = [time - Fraction(each) for time in times[:3] for each in recorded[:3]]
    same = max(
        sum(min(abs(time - origin - Fraction(each)) for each in recorded) < 0.001 for time in times)
        for origin in origins
    )
    assert same >= 0.8 * len(times)


def test_recording_starts_and_stops_while_it_runs(walk: Path, config: stream.Config, tmp_path: Path) -> None:
    target = tmp_path / "part.mkv"
    with stream.live(str(walk), config, loop=True) as run:
        pictures = iter(run)
        next(pictures)
        run.record(target)
        assert run.status.recording == str(target)
        with pytest.raises(UsageError, match="already"):
            run.record(tmp_path / "second.mkv")
        for _ in range(8):
            next(pictures)
        run.record(None)
        assert run.status.recording is None
        assert len(read_clip(target)) >= 5
        with pytest.raises(OutputError, match="exists"):
            run.record(target)
        with pytest.raises(UsageError, match="xyz"):
            run.record(tmp_path / "what.xyz")
        with pytest.raises(OutputError):
            run.record(tmp_path / "nowhere" / "x.mp4")


def test_closing_at_any_moment_leaves_a_whole_recording_and_no_thread(
    walk: Path, config: stream.Config, tmp_path: Path
) -> None:
    for pictures in (1, 7):
        target = tmp_path / f"{pictures}.mp4"
        run = stream.live(str(walk), config, loop=True, record=target)
        for _, _shown in zip(range(pictures), run, strict=False):
            pass
        run.close()
        run.close()
        assert our_threads() == []
        assert len(read_clip(target)) >= 1
        assert run.newer(10**6, 0.0) is None


def test_a_camera_that_vanishes_comes_back_with_another_size(
    camera: Any, config: stream.Config, tmp_path: Path
) -> None:
    small = np.full((72, 128, 3), 90, np.uint8)
    camera.script = [[background(i) for i in range(20)], None, [small] * 30]
    seen: list[tuple[bool, tuple[int, ...]]] = []
    target = tmp_path / "all.mp4"
    with stream.live(0, config, record=target) as run:
        for each in run:
            seen.append((each.away, each.image.shape))
            if each.away:
                assert run.status.away
                assert (each.image != each.filled.frame.rgb).any()
            if each.image.shape[0] == 72:
                break
        assert not run.status.away
    assert (False, (HEIGHT, WIDTH, 3)) in seen and (True, (HEIGHT, WIDTH, 3)) in seen
    recorded = read_clip(target)
    assert {picture.shape for _, picture in recorded} == {(HEIGHT, WIDTH, 3)}
    assert [time for time, _ in recorded] == sorted({time for time, _ in recorded})


def test_what_cannot_be_opened_is_one_clear_error(camera: Any, config: stream.Config, tmp_path: Path) -> None:
    camera.script = [None]
    with pytest.raises(InputError, match="camera"):
        stream.live(0, config)
    with pytest.raises(InputError, match="no such file"):
        stream.live(str(tmp_path / "none.mp4"), config)
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(InputError):
        stream.live(str(text), config)
    with pytest.raises(InputError, match="127"):
        stream.live("http://127.0.0.1:9/nothing", config)
    with pytest.raises(UsageError, match="names no camera"):
        stream.live("dshow:", config)
    assert our_threads() == []


def test_an_error_in_a_room_ends_the_run_and_is_told(
    walk: Path, config: stream.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no room left")

    monkeypatch.setattr("stream.motion.step", fail)
    with stream.live(str(walk), config) as run, pytest.raises(MemoryError, match="no room"):
        list(run)
    assert run.status.ended and run.status.error == "no room left"
    assert our_threads() == []


def test_several_readers_see_the_same_pictures(walk: Path, config: stream.Config) -> None:
    seen: list[set[int]] = [set(), set()]

    def read(run: stream.Live, mine: set[int]) -> None:
        last = -1
        while (shown := run.newer(last, 1.0)) is not None:
            last = shown.number
            mine.add(last)

    with stream.live(str(walk), config) as run:
        readers = [threading.Thread(target=read, args=(run, mine)) for mine in seen]
        for each in readers:
            each.start()
        for each in readers:
            each.join()
    assert len(seen[0] & seen[1]) > 10


def test_the_command_records_a_file_played_live(
    walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.mp4"
    with pytest.raises(SystemExit) as ended:
        main(["live", str(walk), "--engine", "none", "--record", str(target)])
    assert ended.value.code == 0
    assert "pictures shown" in capsys.readouterr().err
    assert len(read_clip(target)) > 10
    with pytest.raises(SystemExit) as ended:
        main(["live", str(walk), "--engine", "none", "--record", str(target)])
    assert ended.value.code == 4
    for wrong in (["--web", "nowhere"], ["--size", "big"], ["--look-ahead", "soon"]):
        with pytest.raises(SystemExit) as ended:
            main(["live", str(walk), "--engine", "none", *wrong])
        assert ended.value.code == 2
