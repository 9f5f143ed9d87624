"""A picture or a clip taken apart into its plate and its things, as files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import isnan
from pathlib import Path
from time import perf_counter

import numpy as np

from configs.schema import Config
from stream import judge, pipeline
from stream.boxes import Box
from stream.errors import InputError, InterruptedRunError, OutputError, UsageError
from stream.hole import bounds
from stream.job import Progress
from stream.layer_contents import (
    FORMAT,
    NAME,
    Contents,
    Place,
    Style,
    Thing,
    numbered,
    read_contents,
    write_contents,
)
from stream.layer_files import Spool, write_clip, write_still
from stream.layer_whole import Wholes, layers_of
from stream.masks import open_masks
from stream.matting import Layer, hidden_share, put_together
from stream.memory import give_back
from stream.part import Part, remove
from stream.report import version
from stream.rgba import turn, turn_box, write_ora, write_png
from stream.rooms import open_rooms
from stream.sink import open_sink
from stream.source import open_source
from stream.source_info import SourceInfo
from stream.types import Filled, Frame, Track, Verdict

_GIVE_BACK = 50
_OPEN_SPOOLS = 64
_STILL_REACH = 0.01


@dataclass(frozen=True)
class LayerJob:
    """What is to be taken apart and how: as in `stream.job.Job`; `style` of clips' layers."""

    style: Style = "prores"
    masks: Path | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    fps: Fraction = Fraction(25)
    overwrite: bool = False


@dataclass
class _Found:
    """What is known of the things so far."""

    spools: dict[int, Spool] = field(default_factory=dict)
    places: dict[int, list[Place]] = field(default_factory=dict)
    tracks: dict[int, Track] = field(default_factory=dict)
    times: list[int] = field(default_factory=list)


def take_layers(
    input: str | Path,
    folder: Path,
    config: Config,
    job: LayerJob,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Contents:
    """Take INPUT apart into FOLDER, which bears its name only when it is whole; return what is in it.

    Every thing that is followed becomes a layer, whether it would stay or go; the plate is what is behind all
    of them. Raises `InputError`, `OutputError`, `UsageError`, `EngineError`.
    """
    judge.check(config.judge)
    if config.engine.name == "none" and job.masks is None:
        raise UsageError("the engine none sees no things", hint="--masks FOLDER says what they are")
    _check(folder, job)
    began = perf_counter()
    said: dict[int, Verdict] = {}
    with ExitStack() as stack:
        source = stack.enter_context(open_source(input, start=job.start, end=job.end, fps=job.fps))
        info = source.info
        masks = stack.enter_context(open_masks(job.masks, info)) if job.masks else None
        part = Part(folder)
        stack.callback(part.remove)
        part.clear()
        whole, spooled = part.folder / "whole", part.folder / "spool"
        whole.mkdir()
        spooled.mkdir()
        ready = open_rooms(stack, source, _tight(config) if info.kind == "image" else config, masks, [])

        hidden = Wholes(config, clip=info.kind != "image")

        def everything_goes(seen: pipeline.Seen) -> pipeline.Seen:
            if seen.mask is not None:
                raise UsageError(
                    "these masks do not say which thing is which",
                    where=str(job.masks),
                    hint="a PNG folder of object ids with an objects.json does",
                )
            hidden.observe(seen)
            said.update((each.track, each) for each in seen.verdicts)
            sure = {each.id for each in seen.tracks if each.confirmed or info.kind == "image"}
            goes = (replace(each, action="remove") if each.track in sure else each for each in seen.verdicts)
            return replace(seen, verdicts=tuple(goes))

        found = _Found()
        _, done = ready.start(source, stop=stop, then=everything_goes)
        stack.callback(done.close)
        last: tuple[Filled, list[Layer]] | None = None
        with _plate(whole, info, job.style) as write_plate:
            for filled in done:
                if isinstance(filled, pipeline.Border):
                    continue
                layers = layers_of(filled, hidden)
                _keep(found, filled, layers, spooled)
                write_plate(filled.frame)
                last = (filled, layers)
                if len(found.times) % _GIVE_BACK == 0:
                    give_back()
                if on_progress is not None:
                    on_progress(Progress(len(found.times), info.frames, perf_counter() - began, filled))
        if last is None:
            raise InputError("there is no frame to take apart", where=str(input))
        things = _write_things(whole, found, said, info, job.style, stop)
        if info.kind == "image":
            _write_still_file(whole, last[0], last[1], things, info.rotation)
        contents = _contents(info, found, things, job)
        write_contents(whole, contents)
        _name(whole, folder)
    return contents


def _check(folder: Path, job: LayerJob) -> None:
    if not folder.parent.is_dir():
        raise OutputError("the folder it should lie in does not exist", where=str(folder))
    if folder.exists() and not folder.is_dir():
        raise OutputError("it is a file, not a folder", where=str(folder), hint="give another name")
    if folder.is_dir() and any(folder.iterdir()):
        if not job.overwrite:
            hint = "--overwrite replaces the layers in it"
            raise OutputError("the folder is not empty", where=str(folder), hint=hint)
        if not (folder / NAME).exists():
            raise OutputError("what is in it are not layers", where=str(folder), hint="name another folder")


def _tight(config: Config) -> Config:
    """Holes that fit closely, for a still: what its plate invents beside a thing would become part of it."""
    tight = config.hole.model_copy(update={"dilate": min(config.hole.dilate, _STILL_REACH)})
    return config.model_copy(update={"hole": tight})


def _plate_name(info: SourceInfo, style: Style) -> str:
    return "plate.png" if info.kind == "image" else "plate" if style == "png" else "plate.mov"


@contextmanager
def _plate(whole: Path, info: SourceInfo, style: Style) -> Iterator[Callable[[Frame], None]]:
    """What writes the plate's frames; a clip's sound and tags go with it."""
    path = whole / _plate_name(info, style)
    if info.kind == "image":
        yield lambda frame: write_png(path, turn(frame.rgb, info.rotation))
    elif style != "png":
        # said to be what it is to become, so that the sink picks it
        with open_sink(path, replace(info, codec="prores", format="yuv422p10le", kind="video")) as sink:
            yield sink.write
    else:
        path.mkdir()
        count = itertools.count()
        yield lambda frame: write_png(path / f"{next(count):06}.png", turn(frame.rgb, info.rotation))


def _keep(found: _Found, filled: Filled, layers: list[Layer], spooled: Path) -> None:
    number = len(found.times)
    found.times.append(filled.frame.pts)
    found.tracks.update((each.id, each) for each in filled.tracks)
    for depth, layer in enumerate(layers):
        spool = found.spools.get(layer.id)
        if spool is None:
            spool = found.spools[layer.id] = Spool(spooled / str(layer.id))
        spool.add(number, layer)
        frame = filled.frame
        box = turn_box(_box(layer), frame.rotation, frame.width, frame.height)
        place = Place(frame=number, box=box, depth=depth, hidden=round(hidden_share(layer), 4))
        found.places.setdefault(layer.id, []).append(place)
    if len(layers) > _OPEN_SPOOLS:
        for spool in found.spools.values():
            spool.rest()


def _box(layer: Layer) -> Box:
    """The box of the thing itself, seen and hidden, in the frame."""
    inside = bounds(layer.shape > 0) or bounds(layer.alpha > 0)
    assert inside is not None
    x, y = layer.box[:2]
    return inside[0] + x, inside[1] + y, inside[2] + x, inside[3] + y


def _write_things(
    whole: Path,
    found: _Found,
    said: Mapping[int, Verdict],
    info: SourceInfo,
    style: Style,
    stop: Callable[[], bool] | None,
) -> list[Thing]:
    names = numbered((each, found.tracks[each].label) for each in sorted(found.spools))
    things = []
    for number, name in names.items():
        if stop is not None and stop():
            raise InterruptedRunError("interrupted")
        spool = found.spools[number]
        if info.kind == "image":
            file, mask = write_still(whole, name, spool, info)
        else:
            file, mask = write_clip(whole, name, spool, found.times, info, style)
        verdict, places = said[number], found.places[number]
        start = found.times[0]
        first, last = (
            float((found.times[each.frame] - start) * info.time_base) for each in (places[0], places[-1])
        )
        things.append(
            Thing(
                id=number,
                label=found.tracks[number].label,
                action=verdict.action,
                relation=None if isnan(verdict.relation) else round(verdict.relation, 4),
                reason=verdict.reason,
                file=file,
                mask=mask,
                first_seconds=round(first, 6),
                last_seconds=round(last, 6),
                places=tuple(places),
            )
        )
    return things


def _write_still_file(
    whole: Path, filled: Filled, layers: list[Layer], things: list[Thing], rotation: int
) -> None:
    names = {each.id: f"{each.label} {each.id} ({each.action})" for each in things}
    shape = filled.frame.rgb.shape[:2]
    pictures = []
    for layer in layers:
        canvas = np.zeros((*shape, 4), np.uint8)
        x0, y0, x1, y1 = layer.box
        canvas[y0:y1, x0:x1] = np.dstack([layer.colours, layer.alpha])
        pictures.append((names[layer.id], turn(canvas, rotation)))
    merged = put_together(filled.frame.rgb, layers)
    write_ora(whole / "layers.ora", turn(filled.frame.rgb, rotation), pictures, turn(merged, rotation))


def _contents(info: SourceInfo, found: _Found, things: list[Thing], job: LayerJob) -> Contents:
    return Contents(
        format=FORMAT,
        version=version(),
        input=info.name,
        kind="image" if info.kind == "image" else "clip",
        style="png" if info.kind == "image" else job.style,
        width=info.height if info.rotation % 180 else info.width,
        height=info.width if info.rotation % 180 else info.height,
        rotation=info.rotation,
        fps=str(job.fps if info.kind == "folder" else info.rate),
        frames=len(found.times),
        time_base=str(info.time_base),
        times=tuple(found.times),
        codec=info.codec,
        pixel_format=info.format,
        plate=_plate_name(info, job.style),
        layers=tuple(things),
    )


def _name(whole: Path, folder: Path) -> None:
    """Give the folder its name; of layers that were there before only their own files are replaced."""
    if not folder.exists():
        whole.replace(folder)
        return
    if (folder / NAME).exists():
        old = read_contents(folder)
        for name in (old.plate, *(name for thing in old.layers for name in (thing.file, thing.mask))):
            remove(folder / name)
    for each in sorted(whole.iterdir()):
        target = folder / each.name
        if target.is_dir():
            remove(target)
        each.replace(target)
