"""Make scenes with known truth for the fill.

    python -m benchmarks.scenes --data DIR --out SCENES [--kind D] [--seed 1 2] [--size 640x360]

A   a clip with a moving camera, one blob (5-15 % of the frame) that stays in place; the clip is the truth
Bc  an annotated object pasted over such a clip, crossing;  Bs  a large one (12-22 %) that hardly moves
C   one or two walkers over a clip with a resting camera, or over a still with sensor noise
D   a still seen by a handheld camera (3-8 px, exposure drift up to 8 %, noise), walkers
E   two depths: the near layer moves two to three times faster; one walker in front
F   a walker with a soft shadow that the mask leaves out; shadow/ says where it is darker than 2 %
P   the camera pans away and comes back after more than 6 s; meanwhile something came to stand in the way

Outside masks and shadow the input is the truth, bit for bit; noise is the same in both.

DIR holds
    davis/SEQUENCE/frames/NNNNN.jpg and davis/SEQUENCE/masks/NNNNN.png   clips with one annotated object
    video/*.mp4       clips; those whose camera rests are used
    stills/*.jpg      photographs, landscape ones of 450 or more pixels width are used
    cutouts/*.png     RGBA pictures of people and other things
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cameras import doubled, ease, hold, joined, listed, ridge, shoot, through, wander
from benchmarks.footage import (
    Scene,
    Size,
    camera_path,
    clips,
    read_clip,
    read_sequence,
    read_still,
    save_scene,
    sequences,
)
from benchmarks.sprites import (
    Plane,
    Walker,
    blob,
    cast_shadow,
    crossing,
    draw,
    draw_sprite,
    mask_of,
    over,
    sequence_sprite,
)
from stream.types import Image, Mask

RATE = 25
KINDS = ("A", "Bc", "Bs", "C", "D", "E", "F", "P")
SMALL = {"A", "Bc", "Bs", "P"}
"""Kinds that are made at 432x240 unless told otherwise; the others at 640x360."""

View = Callable[[int], Plane]
"""The scene without anyone in it, by frame: float32 RGB without noise."""


@dataclass(frozen=True)
class Draw:
    """What a kind is drawn from; `noise` is apart, so that the layout is the same at all sizes."""

    data: Path
    random: np.random.Generator
    noise: np.random.Generator
    frames: int
    size: Size


def make(data: Path, kind: str, seed: int, frames: int, size: Size) -> Scene:
    """Draw a scene of a kind; equal arguments give equal scenes."""
    number = KINDS.index(kind)
    random, noise = np.random.default_rng([seed, number]), np.random.default_rng([seed, number, 1])
    given = Draw(data, random, noise, frames, size)
    drawn = PAINTERS[kind](given)
    told = {"kind": kind, "seed": seed, "frames": len(drawn.input), "size": list(size), "fps": RATE}
    told["hole_share"] = round(drawn.hole_share, 4)
    return replace(drawn, name=f"{kind}-{seed}", info=told | drawn.info)


def _blob(given: Draw) -> Scene:
    names = sequences(given.data)
    name = names[int(given.random.integers(len(names)))]
    truth, _ = read_sequence(given.data, name, given.frames, given.size)
    mask = blob(given.random, given.size, given.random.uniform(0.05, 0.15))
    covered = [np.where(mask[..., None], np.uint8(127), picture) for picture in truth]
    return Scene("", covered, [mask] * len(truth), truth, info={"sequence": name})


def _pasted(given: Draw, stays: bool) -> Scene:
    random, size = given.random, given.size
    names = [str(name) for name in random.permutation(sequences(given.data))]
    for name in names:
        truth, objects = read_sequence(given.data, name, given.frames, size)
        if camera_path(truth, objects) > 0.15 * size[0]:
            break
    others = [other for other in names if other != name]
    sprite = sequence_sprite(given.data, others[int(random.integers(len(others)))])
    share = random.uniform(0.12, 0.22) if stays else random.uniform(0.04, 0.1)
    height = min(sprite.height * np.sqrt(share * size[0] * size[1] / sprite.area) / size[1], 0.95)
    foot = min(0.98, random.uniform(0.55, 0.75) + height / 2)
    frames, rightwards = len(truth), bool(random.random() < 0.5)
    walker = crossing(random, sprite, size, frames, height, foot, rightwards=rightwards)
    if stays:
        drift = wander(random, frames, 0.05 * size[0], 0.005, 0.02)
        walker = replace(walker, x=random.uniform(0.35, 0.65) * size[0] + drift)
    told = {"sequence": name, "object": sprite.name}
    return _compose(given, lambda i: truth[i].astype(np.float32), [walker], 0.0, told, frames)


def _walkers(given: Draw) -> Scene:
    random = given.random
    sigma = random.uniform(1.0, 2.5)
    if random.random() < 0.5 and (found := _resting_clip(given)) is not None:
        clip, name = found
        walkers = _some_walkers(given, int(random.integers(1, 3)), len(clip))
        return _compose(given, lambda i: clip[i].astype(np.float32), walkers, 0.0, {"clip": name}, len(clip))
    still, name = read_still(given.data, random, doubled(given.size, 1.2))
    flat = shoot(still, np.eye(3), given.size)
    walkers = _some_walkers(given, int(random.integers(1, 3)))
    return _compose(given, lambda _: flat, walkers, sigma, {"still": name})


def _handheld(given: Draw) -> Scene:
    random = given.random
    still, name = read_still(given.data, random, doubled(given.size, 1.35))
    pan = random.uniform(-0.08, 0.08)
    cameras = hold(random, given.frames, given.size, random.uniform(3, 8) * given.size[1] / 360, pan)
    gain = 1 + wander(random, given.frames, random.uniform(0.04, 0.08), 0.01, 0.04)
    tint = 1 + np.stack([wander(random, given.frames, 0.015, 0.01, 0.04) for _ in range(3)], 1)
    light = (gain[:, None] * tint).astype(np.float32)
    walkers = _some_walkers(given, int(random.integers(1, 3)))
    told = {"still": name, "camera": listed(cameras), "gain": np.round(gain, 4).tolist()}
    return _compose(
        given,
        lambda i: shoot(still, cameras[i], given.size) * light[i],
        walkers,
        random.uniform(1.0, 2.5),
        told,
    )


def _two_depths(given: Draw) -> Scene:
    random, size = given.random, given.size
    back, back_name = read_still(given.data, random, doubled(size, 1.45))
    front, front_name = read_still(given.data, random, doubled(size, 1.9))
    front = np.dstack([front, 255 * ridge(random, front.shape[0], front.shape[1], size)])
    pan, ratio = random.uniform(0.12, 0.22) * random.choice([-1, 1]), random.uniform(2, 3)
    far = hold(random, given.frames, size, 2.0 * size[1] / 360, pan)
    near = []
    for camera, place in zip(far, np.linspace(-0.5, 0.5, given.frames), strict=True):
        moved = camera.copy()
        moved[0, 2] += (ratio - 1) * pan * size[0] * place
        near.append(moved)

    def view(index: int) -> Plane:
        behind, before = shoot(back, far[index], size), shoot(front, near[index], size)
        alpha = before[..., 3:] / 255
        return behind * (1 - alpha) + before[..., :3] * alpha

    told = {"back": back_name, "front": front_name, "ratio": round(float(ratio), 2)}
    told |= {"camera": listed(far), "near_camera": listed(near)}
    walkers = _some_walkers(given, 1, stop=0.0)
    return _compose(given, view, walkers, random.uniform(1.0, 2.5), told)


def _shadow(given: Draw) -> Scene:
    random = given.random
    still, name = read_still(given.data, random, doubled(given.size, 1.2))
    handheld = bool(random.random() < 0.5)
    cameras = [np.eye(3)] * given.frames
    if handheld:
        cameras = hold(random, given.frames, given.size, random.uniform(2, 4) * given.size[1] / 360)
    flat = shoot(still, np.eye(3), given.size)
    walkers = _some_walkers(given, 1)
    cast = float(random.uniform(0.5, 1.0) * random.choice([-1, 1])), float(random.uniform(0.35, 0.55))
    told = {"still": name, "handheld": handheld, "shadow_dark": round(cast[1], 3)}
    return _compose(
        given,
        lambda i: shoot(still, cameras[i], given.size) if handheld else flat,
        walkers,
        random.uniform(1.0, 2.5),
        told,
        cast=cast,
    )


def _away_and_back(given: Draw) -> Scene:
    """0.8 s here, a pan away, 6 s or more elsewhere, a pan back to where now something stands in the way."""
    random, size, frames = given.random, given.size, given.frames
    here, turn, back = 20, 40, 30
    away = frames - here - 2 * turn - back
    if away < 6 * RATE:
        raise SystemExit(f"kind P needs at least {here + 2 * turn + back + 6 * RATE} frames")
    stills = [read_still(given.data, random, doubled(size, 1.2)) for _ in range(2)]
    scenery = joined([still for still, _ in stills])
    way = np.concatenate([np.zeros(here), ease(turn), np.ones(away), 1 - ease(turn), np.zeros(back)])
    side = scenery.shape[1] / 8  # from the middle of the joined picture to that of either still
    cameras = hold(random, frames, size, 1.5 * size[1] / 360)
    for camera, share in zip(cameras, way, strict=True):
        camera[0, 2] += side * (1 - 2 * share)
    sprite = draw_sprite(given.data, random)
    share = random.uniform(0.05, 0.12)
    scale = min(np.sqrt(share * size[0] * size[1] / sprite.area), 0.9 * size[1] / sprite.height)
    place = np.array(
        [random.uniform(-0.2, 0.2) * size[0] - side, (random.uniform(0.84, 0.94) - 0.5) * size[1]]
    )
    seen = np.array([through(camera, place) for camera in cameras]) + np.array(size) / 2
    seen[: here + turn + away // 2] = np.nan
    walker = Walker(sprite, seen[:, 0], seen[:, 1], float(scale))
    told = {"stills": [name for _, name in stills], "camera": listed(cameras), "away": away}
    told |= {"objects": [sprite.name]}
    sigma = random.uniform(1.0, 2.5)
    return _compose(given, lambda i: shoot(scenery, cameras[i], size), [walker], sigma, told)


def _compose(
    given: Draw,
    view: View,
    walkers: list[Walker],
    sigma: float,
    told: dict[str, Any],
    frames: int | None = None,
    cast: tuple[float, float] | None = None,
) -> Scene:
    """The view with walkers over it; `cast`: lean and darkness of the first walker's shadow."""
    scene = Scene("", [], [], [], None if cast is None else [])
    for index in range(frames or given.frames):
        clean = view(index)
        layers = [draw(walker, index, given.size) for walker in walkers]
        alpha = np.max([layer[1] for layer in layers], axis=0)
        mask = mask_of(alpha)
        picture, touched = clean, mask
        if cast is not None and scene.shadow is not None:
            light = cast_shadow(alpha, float(walkers[0].foot[index]), *cast)
            picture = clean * light[..., None]
            scene.shadow.append((light < 0.98) & ~mask)
            touched = mask | scene.shadow[-1]
        for layer in layers:
            picture = over(picture, layer)
        grain = given.noise.normal(0, sigma, clean.shape) if sigma else 0.0
        truth = _levels(clean + grain)
        scene.truth.append(truth)
        scene.input.append(np.where(touched[..., None], _levels(picture + grain), truth))
        scene.masks.append(mask)
    return replace(scene, info=told | {"walkers": [w.sprite.name for w in walkers], "noise": round(sigma, 2)})


def _some_walkers(given: Draw, count: int, frames: int | None = None, stop: float = 0.3) -> list[Walker]:
    """Walkers of 45-75 % of the frame's height from either side; `stop`: how likely each one stands."""
    random, size = given.random, given.size
    out = []
    for number in range(count):
        sprite = draw_sprite(given.data, random)
        height = min(random.uniform(0.45, 0.75), 0.42 * size[0] / size[1] * sprite.height / sprite.width)
        foot, stops = random.uniform(0.86, 0.98), bool(random.random() < stop)
        side = number % 2 == 0
        out.append(
            crossing(random, sprite, size, frames or given.frames, height, foot, rightwards=side, stops=stops)
        )
    return out


def _resting_clip(given: Draw) -> tuple[list[Image], str] | None:
    """A clip whose camera moves less than 0.06 pixels a frame."""
    free: Mask = np.zeros(given.size[::-1], bool)
    for path in given.random.permutation([str(p) for p in clips(given.data)]):
        clip = read_clip(Path(path), given.frames, given.size)
        if len(clip) >= min(24, given.frames) and camera_path(clip, [free] * len(clip)) < 0.06 * len(clip):
            return clip, Path(path).name
    return None


def _levels(picture: Plane) -> Image:
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


PAINTERS: dict[str, Callable[[Draw], Scene]] = {
    "A": _blob,
    "Bc": partial(_pasted, stays=False),
    "Bs": partial(_pasted, stays=True),
    "C": _walkers,
    "D": _handheld,
    "E": _two_depths,
    "F": _shadow,
    "P": _away_and_back,
}


def main() -> None:
    """Write one scene for each kind and seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--frames", type=int, help="default 45; 290 for P")
    parser.add_argument("--size", help="WxH, as 432x240, 640x360 or 1280x720")
    options = parser.parse_args()
    for kind in options.kind:
        size = options.size or ("432x240" if kind in SMALL else "640x360")
        width, height = (int(side) for side in size.split("x"))
        frames = options.frames or (290 if kind == "P" else 45)
        for seed in options.seed:
            scene = make(options.data, kind, seed, frames, (width, height))
            save_scene(scene, options.out / scene.name)
            told = {k: v for k, v in scene.info.items() if k not in ("camera", "near_camera", "gain")}
            print(options.out / scene.name, told, flush=True)


if __name__ == "__main__":
    main()
