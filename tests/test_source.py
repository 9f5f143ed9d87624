from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import COUNT, HEIGHT, WIDTH, Clip, make, picture, stamps

from stream.errors import InputError, UsageError
from stream.source import open_source
from stream.types import Colour, Frame

IRREGULAR = (0, 700, 1024, 2100, 2150, 4000, 4512, 5900, 8000, 9001)


def read(path: Path, **cut: Fraction | None) -> list[Frame]:
    with open_source(path, **cut) as source:  # type: ignore[arg-type]
        return list(source)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clips") / "plain.mp4", Clip(audio=[("aac", "eng"), ("aac", "deu")]))


def test_what_is_known_of_a_clip(plain: Path) -> None:
    with open_source(plain) as source:
        info = source.info
        frames = list(source)
    assert (info.kind, info.codec, info.width, info.height) == ("video", "h264", WIDTH, HEIGHT)
    assert (info.format, info.rate, info.time_base) == ("yuv420p", 25, Fraction(1, 12800))
    assert (info.duration, info.frames, info.frames_exact) == (Fraction(4, 5), COUNT, True)
    assert [each.kind for each in info.streams] == ["audio", "audio"]
    assert [each.language for each in info.streams] == ["eng", "deu"]
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert source.warnings == [] and not source.damaged


def test_pictures_are_what_was_drawn(plain: Path) -> None:
    for frame in read(plain)[::5]:
        assert np.abs(frame.rgb.astype(float) - picture(frame.index)).mean() < 6


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_irregular_times_are_kept(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"vfr{suffix}", Clip(ticks=IRREGULAR))
    assert [frame.time for frame in read(path)] == stamps(path)
    if suffix != ".mkv":
        assert [frame.pts for frame in read(path)] == list(IRREGULAR)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_is_clockwise(tmp_path: Path, turn: int) -> None:
    path = make(tmp_path / "turned.mov", Clip(rotation=turn, ticks=(0, 512)))
    with open_source(path) as source:
        assert source.info.rotation == turn
        assert {frame.rotation for frame in source} == {turn}


def test_aspect_and_colour(tmp_path: Path) -> None:
    path = make(
        tmp_path / "tagged.mp4",
        Clip(aspect=Fraction(4, 3), colour=(9, 16, 9, 1), codec="libx265", format="yuv420p10le"),
    )
    with open_source(path) as source:
        info = source.info
        frame = next(source)
    assert info.sample_aspect == Fraction(4, 3)
    assert info.colour == Colour(matrix=9, full_range=False, primaries=9, transfer=16)
    assert (info.codec, info.format, frame.planes[0].dtype) == ("hevc", "yuv420p10le", np.uint16)


def test_odd_sizes(tmp_path: Path) -> None:
    path = make(tmp_path / "odd.mkv", Clip(codec="ffv1", width=97, height=61, ticks=(0, 512)))
    frame = read(path)[0]
    assert frame.planes[0].shape == (61, 97)
    assert frame.planes[1].shape == (31, 49)
    assert frame.rgb.shape == (61, 97, 3)


@pytest.mark.parametrize(
    ("start", "end"), [("0.2", None), ("0.2", "0.5"), (None, "0.31"), ("0.201", "0.239"), ("0.76", None)]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_cut_has_the_frames_of_the_whole(
    tmp_path: Path, suffix: str, start: str | None, end: str | None
) -> None:
    path = make(tmp_path / f"whole{suffix}", Clip())
    low, high = (None if each is None else Fraction(each) for each in (start, end))
    whole = read(path)
    first = whole[0].time
    wanted = [f for f in whole if (low or 0) <= f.time - first and (high is None or f.time - first < high)]
    if not wanted:
        with pytest.raises(UsageError):
            read(path, start=low, end=high)
        return
    got = read(path, start=low, end=high)
    assert [frame.pts for frame in got] == [frame.pts for frame in wanted]
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(got, wanted, strict=True))


def test_reopening_gives_the_same_again(plain: Path) -> None:
    with open_source(plain, start=Fraction(1, 5)) as source:
        next(source)
        with source.reopen() as again:
            rest = list(source)
            whole = list(again)
    assert len(whole) == len(rest) + 1
    assert np.array_equal(whole[-1].planes[0], rest[-1].planes[0])


@pytest.mark.parametrize(("start", "end"), [(5, None), (-1, None), (1, 1), (2, 1)])
def test_times_that_make_no_sense(plain: Path, start: int, end: int | None) -> None:
    with pytest.raises(UsageError):
        open_source(plain, start=Fraction(start), end=None if end is None else Fraction(end))


def test_closing(plain: Path) -> None:
    source = open_source(plain)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        next(source)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "none.mp4")


def test_a_text_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("not a video at all\n" * 50)
    with pytest.raises(InputError, match="not a video"):
        open_source(path)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(InputError, match="empty"):
        open_source(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    with pytest.raises(InputError, match="only audio"):
        open_source(path)


def test_a_file_cut_before_its_index(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    data = plain.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="moov") as caught:
        open_source(path)
    assert caught.value.hint


def test_an_absurd_size_is_refused(tmp_path: Path) -> None:
    # a PNG header is enough to claim any size
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    path = tmp_path / "huge.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    with pytest.raises(InputError):
        list(open_source(path))


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_a_file_cut_off_is_read_as_far_as_it_goes(tmp_path: Path, suffix: str) -> None:
    whole = make(tmp_path / f"whole{suffix}")
    path = tmp_path / f"cut{suffix}"
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with open_source(path) as source:
        frames = list(source)
    assert 3 < len(frames) < COUNT
    if suffix == ".mkv":
        assert source.damaged
        assert any("cut off or damaged" in each and " s " in each for each in source.warnings)


def test_damage_in_the_middle_is_told_with_its_time(plain: Path, tmp_path: Path) -> None:
    data = bytearray(plain.read_bytes())
    with av.open(str(plain)) as container:
        places = [(each.pos, each.size) for each in container.demux(video=0) if each.pos and each.size]
    for place, size in places[6:9]:
        data[place + 4 : place + size] = b"\x55" * (size - 4)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with open_source(path) as source:
        frames = list(source)
    assert len(frames) >= COUNT - 6
    assert any("damaged from 0." in each for each in source.warnings)
    assert source.damaged


def images(folder: Path, names: list[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), picture(number, *size)[:, :, ::-1])
    return folder


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    folder = images(tmp_path / "shots", ["a1.png", "a2.png", "a10.png"])
    (folder / "notes.txt").write_text("not an image")
    with open_source(folder, fps=10) as source:
        info = source.info
        frames = list(source)
    assert info.images == ("a1.png", "a2.png", "a10.png")
    assert (info.kind, info.frames, info.frames_exact) == ("folder", 3, True)
    assert [frame.time for frame in frames] == [0, Fraction(1, 10), Fraction(2, 10)]
    assert all(np.array_equal(frame.rgb, picture(frame.index)) for frame in frames)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_one_image_is_a_folder_of_one(tmp_path: Path, suffix: str) -> None:
    images(tmp_path / "in", [f"one{suffix}"])
    with open_source(tmp_path / "in" / f"one{suffix}") as source:
        assert source.info.kind == "image"
        frames = list(source)
    assert len(frames) == 1
    assert np.abs(frames[0].rgb.astype(float) - picture(0)).mean() < 4


def test_deep_and_transparent_images_keep_what_they_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    clear = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "deep.png"), deep[:, :, ::-1])
    cv2.imwrite(str(tmp_path / "clear.png"), clear[:, :, [2, 1, 0, 3]])
    assert np.array_equal(read(tmp_path / "deep.png")[0].planes[0], deep)
    assert np.array_equal(read(tmp_path / "clear.png")[0].planes[0], clear)


def test_a_name_with_a_pattern_is_a_name(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["%03d.png", "x.png"])
    assert len(read(folder)) == 2


def test_an_odd_one_out_is_named(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["1.png", "2.png"])
    images(folder, ["3.png"], (50, 40))
    with pytest.raises(InputError, match=r"3\.png") as caught:
        read(folder)
    assert "50 x 40" in str(caught.value)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        open_source(tmp_path)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["1.png", "2.png"])
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InputError, match=r"2\.png"):
        read(folder)


def test_exif_orientation_is_a_rotation(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["photo.jpg"])
    path = folder / "photo.jpg"
    # EXIF, little endian, one entry: orientation 6, turn by 90 degrees clockwise
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    body = b"Exif\0\0" + tiff
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:])
    frame = read(path)[0]
    assert frame.rotation == 90
    assert frame.planes[0].shape == (HEIGHT, WIDTH)


def test_deinterlacing_keeps_count_and_times(tmp_path: Path) -> None:
    path = make(tmp_path / "fields.mp4", Clip(options={"x264-params": "tff=1"}))
    with open_source(path) as source:
        assert any("interlaced" in each for each in source.info.warnings)
        fields = list(source)
    with open_source(path, deinterlace=True) as source:
        assert not any("interlaced" in each for each in source.info.warnings)
        frames = list(source)
    assert all(frame.interlaced for frame in fields)
    assert [frame.pts for frame in frames] == [frame.pts for frame in fields]
    assert not any(frame.interlaced for frame in frames)


def test_avi_gets_times_that_rise(tmp_path: Path) -> None:
    path = make(
        tmp_path / "old.avi",
        Clip(codec="mpeg4", time_base=Fraction(1, 25), ticks=tuple(range(COUNT)), options={"bf": "0"}),
    )
    frames = read(path)
    assert [frame.pts for frame in frames] == list(range(COUNT))
    assert all(b.time > a.time for a, b in itertools.pairwise(frames))
