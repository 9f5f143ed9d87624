"""HDR10: for which display a video was graded, read from its frames, written as each encoder asks."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.buffer import Buffer

Point = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Mastering:
    """The display a video was graded on (SMPTE ST 2086): CIE 1931 x and y, luminance in candela per m2."""

    red: Point
    green: Point
    blue: Point
    white: Point
    darkest: Fraction
    brightest: Fraction


@dataclass(frozen=True)
class Hdr10:
    """Static HDR metadata; `light`: the brightest pixel and the brightest frame's mean (CTA-861.3)."""

    mastering: Mastering | None = None
    light: tuple[int, int] | None = None


def read_hdr10(picture: av.VideoFrame) -> Hdr10 | None:
    """What a decoded frame says of its mastering, None where it says nothing."""
    mastering = _mastering(_bytes(picture, "MASTERING_DISPLAY_METADATA"))
    data = _bytes(picture, "CONTENT_LIGHT_LEVEL")
    light = struct.unpack("=2I", data[:8]) if len(data) >= 8 else None
    if light is not None and max(light) >= 1 << 16:
        light = None
    if mastering is None and light is None:
        return None
    return Hdr10(mastering, light)


def lost_side_data(picture: av.VideoFrame) -> list[str]:
    """What a frame carries beside its pixels that no encoder here can be given, in words."""
    lost = {
        "DYNAMIC_HDR_PLUS": "HDR10+ metadata, which changes from scene to scene, is not kept; HDR10's is",
        "DOVI_METADATA": "Dolby Vision metadata is not kept; the picture below it is",
        "A53_CC": "closed captions inside the video are not kept",
        "SPHERICAL": "the note that this is a 360-degree video is not kept",
        "STEREO3D": "the note that this is a stereoscopic video is not kept",
    }
    return [told for kind, told in lost.items() if _bytes(picture, kind)]


def x265_params(hdr: Hdr10) -> list[str]:
    """Entries of libx265's parameter list."""
    return _whole(hdr, "master-display", "max-cll")


def x264_params(hdr: Hdr10) -> list[str]:
    """Entries of libx264's parameter list."""
    return _whole(hdr, "mastering-display", "cll")


def svt_params(hdr: Hdr10) -> list[str]:
    """Entries of SVT-AV1's parameter list."""
    entries = []
    if hdr.mastering is not None:
        one = hdr.mastering
        points = zip("GBRW", (one.green, one.blue, one.red, one.white), strict=True)
        words = [f"{name if name != 'W' else 'WP'}({float(x):.7f},{float(y):.7f})" for name, (x, y) in points]
        words.append(f"L({float(one.brightest):.6f},{float(one.darkest):.6f})")
        entries.append(f"mastering-display={''.join(words)}")
    if hdr.light is not None:
        entries.append(f"content-light={hdr.light[0]},{hdr.light[1]}")
    return entries


def _whole(hdr: Hdr10, display: str, level: str) -> list[str]:
    """In the units of the bit stream: 0.00002 for chromaticities, 0.0001 for luminance."""
    entries = []
    if hdr.mastering is not None:
        one = hdr.mastering
        points = (("G", one.green), ("B", one.blue), ("R", one.red), ("WP", one.white))
        words = [f"{name}({round(x * 50000)},{round(y * 50000)})" for name, (x, y) in points]
        words.append(f"L({round(one.brightest * 10000)},{round(one.darkest * 10000)})")
        entries.append(f"{display}={''.join(words)}")
    if hdr.light is not None:
        entries.append(f"{level}={hdr.light[0]},{hdr.light[1]}")
    return entries


def _mastering(data: bytes) -> Mastering | None:
    # FFmpeg's AVMasteringDisplayMetadata: ten fractions (red, green, blue, white as x and y; darkest,
    # brightest), and whether colours and luminance are there at all
    if len(data) < 88:
        return None
    numbers = struct.unpack("=22i", data[:88])
    if not numbers[20] or not numbers[21] or not all(numbers[1:20:2]):
        return None
    values = [Fraction(numbers[2 * i], numbers[2 * i + 1]) for i in range(10)]
    if min(values) < 0 or max(values[:8]) > 1 or not values[8] < values[9] <= 100_000:
        return None  # no display is like this, and encoders stumble over it
    red, green, blue, white = [(values[2 * i], values[2 * i + 1]) for i in range(4)]
    return Mastering(red, green, blue, white, darkest=values[8], brightest=values[9])


def _bytes(picture: av.VideoFrame, kind: str) -> bytes:
    found = cast("Buffer | None", picture.side_data.get(kind))
    return b"" if found is None else bytes(found)
