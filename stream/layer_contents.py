"""What `layers.json` says: the plate, and each layer with its files and its way through the clip."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from stream.errors import InputError

Style = Literal["png", "prores", "vp9"]
"""How layers of a clip are stored."""

FORMAT = 1
NAME = "layers.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Strict):
    """Where a thing is in one frame: its box with what is hidden of it, and its depth, 0 the rearmost."""

    frame: int
    box: tuple[int, int, int, int]
    depth: int
    hidden: float


class Thing(_Strict):
    """One layer: the thing, what was said of it, its files, and its way through the clip."""

    id: int
    label: str
    action: Literal["keep", "remove"]
    relation: float | None
    reason: str
    file: str
    mask: str
    first_seconds: float
    last_seconds: float
    places: tuple[Place, ...]


class Contents(_Strict):
    """What `layers.json` says.

    Sizes and boxes are those of the picture as it is seen, after `rotation` (degrees clockwise). `codec` and
    `pixel_format` are the input's; `times` the frames' time stamps in `time_base` seconds.
    """

    format: int
    version: str
    input: str
    kind: Literal["image", "clip"]
    style: Style
    width: int
    height: int
    rotation: int
    fps: str
    frames: int
    time_base: str
    times: tuple[int, ...]
    codec: str
    pixel_format: str
    plate: str
    layers: tuple[Thing, ...]

    @property
    def filmed(self) -> bool:
        """Whether plate and layers are videos."""
        return self.kind == "clip" and self.style != "png"


def read_contents(folder: Path) -> Contents:
    """Read `layers.json`; raises InputError when it is not there or makes no sense."""
    path = folder / NAME
    try:
        found = Contents.model_validate_json(path.read_bytes())
    except OSError:
        raise InputError(
            "there are no layers", where=str(folder), hint="cleanplate layers INPUT -o DIR makes them"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{place}: {first['msg']}", where=str(path)) from None
    if found.format != FORMAT:
        raise InputError(f"it is of format {found.format}, this program reads {FORMAT}", where=str(path))
    for name in (found.plate, *(each.file for each in found.layers), *(each.mask for each in found.layers)):
        # the file may come from anywhere, and must not lead out of its folder
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{name!r} lies outside of the folder", where=str(path))
    return found


def write_contents(folder: Path, contents: Contents) -> None:
    """Write `layers.json`, one line for each frame of each layer."""
    told = contents.model_dump(mode="json")
    layers = []
    for each in told.pop("layers"):
        places = ",\n   ".join(map(_json, each.pop("places")))
        layers.append(f'{_json(each)[:-1]}, "places": [\n   {places}]}}')
    head = ",\n ".join(f"{_json(key)}: {_json(value)}" for key, value in told.items())
    text = ",\n  ".join(layers)
    (folder / NAME).write_text(f'{{\n {head},\n "layers": [\n  {text}]\n}}\n', encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def numbered(things: Iterable[tuple[int, str]]) -> dict[int, str]:
    """A file name for each thing by its id: number and class."""
    return {number: f"{number:03}-{label.replace(' ', '-')}" for number, label in things}
