"""Tables about time and memory, from the JSON of the benchmarks that measure them."""

from __future__ import annotations

from typing import Any


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def throughput_table(data: Any) -> str:
    """One row a size, camera and number of people: processor time against the floor, speed, memory."""
    head = ["size", "camera", "people", "hole", "cpu ms a frame", "floor", "times", "frames a second"]
    head += ["peak MB", "first frame s", "perceive + track + fill + encode, wall ms"]
    body = []
    for row in data["rows"]:
        ours, floor = row["ours"], row["floor"]
        stages = " + ".join(
            f"{ours['stages_ms'][name]:.0f}" for name in ("perceive", "track", "fill", "encode")
        )
        body.append(
            [
                row["size"],
                row["camera"],
                str(row["things"]),
                f"{ours['hole']:.0%}",
                f"{ours['cpu_ms']:.0f}",
                f"{floor['cpu_ms']:.0f}",
                f"{row['times_floor']:.1f}",
                f"{ours['fps']:.0f}",
                str(ours["peak_mb"]),
                f"{ours['start_s'] + ours['first_frame_s']:.1f}",
                stages,
            ]
        )
    return f"{rows(head, body)}\n\n{data['machine']}, clips of {data['frames']} frames."


def speed_table(data: Any) -> str:
    """One row a size, one column a camera and number of people: frames a second, and times the floor."""
    shown = {(row["size"], row["camera"], row["things"]): row for row in data["rows"]}
    columns = list(dict.fromkeys((camera, things) for _, camera, things in shown))
    body = []
    for size in dict.fromkeys(size for size, _, _ in shown):
        found = [shown[size, *column] for column in columns]
        body.append([size, *[f"{row['ours']['fps']:.0f} ({row['times_floor']:.1f})" for row in found]])
    names = [f"{camera}, {'one person' if things == 1 else f'{things} people'}" for camera, things in columns]
    told = "Frames a second; in brackets the processor time as a multiple of decoding and encoding alone."
    return f"{rows(['', *names], body)}\n\n{told} {data['machine']}."


def sizes_table(data: Any) -> str:
    """One row a size: processor time of the three scenes of benchmarks.speed, and of their stages."""
    sizes = sorted({tuple(row["size"]) for row in data["sizes"]})
    columns = [(kind, look) for kind in ("C", "D", "E") for look in (0.0, 1.48)]
    names = {"C": "resting", "D": "handheld", "E": "two depths"}
    body = []
    for size in sizes:
        cells = []
        for kind, look in columns:
            row = next(
                r
                for r in data["sizes"]
                if (tuple(r["size"]), r["kind"], r["look_ahead"]) == (size, kind, look)
            )
            cells.append(f"{row['ms']:.0f} ({row['motion']:.0f} + {row['fill']:.0f})")
        body.append([f"{size[0]} x {size[1]}", *cells])
    head = ["size", *[f"{names[kind]}, {look:g} s" for kind, look in columns]]
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


def engines_table(data: Any) -> str:
    """One row a network and engine with one thread: processor time, building, opening, difference."""
    head = ["network", "engine", "precision", "cpu ms a run", "build s", "open s", "mean error", "largest"]
    body = [
        [
            row["network"],
            row["engine"],
            f"{row['precision']}, by auto" if row["asked"] == "auto" else row["precision"],
            f"{row['cpu_ms']:.1f}",
            f"{row['build_seconds']:.1f}" if row["build_seconds"] else "-",
            f"{row['open_seconds']:.1f}",
            f"{row['error_mean']:.0e}" if row["error_mean"] else "-",
            f"{row['error_largest']:.0e}" if row["error_largest"] else "-",
        ]
        for row in data["runs"]
        if row["threads"] == 1
    ]
    return f"{rows(head, body)}\n\n{data['machine']}."


def threads_table(data: Any) -> str:
    """One row a network on OpenVINO at its own choice of precision: what threads and streams cost."""
    kinds = [(1, 1), (2, 1), (2, 2)]
    body = []
    for network in dict.fromkeys(row["network"] for row in data["runs"]):
        cells = []
        for threads, streams in kinds:
            (row,) = (
                row
                for row in data["runs"]
                if (row["network"], row["engine"], row["threads"], row["streams"])
                == (network, "openvino", threads, streams)
                and row["asked"] == "auto"
            )
            cells.append(f"{row['cpu_ms']:.1f}")
        body.append([network, *cells])
    head = ["cpu ms a run", "1 thread", "2 threads", "2 threads, 2 streams"]
    return f"{rows(head, body)}\n\n{data['machine']}."


def converters_table(data: Any) -> str:
    """One row a network: the nodes torch-tensorrt is left with, and those no converter takes."""
    body = []
    for network in dict.fromkeys(row["network"] for row in data["networks"]):
        found = [row for row in data["networks"] if row["network"] == network]
        lacking = sorted({name for row in found for name in row["lacking"]})
        body.append([network, *[str(row["nodes"]) for row in found], ", ".join(lacking) or "none"])
    precisions = list(dict.fromkeys(row["precision"] for row in data["networks"]))
    head = ["network", *[f"nodes at {precision}" for precision in precisions], "without a converter"]
    return f"{rows(head, body)}\n\ntorch-tensorrt {data['torch_tensorrt']}."


def latency_table(data: Any) -> str:
    """One row a size, source and phase of a live run."""
    head = ["size", "source, minutes", "phase", "p50 / p95 / p99 / max ms"]
    head += ["dropped", "cores", "nothing given up"]
    body = []
    for each in data["results"]:
        for phase in ("start", "steady", "overload", "recovery"):
            told = each[phase]
            if not told:
                continue
            times = " / ".join(f"{told[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
            lost = f"{told['dropped']} of {told['shown'] + told['dropped']}"
            share = f"{100 * told['full_share']:.0f} %"
            how = f"{each['source']}, {each['minutes']:g}"
            body.append([each["size"], how, phase, times, lost, f"{told['cores']:.2f}", share])
    told = f"{data['clip']} to and fro at {data['rate']} frames a second"
    busy = f"load average before {data['load_before']:g}"
    return f"{rows(head, body)}\n\n{told}, {data['cores']} cores, {busy}."
