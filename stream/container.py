"""A file or an address is opened, or an error says why it cannot be read."""

from __future__ import annotations

import struct
from pathlib import Path

import av
from av.container import InputContainer

from stream.errors import InputError
from stream.source_info import MAX_PIXELS, MAX_SIDE

_ADDRESS_TIMEOUT = 15.0


def open_container(path: str | Path) -> InputContainer:
    """Open a file (Path) or an address (str) for reading; raises InputError that says what is wrong."""
    # A file name may look like a protocol ("concat:..."), and a playlist inside a file may name any address:
    # only an address given by the user may leave the file system.
    options = {"max_pixels": str(MAX_PIXELS)}
    if isinstance(path, Path):
        options["protocol_whitelist"] = "file"
    try:
        if isinstance(path, Path):
            # tags may be in any encoding, or damaged
            return av.open(f"file:{path}", "r", options=options, metadata_errors="replace")
        return av.open(path, "r", options=options, timeout=_ADDRESS_TIMEOUT, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        what, hint = _why_not(path, error)
        raise InputError(what, where=str(path), hint=hint) from None


def check_size(width: int, height: int, where: str) -> None:
    """Raise InputError for a picture larger than anything a camera makes."""
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        limit = f"at most {MAX_SIDE} per side and {MAX_PIXELS // 10**6} million pixels"
        raise InputError(f"its pictures claim to be {width} x {height}; {limit} are read", where=where)


def check_count(frames: int, path: str | Path) -> None:
    """Raise InputError for more pictures than the file has bytes: each would be waited for."""
    if isinstance(path, Path) and path.is_file() and frames > path.stat().st_size:
        raise InputError(
            f"it claims to hold {frames} pictures in {path.stat().st_size} bytes: its header is damaged",
            where=str(path),
        )


def _why_not(path: str | Path, error: Exception) -> tuple[str, str]:
    if isinstance(error, FileNotFoundError):
        return "there is no such file", ""
    if isinstance(error, PermissionError):
        return "reading it is not permitted", "check the file's permissions"
    if isinstance(error, av.ExitError | TimeoutError):
        return f"no answer within {_ADDRESS_TIMEOUT:g} s", "check the address and the network"
    if isinstance(path, Path):
        if path.stat().st_size == 0:
            return "the file is empty", ""
        if _has_no_index(path):
            return (
                "the file was cut off: its index (moov) is missing, so nothing in it can be found",
                "record or copy it again, or repair it with the help of an intact file of the same camera",
            )
        return "this is not a video that can be read", "convert it to mp4 or mkv, if it plays anywhere"
    return str(getattr(error, "strerror", None) or error), "check the address"


def _has_no_index(path: Path) -> bool:
    """Whether a file is made of MP4 boxes but has none that says where its pictures are."""
    names: list[bytes] = []
    with path.open("rb") as file:
        size = path.stat().st_size
        place = 0
        while place + 8 <= size and len(names) < 64:
            file.seek(place)
            head = file.read(16)
            length, name = struct.unpack(">I4s", head[:8])
            if length == 1 and len(head) == 16:
                (length,) = struct.unpack(">Q", head[8:])
            names.append(name)
            if length < 8:
                break
            place += length
    return names[:1] == [b"ftyp"] and b"moov" not in names and b"moof" not in names
