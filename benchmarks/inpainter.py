"""Score the inpainter against Telea on pictures it was not trained on and draw a contact sheet.

    python -m benchmarks.inpainter --data DIR [--weights FILE] [--sheet SHEET.png]

Each held picture gets one object-shaped hole in a 256 x 256 crop; PSNR and SSIM count hole pixels only.
Without a reference; with one that is valid over about half of the hole; with one shifted by 1 to 2 px
and differently exposed. "copy" pastes the reference as it is, Telea (OpenCV, radius 4) fills the rest.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from models.inpainter import CROP, DEFAULT_WEIGHTS, Inpainter, build_inpainter
from models.training.holes import draw_homography, expose
from models.training.inpainter import Arrays, Recipe, Sources, make_crop, read_sources
from models.training.loop import read_weights

CASES = ("no reference", "half valid", "shifted 1-2 px", "full, exact place")
Picture = npt.NDArray[np.float32]


def make_case(case: str, held: Sources, number: int) -> Arrays:
    """One crop of held picture `number` with its hole, reference, validity and truth."""
    random = np.random.default_rng((20180619, number))
    alone = Sources([held.pictures[number]], [held.busy[number]], (), held.shapes)
    crop = make_crop(alone, CROP, Recipe(no_reference=1.1), random)
    if case == "no reference":
        return crop
    truth, hole = crop["truth"], crop["hole"]
    random = np.random.default_rng((7, number))
    warp = np.eye(3)
    if case == "shifted 1-2 px":
        angle, length = random.uniform(0, 2 * np.pi), random.uniform(1, 2)
        warp = draw_homography(CROP, CROP, 0.5, random)
        warp[:2, 2] += length * np.array([np.cos(angle), np.sin(angle)])
    moved = cv2.warpPerspective(
        truth, warp, (CROP, CROP), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    grain = random.normal(0, 0.005, truth.shape)
    crop["reference"] = np.clip(expose(np.clip(moved, 0, 1), random) + grain, 0, 1).astype(np.float32)
    crop["validity"] = np.ones_like(hole)
    if case == "half valid":
        rows, columns = np.nonzero(hole[:, :, 0])
        angle = random.uniform(0, 2 * np.pi)
        along = np.cos(angle) * columns + np.sin(angle) * rows
        row, column = np.mgrid[:CROP, :CROP]
        valid = np.cos(angle) * column + np.sin(angle) * row > np.median(along)
        crop["validity"] = valid.astype(np.float32)[:, :, None]
        crop["reference"] = crop["reference"] * crop["validity"]
    return crop


def telea(picture: Picture, hole: Picture) -> Picture:
    """OpenCV's Telea fill of the pixels where `hole` is 1."""
    pixels = np.round(picture * 255).astype(np.uint8)
    mask = (hole[:, :, 0] > 0).astype(np.uint8)
    filled = cv2.inpaint(pixels, mask, 4, cv2.INPAINT_TELEA)
    return (filled / 255.0).astype(np.float32)


def paste_and_telea(crop: Arrays) -> Picture:
    """The reference pasted where it is valid, Telea elsewhere."""
    usable = crop["hole"] * crop["validity"]
    pasted = crop["image"] * (1 - crop["hole"]) + crop["reference"] * usable
    return telea(pasted, crop["hole"] - usable)


def complete(net: Inpainter, crop: Arrays) -> tuple[Picture, Picture]:
    """Coarse and fine stage of the network."""
    tensors = [
        torch.from_numpy(crop[name]).permute(2, 0, 1)[None]
        for name in ("image", "hole", "reference", "validity")
    ]
    with torch.no_grad():
        output = net(*tensors)
    coarse, fine = (part[0].permute(1, 2, 0).numpy() for part in output)
    return coarse, fine


def psnr(found: Picture, crop: Arrays) -> float:
    """PSNR over hole pixels, dB, capped at 60."""
    inside = crop["hole"][:, :, 0] > 0
    error = float(np.mean((found[inside] - crop["truth"][inside]) ** 2))
    return min(60.0, -10 * float(np.log10(max(error, 1e-9))))


def ssim(found: Picture, crop: Arrays) -> float:
    """SSIM (11 x 11, sigma 1.5, grey) over hole pixels."""
    x, y = (
        np.asarray(cv2.cvtColor(p.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)
        for p in (found, crop["truth"])
    )

    def blur(p: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(p, (11, 11), 1.5), np.float32)

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    score = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4))
    return float(score[crop["hole"][:, :, 0] > 0].mean())


def sharpness(found: Picture, crop: Arrays) -> float:
    """Squared Laplacian in the hole over that of the truth: 1 is as sharp, 0 is a smear."""
    inside = crop["hole"][:, :, 0] > 0
    mine, its = (cv2.Laplacian(p.astype(np.float32), cv2.CV_32F)[inside] for p in (found, crop["truth"]))
    return float((mine**2).mean() / max(float((its**2).mean()), 1e-9))


def label(picture: Picture, text: str) -> npt.NDArray[np.uint8]:
    """8-bit picture with a word in its corner."""
    shown = np.ascontiguousarray((picture * 255).clip(0, 255).astype(np.uint8))
    cv2.putText(shown, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(shown, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with stills/, cutouts/ and coco/")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--sheet", type=Path, default=None, help="contact sheet to write")
    parser.add_argument("--count", type=int, default=120, help="held pictures to score")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sources = read_sources(arguments.data)
    pictures = sources.held[: arguments.count]
    blank = [np.zeros(p.shape[:2], np.uint8) for p in pictures]
    held = Sources(pictures, blank, (), sources.shapes)
    net = build_inpainter().eval()
    net.load_state_dict(read_weights(arguments.weights))
    result: dict[str, object] = {"pictures": len(pictures), "crop": CROP}
    rows = []
    for case in CASES:
        scores: dict[str, list[tuple[float, float, float]]] = {}
        seconds = 0.0
        for number in range(len(pictures)):
            crop = make_case(case, held, number)
            started = time.process_time()
            coarse, fine = complete(net, crop)
            seconds += time.process_time() - started
            known = crop["image"] * (1 - crop["hole"])
            found = {
                "Telea": telea(known, crop["hole"]),
                "copy + Telea": paste_and_telea(crop),
                "coarse": coarse,
                "ours": fine,
            }
            for name, picture in found.items():
                scores.setdefault(name, []).append(
                    (psnr(picture, crop), ssim(picture, crop), sharpness(picture, crop))
                )
            if number % 12 == 3 and number < 120 and case != CASES[-1]:
                shown = {"hole": known, "reference": crop["reference"], **found, "truth": crop["truth"]}
                rows.append(np.concatenate([label(p, f"{case}: {n}") for n, p in shown.items()], 1))
        table = {
            name: {
                "psnr": round(float(np.mean([v[0] for v in values])), 2),
                "ssim": round(float(np.mean([v[1] for v in values])), 3),
                "sharpness": round(float(np.median([v[2] for v in values])), 2),
            }
            for name, values in scores.items()
        }
        ours, base = (np.array([v[0] for v in scores[name]]) for name in ("ours", "copy + Telea"))
        table["ours"]["better than copy + Telea"] = round(float(np.mean(ours > base)), 3)
        result[case] = table
        for name, values in table.items():
            print(f"{case:18s} {name:14s}", *(f"{k} {v}" for k, v in values.items()))
        print(f"{case:18s} eager {1000 * seconds / len(pictures):.0f} ms of processor time a crop")
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.sheet is not None:
        sheet = np.concatenate(rows)
        cv2.imwrite(str(arguments.sheet), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
