"""What the networks saw, given to the things that are followed: whose it is, who is hidden, who is new."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Track as TrackConfig
from stream import association, inner, life, pieces, regions
from stream.association import Shapes
from stream.life import Life, Scene
from stream.types import Frame, Instance, Perception

_RECENT_SECONDS = 0.4
_ALIKE = 0.35
_SAME_COLOUR = 0.12
_UNDER_WAY = 1.0
_DOUBT_SECONDS = 0.5


def carried(
    old: Life, predicted: Life, previous: NDArray[np.uint8] | None, grey: NDArray[np.uint8], scene: Scene
) -> Life:
    """The thing in a frame nobody looked at: by its own motion if that can be measured."""
    affine = None if predicted.occluded else inner.own_motion(previous, grey, old, scene)
    if affine is None or _left_behind(old, predicted, affine, scene):
        return predicted
    # Its way only: what hides half of it would make it grow and turn.
    way = _middle(regions.move_box(affine, old.box)) - _middle(old.box)
    moved = life.shifted(old, np.array([[1.0, 0.0, way[0]], [0.0, 1.0, way[1]]]), scene)
    return replace(
        predicted,
        box=moved.box,
        even=moved.even,
        whole=moved.whole,
        soft=moved.soft,
        mask=moved.mask,
        fringe=moved.fringe,
    )


def _left_behind(old: Life, predicted: Life, affine: regions.Affine, scene: Scene) -> bool:
    """Whether what is at the thing's place rests, while the thing was on its way: that hides it."""
    own = np.array(old.cruise if old.missed else old.velocity) * scene.step
    length = float(np.hypot(*own))
    found = own + _middle(regions.move_box(affine, old.box)) - _middle(predicted.box)
    return length > _UNDER_WAY and float(own @ found) < 0.5 * length * length


def _middle(box: regions.Box) -> NDArray[np.float64]:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def observe_all(
    before: tuple[Life, ...],
    previous: NDArray[np.uint8] | None,
    lost: tuple[Life, ...],
    next_id: int,
    predicted: tuple[Life, ...],
    perception: Perception,
    frame: Frame,
    grey: NDArray[np.uint8],
    scene: Scene,
    config: TrackConfig,
) -> tuple[tuple[Life, ...], int]:
    """Correct what was predicted with what was seen; returns all things and the next free id.

    `before`: the things as they were in the last frame, whose brightness is `previous`; `predicted`: the same
    where they should be now; `lost`: those that may be found again.
    """
    predicted = _crowded(predicted, scene)
    seen = pieces.distinct(perception.instances, perception.working)
    things = _shapes(
        [each.label for each in seen], [each.box for each in seen], [each.mask for each in seen], frame, scene
    )
    known = Shapes(
        tuple(each.label for each in predicted),
        association.as_boxes([each.box for each in predicted]),
        association.as_boxes([each.whole for each in predicted]),
        regions.stack_small([each.soft for each in predicted], scene.working),
        np.array([each.colour for each in predicted], np.float32).reshape(-1, 6),
    )
    matched = _match(predicted, known, seen, things, scene, config)
    common, area_known, area_seen = association.overlaps(known.small, things.small)
    seen, extra, sharing = pieces.divide(matched, predicted, seen, known.small, things.small, scene)
    seen, joined, parted = pieces.join(matched, predicted, seen, common, area_known, area_seen, scene)
    believed = np.array([each.confirmed for each in predicted], bool)
    met = np.isin(np.arange(len(predicted)), list(matched))
    entangled = association.crowded(known.whole, believed & ~met)
    lives: list[Life] = []
    for row, (old, new) in enumerate(zip(before, predicted, strict=True)):
        if row in matched:
            column = matched[row]
            union = area_known[row] + area_seen[column] - common[row, column]
            agreement = float(common[row, column] / max(union, 1e-9))
            part = float(common[row, column] / max(area_seen[column], 1e-9))
            # Where two are near each other the mask may show the colours of both.
            doubtful = row in sharing or scene.time - new.crowded <= _DOUBT_SECONDS
            colour = np.full_like(new.colour, np.nan) if doubtful else things.colours[column]
            corrected = life.observe(
                old, new, seen[column], colour, agreement, part, scene, confirm=config.confirm
            )
            in_two = row in joined or row in parted
            if in_two:
                since = scene.time if math.isnan(old.split_since) else old.split_since
                corrected = replace(corrected, split_since=since)
            elif not math.isnan(corrected.split_since):
                corrected = replace(corrected, split_since=math.nan)
            lives.append(
                life.going_on(corrected, old, scene) if row in sharing or entangled[row] else corrected
            )
        elif row in extra:
            lives.append(life.going_on(life.shared(new, extra[row], scene), old, scene))
        else:
            lives.append(replace(new, missed=True))
    shown = list(matched.values())
    lives = _hidden(lives, before, known.small, things.small[shown], previous, grey, scene)
    taken = {*shown, *joined.values()}
    back: set[int] = set()
    followed = lives[: len(predicted)]
    for column, instance in enumerate(seen):
        if column in taken:
            continue
        colour = things.colours[column]
        if not instance.identity:
            if not _may_begin(instance, followed, common[:, column], area_seen[column], config):
                continue
            again = _found_again(instance, colour, lost, back, scene)
            if again is not None:
                back.add(again.id)
                lives.append(
                    life.observe(again, again, instance, colour, 0.0, 0.0, scene, confirm=config.confirm)
                )
                continue
        number = instance.identity or next_id
        sure = config.confirm <= 1 or instance.identity > 0
        lives.append(life.begin(number, instance, colour, scene, confirmed=sure))
        next_id = max(next_id, number + 1)
    return tuple(lives), next_id


def _crowded(predicted: tuple[Life, ...], scene: Scene) -> tuple[Life, ...]:
    """The things with the time noted at which another one was last over or behind each of them."""
    boxes = association.as_boxes([each.whole for each in predicted])
    crowd = association.crowded(boxes, np.array([each.confirmed for each in predicted], bool))
    return tuple(
        replace(each, crowded=scene.time) if among else each
        for each, among in zip(predicted, crowd, strict=True)
    )


def _match(
    predicted: tuple[Life, ...],
    known: Shapes,
    seen: list[Instance],
    things: Shapes,
    scene: Scene,
    config: TrackConfig,
) -> dict[int, int]:
    """{track row: sighting column}; the user's ids are final, all else is matched by likeness."""
    unseen = np.array([scene.time - each.seen for each in predicted])
    hidden = np.array([each.missed or each.cut for each in predicted], bool)
    believed = np.array([each.confirmed for each in predicted], bool)
    crowded = np.array([scene.time - each.crowded <= _DOUBT_SECONDS for each in predicted], bool)
    score = association.similarity(known, things, unseen, hidden, crowded)
    owners = np.array([each.identity for each in predicted], np.int64)
    marked = np.array([each.identity for each in seen], np.int64)
    score[(owners > 0)[:, None] | (marked > 0)[None, :]] = 0
    sure = np.array([each.score >= config.start for each in seen], bool)
    recent = unseen <= _RECENT_SECONDS
    matched = association.assign(score, sure, recent, believed) if len(predicted) and len(seen) else {}
    for row, column in zip(
        *np.nonzero((owners[:, None] == marked[None]) & (owners > 0)[:, None]), strict=True
    ):
        matched[int(row)] = int(column)
    return matched


def _shapes(
    labels: list[str],
    boxes: list[regions.Box],
    all_masks: list[NDArray[np.bool_]],
    frame: Frame,
    scene: Scene,
) -> Shapes:
    small = regions.stack_small(all_masks, scene.working)
    rows, columns = regions.small_size(scene.working)
    array = association.as_boxes(boxes)
    picture = np.asarray(cv2.resize(frame.rgb, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    picture *= np.float32(1 / 255)
    colours = association.colours(picture, small, array, scene.height)
    return Shapes(tuple(labels), array, array, small, colours)


def _hidden(
    lives: list[Life],
    before: tuple[Life, ...],
    small: NDArray[np.float32],
    shown: NDArray[np.float32],
    previous: NDArray[np.uint8] | None,
    grey: NDArray[np.uint8],
    scene: Scene,
) -> list[Life]:
    """Missed things: behind another thing they are cut off by it, else they follow their own motion.

    `small`: small masks of the `lives` as predicted; `shown`: of the sightings that belong to tracks.
    """
    present = [each for each in lives if not each.missed]
    covered = np.clip(shown.sum(0), 0, 1)
    out = []
    for old, each, mine in zip(before, lives, small, strict=True):
        if not each.missed or each.identity:
            out.append(each)
            continue
        behind = float(mine @ covered) > 0.4 * max(float(mine.sum()), 1e-9)
        if behind:
            rest = each.mask.copy()
            for other in present:
                rest &= ~other.mask
            out.append(replace(each, occluded=True, mask=rest, fringe=np.zeros_like(each.fringe)))
        else:
            moved = carried(old, replace(each, occluded=False), previous, grey, scene)
            out.append(replace(moved, missed=True))
    return out


def _may_begin(
    instance: Instance, lives: list[Life], common: NDArray[np.float64], area: float, config: TrackConfig
) -> bool:
    """Whether a sighting starts a track: sure enough, and not part of what is followed already.

    `common`: its area in common with each of the `lives`, of its own `area`.
    """
    if instance.score < config.start:
        return False
    return not any(
        shared >= pieces.PIECE * area
        and association.related(each.label, instance.label)
        and math.isnan(each.split_since)
        for each, shared in zip(lives, common, strict=True)
    )


def _found_again(
    instance: Instance, colour: NDArray[np.float32], lost: tuple[Life, ...], back: set[int], scene: Scene
) -> Life | None:
    """The lost thing that a new sighting may be: of its kind, size and colours, and not too far away."""
    x0, y0, x1, y1 = instance.box
    best, found = math.inf, None
    for each in lost:
        bx0, by0, bx1, by1 = each.box
        size = max(bx1 - bx0, by1 - by0, 1.0)
        apart = math.hypot(x0 + x1 - bx0 - bx1, y0 + y1 - by0 - by1) / 2 / size
        alike = abs(math.log(max(y1 - y0, 1.0) / max(by1 - by0, 1.0))) < _ALIKE
        different = float(np.abs(each.colour - colour).mean())
        near = apart < 0.6 + 0.4 * (scene.time - each.seen)
        same = math.isnan(different) or different < _SAME_COLOUR
        kin = association.related(each.label, instance.label) and each.id not in back
        if kin and near and alike and same and apart < best:
            best, found = apart, each
    return found
