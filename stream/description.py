"""What the headers of a video and its first picture say about it."""

from __future__ import annotations

import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.buffer import Buffer
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from stream.fields import field_order
from stream.hdr import read_hdr10
from stream.pixel_format import nearest_format
from stream.planes import colour_of
from stream.source_info import SourceInfo, StreamInfo


def describe(
    container: InputContainer, stream: VideoStream, first: av.VideoFrame, path: str | Path
) -> SourceInfo:
    """Describe a video by its container, its stream and the first picture that was decoded."""
    time_base = stream.time_base or Fraction(1, 1000)
    rate = next((r for r in (stream.average_rate, stream.guessed_rate) if r and r <= 1000), Fraction(25))
    first_pts = first.pts if first.pts is not None else stream.start_time or 0
    if container.format.name == "avi":
        first_pts = stream.start_time or 0
    duration = _duration(container, stream, first_pts * time_base, time_base)
    frames = stream.frames or (round(duration * rate) if duration is not None else None)
    matrix = cast("Buffer | None", first.side_data.get("DISPLAYMATRIX"))
    aspect = stream.sample_aspect_ratio
    return SourceInfo(
        path=str(path),
        kind="video",
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=first.width,
        height=first.height,
        format=nearest_format(first.format.name),
        coded_format=first.format.name,
        colour=colour_of(first),
        range_tag=int(first.color_range),
        time_base=time_base,
        rate=rate,
        rotation=clockwise(first),
        display_matrix=struct.unpack("=9i", bytes(matrix)) if matrix is not None else None,
        sample_aspect=aspect or None,
        field_order=field_order(int(stream.codec_context.field_order), first),
        first_pts=first_pts,
        duration=duration,
        frames=frames,
        # a header that disagrees with itself, or an edit list that hides pictures, makes its count a guess
        # and AVI counts the gaps between pictures, too
        frames_exact=bool(stream.frames)
        and container.format.name != "avi"
        and duration is not None
        and abs(stream.frames - duration * rate) < 1.5,
        stream=stream.index,
        hdr10=read_hdr10(first),
        streams=tuple(_other(each) for each in container.streams if each.index != stream.index),
        metadata=dict(stream.metadata),
    )


def clockwise(picture: av.VideoFrame) -> int:
    """Degrees clockwise, a multiple of 90, by which a viewer turns the picture."""
    return round(-picture.rotation / 90) % 4 * 90


def _other(stream: av.stream.Stream) -> StreamInfo:
    context = stream.codec_context
    codec = context.codec.canonical_name if context is not None else str(getattr(stream, "name", "") or "")
    kind = "cover" if stream.disposition & Disposition.attached_pic else str(stream.type)
    metadata = stream.metadata
    title = next((metadata[key] for key in ("title", "name", "filename") if metadata.get(key)), "")
    return StreamInfo(stream.index, kind, codec or "unknown", metadata.get("language", ""), title)


def _duration(
    container: InputContainer, stream: VideoStream, first: Fraction, time_base: Fraction
) -> Fraction | None:
    if stream.duration is not None and stream.duration > 0:
        return stream.duration * time_base
    tagged = re.fullmatch(r"(\d+):(\d\d):(\d\d)(\.\d{1,9})?\d*", stream.metadata.get("DURATION", ""))
    if tagged:
        hours, minutes, seconds, part = tagged.groups(default="0")
        # Matroska's tag is the time of the end, not the length
        return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + Fraction(part) - first
    if container.duration:
        return Fraction(container.duration, av.time_base)
    return None
