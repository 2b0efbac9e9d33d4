"""How a proxy or a target is trained: AdamW with a schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, final

from mixopt.errors import InputError


@final
@dataclass(frozen=True)
class Recipe:
    """How one model is trained: AdamW on ``steps`` batches of ``batch`` windows, by warm-up and then a cosine.

    ``rate`` is the peak learning rate, ``warmup`` the share of the steps that rise to it, ``final`` the share of it that is
    left at the end; ``clip`` bounds the norm of a model's whole gradient (infinite: no clipping). In ``precision`` "bfloat16" the forward
    passes of training run under autocast; parameters, optimiser and measured losses stay in float32.

    Raises:
        InputError: a setting outside its range.
    """

    steps: int
    batch: int
    rate: float = 1e-2
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    final: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        fits = {
            "steps": isinstance(self.steps, Integral) and self.steps >= 1,
            "batch": isinstance(self.batch, Integral) and self.batch >= 1,
            "rate": 0 < self.rate < math.inf,
            "warmup": 0 <= self.warmup <= 1,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "clip": self.clip > 0,
            "final": 0 <= self.final <= 1,
            "betas": all(0 <= beta < 1 for beta in self.betas),
            "precision": self.precision in ("float32", "bfloat16"),
        }
        for name, fit in fits.items():
            if not fit:
                raise InputError(
                    f"{name} is {getattr(self, name)} in a Recipe; steps and batch are whole numbers >= 1, rate and clip are > 0, shares "
                    "within [0, 1], and the precision is 'float32' or 'bfloat16'"
                )

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = math.ceil(self.warmup * self.steps)
        if step < rising:
            return self.rate * (step + 1) / rising
        done = (step - rising) / max(self.steps - 1 - rising, 1)
        return self.rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))

    def tokens(self, context: int) -> int:
        """Tokens that one model is trained on."""
        return self.steps * self.batch * context
