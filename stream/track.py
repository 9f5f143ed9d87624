"""Things followed through a shot: ids that last, masks that do not flicker, speed against the background.

Each frame: every thing is predicted by camera motion and its own velocity, matched with what the networks
saw (`stream.association`), corrected or carried on (`stream.life`). A thing hidden by another, or missed,
goes on for `patience_seconds`. Where two things are seen as one their common mask is divided by their
predictions; where a pole cuts one thing in two the pieces are joined again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Track as TrackConfig
from stream import association, geometry, life, pieces, regions
from stream.arrays import median
from stream.association import Shapes
from stream.life import Life, Scene
from stream.shrink import halved
from stream.types import Frame, Instance, Motion, Perception, Track

_RECENT_SECONDS = 0.4
_TENTATIVE_SECONDS = 0.06
_LOST_SECONDS = 2.5
_KNOWN_HITS = 5
_ALIKE = 0.35
_SAME_COLOUR = 0.12
_UNDER_WAY = 1.0
_DOUBT_SECONDS = 0.5


@dataclass(frozen=True)
class TrackState:
    """What must be known of the past; `next_id` is the id of the next new track.

    `lost`: things given up lately, which get their id back if they turn up again where they may be.
    """

    next_id: int = 1
    lives: tuple[Life, ...] = ()
    lost: tuple[Life, ...] = ()
    time: float = math.nan
    looked: float = math.nan
    began: float = math.nan
    working: tuple[int, int] = (0, 0)
    grey: NDArray[np.uint8] | None = None
    corners: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def initial(first_id: int = 1) -> TrackState:
    """The state before the first frame of a shot; ids go on from `first_id`."""
    return TrackState(next_id=first_id)


def step(
    state: TrackState, perception: Perception | None, motion: Motion, frame: Frame, config: TrackConfig
) -> tuple[tuple[Track, ...], TrackState]:
    """Follow every thing into `frame`.

    `perception` None means that nobody looked: all things are carried on by their own motion. Tracks not yet
    believed (`confirmed` false) are returned too, since with look-ahead they may turn out to be real.
    """
    if motion.cut or state.grey is None:
        state = initial(state.next_id)
    working = perception.working if perception is not None else state.working
    if working == (0, 0):
        return (), state
    time = float(frame.time)
    step = time - state.time if time > state.time else 1 / 30
    began = time if math.isnan(state.began) else state.began
    look = step if math.isnan(state.looked) else max(step, time - state.looked)
    scene = Scene(frame.width, frame.height, working, time, step, look, time - began, frame.index)
    grey = _grey(frame, working)
    before = state.lives
    predicted, lost = _predict_all(state, motion, scene)
    if perception is None:
        lives = tuple(
            _carried(old, new, state.grey, grey, scene) for old, new in zip(before, predicted, strict=True)
        )
        next_id = state.next_id
    else:
        lives, next_id = _observe_all(
            replace(state, lost=lost), predicted, perception, frame, grey, scene, config
        )
    known = {each.id for each in lives}
    lost = tuple(each for each in lost if each.id not in known)
    lost = tuple(each for each in (*lost, *lives) if _lost(each, scene, config))
    lives = _stirred(lives, before, state.grey, grey, motion, scene)
    lives = tuple(life.account(each, scene) for each in lives if _alive(each, scene, config))
    lives = pieces.without_doubles(lives, working)
    tracks = tuple(life.as_track(each, scene) for each in lives if _shown(each, perception))
    looked = state.looked if perception is None else time
    return tracks, TrackState(
        next_id, lives, lost, time, looked, began, working, grey, motion.corners, motion.ids
    )


def _predict_all(
    state: TrackState, motion: Motion, scene: Scene
) -> tuple[tuple[Life, ...], tuple[Life, ...]]:
    """The followed and the lost things where they should be in this frame."""
    homography = np.eye(3)
    if motion.homographies and not motion.static:
        homography = motion.homographies[0]
    corners, drift = _local_drift(state, motion, homography)
    out = []
    for each in (*state.lives, *state.lost):
        mine = homography
        x0, y0, x1, y1 = each.box
        wide, high = 0.3 * (x1 - x0) + 8, 0.3 * (y1 - y0) + 8
        near = (
            (corners[:, 0] > x0 - wide)
            & (corners[:, 0] < x1 + wide)
            & (corners[:, 1] > y0 - high)
            & (corners[:, 1] < y1 + high)
        )
        if near.sum() >= 6:
            mine = geometry.shifting(*median(drift[near])) @ homography
        out.append(life.predict(each, mine, scene))
    count = len(state.lives)
    return tuple(out[:count]), tuple(out[count:])


def _stirred(
    lives: tuple[Life, ...],
    before: tuple[Life, ...],
    previous: NDArray[np.uint8] | None,
    grey: NDArray[np.uint8],
    motion: Motion,
    scene: Scene,
) -> tuple[Life, ...]:
    """Large things with the motion of their texture; which the others need not."""
    homography = motion.homographies[0] if motion.homographies and not motion.static else np.eye(3)
    known = {each.id: each for each in before}
    return tuple(
        life.stirred(each, known[each.id], previous, grey, homography, scene) if each.id in known else each
        for each in lives
    )


def _local_drift(
    state: TrackState, motion: Motion, homography: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the background around a point moved otherwise than the homography says (parallax).

    Returns the corners of the previous frame (N, 2) and their residual motion (N, 2), pixels.
    """
    _, i, j = np.intersect1d(state.ids, motion.ids, assume_unique=True, return_indices=True)
    if motion.static or not len(i):
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    source = state.corners[i]
    return source, motion.corners[j] - geometry.apply(homography, source)


def _carried(
    old: Life, predicted: Life, previous: NDArray[np.uint8] | None, grey: NDArray[np.uint8], scene: Scene
) -> Life:
    """The thing in a frame nobody looked at: by its own motion if that can be measured."""
    affine = None if predicted.occluded else life.own_motion(previous, grey, old, scene)
    if affine is None or _left_behind(old, predicted, affine, scene):
        return predicted
    # Its way only: what hides half of it would make it grow and turn.
    way = _middle(regions.move_box(affine, old.box)) - _middle(old.box)
    moved = life.shifted(old, np.array([[1.0, 0.0, way[0]], [0.0, 1.0, way[1]]]), scene)
    return replace(
        predicted, box=moved.box, even=moved.even, whole=moved.whole, soft=moved.soft, mask=moved.mask
    )


def _left_behind(old: Life, predicted: Life, affine: regions.Affine, scene: Scene) -> bool:
    """Whether what is at the thing's place rests, while the thing was on its way: that hides it."""
    own = np.array(old.cruise if old.missed else old.velocity) * scene.step
    length = float(np.hypot(*own))
    found = own + _middle(regions.move_box(affine, old.box)) - _middle(predicted.box)
    return length > _UNDER_WAY and float(own @ found) < 0.5 * length * length


def _middle(box: regions.Box) -> NDArray[np.float64]:
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def _observe_all(
    state: TrackState,
    predicted: tuple[Life, ...],
    perception: Perception,
    frame: Frame,
    grey: NDArray[np.uint8],
    scene: Scene,
    config: TrackConfig,
) -> tuple[tuple[Life, ...], int]:
    """Correct what was predicted with what was seen; returns all things and the next free id."""
    before = state.lives
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
    lives = _hidden(lives, before, known.small, things.small[shown], state.grey, grey, scene)
    next_id = state.next_id
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
            again = _found_again(instance, colour, state.lost, back, scene)
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
            out.append(replace(each, occluded=True, mask=rest))
        else:
            moved = _carried(old, replace(each, occluded=False), previous, grey, scene)
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


def _lost(each: Life, scene: Scene, config: TrackConfig) -> bool:
    """Whether a thing that is no longer followed may still be found again."""
    if each.identity or not each.confirmed or each.hits < _KNOWN_HITS or _alive(each, scene, config):
        return False
    return scene.time - each.seen <= config.patience_seconds + _LOST_SECONDS and _inside(each, scene) > 0.15


def _inside(each: Life, scene: Scene) -> float:
    """Share of the thing's box that lies in the picture."""
    x0, y0, x1, y1 = each.box
    inside = max(0.0, min(x1, scene.width) - max(x0, 0)) * max(0.0, min(y1, scene.height) - max(y0, 0))
    return inside / max((x1 - x0) * (y1 - y0), 1e-9)


def _alive(each: Life, scene: Scene, config: TrackConfig) -> bool:
    if each.identity:
        return True
    if _inside(each, scene) < 0.15:
        return False
    unseen = scene.time - each.seen - scene.look
    if not each.confirmed:
        return unseen <= _TENTATIVE_SECONDS
    # What was seen for a moment only is not waited for much longer than that.
    known = max(_TENTATIVE_SECONDS, 0.5 * (each.seen - each.born))
    return unseen <= min(known, config.patience_seconds) * (2 if each.occluded else 1)


def _shown(each: Life, perception: Perception | None) -> bool:
    if each.identity and each.missed and perception is not None:
        return False
    return bool(each.mask.any())


def _grey(frame: Frame, working: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame's brightness at working resolution, uint8; the luma plane as it is where there is one."""
    plane = frame.planes[0]
    size = (working[1], working[0])
    if frame.format.startswith(("yuv", "nv", "gray")) and plane.ndim == 2 and plane.dtype == np.uint8:
        return _sized(plane.view(np.uint8), size)
    return _sized(np.asarray(cv2.cvtColor(halved(frame, size), cv2.COLOR_RGB2GRAY), np.uint8), size)


def _sized(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Halved as long as it stays large enough, then read between its pixels: a mean of all takes longer."""
    while grey.shape[0] >= 2 * size[1] and grey.shape[1] >= 2 * size[0]:
        half = grey.shape[1] // 2, grey.shape[0] // 2
        grey = np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.uint8)
