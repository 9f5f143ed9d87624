"""How cost grows: python -m benchmarks.growth --data DIR --json FILE --picture FILE

One thing is changed at a time, from a base of 640 x 360, a hand-held camera, two people and the default
look-ahead. Every run is a process of its own, as in benchmarks.throughput. `--draw` draws the picture anew
from the JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.fill import machine, write_json
from benchmarks.throughput import FRAMES, make_clip, measured

matplotlib.use("Agg")
from matplotlib import pyplot

SIZES = ((640, 360), (960, 540), (1280, 720))
COUNTS = (1, 2, 4, 6)
TALL = (0.15, 0.3, 0.5, 0.7)
LOOK_AHEADS = (0.0, 0.5, 1.5, 3.0)
_BASE: dict[str, Any] = {"size": (640, 360), "count": 2, "tall": 0.32, "look_ahead": 3.0}
_STAGES = ("decode", "perceive", "track", "fill", "encode")


def runs(data: Path) -> list[dict[str, Any]]:
    """One row a run, `along` naming what was changed."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        clip, out = Path(name) / "clip.mp4", Path(name) / "out.mp4"
        for along, values in (
            ("size", SIZES),
            ("count", COUNTS),
            ("tall", TALL),
            ("look_ahead", LOOK_AHEADS),
        ):
            for value in values:
                case = {**_BASE, along: value}
                make_clip(data, clip, case["size"], True, case["count"], case["tall"])
                ahead = f"look_ahead={case['look_ahead']}"
                if along == "size":
                    measured("--once", clip, out, ahead)  # networks are compiled
                found.append({"along": along, **case, **measured("--once", clip, out, ahead)})
                print(found[-1], flush=True)
    return found


def draw(data: dict[str, Any], path: Path) -> None:
    """Four panels of milliseconds a frame by stage, and one of memory."""
    figure, axes = pyplot.subplots(1, 5, figsize=(17, 3.4), layout="constrained")
    ways = {
        "size": ("megapixels", lambda row: row["size"][0] * row["size"][1] / 1e6),
        "count": ("people removed", lambda row: row["count"]),
        "tall": ("hole, % of the picture", lambda row: 100 * row["hole"]),
        "look_ahead": ("look-ahead, s", lambda row: row["look_ahead"]),
    }
    for panel, (along, (name, place)) in zip(axes, ways.items(), strict=False):
        rows = sorted((row for row in data["rows"] if row["along"] == along), key=place)
        x = [place(row) for row in rows]
        panel.stackplot(
            x, [[row["stages_ms"][stage] for row in rows] for stage in _STAGES], labels=_STAGES, alpha=0.75
        )
        panel.plot(x, [row["cpu_ms"] for row in rows], "k.-", label="processor time")
        panel.set_xlabel(name)
        panel.set_ylim(bottom=0)
    axes[0].set_ylabel("ms a frame")
    rows = [row for row in data["rows"] if row["along"] == "look_ahead"]
    axes[4].plot([row["look_ahead"] for row in rows], [row["peak_mb"] for row in rows], "k.-")
    axes[4].set_xlabel("look-ahead, s")
    axes[4].set_ylabel("most memory, MB")
    axes[4].set_ylim(bottom=0)
    handles, names = axes[0].get_legend_handles_labels()
    axes[4].legend(handles, names, fontsize=7, loc="lower right")
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--draw", action="store_true")
    given = parser.parse_args()
    if not given.draw:
        write_json(given.json, {"machine": machine(), "frames": FRAMES, "rows": runs(given.data)})
    draw(json.loads(given.json.read_text()), given.picture)


if __name__ == "__main__":
    main()
