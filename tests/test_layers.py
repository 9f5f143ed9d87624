"""The arrows between packages go one way, and nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "configs": set(),
    "models": {"configs"},
    "engines": {"configs"},
    "stream": {"models", "engines", "configs"},
}


def imported_packages(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_package_imports_only_what_lies_below_it(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    wrong = {
        str(file.relative_to(ROOT)): sorted(bad)
        for file in (ROOT / package).rglob("*.py")
        if (bad := imported_packages(file) & forbidden)
    }
    assert wrong == {}


def starts_threads(file: Path) -> bool:
    names = {"Thread", "Timer", "ThreadPoolExecutor", "ThreadPool"}
    return any(
        (node.attr if isinstance(node, ast.Attribute) else node.id) in names
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
    )


def test_threads_are_started_in_one_place() -> None:
    starters = {
        str(file.relative_to(ROOT))
        for package in MAY_IMPORT
        for file in (ROOT / package).rglob("*.py")
        if "training" not in file.parts and starts_threads(file)
    }
    assert starters <= {"stream/pipeline.py", "stream/live_run.py"}


@pytest.mark.parametrize("statement", ["import stream", "import stream.commands"])
def test_heavy_libraries_are_imported_only_when_used(statement: str) -> None:
    heavy = "{'torch', 'openvino', 'gensim', 'cv2', 'av', 'scipy', 'dask'}"
    program = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"
