"""Weights that do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixopt.errors import InputError

from .rule import Direction, LossRule


@dataclass(frozen=True)
class Static(LossRule):
    """The same coefficients at every step: those given [k], brought to sum 1, or 1/k each.

    Raises:
        InputError: weights that are negative, not finite, all 0, or of another number than the domains.
    """

    weights: tuple[float, ...] | Sequence[float] | None = None
    watch: str | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        object.__setattr__(self, "weights", tuple(float(v) for v in self.weights))
        found = np.asarray(self.weights)
        if not (len(found) and np.isfinite(found).all() and found.min() >= 0 and found.sum() > 0):
            raise InputError(f"the weights are {self.weights}; they are finite, none is negative, and not all are 0")

    def begin(self, k: int) -> np.ndarray:
        if self.weights is None:
            return np.full(k, 1 / k)
        if len(self.weights) != k:
            raise InputError(f"there are {len(self.weights)} weights for {k} domains")
        found = np.asarray(self.weights)
        return np.asarray(found / found.sum())

    def direction(self, memory: np.ndarray, losses: np.ndarray, watched: np.ndarray) -> tuple[Direction, np.ndarray]:
        return Direction(memory, memory), memory
