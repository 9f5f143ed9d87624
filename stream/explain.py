"""What was seen in a picture, what would go, and why: as data, as a table, as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from models.labels import STUFF_NAMES
from stream import deocclude, order, overlay, pipeline, wording
from stream.completer import open_completer, witness
from stream.errors import OutputError, UsageError
from stream.filling import unsettled
from stream.judge import Relation
from stream.perceive import Networks
from stream.source import Source, open_source
from stream.types import Action, Frame, Image, Mask, Track, Verdict

LEAST_STUFF = 0.05
"""Less probable surroundings are not listed."""

_BEFORE_SECONDS = 12.0
_AFTER_SECONDS = 2.0
_LEAST_SIDE, _MOST_SIZE = 900, (1600, 1000)
_PANEL = 470
_MOST_STUFF = 10


@dataclass(frozen=True)
class Explained:
    """One frame with what was found in it; pictures and masks are turned as a viewer sees them.

    `stuff`: (name, probability) of the surroundings, most probable first; `at`: seconds into the clip, None
    for a picture. `whole`: by track, the masks (bool H x W) of things that others hide in part, with what is
    hidden of them.
    """

    picture: Image
    tracks: tuple[Track, ...]
    verdicts: tuple[Verdict, ...]
    stuff: tuple[tuple[str, float], ...]
    threshold: float
    stuff_threshold: float
    preset: str
    at: float | None = None
    whole: Mapping[int, Mask] = field(default_factory=dict)


def explain_image(frame: Frame, networks: Networks, relation: Relation, config: Config) -> Explained:
    """Judge one picture on its own, without motion."""
    analysis = pipeline.Analysis(config, networks, relation, pipeline.Clock(), still=True)
    seen = analysis.push(frame)
    return _explained(frame, seen.tracks, seen.verdicts, seen.stuff, config)


def explain_video(
    path: str | Path, at: float | None, networks: Networks, relation: Relation, config: Config
) -> Explained:
    """The frame at `at` seconds with the verdicts that cleaning the clip gives it.

    The clip is looked at from twelve seconds before (or its start) to the look-ahead after, since tracks
    need motion. None is the middle of the clip. Raises `UsageError` for a time outside the clip.
    """
    with open_source(path) as source:
        length = source.info.duration
    if at is None:
        at = float(length) / 2 if length else 0.0
    if at < 0 or (length is not None and at > float(length)):
        raise UsageError(
            f"there is no frame at {at:g} s",
            where=f"{path}",
            hint=f"the clip is {float(length or 0):.1f} s long",
        )
    ahead = config.longest_wait
    start = max(0.0, at - _BEFORE_SECONDS)
    stop = at + max(_AFTER_SECONDS if config.look_ahead else 0.0, ahead) + 0.1
    with open_source(path, start=Fraction(start).limit_denominator(1000), end=Fraction(stop)) as source:
        return _followed(source, at - start, ahead, networks, relation, config)


def _followed(
    source: Source, at: float, ahead: float, networks: Networks, relation: Relation, config: Config
) -> Explained:
    analysis = pipeline.Analysis(config, networks, relation, pipeline.Clock())
    chosen: tuple[Frame, pipeline.Seen] | None = None
    latest: dict[int, Verdict] = {}
    began: Fraction | None = None
    for frame in source:
        began = frame.time if began is None else began
        now = float(frame.time - began)
        if chosen is not None and now > at + ahead:
            break
        seen = analysis.push(frame)
        if chosen is not None and seen.shot != chosen[1].shot:
            break
        if chosen is None or now <= at + 1e-6:
            chosen = (frame, seen)
        latest.update((verdict.track, verdict) for verdict in seen.verdicts)
        if at < now >= at + config.look_ahead_seconds and not unsettled(chosen[1], seen):
            break  # then `clean` fills this frame too
    if chosen is None:
        raise UsageError("no frame could be read there", where=source.info.path)
    frame, seen = chosen
    verdicts = tuple(latest[each.id] for each in seen.tracks)
    return replace(_explained(frame, seen.tracks, verdicts, seen.stuff, config), at=float(seen.time))


def _explained(
    frame: Frame,
    tracks: Sequence[Track],
    verdicts: Sequence[Verdict],
    stuff: NDArray[np.float32],
    config: Config,
) -> Explained:
    turns = -frame.rotation // 90
    upright = []
    for each in tracks:
        mask = np.ascontiguousarray(np.rot90(each.instance.mask, turns))
        upright.append(replace(each, instance=replace(each.instance, mask=mask)))
    listed = [(name, float(p)) for name, p in zip(STUFF_NAMES, stuff, strict=False) if p >= LEAST_STUFF]
    return Explained(
        picture=np.ascontiguousarray(np.rot90(frame.rgb, turns)),
        tracks=tuple(upright),
        verdicts=tuple(verdicts),
        stuff=tuple(sorted(listed, key=lambda each: -each[1])),
        threshold=config.judge.threshold,
        stuff_threshold=config.judge.stuff,
        preset=config.preset,
        whole={number: np.rot90(mask, turns) for number, mask in _made_whole(frame, tracks, config).items()},
    )


def _made_whole(frame: Frame, tracks: Sequence[Track], config: Config) -> dict[int, Mask]:
    """The things that others hide in part, as the network completes them; mostly there are none."""
    touching, state = order.step(order.initial(), tracks, frame.height)
    network = open_completer(config) if touching.pairs else None
    if network is None:
        return {}
    touching, _ = order.step(state, tracks, frame.height, witness(frame.rgb, network))
    every = [each.id for each in tracks]
    completed, _ = deocclude.complete(
        deocclude.initial(), frame.rgb, 0, tracks, touching, wanted=every, over=every, network=network
    )
    found = {}
    for each in completed:
        if each.confidence < deocclude.ENOUGH:
            continue
        x0, y0, x1, y1 = each.box
        found[each.track] = np.zeros((frame.height, frame.width), bool)
        found[each.track][y0:y1, x0:x1] = each.amodal
    return found


def table(explained: Explained) -> list[str]:
    """The decisions as lines of text: number, class, verdict, relation, reason; then the surroundings."""
    lines = [f"{'id':>4}  {'what':14} {'verdict':7} {'relation':>8}  why"]
    for each, verdict in zip(explained.tracks, explained.verdicts, strict=True):
        relation = "-" if math.isnan(verdict.relation) else f"{verdict.relation:.2f}"
        lines.append(f"{each.id:4d}  {each.label:14} {verdict.action:7} {relation:>8}  {verdict.reason}")
    if not explained.tracks:
        lines.append("      nothing was found")
    around = [f"{wording.stuff_word(name)} {p:.2f}" for name, p in _around(explained)]
    lines.append(f"around: {', '.join(around) or 'nothing is known'}")
    return lines


def write_objects(explained: Explained, folder: Path) -> None:
    """Write `objects.json` and one 8-bit mask PNG a thing, of the picture's size; the folder is made.

    Raises `OutputError` when something cannot be written.
    """
    height, width = explained.picture.shape[:2]
    objects = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for each, verdict in zip(explained.tracks, explained.verdicts, strict=True):
            name = f"{each.id:03d}-{each.label.replace(' ', '-')}.png"
            write_png(folder / name, full_size(each.instance.mask, height, width))
            objects.append(
                {
                    "id": each.id,
                    "label": each.label,
                    "score": round(each.instance.score, 4),
                    "relation": None if math.isnan(verdict.relation) else round(verdict.relation, 4),
                    "action": verdict.action,
                    "reason": verdict.reason,
                    "mask": name,
                }
            )
        stuff = [{"label": name, "probability": round(p, 4)} for name, p in explained.stuff]
        document = json.dumps({"objects": objects, "stuff": stuff}, indent=1)
        (folder / "objects.json").write_text(document + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write there: {error.strerror}", where=str(folder)) from None


def full_size(mask: Mask, height: int, width: int) -> NDArray[np.uint8]:
    """A mask as 0 and 255 at another size, its outline smooth."""
    soft = mask.view(np.uint8) * np.uint8(255)
    if soft.shape != (height, width):
        soft = np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.where(soft > 127, np.uint8(255), np.uint8(0))


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a grey or RGB picture; the format is that of the suffix, PNG when it has none."""
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    try:
        done, data = cv2.imencode(path.suffix or ".png", np.ascontiguousarray(bgr))
    except cv2.error:
        done, data = False, np.zeros(0, np.uint8)
    if not done:
        raise OutputError(
            f"no picture can be written as {path.suffix!r}", where=str(path), hint="use .png or .jpg"
        )
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from None


def picture(explained: Explained) -> Image:
    """The frame with outlines, and beside it each thing's verdict, relation bar and reason, and the stuff."""
    height, width = explained.picture.shape[:2]
    scale = max(1.0, _LEAST_SIDE / max(height, width))
    scale = min(scale, _MOST_SIZE[0] / width, _MOST_SIZE[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    large = np.asarray(cv2.resize(explained.picture, size, interpolation=how), np.uint8)
    shown = overlay.draw_things(large, explained.tracks, explained.verdicts)
    actions = {each.track: each.action for each in explained.verdicts}
    for number, mask in explained.whole.items():
        overlay.dashes(shown, mask, overlay.COLOURS[actions[number]])
    legend = _legend(explained, shown.shape[0])
    tall = max(shown.shape[0], legend.shape[0])
    sheet = np.full((tall, shown.shape[1] + legend.shape[1], 3), overlay.PAPER, np.uint8)
    sheet[: shown.shape[0], : shown.shape[1]] = shown
    sheet[: legend.shape[0], shown.shape[1] :] = legend
    return sheet


def _legend(explained: Explained, height: int) -> Image:
    """The panel at the side; removed things first, then the kept by size, cut where it would grow endless."""
    pairs = sorted(
        zip(explained.tracks, explained.verdicts, strict=True),
        key=lambda pair: (pair[1].action != "remove", -pair[0].area),
    )
    most = max(12, (height - 190) // 50)
    panel = np.full((max(height, 400 + 100 * min(len(pairs), most)), _PANEL, 3), overlay.PAPER, np.uint8)
    gone = sum(verdict.action == "remove" for verdict in explained.verdicts)
    head = f"{gone} of {len(pairs)} would go" if pairs else "nothing was found, nothing goes"
    when = "" if explained.at is None else f", at {explained.at:.1f} s"
    y = 34
    overlay.text(panel, head, (18, y), size=0.75)
    y += 24
    overlay.text(panel, f"preset {explained.preset}{when}", (18, y), overlay.FAINT, 0.45)
    y += 12
    key: tuple[tuple[Action, str], ...] = (("remove", "striped red: goes"), ("keep", "green: stays"))
    for action, said in key:
        y += 18
        cv2.rectangle(panel, (18, y - 10), (30, y + 2), overlay.COLOURS[action], -1)
        overlay.text(panel, said, (40, y), overlay.FAINT, 0.45)
    if explained.whole:
        y += 18
        overlay.text(panel, "dashes: with what is hidden of it", (40, y), overlay.FAINT, 0.45)
    if any(not math.isnan(verdict.relation) for verdict in explained.verdicts):
        said = (
            f"bar: how well it fits what is around; under {explained.threshold:.2f} (the line) it is foreign"
        )
        for line in overlay.wrapped(said + ". Grey where something else decided.", _PANEL - 60, 0.45):
            y += 18
            overlay.text(panel, line, (40, y), overlay.FAINT, 0.45)
    y += 10
    for each, verdict in pairs[:most]:
        y = _entry(panel, y, each, verdict, explained.threshold)
    if len(pairs) > most:
        y += 18
        overlay.text(panel, f"and {len(pairs) - most} more", (18, y), overlay.FAINT, 0.45)
    y += 34
    overlay.text(panel, "seen around", (18, y), size=0.55)
    around = _around(explained)
    if not around:
        y += 20
        overlay.text(panel, "nothing is known", (18, y), overlay.FAINT, 0.45)
    for name, p in around[:_MOST_STUFF]:
        y += 20
        overlay.text(panel, wording.stuff_word(name), (18, y), overlay.FAINT, 0.45)
        overlay.bar(panel, (_PANEL - 210, y - 9), 70, p, explained.stuff_threshold, overlay.FAINT)
        overlay.text(panel, f"{p:.0%}", (_PANEL - 130, y), overlay.FAINT, 0.45)
    return panel[: max(height, y + 20)]


def _entry(panel: Image, y: int, each: Track, verdict: Verdict, threshold: float) -> int:
    """One thing in the legend, drawn from `y` on; returns where the next one begins."""
    colour = overlay.COLOURS[verdict.action]
    y += 24
    cv2.rectangle(panel, (18, y - 12), (30, y), colour, -1)
    overlay.text(panel, f"{each.id} {each.label}", (40, y), size=0.55)
    overlay.text(panel, "goes" if verdict.action == "remove" else "stays", (_PANEL - 70, y), colour, 0.55)
    if not math.isnan(verdict.relation):
        ink = colour if wording.by_relation(verdict.reason) else (190, 190, 194)
        overlay.bar(panel, (_PANEL - 210, y - 9), 70, verdict.relation, threshold, ink)
        overlay.text(panel, f"{verdict.relation:.2f}", (_PANEL - 130, y), overlay.FAINT, 0.45)
    for line in overlay.wrapped(verdict.reason, _PANEL - 60, 0.45):
        y += 18
        overlay.text(panel, line, (40, y), overlay.FAINT, 0.45)
    return y + 4


def _around(explained: Explained) -> list[tuple[str, float]]:
    return [each for each in explained.stuff if each[1] >= explained.stuff_threshold]
