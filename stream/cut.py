"""Which packets of a sound or subtitle stream belong to a cut, to the sample where that can be had."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from av.packet import Packet
from av.stream import Stream

_PREROLL = {"opus": Fraction(240, 1000), "mp3": Fraction(60, 1000), "vorbis": Fraction(60, 1000)}
_ONE_BLOCK = Fraction(30, 1000)
"""How much before the first sample a decoder must have heard to give it back rightly."""


@dataclass(frozen=True)
class Window:
    """Seconds of the input's clock that are kept, and the one that becomes 0; None: no limit."""

    low: Fraction | None
    high: Fraction | None
    shift: Fraction


def within(packet: Packet[Stream], window: Window, container: str) -> Packet[Stream] | None:
    """The packet if it belongs to the window, cut to it where that loses nothing, at its time in the output.

    PCM is cut to the sample, subtitles to the tick. Compressed sound goes by packets: MP4 gets those before
    the window that the decoder needs, and hides them by an edit list; other containers begin with the first
    packet that lies wholly inside, AVI, which knows no start times, with the nearest.
    """
    tb = packet.time_base
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None:
        return None
    begin, length = stamp * tb, (packet.duration or 0) * tb
    low, high = window.low, window.high
    if low is None and high is None:
        return _moved(packet, window)
    if high is not None and begin >= high:
        return None
    if packet.stream.type == "audio":
        codec = packet.stream.codec_context.name
        if _width(packet.stream):
            return _moved(_samples(packet, begin, window), window)
        if low is not None and begin < low and not _needed(begin, length, low, codec, container):
            return None
    elif packet.stream.type == "subtitle" and length:
        if low is not None and begin < low:
            if begin + length <= low:
                return None
            late = round((low - begin) / tb)
            packet.pts = packet.dts = stamp + late
            packet.duration = (packet.duration or 0) - late
        if high is not None and begin + length > high:
            packet.duration = max(1, round((high - (packet.pts or 0) * tb) / tb))
    elif low is not None and begin < low:
        return None
    return _moved(packet, window)


def _needed(begin: Fraction, length: Fraction, low: Fraction, codec: str, container: str) -> bool:
    """Whether a packet of compressed sound that begins before the window goes along."""
    if container in ("mp4", "mov"):
        return begin + length > low - _PREROLL.get(codec, _ONE_BLOCK)
    return container == "avi" and low - begin <= length / 2


def _width(stream: Stream) -> int:
    """Bytes of one sample of every channel; 0 for PCM of a kind that is not laid out so."""
    context = stream.codec_context
    found = re.fullmatch(r"pcm_(?:[suf](8|16|24|32|64)(?:le|be)?|alaw|mulaw)", context.name)
    return int(found[1] or 8) // 8 * context.channels if found else 0  # type: ignore[attr-defined]


def _samples(packet: Packet[Stream], begin: Fraction, window: Window) -> Packet[Stream] | None:
    """PCM cut to the samples that lie in the window."""
    rate = packet.stream.codec_context.sample_rate  # type: ignore[attr-defined]
    width = _width(packet.stream)
    count = packet.size // width
    first = 0 if window.low is None else max(0, -(-(window.low - begin) * rate // 1))
    last = count if window.high is None else min(count, -(-(window.high - begin) * rate // 1))
    if first >= last:
        return None
    if (first, last) == (0, count):
        return packet
    part: Packet[Stream] = Packet(bytes(packet)[first * width : last * width])
    part.stream, part.time_base = packet.stream, packet.time_base
    part.pts = part.dts = round((begin + Fraction(first, rate)) / packet.time_base)
    part.duration = round(Fraction(last - first, rate) / packet.time_base)
    part.is_keyframe = True
    return part


def _moved(packet: Packet[Stream] | None, window: Window) -> Packet[Stream] | None:
    if packet is None:
        return None
    if packet.dts is None:
        packet.dts = packet.pts
    if window.shift:
        ticks = round(window.shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - ticks
        packet.dts = None if packet.dts is None else packet.dts - ticks
    return packet
