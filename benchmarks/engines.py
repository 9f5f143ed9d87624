"""Measure each network on each engine: python benchmarks/engines.py [--size 1280x720] --json FILE

For every network that a run needs at that frame size, with one thread: seconds of processor time to
build and to open from the cache, processor milliseconds a run (median), and the difference from eager in
standard deviations. Processor time, because it holds on a busy machine, where wall time does not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 20


def measure(engine: str, index: int, size: tuple[int, int]) -> dict[str, object]:
    """Open and run a network in this process; a second process opens it from the cache."""
    import engines
    from configs.schema import load_config
    from stream.networks import every_network

    engines.give_threads(1)
    config = load_config(overrides={"engine.name": engine, "engine.threads": 1})
    spec = every_network(config, [size])[index]
    started = time.process_time()
    run = spec.open(config)
    opened = time.process_time() - started
    inputs = engines.example_inputs(spec.channels, spec.height, spec.width)
    run(*inputs)
    times = []
    for _ in range(RUNS):
        started = time.process_time()
        run(*inputs)
        times.append(time.process_time() - started)
    return {
        "network": spec.label,
        "engine": run.name,
        "device": run.device,
        "precision": run.precision,
        "open_seconds": round(opened, 2),
        "built": bool(run.reason) and run.name != "eager",
        "run_ms": round(statistics.median(times) * 1000, 1),
        "error_mean": run.error.mean,
        "error_largest": run.error.largest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--engines", nargs="+", default=["eager", "openvino"])
    parser.add_argument("--json", type=Path, default=Path("engines.json"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]), (width, height))))
        return
    records = []
    with tempfile.TemporaryDirectory() as cache:
        for engine in given.engines:
            for index in range(3):
                # A process each: the cache is measured as a program meets it, with nothing imported.
                command = [sys.executable, __file__, "--size", given.size, "--one", engine, str(index)]
                environment = {
                    **os.environ,
                    "CLEANPLATE_CACHE": cache,
                    "PYTHONPATH": os.pathsep.join(sys.path[1:]),
                }
                twice = [
                    json.loads(
                        subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
                    )
                    for _ in range(2)
                ]
                record = {**twice[1], "build_seconds": twice[0]["open_seconds"] if twice[0]["built"] else 0.0}
                del record["built"]
                records.append(record)
                shown = ("network", "engine", "precision", "run_ms", "build_seconds", "open_seconds")
                errors = (f"{record[name]:.0e}" for name in ("error_mean", "error_largest"))
                print(f"| {' | '.join([*(str(record[name]) for name in shown), *errors])} |", flush=True)
    given.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
