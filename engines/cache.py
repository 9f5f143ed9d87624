"""Engine files on disk: what identifies one, how one is found, written, listed and cleared.

A file is one line `cleanplate-engine 1 DIGEST`, one line of JSON (key, label, difference, ...) and the
engine's own bytes; DIGEST covers everything after it, so a truncated or changed file is noticed before a
library parses it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engines.base import Difference, Signature

MAGIC = "cleanplate-engine 1"
SUFFIX = ".engine"
LIMIT_BYTES = 2 << 30
"""Above this the files used longest ago are removed when a new one is written."""
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class Entry:
    """One engine file: `key` identifies it, the rest is what an `Engine` needs besides the bytes.

    `outputs` are the dtypes of the outputs; `bare` says the module returned one tensor, not a tuple. Build
    time and the median of a run are wall time, measured when it was built; 0 where that was not done.
    """

    key: Mapping[str, str]
    label: str
    engine: str
    device: str
    precision: str
    error: Difference
    inputs: tuple[Signature, ...]
    outputs: tuple[str, ...]
    bare: bool
    created: float
    build_seconds: float = 0.0
    milliseconds: float = 0.0
    path: Path = field(default=Path(), compare=False)
    size: int = field(default=0, compare=False)


def cache_root() -> Path:
    """The program's cache folder: `CLEANPLATE_CACHE`, else the system's place for a user's caches."""
    if chosen := os.environ.get("CLEANPLATE_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("cleanplate", appauthor=False))


def engine_folder() -> Path:
    """Where engine files are; it need not exist."""
    return cache_root() / "engines"


@functools.cache
def _code_digest(package: str) -> str:
    """The digest of all Python files directly in a package (nothing but the package itself is imported)."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"no package named {package!r}")
    total = hashlib.sha256()
    for file in sorted(Path(spec.submodule_search_locations[0]).glob("*.py")):
        total.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


@functools.cache
def build_digest(engine: str) -> str:
    """The digest of the code that builds an engine's files: changed settings never meet an old file."""
    here = Path(__file__)
    files = (here.with_name(f"{engine}.py"), here.with_name("export.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def graph_digest(builder: str, arguments: Mapping[str, object], weights: str | os.PathLike[str]) -> str:
    """Identify a network by what it is made from, so that neither torch nor the network is needed.

    `builder` is "package.module:function", `arguments` its keyword arguments (their `repr` counts), `weights`
    the weights file, whose content is digested ("" for none). All Python files of the builder's package
    count as well: changed code never meets an old engine. Raises `OSError` if the file cannot be read.
    """
    module, _, function = builder.partition(":")
    if not function:
        raise ValueError(f"a builder is written package.module:function, not {builder!r}")
    total = hashlib.sha256()
    content = hashlib.sha256(Path(weights).read_bytes()).hexdigest() if weights else ""
    arguments_text = repr(sorted((name, repr(value)) for name, value in arguments.items()))
    for part in (builder, arguments_text, content, _code_digest(module.rpartition(".")[0] or module)):
        total.update(part.encode() + b"\0")
    return f"recipe:{total.hexdigest()}"


def entry_path(key: Mapping[str, str], label: str) -> Path:
    """The file a key's engine is kept in."""
    digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:24]
    readable = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40] or "network"
    return engine_folder() / f"{readable}-{digest}{SUFFIX}"


def find(key: Mapping[str, str], label: str) -> tuple[Entry, bytes] | str:
    """The engine kept for a key and its bytes; or, for a miss, one sentence that says why."""
    path = entry_path(key, label)
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        reason = _why_missing(key, label)
        # Another process may have written it in the meantime, and then it is no miss.
        return find(key, label) if path.exists() else reason
    except OSError as error:
        return f"the cached file cannot be read: {error}"
    try:
        entry, data = _parse(path, whole)
    except (ValueError, KeyError, TypeError) as error:
        return f"the cached file is damaged: {error}"
    if dict(entry.key) != dict(key):
        return "the cached file is damaged: it bears another key"
    with contextlib.suppress(OSError):
        os.utime(path)  # the time of last use, for trimming
    return entry, data


def _parse(path: Path, whole: bytes) -> tuple[Entry, bytes]:
    first, _, rest = whole.partition(b"\n")
    if first.decode("ascii", "replace") != f"{MAGIC} {_digest(rest)}":
        raise ValueError("its digest does not agree")
    header, _, data = rest.partition(b"\n")
    return _entry(json.loads(header), path, len(whole)), data


def _entry(header: dict[str, object], path: Path, size: int) -> Entry:
    values = dict(header)
    values["error"] = Difference(**values["error"])  # type: ignore[arg-type]
    values["inputs"] = tuple(Signature(i["dtype"], tuple(i["shape"])) for i in values["inputs"])  # type: ignore
    values["outputs"] = tuple(values["outputs"])  # type: ignore[arg-type]
    return Entry(**values, path=path, size=size)  # type: ignore[arg-type]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _why_missing(key: Mapping[str, str], label: str) -> str:
    """Name the fields in which the nearest kept engine differs."""
    known = [entry for entry in list_entries() if entry.engine == key.get("engine")]
    near = [entry for entry in known if entry.label == label] or known
    if not near:
        return "nothing is cached for this engine"

    def differing(entry: Entry) -> list[str]:
        return [name for name in sorted({*key, *entry.key}) if key.get(name) != entry.key.get(name)]

    nearest = min(near, key=lambda entry: (len(differing(entry)), -entry.created))
    changes = [
        f"{name} was {_short(nearest.key.get(name))}, is {_short(key.get(name))}"
        for name in differing(nearest)
    ]
    return f"differs from the nearest cached file in {'; '.join(changes)}"


def _short(value: str | None) -> str:
    text = value or "absent"
    return text if len(text) <= 60 else f"{text[:24]}..."


def save(entry: Entry, data: bytes) -> Path:
    """Write an engine file under another name and rename it, then trim the cache; raises `OSError`."""
    header = {name: value for name, value in asdict(entry).items() if name not in ("path", "size")}
    header["key"] = dict(entry.key)
    rest = json.dumps(header).encode() + b"\n" + data
    path = entry_path(entry.key, entry.label)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(f"{MAGIC} {_digest(rest)}\n".encode() + rest)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    trim(keep=path)
    return path


def list_entries() -> list[Entry]:
    """Every engine file whose header can be read, newest use first; the bytes are not read or checked."""
    entries: list[tuple[float, Entry]] = []
    for path in engine_folder().glob(f"*{SUFFIX}"):
        try:
            status = path.stat()
            with path.open("rb") as file:
                if not file.readline(256).startswith(MAGIC.encode()):
                    continue
                entries.append((status.st_mtime, _entry(json.loads(file.readline()), path, status.st_size)))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [entry for _, entry in sorted(entries, key=lambda pair: -pair[0])]


def cache_bytes() -> int:
    """The size of all engine files together, damaged ones included."""
    return sum(path.stat().st_size for path in _files())


def clear(paths: Sequence[Path] | None = None) -> int:
    """Remove the given engine files, or all with what broken-off writes left; returns the bytes freed."""
    freed = 0
    for path in _files() if paths is None else paths:
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError:  # another process was faster
            continue
        freed += size
    return freed


def trim(keep: Path | None = None, limit: int = LIMIT_BYTES) -> None:
    """Remove files used longest ago until the rest fits, and parts of writes that broke off."""
    held: list[tuple[float, int, Path]] = []
    for path in _files():
        try:
            status = path.stat()
        except OSError:
            continue
        if path.suffix == ".part":
            if time.time() - status.st_mtime > _ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
        else:
            held.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in held)
    for _, size, path in sorted(held):
        if total <= limit:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size


def _files() -> list[Path]:
    folder = engine_folder()
    return [*folder.glob(f"*{SUFFIX}"), *folder.glob("*.part")]
