"""What is saved is loaded again as it was: values, shared parts, types; and nothing else can be loaded."""

from __future__ import annotations

import math
import zipfile
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from configs.schema import load_config
from stream.plate import Memory
from stream.pose import View
from stream.snapshot import Snapshot, SnapshotError, save
from stream.types import Frame, Instance, Motion, Track


def back(tmp_path: Path, value: object, known: tuple[object, ...] = (), frames: dict | None = None) -> object:
    save(tmp_path / "state.zip", value, known)
    return Snapshot(tmp_path / "state.zip").load(frames or {}, known)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        0.1,
        math.inf,
        "ein Wort: ü",
        (1, (2.0, "x"), [None]),
        {1: "a", (2, 3): {"b": 4}},
        frozenset({1, 2}),
        {3, 4},
        deque([1, 2]),
        Fraction(1001, 30000),
    ],
)
def test_plain_values(tmp_path: Path, value: object) -> None:
    found = back(tmp_path, value)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16", "int16", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (2, 3, 2)])
def test_arrays_keep_type_shape_and_values_and_can_be_written(
    tmp_path: Path, kind: str, shape: tuple[int, ...]
) -> None:
    array = np.asarray(np.random.default_rng(0).random(shape) * 100).astype(kind)
    found = back(tmp_path, array)
    assert isinstance(found, np.ndarray)
    assert found.dtype == array.dtype and found.shape == array.shape and np.array_equal(found, array)
    found[...] = 0


def test_numbers_of_numpy_keep_their_type(tmp_path: Path) -> None:
    for number in (np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True), np.uint8(255)):
        found = back(tmp_path, number)
        assert type(found) is type(number) and found == number


def test_parts_of_arrays_are_saved_alone(tmp_path: Path) -> None:
    whole = np.arange(1_000_000)
    found = back(tmp_path, whole[10:20:3])
    assert np.array_equal(found, whole[10:20:3])
    assert (tmp_path / "state.zip").stat().st_size < 2000


def test_what_was_shared_is_shared_again(tmp_path: Path) -> None:
    mask = np.ones((4, 6), bool)
    track = Track(
        1, "person", Instance("person", 0.9, (0, 1, 2, 3), mask), 0, 9, 10, False, 0.1, math.nan, 0.5
    )
    first, second, table = back(tmp_path, (track, track, {"mask": mask}))
    assert first is second and first.instance.mask is table["mask"]
    assert first.instance.box == (0, 1, 2, 3) and math.isnan(first.speed)


def test_frames_are_named_and_taken_from_the_input(tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (40, 64, 3), np.uint8)
    frame = Frame(7, 280, Fraction(1, 1000), (rgb,), "rgb24", 64, 40)
    motion = Motion(7, (np.eye(3),), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), True, 1.0)
    small = np.zeros((5, 8, 3), np.uint8)
    labels = np.zeros((4, 6), np.uint16)
    view = View(motion, (np.eye(3), np.eye(3)), 0, seconds=0.28)
    grey = small[..., 0]
    memory = Memory(view, frame, labels, None, small, small, grey, grey, frozenset())
    save(tmp_path / "state.zip", (frame, memory))
    snapshot = Snapshot(tmp_path / "state.zip")
    assert snapshot.frames == {7}
    again = Frame(7, 280, Fraction(1, 1000), (rgb.copy(),), "rgb24", 64, 40)
    first, second = snapshot.load({7: again})
    assert first is again
    assert second.frame is again and second.view.motion.static and second.seconds == 0.28
    with pytest.raises(SnapshotError):
        snapshot.load({})


def test_what_the_reader_has_is_not_written(tmp_path: Path) -> None:
    config = load_config("tourist")
    found = back(tmp_path, {"plate": config.plate}, known=(config.plate,))
    assert found["plate"] is config.plate


@dataclass(frozen=True)
class Stranger:
    number: int = 1


@pytest.mark.parametrize("value", [Stranger(), print, np.array([object()]), object()])
def test_only_what_the_program_knows_is_saved(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="cannot be saved"):
        save(tmp_path / "state.zip", value)


@pytest.mark.parametrize(
    "tree",
    [
        '{"root": [0], "objects": [["object", "os", "system", {}]], "frames": []}',
        '{"root": [0], "objects": [["object", "stream.job", "clean", {}]], "frames": []}',
        '{"root": [0], "objects": [["object", "stream.types", "Colour", {"matrix": 1}]], "frames": []}',
        '{"root": [0], "objects": [["array", "absent", "|u1", [1]]], "frames": []}',
        '{"root": [0], "objects": [["array", "short", "<f8", [9]]], "frames": []}',
        '{"root": [0], "objects": [["strange", 1]], "frames": []}',
        '{"root": [5], "objects": [], "frames": []}',
    ],
)
def test_nothing_else_can_be_loaded(tmp_path: Path, tree: str) -> None:
    with zipfile.ZipFile(tmp_path / "state.zip", "w") as archive:
        archive.writestr("state.json", tree)
        archive.writestr("short", b"1234")
    with pytest.raises(SnapshotError):
        Snapshot(tmp_path / "state.zip").load({})


@pytest.mark.parametrize("keep", [0, 10, 100, 500])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    save(tmp_path / "state.zip", {"a": np.random.default_rng(0).random(100)})
    data = (tmp_path / "state.zip").read_bytes()
    (tmp_path / "state.zip").write_bytes(data[:keep])
    with pytest.raises(SnapshotError):
        Snapshot(tmp_path / "state.zip")
