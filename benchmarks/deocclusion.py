"""Score what completes hidden things, on pictures and clips made so that the truth is known.

    python -m benchmarks.deocclusion DATA [--stills 1200] [--clips 4] [--json FILE] [--strips DIR] [--fit]

DATA is a folder of training data (docs/training.md); only sources that were not trained on are used.

Stills: a thing put before another, 10-60 % of which is hidden, masks as rough as a segmentator's.
Clips: somebody passes before somebody who stays (benchmarks.crossings). Methods:

    modal         nothing is completed: the hidden part becomes background (the true one in clips)
    hull          the convex hull of what is visible, coloured by what is near
    network       each frame on its own; of stills also with exact masks of what is seen, as papers have it
    past          ours, without look-ahead: from the thing's own earlier frames, then the network
    ours          with the frames of the look-ahead as well

Rows hold amodal_iou (whole thing), hidden_iou (its hidden part), l1 and psnr (dB) inside the truly hidden
part; of clips also flicker (change from frame to frame beyond the truth's, grey levels) and ms (processor
time per frame in which something is hidden). `classes`: the network on rough masks, and the order, for
people, vehicles, animals and other things. `--fit` prints weights of the cues of the order, fitted on things
that the network was trained on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.crossings import KINDS, SIZE, Crossing, make_crossing, read_places, track
from configs.schema import load_config
from models.training.occlusions import CANVAS, SHARES, Sample, by_kind, draw_scene, is_held, read_wholes
from stream import completer, deocclude, order
from stream.deocclude import Completed, Network
from stream.hole import enlarge
from stream.types import Image, Mask, Track

LOOK_AHEAD = 60
METHODS = ("modal", "hull", "network", "past", "ours")


@dataclass
class Scores:
    """What one method made of many pictures."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        """Take the figures of one picture."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def row(self) -> dict[str, float]:
        """Means; PSNR of the mean squared error."""
        means = {name: float(np.mean(values)) for name, values in self.values.items()}
        if "squared" in means:
            means["psnr"] = 10 * float(np.log10(255**2 / max(means.pop("squared"), 1e-6)))
        return {name: round(value, 3) for name, value in means.items()}


def compare(whole: Mask, rgb: Image, truth: Mask, true_rgb: Image, visible: Mask) -> dict[str, float]:
    """Overlap of the whole and of the hidden part, and errors of colours inside the truly hidden part."""
    hidden = truth & ~visible
    said = whole & ~visible
    error = rgb[hidden].astype(np.float64) - true_rgb[hidden]
    return {
        "amodal_iou": overlap(whole, truth),
        "hidden_iou": overlap(said, hidden),
        "l1": float(np.abs(error).mean()),
        "squared": float((error**2).mean()),
    }


def overlap(first: Mask, second: Mask) -> float:
    """Intersection over union; 1 when both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def paste(onto: Image, done: Completed) -> tuple[Mask, Image]:
    """The whole mask in the frame, and the frame with the completed thing's hidden pixels."""
    mask, picture = np.zeros(onto.shape[:2], bool), onto.copy()
    x0, y0, x1, y1 = done.box
    x1, y1 = min(x1, onto.shape[1]), min(y1, onto.shape[0])
    part = np.s_[y0:y1, x0:x1]
    inside = np.s_[: y1 - y0, : x1 - x0]
    mask[part] = done.amodal[inside]
    alpha = done.alpha[inside][..., None].astype(np.float32) / 255
    mixed = done.rgb[inside] * alpha + picture[part] * (1 - alpha)
    picture[part] = np.where((done.origin[inside] > 0)[..., None], mixed + 0.5, picture[part]).astype(
        np.uint8
    )
    return mask, picture


def hull(rgb: Image, visible: Mask, front: Mask, onto: Image) -> tuple[Mask, Image]:
    """The convex hull of what is visible, as far as something is in front; coloured from its rim."""
    filled = np.zeros(visible.shape, np.uint8)
    points = cv2.findNonZero(visible.astype(np.uint8))
    if points is not None:
        cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    more = (filled > 0) & front
    colours = rgb.copy()
    if more.any():
        x, y, w, h = cv2.boundingRect(filled)
        part = np.s_[y : y + h, x : x + w]
        unknown = (~visible[part]).astype(np.uint8)
        colours[part] = cv2.inpaint(np.ascontiguousarray(rgb[part]), unknown, 3, cv2.INPAINT_TELEA)
    return visible | more, np.where(more[..., None], colours, onto).astype(np.uint8)


def still_tracks(scene: Sample) -> tuple[Track, Track]:
    """The thing (1) and what touches it (2)."""
    size = CANVAS, CANVAS
    return track(1, scene.modal > 0, size), track(2, scene.front > 0, size)


def score_stills(wholes: Sequence[Any], count: int, network: Network, sheet: Path | None) -> dict[str, Any]:
    """Rows of the methods on stills, and how often the order is right, of all and of each kind of thing."""
    kinds = by_kind(wholes)
    classes = {kind: Scores() for kind in SHARES}
    rows = {name: Scores() for name in ("modal", "hull", "network, exact masks", "network")}
    hits: dict[str, list[bool]] = {"all": [], "place": [], "outline": [], "network": []}
    seconds, pictures = 0.0, []
    for number in range(count):
        random = np.random.default_rng([77, number])
        hides = number % 2 == 0
        scene = draw_scene(wholes, kinds, random, covered=(0.1, 0.6), uncovered=0.0 if hides else 1.0)
        things = still_tracks(scene)
        judge = completer.witness(scene.rgb, network)
        said = order.order_still(things, CANVAS, judge)
        if said.pairs:
            hits["all"].append((said.pairs[0].front == 2) == hides)
            classes[scene.kind].add(order=float(hits["all"][-1]))
            cues = still_cues(things)
            hits["place"].append((cues[0] < 0) == hides)
            hits["outline"].append((float(cues[2:4] @ order.WEIGHTS[2:4]) < 0) == hides)
            hits["network"].append((judge(things[0], things[1]) > judge(things[1], things[0])) == hides)
        if not hides:
            continue
        # The order is given here, as in the papers: what is scored is the completion.
        given = order.Order((2, 1), (order.Pair(2, 1, 1.0),))
        visible, truth, front = scene.visible > 0, scene.amodal > 0, scene.front > 0
        background = np.asarray(cv2.inpaint(scene.rgb, scene.front, 3, cv2.INPAINT_TELEA), np.uint8)
        modal = scene.modal > 0
        rows["modal"].add(**compare(modal, background, truth, scene.truth, visible))
        whole, colours = hull(scene.rgb, modal, front, background)
        rows["hull"].add(**compare(whole, colours, truth, scene.truth, visible))
        exact = replace(scene, modal=scene.visible, front=scene.front & (1 - scene.visible))
        for name, seen in ("network, exact masks", exact), ("network", scene):
            started = time.process_time()
            done, _ = deocclude.complete(
                deocclude.initial(),
                scene.rgb,
                0,
                still_tracks(seen),
                given,
                wanted={1},
                over={2},
                network=network,
            )
            seconds += time.process_time() - started
            whole, colours = paste(background, done[0]) if done else (seen.modal > 0, background)
            found = compare(whole, colours, truth, scene.truth, visible)
            rows[name].add(**found)
        # Masks as rough as a segmentator's came last.
        classes[scene.kind].add(**found)
        if len(pictures) < 24:
            outline = np.where(whole[..., None], colours, colours // 3).astype(np.uint8)
            pictures.append(
                np.hstack([scene.rgb, _grey(modal), _grey(whole), _grey(truth), outline, scene.truth])
            )
    if sheet is not None:
        columns = [np.vstack(pictures[k::3]) for k in range(3)]
        write(sheet, np.hstack([each[: min(len(c) for c in columns)] for each in columns]))
    return {
        "pictures": count,
        "methods": {name: scores.row() for name, scores in rows.items()},
        "order": {name: round(float(np.mean(values)), 3) for name, values in hits.items()},
        "classes": {
            kind: {"pictures": len(scores.values.get("amodal_iou", ())), **scores.row()}
            for kind, scores in classes.items()
            if scores.values
        },
        "ms": round(500 * seconds / max(1, (count + 1) // 2), 1),
    }


def still_cues(things: tuple[Track, Track]) -> NDArray[np.float64]:
    """The cues of a pair of which nothing earlier is known; positive = the first is in front."""
    outlines = order.outline(things[0].instance.mask), order.outline(things[1].instance.mask)
    assert outlines[0] is not None and outlines[1] is not None
    return order.cues(*things, (outlines[0], outlines[1]), (None, None), (0.0, 0.0), CANVAS)


def run_clip(
    clip: Crossing, method: str, network: Network | None
) -> tuple[list[tuple[Mask, Image]], list[float], list[bool]]:
    """Whole mask and picture of each frame (without the one who passes), seconds each, and right orders."""
    count = len(clip.frames)
    out: list[tuple[Mask, Image]] = []
    seconds, right = [0.0] * count, []
    ordering, state = order.initial(), deocclude.initial()
    orders: list[order.Order] = []
    seen = 0
    for index in range(count):
        ahead = min(count, index + 1 + (LOOK_AHEAD if method == "ours" else 0))
        started = time.process_time()
        while seen < ahead:
            tracks, rgb = clip.tracks[seen], clip.frames[seen]
            judge = completer.witness(rgb, network) if network is not None else None
            now, ordering = order.step(ordering, tracks, SIZE[1], judge)
            orders.append(now)
            if method != "network":
                state = deocclude.observe(state, rgb, seen, tracks, now, {1}, {2})
            seen += 1
        done, state = deocclude.complete(
            state if method != "network" else deocclude.initial(),
            clip.frames[index],
            index,
            clip.tracks[index],
            orders[index],
            wanted={1},
            over={2},
            network=network,
            reach=0.02,
            followed=method != "network",
        )
        seconds[index] = time.process_time() - started
        for pair in orders[index].pairs:
            right.append(pair.front == 2)
        good = [each for each in done if each.confidence >= deocclude.ENOUGH]
        base = _background(clip, index)
        out.append(paste(base, good[0]) if good else (_modal(clip, index), base))
    return out, seconds, right


def _modal(clip: Crossing, index: int) -> Mask:
    """What the segmentator saw of the one who stays, at full size."""
    for each in clip.tracks[index]:
        if each.id == 1 and not each.missed:
            return enlarge(each.instance.mask, SIZE[::-1], (0, 0, *SIZE)) > 0
    return np.zeros(SIZE[::-1], bool)


def _front(clip: Crossing, index: int) -> Mask:
    for each in clip.tracks[index]:
        if each.id == 2:
            return enlarge(each.instance.mask, SIZE[::-1], (0, 0, *SIZE)) > 0
    return np.zeros(SIZE[::-1], bool)


def _background(clip: Crossing, index: int) -> Image:
    """The frame with the true background in place of the passer: the best that removers can do."""
    gone = clip.passer[index] | (cv2.dilate(_front(clip, index).astype(np.uint8), np.ones((9, 9))) > 0)
    gone &= ~_modal(clip, index) | clip.passer[index]
    return np.where(gone[..., None], clip.empty[index], clip.frames[index]).astype(np.uint8)


def score_clip(
    clip: Crossing, network: Network, totals: dict[str, Scores]
) -> dict[str, list[tuple[Mask, Image]]]:
    """Add the figures of one clip to each method's."""
    made: dict[str, list[tuple[Mask, Image]]] = {}
    for method in METHODS:
        seconds: list[float] = []
        right: list[bool] = []
        if method == "modal":
            frames = [(_modal(clip, k), _background(clip, k)) for k in range(len(clip.frames))]
        elif method == "hull":
            frames = [
                hull(clip.frames[k], _modal(clip, k), _front(clip, k), _background(clip, k))
                for k in range(len(clip.frames))
            ]
        else:
            frames, seconds, right = run_clip(clip, method, network)
        made[method] = frames
        scores = totals.setdefault(method, Scores())
        before = None
        for index, (whole, rgb) in enumerate(frames):
            truth, passer = clip.whole[index], clip.passer[index]
            hidden = truth & passer
            share = np.count_nonzero(hidden) / max(1, np.count_nonzero(truth))
            if share < 0.1:
                before = None
                continue
            scores.add(**compare(whole, rgb, truth, clip.alone[index], truth & ~passer))
            if before is not None:
                both = hidden & (clip.whole[before] & clip.passer[before])
                if both.any():
                    change = rgb[both].astype(int) - frames[before][1][both]
                    true = clip.alone[index][both].astype(int) - clip.alone[before][both]
                    scores.add(flicker=float(np.abs(change - true).mean()))
            before = index
            if seconds and method == "past":
                scores.add(ms=1000 * seconds[index])
        if right:
            scores.add(order=float(np.mean(right)))
    return made


def strip(clip: Crossing, made: dict[str, list[tuple[Mask, Image]]], count: int = 5) -> Image:
    """Frames with the most hidden: input, each method, truth."""
    hidden = [np.count_nonzero(w & p) for w, p in zip(clip.whole, clip.passer, strict=True)]
    chosen = [k for k in range(len(hidden)) if hidden[k] > 0.25 * max(hidden)]
    rows = []
    for index in [chosen[int(k)] for k in np.linspace(0, len(chosen) - 1, count)]:
        x, y, w, h = cv2.boundingRect((clip.whole[index] | clip.passer[index]).astype(np.uint8))
        y0, y1 = max(0, y - 10), min(SIZE[1], y + h + 10)
        middle = x + w // 2
        x0 = int(np.clip(middle - 90, 0, SIZE[0] - 180))
        cells = [clip.frames[index], *(made[name][index][1] for name in METHODS), clip.alone[index]]
        rows.append(np.hstack([cv2.resize(c[y0:y1, x0 : x0 + 180], (180, 240)) for c in cells]))
    return np.vstack(rows)


def fit(wholes: Sequence[Any], network: Network, count: int) -> NDArray[np.float64]:
    """Weights of the cues of a picture by logistic regression on training things, each pair both ways."""
    kinds = by_kind(wholes)
    rows, answers = [], []
    for number in range(count):
        hides = number % 2 == 0
        random = np.random.default_rng([5, number])
        scene = draw_scene(wholes, kinds, random, uncovered=0.0 if hides else 1.0)
        things = still_tracks(scene)
        judge = completer.witness(scene.rgb, network)
        asked = float(np.clip(judge(things[1], things[0]) - judge(things[0], things[1]), -8, 8))
        rows.append(np.append(still_cues(things), asked))
        answers.append(-1.0 if hides else 1.0)
    x = np.array(rows) * np.array(answers)[:, None]  # every row says "the first is in front"
    weights = np.zeros(x.shape[1])
    for _ in range(400):
        miss = 1 / (1 + np.exp(x @ weights))
        weights += 0.5 * ((x * miss[:, None]).mean(0) / (x**2).mean(0).clip(1e-3) - 0.003 * weights)
    return weights


def _grey(mask: Mask) -> Image:
    return np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, 2)


def write(path: Path, picture: Image) -> None:
    """Write an RGB picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--stills", type=int, default=1200)
    parser.add_argument("--clips", type=int, default=4, help="of each kind")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--strips", type=Path, default=None)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    change = {"models.weights": {"deocclusion": str(arguments.weights)}} if arguments.weights else {}
    network = completer.open_completer(load_config(overrides=change))
    assert network is not None
    if arguments.fit:
        trained = read_wholes(arguments.data, lambda key: not is_held(key))
        print(dict(zip(order.CUES, fit(trained, network, arguments.stills).round(2).tolist(), strict=False)))
        return
    result: dict[str, Any] = {}
    sheet = arguments.strips / "stills.png" if arguments.strips else None
    if arguments.stills:
        held = read_wholes(arguments.data, is_held)
        result["stills"] = score_stills(held, arguments.stills, network, sheet)
        print(json.dumps(result["stills"], indent=1))
    if arguments.clips:
        places = read_places(arguments.data)
        result["clips"] = {}
        for kind in KINDS:
            totals: dict[str, Scores] = {}
            for seed in range(arguments.clips):
                clip = make_crossing(places, seed, kind)
                made = score_clip(clip, network, totals)
                if arguments.strips:
                    write(arguments.strips / f"{clip.name}.png", strip(clip, made))
            result["clips"][kind] = {name: scores.row() for name, scores in totals.items()}
            print(kind, json.dumps(result["clips"][kind], indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
