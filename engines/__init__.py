"""How a network is run: one call, `open_engine`, over eager torch, inductor, OpenVINO and TensorRT.

Importing this package is cheap (no torch, no OpenVINO), and has to happen before torch is imported:
`engines.threads` sets what torch's OpenMP reads only once.
"""

from __future__ import annotations

from engines.base import TOLERANCE, Difference, EngineError, EngineUnavailable
from engines.cache import cache_bytes, clear, engine_folder, graph_digest, list_entries
from engines.engine import ENGINE_NAMES, Engine, auto_engines, backend_for, open_engine
from engines.examples import example_inputs
from engines.threads import available_threads, give_threads, one_thread_each

__all__ = [
    "ENGINE_NAMES",
    "TOLERANCE",
    "Difference",
    "Engine",
    "EngineError",
    "EngineUnavailable",
    "auto_engines",
    "available_threads",
    "backend_for",
    "cache_bytes",
    "clear",
    "engine_folder",
    "example_inputs",
    "give_threads",
    "graph_digest",
    "list_entries",
    "one_thread_each",
    "open_engine",
]
