"""The camera's notes in a JPEG (EXIF, XMP, colour profile), carried over to a new JPEG of the picture."""

from __future__ import annotations

from pathlib import Path

_START = b"\xff\xd8"
_KEPT = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0")


def copy_tags(original: Path, jpeg: bytes) -> bytes:
    """`jpeg` with the segments of `original` that describe the picture; as it is where there are none."""
    try:
        head = original.read_bytes()[: 1 << 20]
    except OSError:
        return jpeg
    if not head.startswith(_START) or not jpeg.startswith(_START):
        return jpeg
    segments = b"".join(_segments(head))
    return _START + segments + jpeg[2:] if segments else jpeg


def _segments(data: bytes) -> list[bytes]:
    found = []
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        # the picture itself begins at the start-of-scan marker
        if marker == 0xDA or length < 2:
            break
        body = data[place + 4 : place + 2 + length]
        if 0xE1 <= marker <= 0xEF and body.startswith(_KEPT):
            found.append(data[place : place + 2 + length])
        place += 2 + length
    return found
