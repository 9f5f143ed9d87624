"""Layers put together again, as they were or changed: moved, scaled, faded, hidden, in another order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream.errors import InputError, InterruptedRunError, UsageError
from stream.layer_contents import Contents, Place, Thing, read_contents
from stream.layer_files import read_layer, read_plate
from stream.planes import write_back
from stream.rgba import turn
from stream.sink import open_sink
from stream.source import open_source
from stream.source_info import SourceInfo
from stream.types import Colour, Frame, Image


class Change(BaseModel):
    """What becomes of one layer.

    `hide`: it is left out. `move`: pixels to the right and down. `scale`: about the middle of its lower edge,
    where it stands. `opacity` in [0, 1]. `depth`: in front of all others, behind them, or at this place among
    them in each frame (0 the rearmost).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    hide: bool = False
    move: tuple[float, float] = (0.0, 0.0)
    scale: Annotated[float, Field(gt=0, le=20)] = 1.0
    opacity: Annotated[float, Field(ge=0, le=1)] = 1.0
    depth: Literal["front", "back"] | Annotated[int, Field(ge=0)] | None = None


class Edit(BaseModel):
    """An edit: changes by the layers' ids, or by `removed` and `kept` for all layers of that verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    layers: Mapping[str, Change] = Field(default_factory=dict)


@dataclass(frozen=True)
class Composed:
    """How far a composition is: frames done and in all, and the picture of the last."""

    frames: int
    total: int
    seconds: float
    picture: Image


def read_edit(path: Path, contents: Contents) -> Edit:
    """Read an edit for these layers; raises InputError, or UsageError for what makes no sense."""
    try:
        found = Edit.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the edit"
        hint = 'such as {"layers": {"3": {"move": [40, 0]}, "removed": {"hide": true}}}'
        if first["type"] == "extra_forbidden":
            names = ("layers",) if len(first["loc"]) == 1 else Change.model_fields
            raise UsageError(
                f"{place}: there is nothing of this name",
                where=str(path),
                hint=f"there is {', '.join(names)}; {hint}",
            ) from None
        raise UsageError(f"{place}: {first['msg']}", where=str(path), hint=hint) from None
    known = [str(each.id) for each in contents.layers]
    for name in found.layers:
        if name not in (*known, "removed", "kept"):
            raise UsageError(
                f"there is no layer {name!r}",
                where=str(path),
                hint=f"there are {', '.join(known) or 'none'}; and removed, kept for all of these",
            )
    return found


def change_of(edit: Edit, thing: Thing) -> Change:
    """What an edit says of a thing; what it says of this one counts more than what of all its kind."""
    kind = edit.layers.get({"remove": "removed", "keep": "kept"}[thing.action])
    own = edit.layers.get(str(thing.id))
    if own is None or kind is None:
        return own or kind or Change()
    return kind.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def compose(
    folder: Path,
    output: Path,
    edit: Edit | None = None,
    *,
    lossless: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Composed], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[str, ...]:
    """Put layers together into OUTPUT, a file or a folder of images; return what it does not hold, in words.

    Sound, tags and time stamps are those of the plate. Raises `InputError`, `OutputError`, `UsageError`.
    """
    contents = read_contents(folder)
    began = perf_counter()
    with ExitStack() as stack:
        info = _info(folder, contents)
        sink = stack.enter_context(open_sink(output, info, lossless=lossless, overwrite=overwrite))
        pictures = stack.enter_context(closing(_pictures(folder, contents, edit or Edit())))
        for number, (picture, frame) in enumerate(pictures):
            if stop is not None and stop():
                raise InterruptedRunError("interrupted")
            sink.write(_frame(picture, frame, number, contents, info))
            if on_progress is not None:
                done = Composed(number + 1, contents.frames, perf_counter() - began, picture)
                on_progress(done)
        sink.close()
        return sink.warnings


def _pictures(
    folder: Path, contents: Contents, edit: Edit
) -> Generator[tuple[Image, Frame | None], None, None]:
    """The composed pictures (H x W x 3 RGB, as seen), each with the plate's frame where it has one."""
    changes = {each.id: change_of(edit, each) for each in contents.layers}
    shown = [each for each in contents.layers if each.places and not changes[each.id].hide]
    places = {each.id: {place.frame: place for place in each.places} for each in shown}
    waiting = sorted(shown, key=lambda each: each.places[0].frame)
    with ExitStack() as stack:
        running: dict[int, Iterator[tuple[int, NDArray[np.uint8]]]] = {}
        for number, (plate, frame) in enumerate(read_plate(folder, contents)):
            if plate.shape[:2] != (contents.height, contents.width):
                raise InputError("the plate has another size than the layers", where=str(folder))
            while waiting and waiting[0].places[0].frame <= number:
                thing = waiting.pop(0)
                running[thing.id] = stack.enter_context(closing(read_layer(folder, thing, contents)))
            now: list[tuple[float, Place, Change, NDArray[np.uint8]]] = []
            for thing in shown:
                if thing.id not in running or number > thing.places[-1].frame:
                    continue
                _, rgba = next(running[thing.id], (number, None))
                if rgba is None or rgba.shape[:2] != plate.shape[:2]:
                    raise InputError("a layer is shorter or smaller than it was", where=thing.file)
                place = places[thing.id].get(number)
                if place is not None:
                    change = changes[thing.id]
                    now.append((_depth(place, change), place, change, rgba))
            now.sort(key=lambda each: each[0])
            yield _composed(plate, [each[1:] for each in now]), frame


def _depth(place: Place, change: Change) -> float:
    match change.depth:
        case None:
            return place.depth
        case "front":
            return float("inf")
        case "back":
            return -1.0
        case _:
            # among equals it comes just in front of the one that was there
            return change.depth + 0.5


def _composed(plate: Image, layers: list[tuple[Place, Change, NDArray[np.uint8]]]) -> Image:
    canvas = plate.astype(np.float32)
    for place, change, rgba in layers:
        if (change.move, change.scale) != ((0.0, 0.0), 1.0):
            _lay_moved(canvas, place, change, rgba)
            continue
        x, y, w, h = cv2.boundingRect((rgba[:, :, 3] > 0).astype(np.uint8))
        part = slice(y, y + h), slice(x, x + w)
        share = rgba[part][:, :, 3:].astype(np.float32) * (change.opacity / 255)
        canvas[part] += share * (rgba[part][:, :, :3] - canvas[part])
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _lay_moved(canvas: NDArray[np.float32], place: Place, change: Change, rgba: NDArray[np.uint8]) -> None:
    """Lay a layer somewhere else: resampled with its colours multiplied by alpha, so that no rim appears."""
    x0, _, x1, y1 = place.box
    foot = (x0 + x1) / 2, float(y1)
    by = change.scale
    move = np.array(
        [
            [by, 0.0, foot[0] * (1 - by) + change.move[0]],
            [0.0, by, foot[1] * (1 - by) + change.move[1]],
        ]
    )
    alpha = rgba[:, :, 3:].astype(np.float32) / 255
    whole: NDArray[np.floating] = np.dstack([rgba[:, :, :3] * alpha, alpha])
    size = canvas.shape[1], canvas.shape[0]
    smooth = cv2.INTER_LINEAR if by < 1 else cv2.INTER_CUBIC
    if by < 0.6:
        # warping alone would skip pixels
        whole = np.asarray(cv2.GaussianBlur(whole, (0, 0), 0.4 / by), np.float32)
    moved = np.asarray(cv2.warpAffine(whole, move, size, flags=smooth), np.float32)
    share = np.clip(moved[:, :, 3:], 0, 1) * change.opacity
    canvas *= 1 - share
    canvas += np.clip(moved[:, :, :3], 0, 255) * change.opacity


def _info(folder: Path, contents: Contents) -> SourceInfo:
    """What the sink is to know: the plate, with the codec and the pixels of the input."""
    plate = folder / contents.plate
    with open_source(plate, fps=Fraction(contents.fps)) as source:
        info = source.info
    if contents.filmed:
        return replace(info, codec=contents.codec, format=contents.pixel_format)
    if contents.kind == "clip":
        first = contents.times[0] if contents.times else 0
        return replace(
            info, kind="folder", time_base=Fraction(contents.time_base), first_pts=first, format="rgb24"
        )
    return replace(info, format="rgb24")


def _frame(picture: Image, frame: Frame | None, number: int, contents: Contents, info: SourceInfo) -> Frame:
    """A composed picture as a frame for the sink."""
    if frame is not None:
        coded = turn(picture, -contents.rotation)
        whole = np.full(coded.shape[:2], 255, np.uint8)
        return write_back(frame, coded, whole, (0, 0, frame.width, frame.height))
    return Frame(
        index=number,
        pts=contents.times[number],
        time_base=info.time_base,
        planes=(picture,),
        format="rgb24",
        width=picture.shape[1],
        height=picture.shape[0],
        colour=Colour(full_range=True),
    )
