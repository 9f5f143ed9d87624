"""Score what `explain --objects` writes for photographs against what is annotated in them.

    python -m benchmarks.perception --data DIR [--part held|choosing] [--json FILE] [--leave-out WEIGHTS]

DIR is laid out as for training (docs/training.md). Of it only the pictures that training sets aside are used:
fully annotated COCO photographs, people with a mask, street frames of CamVid. For each the files of
`cleanplate explain --objects` are written to a folder that is deleted again, and read back.

Things are painted over each other, surest last, for the overlap of classes. A found thing is right when its
mask and a true one's share half of their union. What lies in an annotated group counts neither way, nor
do found things of another size than the ones asked about unless they are right.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from configs.schema import load_config, parse_override
from models.labels import THING_NAMES
from models.reported import KEY, LEAST
from models.training.data import CAMVID_THINGS, IGNORE, Picture, read_camvid, read_collection
from models.training.scores import Tally, label_map
from models.training.teacher import VOC_CLASSES
from stream import judge
from stream.explain import explain_image, write_objects
from stream.networks import Networks
from stream.types import Frame

Mask = NDArray[np.bool_]

LARGE = 0.01
"""Share of the picture from which on a thing must not be missed."""

BAND = 0.02
"""Width of the band along an outline, share of the diagonal (Cheng et al., "Boundary IoU", CVPR 2021)."""

GROUPS: dict[str, tuple[str, ...]] = {
    "person": ("person",),
    "vehicle": ("bicycle", "car", "motorcycle", "bus", "train", "truck"),
}
PRECISION = 0.75


@dataclass(frozen=True)
class Found:
    """One thing as it was written: class 1..80, score, mask of the picture's size."""

    label: int
    score: float
    mask: Mask


@dataclass
class Matches:
    """Found things of one group over all pictures: (score, right); and how many true things there are."""

    results: list[tuple[float, bool]] = field(default_factory=list)
    true: int = 0

    def add(self, found: Sequence[Found], true: Sequence[Mask], groups: Sequence[Mask], least: float) -> None:
        """One picture."""
        asked = [mask.mean() >= least for mask in true]
        self.true += int(sum(asked))
        free = set(range(len(true)))
        for each in sorted(found, key=lambda one: -one.score):
            shares = {k: overlap(each.mask, true[k]) for k in free}
            best = max(shares, key=lambda k: shares[k], default=None)
            if best is not None and shares[best] >= 0.5:
                free.remove(best)
                if asked[best]:
                    self.results.append((each.score, True))
            elif each.mask.mean() >= least and not _inside(each.mask, groups):
                self.results.append((each.score, False))

    def summary(self) -> dict[str, float]:
        """Recall and precision of all that is reported, and recall where precision is still .75."""
        ordered = [right for _, right in sorted(self.results, key=lambda r: -r[0])]
        hits = np.cumsum(ordered)
        precision = hits / np.arange(1, len(hits) + 1)
        good = np.flatnonzero(precision >= PRECISION)
        return {
            "true": self.true,
            "found": len(ordered),
            "recall": share(float(sum(ordered)), self.true),
            "precision": share(float(sum(ordered)), len(ordered)),
            "recall_at_75": share(float(hits[good[-1]]), self.true) if len(good) else 0.0,
            "score_at_75": float(sorted((s for s, _ in self.results), reverse=True)[good[-1]])
            if len(good)
            else 1.0,
        }


def share(part: float, whole: float) -> float:
    """Their ratio; 0 of nothing."""
    return part / whole if whole else 0.0


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks."""
    common = np.count_nonzero(a & b)
    return share(common, np.count_nonzero(a) + np.count_nonzero(b) - common)


def _inside(mask: Mask, groups: Iterable[Mask]) -> bool:
    return any(np.count_nonzero(mask & each) > 0.5 * np.count_nonzero(mask) for each in groups)


def band(mask: Mask) -> Mask:
    """The part of a mask within BAND of its outline; the picture's edge is no outline of it."""
    reach = max(1, round(BAND * float(np.hypot(*mask.shape))))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=reach, borderValue=1)
    return np.asarray(mask & (inner[1:-1, 1:-1] == 0))


def true_things(picture: Picture, shape: tuple[int, int]) -> list[tuple[int, Mask, bool]]:
    """(class, mask, is a group) of each annotated thing; a group is its box."""
    out = []
    for thing in picture.things:
        mask = np.zeros(shape, np.uint8)
        if thing.crowd:
            x0, y0, x1, y1 = (round(v) for v in thing.box)
            mask[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1] = 1
        for polygon in thing.polygons:
            cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
        if mask.any():
            out.append((thing.label, mask > 0, thing.crowd))
    return out


class Explainer:
    """Writes and reads back what `explain --objects` says of a picture, once for each picture."""

    def __init__(self, changes: dict[str, Any]) -> None:
        self.config = load_config("tourist", overrides=changes)
        self.networks = Networks(self.config)
        self.relation = judge.open_relation(self.config.judge)

    def __call__(self, image: NDArray[np.uint8]) -> list[Found]:
        """The things of an RGB picture."""
        height, width = image.shape[:2]
        frame = Frame(0, 0, Fraction(1, 25), (image,), "rgb24", width, height)
        explained = explain_image(frame, self.networks, self.relation, self.config)
        with tempfile.TemporaryDirectory() as folder:
            write_objects(explained, Path(folder))
            listed = json.loads((Path(folder) / "objects.json").read_text())["objects"]
            masks = [cv2.imread(str(Path(folder) / each["mask"]), cv2.IMREAD_GRAYSCALE) for each in listed]
        return [
            Found(THING_NAMES.index(each["label"]) + 1, each["score"], np.asarray(mask) > 127)
            for each, mask in zip(listed, masks, strict=True)
        ]


def painted(found: Sequence[Found], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Class of each pixel, 0 where nothing was found."""
    classes = np.zeros(shape, np.uint8)
    for each in sorted(found, key=lambda one: one.score):
        classes[each.mask] = each.label
    return classes


def score_coco(explain: Explainer, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Classes, outlines and single things on fully annotated photographs."""
    tally, edge = Tally.empty(), [0, 0]
    matches = {(name, size): Matches() for name in GROUPS for size in ("large", "all")}
    for picture in pictures:
        image = picture.read()
        shape = (image.shape[0], image.shape[1])
        found, true = explain(image), label_map(picture, *shape)
        classes = painted(found, shape)
        tally.add(classes, true)
        known = true != IGNORE
        ours, theirs = band((classes == 1) & known) & known, band(true == 1)
        edge[0] += np.count_nonzero(ours & theirs)
        edge[1] += np.count_nonzero(ours | theirs)
        things = true_things(picture, shape)
        for (name, size), tables in matches.items():
            numbers = {THING_NAMES.index(each) + 1 for each in GROUPS[name]}
            tables.add(
                [each for each in found if each.label in numbers],
                [mask for label, mask, group in things if label in numbers and not group],
                [mask for label, mask, group in things if label in numbers and group],
                LARGE if size == "large" else 0.0,
            )
    seen = [k for k in range(1, len(THING_NAMES) + 1) if tally.true[k]]
    table = {THING_NAMES[k - 1]: tally.union_share(k) for k in seen}
    voc = [tally.union_share(k) for k in VOC_CLASSES[1:]]
    return {
        "pictures": len(pictures),
        "person": tally.union_share(1),
        "mean20": float(np.nanmean(voc)),
        "background": tally.union_share(0),
        "person_boundary": share(edge[0], edge[1]),
        "classes": table,
        "things": {f"{name}, {size}": each.summary() for (name, size), each in matches.items()},
    }


def score_masks(explain: Explainer, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Overlap of people on pictures with a mask of people, all and by kind."""
    tallies: dict[str, Tally] = {"all": Tally.empty()}
    for picture in pictures:
        image = picture.read()
        true = label_map(picture, image.shape[0], image.shape[1])
        classes = painted(explain(image), true.shape[:2])
        for name in ("all", picture.kind):
            tallies.setdefault(name, Tally.empty()).add(np.where(classes == 1, 1, 0), true)
    return {"pictures": len(pictures), **{name: each.union_share(1) for name, each in tallies.items()}}


def score_street(explain: Explainer, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Overlap of people (with riders and their bicycles) and of motor vehicles on CamVid's frames."""
    tally = Tally.empty()
    merge = np.arange(len(THING_NAMES) + 1)
    for name in ("bus", "train", "truck"):
        merge[THING_NAMES.index(name) + 1] = CAMVID_THINGS["car"]
    merge[THING_NAMES.index("bicycle") + 1] = CAMVID_THINGS["person"]
    for picture in pictures:
        image = picture.read()
        raw = cv2.imread(str(picture.mask), cv2.IMREAD_GRAYSCALE)
        assert raw is not None
        true = np.where(np.isin(raw, list(CAMVID_THINGS.values())), raw, np.where(raw == 0, IGNORE, 0))
        classes = merge[painted(explain(image), (true.shape[0], true.shape[1]))]
        tally.add(classes, true.astype(np.uint8))
    return {
        "pictures": len(pictures),
        **{name: tally.union_share(number) for name, number in CAMVID_THINGS.items()},
    }


def tables(scores: dict[str, Any]) -> list[str]:
    """The scores as Markdown."""
    coco, people, street = scores["coco"], scores["people"], scores["street"]
    lines = [
        f"| {coco['pictures']} COCO photographs | |", "| --- | --- |",
        f"| person | {coco['person']:.3f} |", f"| person, along outlines | {coco['person_boundary']:.3f} |",
        f"| mean of 20 classes | {coco['mean20']:.3f} |", f"| background | {coco['background']:.3f} |",
        f"| people, {people['pictures']} pictures with a mask | {people['all']:.3f} |",
    ]  # fmt: skip
    if street["pictures"]:
        lines += [
            f"| person, {street['pictures']} street frames | {street['person']:.3f} |",
            f"| vehicle, the same | {street['car']:.3f} |",
        ]
    lines += [
        "",
        "| things | true | found | recall | precision | recall at precision .75 |",
        "|" + " --- |" * 6,
    ]
    for name, row in coco["things"].items():
        lines.append(
            f"| {name} | {row['true']} | {row['found']} | {row['recall']:.2f} | {row['precision']:.2f} "
            f"| {row['recall_at_75']:.2f} (score {row['score_at_75']:.2f}) |"
        )
    lines += ["", "Classes: " + ", ".join(f"{k} .{round(100 * v):02d}" for k, v in coco["classes"].items())]
    return lines


def measure(data: Path, part: str, changes: dict[str, Any]) -> dict[str, Any]:
    """All scores of the set-aside pictures below `data`."""
    collection = read_collection(data)
    explain = Explainer(changes)
    if part == "held":
        coco, people = collection.held_coco, collection.held_people
        kept = {p.image for p in collection.training}
        street = [p for p in read_camvid(data / "stuff" / "camvid") if p.image not in kept]
    else:
        coco, people, street = collection.choosing_coco, collection.choosing_people, []
    return {
        "part": part,
        "size": explain.config.perceive.size,
        "coco": score_coco(explain, coco),
        "people": score_masks(explain, people),
        "street": score_street(explain, street) if street else {"pictures": 0},
    }


def leave_out(weights: Path, scores: dict[str, Any]) -> list[str]:
    """Write into a weights file which classes score too low to be reported; returns them.

    The scores must be of the same weights without such a list. Classes that occur nowhere are left out.
    """
    table = scores["coco"]["classes"]
    names = [name for name in THING_NAMES if table.get(name, 0.0) < LEAST]
    with safe_open(weights, framework="numpy") as file:
        facts = dict(file.metadata() or {})
    save_file(load_file(weights), weights, metadata={**facts, KEY: ", ".join(names)})
    return names


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    """Print the tables; write the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", choices=("held", "choosing"), default="held")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--leave-out", type=Path, metavar="WEIGHTS", help="write the low classes into it")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    told = parser.parse_args()
    scores = measure(told.data, told.part, dict(parse_override(text) for text in told.set))
    print("\n".join(tables(scores)))
    if told.leave_out:
        print("left out:", ", ".join(leave_out(told.leave_out, scores)))
    if told.json:
        told.json.write_text(json.dumps(_rounded(scores), indent=1) + "\n")


if __name__ == "__main__":
    main()
