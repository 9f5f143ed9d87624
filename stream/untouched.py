"""Stretches of an H.264 input in which nothing was changed, as the packets they came in.

A stretch is a closed group of pictures: from one IDR picture to the next, nothing outside refers to it
(H.264, 7.4.1.2.4). Its packets go beside those of our own encoder into one track: the container holds the
parameter sets of both, told apart by their numbers, so every picture decodes to what it was in the input.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from stream.container import open_container
from stream.errors import InputError
from stream.planes import from_video_frame
from stream.source_info import SourceInfo
from stream.types import Frame

_IDR, _SPS, _PPS = 5, 7, 8
_IDS = 32
"""A sequence's parameter sets have numbers below this (H.264, 7.4.2.1.1)."""
_START = b"\0\0\0\1"
_LARGEST = 64 << 20
"""Bytes of a group that are held; a longer one is encoded."""


@dataclass(frozen=True)
class Picture:
    """One packet: Annex B bytes without parameter sets, its times in the input's ticks."""

    data: bytes
    pts: int
    dts: int
    duration: int
    key: bool


@dataclass(frozen=True)
class Group:
    """A closed group of pictures in decoding order; `shown`: their times in the order of display."""

    pictures: tuple[Picture, ...]
    shown: tuple[int, ...]


@dataclass(frozen=True)
class Waiting:
    """Frames that are held back until their group is complete: its first time, and how many they are."""

    first: int
    count: int


class Untouched:
    """Frames in; out come frames that are to be encoded, and whole groups that are to be copied.

    `headers`: the input's parameter sets as Annex B. `rank`: the profile and level they ask for. `free_id`: a
    number that none of them has. `open_untouched` makes it.
    """

    def __init__(
        self,
        info: SourceInfo,
        container: av.container.InputContainer,
        sets: list[bytes],
        free_id: int,
        groups: Generator[Group, None, None],
        waiting: Waiting | None,
    ) -> None:
        self._info = info
        self._container = container
        self.headers = b"".join(_START + each for each in sets)
        self.rank = _rank(sets)
        self.free_id = free_id
        self._groups = groups
        self._group: Group | None = None
        self._next: Group | None = None
        self._count = 0
        if waiting is not None:
            self._seek(waiting.first)
            self._group, self._next, self._count = self._next, None, waiting.count

    @property
    def waiting(self) -> Waiting | None:
        """What is held back now."""
        return Waiting(self._group.shown[0], self._count) if self._group is not None else None

    def push(self, frame: Frame, same: bool) -> Iterator[Frame | Group]:
        """Take the next frame; `same`: nothing in it was changed."""
        if self._group is None:
            if not same or not self._begins(frame.pts):
                yield frame
                return
            self._group, self._next = self._next, None
        elif not same or frame.pts != self._group.shown[self._count]:
            yield from self.rest()
            yield frame
            return
        assert self._group is not None
        self._count += 1
        if self._count == len(self._group.shown):
            yield self._group
            self._group, self._count = None, 0

    def rest(self) -> Iterator[Frame]:
        """Give up the group that is not complete: decode again what is held back of it.

        Raises InputError when the input no longer holds these pictures.
        """
        group, count = self._group, self._count
        self._group, self._count = None, 0
        if group is None:
            return
        found = 0
        for number, picture in enumerate(_decoded(group, self.headers)):
            if number == count:
                return
            found += 1
            yield from_video_frame(
                picture,
                index=number,
                pts=group.shown[number],
                time_base=self._info.time_base,
                rotation=self._info.rotation,
                duration=picture.duration or 0,
            )
        if found < count:
            raise InputError("it changed while it was read", where=self._info.path)

    def close(self) -> None:
        """Let go of the input."""
        self._groups.close()
        self._container.close()

    def _begins(self, pts: int) -> bool:
        self._seek(pts)
        return self._next is not None and self._next.shown[0] == pts

    def _seek(self, pts: int) -> None:
        """Go to the first group that does not begin before `pts`."""
        while self._next is None or self._next.shown[0] < pts:
            self._next = next(self._groups, None)
            if self._next is None:
                return


def _groups(
    container: av.container.InputContainer, stream: VideoStream, sets: frozenset[bytes], length: int
) -> Generator[Group, None, None]:
    """The closed groups of a stream, without those that are not what they seem."""
    pictures: list[Picture] = []
    good, size = False, 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            packet = None
        if packet is None or not packet.size:
            break
        units = _units(bytes(packet), length)
        kinds = {_kind(each) for each in units}
        if _IDR in kinds:
            if good and pictures:
                yield from _closed(pictures)
            pictures, good, size = [], True, 0
        known = all(each in sets for each in units if _kind(each) in (_SPS, _PPS))
        size += packet.size
        pts = packet.pts
        if pts is None or not known or packet.is_corrupt or size > _LARGEST:
            good, pictures = False, []
        if not good or pts is None:
            continue
        data = b"".join(_START + each for each in units if _kind(each) not in (_SPS, _PPS))
        dts = pts if packet.dts is None else packet.dts
        pictures.append(Picture(data, pts, dts, packet.duration or 0, _IDR in kinds))
    if good and pictures:
        yield from _closed(pictures)


def _closed(pictures: list[Picture]) -> Iterator[Group]:
    shown = tuple(sorted({each.pts for each in pictures}))
    if len(shown) == len(pictures) and shown[0] == pictures[0].pts:
        yield Group(tuple(pictures), shown)


def _decoded(group: Group, headers: bytes) -> Iterator[av.VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    for number, picture in enumerate(group.pictures):
        packet = av.Packet((headers if number == 0 else b"") + picture.data)
        packet.pts, packet.dts, packet.duration = picture.pts, picture.dts, picture.duration
        try:
            yield from decoder.decode(packet)
        except av.FFmpegError:
            return
    yield from decoder.decode(None)


def _parameter_sets(extradata: bytes) -> tuple[list[bytes], int]:
    """The parameter sets of a stream, and how many bytes tell a unit's length in its packets, 0: start codes.

    AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1) or Annex B.
    """
    if extradata[:1] != b"\1" or len(extradata) < 7:
        return [each for each in _units(extradata, 0) if _kind(each) in (_SPS, _PPS)], 0
    sets, place = [], 6
    for count in (extradata[5] & 31, None):
        if count is None:
            if place >= len(extradata):
                break
            count, place = extradata[place], place + 1
        for _ in range(count):
            size = int.from_bytes(extradata[place : place + 2])
            sets.append(extradata[place + 2 : place + 2 + size])
            place += 2 + size
    return [each for each in sets if each], (extradata[4] & 3) + 1


def _units(data: bytes, length: int) -> list[bytes]:
    """The NAL units of a packet, without start codes or lengths."""
    units = []
    if length:
        place = 0
        while place + length <= len(data):
            size = int.from_bytes(data[place : place + length])
            units.append(data[place + length : place + length + size])
            place += length + size
    else:
        # a unit may end with zeros that belong to the next start code
        units = [each.rstrip(b"\0") for each in data.split(b"\0\0\1")[1:]]
    return [each for each in units if each]


def rank_of(extradata: bytes) -> tuple[int, ...]:
    """Profile and level that a stream's parameter sets ask for; the greater, the more."""
    return _rank(_parameter_sets(extradata)[0])


def _rank(sets: list[bytes]) -> tuple[int, ...]:
    return max(((each[1], each[3]) for each in sets if _kind(each) == _SPS and len(each) > 3), default=())


def _kind(unit: bytes) -> int:
    return unit[0] & 31


def _number(unit: bytes) -> int:
    """The number of a parameter set: an unsigned Exp-Golomb code (H.264, 9.1) behind its fixed fields."""
    bits = "".join(f"{byte:08b}" for byte in (unit[4:12] if _kind(unit) == _SPS else unit[1:9]))
    zeros = bits.index("1") if "1" in bits else 0
    return int(bits[zeros : 2 * zeros + 1] or "1", 2) - 1


def open_untouched(
    info: SourceInfo, container: str, encoder: str, form: str, waiting: Waiting | None = None
) -> Untouched | None:
    """Open the input a second time; None when its packets cannot stand beside this encoder's in one track."""
    fits = (
        info.kind == "video"
        and "://" not in info.path
        and (info.codec, encoder) == ("h264", "libx264")
        and container in ("mp4", "mov", "matroska")
        and form == info.format == info.coded_format
        and info.field_order <= 1
        and info.hdr10 is None
    )
    if not fits:
        return None
    try:
        opened = open_container(Path(info.path))
    except InputError:
        return None
    stream = opened.streams[info.stream]
    assert isinstance(stream, VideoStream)
    sets, length = _parameter_sets(bytes(stream.codec_context.extradata or b""))
    free = set(range(_IDS)) - {_number(each) for each in sets}
    if not free or {_kind(each) for each in sets} != {_SPS, _PPS}:
        opened.close()
        return None
    groups = _groups(opened, stream, frozenset(sets), length)
    return Untouched(info, opened, sets, min(free), groups, waiting)


def shown_for(group: Group) -> int:
    """Ticks for which the last picture of a group is shown, 0 when nothing says it."""
    return next(each.duration for each in group.pictures if each.pts == group.shown[-1])
