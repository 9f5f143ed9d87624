"""Follow and judge composites whose tracks are known, and write benchmarks/tracks.json.

    python -m benchmarks.tracks --data DIR [--seed 1 2 3] [--kind pole bag] [--mode network truth]

The clips are those of `benchmarks.walks`, judged by the preset tourist. `network`: things as the real
segmentator finds them. `truth`: the true masks with misses, trembling outlines, pieces, doubles and wrong
classes as often as the segmentator has them (`Noise`; `noise` in the JSON is what was measured).

A track stands for a thing in a frame when the overlap of their boxes is one half at least. Frames in which
less than a quarter of a thing is seen count neither way, and so does what the segmentator finds in the clip
without the things.

    idf1       Ristani et al. 2016: the tracks are given to the things one to one for the whole clip
    switches   CLEAR MOT (Bernardin and Stiefelhagen 2008): a thing's track is another than before
    flips      changes of the verdict between frames of a track, as the fill knows it without look-ahead and
               with that of the preset, per minute of all tracks; `undone` without a track's first decision
    late       seconds that the fill does not yet know of a track that it goes
    blinks     changes between gone and there of a thing, per minute; misses and switches count here
    right      share of a thing's frames in which at least half of it is gone, or at most a fifth, as `wanted`
    judged     things that are right in nine of ten frames at least
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import walks
from benchmarks.noise import NOISE, Told
from benchmarks.walks import RATE, Shot, Walk
from configs.schema import Config, load_config
from stream import judge, motion, perceive, regions, track
from stream.assignment import best_pairs
from stream.types import Action, Frame, Mask, Perception, Track, Verdict

OUT = Path(__file__).with_suffix(".json")
SAME = 0.5
_SEEN = 0.25
_CLEAN_EVERY = 5


@dataclass(frozen=True)
class Truth:
    """The things of one frame: boxes whole and as seen, masks at working size, and which of them count."""

    whole: NDArray[np.float64]
    seen: NDArray[np.float64]
    masks: tuple[Mask, ...]
    counts: NDArray[np.bool_]


@dataclass(frozen=True)
class Moment:
    """What the analysis made of one frame; `cover`: the share of each thing that a track covers."""

    truth: Truth
    tracks: tuple[Track, ...]
    verdicts: tuple[Verdict, ...]
    cover: dict[int, NDArray[np.float64]]
    ignored: frozenset[int]


@dataclass
class Followed:
    """The states of motion, tracker and judge, and what they made of the frames so far."""

    config: Config
    relation: judge.Relation
    motion: motion.MotionState = field(default_factory=motion.initial)
    tracks: track.TrackState = field(default_factory=track.initial)
    judge: judge.JudgeState = field(default_factory=judge.initial)
    moments: list[Moment] = field(default_factory=list)

    def push(
        self, frame: Frame, seen: Perception, stuff: NDArray[np.float32], truth: Truth, ignore: Mask
    ) -> None:
        """Follow and judge one frame."""
        blocked = np.zeros(seen.working, bool)
        for each in seen.instances:
            blocked |= each.mask
        moved, self.motion = motion.step(self.motion, frame, blocked)
        tracks, self.tracks = track.step(self.tracks, seen, moved, frame, self.config.track)
        verdicts, self.judge = judge.step(self.judge, tracks, stuff, self.relation, self.config.judge, frame)
        masks = [each.instance.mask for each in tracks]
        cover = dict(zip((each.id for each in tracks), _cover(masks, truth.masks), strict=True))
        of_scenery = frozenset(
            each.id for each, share in zip(tracks, _cover([ignore], masks)[0], strict=True) if share >= 0.5
        )
        self.moments.append(Moment(truth, tracks, verdicts, cover, of_scenery))


def _cover(masks: Sequence[Mask], things: Sequence[Mask]) -> NDArray[np.float64]:
    """Share of each of M things that each of N masks covers, (N, M); every other pixel is looked at."""
    if not masks or not things:
        return np.zeros((len(masks), len(things)))
    over, below = (np.array([m[::2, ::2].ravel() for m in each], np.float32) for each in (masks, things))
    return np.asarray(over @ below.T / np.maximum(below.sum(1), 1), np.float64)


def as_frame(index: int, picture: NDArray[np.uint8]) -> Frame:
    """A picture as the frame of a clip."""
    height, width = picture.shape[:2]
    return Frame(index, index, Fraction(1, RATE), (picture,), "rgb24", width, height)


def truth_of(shot: Shot, full: Sequence[float], working: tuple[int, int]) -> Truth:
    """The things of a frame; `full`: how many pixels each has when it is wholly in the picture."""
    size = working[::-1]
    masks = [cv2.resize(m.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for m in shot.seen]
    counts = [m.sum() >= _SEEN * all_of_it for m, all_of_it in zip(shot.seen, full, strict=True)]
    return Truth(_boxes(shot.whole), _boxes(shot.seen), tuple(masks), np.array(counts, bool))


def _boxes(masks: Sequence[Mask]) -> NDArray[np.float64]:
    return np.array([regions.bounds(mask) or (0, 0, 0, 0) for mask in masks], np.float64).reshape(-1, 4)


def _overlap(truth: Truth, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(things, boxes): with the whole thing or what is seen of it, whichever fits better."""
    return np.maximum(regions.box_overlap(truth.whole, boxes), regions.box_overlap(truth.seen, boxes))


def watch(
    walk: Walk, networks: perceive.Networks, config: Config
) -> Iterator[tuple[Frame, Shot, Perception, NDArray[np.float32], Mask]]:
    """Each frame with what the networks see in it, the stuff, and what they see without the things."""
    stuff = np.zeros(0, np.float32)
    ignore = np.zeros((2, 2), bool)
    for index, shot in enumerate(walk.shots()):
        frame = as_frame(index, shot.picture)
        look = index % RATE == 0
        seen = perceive.perceive(networks, frame, look_at_stuff=look, config=config)
        stuff = seen.stuff if look else stuff
        if index % _CLEAN_EVERY == 0:
            clean = perceive.perceive(
                networks, as_frame(index, shot.clean), look_at_stuff=False, config=config
            )
            ignore = np.zeros(seen.working, bool)
            for each in clean.instances:
                ignore |= each.mask
        yield frame, shot, seen, stuff, ignore


def run(
    walk: Walk,
    watched: Iterable[tuple[Frame, Shot, Perception, NDArray[np.float32], Mask]],
    modes: Sequence[str],
    config: Config,
    relation: judge.Relation,
) -> tuple[dict[str, Followed], NoiseCount]:
    """Follow a clip in each mode; returns what was made of it and how noisy the segmentator was."""
    followed = {mode: Followed(config, relation) for mode in modes}
    counted = NoiseCount(len(walk.things))
    told = Told(walk, NOISE)
    full = [float(each.walker.sprite.area * each.walker.scale**2) for each in walk.things]
    for frame, shot, seen, stuff, ignore in watched:
        truth = truth_of(shot, full, seen.working)
        counted.add(truth, seen, [each.label for each in walk.things], ignore)
        for mode, one in followed.items():
            if mode == "network":
                one.push(frame, seen, stuff, truth, ignore)
            else:
                found = told.look(truth.masks, frame, seen.working)
                nothing = np.zeros(seen.working, bool)
                one.push(frame, replace(seen, instances=found), stuff, truth, nothing)
    return followed, counted


def matched(moments: Sequence[Moment]) -> dict[str, float]:
    """IDF1 and the counts of CLEAR MOT over a clip."""
    together: dict[tuple[int, int], int] = {}
    count = {"truth": 0, "tracks": 0, "switches": 0, "missed": 0, "false": 0}
    last: dict[int, int] = {}
    for moment in moments:
        shown = [each for each in moment.tracks if each.confirmed]
        boxes = np.array([each.instance.box for each in shown], np.float64).reshape(-1, 4)
        overlap = _overlap(moment.truth, boxes)
        free = [
            k for k, each in enumerate(shown)
            if not _is_free(overlap[:, k], moment.truth.counts, each.id in moment.ignored)
        ]  # fmt: skip
        overlap = np.where(moment.truth.counts[:, None], overlap, 0)[:, free]
        ids = [shown[k].id for k in free]
        count["truth"] += int(moment.truth.counts.sum())
        count["tracks"] += len(ids)
        for thing, k in zip(*np.nonzero(overlap >= SAME), strict=True):
            key = int(thing), ids[k]
            together[key] = together.get(key, 0) + 1
        pairs = _pairs(overlap, ids, last)
        for thing, number in pairs.items():
            count["switches"] += last.get(thing, number) != number
            last[thing] = number
        count["missed"] += int(moment.truth.counts.sum()) - len(pairs)
        count["false"] += len(ids) - len(pairs)
    things = sorted({thing for thing, _ in together})
    numbers = sorted({number for _, number in together})
    table = np.zeros((len(things), len(numbers)))
    for (thing, number), frames in together.items():
        table[things.index(thing), numbers.index(number)] = frames
    agreed = float(sum(table[pair] for pair in best_pairs(table)))
    return {**count, "agreed": agreed}


def _is_free(overlap: NDArray[np.float64], counts: NDArray[np.bool_], of_scenery: bool) -> bool:
    """Whether a track counts neither way: it is on a hardly seen thing, or on what belongs to the scenery."""
    if len(overlap) and (overlap[counts] >= SAME).any():
        return False
    return of_scenery or bool((overlap[~counts] > 0.1).any())


def _pairs(overlap: NDArray[np.float64], ids: Sequence[int], last: dict[int, int]) -> dict[int, int]:
    """Thing to track in one frame: the pair of before where it still holds, else the best."""
    score = np.where(overlap >= SAME, overlap, 0)
    for thing, number in last.items():
        if number in ids and score[thing, ids.index(number)] > 0:
            score[thing, ids.index(number)] += 10
    return {row: ids[column] for row, column in best_pairs(score)}


def known_at(moments: Sequence[Moment], ahead: int) -> list[dict[int, Action]]:
    """For each frame the verdict of each track as it is known `ahead` frames later."""
    latest: dict[int, Action] = {}
    known: list[dict[int, Action]] = []
    for index in range(len(moments) + ahead):
        if index < len(moments):
            latest.update((verdict.track, verdict.action) for verdict in moments[index].verdicts)
        if index >= ahead:
            known.append(dict(latest))
    return known


def decided(walk: Walk, moments: Sequence[Moment], ahead: int) -> dict[str, Any]:
    """Flips, blinks and what was judged rightly with a look-ahead of so many frames."""
    known = known_at(moments, ahead)
    confirmed = {each.id for moment in moments for each in moment.tracks if each.confirmed}
    history: dict[int, list[Action]] = {number: [] for number in confirmed}
    states: list[list[bool]] = [[] for _ in walk.things]
    for moment, verdicts in zip(moments, known, strict=True):
        gone = np.zeros(len(walk.things))
        for each in moment.tracks:
            if each.id in confirmed:
                history[each.id].append(verdicts[each.id])
            if verdicts[each.id] == "remove":
                gone = np.maximum(gone, moment.cover[each.id])
        for number, each in enumerate(walk.things):
            if moment.truth.counts[number]:
                states[number].append(bool(gone[number] >= (0.5 if each.wanted == "remove" else 0.2)))
    flips, undone, late = 0, 0, []
    for actions in history.values():
        changes = sum(a != b for a, b in pairwise(actions))
        flips += changes
        undone += changes - (changes > 0 and actions[0] == "keep")
        if "remove" in actions:
            late.append(actions.index("remove") / RATE)
    blinks = sum(a != b for state in states for a, b in pairwise(state))
    right = [
        float(np.mean([gone == (each.wanted == "remove") for gone in state])) if state else 1.0
        for each, state in zip(walk.things, states, strict=True)
    ]
    return {
        "flips": flips,
        "undone": undone,
        "late": late,
        "track_frames": sum(map(len, history.values())),
        "blinks": blinks,
        "thing_frames": sum(map(len, states)),
        "right": [round(share, 3) for share in right],
    }


class NoiseCount:
    """Counts of how the segmentator differs from the truth."""

    def __init__(self, things: int) -> None:
        self._runs: list[list[bool]] = [[] for _ in range(things)]
        self._sides: list[list[NDArray[np.float64]]] = [[] for _ in range(things)]
        self._scores: list[float] = []
        self._overlaps: list[float] = []
        self._count = {"labels": 0, "pieces": 0, "touching": 0, "merged": 0, "false": 0, "frames": 0}

    def add(self, truth: Truth, seen: Perception, labels: Sequence[str], ignore: Mask) -> None:
        """Compare one frame."""
        count = self._count
        count["frames"] += 1
        found = seen.instances
        boxes = np.array([each.box for each in found], np.float64).reshape(-1, 4)
        overlap = np.where(truth.counts[:, None], _overlap(truth, boxes), 0)
        pairs = {row: column for row, column in best_pairs(overlap) if overlap[row, column] >= SAME}
        masks = [each.mask for each in found]
        inside, covered = _cover(truth.masks, masks), _cover(masks, truth.masks)
        for thing in np.flatnonzero(truth.counts):
            self._runs[thing].append(thing in pairs)
            if thing in pairs:
                one = found[pairs[thing]]
                count["labels"] += one.label != labels[thing]
                self._scores.append(one.score)
                mask = truth.masks[thing]
                self._overlaps.append((one.mask & mask).sum() / max(1, (one.mask | mask).sum()))
                box = truth.seen[thing]
                size = np.tile(box[2:] - box[:2], 2)
                self._sides[thing].append((np.array(one.box) - box) / np.maximum(size, 1))
                extra = [k for k in np.flatnonzero(inside[thing] > 0.6) if k not in pairs.values()]
                count["pieces"] += len(extra) > 0
        close = regions.box_overlap(truth.seen, truth.seen) * np.outer(truth.counts, truth.counts)
        for first, second in zip(*np.nonzero(np.triu(close, 1)), strict=True):
            count["touching"] += 1
            if len(found):
                both = (covered[:, first] > 0.6) & (covered[:, second] > 0.6)
                count["merged"] += bool(both.any())
        anything = np.any(truth.masks, axis=0) | ignore
        count["false"] += int((_cover([anything], masks)[0] < 0.2).sum()) if masks else 0

    def merge(self, other: NoiseCount) -> None:
        """Add the counts of another clip."""
        self._runs += other._runs
        self._sides += other._sides
        self._scores += other._scores
        self._overlaps += other._overlaps
        for key, value in other._count.items():
            self._count[key] += value

    def told(self) -> dict[str, float]:
        """Rates, in the terms of `Noise`."""
        hits = [hit for run in self._runs for hit in run]
        gaps = [length for run in self._runs for length in _gaps(run)]
        jumps = [np.diff(np.array(sides), axis=0) for sides in self._sides if len(sides) > 1]
        found = max(1, sum(hits))
        out = {
            "recall": np.mean(hits),
            "gap_frames": np.mean(gaps) if gaps else 0.0,
            "overlap": np.mean(self._overlaps),
            "tremble": np.median(np.abs(np.concatenate(jumps))) / 0.6745 / np.sqrt(2),
            "score": np.mean(self._scores),
            "wrong_label": self._count["labels"] / found,
            "pieces": self._count["pieces"] / found,
            "merged": self._count["merged"] / max(1, self._count["touching"]),
            "false_per_frame": self._count["false"] / self._count["frames"],
        }
        return {key: round(float(value), 4) for key, value in out.items()}


def _gaps(run: Sequence[bool]) -> list[int]:
    """Lengths of the misses between the first and the last hit."""
    text = "".join("x" if hit else "-" for hit in run).strip("-")
    return [len(gap) for gap in text.split("x") if gap]


def summed(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores of several clips as one."""
    total = {key: sum(row["match"][key] for row in rows) for key in rows[0]["match"]}
    out: dict[str, Any] = {
        "idf1": round(2 * total["agreed"] / max(1, total["truth"] + total["tracks"]), 4),
        "mota": round(1 - (total["missed"] + total["false"] + total["switches"]) / total["truth"], 4),
        "switches": int(total["switches"]),
        "missed": round(total["missed"] / total["truth"], 4),
        "false": round(total["false"] / total["truth"], 4),
    }
    for ahead in rows[0]["decided"]:
        each = [row["decided"][ahead] for row in rows]
        minutes = sum(one["track_frames"] for one in each) / RATE / 60
        seen = sum(one["thing_frames"] for one in each) / RATE / 60
        right = [share for one in each for share in one["right"]]
        out[f"ahead {ahead} s"] = {
            "flips": round(sum(one["flips"] for one in each) / minutes, 2),
            "undone": round(sum(one["undone"] for one in each) / minutes, 2),
            "late": round(float(np.mean([s for one in each for s in one["late"]] or [0])), 2),
            "blinks": round(sum(one["blinks"] for one in each) / seen, 2),
            "right": round(float(np.mean(right)), 3),
            "judged": f"{sum(share >= 0.9 for share in right)} of {len(right)}",
        }
    return out


def score(walk: Walk, moments: Sequence[Moment], ahead: float) -> dict[str, Any]:
    """All that is measured of one clip in one mode."""
    looks = {f"{seconds:g}": round(seconds * RATE) for seconds in (0.0, ahead)}
    return {
        "match": matched(moments),
        "decided": {name: decided(walk, moments, frames) for name, frames in looks.items()},
    }


def main() -> None:
    """Measure, print a table, write the JSON when all kinds were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", nargs="+", type=int, default=[1])
    parser.add_argument("--kind", nargs="+", choices=list(walks.STORIES), default=list(walks.STORIES))
    parser.add_argument("--mode", nargs="+", choices=["network", "truth"], default=["network", "truth"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = load_config("tourist")
    ahead = float(config.look_ahead)
    networks, relation = perceive.Networks(config), judge.open_relation(config.judge)
    rows: dict[str, list[dict[str, Any]]] = {mode: [] for mode in options.mode}
    noise = NoiseCount(0)
    began = process_time()
    for kind in options.kind:
        for seed in options.seed:
            walk = walks.make(options.data, kind, seed)
            followed, counted = run(walk, watch(walk, networks, config), options.mode, config, relation)
            noise.merge(counted)
            for mode, one in followed.items():
                row = {"name": walk.name, "kind": kind, **walk.told, **score(walk, one.moments, ahead)}
                rows[mode].append(row)
                print(f"{walk.name:12} {mode:8} {line(summed([row]))}", flush=True)
    told: dict[str, Any] = {"noise": noise.told(), "given": vars(NOISE)}
    for mode in options.mode:
        told[mode] = {"all": summed(rows[mode]), "clips": rows[mode]}
        kinds = dict.fromkeys(row["kind"] for row in rows[mode])
        told[mode]["kinds"] = {k: summed([r for r in rows[mode] if r["kind"] == k]) for k in kinds}
        print(f"{'all':12} {mode:8} {line(told[mode]['all'])}")
    print("noise", told["noise"])
    told["cpu_seconds"] = round(process_time() - began)
    whole = options.kind == list(walks.STORIES) and options.mode == ["network", "truth"]
    out = options.out or (OUT if whole else None)
    if out is not None:
        out.write_text(json.dumps(told, indent=1) + "\n")


def line(told: dict[str, Any]) -> str:
    """One row of the printed table."""
    parts = [f"IDF1 {told['idf1']:.3f} switches {told['switches']:2d} missed {told['missed']:.3f}"]
    for key, each in told.items():
        if isinstance(each, dict):
            parts.append(
                f"| {key[6:]:>3}: flips {each['flips']:5.2f} undone {each['undone']:5.2f} "
                f"late {each['late']:.2f} "
                f"blinks {each['blinks']:5.2f} right {each['right']:.3f} {each['judged']}"
            )
    return " ".join(parts)


if __name__ == "__main__":
    main()
