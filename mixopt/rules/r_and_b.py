"""The balancing half of R&B: a softmax of the gradients' inner products with the mixture that is wanted, from scratch at each move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains

from .gradients import aligned, gradient_needs
from .rule import Need, Rule, Scene, Seen, Standing


@final
@dataclass(frozen=True)
class RAndB(Rule):
    """w = softmax(rate G p / |G p|), G the Gram matrix of the domains' gradients and p the shares of the evaluation (uniform if None).

    It maximises rate <w, G p> / |G p| + H(w): the weights of the moment do not enter, and no weight is more than exp(sqrt(2) rate) times
    another. The source takes the last layer's gradients of the training batches themselves, summed over the steps since the last move, and
    tunes ``rate``. Where G p is 0 the weights stay.

    Source: Ge et al. 2025, arXiv 2505.00358 (Balance).

    Raises:
        InputError: a rate that is not > 0, or a goal that is no mixture.
    """

    rate: float = 1.0
    goal: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.rate, (int, float)) and 0 < self.rate < math.inf):
            raise InputError(f"the rate is {self.rate!r}; it is a finite number > 0")
        if self.goal is not None and not (np.isfinite(self.goal).all() and min(self.goal) >= 0 and abs(sum(self.goal) - 1) < 1e-9):
            raise InputError(f"the shares of the evaluation are {list(self.goal)}; they are >= 0 and sum to 1")

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        if self.goal is not None and len(self.goal) != len(domains):
            raise InputError(f"there are {len(self.goal)} shares of the evaluation for {len(domains)} domains")
        return gradient_needs(domains, None, "sum_j p_j grad l_j")

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        k = len(scene)
        even = np.full(k, 1 / k)
        score = aligned(seen, even if self.goal is None else np.array(self.goal), self)
        size = float(np.linalg.norm(score))
        if size == 0:
            return at
        return Standing(scene.step(even, score / size, self.rate), info={"score": score / size})
