"""What the engine files share: errors, signature, measured difference, the back-end protocol."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[Sequence[Any]], Sequence[Any]]
"""A network ready to run: positional inputs to outputs, NumPy arrays or tensors as the back end prefers."""

PRECISIONS = ("f32", "f16", "bf16")
_RUNS = 15
_TIMING_SECONDS = 1.0
USE_EAGER = "use the engine eager, which always works"


class EngineError(RuntimeError):
    """An engine could not be built, opened or trusted; `hint` says what to do, or is empty."""

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class EngineUnavailable(EngineError):  # noqa: N818 (the name says what, not that it is an error)
    """The engine needs hardware or a library that is not here."""


@dataclass(frozen=True)
class Difference:
    """How far an engine is from eager f32 on the example inputs, in standard deviations of eager's output.

    `largest` and `mean` of the absolute difference, the worse of several outputs. For an output of whole
    numbers (a class map) both are the share of values that differ.
    """

    largest: float = 0.0
    mean: float = 0.0

    def within(self, limit: Difference) -> bool:
        """Whether neither figure is above its limit."""
        return self.largest <= limit.largest and self.mean <= limit.mean


TOLERANCE = {
    "f32": Difference(largest=0.1, mean=5e-3),
    "f16": Difference(largest=0.5, mean=0.02),
    "bf16": Difference(largest=2.0, mean=0.1),
}
"""What is accepted of an engine, for each precision: the one table for builds and tests."""


@dataclass(frozen=True)
class Signature:
    """One input's dtype (NumPy's name) and fixed shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class Backend(Protocol):
    """What an engine file offers (the module itself is the object)."""

    TENSORS: bool
    """Whether `Run` takes tensors on `torch_device()` rather than NumPy arrays."""

    def require(self) -> None:
        """Raise `EngineUnavailable`, with a hint, if this machine cannot run it; cheap."""

    def precisions(self, wanted: str) -> tuple[str, ...]:
        """The precisions to try in order, for a wish or "auto"."""

    def torch_device(self) -> str:
        """Where the module has to be for `build`: "cpu" or "cuda"."""

    def identity(self, threads: int) -> dict[str, str]:
        """Key fields: versions, device, capability, driver, and threads if the file depends on them."""

    def build(self, program: ExportedProgram, precision: str, threads: int) -> bytes:
        """Compile an exported graph to the bytes of a file; raises `EngineError`."""

    def load(self, data: bytes, precision: str, threads: int) -> Run:
        """Make what `build` returned runnable, in this or a later process; any exception means damage."""


def first_line(error: Exception) -> str:
    """What an error of some library says, without its stack of explanations."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def median_milliseconds(call: Callable[[], object]) -> float:
    """The median wall time of a call that has been made before; a second is spent at most, or two calls."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 2 or (len(times) < _RUNS and time.perf_counter() - began < _TIMING_SECONDS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def measure(reference: Sequence[Array], got: Sequence[Array]) -> Difference:
    """Compare an engine's outputs with eager's.

    Raises `EngineError` if shapes differ, or a value is NaN or infinite in one and not in the other.
    """
    largest = mean = 0.0
    for index, (a, b) in enumerate(zip(reference, got, strict=True)):
        if a.shape != b.shape:
            raise EngineError(f"output {index} has shape {b.shape}, eager gives {a.shape}")
        if not a.size:
            continue
        if a.dtype.kind != "f":
            share = float(np.mean(a != b))
            largest, mean = max(largest, share), max(mean, share)
            continue
        finite = np.isfinite(a)
        if np.isnan(a).any():
            raise EngineError(f"the network itself gives NaN in output {index}", hint="check its weights")
        if not np.array_equal(finite, np.isfinite(b)):
            raise EngineError(
                f"output {index} has NaN or infinite values that eager does not have",
                hint="try precision f32",
            )
        if not finite.any():
            continue
        exact = a[finite].astype(np.float64)
        apart = np.abs(exact - b[finite])
        scale = float(exact.std()) or float(np.abs(exact).max()) or 1.0
        largest, mean = max(largest, float(apart.max()) / scale), max(mean, float(apart.mean()) / scale)
    return Difference(largest, mean)
