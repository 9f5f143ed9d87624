from __future__ import annotations

import itertools
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import COUNT, Clip, copy, make, packets, picture, read, stamps

from stream import sink as sink_module
from stream.errors import OutputError, UsageError
from stream.planes import write_back
from stream.sink import open_sink
from stream.source import open_source
from stream.types import Filled

IRREGULAR = (0, 700, 1024, 2100, 2150, 4000, 4512, 5900, 8000, 9001)
EVERY = {
    "regular": Clip(),
    "irregular times": Clip(ticks=IRREGULAR, audio=[("aac", "eng")]),
    "late start": Clip(ticks=tuple(5000 + 512 * i for i in range(8))),
    "b-frames": Clip(options={"bf": "3", "b-pyramid": "normal"}),
    "rotated": Clip(rotation=90, ticks=(0, 512, 1024)),
    "aspect": Clip(aspect=Fraction(4, 3), ticks=(0, 512)),
    "ten bits": Clip(
        codec="libx265", format="yuv420p10le", colour=(9, 16, 9, 1), options={"x265-params": "log-level=none"}
    ),
    "4:4:4": Clip(format="yuv444p", ticks=(0, 512)),
    "4:2:2 ten bits": Clip(format="yuv422p10le", ticks=(0, 512)),
    "full range": Clip(format="yuvj420p", colour=(1, 1, 1, 2), ticks=(0, 512)),
    "one frame": Clip(ticks=(0,)),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_everything_about_the_picture_is_kept(tmp_path: Path, name: str, suffix: str) -> None:
    source = make(tmp_path / f"in{suffix}", EVERY[name])
    output = tmp_path / f"out{suffix}"
    sink = copy(source, output)
    before, frames = read(source)
    after, written = read(output)
    assert stamps(output) == stamps(source)
    assert [f.time for f in written] == [f.time for f in frames]
    for key in ("width", "height", "format", "codec", "rotation", "colour", "range_tag", "display_matrix"):
        assert getattr(after, key) == getattr(before, key), key
    assert (after.sample_aspect or 1) == (before.sample_aspect or 1)
    length = frames[-1].time - frames[0].time + Fraction(1, 25)
    assert after.duration is None or abs(after.duration - length) <= Fraction(1, 20)
    for one, two in zip(frames, written, strict=True):
        assert np.abs(one.rgb.astype(float) - two.rgb).mean() < 4
    assert sink.warnings == ()


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libvpx-vp9", ".webm"), ("libsvtav1", ".mkv"), ("ffv1", ".mkv"), ("libx265", ".mp4")],
)
def test_the_family_of_the_codec_is_kept(tmp_path: Path, codec: str, suffix: str) -> None:
    if codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    source = make(
        tmp_path / f"in{suffix}", Clip(codec=codec, ticks=tuple(512 * i for i in range(8)), options=quiet)
    )
    copy(source, tmp_path / f"out{suffix}")
    before, frames = read(source)
    after, written = read(tmp_path / f"out{suffix}")
    assert after.codec == before.codec
    assert [f.time for f in written] == [f.time for f in frames]


@pytest.mark.parametrize(
    ("clip", "suffix"),
    [
        (Clip(), ".mp4"),
        (Clip(), ".mov"),
        (Clip(), ".mkv"),
        (Clip(format="yuv420p10le"), ".mp4"),
        (Clip(format="yuv422p"), ".mp4"),
        (Clip(format="yuv444p10le"), ".mkv"),
        (Clip(codec="libvpx-vp9"), ".webm"),
    ],
)
def test_lossless_is_bit_for_bit(tmp_path: Path, clip: Clip, suffix: str) -> None:
    source = make(tmp_path / f"in{suffix}", clip)
    sink = copy(source, tmp_path / f"out{suffix}", lossless=True)
    _, frames = read(source)
    _, written = read(tmp_path / f"out{suffix}")
    assert not any("lossless" in each for each in sink.warnings)
    for one, two in zip(frames, written, strict=True):
        assert one.format == two.format
        assert all(np.array_equal(a, b) for a, b in zip(one.planes, two.planes, strict=True))


def test_a_hole_changes_nothing_else_in_lossless(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    alpha = np.zeros((20, 30), np.uint8)
    alpha[5:15, 5:25] = 255
    patch = np.full((20, 30, 3), (10, 200, 30), np.uint8)
    box = (11, 13, 41, 33)
    with open_source(source) as frames, open_sink(tmp_path / "out.mp4", frames.info, lossless=True) as sink:
        for frame in frames:
            done = write_back(frame, patch, alpha, box)
            sink.write(Filled(done, alpha, box, (), (), frame))
    outside = np.ones((64, 96), bool)
    outside[18:28, 16:36] = False
    for one, two in zip(read(source)[1], read(tmp_path / "out.mp4")[1], strict=True):
        a, b = np.asarray(one.planes[0]), np.asarray(two.planes[0])
        assert np.array_equal(a[outside], b[outside])
        assert (a[~outside] != b[~outside]).mean() > 0.9


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_two_sound_tracks_go_along_packet_by_packet(tmp_path: Path, suffix: str) -> None:
    tracks = [("aac", "eng"), ("pcm_s16le" if suffix == ".mov" else "libmp3lame", "deu")]
    source = make(tmp_path / f"in{suffix}", Clip(audio=tracks, ticks=IRREGULAR))
    sink = copy(source, tmp_path / f"out{suffix}")
    for number in range(2):
        assert packets(tmp_path / f"out{suffix}", "audio", number) == packets(source, "audio", number)
    languages = [each.language for each in read(tmp_path / f"out{suffix}")[0].streams]
    assert languages == [each.language for each in read(source)[0].streams]
    assert languages == ["eng", "deu"] or suffix == ".mov", "QuickTime's own table of languages is short"
    assert len(sink.streams_copied) == 2


def test_subtitles_chapters_tags_and_attachments_go_along(tmp_path: Path) -> None:
    made = make(
        tmp_path / "made.mkv",
        Clip(
            audio=[("libopus", "eng")],
            subtitles=True,
            chapters=True,
            metadata={"title": "A day", "ARTIST": "Me"},
        ),
    )
    source = tmp_path / "in.mkv"
    _attach(made, source)
    sink = copy(source, tmp_path / "out.mkv")
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        assert [each.type for each in after.streams] == [each.type for each in before.streams]
        assert [c["metadata"] for c in after.chapters()] == [{"title": "one"}, {"title": "two"}]
        assert [(c["start"], c["end"]) for c in after.chapters()] == [
            (c["start"], c["end"]) for c in before.chapters()
        ]
        assert after.metadata["title"] == "A day"
        assert after.metadata["ARTIST"] == "Me"
        assert after.streams.attachments[0].data == b"some font"
        assert after.streams.subtitles[0].language == "fra"
    assert packets(tmp_path / "out.mkv", "subtitle") == packets(source, "subtitle")
    assert packets(tmp_path / "out.mkv", "audio") == packets(source, "audio")
    assert sink.warnings == ()


def _attach(source: Path, output: Path) -> None:
    with av.open(str(source)) as before, av.open(str(output), "w") as after:
        after.metadata.update(before.metadata)
        after.set_chapters(before.chapters())
        streams = {}
        for each in before.streams:
            streams[each.index] = after.add_stream_from_template(each, opaque=True)
            streams[each.index].metadata.update(each.metadata)
        after.add_attachment("font.ttf", "application/x-truetype-font", b"some font")
        for packet in before.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cover_art_goes_along(tmp_path: Path, suffix: str) -> None:
    plain = make(tmp_path / "plain.mp4", Clip(audio=[("aac", "eng")]))
    cv2.imwrite(str(tmp_path / "cover.jpg"), picture(0))
    source = tmp_path / "in.mp4"
    with (
        av.open(str(plain)) as before,
        av.open(str(tmp_path / "cover.jpg")) as art,
        av.open(str(source), "w") as after,
    ):
        streams = {each.index: after.add_stream_from_template(each, opaque=True) for each in before.streams}
        cover = after.add_stream_from_template(art.streams.video[0], opaque=True)
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in before.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
        data = next(art.demux())
        data.stream = cover
        after.mux(data)
    sink = copy(source, tmp_path / f"out{suffix}")
    assert any("cover" in each for each in sink.streams_copied)
    assert [each.kind for each in read(tmp_path / f"out{suffix}")[0].streams] == ["audio", "cover"]


def test_what_does_not_fit_is_said_before_the_first_frame(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Clip(audio=[("aac", "eng")], subtitles=True, rotation=90))
    with open_source(source) as frames:
        sink = open_sink(tmp_path / "out.webm", frames.info)
        said = " / ".join(sink.warnings)
        sink.abandon()
        assert "aac" in said and "subrip" in said and "written as vp9" in said
        sink = open_sink(tmp_path / "out.gif", frames.info)
        said = " / ".join(sink.warnings)
        sink.abandon()
        assert "90 degrees" in said and "aac" in said


def test_a_cut_starts_at_zero_with_its_sound(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(audio=[("aac", "eng")]))
    copy(source, tmp_path / "out.mp4", start=Fraction(2, 10), end=Fraction(6, 10))
    assert stamps(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(10)]
    # the packets before 0 are what the decoder needs to begin rightly; the edit list hides them
    sound = [each for each in packets(tmp_path / "out.mp4", "audio") if each[0] > -Fraction(1, 100)]
    wanted = [
        (t - Fraction(2, 10), d)
        for t, d in packets(source, "audio")
        if Fraction(19, 100) < t < Fraction(6, 10)
    ]
    assert [data for _, data in sound] == [data for _, data in wanted]
    assert all(abs(a - b) < Fraction(1, 40000) for (a, _), (b, _) in zip(sound, wanted, strict=True))


def test_matroska_says_that_it_rounds(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(ticks=IRREGULAR, audio=[("aac", "eng")]))
    sink = copy(source, tmp_path / "out.mkv")
    assert any("milliseconds" in each for each in sink.warnings)
    pairs = zip(stamps(tmp_path / "out.mkv"), stamps(source), strict=True)
    assert all(abs(a - b) <= Fraction(1, 2000) for a, b in pairs)


def test_avi_moves_pictures_to_its_grid_and_says_so(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(ticks=IRREGULAR, audio=[("libmp3lame", "eng")]))
    sink = copy(source, tmp_path / "out.avi")
    assert any("AVI" in each for each in sink.warnings)
    times = [frame.time for frame in read(tmp_path / "out.avi")[1]]
    assert len(times) == len(IRREGULAR)
    assert all(b > a for a, b in itertools.pairwise(times))


def test_a_gif_keeps_its_colours_exactly(tmp_path: Path) -> None:
    source = tmp_path / "in.gif"
    _gif(source)
    copy(source, tmp_path / "out.gif")
    before, after = read(source)[1], read(tmp_path / "out.gif")[1]
    assert [f.time for f in before] == [f.time for f in after]
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(before, after, strict=True))


def _gif(path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("gif", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        stream.codec_context.time_base = Fraction(1, 100)
        for number in range(6):
            table = rng.integers(0, 256, (256, 4), dtype=np.uint8)
            table[:, 0] = 255
            indices = rng.integers(0, 200, (48, 64), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray((indices, table), format="pal8")  # type: ignore[arg-type]
            frame.pts, frame.time_base = number * (10 + number), Fraction(1, 100)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("size", [(97, 61), (96, 61), (1, 1), (16, 16)])
def test_odd_sizes_keep_their_size(tmp_path: Path, size: tuple[int, int]) -> None:
    source = make(
        tmp_path / "in.mkv", Clip(codec="ffv1", width=size[0], height=size[1], ticks=(0, 512, 1024))
    )
    copy(source, tmp_path / "out.mp4")
    info, frames = read(tmp_path / "out.mp4")
    assert (info.width, info.height) == size
    assert len(frames) == 3


def images(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), picture(number)[:, :, ::-1])
    return folder


def test_a_folder_of_images_keeps_its_names_and_pixels(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["a1.png", "a2.png", "a10.png", "b.jpg"])
    copy(folder, tmp_path / "out")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "a1.png",
        "a10.png",
        "a2.png",
        "b.jpg",
    ]
    before, after = read(folder)[1], read(tmp_path / "out")[1]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in list(zip(before, after, strict=True))[:3])
    assert np.abs(before[3].rgb.astype(float) - after[3].rgb).mean() < 1.5


def test_a_video_into_a_folder_and_back(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(audio=[("aac", "eng")]))
    sink = copy(source, tmp_path / "out")
    names = sorted(each.name for each in (tmp_path / "out").iterdir())
    assert names == [f"{i:06d}.png" for i in range(COUNT)]
    assert any("aac" in each for each in sink.warnings)
    for one, two in zip(read(source)[1], read(tmp_path / "out")[1], strict=True):
        assert np.array_equal(one.rgb, two.rgb)


def test_a_folder_into_a_video(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["1.png", "2.png", "3.png"])
    copy(folder, tmp_path / "out.mp4")
    info, frames = read(tmp_path / "out.mp4")
    assert (info.rate, len(frames), info.colour.matrix, info.format) == (25, 3, 6, "yuv420p")
    assert np.abs(frames[1].rgb.astype(float) - picture(1)).mean() < 6


@pytest.mark.parametrize(
    "name", ["deep.png", "clear.png", "grey.png", "greydeep.png", "plain.tif", "plain.bmp"]
)
def test_one_image_stays_what_it_is(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    pixels = {
        "deep.png": rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16),
        "clear.png": rng.integers(0, 256, (20, 30, 4), dtype=np.uint8),
        "grey.png": rng.integers(0, 256, (20, 30), dtype=np.uint8),
        "greydeep.png": rng.integers(0, 65536, (20, 30), dtype=np.uint16),
    }.get(name, rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    cv2.imwrite(str(tmp_path / name), pixels)
    (tmp_path / "out").mkdir()
    copy(tmp_path / name, tmp_path / "out" / name)
    again = cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED)
    assert again is not None and np.array_equal(again, pixels)


def test_a_photograph_keeps_its_notes(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["photo.jpg"])
    path = folder / "photo.jpg"
    body = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:])
    copy(path, tmp_path / "out.jpg")
    assert body in (tmp_path / "out.jpg").read_bytes()
    assert read(tmp_path / "out.jpg")[1][0].rotation == 90


def test_the_name_comes_only_at_the_end(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    output = tmp_path / "out.mp4"
    with open_source(source) as frames, open_sink(output, frames.info) as sink:
        for frame in frames:
            sink.write(frame)
            assert not output.exists()
        assert (tmp_path / ".out.mp4.part").is_dir()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    sink.close()
    with pytest.raises(ValueError, match="closed"):
        sink.write(frame)


def _fail(source: Path, output: Path) -> None:
    with open_source(source) as frames, open_sink(output, frames.info) as sink:
        for frame in frames:
            sink.write(frame)
            _ = 1 / (3 - frame.index)


@pytest.mark.parametrize("output", ["out.mp4", "out.gif", "out", "out.mkv"])
def test_an_exception_leaves_nothing(tmp_path: Path, output: str) -> None:
    source = make(tmp_path / "in.mp4", Clip(audio=[("aac", "eng")]))
    with pytest.raises(ZeroDivisionError):
        _fail(source, tmp_path / output)
    assert [each.name for each in tmp_path.iterdir()] == ["in.mp4"]


def test_a_rest_of_a_killed_run_is_no_obstacle(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    for name in (".out.mp4.part", ".frames.part"):
        (tmp_path / name / "whole").mkdir(parents=True)
        (tmp_path / name / "whole" / "000000.png").write_bytes(b"rest")
        (tmp_path / name / "whole.packets").write_bytes(b"rest")
    copy(source, tmp_path / "out.mp4")
    copy(source, tmp_path / "frames")
    assert stamps(tmp_path / "out.mp4") == stamps(source)
    assert len(list((tmp_path / "frames").iterdir())) == COUNT


def test_output_is_not_replaced_unasked(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(OutputError, match="there already") as caught:
        copy(source, tmp_path / "out.mp4")
    assert "--overwrite" in caught.value.hint
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    copy(source, tmp_path / "out.mp4", overwrite=True)
    assert stamps(tmp_path / "out.mp4") == stamps(source)


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    (tmp_path / "link.mp4").symlink_to(source)
    before = source.read_bytes()
    for name in ("in.mp4", "link.mp4"):
        with pytest.raises(OutputError, match="replace the input"):
            copy(source, tmp_path / name, overwrite=True)
    assert source.read_bytes() == before


def test_overwriting_a_folder_spares_what_else_lies_there(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["1.png", "2.png"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="there already"):
        copy(folder, tmp_path / "out")
    copy(folder, tmp_path / "out", overwrite=True)
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["1.png", "2.png", "letter.txt"]


def test_two_runs_cannot_write_one_output(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    with open_source(source) as frames:
        first = open_sink(tmp_path / "out.mp4", frames.info)
        with pytest.raises(OutputError, match="another run"):
            open_sink(tmp_path / "out.mp4", frames.info)
        for frame in frames:
            first.write(frame)
        first.close()
    assert stamps(tmp_path / "out.mp4") == stamps(source)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match="does not exist"):
        copy(source, tmp_path / "nowhere" / "out.mp4")


@pytest.mark.parametrize("name", ["out.xyz", "out.png"])
def test_names_that_cannot_hold_a_video(tmp_path: Path, name: str) -> None:
    source = make(tmp_path / "in.mp4")
    with pytest.raises(UsageError) as caught:
        copy(source, tmp_path / name)
    assert caught.value.hint


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "in.mp4")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with open_source(source) as frames:
        sink = open_sink(tmp_path / "out.mp4", frames.info)
        monkeypatch.setattr(sink_module.VideoWriter, "finish", full)
        with pytest.raises(OutputError, match="disk is full"):
            sink.close()
    assert [each.name for each in tmp_path.iterdir()] == ["in.mp4"]


def test_streams_can_be_left_out(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(audio=[("aac", "eng")]))
    sink = copy(source, tmp_path / "out.mp4", copy_streams=False)
    assert sink.streams_copied == ()
    assert read(tmp_path / "out.mp4")[0].streams == ()


def test_a_frame_of_another_pixel_format_is_converted(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", ["1.png", "2.png"])
    cv2.imwrite(str(folder / "2.png"), picture(1)[:, :, 0])
    copy(folder, tmp_path / "out.mp4")
    assert len(read(tmp_path / "out.mp4")[1]) == 2


def test_interlaced_video_stays_interlaced(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(options={"x264-params": "tff=1"}))
    copy(source, tmp_path / "out.mp4")
    info, frames = read(tmp_path / "out.mp4")
    assert info.field_order == read(source)[0].field_order
    assert all(frame.interlaced for frame in frames)


def test_frames_may_lack_durations(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(ticks=IRREGULAR))
    with open_source(source) as frames, open_sink(tmp_path / "out.mp4", frames.info) as sink:
        for frame in frames:
            sink.write(replace(frame, duration=0))
    assert stamps(tmp_path / "out.mp4") == stamps(source)
