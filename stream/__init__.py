"""cleanplate's Python interface; everything is imported when it is first used.

report = stream.clean("plaza.mp4", "plaza.clean.mp4")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import Config, load_config
    from stream.cleaner import Cleaner
    from stream.errors import CleanplateError
    from stream.job import Job, Progress, clean
    from stream.layer_job import LayerJob, take_layers
    from stream.live_run import Live, Shown, Status, live
    from stream.report import Report

_HOMES = {
    "Cleaner": "stream.cleaner",
    "CleanplateError": "stream.errors",
    "Config": "configs.schema",
    "Job": "stream.job",
    "LayerJob": "stream.layer_job",
    "Progress": "stream.job",
    "Live": "stream.live_run",
    "Report": "stream.report",
    "Shown": "stream.live_run",
    "Status": "stream.live_run",
    "clean": "stream.job",
    "live": "stream.live_run",
    "load_config": "configs.schema",
    "take_layers": "stream.layer_job",
}

__all__ = [
    "Cleaner",
    "CleanplateError",
    "Config",
    "Job",
    "LayerJob",
    "Live",
    "Progress",
    "Report",
    "Shown",
    "Status",
    "clean",
    "live",
    "load_config",
    "take_layers",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the file it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stream' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
