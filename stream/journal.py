"""Encoded packets on their way into a container: a file that only grows and can be cut back to a known place.

A container has its index at the end and is worthless until it is finished. So packets are kept here first,
each with its times and a checksum, and the container is made of them when the last one is there.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from stream.errors import OutputError

_HEAD = struct.Struct("<IIqqBI")
_KEY, _FIRST = 1, 2
_FARTHEST = 32
_ADDITION: Literal["matroska_block_additional"] = "matroska_block_additional"
"""The transparency of VP9, which containers keep beside the picture."""


@dataclass(frozen=True)
class Timing:
    """Times of all packets in decoding order, in ticks; `starts`: where an encoder began afresh."""

    pts: np.ndarray[tuple[int], np.dtype[np.int64]]
    dts: np.ndarray[tuple[int], np.dtype[np.int64]]
    starts: tuple[int, ...]


def journal_of(path: Path) -> Path:
    """Where the packets of a file that is being made are kept."""
    return path.with_suffix(".packets")


def append_files(journals: Sequence[Path], path: Path) -> int:
    """Make one journal of several, in their order, and return its length in bytes; raises OSError."""
    with path.open("wb") as joined:
        for each in journals:
            with each.open("rb") as file:
                shutil.copyfileobj(file, joined, 1 << 20)
        return joined.tell()


class Journal:
    """The packets of one video. `keep`: how many bytes of an earlier run's journal are good, 0 for none."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Raise OSError when the file cannot be written, OutputError when it does not hold `keep` bytes."""
        self._path = path
        self._file = path.open("r+b" if keep else "wb")
        if keep and path.stat().st_size < keep:
            self._file.close()
            raise OutputError("a part of the unfinished output is missing", where=str(path))
        self._file.truncate(keep)
        self._file.seek(keep)
        self._fresh = True

    def begin(self) -> None:
        """Say that an encoder begins afresh with the next packet."""
        self._fresh = True

    def add(self, packets: Iterable[Packet[VideoStream]]) -> None:
        """Append packets as an encoder gave them."""
        for packet in packets:
            data = bytes(packet)
            beside = b""
            if packet.has_sidedata(_ADDITION):
                beside = bytes(packet.get_sidedata(_ADDITION))
            body = beside + data
            flags = (_KEY if packet.is_keyframe else 0) | (_FIRST if self._fresh else 0)
            pts = packet.pts or 0
            dts = packet.dts if packet.dts is not None else pts
            self._file.write(_HEAD.pack(len(body), zlib.crc32(body), pts, dts, flags, len(beside)) + body)
            self._fresh = False

    def sync(self) -> int:
        """Bring everything onto the disk and return how many bytes there are."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def timing(self) -> Timing:
        """The times of everything added so far."""
        self._file.flush()
        pts, dts, starts = array("q"), array("q"), []
        with self._path.open("rb") as file:
            while head := file.read(_HEAD.size):
                size, _, shown, decoded, flags, _ = _HEAD.unpack(head)
                if flags & _FIRST:
                    starts.append(len(pts))
                pts.append(shown)
                dts.append(decoded)
                file.seek(size, os.SEEK_CUR)
        return Timing(np.array(pts, np.int64), np.array(dts, np.int64), tuple(starts))

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """All packets in decoding order with their own times; raises OutputError for a damaged one."""
        self._file.flush()
        with self._path.open("rb") as file:
            while head := file.read(_HEAD.size):
                size, check, pts, dts, flags, beside = _HEAD.unpack(head)
                body = file.read(size)
                if len(body) != size or zlib.crc32(body) != check:
                    raise OutputError("the unfinished output is damaged", where=str(self._path))
                yield _packet(body, pts, dts, beside, key=bool(flags & _KEY))

    def close(self) -> None:
        """Let go of the file; harmless when it is closed already."""
        self._file.close()


def _packet(body: bytes, pts: int, dts: int, beside: int, *, key: bool) -> Packet[VideoStream]:
    packet = cast("Packet[VideoStream]", av.Packet(body))
    if beside:
        packet = _with_addition(body[beside:], body[:beside])
    packet.pts, packet.dts, packet.is_keyframe = pts, dts, key
    return packet


def _with_addition(data: bytes, addition: bytes) -> Packet[VideoStream]:
    """A packet with data beside it, read from a Matroska file made here: PyAV itself makes none."""
    video = _element(0xE0, _element(0xB0, b"\1") + _element(0xBA, b"\1"))
    numbers = [_element(each, b"\1") for each in (0xD7, 0x73C5, 0x83, 0x55EE)]
    track = _element(0xAE, b"".join(numbers) + _element(0x86, b"V_VP9") + video)
    number, extra = addition[7:8], addition[8:]
    more = _element(0x75A1, _element(0xA6, _element(0xEE, number) + _element(0xA5, extra)))
    block = _element(0xA0, _element(0xA1, b"\x81\0\0\0" + data) + more)
    cluster = _element(0x1F43B675, _element(0xE7, b"\0") + block)
    file = _element(0x1A45DFA3, _element(0x4282, b"matroska"))
    file += _element(0x18538067, _element(0x1654AE6B, track) + cluster)
    with av.open(io.BytesIO(file), "r", format="matroska") as container:
        return next(container.demux(container.streams.video[0]))


def _element(name: int, body: bytes) -> bytes:
    return (
        name.to_bytes((name.bit_length() + 7) // 8, "big") + (len(body) | 1 << 56).to_bytes(8, "big") + body
    )


def decoding_times(timing: Timing) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Decoding times that rise from packet to packet and are never later than a picture is shown.

    Those of an encoder are kept where it ran but once and they make sense (x265's do not for the shortest
    clips). Else, with `ahead` packets decoded before the first picture is shown, packet i is decoded when
    picture i - ahead is shown, which is what encoders do.
    """
    pts, dts = timing.pts, timing.dts
    if not len(pts):
        return dts
    if len(timing.starts) == 1 and _sensible(pts, dts):
        return dts
    shown = np.sort(pts)
    late = np.arange(len(pts)) - np.searchsorted(shown, pts)
    ahead = max(0, int(late.max()))
    first = slice(0, timing.starts[1] if len(timing.starts) > 1 else len(pts))
    out = np.empty_like(dts)
    known = np.empty(0, np.int64)
    if _sensible(pts[first], dts[first]):
        known = dts[first][dts[first] < shown[0]]
        ahead = max(ahead, len(known))
    step = max(1, int(shown[1] - shown[0])) if len(shown) > 1 else 1
    ahead = min(ahead, len(pts))
    out[:ahead] = shown[0] - step * np.arange(ahead, 0, -1)
    if len(known) == ahead:
        out[:ahead] = known
    out[ahead:] = shown[: len(shown) - ahead]
    return out


def _sensible(pts: np.ndarray[Any, Any], dts: np.ndarray[Any, Any]) -> bool:
    rising = bool((np.diff(dts) > 0).all() and (dts <= pts).all())
    # no encoder is farther ahead than some pictures; a single one need not be ahead at all
    longest = int(np.diff(np.sort(pts)).max(initial=0))
    return rising and int(pts.min() - dts[0]) <= _FARTHEST * longest
