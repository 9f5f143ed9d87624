"""Damaged and hostile files: a good output up to the damage and the time told, or one clear error."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import COUNT, HEIGHT, WIDTH, Clip, make, packets
from walks import cheap

import stream
from stream.errors import CleanplateError, InputError
from stream.source import open_source

ROOT = Path(stream.__file__).parents[1]
QUIET = {"x265-params": "log-level=none"}


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    for index in range(COUNT):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[20:40, 5 + 3 * index : 28 + 3 * index] = 255
        cv2.imwrite(str(folder / f"{index:02}.png"), mask)
    return folder


def clean(damaged: Path, masks: Path) -> stream.Report | CleanplateError:
    """Clean a file in place of a user; whatever else than a clear error comes out fails the test."""
    output = damaged.with_name(f"out{damaged.suffix}")
    before = damaged.read_bytes()
    failed: CleanplateError | None = None
    try:
        report = stream.clean(damaged, output, cheap(), job=stream.Job(masks=masks))
    except CleanplateError as error:
        failed = error
    finally:
        assert damaged.read_bytes() == before
        left = {each.name for each in damaged.parent.iterdir()} - {damaged.name, output.name, "whole.mp4"}
        assert not left
    if failed is not None:
        assert not output.exists()
        assert "\n" not in str(failed)
        return failed
    with open_source(output) as source:
        assert sum(1 for _ in source) == report.frames > 0
        assert not source.damaged
    return report


def zeroed(data: bytearray, begin: float, length: int) -> bytearray:
    at = int(begin * len(data))
    data[at : at + length] = bytes(min(length, len(data) - at))
    return data


def flipped(data: bytearray, first: float, count: int) -> bytearray:
    dice = np.random.default_rng(3)
    for at in dice.integers(int(first * len(data)), len(data) - 1, count):
        data[at] ^= 1 << int(dice.integers(8))
    return data


PARTLY: dict[str, tuple[str, Clip, Callable[[bytearray], bytearray]]] = {
    "mkv cut off": (".mkv", Clip(), lambda data: data[: len(data) * 6 // 10]),
    "webm cut off": (".webm", Clip(codec="libvpx-vp9"), lambda data: data[: len(data) * 6 // 10]),
    "hevc cut off": (".mkv", Clip(codec="libx265", options=QUIET), lambda data: data[: len(data) * 7 // 10]),
    "pictures zeroed": (".mp4", Clip(), lambda data: zeroed(data, 0.35, 500)),
    "pictures flipped": (".mp4", Clip(), lambda data: flipped(data[:], 0.3, 40)),
}


@pytest.mark.parametrize("name", PARTLY)
def test_what_can_be_read_is_cleaned_and_the_time_of_the_damage_told(
    tmp_path: Path, masks: Path, name: str
) -> None:
    suffix, clip, damage = PARTLY[name]
    source = make(tmp_path / f"in{suffix}", clip)
    data = damage(bytearray(source.read_bytes()))
    if name == "pictures flipped":
        # leave the index as it is
        whole = source.read_bytes()
        data[whole.find(b"moov") - 4 :] = whole[whole.find(b"moov") - 4 :]
    source.write_bytes(data)
    done = clean(source, masks)
    assert isinstance(done, stream.Report)
    assert done.partial
    assert any(" s" in each and any(letter.isdigit() for letter in each) for each in done.warnings)


REFUSED: dict[str, tuple[str, Callable[[bytearray], bytearray], str]] = {
    "mp4 without its index": (".mp4", lambda data: data[: data.find(b"moov")], "moov"),
    "index zeroed": (".mp4", lambda data: zeroed(data, data.find(b"trak") / len(data), 4000), "no video"),
    "nothing": (".mp4", lambda _: bytearray(), "empty"),
    "noise": (".mkv", lambda data: bytearray(np.random.default_rng(0).bytes(len(data))), "not a video"),
    "first half gone": (".mkv", lambda data: data[len(data) // 2 :], "not a video"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, masks: Path, name: str) -> None:
    suffix, damage, told = REFUSED[name]
    source = make(tmp_path / f"in{suffix}", Clip())
    source.write_bytes(damage(bytearray(source.read_bytes())))
    done = clean(source, masks)
    assert isinstance(done, InputError), done
    assert told in str(done)


def test_tags_that_are_no_utf8_are_no_reason_to_fail(tmp_path: Path, masks: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(metadata={"title": "Place d'Armes"}))
    source.write_bytes(source.read_bytes().replace(b"Place d'Armes", b"Pl\xe4ce d\xffArmes"))
    assert isinstance(clean(source, masks), stream.Report)


def test_sound_whose_times_go_backwards_does_not_cost_the_picture(tmp_path: Path, masks: Path) -> None:
    source = make(tmp_path / "in.mkv", Clip(audio=[("libopus", "eng")]))
    sound = [data for _, data in packets(source, "audio") if len(data) > 40]
    data = bytearray(source.read_bytes())
    for late in sound[-8:]:
        # before a packet's bytes Matroska has its time, of two bytes, and a byte of flags
        struct.pack_into(">h", data, data.find(late) - 3, 0)
    source.write_bytes(data)
    done = clean(source, masks)
    assert isinstance(done, stream.Report)
    assert done.frames == COUNT
    assert any("packets of audio are left out" in each for each in done.warnings)


@pytest.mark.parametrize("kind", ["swapped", "sizes", "header bits"])
def test_mutations_of_headers_never_end_otherwise(tmp_path: Path, masks: Path, kind: str) -> None:
    original = make(tmp_path / "whole.mp4", Clip(options={"bf": "2"})).read_bytes()
    boxes = [
        original.find(name) - 4 for name in (b"stts", b"stsc", b"stsz", b"stco", b"ctts", b"stsd", b"mdhd")
    ]
    boxes = sorted(each for each in boxes if each > 0)
    for seed in range(8):
        dice = np.random.default_rng(seed)
        data = bytearray(original)
        if kind == "swapped":
            a, b, c = (int(each) for each in np.sort(dice.choice(boxes, 3, replace=False)))
            data[a:c] = data[b:c] + data[a:b]
        elif kind == "sizes":
            at = int(dice.choice(boxes)) + int(dice.choice([0, 12, 16]))
            data[at : at + 4] = bytes(dice.choice([0xFF, 0x7F, 0x00], 4).astype(np.uint8))
        else:
            data = flipped(data, original.find(b"moov") / len(data), 20)
        (tmp_path / "in.mp4").write_bytes(data)
        done = clean(tmp_path / "in.mp4", masks)
        assert isinstance(done, stream.Report | CleanplateError)
        (tmp_path / "out.mp4").unlink(missing_ok=True)


def claiming(path: Path) -> Path:
    """A small file whose header promises 10^9 pictures."""
    make(path, Clip(options={"bf": "0"}))
    data = bytearray(path.read_bytes())
    if path.suffix == ".avi":
        struct.pack_into("<I", data, data.find(b"avih") + 24, 10**9)
        struct.pack_into("<I", data, data.find(b"strh") + 40, 10**9)
    else:
        struct.pack_into(">II", data, data.find(b"stsz") + 8, 1, 10**9)
        struct.pack_into(">II", data, data.find(b"stts") + 12, 10**9, 512)
        struct.pack_into(">III", data, data.find(b"stsc") + 12, 1, 10**9, 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_claim_of_a_thousand_million_pictures_is_refused(tmp_path: Path, suffix: str) -> None:
    path = claiming(tmp_path / f"in{suffix}")
    with pytest.raises(InputError, match="claims to hold 1000000000 pictures"):
        open_source(path)


@pytest.mark.skipif(sys.platform != "linux", reason="where a process tells its memory is Linux's")
def test_a_claim_of_60000_by_60000_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, body)
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    program = "import atexit; from stream.commands import main; "
    program += "atexit.register(lambda: print(open('/proc/self/status').read())); main()"
    arguments = ["clean", str(path), "-o", str(tmp_path / "out.png")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert int(done.stdout.partition("VmHWM:")[2].split()[0]) < 600_000


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 400), (400, 16), (11, 13)])
def test_frames_of_any_shape_are_cleaned(tmp_path: Path, size: tuple[int, int]) -> None:
    for folder in ("in", "masks"):
        (tmp_path / folder).mkdir()
    dice = np.random.default_rng(0)
    for index in range(5):
        picture = cv2.resize(dice.integers(0, 255, (4, 4, 3), np.uint8), size)
        mask = np.zeros(size[::-1], np.uint8)
        mask[size[1] // 3 : max(size[1] // 3 + 1, size[1] // 2), : max(1, size[0] // 2)] = 255
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), picture)
        cv2.imwrite(str(tmp_path / "masks" / f"{index}.png"), mask)
    report = stream.clean(
        tmp_path / "in", tmp_path / "out", cheap(), job=stream.Job(masks=tmp_path / "masks")
    )
    assert report.frames == 5
    with open_source(tmp_path / "out") as source:
        assert all((frame.width, frame.height) == size for frame in source)
