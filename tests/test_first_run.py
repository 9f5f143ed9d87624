"""`engines build`, then a first run: nothing is built any more, and torch is not even imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clips import COUNT, HEIGHT, WIDTH, make

from stream.source import open_source

ROOT = Path(__file__).parent.parent
RUN = """
import sys
from stream.commands import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert ended.code == 0, ended.code
print("torch" if "torch" in sys.modules else "no torch")
"""


def run(cache: Path, *arguments: str) -> str:
    environment = {**os.environ, "CLEANPLATE_CACHE": str(cache)}
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_after_a_build_the_first_run_builds_nothing_and_does_without_torch(tmp_path: Path) -> None:
    clip, cleaned, cache = make(tmp_path / "clip.mp4"), tmp_path / "cleaned.mp4", tmp_path / "cache"
    built = run(cache, "engines", "build", f"{WIDTH}x{HEIGHT}", "--engine", "openvino")
    assert "built: nothing is cached" in built and built.splitlines()[-1] == "torch"
    before = {path.name: path.read_bytes() for path in (cache / "engines").iterdir()}
    said = run(cache, "clean", str(clip), "-o", str(cleaned), "--engine", "openvino")
    assert said.splitlines()[-1] == "no torch"
    assert {path.name: path.read_bytes() for path in (cache / "engines").iterdir()} == before
    with open_source(cleaned) as source:
        assert sum(1 for _ in source) == COUNT
