"""The state of a run in a file: frozen dataclasses, containers, numbers and arrays, nothing that is run.

A zip archive: `state.json` lists every object once, parts before wholes, so that what was shared is shared
again; arrays lie beside it. Whole frames are left out: they are named, and decoded again from the input.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from stream.types import Frame

_TREE = "state.json"
_PACKAGES = ("stream.", "models.", "configs.")
_COLLECTIONS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "tuple": tuple,
    "list": list,
    "frozenset": frozenset,
    "set": set,
    "deque": deque,
}
_PLAIN = (bool, int, float, str, type(None))


class SnapshotError(ValueError):
    """A file that is not a whole snapshot, or one of another version of the program."""


def save(path: Path, value: object, known: Sequence[object] = ()) -> None:
    """Write `value` to a new file at `path`; raises OSError.

    `known`: objects that whoever loads has already, and in the same order; they are named, not written.
    """
    with zipfile.ZipFile(path, "w") as archive:
        writer = _Writer(archive, known)
        root = writer.add(value)
        tree = {"root": root, "objects": writer.objects, "frames": sorted(writer.frames)}
        archive.writestr(_TREE, json.dumps(tree, separators=(",", ":")), zipfile.ZIP_DEFLATED, 1)


class Snapshot:
    """A snapshot on disk; `frames` are the indices of the frames that `load` wants."""

    def __init__(self, path: Path) -> None:
        """Raise SnapshotError when this is no snapshot, or a damaged one."""
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                tree = json.loads(archive.read(_TREE))
            self.frames = frozenset(int(each) for each in tree["frames"])
            self._objects, self._root = list(tree["objects"]), tree["root"]
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise SnapshotError(f"it cannot be read: {error}") from None

    def load(self, frames: Mapping[int, Frame], known: Sequence[object] = ()) -> Any:
        """The value that was saved. Raises SnapshotError for a damaged file or unknown contents."""
        built: list[Any] = []
        try:
            with zipfile.ZipFile(self._path) as archive:
                for node in self._objects:
                    built.append(_build(node, built, archive, frames, known))
            return _value(self._root, built)
        except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
            raise SnapshotError(f"it cannot be read: {error}") from None


class _Writer:
    """Walks a value and gives each object in it a number; `objects` are their descriptions."""

    def __init__(self, archive: zipfile.ZipFile, known: Sequence[object]) -> None:
        self.objects: list[Any] = []
        self.frames: set[int] = set()
        self._archive = archive
        self._arrays = 0
        self._seen: dict[int, tuple[int, object]] = {}
        for number, each in enumerate(known):
            self._store(each, ["known", number])

    def add(self, value: object) -> Any:
        """What stands for `value`: itself when it is plain, else the number of its object in a list."""
        if type(value) in _PLAIN:
            return value
        if id(value) not in self._seen:
            self._store(value, self._described(value))
        return [self._seen[id(value)][0]]

    def _store(self, value: object, description: list[Any]) -> None:
        # the object is held too, or its id might be given to another
        self._seen[id(value)] = len(self.objects), value
        self.objects.append(description)

    def _described(self, value: Any) -> list[Any]:
        kind = type(value)
        if isinstance(value, Frame):
            self.frames.add(value.index)
            return ["frame", value.index]
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return ["number", value.dtype.str, value.item() if value.dtype.kind in "biuf" else None]
        if kind is Fraction:
            return ["fraction", value.numerator, value.denominator]
        if kind.__name__ in _COLLECTIONS and kind is _COLLECTIONS[kind.__name__]:
            return [kind.__name__, [self.add(each) for each in value]]
        if isinstance(value, Mapping):
            return ["dict", [[self.add(key), self.add(each)] for key, each in value.items()]]
        if dataclasses.is_dataclass(kind) and kind.__module__.startswith(_PACKAGES):
            fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(kind)}
            parts = {name: self.add(part) for name, part in fields.items()}
            return ["object", kind.__module__, kind.__qualname__, parts]
        raise TypeError(f"a {kind.__module__}.{kind.__qualname__} cannot be saved")

    def _array(self, value: np.ndarray[Any, Any]) -> list[Any]:
        if value.dtype.kind not in "biuf":
            raise TypeError(f"an array of {value.dtype} cannot be saved")
        name = f"{self._arrays}"
        self._arrays += 1
        # masks and labels shrink to nothing in no time, pictures and motion hardly at all
        flat = value.dtype.kind == "b" or value.dtype == np.uint16 or value.max(initial=0) <= 1
        how = zipfile.ZIP_DEFLATED if flat else zipfile.ZIP_STORED
        self._archive.writestr(name, np.ascontiguousarray(value).tobytes(), how, 1)
        return ["array", name, value.dtype.str, list(value.shape)]


def _value(node: Any, built: Sequence[Any]) -> Any:
    return built[node[0]] if isinstance(node, list) else node


def _build(
    node: list[Any],
    built: Sequence[Any],
    archive: zipfile.ZipFile,
    frames: Mapping[int, Frame],
    known: Sequence[object],
) -> Any:
    match node:
        case ["known", number]:
            return known[number]
        case ["frame", index]:
            return frames[index]
        case ["number", kind, value]:
            return np.dtype(kind).type(value)
        case ["fraction", numerator, denominator]:
            return Fraction(numerator, denominator)
        case ["array", name, kind, shape]:
            # a copy, because some arrays are changed in place
            return np.frombuffer(archive.read(name), np.dtype(kind)).reshape(shape).copy()
        case ["dict", pairs]:
            return {_value(key, built): _value(each, built) for key, each in pairs}
        case ["object", module, name, parts]:
            fields = {key: _value(part, built) for key, part in parts.items()}
            return _object(module, name, fields)
        case [kind, parts] if kind in _COLLECTIONS:
            return _COLLECTIONS[kind](_value(each, built) for each in parts)
    raise SnapshotError(f"there is an unknown {node[:1]} in it")


def _object(module: str, name: str, fields: dict[str, Any]) -> Any:
    # only what is imported already, and only dataclasses: nothing in the file is ever run
    found = getattr(sys.modules.get(module), name, None) if module.startswith(_PACKAGES) else None
    if not isinstance(found, type) or not dataclasses.is_dataclass(found):
        raise SnapshotError(f"there is an unknown {module}.{name} in it")
    if {each.name for each in dataclasses.fields(found)} != fields.keys():
        raise SnapshotError(f"its {name} is that of another version")
    made = object.__new__(found)
    for key, part in fields.items():
        object.__setattr__(made, key, part)
    return made
