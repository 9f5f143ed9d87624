"""Train the inpainter on pictures alone: every hole is cut by us, so the truth is known."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models.inpainter import Inpainter, build_inpainter
from models.segmentator import CompactTrunk

from .data import read_coco
from .holes import (
    Mask,
    draw_hole,
    draw_homography,
    draw_validity,
    expose,
    polygon_shape,
    read_shapes,
)
from .loop import (
    Average,
    Journal,
    cosine,
    load_checkpoint,
    read_weights,
    recipe_text,
    save_checkpoint,
    set_rate,
    write_weights,
)

Pixels = npt.NDArray[np.uint8]
SEGMENTATOR = Path(__file__).parent.parent / "weights" / "segmentator-compact.safetensors"


@dataclass(frozen=True)
class Recipe:
    """How the committed weights were made; every field may be set from the command line."""

    seed: int = 20180619  # of every random draw
    coarse_steps: int = 1100  # steps of the coarse stage alone, without references: a fifth of the cost
    small_steps: int = 450  # steps on small crops with the coarse stage as it is, frozen
    large_steps: int = 0  # the same at the size the weights are used at; worth it where there is time
    small_side: int = 128  # px
    large_side: int = 256  # px
    coarse_batch: int = 16  # crops a step
    small_batch: int = 8
    large_batch: int = 3
    rate: float = 1.2e-3  # Adam's, after a warm-up falling along a cosine
    average: float = 0.997  # decay of the weights' moving average, which is what gets stored
    no_reference: float = 0.45  # share of crops without any reference
    full_reference: float = 0.15  # share of crops whose reference is valid everywhere
    ghosts: float = 0.12  # share of references with a wrong patch marked valid
    gradient_weight: float = 0.5
    feature_weight: float = 0.5  # of the segmentator trunk's features; 0 leaves them out
    start: str = ""  # weights file to begin with; "": at random
    segmentator: str = ""  # weights file the feature loss looks through; "": the one in the package
    save_every: int = 100  # steps


@dataclass(frozen=True)
class Sources:
    """What crops and holes are made from: pictures (H, W, 3) RGB, their foreground maps, outlines."""

    pictures: Sequence[Pixels]
    busy: Sequence[Mask]
    held: Sequence[Pixels]
    shapes: Sequence[Mask]


@dataclass(frozen=True)
class Batch:
    """Network inputs and the truth, (B, ., S, S) float32."""

    image: Tensor
    hole: Tensor
    reference: Tensor
    validity: Tensor
    truth: Tensor


def read_sources(data: Path) -> Sources:
    """Read the pictures below `data`.

    coco/ (or perception/coco/) and stills/ with index.csv. Stills whose licence forbids commercial use
    are only scored, never trained on, and so are their twins in coco/; cutouts/ gives outlines.
    """
    coco = next((f for f in (data / "coco", data / "perception" / "coco") if f.is_dir()), data / "coco")
    held_files, free_files, barred = [], [], set()
    index = data / "stills" / "index.csv"
    if index.is_file():
        with index.open(encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows):
                if "non-commercial" in row["licence"] or "NC" in row["licence"]:
                    held_files.append(index.parent / row["file"])
                    barred.add(row["source"].rpartition(" ")[2])
                elif row["licence"].startswith("CC BY"):
                    free_files.append(index.parent / row["file"])
                    barred.add(row["source"].rpartition(" ")[2])  # the still is larger: no twin needed
    pictures, busy, shapes = [], [], read_shapes(data / "cutouts")
    for entry in read_coco(coco):
        if entry.image.stem.lstrip("0") in barred:
            continue
        pixels = entry.read()
        crowd = np.zeros(pixels.shape[:2], np.uint8)
        for thing in entry.things:
            x0, y0, x1, y1 = (round(v) for v in thing.box)
            crowd[max(0, y0) : y1, max(0, x0) : x1] = 1
            shape = polygon_shape(thing.polygons) if thing.polygons and not thing.crowd else None
            if shape is not None:
                shapes.append(shape)
        # A picture that is all foreground teaches nothing of background.
        if min(pixels.shape[:2]) >= 128 and crowd.mean() < 0.8:
            pictures.append(pixels)
            busy.append(crowd)
    for file in free_files:
        pictures.append(read_rgb(file))
        busy.append(np.zeros(pictures[-1].shape[:2], np.uint8))
    if not pictures:
        raise ValueError(f"no training pictures below {data}: see docs/training.md for the layout")
    return Sources(pictures, busy, [read_rgb(file) for file in held_files], shapes)


def read_rgb(file: Path) -> Pixels:
    """Decode a picture to RGB; ValueError when it cannot be read."""
    bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"cannot be read as a picture: {file}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


Arrays = dict[str, npt.NDArray[np.float32]]


def make_crop(sources: Sources, side: int, recipe: Recipe, random: np.random.Generator) -> Arrays:
    """Make one crop with its hole and reference, arrays (S, S, C) in [0, 1]."""
    number = int(random.integers(len(sources.pictures)))
    picture, busy = sources.pictures[number], sources.busy[number]
    scale = max(side / min(picture.shape[:2]), float(random.uniform(0.7, 1.0)))
    if scale != 1:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        size = tuple(max(side, round(length * scale)) for length in picture.shape[1::-1])
        picture = np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)
        busy = np.asarray(cv2.resize(busy, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    if random.random() < 0.5:
        picture, busy = picture[:, ::-1], busy[:, ::-1]
    top = int(random.integers(0, picture.shape[0] - side + 1))
    left = int(random.integers(0, picture.shape[1] - side + 1))
    window = (slice(top, top + side), slice(left, left + side))
    truth = picture[window].astype(np.float32) / 255
    hole = draw_hole(side, sources.shapes, np.ascontiguousarray(busy[window]), random)
    kind = random.random()
    validity = np.zeros((side, side), np.float32)
    reference = np.zeros_like(truth)
    if kind >= recipe.no_reference:
        reach = float(random.choice([0.0, 1.5, 4.0], p=[0.25, 0.45, 0.3]))
        warp = draw_homography(picture.shape[1], picture.shape[0], reach, random)
        moved = cv2.warpPerspective(
            np.ascontiguousarray(picture),
            warp,
            picture.shape[1::-1],
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        )
        reference = expose(moved[window].astype(np.float32) / 255, random).astype(np.float32)
        whole = kind >= 1 - recipe.full_reference
        validity = np.ones_like(validity) if whole else draw_validity(side, random)
        if random.random() < recipe.ghosts:
            ghost = draw_hole(side, sources.shapes, (1 - hole).astype(np.uint8), random)[:, :, None]
            other = sources.pictures[int(random.integers(len(sources.pictures)))][:side, :side]
            wrong = cv2.resize(other, (side, side)).astype(np.float32) / 255
            reference = reference * (1 - ghost) + wrong * ghost
    grain = random.uniform(0, 0.012)
    image = truth + random.normal(0, grain, truth.shape)
    reference = reference + random.normal(0, grain, truth.shape).astype(np.float32)
    crop = {
        "image": np.clip(image, 0, 1) * (1 - hole[:, :, None]),
        "hole": hole[:, :, None],
        "reference": np.clip(reference, 0, 1) * validity[:, :, None],
        "validity": validity[:, :, None],
        "truth": truth,
    }
    return {name: np.asarray(value, np.float32) for name, value in crop.items()}


def make_batch(sources: Sources, side: int, count: int, recipe: Recipe, random: np.random.Generator) -> Batch:
    """Stack `count` crops."""
    crops = [make_crop(sources, side, recipe, random) for _ in range(count)]
    tensors = {}
    for name in crops[0]:
        value = torch.from_numpy(np.stack([crop[name] for crop in crops]))
        tensors[name] = value.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return Batch(**tensors)


class Features(torch.nn.Module):
    """The segmentator trunk's first blocks (strides 4 and 8), frozen: what the eye of the loss sees."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        trunk = CompactTrunk(norm=False)
        stored = read_weights(weights)
        trunk.load_state_dict({k[6:]: v for k, v in stored.items() if k.startswith("trunk.")})
        self.blocks = trunk.blocks[:5]
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] to features at strides 4, 4 and 8."""
        x, found = image * 2 - 1, []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in (0, 1, 4):
                found.append(x)
        return found


def losses(
    net: Inpainter, batch: Batch, features: Features | None, recipe: Recipe, *, alone: bool
) -> dict[str, Tensor]:
    """The weighted terms; their sum is minimised. `alone`: only the coarse stage, holes without reference."""
    truth = batch.image * (1 - batch.hole) + batch.truth * batch.hole
    area = batch.hole.sum((1, 2, 3)).clamp(min=64)
    if alone:
        rough = net.sketch(batch.image, batch.hole, batch.hole, torch.zeros_like(batch.hole))
        difference = (batch.hole * (rough - truth)).abs().mean(1).sum((1, 2)) / area
        return {"coarse": difference.mean()}
    output = net(batch.image, batch.hole, batch.reference, batch.validity)
    terms = {"fine": ((output.fine - truth).abs().mean(1).sum((1, 2)) / area).mean()}
    # Differences of neighbours at three scales: edges must continue, and stay where they are.
    error, slope = output.fine - truth, torch.zeros(())
    for _ in range(3):
        across = (error[:, :, :, 1:] - error[:, :, :, :-1]).abs().mean(1).sum((1, 2)) / area
        down = (error[:, :, 1:] - error[:, :, :-1]).abs().mean(1).sum((1, 2)) / area
        slope = slope + (across + down).mean()
        error, area = F.avg_pool2d(error, 2), area / 4
    terms["gradient"] = recipe.gradient_weight / 3 * slope
    if features is not None and recipe.feature_weight > 0:
        with torch.no_grad():
            wanted = features(truth)
        share = batch.hole.mean((1, 2, 3)).clamp(min=0.01)
        for found, target in zip(features(output.fine), wanted, strict=True):
            spread = target.std((2, 3), keepdim=True).mean((0,), keepdim=True) + 1e-3
            distance = ((found - target).abs() / spread).mean((1, 2, 3)) / share
            terms["features"] = terms.get("features", 0.0) + recipe.feature_weight / 30 * distance.mean()
    return terms


def psnr_in_hole(found: Tensor, truth: Tensor, hole: Tensor) -> float:
    """Mean over pictures of the PSNR over hole pixels, dB, capped at 60."""
    square = ((found - truth) ** 2 * hole).sum((1, 2, 3)) / (3 * hole.sum((1, 2, 3)))
    return float((-10 * torch.log10(square.clamp(min=1e-6))).mean())


def train(data: Path, work: Path, recipe: Recipe, *, log: Callable[[str], None]) -> Path:
    """Train on small crops, then at full size; resume from `work/checkpoint.pt`; return the weights' path.

    The perceptual loss is used from the moment the segmentator's weights exist.
    """
    sources = read_sources(data)
    log(f"{len(sources.pictures)} pictures, {len(sources.held)} held, {len(sources.shapes)} outlines")
    journal = Journal(work / "journal.jsonl", log)
    torch.manual_seed(recipe.seed)
    net = build_inpainter()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.start:
        net.load_state_dict(read_weights(Path(recipe.start)))
    optimizer = torch.optim.Adam(net.parameters(), recipe.rate, betas=(0.9, 0.99))
    average = Average(net, recipe.average)
    eye = Path(recipe.segmentator) if recipe.segmentator else SEGMENTATOR
    features = Features(eye) if eye.is_file() and recipe.feature_weight > 0 else None
    log("perceptual loss: " + ("segmentator trunk" if features else "none yet"))
    start = 0
    if (state := load_checkpoint(work / "checkpoint.pt")) is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        average.restore(state["average"])
        start = int(state["step"])
    probe = held_batch(sources, recipe)
    total = recipe.coarse_steps + recipe.small_steps + recipe.large_steps
    lonely = Recipe(**{**recipe.__dict__, "no_reference": 1.1})
    sums: dict[str, float] = {}
    for step in range(start, total):
        if step == recipe.coarse_steps:
            net.load_state_dict(average.values)
        alone, large = step < recipe.coarse_steps, step >= recipe.coarse_steps + recipe.small_steps
        random = np.random.default_rng((recipe.seed, step))  # so that a resumed run draws what it would have
        side = recipe.large_side if large else recipe.small_side
        count = recipe.coarse_batch if alone else recipe.large_batch if large else recipe.small_batch
        batch = make_batch(sources, side, count, lonely if alone else recipe, random)
        if alone:
            rate = cosine(step, recipe.coarse_steps, recipe.rate, floor=recipe.rate / 4, warm=50)
        else:  # the fine stage is new: it gets a schedule of its own, on a coarse stage that stands still
            net.coarse.requires_grad_(False)
            rest, place = total - recipe.coarse_steps, step - recipe.coarse_steps
            rate = cosine(place, rest, recipe.rate * 0.8, floor=recipe.rate / 50, warm=30)
        set_rate(optimizer, rate)
        terms = losses(net, batch, features, recipe, alone=alone)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        sums["norm"] = sums.get("norm", 0.0) + float(norm)
        optimizer.step()
        average.update(net)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if (step + 1) % recipe.save_every == 0 or step + 1 == total:
            save_checkpoint(
                work / "checkpoint.pt",
                {
                    "net": net.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average.state(),
                    "step": step + 1,
                },
            )
            scores = score(average, probe) if probe is not None else {}
            journal.write(step=step + 1, **{k: v / recipe.save_every for k, v in sums.items()}, **scores)
            sums = {}
    final = build_inpainter()
    final.load_state_dict(average.values)
    return write_weights(
        work / "inpainter-compact.safetensors",
        final,
        {
            "model": "inpainter",
            "variant": "compact",
            "recipe": recipe_text(recipe),
        },
    )


def held_batch(sources: Sources, recipe: Recipe) -> Batch | None:
    """Thirty-two fixed small crops of held pictures without a reference; None when nothing is held."""
    if not sources.held:
        return None
    held = Sources(sources.held, [np.zeros(p.shape[:2], np.uint8) for p in sources.held], (), sources.shapes)
    bare = Recipe(**{**recipe.__dict__, "no_reference": 1.1})
    return make_batch(held, 128, 32, bare, np.random.default_rng(1))


def score(average: Average, probe: Batch) -> dict[str, float]:
    """PSNR in the hole of both stages on the held crops, dB."""
    net = build_inpainter()
    net.load_state_dict(average.values)
    net.eval()
    with torch.no_grad():
        output = net(probe.image, probe.hole, probe.reference, probe.validity)
    return {
        "held_coarse": psnr_in_hole(output.coarse, probe.truth, probe.hole),
        "held_fine": psnr_in_hole(output.fine, probe.truth, probe.hole),
    }
