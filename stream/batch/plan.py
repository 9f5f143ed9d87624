"""What a batch is to do: which clips, with which options, under which names."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from stream.batch import storage
from stream.encoders import CONTAINERS
from stream.errors import InputError, UsageError
from stream.options import Options
from stream.source_images import IMAGE_SUFFIXES

HOME = ".cleanplate"
"""The folder in the output folder that holds what came of each clip."""

VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".vob"),
)
_OTHERWISE = ".mp4"
_MANIFESTS = (".csv", ".jsonl", ".ndjson")
_LISTS = ("remove", "keep", "change")
_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no")


@dataclass(frozen=True)
class Clip:
    """One clip of a batch; `input` and `output` are paths or addresses, `name` is the output below DIR."""

    input: str
    output: str
    name: str
    options: Options


def find_clips(inputs: Sequence[str], folder: str, options: Options, glob: str = "") -> tuple[Clip, ...]:
    """All clips of files, folders (searched through, hidden files left out) and manifests, in order.

    The outputs below `folder` lie as the inputs below theirs. `glob` picks files in folders; without it these
    are all videos. Raises InputError for what is not there, UsageError for a manifest that makes no sense and
    for two clips with one output.
    """
    found: list[Clip] = []
    folder = storage.absolute(folder)
    for place in map(storage.absolute, inputs):
        if place.lower().endswith(_MANIFESTS):
            found += _listed(place, folder, options)
            continue
        inside = storage.listing(place)
        if inside is None:
            if not storage.exists(place):
                raise InputError("there is no such file or folder", where=place)
            found.append(_clip(place, place.rstrip("/").rpartition("/")[2], folder, options))
            continue
        below = _below(folder, place)
        for name in inside:
            hidden = any(part.startswith(".") for part in name.split("/"))
            fits = storage.matches(name, glob) if glob else name.lower().endswith(VIDEOS)
            if fits and not hidden and not (below is not None and name.startswith(below)):
                found.append(_clip(storage.beside(place, name), name, folder, options))
    if not found:
        what = f"nothing in them fits {glob}" if glob else "there is no video in them"
        raise InputError(what, where=", ".join(inputs), hint="--glob picks other files, such as '*.jpg'")
    _check_names(found)
    return tuple(found)


def _below(folder: str, place: str) -> str | None:
    """Where the output folder lies in an input folder; None if it does not."""
    output, input = storage.local(folder), storage.local(place)
    if output is None or input is None:
        return None
    if not output.absolute().resolve().is_relative_to(input.absolute().resolve()):
        return None
    inside = output.absolute().resolve().relative_to(input.absolute().resolve()).as_posix()
    if inside == ".":
        raise UsageError(
            "the outputs would lie among the inputs", where=folder, hint="-o names another folder"
        )
    return f"{inside}/"


def _clip(place: str, name: str, folder: str, options: Options) -> Clip:
    stem, dot, suffix = name.rpartition(".")
    ending = f".{suffix.lower()}"
    if dot and "/" not in suffix and ending not in CONTAINERS and ending not in IMAGE_SUFFIXES:
        name = stem + _OTHERWISE
    return Clip(place, storage.beside(folder, name), name, options)


def _check_names(clips: Iterable[Clip]) -> None:
    seen: dict[str, Clip] = {}
    for clip in clips:
        other = seen.setdefault(clip.name, clip)
        if other is not clip:
            raise UsageError(
                f"{other.input} and {clip.input} would have one output",
                where=clip.output,
                hint="a manifest can name the outputs",
            )


def _listed(place: str, folder: str, options: Options) -> list[Clip]:
    """The clips of a manifest; paths in it are relative to its own folder."""
    try:
        text = storage.read(place).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror or error}", where=place) from None
    except UnicodeDecodeError:
        raise InputError("it is not text in UTF-8", where=place) from None
    rows = _csv_rows(text) if place.lower().endswith(".csv") else _json_rows(text, place)
    home = place.rpartition("/")[0]
    clips = []
    for line, row in rows:
        where = f"{place}, line {line}"
        _check_keys(row, where)
        if not row.get("input"):
            raise UsageError("a clip has no input", where=where)
        input = _beside(home, str(row["input"]))
        name = str(row.get("output") or row["input"].rstrip("/").rpartition("/")[2])
        if name.startswith("/") or ".." in name.split("/") or "://" in name:
            raise UsageError(f"the output {name!r} lies outside of the output folder", where=where)
        wished = _options(row, options, home, where)
        clip = _clip(input, name, folder, wished)
        clips.append(
            clip if not row.get("output") else replace(clip, name=name, output=storage.beside(folder, name))
        )
    return clips


def _csv_rows(text: str) -> list[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    return [(reader.line_num, {key: value for key, value in row.items() if value}) for row in reader]


def _json_rows(text: str, place: str) -> list[tuple[int, Mapping[str, Any]]]:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"this is not JSON: {error}", where=f"{place}, line {number}") from None
        if not isinstance(row, dict):
            raise UsageError('a line should be an object: {"input": ...}', where=f"{place}, line {number}")
        rows.append((number, row))
    return rows


def _check_keys(row: Mapping[str, Any], where: str) -> None:
    known = ["input", "output", *(each.name for each in fields(Options) if each.name != "change"), "set"]
    for key in row:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise UsageError(f"a clip has the unknown option {key!r}", where=where, hint=hint)


def _options(row: Mapping[str, Any], options: Options, home: str, where: str) -> Options:
    given: dict[str, Any] = {}
    for each in fields(Options):
        value = row.get("set" if each.name == "change" else each.name)
        if value is None:
            continue
        if each.name in _LISTS:
            given[each.name] = (
                tuple(str(part) for part in value) if isinstance(value, list) else _parts(value)
            )
        elif each.name in ("lossless", "deinterlace"):
            given[each.name] = _truth(value, each.name, where)
        elif each.name in ("masks", "references", "config"):
            given[each.name] = _beside(home, str(value))
        else:
            given[each.name] = str(value)
    return replace(options, **given)


def _parts(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else str(value).split(";")
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _truth(value: object, name: str, where: str) -> bool:
    text = str(value).lower()
    if text not in (*_YES, *_NO):
        raise UsageError(f"{name} should be yes or no, not {value!r}", where=where)
    return text in _YES


def _beside(home: str, path: str) -> str:
    """A path of a manifest: an address and an absolute path are as they are."""
    return path if "://" in path or path.startswith("/") or not home else storage.beside(home, path)
