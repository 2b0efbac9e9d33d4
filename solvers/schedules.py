"""Step-size rules: the factor that the rates of both players of a saddle have at a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mixopt.errors import InputError


@dataclass(frozen=True)
class Decaying:
    """The factor (1 + t / horizon)^-power at step t = 0, 1, ...: with a power of 1/2 the mean of the iterates settles."""

    power: float = 0.5
    horizon: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.power <= 1 or not 0 < self.horizon < math.inf:
            raise InputError(f"Decaying has power {self.power} and horizon {self.horizon}; 0 < power <= 1, and a horizon > 0 in steps")


@dataclass(frozen=True)
class AdaGradNorm:
    """The factor 1 / sqrt(floor + the sum of |g|^2 so far), for each player by its own gradients.

    ``Extragradient`` counts |g' - g|^2 in their place, the change of the gradient from a point to the one ahead of it, so that the
    factor settles where the problem is smooth.

    Source: Ward, Wu and Bottou 2019, arXiv 1806.01811; Bach and Levy 2019, arXiv 1902.01637 (mirror-prox).
    """

    floor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.floor < math.inf:
            raise InputError(f"AdaGradNorm has the floor {self.floor}; it is a finite number > 0")


@dataclass(frozen=True)
class Backtracking:
    """The largest of the factors 1.25 s, 1.25 s shrink, ... (s that of the last step) for which a mirror-prox step bounds the gap.

    The step from z by way of z' to z+ is taken where <F(z') - F(z), z' - z+> <= D(z', z) + D(z+, z'), D over the rate of each player:
    then its part in the gap of the mean is no more than what D(u, z) falls by. No constant of the problem is needed. For
    ``Extragradient`` on an exact learner with a ``model_rate``.

    Source: Nemirovski 2004, SIAM J. Optim. 15(1), section 3.
    """

    shrink: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.shrink < 1:
            raise InputError(f"Backtracking shrinks by {self.shrink}; it is a factor in (0, 1)")


Schedule = Decaying | AdaGradNorm | Backtracking


def factor(schedule: Schedule | None, taken: int, squares: Any) -> Any:
    """What a player's rate is multiplied by after so many steps whose gradients had this sum of squares (a tensor, left on its device)."""
    if isinstance(schedule, Decaying):
        return (1 + taken / schedule.horizon) ** -schedule.power
    if isinstance(schedule, AdaGradNorm):
        return (schedule.floor + squares) ** -0.5
    return 1.0
