"""Everything beside the video, copied packet by packet from the input's container into the output's."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Disposition, Stream

from stream import subtitles
from stream.container import open_container
from stream.cut import Window, within
from stream.languages import quicktime_language
from stream.source_info import SourceInfo, StreamInfo

_OWN_TAGS = frozenset(
    {"encoder", "software", "duration", "rotate", "alpha_mode"}
    | {"major_brand", "minor_version", "compatible_brands"}
)
"""Tags that the output's muxer writes itself, about the output."""

_PLAIN_TAGS = frozenset(
    {
        "title",
        "artist",
        "album",
        "album_artist",
        "author",
        "comment",
        "composer",
        "copyright",
        "creation_time",
    }
    | {"date", "description", "encoded_by", "episode_id", "genre", "grouping", "keywords", "language"}
    | {"location", "lyrics", "network", "performer", "show", "synopsis", "track"}
)


def kept_tags(tags: dict[str, str]) -> dict[str, str]:
    """The metadata that is worth copying: not what the muxer measured of the input."""
    if "name" in tags and "title" not in tags:
        tags = {**tags, "title": tags["name"]}  # MP4's word for a track's title
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _OWN_TAGS
        and not key.startswith(("_STATISTICS", "BPS", "NUMBER_OF_"))
        and key.partition("-")[0] not in ("DURATION", "BPS")
    }


def needs_free_tags(tags: dict[str, str]) -> bool:
    """Whether MP4 keeps these tags only in its free-form table, which fewer players read."""
    return any(key.lower().partition("-")[0] not in _PLAIN_TAGS for key in kept_tags(tags))


_CHAPTERS = ("mp4", "mov", "matroska", "webm")
_LONGEST = Fraction(10)
"""Seconds by which streams of one file may lie apart in it."""

_COVER = {"png": ("cover.png", "image/png"), "mjpeg": ("cover.jpg", "image/jpeg")}


class Copier:
    """The streams of one input beside its video, on their way into an open output; owns the input container.

    `copied` and `lost` name them in words; `changed` says what is kept in another form.
    """

    def __init__(self, info: SourceInfo, container: str, *, streams: bool = True) -> None:
        self._info = info
        self._container = container
        self._forms: dict[int, str] = {}
        self._input: InputContainer | None = None
        self._path: str | Path = ""
        self.copied: list[str] = []
        self.lost: list[str] = []
        self.changed: list[str] = []
        self.damage: list[str] = []
        self._left_out = 0
        self._chosen: list[Stream] = []
        self._to: dict[int, Stream] = {}
        self._packets: Iterator[Packet[Stream]] = iter(())
        self._next: Packet[Stream] | None = None
        if info.kind != "video" or not streams:
            return
        if "://" in info.path and not info.path.startswith(("http://", "https://", "file://")):
            self.lost = [f"{each} of a live address" for each in info.streams]
            return
        self._path = info.path if "://" in info.path else Path(info.path)
        self._input = open_container(self._path)
        self._choose()

    @property
    def video_tags(self) -> dict[str, str]:
        """Metadata of the input's video stream."""
        return kept_tags(self._info.metadata)

    @property
    def container_tags(self) -> dict[str, str]:
        """Metadata of the input's container."""
        return kept_tags(self._input.metadata) if self._input is not None else {}

    @property
    def ticks(self) -> list[int]:
        """Ticks in a second of each copied stream."""
        return [each.time_base.denominator for each in self._chosen if each.time_base]

    def moves_sound(self) -> bool:
        """Whether a copied sound does not begin with the picture, so that AVI plays it too early or late."""
        shift = self._info.shift(self._container)
        for each in self._chosen:
            if each.type != "audio" or each.start_time is None or each.time_base is None:
                continue
            apart = each.start_time * each.time_base - shift
            exact = apart <= 0 and each.codec_context.name.startswith("pcm_")
            if abs(apart) > Fraction(1, 1000) and not exact:
                return True
        return False

    def before(self, video: int) -> list[Stream]:
        """The chosen streams that stand before the video in the input."""
        return [each for each in self._chosen if each.index < video]

    def after(self, video: int) -> list[Stream]:
        """The chosen streams that stand after the video in the input."""
        return [each for each in self._chosen if each.index > video]

    def add(self, output: OutputContainer, stream: Stream) -> None:
        """Give the output a stream like this one, with its tags and disposition."""
        if _is_cover(stream) and output.format.name == "matroska":
            # Matroska keeps cover art as an attached file; as a stream it would be a second video
            name, kind = _COVER.get(stream.codec_context.name, ("cover.jpg", "image/jpeg"))
            name = stream.metadata.get("filename", name)
            output.add_attachment(name, stream.metadata.get("mimetype", kind), self._cover(stream.index))
            return
        form = self._forms.get(stream.index)
        if form is not None:
            added = subtitles.add_text(output, stream, form)
            _describe(added, stream, self._container)
        else:
            added = _add(output, stream, self._container)
        self._to[stream.index] = added

    def start(self, output: OutputContainer) -> None:
        """Copy chapters and get ready to deliver packets; all streams were added."""
        if self._input is None:
            return
        chapters = self._chapters()
        if chapters and self._container in _CHAPTERS:
            output.set_chapters(chapters)
        with_packets = [
            each for each in self._chosen if each.index in self._to and not isinstance(each, AttachmentStream)
        ]
        for each in self._input.streams:
            if each not in with_packets and not isinstance(each, AttachmentStream):
                each.discard = Discard.all
        if with_packets:
            self._packets = self._read(self._input, with_packets)
            self._next = next(self._packets, None)

    def deliver(self, output: OutputContainer, until: Fraction | None) -> None:
        """Hand over every packet up to this time in seconds of the output, None for all there are."""
        while self._next is not None:
            packet = self._next
            if until is not None and packet.dts is not None and packet.dts * packet.time_base > until:
                return
            stream = self._to[packet.stream.index]
            ready = subtitles.convert(packet, stream) if packet.stream.index in self._forms else packet
            if ready is not None:
                ready.stream = stream
                self._mux(output, ready)
            self._next = next(self._packets, None)

    def _mux(self, output: OutputContainer, packet: Packet[Stream]) -> None:
        """A packet whose times make no sense is left out: the picture is worth more than it."""
        at = float((packet.dts or 0) * packet.time_base)
        try:
            output.mux_one(packet)
        except av.ArgumentError:
            if not self._left_out:
                self.damage.append(f"from {at:.2f} s on some packets of {packet.stream.type} are left out")
            self._left_out += 1

    def close(self) -> None:
        """Let go of the input."""
        self._next = None
        self._packets = iter(())
        if self._input is not None:
            self._input.close()
            self._input = None

    def _choose(self) -> None:
        assert self._input is not None
        container = self._container
        chapters = self._chapters()
        names = {each.index: each for each in self._info.streams}
        for stream in self._input.streams:
            if stream.index == self._info.stream:
                continue
            name = names.get(stream.index, StreamInfo(stream.index, str(stream.type), "unknown"))
            if _written_anyway(stream, bool(chapters)):
                continue
            form = subtitles.text_form(stream, container)
            if not _holds(container, stream):
                if form is None:
                    self.lost.append(str(name))
                    continue
                self._forms[stream.index] = form
                self.changed.append(f"{name} is converted to {form}")
            self._chosen.append(stream)
            self.copied.append(str(name))
            lost = _lost_of(stream, container)
            if lost:
                self.changed.append(f"{container} does not hold {', '.join(lost)} of {name}")
        if chapters and container in _CHAPTERS:
            self.copied.append(f"{len(chapters)} chapters")
        elif chapters:
            self.lost.append(f"the list of {len(chapters)} chapters")

    def _read(self, source: InputContainer, streams: list[Stream]) -> Generator[Packet[Stream], None, None]:
        window = self._window()
        last = Fraction(0)
        try:
            for packet in source.demux(*streams):
                if _is_cover(packet.stream) and packet.size:
                    # cover art has no time of its own
                    packet.pts = packet.dts = 0
                    yield packet
                    continue
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:
                    continue
                last = stamp * packet.time_base
                if window.high is not None and last > window.high + _LONGEST:
                    return
                kept = within(packet, window, self._container)
                if kept is not None:
                    yield kept
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.damage.append(f"sound and other streams stop at {float(last):.2f} s: {reason}")

    def _cover(self, index: int) -> bytes:
        with open_container(self._path) as again:
            for packet in again.demux(again.streams[index]):
                if packet.size:
                    return bytes(packet)
        return b""

    def _window(self) -> Window:
        info = self._info
        origin, shift = info.first_pts * info.time_base, info.shift(self._container)
        low = None if info.start is None else origin + info.start
        if self._container == "avi":
            low = shift
        return Window(low, None if info.end is None else origin + info.end, shift)

    def _chapters(self) -> list[Any]:
        assert self._input is not None
        window = self._window()
        low, high, shift = window.low, window.high, window.shift
        kept = []
        for chapter in self._input.chapters():
            tb = chapter["time_base"] or Fraction(1, 1000)
            start, end = chapter["start"] * tb, chapter["end"] * tb
            start = start if low is None else max(start, low)
            end = end if high is None else min(end, high)
            if end > start:
                new = {**chapter, "start": round((start - shift) / tb), "end": round((end - shift) / tb)}
                kept.append(new)
        return kept


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _add(output: OutputContainer, stream: Stream, container: str) -> Stream:
    added = output.add_stream_from_template(stream, opaque=True)
    _describe(added, stream, container)
    return added


def _describe(added: Stream, stream: Stream, container: str) -> None:
    tags = kept_tags(stream.metadata)
    if container == "mov" and "language" in tags:
        tags["language"] = quicktime_language(tags["language"]) or tags["language"]
    added.metadata.update(tags)
    added.disposition = stream.disposition


def _lost_of(stream: Stream, container: str) -> list[str]:
    """What the container does not keep of a stream that it holds, in words."""
    lost = []
    language = stream.metadata.get("language", "und")
    if language != "und" and (
        container == "avi" or (container == "mov" and not quicktime_language(language))
    ):
        lost.append(f"the language {language}")
    if container in ("mov", "avi"):
        marks = Disposition(stream.disposition) & ~(Disposition.default | Disposition.attached_pic)
        lost += [f"the mark {mark.name}" for mark in Disposition if mark & marks]
    return lost


def _holds(container: str, stream: Stream) -> bool:
    """Whether a container takes a stream, by writing a header into memory."""
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            _add(trial, stream, container)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, OSError):
        return False
    return True


def _written_anyway(stream: Stream, chapters: bool) -> bool:
    """Data tracks that the muxer makes itself: of the chapters (text), and of the time code tag."""
    if stream.type != "data":
        return False
    return (chapters and getattr(stream, "name", None) == "bin_data") or "timecode" in stream.metadata
