"""One video stream decoded: every picture that can be had, with the stream's own time stamps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from stream.container import check_count, check_size, open_container
from stream.description import describe
from stream.errors import InputError, UsageError
from stream.fields import progressive
from stream.hdr import lost_side_data
from stream.planes import from_video_frame
from stream.source_info import SourceInfo
from stream.timeline import Clock, Damage
from stream.types import Frame


@dataclass(frozen=True)
class Opened:
    """What a reader hands to `Source`."""

    info: SourceInfo
    frames: Generator[Frame, None, None]
    warnings: list[str]
    close: Callable[[], None]
    damaged: Callable[[], bool] = bool


def open_video(
    path: str | Path, *, start: Fraction | None, end: Fraction | None, deinterlace: bool
) -> Opened:
    """Open the best video stream of a file or address and decode its first picture.

    Raises InputError when there is no video stream, no picture, or one of absurd size; UsageError when no
    picture lies between `start` and `end`.
    """
    for seek in (True, False):
        container = open_container(path)
        opened = None
        try:
            opened = _opened(container, path, start, end, deinterlace, seek)
        finally:
            if opened is None:
                container.close()
        if opened is not None:
            return opened
    raise InputError("its pictures cannot be found", where=str(path))


def is_regular(info: SourceInfo) -> bool:
    """Whether the pictures of a file lie one frame apart, by reading it once; True if it cannot be read."""
    if info.container == "avi" or ("://" in info.path and not info.path.startswith("file://")):
        return True
    with open_container(info.path if "://" in info.path else Path(info.path)) as container:
        stream = container.streams[info.stream]
        try:
            stamps = [each.pts for each in container.demux(stream) if each.pts is not None]
        except (av.FFmpegError, OSError):
            return True
    step = 1 / (info.rate * info.time_base)
    first = min(stamps, default=0)
    return all(abs(stamp - first - number * step) <= 1 for number, stamp in enumerate(sorted(stamps)))


def _opened(
    container: InputContainer,
    path: str | Path,
    start: Fraction | None,
    end: Fraction | None,
    deinterlace: bool,
    seek: bool,
) -> Opened | None:
    """None: seeking to the start of the cut failed, so the container must be read from its beginning."""
    stream = _pick(container, str(path))
    check_count(stream.frames, path)
    warnings: list[str] = []
    damage = Damage(warnings)
    decoder = _decoder(stream)
    pictures = _decode(container, stream, decoder, damage)
    first = next(pictures, None)
    if first is None:
        raise InputError("no picture in it could be decoded", where=str(path))
    check_size(first.width, first.height, str(path))
    info = describe(container, stream, first, path)
    whole = info.duration if stream.duration or "DURATION" in stream.metadata else None
    info = _cut(_with_warnings(info, first, deinterlace), start, end)
    remaining: Iterator[av.VideoFrame] = chain([first], pictures)
    if start and seek and info.container != "avi":
        found = _from(container, stream, decoder, damage, info)
        if found is None:
            return None
        remaining = found
    if deinterlace:
        remaining = progressive(remaining, stream)
        info = replace(info, field_order=1)
    frames = _frames(remaining, info, whole, damage, warnings)
    if start or end is not None:
        # found now, so that a time outside the video is an error before anything is written
        shown = next(frames, None)
        if shown is None:
            raise UsageError(f"no picture is shown from {float(start or 0):g} s on", where=str(path))
        info = replace(info, shown_from=shown.time - info.first_pts * info.time_base)
        frames = _put_back(shown, frames)
    return Opened(info, frames, warnings, container.close, lambda: damage.found)


def _pick(container: InputContainer, where: str) -> VideoStream:
    stream = container.streams.best("video")
    # cover art is a video stream of one picture to FFmpeg, and its "tty" demuxer draws any text file
    if (
        not isinstance(stream, VideoStream)
        or stream.disposition & Disposition.attached_pic
        or container.format.name == "tty"
    ):
        kinds = ", ".join(sorted({str(each.type) for each in container.streams} - {"video"}))
        raise InputError(f"there is no video in it{', only ' + kinds if kinds else ''}", where=where)
    if stream.codec_context is None:
        raise InputError("there is no decoder for its video", where=where)
    check_size(stream.codec_context.width, stream.codec_context.height, where)
    stream.thread_type = "AUTO"
    return stream


def _decoder(stream: VideoStream) -> VideoCodecContext:
    own = stream.codec_context
    if own.name not in ("vp8", "vp9") or not _is_clear(stream.metadata):
        return own
    # FFmpeg's own decoders pass over the transparency, which is a second video beside the first
    try:
        clear = av.CodecContext.create("libvpx-vp9" if own.name == "vp9" else "libvpx", "r")
    except (av.FFmpegError, ValueError):
        return own
    assert isinstance(clear, VideoCodecContext)
    clear.color_primaries, clear.color_trc = own.color_primaries, own.color_trc
    clear.colorspace, clear.color_range = own.colorspace, own.color_range
    return clear


def _is_clear(metadata: dict[str, str]) -> bool:
    return any(key.lower() == "alpha_mode" and value == "1" for key, value in metadata.items())


def _decode(
    container: InputContainer, stream: VideoStream, decoder: VideoCodecContext, damage: Damage
) -> Generator[av.VideoFrame, None, None]:
    """Every picture that comes out, whatever lies between; damage is told to `damage`."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            damage.stopped(getattr(error, "strerror", None) or str(error))
            packet = None
        try:
            # None flushes the decoder; the demuxer's own last packet has done so unless reading failed
            pictures = decoder.decode(packet)
        except av.EOFError:
            return
        except (av.FFmpegError, OSError):
            damage.broken()
            pictures = []
        for picture in pictures:
            damage.passed(picture)
            yield picture
        if packet is None:
            return


def _frames(
    pictures: Iterator[av.VideoFrame],
    info: SourceInfo,
    whole: Fraction | None,
    damage: Damage,
    warnings: list[str],
) -> Generator[Frame, None, None]:
    tb, step = info.time_base, 1 / info.rate
    origin = info.first_pts * tb
    low = origin + (info.start or 0)
    high = None if info.end is None else origin + info.end
    clock = Clock(tb, round(step / tb), info.first_pts, warnings, counted=info.container == "avi")
    index, reached, warned = 0, origin, False
    for picture in pictures:
        pts = clock.stamp(picture)
        if info.start and pts * tb < low:
            continue
        if high is not None and pts * tb >= high:
            return
        look = (picture.width, picture.height, picture.format.name)
        if look != (info.width, info.height, info.coded_format):
            if not warned:
                warned = True
                what = f"{look[0]} x {look[1]} {look[2]}"
                at = float(pts * tb - origin)
                warnings.append(f"from {at:.2f} s on pictures are {what} and were fitted to the first")
            picture = picture.reformat(info.width, info.height, info.format, interpolation="BICUBIC")
        duration = picture.duration or 0
        reached = pts * tb + (duration * tb or step)
        yield from_video_frame(
            picture, index=index, pts=pts, time_base=tb, rotation=info.rotation, duration=duration
        )
        index += 1
    expected = None if high is not None else whole
    damage.finished(expected, reached - origin, max(Fraction(1, 10), 3 * step))


def _from(
    container: InputContainer,
    stream: VideoStream,
    decoder: VideoCodecContext,
    damage: Damage,
    info: SourceInfo,
) -> Iterator[av.VideoFrame] | None:
    """Pictures from the key frame before the start of the cut; None where the container cannot find it."""
    depth = stream.codec_context.reorder_depth
    target = info.first_pts + int((info.start or 0) / info.time_base)
    try:
        container.seek(target, stream=stream)
    except (av.FFmpegError, OSError):
        return None
    # a flushed decoder forgets how far pictures may be out of order, and would drop some
    stream.codec_context.reorder_depth = depth
    if decoder is not stream.codec_context:
        decoder.flush_buffers()
    pictures = _decode(container, stream, decoder, damage)
    landed = next(pictures, None)
    if landed is None or landed.pts is None or landed.pts > target:
        return None
    return chain([landed], pictures)


def _put_back(first: Frame, rest: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
    yield first
    yield from rest


def _cut(info: SourceInfo, start: Fraction | None, end: Fraction | None) -> SourceInfo:
    if not start and end is None:
        return info
    duration, frames = info.duration, info.frames
    until = end if duration is None else min(duration, end if end is not None else duration)
    if until is not None:
        duration = max(until - (start or 0), Fraction(0))
        # the last tick before the end still counts, so a part of a frame is a frame
        frames = -(-duration * info.rate // 1)
    return replace(info, start=start or None, end=end, duration=duration, frames=frames, frames_exact=False)


def _with_warnings(info: SourceInfo, first: av.VideoFrame, deinterlace: bool) -> SourceInfo:
    told = lost_side_data(first)
    if info.field_order > 1 and not deinterlace:
        told.append("the video is interlaced and stays so; --deinterlace makes it progressive")
    if info.format != info.coded_format:
        told.append(f"pixel format {info.coded_format} is handled as {info.format}")
    if _is_clear(info.metadata) and not info.format.startswith("yuva"):
        told.append("the video's transparency is not read")
    return replace(info, warnings=tuple(told))
