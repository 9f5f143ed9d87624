"""Which networks a run needs, for which shapes, and how each is opened on an engine."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configs.schema import Config
from models.framing import SIDE
from stream.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from engines import Engine

STUFF_SIDE = 128
"""The stuff classifier looks at the whole picture at 128 x 128, as in ICIP 2019."""

INPAINT_SIDE = 128
"""Side of what the inpainter is shown: one size, so that it is compiled once, and enough for structure."""

_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """One network for one input size: its name, builder, variant and weights.

    `channels` of each input, which is (1, channels, height, width) float32.
    """

    name: str
    builder: str
    variant: str
    weights: str
    height: int
    width: int
    channels: tuple[int, ...] = (3,)

    @property
    def label(self) -> str:
        """Name with variant and input size, as lists and messages show it."""
        return f"{self.name}-{self.variant} {self.width}x{self.height}"

    def build(self) -> nn.Module:
        """The network with its weights; raises `WeightsError` where there are none."""
        from models.weights import load_weights

        module, _, function = self.builder.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), function)(variant=self.variant)
        load_weights(network, self.weights)
        return network.eval()

    def graph(self) -> str:
        """What identifies the network for the cache; raises what `open` does where there are no weights."""
        from engines import graph_digest
        from models.weights import weights_path

        from_list = self.weights if "." in self.weights else weights_path(self.weights)
        return graph_digest(self.builder, {"variant": self.variant}, from_list)

    def open(self, config: Config) -> Engine:
        """Open the network on the configured engine; torch is not imported when the cache has it.

        Raises `UsageError` for the engine "none".
        """
        if config.engine.name == "none":
            raise UsageError(
                f"the engine none runs no network, and this needs the {self.name}",
                hint="choose another --engine, or clean with --masks",
            )
        from engines import example_inputs, open_engine

        graph = self.graph()
        examples = example_inputs(self.channels, self.height, self.width)
        return open_engine(
            self.build,
            examples,
            name=config.engine.name,
            precision=config.engine.precision,
            cache=config.engine.cache,
            graph=graph,
            label=self.label,
            threads=config.engine.threads,
        )


@dataclass(frozen=True)
class Networks:
    """The configured networks and those engines that have been opened so far."""

    config: Config
    opened: dict[NetworkSpec, Engine] = field(default_factory=dict)

    def engine(self, spec: NetworkSpec) -> Engine:
        """The engine of a network, opened on first use."""
        if spec not in self.opened:
            self.opened[spec] = spec.open(self.config)
        return self.opened[spec]

    def describe(self) -> dict[str, dict[str, str]]:
        """Engine, precision and device of each open network by name, as the report shows them."""
        return {
            spec.name: {"engine": engine.name, "precision": engine.precision, "device": engine.device}
            for spec, engine in self.opened.items()
        }


def segmentator_spec(config: Config, height: int, width: int) -> NetworkSpec:
    """The segmentator for pictures shown at height x width."""
    rows, columns = input_size(height, width, config.perceive.size)
    return _spec(config, "segmentator", config.models.segmentator, rows, columns)


def stuff_spec(config: Config) -> NetworkSpec:
    """The stuff classifier."""
    return _spec(config, "stuff", config.models.stuff, STUFF_SIDE, STUFF_SIDE)


def inpainter_spec(config: Config) -> NetworkSpec:
    """The inpainter: picture, hole, reference and its validity."""
    return _spec(config, "inpainter", config.models.inpainter, INPAINT_SIDE, INPAINT_SIDE, (3, 1, 3, 1))


def deocclusion_spec(config: Config) -> NetworkSpec:
    """The de-occlusion network: picture, what is seen of a thing, and what may hide the rest."""
    return _spec(config, "deocclusion", config.models.deocclusion, SIDE, SIDE, (3, 1, 1))


def networks_to_build(config: Config, width: int, height: int, rotation: int = 0) -> tuple[NetworkSpec, ...]:
    """The networks that perception needs for coded frames of this size, for `open` one by one."""
    if rotation % 180:
        width, height = height, width
    return segmentator_spec(config, height, width), stuff_spec(config)


def every_network(config: Config, sizes: Iterable[tuple[int, int]]) -> tuple[NetworkSpec, ...]:
    """Every network that a run with frames of these (width, height) can need, each once."""
    perception = [spec for width, height in sizes for spec in networks_to_build(config, width, height)]
    return tuple(dict.fromkeys((*perception, inpainter_spec(config), deocclusion_spec(config))))


def input_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(rows, columns) near the picture's shape, `size` on the longer side, both multiples of 32."""
    scale = size / max(height, width)
    rows, columns = (max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in (height, width))
    return rows, columns


def _spec(
    config: Config, name: str, variant: str, height: int, width: int, channels: tuple[int, ...] = (3,)
) -> NetworkSpec:
    given = config.models.weights.get(name)
    weights = f"{name}-{variant}" if given is None else str(given)
    return NetworkSpec(name, f"models.{name}:build_{name}", variant, weights, height, width, channels)
