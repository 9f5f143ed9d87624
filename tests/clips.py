"""Small media files made on the spot, for the tests of what reads and writes files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from stream.sink import Sink, open_sink
from stream.source import SourceInfo, open_source
from stream.types import Frame

WIDTH, HEIGHT, COUNT = 96, 64, 20


def picture(index: int, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> NDArray[np.uint8]:
    """RGB: soft colours with a bright square that moves three pixels a frame."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 200, (6, 8, 3), dtype=np.uint8)
    out = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    x = (8 + 3 * index) % max(1, width - 16)
    out[height // 3 : height // 3 + 16, x : x + 16] = (230, 240, 60)
    return np.asarray(out, np.uint8)


@dataclass(frozen=True)
class Clip:
    """What a clip is like; `ticks` are time stamps in `time_base`."""

    codec: str = "libx264"
    format: str = "yuv420p"
    width: int = WIDTH
    height: int = HEIGHT
    ticks: Sequence[int] = tuple(512 * i for i in range(COUNT))
    time_base: Fraction = Fraction(1, 12800)
    rate: Fraction = Fraction(25)
    rotation: int = 0
    aspect: Fraction | None = None
    colour: tuple[int, int, int, int] = (2, 2, 2, 0)
    options: dict[str, str] = field(default_factory=dict)
    audio: Sequence[tuple[str, str]] = ()
    subtitles: bool = False
    chapters: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    seed: int = 0


def make(path: Path, clip: Clip | None = None) -> Path:
    """Write a clip; `audio` is (codec, language) for each track."""
    clip = clip or Clip()
    muxing = (
        {"video_track_timescale": str(clip.time_base.denominator)} if path.suffix in (".mp4", ".mov") else {}
    )
    with av.open(str(path), "w", options=muxing) as out:
        out.metadata.update(clip.metadata)
        video = out.add_stream(clip.codec, rate=clip.rate, options={"g": "8", **clip.options})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, clip.format
        video.time_base = video.codec_context.time_base = clip.time_base
        context = video.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = clip.colour
        if clip.aspect is not None:
            context.sample_aspect_ratio = clip.aspect
        if clip.rotation:
            video.set_display_rotation(-clip.rotation)
        sounds = [_add_sound(out, codec, language) for codec, language in clip.audio]
        words = (
            out.add_mux_stream("subrip" if path.suffix == ".mkv" else "mov_text") if clip.subtitles else None
        )
        if words is not None:
            words.time_base = Fraction(1, 1000)
            words.metadata["language"] = "fra"
        if clip.chapters:
            out.set_chapters([_chapter(0, 0, 400, "one"), _chapter(1, 400, 800, "two")])
        shown: dict[int, int] = {}
        for number, tick in enumerate(clip.ticks):
            rgb = av.VideoFrame.from_ndarray(picture(number, clip.width, clip.height, clip.seed))
            frame = rgb if clip.format in ("rgb24", "pal8") else rgb.reformat(format=clip.format)
            frame.pts, frame.time_base = tick, clip.time_base
            following = clip.ticks[number + 1] if number + 1 < len(clip.ticks) else tick + 512
            shown[tick] = following - tick
            _mux(out, video.encode(frame), shown)
        _mux(out, video.encode(None), shown)
        seconds = float((clip.ticks[-1] + 1) * clip.time_base + 1 / clip.rate)
        for stream in sounds:
            _sound(out, stream, seconds)
        if words is not None and path.suffix == ".mkv":
            _say(out, words, b"hello", 120, 300)
            _say(out, words, b"world", 500, 200)
    return path


def _mux(out: av.container.OutputContainer, packets: Sequence[av.Packet], shown: dict[int, int]) -> None:
    for packet in packets:
        packet.duration = shown.get(packet.pts or 0, 0)
        out.mux(packet)


def _add_sound(out: av.container.OutputContainer, codec: str, language: str) -> av.AudioStream:
    stream = out.add_stream(codec, rate=48000)
    assert isinstance(stream, av.AudioStream)
    stream.metadata["language"] = language
    return stream


def _sound(out: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = int(seconds * 48000)
    time = np.arange(samples) / 48000
    wave = np.sin(2 * np.pi * 440 * time).astype(np.float32) * 0.3
    size = stream.codec_context.frame_size or 1024
    kind = stream.codec_context.format.name
    for start in range(0, samples, size):
        part = np.stack([wave[start : start + size]] * 2)
        if kind.startswith("s"):
            deep = np.int16 if kind.startswith("s16") else np.int32
            part = (part * np.iinfo(deep).max).astype(deep)
        if not kind.endswith("p"):
            part = np.ascontiguousarray(part.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, format=kind, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _say(
    out: av.container.OutputContainer, stream: av.stream.Stream, text: bytes, start: int, length: int
) -> None:
    packet = av.Packet(text)
    packet.stream = stream
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = start
    packet.duration = length
    out.mux(packet)


def _chapter(number: int, start: int, end: int, title: str) -> dict[str, object]:
    return {
        "id": number,
        "start": start,
        "end": end,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }


def stamps(path: Path) -> list[Fraction]:
    """The presentation times of a file's pictures, in order, by its packets."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [each.pts * each.time_base for each in container.demux(stream) if each.pts is not None]
    return sorted(times)


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction, bytes]]:
    """Times and bytes of one stream's packets."""
    with av.open(str(path)) as container:
        stream = [each for each in container.streams if each.type == kind][number]
        return [
            ((each.pts or 0) * each.time_base, bytes(each))
            for each in container.demux(stream)
            if each.dts is not None
        ]


def copy(
    source: Path, output: Path, *, start: Fraction | None = None, end: Fraction | None = None, **options: Any
) -> Sink:
    """Read a file and write it again, unchanged."""
    with (
        open_source(source, start=start, end=end) as frames,
        open_sink(output, frames.info, **options) as sink,
    ):
        for frame in frames:
            sink.write(frame)
    return sink


def read(path: Path) -> tuple[SourceInfo, list[Frame]]:
    """What a file says of itself, and its frames."""
    with open_source(path) as source:
        return source.info, list(source)
