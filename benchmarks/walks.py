"""Composites whose tracks are known: cut-outs on their way over plates and stills, before any camera.

Each kind is a small story of 7 s at 640x360 and 25 frames a second. A thing's place is given in pixels of the
scene, whose origin is the middle of the frame; the camera then looks at the scene. `wanted` says what should
become of it in the end.

    crossing   two people meet          overtake  three, one faster than the one before
    pole       behind a post            group     three walk together, nobody is the subject
    subject    one stands, three pass   family    the camera follows two, others come towards them
    bag        is put down and left     parked    a car stands, then drives off; one walks by
    visit      one comes, waits, goes   rest      one stands aside all the time, one passes
    pan        the camera turns         zoom      it comes nearer by a quarter, in somebody's hands
    traffic    two cars, one walker     pet       one with a dog
    near       two cut by the picture's lower edge, right before the camera, and one far away
    crowd      six people go both ways
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.cameras import Camera, doubled, hold, shoot, through
from benchmarks.footage import Size, cover, pictures_in, read_rgb
from benchmarks.sprites import Plane, Sprite, Walker, cutout_sprite, draw, over, sequence_sprite
from stream.types import Action, Image, Mask

RATE, FRAMES = 25, 175
SIZE: Size = (640, 360)

PLACES = (
    *("bsds-148089", "bsds-24063", "bsds-207038", "bsds-223061", "bsds-232038"),
    *("bsds-95006", "bsds-346016", "coco-522713", "coco-278528", "bsds-2092"),
)
"""Stills without people; with the plates of the clips they are what is walked over."""

STREETS = ("motorway.plate", "crosswalk.plate", "street-near-walkers.plate")

Path1 = NDArray[np.float64]


@dataclass(frozen=True)
class Thing:
    """A walker with its class and what should become of it; `of` the class is measured as."""

    label: str
    walker: Walker
    wanted: Action | None = "remove"


@dataclass(frozen=True)
class Shot:
    """One frame: the picture, the same without things, and each thing's mask, whole and as far as seen."""

    picture: Image
    clean: Image
    whole: tuple[Mask, ...]
    seen: tuple[Mask, ...]


@dataclass(frozen=True)
class Walk:
    """A clip yet to be drawn; things that come later in the list lie in front."""

    name: str
    scenery: Plane
    cameras: tuple[Camera, ...]
    things: tuple[Thing, ...]
    front: Plane | None = None
    sigma: float = 2.0
    seed: int = 0
    size: Size = SIZE
    told: dict[str, object] = field(default_factory=dict)

    def shots(self) -> Iterator[Shot]:
        """Draw the clip frame by frame; equal seeds give equal pictures."""
        noise = np.random.default_rng([self.seed, 99])
        still = all(np.array_equal(camera, self.cameras[0]) for camera in self.cameras)
        flat = shoot(self.scenery, self.cameras[0], self.size)
        post = None if self.front is None else shoot(self.front, self.cameras[0], self.size)
        for index, camera in enumerate(self.cameras):
            if not still:
                flat = shoot(self.scenery, camera, self.size)
                post = None if self.front is None else shoot(self.front, camera, self.size)
            yield self._shot(index, camera, flat, post, noise)

    def _shot(
        self, index: int, camera: Camera, clean: Plane, post: Plane | None, noise: np.random.Generator
    ) -> Shot:
        grain = noise.normal(0, self.sigma, clean.shape).astype(np.float32)
        picture, alphas = clean, []
        for each in self.things:
            layer = draw(_looked_at(each.walker, index, camera, self.size), index, self.size)
            picture = over(picture, layer)
            alphas.append(layer[1])
        hidden = np.zeros(clean.shape[:2], bool)
        if post is not None:
            alpha = post[..., 3] / 255
            hidden = alpha > 0.5
            picture = picture * (1 - alpha[..., None]) + post[..., :3] * alpha[..., None]
            clean = clean * (1 - alpha[..., None]) + post[..., :3] * alpha[..., None]
        whole = [alpha > 0.5 for alpha in alphas]
        seen: list[Mask] = []
        for mask in reversed(whole):
            seen.append(mask & ~hidden)
            hidden = hidden | mask
        return Shot(_levels(picture + grain), _levels(clean + grain), tuple(whole), tuple(reversed(seen)))


def _levels(picture: Plane) -> Image:
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _looked_at(walker: Walker, index: int, camera: Camera, size: Size) -> Walker:
    """A walker's place in the frame, seen by the camera."""
    place = np.array([walker.x[index], walker.foot[index]])
    x, foot = walker.x.copy(), walker.foot.copy()
    if np.isfinite(place).all():
        x[index], foot[index] = through(camera, place) + np.array(size) / 2
    zoom = float(np.sqrt(abs(np.linalg.det(camera[:2, :2]))))
    return replace(walker, x=x, foot=foot, scale=walker.scale * zoom)


class Cast:
    """Who may play: cut-outs by class, drawn at random and not twice in a clip."""

    def __init__(self, data: Path, random: np.random.Generator) -> None:
        self._data, self._random = data, random
        self._used: set[str] = set()

    def person(self) -> Sprite:
        """Somebody upright; a rendered walker, who moves his legs, two times of five."""
        poses = [p for p in pictures_in(self._data / "cutouts") if p.name.startswith("person-walker-cg")]
        draw = self._random.random()
        if draw < 0.25 and "cg" not in self._used:
            self._used.add("cg")
            steps = [cutout_sprite(path).pictures[0] for path in poses]
            return Sprite("walker", tuple(step for step in steps for _ in range(5)))
        if draw < 0.4 and "dance" not in self._used:
            self._used.add("dance")
            return sequence_sprite(self._data, "dance-twirl")
        return self._cutout("person-coco", lambda sprite: sprite.height > 1.9 * sprite.width)

    def one(self, label: str) -> Sprite:
        """A thing of another class."""
        return self._cutout(f"{label}-", lambda _: True)

    def _cutout(self, prefix: str, fits: Callable[[Sprite], bool]) -> Sprite:
        names = [p for p in pictures_in(self._data / "cutouts") if p.name.startswith(prefix)]
        for index in self._random.permutation(len(names)):
            path = names[int(index)]
            if path.name in self._used:
                continue
            sprite = cutout_sprite(path)
            if fits(sprite):
                self._used.add(path.name)
                return sprite
        raise SystemExit(f"{self._data / 'cutouts'}: too few pictures named {prefix}*")


def _way(times: list[float], places: list[float]) -> Path1:
    """x in pixels of the scene: `places` in widths from the middle at `times` in seconds; NaN outside."""
    time = np.arange(FRAMES) / RATE
    out = np.interp(time, times, np.array(places) * SIZE[0])
    out[(time < times[0]) | (time > times[-1])] = np.nan
    return out


def _thing(
    sprite: Sprite,
    label: str,
    x: Path1,
    random: np.random.Generator,
    *,
    height: float,
    foot: float,
    wanted: Action | None = "remove",
    walks: bool = True,
) -> Thing:
    """`height` and `foot` (from the top) in heights of the frame."""
    pace = random.uniform(0.3, 0.45) if walks else 0.0
    scale = height * SIZE[1] / sprite.height
    ground = np.full(FRAMES, (foot - 0.5) * SIZE[1])
    return Thing(label, Walker(sprite, x, ground, scale, random.uniform(0, 6), pace), wanted)


def _passer(
    cast: Cast,
    random: np.random.Generator,
    *,
    rightwards: bool,
    at: float,
    speed: float | None = None,
    height: float | None = None,
    foot: float | None = None,
    middle: float = 0.0,
) -> Thing:
    """Somebody who crosses the picture and is at `middle` (widths) at `at` seconds."""
    speed = speed or random.uniform(0.16, 0.26)
    way = (1 if rightwards else -1) * speed
    x = _way([0, FRAMES / RATE], [middle - way * at, middle + way * (FRAMES / RATE - at)])
    height = height or random.uniform(0.42, 0.6)
    foot = foot or random.uniform(0.85, 0.95)
    return _thing(cast.person(), "person", x, random, height=height, foot=foot)


def _rests(x: float) -> Path1:
    return np.full(FRAMES, x * SIZE[0])


Story = tuple[list[Thing], str, dict[str, float]]
"""Things, where (any, street), and what the camera does (shake, pan, zoom, follow, post)."""


def _crossing(cast: Cast, random: np.random.Generator) -> Story:
    at = random.uniform(3, 4)
    first = _passer(cast, random, rightwards=True, at=at, foot=0.88)
    second = _passer(cast, random, rightwards=False, at=at, foot=0.92)
    return [first, second], "any", {}


def _overtake(cast: Cast, random: np.random.Generator) -> Story:
    slow = _passer(cast, random, rightwards=True, at=3.5, speed=0.13, foot=0.86)
    fast = _passer(cast, random, rightwards=True, at=3.6, speed=0.24, foot=0.9)
    against = _passer(cast, random, rightwards=False, at=3.0, speed=0.18, foot=0.93)
    return [slow, fast, against], "any", {"shake": 2.0}


def _pole(cast: Cast, random: np.random.Generator) -> Story:
    first = _passer(cast, random, rightwards=True, at=2.5, foot=0.88)
    second = _passer(cast, random, rightwards=False, at=4.5, foot=0.92)
    return [first, second], "any", {"post": random.uniform(0.05, 0.09)}


def _group(cast: Cast, random: np.random.Generator) -> Story:
    speed = random.uniform(0.15, 0.2)
    things = []
    for number in range(3):
        at = 3.3 + 0.09 * number / speed + random.uniform(-0.1, 0.1)
        things.append(
            _passer(
                cast, random, rightwards=True, at=at, speed=speed * random.uniform(0.97, 1.03),
                height=random.uniform(0.42, 0.5), foot=0.86 + 0.03 * number,
            )
        )  # fmt: skip
    return things, "any", {}


def _subject(cast: Cast, random: np.random.Generator) -> Story:
    middle = _rests(random.uniform(-0.06, 0.06))
    subject = _thing(
        cast.person(), "person", middle, random, height=0.68, foot=0.95, wanted="keep", walks=False
    )
    behind = [
        _passer(cast, random, rightwards=bool(k), at=2 + 2.2 * k, height=0.38, foot=0.78) for k in (0, 1)
    ]
    before = _passer(cast, random, rightwards=False, at=5.2, speed=0.3, height=0.8, foot=1.02)
    return [*behind, subject, before], "any", {"shake": 1.5}


def _family(cast: Cast, random: np.random.Generator) -> Story:
    speed = 0.1
    seconds = FRAMES / RATE
    lead = _way([0, seconds], [-speed * seconds / 2, speed * seconds / 2])
    parent = _thing(cast.person(), "person", lead, random, height=0.62, foot=0.93, wanted="keep")
    child = _thing(
        cast.person(), "person", lead + 0.12 * SIZE[0], random, height=0.42, foot=0.93, wanted="keep"
    )
    others = [
        _passer(cast, random, rightwards=False, at=2.2 + 2.0 * k, speed=0.16, height=0.42, foot=0.82)
        for k in (0, 1)
    ]
    return [*others, parent, child], "any", {"shake": 2.0, "follow": speed}


def _bag(cast: Cast, random: np.random.Generator) -> Story:
    stop = random.uniform(-0.25, -0.15)
    times = [0, 2.2, 3.4, 7.0]
    x = _way(times, [stop - 0.4, stop, stop, stop + 0.85])
    height = random.uniform(0.5, 0.6)
    person = _thing(cast.person(), "person", x, random, height=height, foot=0.92)
    carried = _way(times, [stop - 0.4 + 0.05, stop + 0.05, stop + 0.05, stop + 0.05])
    bag = _thing(
        cast.one("suitcase"), "suitcase", carried, random, height=0.4 * height, foot=0.93, walks=False
    )
    return [person, bag], "any", {}


def _parked(cast: Cast, random: np.random.Generator) -> Story:
    car = _thing(
        cast.one("car-davis"), "car", _way([0, 4.0, 4.6, 7.0], [0.15, 0.15, 0.2, 1.0]), random,
        height=0.3, foot=0.85, wanted="keep", walks=False,
    )  # fmt: skip
    return [car, _passer(cast, random, rightwards=True, at=2.2, foot=0.95)], "street", {}


def _visit(cast: Cast, random: np.random.Generator) -> Story:
    stand = random.uniform(0.2, 0.28)
    x = _way([0, 2.0, 4.5, 7.0], [0.62, stand, stand, 0.66])
    visitor = _thing(cast.person(), "person", x, random, height=0.5, foot=0.9)
    later = _passer(cast, random, rightwards=True, at=5.5, foot=0.94)
    return [visitor, later], "any", {"shake": 1.0}


def _rest(cast: Cast, random: np.random.Generator) -> Story:
    aside = _thing(
        cast.person(), "person", _rests(-0.33), random, height=0.33, foot=0.8, wanted="keep", walks=False
    )
    return [aside, _passer(cast, random, rightwards=True, at=4.0, foot=0.93)], "any", {}


def _pan(cast: Cast, random: np.random.Generator) -> Story:
    aside = _thing(
        cast.person(), "person", _rests(-0.3), random, height=0.36, foot=0.82, wanted="keep", walks=False
    )
    walkers = [
        _passer(cast, random, rightwards=bool(k), at=3 + k, foot=0.88 + 0.05 * k, middle=0.1) for k in (0, 1)
    ]
    return [aside, *walkers], "any", {"shake": 2.0, "pan": 0.35}


def _zoom(cast: Cast, random: np.random.Generator) -> Story:
    walkers = [_passer(cast, random, rightwards=bool(k), at=2.5 + 2 * k, foot=0.84) for k in (0, 1)]
    return walkers, "any", {"shake": 3.0, "zoom": 1.25}


def _traffic(cast: Cast, random: np.random.Generator) -> Story:
    cars = []
    for number, label in enumerate(("car-davis", "bus")):
        way = 1 if number else -1
        start = 0.5 + 1.2 * number
        x = _way([start, start + 3.5], [-0.8 * way, 0.8 * way])
        cars.append(
            _thing(
                cast.one(label), label.split("-")[0], x, random,
                height=0.24 + 0.1 * number, foot=0.7 + 0.08 * number, wanted="keep", walks=False,
            )
        )  # fmt: skip
    return [*cars, _passer(cast, random, rightwards=False, at=3.5, foot=0.95)], "street", {}


def _pet(cast: Cast, random: np.random.Generator) -> Story:
    owner = _passer(cast, random, rightwards=False, at=3.5, speed=0.18, foot=0.9)
    dog = _thing(
        cast.one("dog-davis"), "dog", owner.walker.x - 0.12 * SIZE[0], random, height=0.22, foot=0.92
    )
    return [owner, dog], "any", {"shake": 1.0}


def _near(cast: Cast, random: np.random.Generator) -> Story:
    far = _passer(cast, random, rightwards=True, at=3.5, height=0.4, foot=0.8)
    near = []
    for k in (0, 1):
        height = random.uniform(1.1, 1.6)
        at = 2.2 + 1.8 * k + random.uniform(-0.3, 0.3)
        near.append(
            _passer(
                cast, random, rightwards=bool(k), at=at, speed=random.uniform(0.2, 0.35),
                height=height, foot=height + random.uniform(-0.05, 0.15),
            )
        )  # fmt: skip
    return [far, *near], "any", {"shake": 1.5}


def _crowd(cast: Cast, random: np.random.Generator) -> Story:
    things = [
        _passer(
            cast, random, rightwards=bool(k % 2), at=random.uniform(2, 5), height=0.45 + 0.04 * k,
            foot=0.84 + 0.03 * k,
        )
        for k in range(6)
    ]  # fmt: skip
    return things, "any", {"shake": 1.0}


STORIES: dict[str, Callable[[Cast, np.random.Generator], Story]] = {
    "crossing": _crossing,
    "overtake": _overtake,
    "pole": _pole,
    "group": _group,
    "subject": _subject,
    "family": _family,
    "bag": _bag,
    "parked": _parked,
    "visit": _visit,
    "rest": _rest,
    "pan": _pan,
    "zoom": _zoom,
    "traffic": _traffic,
    "pet": _pet,
    "near": _near,
    "crowd": _crowd,
}


def make(data: Path, kind: str, seed: int) -> Walk:
    """Draw a clip of a kind; equal arguments give equal clips.

    `data` holds cutouts/*.png, stills/*.jpg, video/*.plate.png and davis/ (see `benchmarks.scenes`).
    """
    random = np.random.default_rng([seed, list(STORIES).index(kind)])
    things, where, camera = STORIES[kind](Cast(data, random), random)
    place, scenery = _scenery(data, random, where)
    cameras = _cameras(random, camera)
    front = _post(random, scenery, camera["post"]) if "post" in camera else None
    told = {"place": place, "things": [each.walker.sprite.name for each in things]}
    sigma = float(random.uniform(1.0, 2.5))
    return Walk(f"{kind}-{seed}", scenery, cameras, tuple(things), front, sigma, seed, told=told)


def _scenery(data: Path, random: np.random.Generator, where: str) -> tuple[str, Plane]:
    plates = [data / "video" / f"{name}.png" for name in STREETS]
    if where == "any":
        plates = [data / "stills" / f"{name}.jpg" for name in PLACES]
        plates += sorted((data / "video").glob("*.plate.png"))
    path = plates[int(random.integers(len(plates)))]
    return path.name, cover(read_rgb(path), doubled(SIZE, 1.25), 4.0).astype(np.float32)


def _cameras(random: np.random.Generator, camera: dict[str, float]) -> tuple[Camera, ...]:
    if not camera.keys() & {"shake", "pan", "zoom", "follow"}:
        return (np.eye(3),) * FRAMES
    turn = camera.get("pan", 0.0) + camera.get("follow", 0.0) * FRAMES / RATE
    held = hold(random, FRAMES, SIZE, camera.get("shake", 1.0), -turn)
    out = []
    for zoom, each in zip(np.linspace(1, camera.get("zoom", 1.0), FRAMES), held, strict=True):
        out.append(np.diag([zoom, zoom, 1.0]) @ each)
    return tuple(out)


def _post(random: np.random.Generator, scenery: Plane, wide: float) -> Plane:
    """A strip of the scenery turned round and darkened, near the middle, as RGBA of the scenery's size."""
    middle = scenery.shape[1] / 2 + random.uniform(-0.15, 0.15) * 2 * SIZE[0]
    left, right = (round(middle + side * wide * SIZE[0]) for side in (-1, 1))
    alpha = np.zeros(scenery.shape[:2], np.float32)
    alpha[:, left:right] = 255
    return np.dstack([0.6 * scenery[::-1, ::-1], cv2.GaussianBlur(alpha, (5, 5), 0)])
