"""Which weights exist, where they are, and how they get into a module.

`weights/weights.json` lists them: name -> file, sha256 (or its first digits, where its publisher states no
more), size in bytes (null where unknown), licence, url (null for those that come with the package). Our own
files are safetensors; floats may be stored in half precision. Nothing is downloaded unless `fetch` is called.
Public state dicts come as torch's archives: `models.torchvision` reads those, and only tensors out of them.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

FOLDER = Path(__file__).with_name("weights")
"""Where the weights that come with the package are, and their list."""

LICENCE = "Apache-2.0"
"""Of weights trained by this project, unless their file says otherwise."""

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 30.0
_SHOWN = 4
_LEAST_DIGITS = 8
_LARGEST = 2 << 30


class WeightsError(OSError):
    """Weights that are unknown, missing, damaged or made for another network; `hint` says what to do."""

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Weights:
    """One weights file: what it is called, its digest (hex) and size in bytes, and where to get it.

    `sha256` may be the beginning of the digest; `size` is None where it is not known beforehand.
    """

    name: str
    file: str
    sha256: str
    size: int | None
    licence: str
    url: str | None = None

    def is_whole(self, digest: str) -> bool:
        """Whether a file with this digest is the published one."""
        return len(self.sha256) >= _LEAST_DIGITS and digest.startswith(self.sha256)


def all_weights() -> dict[str, Weights]:
    """Every known file by name; raises `WeightsError` if the list cannot be read."""
    path = FOLDER / "weights.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return {name: Weights(name=name, **values) for name, values in listed.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"the list of weights cannot be read: {error} ({path})", hint=_REINSTALL
        ) from error


def shipped() -> list[str]:
    """The names of the files that come with the package, sorted; raises `WeightsError` as `all_weights`."""
    return sorted(name for name, weights in all_weights().items() if weights.url is None)


_REINSTALL = "install cleanplate again"


def find_weights(name: str) -> Weights:
    """The entry of a name; raises `WeightsError` with the nearest one, or how to get a paper-size one."""
    known = all_weights()
    if name in known:
        return known[name]
    if name.endswith("-paper"):
        raise WeightsError(
            f"the weights {name!r} do not come with the program",
            hint="train them (docs/training.md, paper-size networks) and name the file: "
            f"--set 'models.weights={{{name.removesuffix('-paper')}: FILE}}'",
        )
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known))}"
    raise WeightsError(f"no weights are called {name!r}", hint=hint)


def fetched_folder() -> Path:
    """Where fetched weights are kept: `CLEANPLATE_WEIGHTS`, else the system's place for a user's data."""
    if chosen := os.environ.get("CLEANPLATE_WEIGHTS"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("cleanplate", appauthor=False)) / "weights"


def weights_path(name: str) -> Path:
    """The file of a name, shipped or fetched; raises `WeightsError` if it is not on this machine."""
    weights = find_weights(name)
    for folder in (FOLDER, fetched_folder()):
        if (folder / weights.file).is_file():
            return folder / weights.file
    hint = f"cleanplate weights fetch {name}" if weights.url else _REINSTALL
    raise WeightsError(f"the weights {name!r} are not on this machine", hint=hint)


def load_weights(module: nn.Module, name_or_path: str | os.PathLike[str]) -> None:
    """Fill a module, cast to the dtypes it has; every key has to be there with its shape, and no other.

    A string without a suffix is a name of `all_weights`, whose file must have the listed digest; anything
    else is a safetensors file. Only batch norms' `num_batches_tracked` may be missing: it has no effect on
    results. Raises `WeightsError`.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    is_name = isinstance(name_or_path, str) and not Path(name_or_path).suffix
    path = verify(str(name_or_path)) if is_name else Path(name_or_path)
    try:
        stored = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file {path}") from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"this is no readable safetensors file: {error} ({path})", hint="cleanplate weights verify"
        ) from error
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in stored and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in stored if key not in wanted]
    misshapen = [
        f"{key} is {tuple(stored[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in stored and stored[key].shape != value.shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "wrong shape": misshapen}
    said = [f"{kind}: {_some(keys)}" for kind, keys in faults.items() if keys]
    if said:
        raise WeightsError(
            f"weights do not fit {type(module).__name__}: {'; '.join(said)} ({path})",
            hint="is it the file of this network and this variant?",
        )
    with torch.no_grad():
        for key, value in wanted.items():
            if key in stored:
                value.copy_(stored[key])


def file_digest(path: Path) -> str:
    """The sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(name: str) -> Path:
    """The file of a name if its digest is the listed one; else raises `WeightsError`."""
    path = weights_path(name)
    if not find_weights(name).is_whole(file_digest(path)):
        raise WeightsError(
            f"the weights {name!r} are not what was published ({path})",
            hint=f"delete the file and run: cleanplate weights fetch {name}"
            if find_weights(name).url
            else _REINSTALL,
        )
    return path


def fetch(name: str, *, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Download weights, check the digest, and only then give the file its name; returns it.

    `on_progress` gets bytes so far and in all (0: not known). What is here already and whole is not fetched
    again. A download that is cut off leaves a `.part` file, with which the next call goes on. Raises
    `WeightsError`.
    """
    weights = find_weights(name)
    try:
        return verify(name)
    except WeightsError:
        if weights.url is None:
            raise
    if urllib.parse.urlsplit(weights.url).scheme not in ("http", "https"):
        raise WeightsError(f"weights are fetched over http or https only ({weights.url})")
    target = fetched_folder() / weights.file
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        begun = part.stat().st_size if part.is_file() else 0
        _download(weights, part, on_progress)
        found = file_digest(part)
        if begun and not weights.is_whole(found):  # what was here was of another file: from the start
            part.unlink()
            _download(weights, part, on_progress)
            found = file_digest(part)
        if not weights.is_whole(found):
            part.unlink()
            raise WeightsError(
                f"what came is not the published file: its sha256 is {found[:12]}..., "
                f"not {weights.sha256[:12]}... ({weights.url})",
                hint="try again later; if it stays so, report it",
            )
        part.replace(target)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(
            f"the weights cannot be written: {error.strerror or error} ({target})",
            hint="CLEANPLATE_WEIGHTS names another folder for fetched weights",
        ) from error
    return target


def update_list() -> list[str]:
    """For maintainers: write the true digests and sizes of the shipped files into the list.

    Files new in the folder are added under their stem, those gone are taken out. Returns the names
    that changed.
    """
    known = all_weights()
    gone = [n for n, w in known.items() if w.url is None and not (FOLDER / w.file).is_file()]
    for name in gone:
        del known[name]
    changed = list(gone)
    for path in sorted(FOLDER.glob("*.safetensors")):
        old = known.get(path.stem)
        new = Weights(
            path.stem, path.name, file_digest(path), path.stat().st_size, old.licence if old else LICENCE
        )
        if new != old:
            known[path.stem] = new
            changed.append(path.stem)
    listed = {name: {k: v for k, v in asdict(known[name]).items() if k != "name"} for name in sorted(known)}
    try:
        (FOLDER / "weights.json").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"the list of weights cannot be written: {error}") from error
    return changed


def _download(weights: Weights, part: Path, on_progress: Callable[[int, int], None] | None) -> None:
    """Append to `part` what is not yet there, never more than the listed size and one byte."""
    done = part.stat().st_size if part.is_file() else 0
    if weights.size is not None and done >= weights.size:
        return
    request = urllib.request.Request(str(weights.url))
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            if answer.status != 206:  # the server gives the whole file, whatever was asked for
                done = 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else weights.size or 0
            most = weights.size if weights.size is not None else _LARGEST
            with part.open("ab" if done else "wb") as file:
                while done <= most and (block := answer.read(min(_BLOCK, most - done + 1))):
                    file.write(block)
                    done += len(block)
                    if on_progress is not None:
                        on_progress(min(done, total) if total else done, total)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # all of it is here
            raise WeightsError(f"the weights cannot be fetched: {error.reason} ({weights.url})") from error
        return
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"the weights cannot be fetched: {reason} ({weights.url})", hint=_offline(weights, part)
        ) from error
    if total and done < min(total, most):
        raise WeightsError(
            f"the download was cut off after {done} of {total} bytes ({weights.url})",
            hint=_offline(weights, part),
        )


def _offline(weights: Weights, part: Path) -> str:
    """What to do when the server cannot be reached, or not to the end."""
    if part.is_file() and part.stat().st_size:
        return f"it goes on from there with: cleanplate weights fetch {weights.name}"
    return f"without a network here, fetch it elsewhere and put it at {part.with_suffix('')}"


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
