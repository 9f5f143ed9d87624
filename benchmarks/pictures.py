"""Draw the pictures of docs/fill.md: python -m benchmarks.pictures [--out docs]

Clips are composed from photographs that come inside other packages, as `cleanplate demo` does, so their truth
is known and they may be shown: a strip a case, of an early and a late frame - input, hole, output, truth, and
four times the difference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.fill import ours
from benchmarks.footage import Scene
from benchmarks.scores import score
from benchmarks.strips import strip
from configs.schema import load_config
from stream import demo
from stream.inpaint import open_inpaint
from stream.types import Image

FRAMES = 60
SIZE = demo.WIDTH, demo.HEIGHT


def handheld() -> Scene:
    """Somebody crosses before a handheld camera."""
    shot = demo.compose()
    return Scene("handheld", list(shot.frames), list(shot.person), list(shot.truth))


def shadowed() -> Scene:
    """Somebody crosses before a camera at rest, with a soft shadow that no mask marks."""
    palace, bust, alpha = demo.photographs()
    random = np.random.default_rng(4)
    ground = palace[-demo.HEIGHT :, 20 : 20 + demo.WIDTH].astype(np.float32)
    frames, truth, masks, shadows = [], [], [], []
    for index in range(FRAMES):
        x = -bust.shape[1] + (index + 1) * (demo.WIDTH + bust.shape[1]) / (FRAMES + 2)
        place = np.array([[1, 0, x], [0, 1, demo.HEIGHT - bust.shape[0]]], np.float32)
        there = np.asarray(cv2.warpAffine(alpha, place, SIZE), np.float32)
        shown = np.asarray(cv2.warpAffine(bust, place, SIZE, borderMode=cv2.BORDER_REPLICATE), np.float32)
        # Thrown to the right along the ground: sheared, and a third as high.
        throw = np.array([[1, -0.9, 0.9 * demo.HEIGHT], [0, 0.35, 0.65 * demo.HEIGHT]], np.float32)
        dark = cv2.GaussianBlur(np.asarray(cv2.warpAffine(there, throw, SIZE), np.float32), (0, 0), 5)
        noise = random.standard_normal(ground.shape, dtype=np.float32) * 1.5
        floor = ground * (1 - 0.45 * dark[..., None])
        truth.append(_bytes(ground + noise))
        frames.append(_bytes(floor * (1 - there[..., None]) + shown * there[..., None] + noise))
        masks.append(there > 0.02)
        shadows.append((dark > 0.03) & (there <= 0.02))
    return Scene("shadow", frames, masks, truth, shadows)


def photograph() -> Scene:
    """Somebody stands in a single photograph: what is behind was never seen."""
    palace, bust, alpha = demo.photographs()
    truth = palace[-demo.HEIGHT :, : demo.WIDTH].copy()
    small, soft = (cv2.resize(p, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA) for p in (bust, alpha))
    place = np.array([[1, 0, 330], [0, 1, demo.HEIGHT - small.shape[0]]], np.float32)
    there = np.asarray(cv2.warpAffine(soft, place, SIZE), np.float32)[..., None]
    shown = np.asarray(cv2.warpAffine(small, place, SIZE, borderMode=cv2.BORDER_REPLICATE), np.float32)
    return Scene("photograph", [_bytes(truth * (1 - there) + shown * there)], [there[..., 0] > 0.02], [truth])


def main() -> None:
    """Draw from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    config = load_config("tourist")
    inpaint = open_inpaint(config)
    for scene in (handheld(), shadowed(), photograph()):
        outputs, _ = ours(scene, 1.48, config, inpaint)
        count = len(outputs)
        shown = strip(scene, outputs, sorted({count // 3, 2 * count // 3}), 236, zoom=count > 1)
        path = options.out / f"fill-{scene.name}.jpg"
        cv2.imwrite(str(path), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
        measured = score(scene, outputs)
        print(scene.name, {k: measured[k] for k in ("psnr", "flicker", "psnr_shadow") if measured.get(k)})


def _bytes(picture: NDArray[np.float32]) -> Image:
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
