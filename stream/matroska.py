"""What FFmpeg's Matroska writer leaves out of the header when told by PyAV: the shape of the pixels.

Sizes and ids are EBML's (RFC 8794), elements Matroska's (RFC 9559).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _SEEK_HEAD, _VOID, _INFO, _TRACKS = 0x18538067, 0x114D9B74, 0xEC, 0x1549A966, 0x1654AE6B
_TRACK, _VIDEO, _CRC = 0xAE, 0xE0, 0xBF
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_PIXEL_WIDTH, _PIXEL_HEIGHT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT = 0xB0, 0xBA, 0x54B0, 0x54BA
_DISPLAY_UNIT = 0x54B2
_HEAD = 1 << 20


@dataclass(frozen=True)
class _Element:
    id: int
    start: int
    data: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.data - self.start - (self.id.bit_length() + 7) // 8


def write_sample_aspect(path: Path, aspect: Fraction) -> bool:
    """Say in a Matroska file how wide its pixels are to their height; False and no change if it fails.

    The header grows into the space that FFmpeg reserves after its table of contents; nothing else moves.
    """
    with path.open("rb+") as file:
        head = bytearray(file.read(_HEAD))
        changed = _with_aspect(head, aspect)
        if changed is None:
            return False
        start, data = changed
        _write(file, start, data)
    return True


def _write(file: BinaryIO, start: int, data: bytes) -> None:
    file.seek(start)
    file.write(data)


def _with_aspect(head: bytearray, aspect: Fraction) -> tuple[int, bytes] | None:
    """Where the header changes, and to what."""
    segment = next((each for each in _children(head, 0, len(head)) if each.id == _SEGMENT), None)
    if segment is None:
        return None
    parts: dict[int, _Element] = {}
    for each in _children(head, segment.data, len(head)):
        parts.setdefault(each.id, each)
        if each.id == _TRACKS:
            break
    if not {_SEEK_HEAD, _VOID, _INFO, _TRACKS} <= parts.keys():
        return None
    void, tracks = parts[_VOID], parts[_TRACKS]
    between = head[void.end : tracks.start]
    made = _tracks(bytes(head[tracks.start : tracks.end]), aspect)
    if made is None or tracks.end > len(head) or parts[_SEEK_HEAD].end != void.start:
        return None
    room = tracks.end - void.start - len(between) - len(made)
    if room < 9:
        return None
    moved = void.end - void.start - room
    if moved < 0:
        return None
    first, last = void.end - segment.data, tracks.start - segment.data
    seeks = _seek_head(bytes(head[parts[_SEEK_HEAD].start : void.start]), first, last, moved)
    filler = bytes([_VOID, 1]) + (room - 9).to_bytes(7, "big") + bytes(room - 9)
    return parts[_SEEK_HEAD].start, seeks + filler + bytes(between) + made


def _seek_head(seeks: bytes, first: int, last: int, moved: int) -> bytes:
    """The table of contents, with what lies between two places brought forward by some bytes."""
    out = bytearray(seeks)
    whole = _children(out, 0, len(out))[0]
    for seek in _children(out, whole.data, whole.end):
        if seek.id != _SEEK:
            continue
        for each in _children(out, seek.data, seek.end):
            if each.id == _SEEK_POSITION:
                place = int.from_bytes(out[each.data : each.end], "big")
                if first <= place <= last:
                    out[each.data : each.end] = (place - moved).to_bytes(each.end - each.data, "big")
    return _without_crc(bytes(out))


def _tracks(data: bytes, aspect: Fraction) -> bytes | None:
    """The Tracks element with the display size in its first video track; None where there is one already."""
    tracks = _children(data, 0, len(data))[0]
    out, done = b"", False
    for track in _children(data, tracks.data, tracks.end):
        body = data[track.start : track.end]
        if track.id == _CRC:
            continue
        if track.id == _TRACK and not done:
            inner = b""
            for each in _children(data, track.data, track.end):
                part = data[each.start : each.end]
                if each.id == _VIDEO:
                    video = _video(data, each, aspect)
                    if video is None:
                        return None
                    part, done = video, True
                inner += part
            body = _element(_TRACK, inner, size_bytes=track.size_bytes)
        out += body
    return _element(_TRACKS, out, size_bytes=tracks.size_bytes) if done else None


def _video(data: bytes, video: _Element, aspect: Fraction) -> bytes | None:
    size, kept = {}, b""
    for each in _children(data, video.data, video.end):
        if each.id in (_DISPLAY_WIDTH, _DISPLAY_HEIGHT):
            return None
        if each.id == _DISPLAY_UNIT:
            continue  # FFmpeg says "unknown" where the default, pixels, is meant
        kept += data[each.start : each.end]
        size[each.id] = int.from_bytes(data[each.data : each.end], "big")
    width, height = size[_PIXEL_WIDTH], size[_PIXEL_HEIGHT]
    # whole numbers whose ratio is exact; the player scales the larger side
    shown = Fraction(width, height) * aspect
    scale = max(1, round(height / shown.denominator))
    wide, high = shown.numerator * scale, shown.denominator * scale
    if max(wide, high) >= 1 << 16:
        wide, high = max(1, round(width * aspect)), height
    added = _whole(_DISPLAY_WIDTH, wide) + _whole(_DISPLAY_HEIGHT, high)
    return _element(_VIDEO, kept + added, size_bytes=video.size_bytes)


def _whole(name: int, value: int) -> bytes:
    # never less than four bytes, or the header could shrink
    return _element(name, value.to_bytes(max(4, (value.bit_length() + 7) // 8), "big"))


def _without_crc(data: bytes) -> bytes:
    """The same bytes with a checksum that no longer holds turned into filling."""
    out = bytearray(data)
    whole = _children(out, 0, len(out))[0]
    for each in _children(out, whole.data, whole.end):
        if each.id == _CRC:
            out[each.start] = _VOID
    return bytes(out)


def _element(name: int, data: bytes, *, size_bytes: int = 1) -> bytes:
    """An element whose size takes at least so many bytes, so that one written again does not shrink."""
    head = name.to_bytes((name.bit_length() + 7) // 8, "big")
    length = size_bytes
    while len(data) >= (1 << (7 * length)) - 1:
        length += 1
    return head + (len(data) | 1 << (7 * length)).to_bytes(length, "big") + data


def _children(data: bytes | bytearray, start: int, end: int) -> list[_Element]:
    """The elements that lie one after another between two places, as far as they can be read."""
    found: list[_Element] = []
    place = start
    while place < end:
        name, after = _number(data, place, keep_marker=True)
        length, body = _number(data, after, keep_marker=False)
        if not name or body > len(data):
            break
        unknown = length == (1 << (7 * (body - after))) - 1
        stop = end if unknown else body + length
        found.append(_Element(name, place, body, stop))
        place = stop
    return found


def _number(data: bytes | bytearray, place: int, *, keep_marker: bool) -> tuple[int, int]:
    """A number of variable length and the place behind it; 0 where there is none."""
    if place >= len(data) or not data[place]:
        return 0, len(data) + 1
    length = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + length], "big")
    return value if keep_marker else value & ~(1 << (7 * length)), place + length
