"""Tables of docs/live.md about the page, from what `transports` and `browser` wrote."""

from __future__ import annotations

from typing import Any

Rows = tuple[list[str], list[list[str]]]

_WAYS = {"jpeg": "JPEG over WebSocket", "vp8": "WebRTC, VP8", "h264": "WebRTC, H.264"}


def transports(data: Any) -> Rows:
    """One row a way to the browser."""
    head = ["way", "p50 / p95 / p99 ms", "pictures a second", "server, cores", "browser, cores"]
    return head, [
        [
            _WAYS[row["way"]],
            _parts(row),
            f"{row['pictures_per_second']:.1f}",
            f"{row['server_cpu_share']:.2f}",
            f"{row['browser_cpu_share']:.2f}",
        ]
        for row in data["ways"]
    ]


def latency(data: Any) -> Rows:
    """One row a size."""
    head = [
        "size",
        "p50 / p95 / p99 ms",
        "pictures a second",
        "cleaning and server, cores",
        "given up at the end",
    ]
    return head, [
        [
            row["size"],
            _parts(row),
            f"{row['pictures_per_second']:.1f}",
            f"{row['server_cpu_share']:.2f}",
            row["step_at_the_end"].removeprefix("saving: ").replace("full", "nothing"),
        ]
        for row in data["latency"]
    ]


def checks(data: Any) -> Rows:
    """One row a check."""
    body = []
    for row in data["checks"]:
        told = [
            f"{key.replace('_', ' ')} {_said(value)}"
            for key, value in row.items()
            if key not in ("check", "passed")
        ]
        body.append([row["check"], "yes" if row["passed"] else "**no**", "; ".join(told)])
    return ["what", "holds", "measured"], body


def faults(data: Any) -> Rows:
    """One row a fault."""
    return ["fault", "pictures drawn of those shown, before / with it", "memory grown, MB"], [
        [
            row["what"],
            " / ".join(f"{value:.0%}" for value in row["share_drawn_before_and_with"]),
            f"{row['memory_grown_mb']:.0f}",
        ]
        for row in data["faults"]
    ]


def _parts(row: Any) -> str:
    return " / ".join(f"{row[f'p{part}_ms']:.0f}" for part in (50, 95, 99))


def _said(value: Any) -> str:
    return ", ".join(f"{each:g}" for each in value) if isinstance(value, list) else f"{value:g}"
