"""Files of a batch, which lie in a folder or, with fsspec, at an address such as s3://bucket/clips."""

from __future__ import annotations

import fnmatch
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from stream.errors import InputError, OutputError, UsageError
from stream.part import output_error, sync


def local(place: str) -> Path | None:
    """The path of a place on this file system, None for an address elsewhere."""
    if "://" not in place:
        return Path(place)
    parsed = urlparse(place)
    return Path(unquote(parsed.path)) if parsed.scheme == "file" else None


def absolute(place: str) -> str:
    """A place by a name that means the same to every worker: absolute, or an address."""
    path = local(place)
    return place if path is None else str(path.absolute())


def beside(folder: str, name: str) -> str:
    """The place of `name` (parts divided by /) in a folder."""
    path = local(folder)
    return str(path / name) if path is not None else f"{folder.rstrip('/')}/{name}"


def listing(folder: str) -> list[str] | None:
    """All files below a folder, relative to it with / between parts, in order; None when it is no folder."""
    path = local(folder)
    if path is not None:
        if not path.is_dir():
            return None
        found = (Path(root) / name for root, _, names in os.walk(path) for name in names)
        return sorted(each.relative_to(path).as_posix() for each in found)
    system, root = _system(folder)
    if not system.isdir(root):
        return None
    names = (str(each) for each in system.find(root))
    return sorted(each[len(root.rstrip("/")) + 1 :] for each in names)


def matches(name: str, glob: str) -> bool:
    """Whether a listed file's name, or its way below the folder, fits a pattern; case does not count."""
    return any(fnmatch.fnmatch(each.lower(), glob.lower()) for each in (name, name.rpartition("/")[2]))


def exists(place: str) -> bool:
    """Whether there is a file or folder."""
    path = local(place)
    if path is not None:
        return path.exists()
    system, name = _system(place)
    return bool(system.exists(name))


def stamp(place: str) -> str:
    """What changes when a file does, without reading it: size and time, or what its system has instead."""
    path = local(place)
    try:
        if path is not None:
            about = path.stat()
            return f"{about.st_size} {about.st_mtime_ns}"
        system, name = _system(place)
        return str(system.ukey(name))
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror or error}", where=place) from None


def size(place: str) -> int:
    """Bytes of a file; -1 when it is not there."""
    path = local(place)
    try:
        if path is not None:
            return path.stat().st_size if path.is_file() else _folder_size(path)
        system, name = _system(place)
        return int(system.size(name))
    except OSError:
        return -1


def read(place: str) -> bytes:
    """What is in a file; raises OSError."""
    path = local(place)
    if path is not None:
        return path.read_bytes()
    system, name = _system(place)
    return bytes(system.cat_file(name))


def write(place: str, data: bytes) -> None:
    """Write a file that has its name only when it is whole; raises OutputError."""
    path = local(place)
    try:
        if path is None:
            system, name = _system(place)
            system.pipe_file(name, data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
        fresh.write_bytes(data)
        sync(fresh)
        fresh.replace(path)
    except OSError as error:
        raise output_error(error, Path(place)) from None


def remove(place: str) -> None:
    """Remove a file if it is there."""
    path = local(place)
    if path is not None:
        path.unlink(missing_ok=True)
        return
    system, name = _system(place)
    if system.exists(name):
        system.rm(name)


def fetch(place: str, folder: Path) -> Path:
    """A file as a path: its own, or a copy in `folder` when it lies elsewhere; raises InputError."""
    path = local(place)
    if path is not None:
        return path
    copy = folder / place.rstrip("/").rpartition("/")[2]
    system, name = _system(place)
    try:
        system.get(name, str(copy), recursive=bool(system.isdir(name)))
    except OSError as error:
        raise InputError(f"it cannot be fetched: {error}", where=place) from None
    return copy


def store(path: Path, place: str) -> None:
    """Bring a finished file or folder to its place; raises OutputError."""
    target = local(place)
    try:
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            return
        system, name = _system(place)
        system.put(str(path), name, recursive=path.is_dir())
    except OSError as error:
        raise OutputError(f"it cannot be stored: {error}", where=place) from None


def _folder_size(path: Path) -> int:
    if not path.is_dir():
        return -1
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def _system(place: str) -> tuple[Any, str]:
    """The file system of an address, and the file's name in it."""
    try:
        import fsspec
    except ImportError:
        raise UsageError(
            "addresses need the extra cluster", where=place, hint="pip install 'cleanplate[cluster]'"
        ) from None
    try:
        system, name = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise UsageError(f"this address cannot be used: {error}", where=place) from None
    return system, str(name)
