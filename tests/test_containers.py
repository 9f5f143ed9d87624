from __future__ import annotations

import io
import os
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Clip, copy, make, packets, picture, read, stamps
from numpy.typing import NDArray

from stream.encoders import choose_encoding
from stream.errors import InputError
from stream.job import Job, clean
from stream.report import open_provenance
from stream.sink import open_sink
from stream.source import open_source
from stream.types import Filled

os.environ.setdefault("SVT_LOG", "1")

FEW = tuple(512 * i for i in range(6))
_DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR10 = Clip(
    codec="libx265",
    format="yuv420p10le",
    colour=(9, 16, 9, 1),
    ticks=FEW,
    options={"x265-params": f"log-level=none:master-display={_DISPLAY}:max-cll=1000,400"},
)


def side_data(path: Path, kind: str) -> bytes:
    with av.open(str(path)) as container:
        found = next(container.decode(video=0)).side_data.get(kind)
        return b"" if found is None else bytes(found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("suffix", "lossless"),
    [(".mp4", False), (".mov", False), (".mkv", False), (".mkv", True), (".mp4", True)],
)
def test_hdr10_says_for_which_display_it_was_graded(tmp_path: Path, suffix: str, lossless: bool) -> None:
    source = make(tmp_path / f"in{suffix}", HDR10)
    sink = copy(source, tmp_path / f"out{suffix}", lossless=lossless)
    for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        assert side_data(source, kind)
        assert side_data(tmp_path / f"out{suffix}", kind) == side_data(source, kind)
    before, frames = read(source)
    after, written = read(tmp_path / f"out{suffix}")
    assert (after.colour, after.format, after.hdr10) == (before.colour, before.format, before.hdr10)
    assert sink.warnings == ()
    if lossless:
        for one, two in zip(frames, written, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one.planes, two.planes, strict=True))


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".mp4"])
def test_hdr10_goes_on_in_av1(tmp_path: Path, suffix: str) -> None:
    display = "G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.005)"
    params = {"svtav1-params": f"mastering-display={display}:content-light=1000,400"}
    source = make(tmp_path / "in.mkv", replace(HDR10, codec="libsvtav1", options={"preset": "10", **params}))
    sink = copy(source, tmp_path / f"out{suffix}")
    one = read(source)[0].hdr10
    assert one is not None and one.light == (1000, 400) and one.mastering is not None
    assert abs(one.mastering.brightest - 1000) < 1
    assert read(tmp_path / f"out{suffix}")[0].hdr10 == one
    assert not any("HDR10" in each for each in sink.warnings)


def test_an_encoder_that_cannot_keep_hdr10_says_so(tmp_path: Path) -> None:
    info = read(make(tmp_path / "in.mp4", HDR10))[0]
    encoding = choose_encoding(replace(info, format="yuv444p16le"), "matroska", lossless=True)
    assert encoding.encoder == "ffv1"
    assert any("HDR10" in each for each in encoding.warnings)


@pytest.mark.parametrize(
    "colour",
    [(1, 1, 1, 1), (6, 6, 6, 1), (9, 18, 9, 1), (1, 1, 1, 2)],
    ids=["709", "601", "HLG", "full range"],
)
@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_colour_tags_are_kept(tmp_path: Path, suffix: str, colour: tuple[int, int, int, int]) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    source = make(tmp_path / f"in{suffix}", Clip(codec=codec, colour=colour, ticks=FEW))
    copy(source, tmp_path / f"out{suffix}")
    before, after = read(source)[0], read(tmp_path / f"out{suffix}")[0]
    assert before.colour.matrix == colour[2] and before.range_tag == colour[3]
    assert (after.colour, after.range_tag, after.codec) == (before.colour, before.range_tag, before.codec)


def _clear_clip(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx-vp9", rate=25, options={"auto-alt-ref": "0", "deadline": "realtime"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuva420p"
        for number in range(6):
            rgba = np.dstack([picture(number), np.full((64, 96), 255, np.uint8)])
            rgba[:, 48:, 3] = 40 * number
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_transparency_of_vp9_is_read_and_written(tmp_path: Path, suffix: str) -> None:
    source = _clear_clip(tmp_path / f"in{suffix}")
    sink = copy(source, tmp_path / f"out{suffix}")
    before, after = read(source)[1], read(tmp_path / f"out{suffix}")[1]
    assert sink.warnings == ()
    for number, (one, two) in enumerate(zip(before, after, strict=True)):
        assert one.format == two.format == "yuva420p"
        alpha = np.asarray(two.planes[3]).astype(float)
        assert alpha[:, :44].mean() > 250 and abs(alpha[:, 52:].mean() - 40 * number) < 6
    cut = tmp_path / f"cut{suffix}"
    copy(source, cut, start=Fraction(2, 25), end=Fraction(4, 25))
    assert [np.asarray(f.planes[3])[:, 52:].mean().round(-1) for f in read(cut)[1]] == [80, 120]


def test_ten_bits_of_vp9_become_av1_where_the_encoder_has_only_eight(tmp_path: Path) -> None:
    info = read(make(tmp_path / "in.webm", Clip(codec="libvpx-vp9", ticks=FEW)))[0]
    deep = replace(info, format="yuv420p10le")
    offered = [each.name for each in av.Codec("libvpx-vp9", "w").video_formats or []]
    for container in ("mp4", "matroska", "webm"):
        encoding = choose_encoding(deep, container)
        assert encoding.format == "yuv420p10le"
        if "yuv420p10le" not in offered:
            assert encoding.encoder == "libsvtav1"
            assert any("written as av1" in each for each in encoding.warnings)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libvpx-vp9", ".webm"), ("libvpx-vp9", ".mkv"), ("ffv1", ".mkv"), ("libx264", ".mkv")],
)
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(16, 11), Fraction(8, 9)])
def test_the_shape_of_the_pixels_is_kept_in_matroska(
    tmp_path: Path, codec: str, suffix: str, aspect: Fraction
) -> None:
    # FFmpeg's own container header forgot it: anamorphic FFV1 and VP9 came out squeezed
    source = make(tmp_path / "in.mp4", Clip(aspect=aspect, audio=[("libopus", "eng")]))
    mkv = tmp_path / f"in{suffix}"
    clip = Clip(
        codec=codec, aspect=aspect, audio=[("libopus", "eng")], chapters=True, metadata={"title": "A"}
    )
    source = source if codec == "libx264" else make(mkv, clip)
    info = replace(open_source(source).info, sample_aspect=aspect)
    output = tmp_path / f"out{suffix}"
    with open_source(source) as frames, open_sink(output, info) as sink:
        for frame in frames:
            sink.write(frame)
    with av.open(str(output)) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect
        assert container.format.name == "matroska,webm"
        # what follows the header is still found: the table of contents, the index, every packet
        container.seek(400_000)
        assert next(container.decode(video=0)).time <= Fraction(2, 5)
    assert len(read(output)[1]) == 20
    assert packets(output, "audio") == packets(source, "audio") or codec == "libx264"
    assert not any("aspect" in each for each in sink.warnings)


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_order_of_fields_is_kept(tmp_path: Path, suffix: str, order: str) -> None:
    source = _interlaced(tmp_path / f"in{suffix}", order)
    sink = copy(source, tmp_path / f"out{suffix}")
    before, after = read(source)[0], read(tmp_path / f"out{suffix}")[0]
    assert _orders(source) == _orders(tmp_path / f"out{suffix}") == {order}
    assert (before.field_order in (2, 4)) == (after.field_order in (2, 4)) == (order == "tff")
    assert any("--deinterlace" in each for each in before.warnings)
    assert sink.warnings == ()


def _interlaced(path: Path, order: str) -> Path:
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=96, height=64, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 25)),
        graph.add("setfield", order),
        graph.add("buffersink"),
    ).configure()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"x264-params": f"{order}=1", "g": "8"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(picture(number)).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            graph.push(frame)
            out.mux(stream.encode(graph.pull()))  # type: ignore[arg-type]
        out.mux(stream.encode(None))
    return path


def _orders(path: Path) -> set[str]:
    """The field orders of a file's pictures, by FFmpeg's own filter."""
    found = set()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            for name, told in (("TOPFIRST", "tff"), ("BOTTOMFIRST", "bff"), ("PROGRESSIVE", "progressive")):
                graph = av.filter.Graph()
                graph.link_nodes(
                    graph.add_buffer(template=container.streams.video[0]),
                    graph.add("select", f"eq(interlace_type\\,{name})"),
                    graph.add("buffersink"),
                ).configure()
                graph.push(frame)
                graph.push(None)
                try:
                    graph.pull()
                    found.add(told)
                except (av.BlockingIOError, av.EOFError):
                    pass
    return found


def test_interlaced_pictures_of_other_families_become_h264_and_stay_interlaced(tmp_path: Path) -> None:
    info = read(_interlaced(tmp_path / "in.mkv", "bff"))[0]
    encoding = choose_encoding(replace(info, codec="hevc"), "mp4")
    assert encoding.encoder == "libx264" and encoding.options["x264-params"] == "bff=1"
    encoding = choose_encoding(info, "webm")
    assert any("as progressive" in each for each in encoding.warnings)


def test_old_families_go_on_in_their_own_container(tmp_path: Path) -> None:
    clip = Clip(codec="mpeg4", time_base=Fraction(1, 25), ticks=tuple(range(8)), options={"q": "3"})
    source = make(tmp_path / "in.avi", replace(clip, audio=[("libmp3lame", "eng")]))
    sink = copy(source, tmp_path / "out.avi")
    before, frames = read(source)
    after, written = read(tmp_path / "out.avi")
    assert before.codec == after.codec == "mpeg4"
    assert [f.time for f in written] == [f.time for f in frames]
    assert not any("written as" in each or "grid" in each for each in sink.warnings)


SRT = ((b"Hello <i>there</i>", 120, 200), ("Grüße,\nWelt".encode(), 500, 200))


def _with_words(path: Path, codec: str = "subrip") -> Path:
    """A clip with two lines of subtitles, times in milliseconds."""
    plain = make(path.with_name(f"plain{path.suffix}"))
    with av.open(str(plain)) as before, av.open(str(path), "w") as after:
        video = after.add_stream_from_template(before.streams.video[0], opaque=True)
        words = after.add_mux_stream(codec)
        words.time_base = Fraction(1, 1000)
        words.metadata["language"] = "deu"
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = video
                after.mux(packet)
        for text, start, length in SRT:
            line = av.Packet(text)
            line.stream, line.time_base = words, Fraction(1, 1000)
            line.pts = line.dts = start
            line.duration = length
            after.mux(line)
    return path


def _words(path: Path) -> list[tuple[int, int, str]]:
    """Start and length in milliseconds, and the text with its marks, of a file's subtitles."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            if not packet.size:
                continue
            for line in packet.decode():
                text = line.ass.decode().split(",", 8)[-1]  # type: ignore[union-attr]
                tb = 1000 * packet.time_base
                found.append((round((packet.pts or 0) * tb), round((packet.duration or 0) * tb), text))
    return [each for each in found if each[2]]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mov_text"), (".mov", "mov_text"), (".webm", "webvtt")]
)
def test_text_subtitles_change_their_form_with_the_container(tmp_path: Path, suffix: str, codec: str) -> None:
    source = _with_words(tmp_path / "in.mkv")
    sink = copy(source, tmp_path / f"out{suffix}")
    assert any(f"converted to {codec}" in each for each in sink.warnings)
    info = read(tmp_path / f"out{suffix}")[0]
    assert [(each.kind, each.codec) for each in info.streams] == [("subtitle", codec)]
    assert info.streams[0].language in ("deu", "ger")
    lines = _words(tmp_path / f"out{suffix}")
    assert [each[:2] for each in lines] == [(120, 200), (500, 200)]
    assert lines[0][2].replace("{\\i1}", "").replace("{\\i0}", "").startswith("Hello there")
    assert lines[1][2] == "Grüße,\\NWelt"
    copy(tmp_path / f"out{suffix}", tmp_path / "back.mkv")
    assert _words(tmp_path / "back.mkv") == _words(source)


def test_a_cut_shortens_the_subtitles_that_cross_it(tmp_path: Path) -> None:
    source = _with_words(tmp_path / "in.mkv")
    copy(source, tmp_path / "out.mkv", start=Fraction(2, 10), end=Fraction(6, 10))
    assert [each[:2] for each in _words(tmp_path / "out.mkv")] == [(0, 120), (300, 100)]


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".avi"])
def test_pcm_is_cut_to_the_sample(tmp_path: Path, suffix: str) -> None:
    clip = Clip(audio=[("pcm_s16le", "eng")])
    if suffix == ".avi":
        clip = replace(clip, time_base=Fraction(1, 25), ticks=tuple(range(20)), options={"bf": "0"})
    source = make(tmp_path / f"in{suffix}", clip)
    copy(source, tmp_path / f"out{suffix}", start=Fraction(20, 100), end=Fraction(531, 1000))
    whole, part = _heard(source), _heard(tmp_path / f"out{suffix}")
    # the tick in which a container counts is the limit: a thousandth of a second in Matroska
    slack = 48 if suffix == ".mkv" else 1
    assert abs(len(part) - (0.331 * 48000)) <= slack
    lags = range(-slack, slack + 1)
    assert any(np.array_equal(part, whole[9600 + lag : 9600 + lag + len(part)]) for lag in lags)


def _heard(path: Path) -> NDArray[np.int16]:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0, ::2] for frame in container.decode(audio=0)])


@pytest.mark.parametrize("codec", ["aac", "libopus", "libmp3lame"])
def test_compressed_sound_begins_exactly_with_the_cut_in_mp4(tmp_path: Path, codec: str) -> None:
    source = make(tmp_path / "in.mp4", Clip(audio=[(codec, "eng")]))
    copy(source, tmp_path / "out.mp4", start=Fraction(31, 100), end=Fraction(7, 10))
    whole, part = _samples(source), _samples(tmp_path / "out.mp4")
    wanted = {index - 14880: value for index, value in whole.items()}
    common = sorted(set(wanted) & set(part))
    assert min(part) == 0, "what the decoder needs before the cut is hidden, not heard"
    assert abs(len(part) - 0.39 * 48000) <= 1152
    after = [index for index in common if index < 0.38 * 48000]
    assert np.abs([wanted[i] - part[i] for i in after]).max() < 0.01


def _samples(path: Path) -> dict[int, float]:
    """The first channel by the number of the sample on the file's clock."""
    found: dict[int, float] = {}
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            begin = round((frame.pts or 0) * frame.time_base * 48000)
            values = frame.to_ndarray()[0].astype(float)
            found.update(enumerate(values.tolist(), begin))
    return found


def test_compressed_sound_of_a_cut_keeps_its_place_in_matroska(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mkv", Clip(audio=[("libopus", "eng")]))
    copy(source, tmp_path / "out.mkv", start=Fraction(31, 100))
    before = dict(packets(source, "audio"))
    sound = packets(tmp_path / "out.mkv", "audio")
    assert sound and all(before[time + Fraction(31, 100)] == data for time, data in sound)
    assert 0 <= sound[0][0] <= Fraction(21, 1000)


def test_quicktime_gets_the_code_of_a_language_that_it_knows(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(audio=[("aac", "deu"), ("aac", "swe"), ("aac", "hrv")]))
    sink = copy(source, tmp_path / "out.mov")
    assert [each.language for each in read(tmp_path / "out.mov")[0].streams][:2] == ["ger", "sve"]
    assert [each for each in sink.warnings if "language" in each] == [
        "mov does not hold the language hrv of audio #3 aac (hrv)"
    ]


def test_titles_and_marks_of_tracks_outlive_two_copies(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mkv", Clip(ticks=FEW, audio=[("aac", "eng"), ("aac", "deu")]))
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as before, av.open(str(source), "w") as after:
        streams = {each.index: after.add_stream_from_template(each, opaque=True) for each in before.streams}
        streams[2].metadata["title"] = "Aside"
        streams[2].disposition = av.stream.Disposition.comment
        for packet in before.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    copy(source, tmp_path / "once.mp4")
    copy(tmp_path / "once.mp4", tmp_path / "twice.mp4")
    copy(tmp_path / "twice.mp4", tmp_path / "back.mkv")
    for name in ("once.mp4", "twice.mp4", "back.mkv"):
        assert read(tmp_path / name)[0].streams[1].title == "Aside", name
        with av.open(str(tmp_path / name)) as container:
            assert container.streams[2].disposition & av.stream.Disposition.comment, name
    sink = copy(source, tmp_path / "out.mov")
    assert any("the mark comment of audio #2" in each for each in sink.warnings)


def test_all_that_avi_cannot_hold_is_said_before_the_first_frame(tmp_path: Path) -> None:
    irregular = (0, 700, 1024, 2100, 2150, 4000)
    clip = Clip(
        ticks=irregular, audio=[("libopus", "eng")], chapters=True, metadata={"title": "A", "mood": "B"}
    )
    source = make(tmp_path / "in.mkv", replace(clip, rotation=90))
    with open_source(source) as frames:
        sink = open_sink(tmp_path / "out.avi", frames.info)
        said = " / ".join(sink.warnings)
        sink.abandon()
    for word in ("one frame rate", "opus", "2 chapters", "mood", "turned by 90"):
        assert word.lower() in said.lower(), word
    assert "title" not in said
    regular = make(tmp_path / "regular.mp4")
    with open_source(regular) as frames:
        sink = open_sink(tmp_path / "out.avi", frames.info)
        assert sink.warnings == ()
        sink.abandon()


def test_avi_plays_sound_with_its_picture_after_a_cut(tmp_path: Path) -> None:
    # the first picture after 0.31 s is that of 0.32 s, and AVI shows it at 0: so must the sound
    clip = Clip(time_base=Fraction(1, 25), ticks=tuple(range(20)), options={"bf": "0"})
    source = make(tmp_path / "in.avi", replace(clip, audio=[("pcm_s16le", "eng")]))
    copy(source, tmp_path / "out.avi", start=Fraction(31, 100))
    whole, part = _heard(source), _heard(tmp_path / "out.avi")
    assert np.array_equal(part, whole[15360 : 15360 + len(part)])


def test_a_run_says_what_is_lost_before_it_begins(tmp_path: Path) -> None:
    from configs.schema import load_config

    source = make(tmp_path / "in.mp4", Clip(ticks=FEW, audio=[("aac", "eng")]))
    (tmp_path / "masks").mkdir()
    import cv2

    for number in range(len(FEW)):
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.zeros((64, 96), np.uint8))
    order: list[str] = []
    clean(
        source,
        tmp_path / "out.gif",
        load_config("tourist", None, {"engine.name": "none"}),
        job=Job(masks=tmp_path / "masks"),
        on_start=lambda said: order.extend(said),
        on_progress=lambda done: order.append(f"frame {done.frames}"),
    )
    first = order.index("frame 1")
    assert any("aac" in each for each in order[:first]) and any(
        "256 colours" in each for each in order[:first]
    )
    assert len(order) - first == len(FEW)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_edit_list_hides_what_it_hid(tmp_path: Path, suffix: str) -> None:
    # as a phone's trimmed clip: the pictures before 0 are there to be decoded, not shown
    plain = make(tmp_path / f"plain{suffix}", Clip(audio=[("aac", "eng")]))
    source = tmp_path / f"in{suffix}"
    with av.open(str(plain)) as before, av.open(str(source), "w") as after:
        streams = {each.index: after.add_stream_from_template(each, opaque=True) for each in before.streams}
        for packet in before.demux():
            if packet.dts is None or packet.pts is None:
                continue
            late = round(Fraction(3, 25) / packet.time_base)
            packet.pts, packet.dts = packet.pts - late, packet.dts - late
            packet.stream = streams[packet.stream.index]
            after.mux(packet)
    frames = read(source)[1]
    copy(source, tmp_path / f"out{suffix}")
    written = read(tmp_path / f"out{suffix}")[1]
    assert len(frames) == 17 and frames[0].time == 0
    assert [f.time for f in written] == [f.time for f in frames]
    assert _samples(tmp_path / f"out{suffix}").keys() == _samples(source).keys()


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_open_groups_of_pictures(tmp_path: Path, codec: str) -> None:
    key = "x264-params" if codec == "libx264" else "x265-params"
    entries = "open-gop=1:keyint=6:min-keyint=6:bframes=3:b-adapt=0:scenecut=0"
    entries += ":log-level=none" if codec == "libx265" else ""
    source = make(tmp_path / "in.mp4", Clip(codec=codec, options={key: entries}))
    copy(source, tmp_path / "out.mp4")
    assert stamps(tmp_path / "out.mp4") == stamps(source)
    before, after = read(source)[1], read(tmp_path / "out.mp4")[1]
    assert len(before) == 20 and [f.time for f in before] == [f.time for f in after]
    # a cut that begins among the pictures which lean on the group before
    copy(source, tmp_path / "cut.mp4", start=Fraction(9, 25), end=Fraction(14, 25))
    for one, two in zip(before[9:14], read(tmp_path / "cut.mp4")[1], strict=True):
        assert np.abs(one.rgb.astype(float) - two.rgb).mean() < 4


def test_a_length_that_nobody_knows(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with (
        av.open(str(make(tmp_path / "plain.mkv", Clip(audio=[("libopus", "eng")])))) as before,
        av.open(pipe, "w", format="matroska") as after,
    ):
        streams = {each.index: after.add_stream_from_template(each, opaque=True) for each in before.streams}
        for packet in before.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    source = tmp_path / "in.mkv"
    source.write_bytes(pipe.data)
    assert read(source)[0].duration is None
    copy(source, tmp_path / "out.mkv")
    assert stamps(tmp_path / "out.mkv") == stamps(source)
    assert packets(tmp_path / "out.mkv", "audio") == packets(source, "audio")


def test_a_file_without_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as out:
        stream = out.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = 96, 64
        out.start_encoding()
    with pytest.raises(InputError):
        open_source(path)


def test_a_header_without_room_is_left_alone(tmp_path: Path) -> None:
    from stream.matroska import write_sample_aspect

    path = tmp_path / "x.mkv"
    for data in (b"", b"\x1a\x45\xdf\xa3\x80", struct.pack(">IB", 0x18538067, 0xFF), bytes(100)):
        path.write_bytes(data)
        assert not write_sample_aspect(path, Fraction(4, 3))
        assert path.read_bytes() == data


@pytest.mark.parametrize(
    "aspect", [Fraction(1, 65535), Fraction(2**31 - 1, 3), Fraction(2**31 - 1, 2**31 - 3)]
)
def test_absurd_shapes_of_pixels_do_no_harm(tmp_path: Path, aspect: Fraction) -> None:
    source = make(tmp_path / "in.webm", Clip(codec="libvpx-vp9", ticks=FEW))
    with open_source(source) as frames:
        info = replace(frames.info, sample_aspect=aspect)
        with open_sink(tmp_path / "out.webm", info) as sink:
            for frame in frames:
                sink.write(frame)
    assert len(read(tmp_path / "out.webm")[1]) == len(FEW)


def test_provenance_of_an_hdr_video_is_plain_grey(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", HDR10)
    with open_source(source) as frames, open_provenance(tmp_path / "seen.mkv", frames.info) as provenance:
        for frame in frames:
            provenance.write(Filled(frame, np.zeros((0, 0), np.uint8), None, (), (), frame))
    info, written = read(tmp_path / "seen.mkv")
    assert (info.codec, info.format, info.hdr10, len(written)) == ("ffv1", "gray", None, len(FEW))
