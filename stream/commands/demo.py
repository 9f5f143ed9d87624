"""`cleanplate demo [CLIP]`: before and after within a minute, on a composed clip or on one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.demo import Scene
    from stream.job import Progress
    from stream.types import Filled


def demo(
    clip: Annotated[
        Path | None, typer.Argument(help="A clip of your own; without it one is composed.")
    ] = None,
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder for what the demo makes.")] = Path(
        "cleanplate-demo"
    ),
) -> None:
    """Clean a clip with the tourist preset and show what was decided, why, and how good it is."""
    import cv2

    from stream import demo as scenes
    from stream.job import Job, clean
    from stream.progress import show_progress, summary

    folder.mkdir(parents=True, exist_ok=True)
    scene = None
    if clip is None:
        typer.echo("composing a clip: a photobomber before a palace")
        scene = scenes.compose()
        clip = folder / "photobomb.mp4"
        scenes.write_clip(scene.frames, clip)
        scenes.write_clip(scene.truth, folder / "truth.mp4")
    output = folder / f"{clip.stem}.clean.mp4"
    fullest = _Fullest()
    with show_progress() as shown:
        report = clean(clip, output, job=Job(overwrite=True), on_progress=_both(shown, fullest.look))
    for line in summary(report):
        typer.echo(line)
    for track in report.tracks:
        typer.echo(f"  {track.action:6} {track.label} {track.id}: {track.reason}")
    if scene is not None:
        decibels = _score(scene, output, folder / "truth.mp4")
        typer.echo(f"PSNR where the person was: {decibels:.1f} dB against the true background")
    if fullest.filled is not None:
        picture = folder / f"{clip.stem}.before-after.png"
        both = scenes.side_by_side(fullest.filled.before.rgb, fullest.filled.frame.rgb)
        cv2.imwrite(str(picture), both[..., ::-1])
        typer.echo(f"before and after: {picture}")
    typer.echo(f"cleaned clip: {output}")


class _Fullest:
    """Remembers the frame with the largest hole, the one worth showing."""

    def __init__(self) -> None:
        self.filled: Filled | None = None

    def look(self, progress: Progress) -> None:
        if self.filled is None or _hole(progress.last) > _hole(self.filled):
            self.filled = progress.last


def _hole(filled: Filled) -> int:
    return int((filled.origin > 0).sum())


def _both(*listeners: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        for listener in listeners:
            listener(progress)

    return tell


def _score(scene: Scene, output: Path, truth: Path) -> float:
    """Mean PSNR over the frames in which the person was there, against the truth in the same encoding."""
    from stream import demo as scenes
    from stream.source import open_source

    with open_source(output) as cleaned, open_source(truth) as clean:
        scores = [
            scenes.psnr(frame.rgb, true.rgb, person)
            for frame, true, person in zip(cleaned, clean, scene.person, strict=True)
            if person.sum() >= 64
        ]
    return sum(scores) / len(scores)
