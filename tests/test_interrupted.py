"""Kill it, interrupt it, fill its disk: the input stays, and only a whole file bears the output's name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clips import Clip, make, stamps
from walks import make_masks, make_walk

import stream
from stream.errors import OutputError
from stream.source import open_source

FRAMES = 120
ROOT = Path(stream.__file__).parents[1]
OPTIONS = ["--engine", "none", "--lossless", "--look-ahead", "0.2", "--quiet"]
OPTIONS += ["--set", "resume.frames=6", "--set", "resume.seconds=0"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("walk")
    return make_walk(folder / "walk.mp4", FRAMES), make_masks(folder / "masks", FRAMES)


@pytest.fixture(scope="module")
def whole(walk: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out.mp4"
    assert start(walk, output).wait() == 0
    return output


def start(walk: tuple[Path, Path], output: Path, *more: str) -> subprocess.Popen[str]:
    program = "from stream.commands import main; main()"
    arguments = ["clean", str(walk[0]), "-o", str(output), "--masks", str(walk[1]), *OPTIONS, *more]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def wait_for_a_part(run: subprocess.Popen[str], output: Path, more: float = 0.0) -> None:
    """Until the run could be gone on with, and some time."""
    manifest = output.with_name(f".{output.name}.part") / "manifest.json"
    until = time.monotonic() + 60
    while not manifest.exists():
        assert run.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    time.sleep(more)


def planes(path: Path) -> list[np.ndarray]:
    with open_source(path) as source:
        return [plane for frame in source for plane in frame.planes]


def assert_same(one: Path, two: Path) -> None:
    assert stamps(one) == stamps(two)
    assert all(np.array_equal(a, b) for a, b in zip(planes(one), planes(two), strict=True))


@pytest.mark.parametrize("more", [0.0, 0.3])
def test_killed_and_gone_on_with(walk: tuple[Path, Path], whole: Path, tmp_path: Path, more: float) -> None:
    before = walk[0].read_bytes()
    output = tmp_path / "out.mp4"
    run = start(walk, output)
    wait_for_a_part(run, output, more)
    run.kill()
    run.wait()
    assert not output.exists()
    assert walk[0].read_bytes() == before
    again = start(walk, output, "--resume")
    assert again.wait() == 0, again.stderr.read()
    assert_same(output, whole)
    assert [each.name for each in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_good_order(
    walk: tuple[Path, Path], whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out.mp4"
    run = start(walk, output)
    wait_for_a_part(run, output)
    run.send_signal(number)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "error: interrupted" in told and "--resume" in told and "Traceback" not in told
    assert not output.exists()
    assert start(walk, output, "--resume").wait() == 0
    assert_same(output, whole)


def test_a_second_signal_ends_at_once(walk: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    run = start(walk, output)
    wait_for_a_part(run, output)
    for _ in range(200):
        if run.poll() is not None:
            break
        run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in told
    assert not output.exists()


def test_a_rest_is_told_of_when_it_is_thrown_away(walk: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    run = start(walk, output)
    wait_for_a_part(run, output)
    run.kill()
    run.wait()
    program = "from stream.commands import main; main()"
    arguments = ["clean", str(walk[0]), "-o", str(output), "--masks", str(walk[1])]
    again = subprocess.Popen(
        [sys.executable, "-c", program, *arguments, *[each for each in OPTIONS if each != "--quiet"]],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, told = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "hint: an unfinished run" in told and "--resume" in told


def test_two_runs_with_one_output(walk: tuple[Path, Path], whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    first = start(walk, output)
    wait_for_a_part(first, output)
    for more in ((), ("--resume",)):
        second = start(walk, output, *more)
        _, told = second.communicate(timeout=60)
        assert second.returncode == 4
        assert told.startswith("error: another run is writing this output")
    assert first.wait() == 0
    assert_same(output, whole)


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    walk: tuple[Path, Path], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({whole.stat().st_size * 9 // 10},) * 2);"
    program = f"{limit} from stream.commands import main; main()"
    arguments = ["clean", str(walk[0]), "-o", str(output), "--masks", str(walk[1]), *OPTIONS]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 4
    lines = run.stderr.splitlines()
    assert lines[0].startswith("error: the file is larger than allowed") and str(output) in lines[0]
    assert lines[1].startswith("hint: ") and "--resume" in lines[1] and len(lines) == 2
    assert not output.exists()
    assert start(walk, output, "--resume").wait() == 0
    assert_same(output, whole)


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else False, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip())
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="not permitted"):
        stream.clean(source, tmp_path / "locked" / "out.mp4")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip())
    with pytest.raises(OutputError, match="does not exist"):
        stream.clean(source, source / "out.mp4")


@pytest.mark.parametrize("how", ["same", "symlink", "hardlink"])
@pytest.mark.parametrize("what", ["output", "log", "provenance", "report"])
def test_nothing_is_written_over_the_input(tmp_path: Path, how: str, what: str) -> None:
    source = make(tmp_path / "in.mkv", Clip())
    before = source.read_bytes()
    name = source if how == "same" else tmp_path / "link.mkv"
    if how == "symlink":
        name.symlink_to(source)
    elif how == "hardlink":
        name.hardlink_to(source)
    output = name if what == "output" else tmp_path / "out.mkv"
    job = stream.Job(overwrite=True, **({} if what == "output" else {what: name}))
    with pytest.raises(OutputError, match="replace the input"):
        stream.clean(source, output, job=job)
    assert source.read_bytes() == before
    assert not (tmp_path / "out.mkv").exists()


def test_the_masks_are_an_input_too(walk: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="replace the input"):
        stream.clean(walk[0], walk[1], job=stream.Job(masks=walk[1], overwrite=True))
    both = tmp_path / "out.mkv"
    with pytest.raises(OutputError, match="one name"):
        stream.clean(walk[0], both, job=stream.Job(masks=walk[1], provenance=both))
