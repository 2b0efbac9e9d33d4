"""FAMO: weights that follow, by Adam, how little the logarithms of the losses fell in the last step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError

from .rule import Direction, LossRule

EPS = 1e-8


@final
@dataclass(frozen=True)
class Logits:
    """FAMO's logits [k] with Adam's two means [k] and its count of steps."""

    values: np.ndarray
    first: np.ndarray
    second: np.ndarray
    steps: int = 0

    @property
    def weights(self) -> np.ndarray:
        """softmax of the logits [k]."""
        shifted = np.exp(self.values - self.values.max())
        return np.asarray(shifted / shifted.sum())


@dataclass(frozen=True)
class FAMO(LossRule):
    r"""z = softmax(xi); the model moves by sum_i (z_i / D_i) / c grad l_i with D = l - min_loss and c = sum_i z_i / D_i.

    Then the losses of the same batch are taken again: xi steps by Adam along J' (log D_before - log D_after), J the Jacobian of the
    softmax, with decay ``gamma`` in the gradient; the domains that fell least gain. ``watch="val"`` takes the fall from
    the losses under that name instead, and ``fall="relative"`` takes 1 - D_after / D_before for the difference of logarithms. It costs
    one more forward pass a step and no gradient beside the model's own.

    Source: Liu et al. 2023, arXiv 2306.03792, Algorithm 1; code Cranial-XIX/FAMO (the standalone class: w_lr 0.025, gamma 0.01).

    Raises:
        InputError: a rate, gamma or min_losses out of range; a loss that is not above its min_loss.
    """

    rate: float = 0.025
    gamma: float = 0.01
    min_losses: float | tuple[float, ...] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    fall: Literal["log", "relative"] = "log"
    watch: str | None = None
    again: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (isinstance(self.rate, (int, float)) and 0 < self.rate < math.inf):
            raise InputError(f"the rate of the logits is {self.rate!r}; it is a finite number > 0")
        if not (isinstance(self.gamma, (int, float)) and 0 <= self.gamma < math.inf):
            raise InputError(f"gamma is {self.gamma!r}; the decay of the logits is a finite number >= 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"the betas are {self.betas}; each is in [0, 1)")
        if self.fall not in ("log", "relative"):
            raise InputError(f"fall is {self.fall!r}; it is 'log', or 'relative' for (before - after) / before")

    def begin(self, k: int) -> Logits:
        if isinstance(self.min_losses, tuple) and len(self.min_losses) != k:
            raise InputError(f"there are {len(self.min_losses)} min_losses for {k} domains")
        return Logits(np.zeros(k), np.zeros(k), np.zeros(k))

    def direction(self, memory: Logits, losses: np.ndarray, watched: np.ndarray) -> tuple[Direction, Logits]:
        share = memory.weights / self._above(losses)
        return Direction(share / share.sum(), memory.weights), memory

    def loss(self, memory: Logits, losses: np.ndarray) -> float:
        """The number that the released code descends: sum_i z_i log D_i / c."""
        above, z = self._above(losses), memory.weights
        return float((z * np.log(above)).sum() / (z / above).sum())

    def after(self, memory: Logits, before: np.ndarray, after: np.ndarray) -> Logits:
        first, last = self._above(before), self._above(after)
        fall = np.log(first) - np.log(last) if self.fall == "log" else 1 - last / first
        z, (b1, b2), steps = memory.weights, self.betas, memory.steps + 1
        slope = z * (fall - float(z @ fall)) + self.gamma * memory.values
        first, second = b1 * memory.first + (1 - b1) * slope, b2 * memory.second + (1 - b2) * slope**2
        down = first / (1 - b1**steps) / (np.sqrt(second / (1 - b2**steps)) + EPS)
        return Logits(memory.values - self.rate * down, first, second, steps)

    def _above(self, losses: np.ndarray) -> np.ndarray:
        above = losses - np.asarray(self.min_losses) + EPS
        if not above.min() > 0:
            at = int(np.argmin(above))
            raise InputError(
                f"the loss at {at} is {losses[at]:.6g}, not above its min_loss; FAMO takes logarithms of what is left; lower min_losses"
            )
        return np.asarray(above)
