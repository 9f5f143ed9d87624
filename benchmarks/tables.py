"""Rewrite the tables in docs/ from the JSON that the other benchmarks wrote: python -m benchmarks.tables"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def fill_table(data: Any) -> str:
    """One row a kind of scene: PSNR / flicker for each look-ahead, milliseconds a frame."""
    kinds: dict[str, dict[float, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for record in data["scenes"]:
        kinds[record["scene"].split("-")[0]][record["look_ahead"]].append(record)
    looks = sorted({record["look_ahead"] for record in data["scenes"]})
    head = ["kind", *[f"{look:g} s: PSNR / flicker" for look in looks], "cpu ms a frame"]
    body = []
    for kind, by_look in kinds.items():
        cells = [
            f"{_mean(by_look[look], 'psnr'):.1f} / {_mean(by_look[look], 'flicker'):.1f}" for look in looks
        ]
        body.append([kind, *cells, f"{_mean(by_look[looks[-1]], 'ms'):.0f}"])
    return f"{rows(head, body)}\n\n{data['machine']}."


def clips_table(data: Any) -> str:
    """One row a clip: frames per second, memory, seconds by stage, quality where there is a plate."""
    head = [
        "clip",
        "frames",
        "fps",
        "peak MB",
        "perceive s",
        "track s",
        "fill s",
        "encode s",
        "PSNR removed",
        "left over",
    ]
    body = []
    for clip in data["clips"]:
        if "error" in clip:
            continue
        seconds = clip["seconds"]
        body.append(
            [
                clip["clip"] + (f" {' '.join(clip['options'])}" if clip["options"] else ""),
                str(clip["frames"]),
                f"{clip['fps']:.1f}",
                str(clip["peak_memory_mb"]),
                *[f"{seconds[stage]:.1f}" for stage in ("perceive", "track", "fill", "encode")],
                f"{clip['psnr_removed']:.1f}" if clip.get("psnr_removed") else "-",
                f"{clip['left_over']:.0%}" if "left_over" in clip else "-",
            ]
        )
    return f"{rows(head, body)}\n\n{data['machine']}."


def stills_table(data: Any) -> str:
    """One row a method on single photographs."""
    head = ["fill", "PSNR", "SSIM", "sharpness (median)", "feature distance", "cpu ms (median)"]
    body = [
        [
            method,
            f"{row['psnr']:.1f}",
            f"{row['ssim']:.2f}",
            f"{row['sharpness']:.2f}",
            f"{row['features']:.2f}" if "features" in row else "-",
            f"{row['ms']:.0f}",
        ]
        for method, row in data["methods"].items()
    ]
    least, most = data["hole shares"]
    said = f"{data['stills']} stills, holes of {least:.0%} to {most:.0%}. {data['machine']}."
    return f"{rows(head, body)}\n\n{said}"


def _mean(records: list[dict[str, Any]], key: str) -> float:
    return sum(record[key] for record in records) / len(records)


TABLES = {
    "fill": (fill_table, "benchmarks/fill.json", "docs/fill.md"),
    "stills": (stills_table, "benchmarks/stills.json", "docs/fill.md"),
    "clips": (clips_table, "benchmarks/clips.json", "docs/performance.md"),
}


def main() -> None:
    """Put each table between its marks."""
    for name, (draw, source, target) in TABLES.items():
        if not (ROOT / source).exists():
            continue
        table = draw(json.loads((ROOT / source).read_text()))
        page = ROOT / target
        before, begin, rest = page.read_text().partition(f"<!-- {name} table -->\n")
        if not begin:
            raise SystemExit(f"{target} has no line <!-- {name} table -->")
        _, end, after = rest.partition("<!-- end -->")
        page.write_text(f"{before}{begin}{table}\n{end}{after}")


if __name__ == "__main__":
    main()
