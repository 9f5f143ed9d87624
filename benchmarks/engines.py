"""Measure each network on each engine: python -m benchmarks.engines [--size 1280x720] [--json FILE]

For every network that a run needs at that frame size, each in processes of their own: processor seconds to
build and to open from the cache, processor and wall milliseconds a run (median), and the difference from
eager in standard deviations. Processor time holds on a busy machine; wall time is what threads are for, and
is only worth something where nothing else runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RUNS = 20


@dataclass(frozen=True)
class Case:
    """One network on one engine; streams other than 1 are OpenVINO's alone."""

    index: int
    engine: str
    precision: str
    threads: int
    streams: int = 1


def measure(case: Case, size: tuple[int, int]) -> dict[str, object]:
    """Open and run a network in this process; a second process opens it from the cache."""
    import engines
    from configs.schema import load_config
    from engines import openvino
    from stream.networks import every_network

    said = openvino.settings
    openvino.settings = lambda *given: {**said(*given), "NUM_STREAMS": case.streams}
    engines.give_threads(case.threads)
    config = load_config(
        overrides={
            "engine.name": case.engine,
            "engine.precision": case.precision,
            "engine.threads": case.threads,
        }
    )
    spec = every_network(config, [size])[case.index]
    started = time.process_time()
    run = spec.open(config)
    opened = time.process_time() - started
    inputs = engines.example_inputs(spec.channels, spec.height, spec.width)
    for _ in range(3):
        run(*inputs)
    spent, wall = [], []
    for _ in range(RUNS):
        began, started = time.perf_counter(), time.process_time()
        run(*inputs)
        spent.append(time.process_time() - started)
        wall.append(time.perf_counter() - began)
    return {
        "network": spec.label,
        "device": run.device,
        "precision": run.precision,
        "open_seconds": round(opened, 2),
        "built": bool(run.reason) and run.name != "eager",
        "cpu_ms": round(statistics.median(spent) * 1000, 1),
        "wall_ms": round(statistics.median(wall) * 1000, 1),
        "least_wall_ms": round(min(wall) * 1000, 1),
        "error_mean": run.error.mean,
        "error_largest": run.error.largest,
    }


def cases(networks: int, names: list[str]) -> list[Case]:
    """Every engine at its own choice of precision and at f32, with one thread and with two."""
    made = []
    for index, name in itertools.product(range(networks), names):
        precisions = ("f32", "bf16") if name == "eager" else ("f32", "auto")
        for precision, threads in itertools.product(precisions, (1, 2)):
            made.append(Case(index, name, precision, threads))
        if name == "openvino":
            made.append(Case(index, name, "auto", 2, streams=2))
    return made


def in_process(case: Case, size: str, cache: str) -> dict[str, Any]:
    """Measure a case in a process of its own: the cache as a program meets it, with nothing imported."""
    command = [sys.executable, "-m", "benchmarks.engines", "--size", size, "--one", json.dumps(asdict(case))]
    environment = {**os.environ, "CLEANPLATE_CACHE": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--engines", nargs="+", default=["eager", "openvino"])
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    if given.one:
        print(json.dumps(measure(Case(**json.loads(given.one)), (width, height))))
        return
    import engines
    from configs.schema import load_config
    from engines import hardware
    from stream.networks import every_network

    count = len(every_network(load_config(), [(width, height)]))
    records = []
    with tempfile.TemporaryDirectory() as cache:
        for case in cases(count, given.engines):
            first, second = (in_process(case, given.size, cache) for _ in range(2))
            record = {**asdict(case), "asked": case.precision, **second}
            record["build_seconds"] = first["open_seconds"] if first["built"] else 0.0
            del record["index"], record["built"]
            records.append(record)
            print(record, flush=True)
    machine = f"{hardware.cpu_name()}, {engines.available_threads()} cores, {', '.join(hardware.cpu_flags())}"
    whole = {"machine": machine, "python": platform.python_version(), "size": given.size, "runs": records}
    given.json.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
