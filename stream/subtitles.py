"""Text subtitles from one container's form into another's: mov_text, SubRip, WebVTT, ASS."""

from __future__ import annotations

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext

_TEXT = frozenset({"ass", "mov_text", "ssa", "srt", "subrip", "text", "webvtt"})
_FORM: dict[str, str] = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}


def text_form(stream: Stream, container: str) -> str | None:
    """The codec in which a container takes this stream's text, None where it is no text or takes none."""
    context = stream.codec_context
    if not isinstance(context, SubtitleCodecContext) or context.codec.canonical_name not in _TEXT:
        return None
    try:
        context.open(strict=False)
    except av.FFmpegError:
        return None
    return _FORM.get(container) if context.subtitle_header else None


def add_text(output: OutputContainer, stream: Stream, codec: str) -> Stream:
    """Give the output a stream of another text form; its packets come from `convert`."""
    reader = stream.codec_context
    assert isinstance(reader, SubtitleCodecContext)
    added = output.add_stream(codec)
    assert isinstance(added.codec_context, SubtitleCodecContext)
    added.codec_context.subtitle_header = reader.subtitle_header
    return added


def convert(packet: Packet[Stream], target: Stream) -> Packet[Stream] | None:
    """A packet's text in the form of the target stream; None for one without text, such as MP4's gaps."""
    reader, writer = packet.stream.codec_context, target.codec_context
    assert isinstance(reader, SubtitleCodecContext)
    assert isinstance(writer, SubtitleCodecContext)
    try:
        read = reader.decode2(packet)
        if read is None or not len(read):
            return None
        written = writer.encode_subtitle(read)
    except av.FFmpegError:
        return None
    if not written.size:
        return None
    written.time_base = packet.time_base
    written.pts, written.dts, written.duration = packet.pts, packet.pts, packet.duration
    return written
