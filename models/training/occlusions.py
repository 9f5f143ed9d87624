"""Whole things, and what is seen of one when another is put before it: truth that costs no labelling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from models.framing import SIDE, frame_square
from models.labels import THING_NAMES

from .data import Picture, chance, read_coco, read_people

Pixels = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

CANVAS = 208
"""Side of the square in which a thing is kept with what is around it."""

_AROUND = 1.9
_LEAST = 40
PEOPLE = {"person", "cyclist", "motorcyclist", "rider"}
VEHICLES = {"bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"}
ANIMALS = {
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "camel",
    "swan",
}
SHARES = {"people": 0.62, "vehicles": 0.16, "animals": 0.12, "things": 0.1}
"""How often a thing of each kind is the one that is hidden."""


@dataclass(frozen=True, eq=False)
class Whole:
    """A thing that nothing hides: the square around it, RGB (C, C, 3), mask (C, C) 0 or 1, C = `CANVAS`."""

    key: str
    label: str
    rgb: Pixels
    mask: Pixels

    @property
    def kind(self) -> str:
        """To which of `SHARES` it belongs."""
        if self.label in PEOPLE:
            return "people"
        if self.label in VEHICLES:
            return "vehicles"
        return "animals" if self.label in ANIMALS else "things"


@dataclass(frozen=True)
class Sample:
    """What is seen of a thing and what touches it, and the truth; (S, S) uint8 0 or 1, `rgb` (S, S, 3).

    `modal` and `front` are as a segmentator would give them; `visible` and `amodal` are true. `hidden`:
    whether something of the thing is hidden; `truth`: the picture without what is in front of the thing;
    `kind`: to which of `SHARES` the thing belongs.
    """

    rgb: Pixels
    modal: Pixels
    front: Pixels
    visible: Pixels
    amodal: Pixels
    truth: Pixels
    hidden: bool
    kind: str = "things"


def read_wholes(data: Path, keep: Callable[[str], bool], *, overlap: float = 0.12) -> list[Whole]:
    """Things below `data` whose source `keep` wants: outlines of coco/ and people/, and cutouts/.

    `overlap`: largest share of an outline's box that another thing's box may cover. More than a little, and
    some are hidden in part already: what is learned from them, to complete a thing behind what is named as
    being in front and nowhere else, holds for them too. Three of five portraits at arm's length are left
    out, since few people fill the picture in a film; so are cut-outs of DAVIS, with which films are scored.
    Raises ValueError when nothing is found.
    """
    parts = data / "perception" if (data / "perception").is_dir() else data
    found: list[Whole] = []
    for picture in [*read_people(parts / "people"), *read_coco(parts / "coco")]:
        if keep(source_key(picture.key)) and (picture.kind != "selfie" or chance(picture.key) < 0.4):
            found += _of_picture(picture, overlap)
    pictures = [each.rgb for each in found] or [np.full((CANVAS, CANVAS, 3), 128, np.uint8)]
    for path in sorted((data / "cutouts").glob("*.png")):
        if "davis" not in path.stem.split("-") and keep(source_key(path.stem)):
            # The surroundings are another thing's; a cut-out brings none.
            behind = pictures[int(chance(path.stem) * len(pictures))]
            found += [whole] if (whole := of_cutout(path, behind)) is not None else []
    if not found:
        raise ValueError(f"no whole things below {data}: see docs/training.md for the layout")
    return found


def source_key(name: str) -> str:
    """The photograph or film that a file's name says it is from: all of one are on one side of the split."""
    words = name.split("-")
    if "coco" in words[:-1]:
        return words[words.index("coco") + 1].lstrip("0")
    if "davis" in words or "cg" in words:
        return "-".join(words[:-1])
    return name.lstrip("0") or name


def is_held(key: str, share: float = 0.2) -> bool:
    """Whether a source is kept for scoring."""
    return chance("deocclusion " + key) < share


def _of_picture(picture: Picture, overlap: float) -> list[Whole]:
    """The things of a picture that nothing hides or cuts off, and that are large enough."""
    if picture.mask is not None:
        if picture.kind == "web":
            return []  # groups: one mask for several people
        mask = cv2.imread(str(picture.mask), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            return []
        whole = _square(picture.key, "person", picture.read(), (np.asarray(mask) > 127).astype(np.uint8))
        return [whole] if whole is not None else []
    boxes = np.array([thing.box for thing in picture.things], np.float64).reshape(-1, 4)
    found: list[Whole] = []
    image: Pixels | None = None
    for number, thing in enumerate(picture.things):
        if not thing.polygons or thing.crowd or len(thing.polygons) > 1:
            continue
        x0, y0, x1, y1 = thing.box
        if max(x1 - x0, y1 - y0) < _LEAST or min(x1 - x0, y1 - y0) < 14:
            continue
        low, high = np.maximum(boxes[:, :2], [x0, y0]), np.minimum(boxes[:, 2:], [x1, y1])
        common = np.clip(high - low, 0, None).prod(1) / ((x1 - x0) * (y1 - y0))
        common[number] = 0
        if common.max(initial=0) > overlap:
            continue
        if image is None:
            image = picture.read()
        if x0 < 2 or x1 > image.shape[1] - 2 or y0 < 2:
            continue
        outline: Pixels = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(outline, [np.round(thing.polygons[0]).astype(np.int32)], 1)
        whole = _square(f"{picture.key}-{number}", THING_NAMES[thing.label - 1], image, outline)
        found += [whole] if whole is not None else []
    return found


def of_cutout(path: Path, behind: Pixels) -> Whole | None:
    """A cut-out with transparency, before another picture (C, C, 3)."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    rgb = np.asarray(cv2.cvtColor(picture[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    whole = _square(path.stem, path.stem.split("-")[0], rgb, (picture[..., 3] > 127).astype(np.uint8))
    if whole is None:
        return None
    return Whole(whole.key, whole.label, blend(behind, whole.rgb, whole.mask), whole.mask)


def _square(key: str, label: str, image: Pixels, mask: Pixels) -> Whole | None:
    """A thing in the square around it; None when there is hardly anything of it."""
    x, y, width, height = cv2.boundingRect(mask)
    if width * height == 0 or cv2.countNonZero(mask) < 0.12 * width * height:
        return None
    scale = CANVAS / (_AROUND * max(width, height))
    place = np.array(
        [
            [scale, 0, CANVAS / 2 - scale * (x + width / 2)],
            [0, scale, CANVAS / 2 - scale * (y + height / 2)],
        ],
        np.float64,
    )
    size = CANVAS, CANVAS
    if scale < 0.7:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.35 / scale), np.uint8)
    rgb = cv2.warpAffine(image, place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.warpAffine(mask * np.uint8(255), place, size, flags=cv2.INTER_LINEAR)
    return Whole(key, label, np.asarray(rgb, np.uint8), (np.asarray(soft) > 127).astype(np.uint8))


def draw_sample(
    wholes: Sequence[Whole],
    kinds: dict[str, list[int]],
    random: np.random.Generator,
    *,
    covered: tuple[float, float] = (0.06, 0.62),
    uncovered: float = 0.3,
) -> Sample:
    """Draw a scene as `draw_scene` does and cut the square that the network is shown."""
    for _ in range(20):
        sample = cut(draw_scene(wholes, kinds, random, covered=covered, uncovered=uncovered))
        if sample is not None:
            return sample
    raise ValueError("no two of these things can be put before each other")


def draw_scene(
    wholes: Sequence[Whole],
    kinds: dict[str, list[int]],
    random: np.random.Generator,
    *,
    covered: tuple[float, float] = (0.06, 0.62),
    uncovered: float = 0.3,
) -> Sample:
    """Put one thing before another at random, (C, C) with C = `CANVAS`.

    `covered`: share of the thing that is hidden; `uncovered`: share of samples in which the thing is the one
    in front (the second case), so that it must be left as it is.
    """
    for _ in range(60):
        scene = _try(wholes, kinds, random, covered, random.random() >= uncovered)
        if scene is not None:
            return scene
    raise ValueError("no two of these things can be put before each other")


def by_kind(wholes: Sequence[Whole]) -> dict[str, list[int]]:
    """Numbers of the things of each kind there is."""
    out: dict[str, list[int]] = {}
    for number, whole in enumerate(wholes):
        out.setdefault(whole.kind, []).append(number)
    return out


def pick(kinds: dict[str, list[int]], random: np.random.Generator) -> int:
    """Draw a thing's number by `SHARES`."""
    names = [name for name in SHARES if name in kinds]
    shares = np.array([SHARES[name] for name in names])
    members = kinds[names[int(random.choice(len(names), p=shares / shares.sum()))]]
    return members[int(random.integers(len(members)))]


def _try(
    wholes: Sequence[Whole],
    kinds: dict[str, list[int]],
    random: np.random.Generator,
    covered: tuple[float, float],
    hides: bool,
) -> Sample | None:
    back, front = wholes[pick(kinds, random)], wholes[pick(kinds, random)]
    if back.key == front.key:
        return None
    thing_rgb, thing, scale = posed(back, random, (0, 0), float(random.uniform(0.82, 1.12)))
    ratio = float(np.exp(random.normal(0.1 if hides else -0.05, 0.28)))
    x, y, width, height = cv2.boundingRect(thing)
    other_rgb, other, _ = posed(front, random, (0, 0), scale * ratio)
    ox, oy, owidth, oheight = cv2.boundingRect(other)
    if not width or not owidth:
        return None
    # Who is in front mostly stands a little lower; now and then things sit, fly or lie.
    standing = random.random() < 0.7
    best: tuple[int, int] | None = None
    for _ in range(8):
        dx = int(x - ox + random.uniform(-owidth, width))
        lower = random.uniform(-0.04, 0.3) * height * (1 if hides else -1)
        dy = (
            int(y + height + lower - oy - oheight)
            if standing
            else int(y - oy + random.uniform(-oheight, height))
        )
        moved = shifted(other, dx, dy)
        first, second = (thing, moved) if hides else (moved, thing)
        share = cv2.countNonZero(first & second) / max(1, cv2.countNonZero(first))
        if (covered[0] if hides else 0.02) <= share <= (covered[1] if hides else 0.7):
            best = dx, dy
            break
    if best is None:
        return None
    before, before_rgb = shifted(other, *best), shifted(other_rgb, *best)
    if hides:
        picture, visible, over = blend(thing_rgb, before_rgb, before), thing & (1 - before), before
    else:
        # The other one is behind: painted first, then the thing over it again.
        picture = blend(blend(thing_rgb, before_rgb, before), thing_rgb, thing)
        visible, over = thing, before & (1 - thing)
    if cv2.countNonZero(visible) < 150 or cv2.countNonZero(over) < 60:
        return None
    rough_front = roughened(over, random)
    rough = roughened(visible, random)
    # No pixel belongs to two things: where both want it, either may get it.
    if random.random() < 0.5:
        rough &= 1 - rough_front
    else:
        rough_front &= 1 - rough
    return Sample(picture, rough, rough_front, visible, thing, thing_rgb, hides, back.kind)


def cut(scene: Sample) -> Sample | None:
    """The square around what is seen of the thing and what may hide it; None when a mask is empty."""
    seen, over = cv2.boundingRect(scene.modal), cv2.boundingRect(scene.front)
    if not seen[2] or not over[2]:
        return None
    left, top, side = frame_square(_corners(seen), _corners(over))
    scale = SIDE / side
    place = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]], np.float64)

    def masked(mask: Pixels) -> Pixels:
        soft = cv2.warpAffine(mask * np.uint8(255), place, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        return (np.asarray(soft) > 127).astype(np.uint8)

    def shown(image: Pixels) -> Pixels:
        flags, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        return np.asarray(
            cv2.warpAffine(image, place, (SIDE, SIDE), flags=flags, borderMode=border), np.uint8
        )

    return Sample(
        shown(scene.rgb),
        masked(scene.modal),
        masked(scene.front),
        masked(scene.visible),
        masked(scene.amodal),
        shown(scene.truth),
        scene.hidden,
        scene.kind,
    )


def roughened(mask: Pixels, random: np.random.Generator) -> Pixels:
    """A mask as a segmentator writes it: smooth, a little too large or small, parts lost and added."""
    kind = random.random()
    if kind < 0.1:
        return mask.copy()
    size = max(8.0, float(np.sqrt(cv2.countNonZero(mask))))
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), float(random.uniform(0.008, 0.06)) * size)
    cells = int(random.integers(3, 14))
    field = random.normal(0, 1, (cells, cells)).astype(np.float32)
    wander = cv2.resize(field, mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
    level = 0.5 + float(random.normal(0, 0.08)) + float(random.uniform(0, 0.25)) * wander
    out: Pixels = (soft > np.clip(level, 0.1, 0.9)).astype(np.uint8)
    if kind > 0.75:  # a blob too many or too few
        ys, xs = np.nonzero(mask)
        at = int(random.integers(len(ys)))
        reach = float(random.uniform(0.06, 0.2)) * size
        axes = max(2, int(reach)), max(2, int(reach * random.uniform(0.4, 1)))
        value = int(random.random() < 0.4)
        cv2.ellipse(out, (int(xs[at]), int(ys[at])), axes, float(random.uniform(0, 180)), 0, 360, value, -1)
    return out


def blend(behind: Pixels, over: Pixels, mask: Pixels) -> Pixels:
    """`over` where `mask`, its edge one pixel soft."""
    alpha = cv2.GaussianBlur(mask * np.uint8(255), (3, 3), 0)[..., None].astype(np.uint16)
    mixed = (behind * (255 - alpha) + over * alpha + 127) // 255
    return np.asarray(mixed, np.uint8)


def posed(
    whole: Whole, random: np.random.Generator, shift: tuple[int, int], scale: float
) -> tuple[Pixels, Pixels, float]:
    """A thing mirrored, turned, sized and lit at random."""
    angle = float(random.normal(0, 4))
    middle = CANVAS / 2
    place = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    if random.random() < 0.5:
        place = place @ np.array([[-1, 0, 2 * middle], [0, 1, 0], [0, 0, 1.0]])
    place[:, 2] += shift
    size = CANVAS, CANVAS
    rgb = cv2.warpAffine(whole.rgb, place, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    soft = cv2.warpAffine(whole.mask * np.uint8(255), place, size, flags=cv2.INTER_LINEAR)
    gain = float(random.uniform(0.75, 1.2)) * random.uniform(0.94, 1.06, 3)
    table = np.clip(np.arange(256)[:, None] * gain + random.uniform(-14, 14), 0, 255).astype(np.uint8)
    lit = cv2.LUT(np.asarray(rgb, np.uint8), table[None])
    return np.asarray(lit, np.uint8), (np.asarray(soft) > 127).astype(np.uint8), scale


def shifted(picture: Pixels, dx: int, dy: int) -> Pixels:
    place = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    return np.asarray(cv2.warpAffine(picture, place, picture.shape[1::-1], flags=cv2.INTER_NEAREST), np.uint8)


def _corners(box: Sequence[int]) -> tuple[float, float, float, float]:
    return float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3])
