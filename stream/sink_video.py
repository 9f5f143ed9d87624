"""Frames encoded into a container, with the input's other streams beside them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec.context import Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from stream.encoders import FIELD_ENCODERS, Encoding
from stream.fields import FieldMarker
from stream.gif import Palette, to_palette
from stream.journal import Journal, decoding_times, journal_of
from stream.matroska import write_sample_aspect
from stream.planes import to_video_frame
from stream.remux import Copier, needs_free_tags
from stream.source_info import SourceInfo
from stream.source_video import is_regular
from stream.types import Frame
from stream.untouched import Group, Untouched, Waiting, rank_of, shown_for

_BT601, _BT709 = 6, 1
_SWSCALE = av.video.reformatter.Interpolation
_CAREFUL = int(_SWSCALE.BICUBIC | _SWSCALE.ACCURATE_RND | _SWSCALE.FULL_CHR_H_INT | _SWSCALE.FULL_CHR_H_INP)
_RIFF_TAGS = "artist author comment copyright date genre language title album track encoded_by timecode"
_TAGS: dict[str, set[str]] = {"gif": {"comment"}, "avi": set(_RIFF_TAGS.split())}
_UNSEEN = {"handler_name", "vendor_id"}
"""Tags that say nothing to a viewer."""
_ROTATES = ("mp4", "mov", "matroska", "webm")


class VideoWriter:
    """Writes one file under a given name; `warnings` says what does not fit into it.

    Pictures are encoded into a journal beside the file, and put into the container when the last one is
    there. `keep`: how many bytes of an earlier run's journal are good. `untouched`: copies what was not
    changed; it is closed with the writer.
    """

    def __init__(
        self,
        path: Path,
        container: str,
        info: SourceInfo,
        encoding: Encoding,
        copier: Copier,
        keep: int = 0,
        untouched: Untouched | None = None,
    ) -> None:
        self._path = path
        self._untouched = untouched
        self._info = info
        self._container = container
        self._encoding = encoding
        self._copier = copier
        self._shown_for = Fraction(0)
        self._palette: Palette | None = None
        self._shift = info.shift(container)
        self._fields = FieldMarker(info.field_order) if info.field_order > 1 else None
        self.warnings = [*encoding.warnings, *self._losses()]
        self._time_base = self._grid()
        if encoding.encoder == "libsvtav1":
            # it writes to the terminal unless told so here, and nowhere else
            os.environ.setdefault("SVT_LOG", "1")
        self._output = av.open(f"file:{path}", "w", format=container, options=self._muxing())
        self._stream = self._add_streams()
        if untouched is not None:
            _add_headers(self._stream.codec_context, untouched)
        self._output.start_encoding()
        # The stream's own encoder only tells the container what comes: each part has one that ends with it.
        self._encoder: VideoCodecContext | None = None
        self._journal = Journal(journal_of(path), keep)
        self._last: int | None = int(self._journal.timing().pts.max()) if keep else None
        self.frames_copied = 0

    @property
    def copied(self) -> tuple[str, ...]:
        """The streams that are copied, in words."""
        return tuple(self._copier.copied)

    @property
    def waiting(self) -> Waiting | None:
        """The frames that are neither encoded nor copied yet."""
        return None if self._untouched is None else self._untouched.waiting

    def write(self, frame: Frame, same: bool = False, /) -> None:
        """Encode one frame, or copy it in time; `same`: it is as it was in the input."""
        if self._untouched is None:
            self._encode(frame)
            return
        for each in self._untouched.push(frame, same):
            if isinstance(each, Group):
                self._copy(each)
            else:
                self._encode(each)

    def settle(self) -> None:
        """Encode the frames that waited to be copied."""
        if self._untouched is not None:
            for each in self._untouched.rest():
                self._encode(each)

    def _copy(self, group: Group) -> None:
        self._flush()
        base = self._info.time_base
        shift = round(self._shift / base)
        packets = []
        for each in group.pictures:
            packet: Packet[VideoStream] = cast("Packet[VideoStream]", av.Packet(each.data))
            packet.pts, packet.dts, packet.is_keyframe = each.pts - shift, each.dts - shift, each.key
            packets.append(packet)
        self._journal.add(packets)
        self._journal.begin()
        self._last = group.shown[-1] - shift
        self._shown_for = shown_for(group) * base
        self.frames_copied += len(group.shown)

    def _encode(self, frame: Frame) -> None:
        pts = self._place(frame)
        picture = self._picture(frame)
        if self._fields is not None:
            picture = self._fields.mark(picture)
        picture.pts, picture.time_base = pts, self._time_base
        if self._encoder is None:
            self._encoder = self._new_encoder()
        self._shown_for = frame.duration * frame.time_base
        self._journal.add(self._encoder.encode(picture))

    def part(self) -> int:
        """End the encoder's run, so that another run can go on from here; return the journal's length."""
        self._flush()
        return self._journal.sync()

    def finish(self) -> None:
        """Put what was encoded into the container, with the other streams beside it and its index."""
        self.settle()
        self._flush()
        timing = self._journal.timing()
        dts = decoding_times(timing)
        shown = np.sort(timing.pts)
        end = 0
        if len(shown):
            end = int(shown[-1]) + max(1, round((self._shown_for or 1 / self._info.rate) / self._time_base))
        # a picture is shown until the next; what demuxers say of MP4 is in decoding order
        until = np.append(shown[1:], end)
        durations = until[np.searchsorted(shown, timing.pts)] - timing.pts
        if len(shown) and self._container in ("mp4", "mov"):
            # MP4 adds up durations in decoding order: the last one makes the sum the length of the video.
            durations[-1] = max(1, end - int(timing.pts[0]) - int(dts[-1] - dts[0]))
        packets = self._journal.packets()
        for number, packet in enumerate(packets if self._container != "gif" else self._as_gif(packets)):
            packet.stream, packet.time_base = self._stream, self._time_base
            packet.dts, packet.duration = int(dts[number]), int(durations[number])
            self._copier.deliver(self._output, packet.dts * self._time_base)
            self._output.mux_one(packet)
        self._copier.deliver(self._output, None)
        self._output.close()
        self._finish_header()
        self._journal.close()
        self.warnings += self._copier.damage
        self._close_inputs()

    def _close_inputs(self) -> None:
        self._copier.close()
        if self._untouched is not None:
            self._untouched.close()

    def abandon(self) -> None:
        """Close everything without caring for the file."""
        self._close_inputs()
        with contextlib.suppress(OSError):
            # what is left in its buffer does not fit on a full disk either
            self._journal.close()
        try:
            self._output.close()
        except (av.FFmpegError, OSError):
            return

    def _flush(self) -> None:
        if self._encoder is not None:
            self._journal.add(self._encoder.encode(None))
        self._encoder = self._palette = None
        self._journal.begin()

    def _as_gif(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """GIF pictures build on those before them, so an encoder cannot begin afresh: it begins here."""
        decoder = av.CodecContext.create("png", "r")
        assert isinstance(decoder, VideoCodecContext)
        for packet in packets:
            for picture in decoder.decode(packet):
                picture.pts, picture.time_base, picture.pict_type = packet.pts, self._time_base, 0
                yield from self._stream.encode(picture)

    def _new_encoder(self) -> VideoCodecContext:
        """An encoder like the stream's own, for one part."""
        own = self._stream.codec_context
        name = self._encoding.encoder if self._container != "gif" else "png"
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, VideoCodecContext)
        self._set_up(context)
        context.framerate, context.flags, context.options = own.framerate, own.flags, self._encoding.options
        return context

    def _place(self, frame: Frame) -> int:
        pts = frame.pts - round(self._shift / frame.time_base)
        if self._time_base != frame.time_base:
            pts = round((frame.time - self._shift) / self._time_base)
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
        self._last = pts
        return pts

    def _picture(self, frame: Frame) -> av.VideoFrame:
        wanted = self._encoding.format
        if wanted == "pal8":
            picture, self._palette = to_palette(frame, self._palette)
            return picture
        picture = to_video_frame(frame)
        if frame.format == wanted:
            return picture
        converted = picture.reformat(
            format=wanted,
            dst_colorspace=self._matrix(),
            dst_color_range=self._range() or None,
            interpolation=_CAREFUL,
        )
        converted.pict_type = 0
        return converted

    def _finish_header(self) -> None:
        aspect = self._info.sample_aspect
        if self._container not in ("matroska", "webm") or aspect in (None, 1):
            return
        if not write_sample_aspect(self._path, aspect):
            self.warnings.append(f"the sample aspect {aspect} could not be written")

    def _matrix(self) -> int:
        info = self._info
        if info.colour.matrix not in (0, 2):
            return info.colour.matrix
        return _BT601 if info.height < 720 else _BT709

    def _range(self) -> int:
        from_rgb = self._info.format.startswith(("rgb", "bgr", "gbr", "gray"))
        return 1 if from_rgb and self._encoding.format.startswith("yuv") else self._info.range_tag

    def _add_streams(self) -> VideoStream:
        info, output = self._info, self._output
        output.metadata.update(self._copier.container_tags)
        for each in self._copier.before(info.stream):
            self._copier.add(output, each)
        stream = output.add_stream(self._encoding.encoder, rate=info.rate, options=self._encoding.options)
        assert isinstance(stream, VideoStream)
        for each in self._copier.after(info.stream):
            self._copier.add(output, each)
        self._copier.start(output)
        stream.metadata.update(self._copier.video_tags)
        stream.time_base = self._time_base
        self._set_up(stream.codec_context)
        if self._container in _ROTATES:
            if info.display_matrix is not None:
                stream.set_display_matrix(info.display_matrix)
            elif info.rotation:
                stream.set_display_rotation(-info.rotation)
        return stream

    def _set_up(self, context: VideoCodecContext) -> None:
        info = self._info
        context.time_base = self._time_base
        context.width, context.height = info.width, info.height
        context.pix_fmt = self._encoding.format
        converted = self._encoding.format != info.format
        context.colorspace = self._matrix() if converted else info.colour.matrix
        context.color_range = self._range()
        context.color_primaries = info.colour.primaries
        context.color_trc = info.colour.transfer
        if info.sample_aspect is not None:
            context.sample_aspect_ratio = info.sample_aspect
        if info.field_order == 1 or self._encoding.encoder in FIELD_ENCODERS:
            context.field_order = info.field_order
        if info.field_order > 1 and self._encoding.encoder in ("prores_ks", "mpeg4"):
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        if self._encoding.encoder == "libx265" and self._container in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # what Apple's players ask for

    def _grid(self) -> Fraction:
        """The time base in which pictures are encoded: the input's, or the only one the container knows."""
        if self._container == "gif":
            return Fraction(1, 100)
        if self._container == "avi":
            return 1 / self._info.rate
        return self._info.time_base

    def _muxing(self) -> dict[str, str]:
        options = {}
        if self._container in ("mp4", "mov"):
            # otherwise FFmpeg multiplies small time bases, and the time stamps with them
            options["video_track_timescale"] = str(self._time_base.denominator)
            # where a track starts is counted in this; the default of 1000 would move it a little
            ticks = math.lcm(self._time_base.denominator, *self._copier.ticks)
            options["movie_timescale"] = str(ticks if ticks < 1 << 31 else self._time_base.denominator)
            if needs_free_tags(self._copier.container_tags):
                options["movflags"] = "use_metadata_tags"
        if self._container in ("matroska", "webm"):
            # or the sound's few milliseconds before time 0 would shift every time stamp of the picture
            options["avoid_negative_ts"] = "disabled"
        return options

    def _losses(self) -> list[str]:
        info, container = self._info, self._container
        lost = []
        for each in self._copier.lost:
            elsewhere = "; mkv holds it" if each.startswith(("audio", "subtitle")) else ""
            lost.append(f"{each} does not fit into {container} and is left out{elsewhere}")
        lost += self._copier.changed
        if container in ("matroska", "webm") and (1000 * info.time_base).denominator != 1:
            lost.append(f"{container} counts milliseconds: time stamps are rounded to them")
        if container == "gif" and (100 * info.time_base).denominator != 1:
            lost.append("gif counts hundredths of a second: time stamps are rounded to them")
        if container == "gif" and info.codec != "gif":
            lost.append("gif shows at most 256 colours a picture")
        if info.rotation and container not in _ROTATES:
            lost.append(f"{container} cannot say that the picture is turned by {info.rotation} degrees")
        if info.sample_aspect not in (None, 1) and container == "gif":
            lost.append("gif has no sample aspect")
        tags = {**self._copier.video_tags, **self._copier.container_tags}
        known = _TAGS.get(container)
        left = [] if known is None else [key for key in tags if key.lower() not in known | _UNSEEN]
        if left:
            lost.append(f"{container} does not hold the tags {', '.join(left)}")
        if container == "avi":
            lost += self._losses_of_avi()
        return lost

    def _losses_of_avi(self) -> list[str]:
        lost = []
        if self._info.kind == "video" and not is_regular(self._info):
            rate = float(1 / self._grid())
            lost.append(f"AVI holds one frame rate: pictures are moved to a grid of {rate:g} per second")
        if self._copier.moves_sound():
            lost.append("AVI knows no start times: sound that does not begin with the picture is moved")
        return lost


def _add_headers(context: VideoCodecContext, untouched: Untouched) -> None:
    """Put the input's parameter sets beside the encoder's own, the higher profile and level first."""
    context.open()
    own = bytes(context.extradata or b"")
    mine, theirs = untouched.rank, rank_of(own)
    context.extradata = untouched.headers + own if mine > theirs else own + untouched.headers
