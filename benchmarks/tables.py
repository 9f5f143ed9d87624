"""Rewrite the tables of README and docs/ from what the other benchmarks wrote: python -m benchmarks.tables"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import layer_tables, page_tables, speed_tables
from benchmarks.speed_tables import rows

ROOT = Path(__file__).parent.parent


def fill_table(data: Any) -> str:
    """One row a kind of scene: the program without and with 1.48 s of look-ahead."""
    head = [
        "kind",
        "PSNR 0 / 1.48 s",
        "flicker 0 / 1.48 s",
        "margin 0 / 1.48 s",
        "grain (truth's)",
        "frames below Telea",
        "cpu ms a frame",
    ]
    body = []
    for kind in _kinds(data):
        both = [_chosen(data, kind, "ours", look) for look in (0.0, 1.48)]
        body.append(
            [
                kind,
                *[" / ".join(_mean(rows, key) for rows in both) for key in ("psnr", "flicker", "margin")],
                f"{_mean(both[1], 'grain', 2)} ({_mean(both[1], 'grain_truth', 2)})",
                " / ".join(str(sum(row["below_telea"] for row in rows)) for rows in both),
                _mean(both[1], "ms", 0),
            ]
        )
    return f"{rows(head, body)}\n\n{data['machine']}."


def baselines_table(data: Any) -> str:
    """One row a method, one column a kind: PSNR / flicker."""
    kinds = _kinds(data)
    body = []
    for name, (method, look) in METHODS.items():
        chosen = [_chosen(data, kind, method, look) for kind in kinds]
        body.append([name, *[f"{_mean(rows, 'psnr')} / {_mean(rows, 'flicker')}" for rows in chosen]])
    return rows(["method", *kinds], body)


def look_ahead_table(data: Any) -> str:
    """One row a kind: what looking ahead brings."""
    body = []
    for kind in _kinds(data):
        none, some, shot = (_chosen(data, kind, "ours", look) for look in (0.0, 1.48, "shot"))
        body.append(
            [
                kind,
                _mean(none, "psnr"),
                _mean(_gains(none, some), "psnr", 2),
                _mean(_gains(some, shot), "psnr", 2),
                " / ".join(_mean(each, "flicker") for each in (none, some, shot)),
                " / ".join(_mean(each, "inpainted", 3) for each in (none, some, shot)),
            ]
        )
    head = ["kind", "PSNR 0 s", "1.48 s adds", "the whole shot adds", "flicker", "share inpainted"]
    return rows(head, body)


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


CONTAINERS = ("mp4", "mov", "mkv", "webm", "avi", "gif", "png")


def containers_table(data: Any) -> str:
    """One row a property, one column a container: what became of it."""
    found = {(row["property"], row["container"]): row for row in data["rows"]}
    body = []
    for name in dict.fromkeys(
        row["property"] for row in data["rows"] if not row["property"].startswith("into")
    ):
        rows_of = [found.get((name, container)) for container in CONTAINERS]
        cells = [row["outcome"] if row else "" for row in rows_of]
        if any(cell not in ("", "skipped") for cell in cells):
            body.append([f"`{name}`" if name.startswith("--") else name, *cells])
    head = ["", *[each if each != "png" else "images" for each in CONTAINERS]]
    counts = Counter(row["outcome"] for row in data["rows"])
    told = ", ".join(
        f"{number} {outcome}" for outcome, number in counts.most_common() if outcome != "skipped"
    )
    return f"{rows(head, body)}\n\n{told}. Read back by {data['reader']}."


def said_table(data: Any) -> str:
    """One row for each clip of which not everything is kept: the warnings of the program."""
    body = []
    for row in data["rows"]:
        if row["outcome"] != "said":
            continue
        told = [each for each in row["detail"] if "deinterlace" not in each]
        body.append([row["container"].replace("png", "images"), row["property"], "; ".join(told)])
    return rows(["from", "", "what is said"], body)


def outside_table(data: Any) -> str:
    """One row a codec family: PSNR outside the hole and file size against the input."""
    body = []
    for row in data["rows"]:
        least, most = ("exact" if value is None else f"{value:.0f}" for value in row["psnr"])
        equal = "every sample" if row["lossless equal"] else "NOT all"
        size = f"{row['size']:.2f} ({min(row['sizes']):.2f} to {max(row['sizes']):.2f})"
        psnr = least if least == most else f"{least} to {most}"
        exact = f"{row['lossless size']:.1f} ({row['lossless codec']})"
        body.append([f"{row['family']}, {row['container']}", row["codec"], psnr, size, equal, exact])
    head = ["input", "written as", "luma PSNR, dB", "size / input's", "`--lossless`: equal", "its size"]
    return f"{rows(head, body)}\n\n{data['clips']} clips of {data['frames']} frames."


def batch_table(data: Any) -> str:
    """One row a way of cleaning many clips, or one long one."""
    head = ["how", "seconds", "clips a minute", "processor seconds", "peak MB", "whole", "beside"]
    body = []
    for run in data["runs"]:
        known = ("how", "wall_s", "cpu_s", "peak_mb", "codes", "whole")
        many = "whole" in run
        body.append(
            [
                run["how"],
                f"{run['wall_s']:.0f}",
                f"{60 * data['clips'] / run['wall_s']:.1f}" if many else "-",
                f"{run['cpu_s']:.0f}",
                str(run["peak_mb"]),
                f"{run['whole']} of {data['clips']}" if many else "-",
                ", ".join(f"{key}: {value}" for key, value in run.items() if key not in known) or "-",
            ]
        )
    return f"{rows(head, body)}\n\n{data['machine']}."


def seams_table(data: Any) -> str:
    """One row a clip: what differs when it is cleaned in segments."""
    head = ["clip", "PSNR", "where replaced", "worst frame", "equal frames", "removed, one run / segments"]
    head.append("verdicts that change at a seam")
    body = []
    for row in data["rows"]:
        body.append(
            [
                row["clip"],
                f"{row['psnr']:.1f}",
                f"{row['psnr where replaced']:.1f}",
                f"{row['psnr of the worst frame']:.1f}",
                f"{row['equal frames']:.0%}",
                f"{row['removed'][0]} / {row['removed'][1]}",
                f"{row['verdicts that change at a seam']} of {row['things at a seam']}",
            ]
        )
    return f"{rows(head, body)}\n\n{data['seconds']} s in segments of {data['every']} s, {data['machine']}."


def relation_table(data: Any) -> str:
    """One row a rule and case of the intruder test."""
    measures = ["pooled", "clean", "image", "top1"]
    body = []
    for rule in ("fitted", "paper", "authors' vectors (demo)", "authors' vectors (alt)"):
        for case, row in data.get(rule, {}).items():
            body.append([rule, case, *[f"{row[key]:.3f}" for key in measures]])
    return rows(["rule", "pictures, stranger", *measures], body)


def reliability_table(data: Any) -> str:
    """One row a number of labels: the share of natives behind a score."""
    bins = ["0 to .2", ".2 to .4", ".4 to .6", ".6 to .8", ".8 to 1"]
    body = []
    for case, groups in data["reliability"].items():
        for row in groups:
            shares = ["-" if share is None else f"{share:.2f}" for share in row["shares"]]
            body.append([case, row["labels"], f"{row['mean']:.2f}", *shares, f"{row['error']:.3f}"])
    told = [
        f"{case}: {each['labels']:.1f} labels a picture, recall {each['recall']:.2f}, "
        f"precision {each['precision']:.2f}"
        for case, each in data["labels"].items()
    ]
    head = ["labels are", "number", "mean score", *bins, "error"]
    return f"{rows(head, body)}\n\n{'; '.join(told)}."


def vectors_table(data: Any) -> str:
    """One row a set of word vectors: correlation with what occurs together."""
    kinds = list(next(iter(data["pearson"].values())))
    body = [[name, *[f"{row[kind]:.3f}" for kind in kinds]] for name, row in data["pearson"].items()]
    return rows(["Pearson against pictures that share", *kinds], body)


def stuff_table(data: Any) -> str:
    """Average precision of each class, four classes a row."""
    cells = [
        [name, str(row["pictures"]), f"{row['precision']:.2f} ({row['chance']:.2f})"]
        for name, row in data["classes"].items()
    ]
    third = -(-len(cells) // 3)
    body = []
    for k in range(third):
        body.append([cell for each in cells[k::third] for cell in each])
    body = [row + [""] * (9 - len(row)) for row in body]
    return rows(["class", "in", "precision (chance)"] * 3, body)


def stuff_cuts_table(data: Any) -> str:
    """One row a cut of the probabilities."""
    head = ["probability at least", "precision", "recall", "F1 (micro)", "labels a picture"]
    body = [
        [
            f"{row['cut']:.2f}",
            f"{row['precision']:.2f}",
            f"{row['recall']:.2f}",
            f"{row['f1']:.3f}",
            f"{row['labels']:.1f}",
        ]
        for row in data["cuts"]
    ]
    return rows(head, body)


def _kinds(data: Any) -> list[str]:
    return sorted({row["kind"] for row in data["scenes"]})


def _chosen(data: Any, kind: str, method: str, look: float | str | None = None) -> list[dict[str, Any]]:
    """The rows of a kind and method, and of a look-ahead if it is ours."""
    return [
        row
        for row in data["scenes"]
        if row["kind"] == kind and row["method"] == method and row.get("look_ahead") == look
    ]


def _gains(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"psnr": b["psnr"] - a["psnr"]} for a, b in zip(before, after, strict=False)]


def _mean(records: list[dict[str, Any]], key: str, digits: int = 1) -> str:
    values = [record[key] for record in records if record.get(key) is not None]
    return f"{sum(values) / len(values):.{digits}f}" if values else "-"


METHODS: dict[str, tuple[str, float | None]] = {
    "Telea, each frame alone": ("telea", None),
    "our inpainter, each frame alone": ("inpainter", None),
    "last seen, not aligned": ("last-seen", None),
    "median of the clip": ("median", None),
    "aligned nearest copy, past": ("aligned", None),
    "aligned nearest copy, 1.5 s either way": ("aligned-1.5s", None),
    "ours, 0 s": ("ours", 0.0),
    "ours, 1.48 s": ("ours", 1.48),
}

TABLES = {
    "fill": (fill_table, "benchmarks/fill.json", "docs/fill.md"),
    "baselines": (baselines_table, "benchmarks/fill.json", "docs/fill.md"),
    "look-ahead": (look_ahead_table, "benchmarks/fill.json", "docs/fill.md"),
    "sizes": (speed_tables.sizes_table, "benchmarks/speed.json", "docs/fill.md"),
    "stills": (stills_table, "benchmarks/stills.json", "docs/fill.md"),
    "containers": (containers_table, "benchmarks/containers.json", "docs/formats.md"),
    "said": (said_table, "benchmarks/containers.json", "docs/formats.md"),
    "outside": (outside_table, "benchmarks/outside.json", "docs/formats.md"),
    "seams": (seams_table, "benchmarks/seams.json", "docs/batch.md"),
    "batch": (batch_table, "benchmarks/batch.json", "docs/batch.md"),
    "relation": (relation_table, "benchmarks/relation.json", "docs/relation.md"),
    "reliability": (reliability_table, "benchmarks/relation.json", "docs/relation.md"),
    "vectors": (vectors_table, "benchmarks/relation.json", "docs/relation.md"),
    "stuff": (stuff_table, "benchmarks/stuff.json", "models/weights/MODEL_CARD.md"),
    "stuff cuts": (stuff_cuts_table, "benchmarks/stuff.json", "models/weights/MODEL_CARD.md"),
    "completion": (layer_tables.clips_table, "benchmarks/deocclusion.json", "docs/layers.md"),
    "completion classes": (layer_tables.classes_table, "benchmarks/deocclusion.json", "docs/layers.md"),
    "completion stills": (
        layer_tables.stills_table,
        "benchmarks/deocclusion.json",
        "models/weights/MODEL_CARD.md",
    ),
    "engines": (speed_tables.engines_table, "benchmarks/engines.json", "docs/engines.md"),
    "threads": (speed_tables.threads_table, "benchmarks/engines.json", "docs/engines.md"),
    "converters": (speed_tables.converters_table, "benchmarks/converters.json", "docs/engines.md"),
    "latency": (speed_tables.latency_table, "benchmarks/latency.json", "docs/live.md"),
    "clips": (speed_tables.clips_table, "benchmarks/clips.json", "docs/performance.md"),
    "throughput": (speed_tables.throughput_table, "benchmarks/throughput.json", "docs/performance.md"),
    "speed": (speed_tables.speed_table, "benchmarks/throughput.json", "README.md"),
    "transports": (
        lambda data: rows(*page_tables.transports(data)),
        "benchmarks/transports.json",
        "docs/live.md",
    ),
    "page latency": (
        lambda data: rows(*page_tables.latency(data)),
        "benchmarks/browser.json",
        "docs/live.md",
    ),
    "page checks": (lambda data: rows(*page_tables.checks(data)), "benchmarks/browser.json", "docs/live.md"),
    "page faults": (lambda data: rows(*page_tables.faults(data)), "benchmarks/browser.json", "docs/live.md"),
}


def main() -> None:
    """Put each table between its marks: `<!-- NAME table -->` and `<!-- end -->`; a page without is left."""
    for name, (draw, source, target) in TABLES.items():
        page = ROOT / target
        mark = f"<!-- {name} table -->\n"
        if not (ROOT / source).exists() or mark not in page.read_text():
            continue
        table = draw(json.loads((ROOT / source).read_text()))
        before, begin, rest = page.read_text().partition(mark)
        _, end, after = rest.partition("<!-- end -->")
        page.write_text(f"{before}{begin}{table}\n{end}{after}")


if __name__ == "__main__":
    main()
