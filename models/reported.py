"""Which classes a segmentator's weights know too badly to be reported: a list kept in the weights file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from .labels import THING_NAMES

KEY = "left_out"
"""Name of the list, separated by commas, in the metadata of a safetensors file."""

LEAST = 0.2
"""Intersection over union from which on a class is reported."""


def left_out(path: Path) -> frozenset[str]:
    """Classes that the weights in a safetensors file do not report; empty where it lists none.

    Only the header is read. Raises ValueError for a name that is no class, OSError as reading does.
    """
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    listed = header.get("__metadata__", {}).get(KEY, "")
    names = frozenset(name.strip() for name in listed.split(",") if name.strip())
    if wrong := sorted(names - set(THING_NAMES)):
        raise ValueError(f"{path.name} leaves out {wrong[0]!r}, which is no class")
    return names
