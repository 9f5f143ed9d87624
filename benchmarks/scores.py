"""How a filled scene is scored.

psnr, ssim: inside the hole, mean over frames with 64 or more hole pixels (psnr capped at 60 dB a frame).
flicker: mean |change of (output - truth) between frames| over pixels in both holes, grey levels.
sharpness: squared Laplacian of the output over that of the truth, inside the hole.
psnr_shadow: inside shadow/, where there is one. outside_max: largest change outside hole and shadow.
worst: the lowest frame psnr.
grain: noise level inside the hole over that of a ring around it, both of the output; grain_truth: the same of
the truth. detail, detail_truth: the same with the mean |Laplacian|, which edges decide as well.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.footage import Scene
from stream.types import Image, Mask

LEAST = 64
"""Frames with fewer hole pixels are not counted."""

Plane = NDArray[np.float32]

_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
"""Blind to planes and straight edges (Immerkaer, "Fast noise variance estimation", 1996)."""


def score(scene: Scene, outputs: list[Image]) -> dict[str, Any]:
    """The measures named above for one filled scene."""
    ssim, flicker, shadow = [], [], []
    sharp_out = sharp_true = 0.0
    outside = 0
    last: tuple[Plane, Mask] | None = None
    for k, (out, true, mask) in enumerate(zip(outputs, scene.truth, scene.masks, strict=True)):
        difference = out.astype(np.float32) - true.astype(np.float32)
        dark = scene.shadow[k] if scene.shadow else np.zeros_like(mask)
        away = ~(mask | dark)
        if away.any():
            outside = max(outside, int(cv2.absdiff(out, scene.input[k])[away].max()))
        if np.count_nonzero(dark) >= LEAST:
            shadow.append(_psnr(difference[dark]))
        if np.count_nonzero(mask) >= LEAST:
            grey_out, grey_true = _grey(out), _grey(true)
            ssim.append(float(_ssim(grey_out, grey_true)[mask].mean()))
            sharp_out += float(np.square(cv2.Laplacian(grey_out, cv2.CV_32F)[mask]).sum())
            sharp_true += float(np.square(cv2.Laplacian(grey_true, cv2.CV_32F)[mask]).sum())
            if last is not None and np.count_nonzero(both := mask & last[1]) >= LEAST:
                flicker.append(float(np.abs(difference - last[0])[both].mean()))
        last = difference, mask
    psnr = [value for value in frame_psnr(scene, outputs) if value is not None]
    return {
        "psnr": _mean(psnr),
        "ssim": _mean(ssim, 4),
        "flicker": _mean(flicker),
        "sharpness": round(sharp_out / max(sharp_true, 1e-9), 3),
        "psnr_shadow": _mean(shadow),
        "outside_max": outside,
        "worst": round(min(psnr), 2) if psnr else None,
        **_texture(scene, outputs),
    }


def frame_psnr(scene: Scene, outputs: list[Image]) -> list[float | None]:
    """PSNR inside the hole of every frame, dB; None where the hole is too small to count."""
    return [
        _psnr(out[mask].astype(np.float32) - true[mask]) if np.count_nonzero(mask) >= LEAST else None
        for out, true, mask in zip(outputs, scene.truth, scene.masks, strict=True)
    ]


def below(scene: Scene, outputs: list[Image], others: list[Image]) -> int:
    """In how many frames the hole is worse than in the other outputs."""
    pairs = zip(frame_psnr(scene, outputs), frame_psnr(scene, others), strict=True)
    return sum(one is not None and two is not None and one < two for one, two in pairs)


def _texture(scene: Scene, outputs: list[Image]) -> dict[str, float | None]:
    """Noise and detail inside the hole over those of a ring around it, of the output and of the truth."""
    told: dict[str, float | None] = {}
    for ending, pictures in (("", outputs), ("_truth", scene.truth)):
        noise: tuple[list[Plane], list[Plane]] = [], []
        detail: tuple[list[Plane], list[Plane]] = [], []
        for k, mask in enumerate(scene.masks):
            places = _inside_and_ring(mask, scene.shadow[k] if scene.shadow else None)
            if min(np.count_nonzero(place) for place in places) < LEAST:
                continue
            grey = _grey(pictures[k])
            for response, found in ((cv2.filter2D(grey, -1, _NOISE), noise), (_laplacian(grey), detail)):
                for place, values in zip(places, found, strict=True):
                    values.append(np.abs(response[place]))
        told[f"grain{ending}"] = _ratio(noise, np.median)
        told[f"detail{ending}"] = _ratio(detail, np.mean)
    return told


def _inside_and_ring(mask: Mask, shadow: Mask | None) -> tuple[Mask, Mask]:
    """The hole without its rim, and a ring around it that does not touch it."""
    raw = mask.astype(np.uint8)
    reach = max(6, round(mask.shape[0] / 24))
    inside = cv2.erode(raw, np.ones((5, 5), np.uint8), borderValue=1) > 0
    wide = cv2.dilate(raw, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    ring = wide & (cv2.dilate(raw, np.ones((5, 5), np.uint8)) == 0)
    if shadow is not None:
        ring &= ~shadow
    return np.asarray(inside), np.asarray(ring)


def _ratio(found: tuple[list[Plane], list[Plane]], middle: Any) -> float | None:
    if not found[0]:
        return None
    inside, ring = (float(middle(np.concatenate(values))) for values in found)
    return round(inside / max(ring, 1e-6), 3)


def _grey(picture: Image) -> Plane:
    # in float: steps of whole levels are too coarse for the noise of a good camera
    return np.asarray(cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)


def _laplacian(grey: Plane) -> Plane:
    return np.asarray(cv2.Laplacian(grey, cv2.CV_32F), np.float32)


def _psnr(difference: Plane) -> float:
    return float(min(60.0, 10 * np.log10(255.0**2 / max(float(np.square(difference).mean()), 1e-9))))


def _ssim(x: Plane, y: Plane) -> Plane:
    def blur(plane: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5), np.float32)

    mx, my = blur(x), blur(y)
    vx, vy, xy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 6.5025, 58.5225
    return (2 * mx * my + c1) * (2 * xy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def _mean(values: list[float], digits: int = 2) -> float | None:
    return round(float(np.mean(values)), digits) if values else None
