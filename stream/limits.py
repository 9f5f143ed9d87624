"""What one picture may cost: as much as the best answer takes, or no more than the pictures beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from configs.schema import Plate as PlateConfig


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is asked for one picture.

    `asked`: frames whose own pixels are asked what a newly hidden pixel at rest looked like; 0: a few are
    asked on the small pictures in which sources are compared. `relit`: change of light (share) up to which
    what is known at rest is brought to the new light; beyond it is asked for again. `dragged_lasts`: further
    pictures for which what a thing drags along goes by what was found. `completed_lasts`: the same of
    somebody who stays and is completed; `halved_from`: lines from which that is done at half the size.
    `invented`: pieces that are invented in one picture, None for all.
    """

    asked: int
    relit: float
    dragged_lasts: int
    completed_lasts: int
    halved_from: float
    invented: int | None


THOROUGH = Limits(
    asked=48, relit=0.03, dragged_lasts=0, completed_lasts=0, halved_from=math.inf, invented=None
)
"""The best answer, whenever it comes."""

EVEN = Limits(asked=0, relit=math.inf, dragged_lasts=1, completed_lasts=2, halved_from=540, invented=1)
"""No picture may be late."""


def limits_of(config: PlateConfig) -> Limits:
    """The limits that a configuration asks for."""
    return EVEN if config.even else THOROUGH
