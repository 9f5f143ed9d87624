"""What is in a picture: things from the segmentator, surroundings from the stuff classifier.

The networks see the picture as a viewer does, upright; what they find is turned back into the coded frame.
Masks are at working resolution, which is the segmentator's input turned back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from models.instances import STRIDE, FoundThing, group_instances
from models.labels import STUFF_NAMES, THING_NAMES
from models.reported import left_out
from models.weights import weights_path
from stream import edges, regions
from stream.errors import UsageError
from stream.fringe import SMALL, fringes
from stream.networks import (
    STUFF_SIDE,
    Networks,
    NetworkSpec,
    input_size,
    networks_to_build,
    segmentator_spec,
    stuff_spec,
)
from stream.rules import check_class, parse_rules
from stream.shrink import shrink
from stream.types import Frame, Image, Instance, Mask, Perception

__all__ = [
    "NetworkSpec",
    "Networks",
    "check_reported",
    "from_labels",
    "networks_to_build",
    "open_networks",
    "perceive",
    "working_size",
]

_MOST_LABELLED = 1280
_MARGIN = 3
# Weaker and closer maxima of the heat map split people in two more often than they tell two people apart:
# on 60 photographs precision rises from .44 to .62 at equal recall (score 0.2, people over 1 %).
_PEAK, _WINDOW = 0.3, 9
# Parts of people are joined later than the grouping's default: recall of people over 1 % .50 to .52 at equal
# precision (.71) on 120 photographs.
_AGREEMENT = 0.3

# Log odds at which an outline runs, of small things and of others: of small ones the network is sure
# of the trunk alone, and of limbs only that they may be there. People in street frames: IoU .474 to .496.
_OUTLINE_ODDS = (-1.0, 0.0)

_NOTHING = np.zeros(0, np.float32)


def open_networks(config: Config, width: int, height: int, rotation: int = 0) -> Networks:
    """Open what perception needs for coded frames of this size; seconds when an engine must be built.

    Raises `EngineError` or `WeightsError` of engines and models. A frame of another shape or rotation opens
    a segmentator of its own when it comes. The engine "none" opens nothing.
    """
    networks = Networks(config)
    if config.engine.name == "none":
        return networks
    for spec in networks_to_build(config, width, height, rotation):
        networks.engine(spec)
    return networks


def check_reported(config: Config) -> tuple[str, ...]:
    """Warnings about classes that are to be removed and that the segmentator's weights do not report.

    Raises `UsageError` when none of those that are to be removed is reported.
    """
    if config.engine.name == "none" or not config.judge.remove:
        return ()
    left = _left_out(config)
    wanted = list(dict.fromkeys(rule.label for rule in parse_rules(config.judge.remove)))
    told = tuple(
        f"the network finds too few of class {label!r} to report any" for label in wanted if label in left
    )
    if len(told) == len(wanted):
        raise UsageError(
            told[0],
            where="--remove",
            hint="mark it with --masks; models/weights/MODEL_CARD.md lists what is reported",
        )
    return told


def _left_out(config: Config) -> frozenset[str]:
    given = config.models.weights.get("segmentator")
    name = f"segmentator-{config.models.segmentator}" if given is None else str(given)
    return _read_left_out(name)


@lru_cache(maxsize=8)
def _read_left_out(name: str) -> frozenset[str]:
    return left_out(Path(name) if "." in name else weights_path(name))


def working_size(config: Config, frame: Frame) -> tuple[int, int]:
    """Height and width of the masks for a frame, in its coded orientation."""
    height, width = (frame.width, frame.height) if frame.rotation % 180 else (frame.height, frame.width)
    rows, columns = input_size(height, width, config.perceive.size)
    return (columns, rows) if frame.rotation % 180 else (rows, columns)


def perceive(
    networks: Networks,
    frame: Frame,
    *,
    look_at_stuff: bool,
    look_at_things: bool = True,
    config: Config,
) -> Perception:
    """Run the networks on a frame.

    Things below `perceive.score` or smaller than `perceive.min_area` are left out, and so are classes that
    the weights say they know too badly. Without `look_at_things`
    the segmentator rests and nothing is found; without `look_at_stuff` the stuff stays empty.
    """
    shape = working_size(config, frame)
    stuff = _look_at_stuff(networks, frame, config) if look_at_stuff else _NOTHING
    classes = np.zeros(shape, np.uint8)
    if not look_at_things:
        return Perception(frame.index, classes, (), stuff)
    rows, columns = shape if not frame.rotation % 180 else shape[::-1]
    shown = _upright(frame, (rows, columns))
    height, width = (frame.width, frame.height) if frame.rotation % 180 else (frame.height, frame.width)
    engine = networks.engine(segmentator_spec(config, height, width))
    logits, centre, offset = (np.asarray(each, np.float32)[0] for each in engine(_as_input(shown)))
    found = group_instances(logits, centre, offset, peak=_PEAK, window=_WINDOW, agreement=_AGREEMENT)
    smallest = config.perceive.min_area * rows * columns / STRIDE**2
    unknown = _left_out(config)
    sure = [
        number
        for number, each in enumerate(found)
        if each.score >= config.perceive.score
        and np.count_nonzero(each.mask) >= smallest
        and THING_NAMES[each.label] not in unknown
    ]
    if not sure:
        return Perception(frame.index, classes, (), stuff)
    odds = _fine_odds(logits, shown, [found[number] for number in sure])
    beyond = fringes(found, logits)
    all_cells = np.logical_or.reduce([each.mask for each in found])
    instances = []
    for number in sure:
        each = found[number]
        mask = _turned_back(_enlarged(each, all_cells & ~each.mask, odds), frame.rotation)
        instance = _instance(THING_NAMES[each.label], each.score, mask, frame)
        if instance is not None:
            fringe = _turned_back(_at_size(beyond[number], (columns, rows)), frame.rotation) & ~mask
            instances.append(replace(instance, fringe=fringe))
    return Perception(frame.index, _class_map(instances, shape), tuple(instances), stuff)


def from_labels(
    labels: NDArray[np.uint16], names: Mapping[int, str], frame: Frame, perception: Perception | None = None
) -> Perception:
    """Things from the user's labelled mask instead of the segmentator.

    `labels`: (H, W) of the frame's size, pixel = object id, 0 = nothing; `names` the class of each id.
    The stuff is that of `perception`. Masks keep the frame's resolution up to 1280 pixels. Raises
    `UsageError` for a mask of another size, an id without a class, and an unknown class.
    """
    if labels.shape != (frame.height, frame.width):
        raise UsageError(
            f"the labelled mask is {labels.shape[1]}x{labels.shape[0]}, not {frame.width}x{frame.height}",
            where=f"frame {frame.index}",
            hint="give masks of the picture's size",
        )
    scale = min(1.0, _MOST_LABELLED / max(labels.shape))
    shape = (round(frame.height * scale), round(frame.width * scale))
    small = labels
    if scale < 1:
        small = cv2.resize(labels, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST).astype(np.uint16)
    present = [int(each) for each in np.unique(labels) if each]
    missing = [each for each in present if each not in names]
    if missing:
        raise UsageError(
            f"no class is given for object {missing[0]}",
            where=f"frame {frame.index}",
            hint="objects.json says {id: class} for every id in the masks",
        )
    instances = []
    for identity in present:
        label = check_class(names[identity], "objects.json")
        found = _instance(label, 1.0, small == identity, frame, identity)
        if found is not None:
            instances.append(found)
    stuff = _NOTHING if perception is None else perception.stuff
    return Perception(frame.index, _class_map(instances, shape), tuple(instances), stuff)


def _look_at_stuff(networks: Networks, frame: Frame, config: Config) -> NDArray[np.float32]:
    """Probability of each COCO-Stuff class, float32 (91,)."""
    shown = _upright(frame, (STUFF_SIDE, STUFF_SIDE))
    logits = np.asarray(networks.engine(stuff_spec(config))(_as_input(shown)), np.float32).reshape(-1)
    if len(logits) != len(STUFF_NAMES):
        raise ValueError(f"the stuff classifier gave {len(logits)} numbers, not {len(STUFF_NAMES)}")
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _upright(frame: Frame, size: tuple[int, int]) -> Image:
    """The picture as it is shown, resized to (rows, columns)."""
    rows, columns = size[::-1] if frame.rotation % 180 else size
    if rows * columns < frame.height * frame.width:
        small = shrink(frame, (columns, rows))
    else:
        small = np.asarray(cv2.resize(frame.rgb, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.ascontiguousarray(np.rot90(small, -frame.rotation // 90))


def _turned_back(mask: Mask, rotation: int) -> Mask:
    return np.ascontiguousarray(np.rot90(mask, rotation // 90)) if rotation else mask


def _as_input(rgb: Image) -> NDArray[np.float32]:
    out = np.empty((1, 3, *rgb.shape[:2]), np.float32)
    for colour, plane in zip(cv2.split(rgb), out[0], strict=True):
        np.multiply(colour, np.float32(1 / 255), out=plane)
    return out


def _foreground(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log odds that a cell is any thing at all, (h, w): 0 on a thing's outline."""
    things = logits[1:]
    most = things.max(0)
    shares = things - most
    np.exp(shares, out=shares)
    return np.asarray(most + np.log(shares.sum(0)) - logits[0], np.float32)


def _fine_odds(
    logits: NDArray[np.float32], shown: Image, things: Sequence[FoundThing]
) -> NDArray[np.float32]:
    """Log odds of any thing at all at the picture's size, around the things only; -inf elsewhere."""
    rows, columns = logits.shape[1:]
    boxes = np.array([each.box for each in things]) // STRIDE
    reach = _MARGIN + edges.DEPENDS
    left, top = np.maximum(boxes[:, :2].min(0) - reach, 0)
    right, bottom = np.minimum(boxes[:, 2:].max(0) + reach, (columns, rows))
    odds = np.full((rows * STRIDE, columns * STRIDE), -np.inf, np.float32)
    fine = (slice(top * STRIDE, bottom * STRIDE), slice(left * STRIDE, right * STRIDE))
    odds[fine] = edges.follow(_foreground(logits[:, top:bottom, left:right]), shown[fine])
    return odds


def _enlarged(thing: FoundThing, others: Mask, odds: NDArray[np.float32]) -> Mask:
    """A thing's mask at four times the cells, its outline where the fine odds are high enough.

    Towards another thing, whose odds are high too, it runs halfway between the cells.
    """
    out = np.zeros(odds.shape, bool)
    rows, columns = others.shape
    x0, y0, x1, y1 = (value // STRIDE for value in thing.box)
    left, top = max(0, x0 - _MARGIN), max(0, y0 - _MARGIN)
    right, bottom = min(columns, x1 + _MARGIN), min(rows, y1 + _MARGIN)
    window = (slice(top, bottom), slice(left, right))
    size = ((right - left) * STRIDE, (bottom - top) * STRIDE)
    mine, theirs = (_nearness(cells[window], size) for cells in (thing.mask, others))
    fine = (slice(top * STRIDE, bottom * STRIDE), slice(left * STRIDE, right * STRIDE))
    least = np.interp(np.count_nonzero(thing.mask) / thing.mask.size, SMALL, _OUTLINE_ODDS)
    out[fine] = (odds[fine] > least) & (mine > theirs)
    return out


def _at_size(cells: Mask, size: tuple[int, int]) -> Mask:
    soft = cv2.resize(cells.view(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 127)


def _nearness(cells: Mask, size: tuple[int, int]) -> NDArray[np.float32]:
    """Share of true cells around each pixel, two cells far."""
    soft = cv2.blur(cells.astype(np.float32), (5, 5), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _instance(label: str, score: float, mask: Mask, frame: Frame, identity: int = 0) -> Instance | None:
    found = regions.bounds(mask)
    if found is None:
        return None
    across, down = frame.width / mask.shape[1], frame.height / mask.shape[0]
    box = (found[0] * across, found[1] * down, found[2] * across, found[3] * down)
    return Instance(label, score, box, mask, identity)


def _class_map(instances: Sequence[Instance], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Class of each pixel, less sure things below surer ones."""
    classes = np.zeros(shape, np.uint8)
    for each in sorted(instances, key=lambda one: one.score):
        classes[each.mask] = THING_NAMES.index(each.label) + 1
    return classes
