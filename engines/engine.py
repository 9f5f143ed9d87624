"""`open_engine`: a network in, something callable out, from the cache where possible."""

from __future__ import annotations

import difflib
import functools
import importlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import numpy as np

from engines import cache, hardware
from engines.base import (
    PRECISIONS,
    TOLERANCE,
    USE_EAGER,
    Array,
    Backend,
    Difference,
    EngineError,
    EngineUnavailable,
    Run,
    Signature,
    first_line,
    measure,
    median_milliseconds,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

ENGINE_NAMES = ("eager", "inductor", "openvino", "tensorrt")
FORMAT = "1"
"""Part of every key; raised when files written before must not be used any more."""

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A network ready to run, for the shapes and dtypes of its example inputs.

    Called with NumPy arrays it returns NumPy arrays, with tensors tensors (on the first input's device): one
    for a module that returns one, else a tuple in the module's order. Safe to call from several threads (one
    call at a time runs); the GIL is released while it computes. A wrong shape or dtype is a `ValueError`.
    """

    name: str
    device: str
    precision: str
    error: Difference
    reason: str
    """Why the engine had to be built; empty if it came from the cache."""
    milliseconds: float
    """The median of a run, measured when it was built; 0 for eager, which is not built."""

    def __call__(self, *inputs: Any) -> Any: ...

    def close(self) -> None:
        """Let go of the network; closing twice is harmless, a call afterwards raises `EngineError`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class _Opened:
    """The one implementation of `Engine`: checks, converts, and hands the inputs to a back end's `Run`."""

    def __init__(self, entry: cache.Entry, run: Run, reason: str, *, tensors: bool, place: str) -> None:
        self.name, self.device, self.precision = entry.engine, entry.device, entry.precision
        self.error, self.reason, self.milliseconds = entry.error, reason, entry.milliseconds
        self._entry, self._tensors, self._place = entry, tensors, place
        self._run: Run | None = run
        self._lock = threading.Lock()

    def __call__(self, *inputs: Any) -> Any:
        got = tuple(map(_signature, inputs))
        if got != self._entry.inputs:
            raise ValueError(f"{self._entry.label} takes {_listed(self._entry.inputs)}, not {_listed(got)}")
        first = inputs[0] if inputs else None
        native = [_to_tensor(i, self._place) if self._tensors else _to_array(i) for i in inputs]
        with self._lock:
            if self._run is None:
                raise EngineError(f"the engine of {self._entry.label} is closed")
            results = self._run(native)
        outputs = list(zip(results, self._entry.outputs, strict=True))
        shown: list[Any]
        if isinstance(first, np.ndarray):
            shown = [_to_array(result, dtype) for result, dtype in outputs]
        else:
            place = str(first.device) if first is not None else "cpu"
            shown = [_to_tensor(result, place, dtype) for result, dtype in outputs]
        return shown[0] if self._entry.bare else tuple(shown)

    def close(self) -> None:
        with self._lock:
            self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_engine(
    module: nn.Module | Callable[[], nn.Module],
    example_inputs: Sequence[Array | torch.Tensor],
    *,
    name: str = "auto",
    precision: str = "auto",
    cache: bool = True,
    graph: str | None = None,
    label: str = "",
    threads: int = 0,
) -> Engine:
    """Open a network on the best engine of this machine, or the named one; build it if the cache has none.

    `module` is taken over (evaluation mode, perhaps another device), or is a function that makes it.
    `example_inputs` fix shapes and dtypes, and should look like real inputs: the difference from eager is
    measured with them. `precision` is auto, f32, f16 or bf16; auto goes below f32 only where that is native
    and stays within `TOLERANCE`. `threads` 0 means what `give_threads` gave, else all.

    **The fast path**: give `graph`, a digest of everything the network is made from (`graph_digest`), pass a
    function for `module` and NumPy arrays. Then a network in the cache is opened without making the module
    and, on OpenVINO, without importing torch. Without `graph` the module is exported (seconds) for its key.

    `label` names the network in file names, lists and messages. Raises `ValueError` for an unknown name or
    precision, `EngineUnavailable` if a named engine cannot run here, `EngineError` if it fails or gives
    another result than eager; with "auto" the next engine is tried, and eager is the last.
    """
    if name not in ("auto", *ENGINE_NAMES):
        near = difflib.get_close_matches(name, ENGINE_NAMES, 1)
        raise ValueError(f"unknown engine {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r}; there are auto, {', '.join(PRECISIONS)}")
    request = _Request(module, example_inputs, precision, cache, graph, label, threads)
    candidates = auto_engines() if name == "auto" else (name,)
    for candidate in candidates[:-1]:
        try:
            return _open(candidate, request)
        except EngineError as error:
            log.warning("%s: engine %s is passed over: %s", request.label, candidate, error)
    return _open(candidates[-1], request)


def auto_engines() -> tuple[str, ...]:
    """The engines "auto" tries on this machine, in order."""
    usable = ("tensorrt", "inductor") if hardware.cuda_usable() else ("openvino",)
    return (*(name for name in usable if not _unavailable(name)), "eager")


def _unavailable(name: str) -> EngineUnavailable | None:
    try:
        backend_for(name).require()
    except EngineUnavailable as error:
        return error
    return None


def backend_for(name: str) -> Backend:
    """The back end of an engine other than eager; `.require()` says whether it can run here."""
    return cast(Backend, importlib.import_module(f"engines.{name}"))


class _Request:
    """What `open_engine` was asked for, with the module made at most once, and only if needed."""

    def __init__(
        self,
        module: Any,
        inputs: Sequence[Any],
        precision: str,
        use_cache: bool,
        graph: str | None,
        label: str,
        count: int,
    ) -> None:
        self.inputs = tuple(inputs)
        self.signature = tuple(map(_signature, self.inputs))
        self.precision, self.use_cache, self.graph, self.count = precision, use_cache, graph, count
        self._given = module
        made = type(module).__name__
        self.label = label or ("network" if made == "function" else made)

    @functools.cached_property
    def module(self) -> nn.Module:
        import torch

        made = self._given if isinstance(self._given, torch.nn.Module) else self._given()
        if not isinstance(made, torch.nn.Module):
            raise TypeError(f"{self.label}: a network has to be an nn.Module, not {type(made).__name__}")
        return made.eval()

    @functools.cached_property
    def reference(self) -> tuple[list[Array], bool]:
        """Eager's f32 outputs on the CPU, and whether the module returned one bare tensor."""
        import torch

        from engines.export import flatten

        with torch.no_grad():
            outputs, bare = flatten(self.module.cpu()(*(_to_tensor(i, "cpu") for i in self.inputs)))
        return [_to_array(output) for output in outputs], bare


def _open(name: str, request: _Request) -> Engine:
    if name == "eager":
        return _open_eager(request)
    backend = backend_for(name)
    backend.require()
    precisions = backend.precisions(request.precision)
    key: dict[str, str] = {}
    program = None
    reason = "the cache is off"
    if request.use_cache:
        if request.graph is None:
            program = _export(backend, request)
        key = {
            "engine": name,
            "format": FORMAT,
            "build": cache.build_digest(name),
            "graph": request.graph or _program_digest(program),
            "shapes": _listed(request.signature),
            "precision": "/".join(precisions),
            **backend.identity(request.count),
        }
        found = cache.find(key, request.label)
        if not isinstance(found, str):
            entry, data = found
            try:
                run = backend.load(data, entry.precision, request.count)
                return _Opened(entry, run, "", tensors=backend.TENSORS, place=backend.torch_device())
            except Exception as error:  # whatever a library says of a file it cannot use, it is a miss
                found = f"the cached file cannot be opened: {error}"
        reason = found
    log.info("%s: building for %s: %s", request.label, name, reason)
    program = program or _export(backend, request)
    entry, data, run = _build(backend, name, key, program, precisions, request)
    if request.use_cache:
        try:
            cache.save(entry, data)
        except OSError as error:
            log.warning("%s: the engine works but cannot be kept: %s", request.label, error)
    return _Opened(entry, run, reason, tensors=backend.TENSORS, place=backend.torch_device())


def _build(
    backend: Backend,
    name: str,
    key: dict[str, str],
    program: Any,
    precisions: tuple[str, ...],
    request: _Request,
) -> tuple[cache.Entry, bytes, Run]:
    """Build at the first precision that can be built and agrees with eager; the last one must."""
    place = backend.torch_device()
    reference, _ = request.reference
    native = [_to_tensor(i, place) if backend.TENSORS else _to_array(i) for i in request.inputs]
    for precision in precisions:
        last = precision == precisions[-1]
        started = time.perf_counter()
        try:
            data = backend.build(program, precision, request.count)
            built = time.perf_counter() - started
            run, outputs = _first_run(backend, data, precision, request, native)
            error = measure(reference, outputs)
        except EngineError as failure:
            if last:
                raise
            log.warning("%s: %s at %s: %s", request.label, name, precision, failure)
            continue
        if not error.within(TOLERANCE[precision]):
            far = f"{error.mean:.2g} standard deviations in the mean and {error.largest:.2g} at most"
            said = f"{name} at {precision} is {far} from eager"
            if last and precision == "f32":
                raise EngineError(f"{request.label}: {said}", hint=USE_EAGER)
            log.warning("%s: %s", request.label, said)
            if not last:
                continue
        device = key.get("device") or backend.identity(request.count)["device"]
        log.info("%s: built for %s in %.1f s", request.label, name, built)
        entry = _entry(request, key, name, device, precision, error)
        spent = median_milliseconds(functools.partial(_run_to_end, run, native, place))
        return replace(entry, build_seconds=built, milliseconds=spent), data, run
    raise AssertionError("precisions is never empty")


def _first_run(
    backend: Backend, data: bytes, precision: str, request: _Request, native: Sequence[Any]
) -> tuple[Run, list[Array]]:
    """Open what was just built and run it; whatever goes wrong with a library then is an `EngineError`."""
    reference, _ = request.reference
    try:
        run = backend.load(data, precision, request.count)
        return run, [_to_array(o, str(r.dtype)) for o, r in zip(run(native), reference, strict=True)]
    except Exception as error:
        said = f"{request.label} was built but cannot run: {first_line(error)}"
        raise EngineError(said, hint=USE_EAGER) from error


def _run_to_end(run: Run, inputs: Sequence[Any], place: str) -> None:
    """Run a network and wait for it: calls on a GPU return before it is done."""
    run(inputs)
    if place == "cuda":
        import torch

        torch.cuda.synchronize()


def _open_eager(request: _Request) -> Engine:
    """Eager keeps no files; below f32 its difference is measured at each opening."""
    from engines import eager

    precision = eager.precisions(request.precision)[0]
    reference, _ = request.reference
    place = eager.torch_device()
    run = eager.wrap(request.module.to(place), precision, request.count)
    error = Difference()
    if precision != "f32":
        outputs = run([_to_tensor(i, place) for i in request.inputs])
        arrays = [_to_array(o, str(r.dtype)) for o, r in zip(outputs, reference, strict=True)]
        error = measure(reference, arrays)
    device = hardware.cuda_identity()["device"] if place == "cuda" else hardware.cpu_name()
    entry = _entry(request, {}, "eager", device, precision, error)
    return _Opened(entry, run, "eager keeps no files", tensors=True, place=place)


def _entry(
    request: _Request, key: dict[str, str], name: str, device: str, precision: str, error: Difference
) -> cache.Entry:
    reference, bare = request.reference
    return cache.Entry(
        key=key,
        label=request.label,
        engine=name,
        device=device,
        precision=precision,
        error=error,
        inputs=request.signature,
        outputs=tuple(str(output.dtype) for output in reference),
        bare=bare,
        created=time.time(),
    )


def _export(backend: Backend, request: _Request) -> Any:
    from engines.export import export_program

    place = backend.torch_device()
    request.reference  # noqa: B018  (made on the CPU, before the module moves)
    return export_program(request.module.to(place), [_to_tensor(i, place) for i in request.inputs])


def _program_digest(program: Any) -> str:
    from engines.export import program_digest

    return program_digest(program)


def _signature(value: Any) -> Signature:
    """dtype and shape of an array or tensor; raises `ValueError` for anything else."""
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        raise ValueError(f"an engine takes NumPy arrays or tensors, not {type(value).__name__}")
    return Signature(str(value.dtype).removeprefix("torch."), tuple(int(side) for side in value.shape))


def _listed(signature: Sequence[Signature]) -> str:
    return ", ".join(map(str, signature)) or "nothing"


def _to_array(value: Any, dtype: str | None = None) -> Array:
    """A contiguous NumPy array of an array or tensor; copied only where it has to be."""
    if not isinstance(value, np.ndarray):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no such dtype
            value = value.float()
        value = value.numpy()
    return np.ascontiguousarray(value, dtype=dtype) if value.ndim else value.astype(dtype or value.dtype)


def _to_tensor(value: Any, place: str, dtype: str | None = None) -> torch.Tensor:
    """A tensor on a device of an array or tensor; copied only where it has to be."""
    import torch

    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.require(value, requirements=["C", "W"]))
    return cast("torch.Tensor", value.to(device=place, dtype=getattr(torch, dtype) if dtype else None))
