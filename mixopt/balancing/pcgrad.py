"""PCGrad: each gradient loses what points against the others, then all are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mixopt.errors import InputError
from mixopt.runtime.region import Region

from .rule import Direction, GramRule, products


@dataclass(frozen=True)
class PCGrad(GramRule):
    r"""g_i <- g_i - min(<g_i, g_j>, 0) / |g_j|^2 g_j over all j other than i in turn, with the others as they were; then sum_i g_i.

    The answer depends on the order. "shuffled": an order of its own for each gradient at each step, drawn by the run's seed (the paper,
    and ports); "natural": the order of the domains (the authors' release shuffles a copy and drops it); or a sequence of all k
    places, for every gradient. No coefficient is negative; their sum is k or more. A gradient of 0 takes nothing away.

    Source: Yu et al. 2020, arXiv 2001.06782, Algorithm 1; code tianheyu927/PCGrad.

    >>> PCGrad("natural").direction([[1.0, -1.0], [-1.0, 2.0]]).coefficients
    array([2. , 1.5])
    """

    order: Literal["shuffled", "natural"] | tuple[int, ...] = "shuffled"

    def __post_init__(self) -> None:
        if isinstance(self.order, Sequence) and not isinstance(self.order, str):
            object.__setattr__(self, "order", tuple(self.order))
            if sorted(self.order) == list(range(len(self.order))):
                return
        elif self.order in ("shuffled", "natural"):
            return
        raise InputError(f"the order is {self.order!r}; it is 'shuffled', 'natural', or a sequence of the places 0 ... k - 1")

    def begin(self, k: int, seed: int) -> np.random.Generator:
        return np.random.default_rng(seed)

    def direction(self, gram: Any, *, region: Region | None = None, memory: np.random.Generator | None = None) -> Direction:
        """As for every rule; ``memory`` is the generator of shuffled orders, one of seed 0 where there is none."""
        inner = products(gram)
        return Direction(self.projected(inner, memory).sum(axis=0))

    def projected(self, gram: Any, memory: np.random.Generator | None = None) -> np.ndarray:
        """The coefficients [k, k] of each gradient after its projections, one a row.

        Raises:
            InputError: the order is of another number of gradients.
        """
        inner = products(gram)
        k = len(inner)
        if not isinstance(self.order, str) and len(self.order) != k:
            raise InputError(f"the order is of {len(self.order)} places, and there are {k} gradients")
        draw = np.random.default_rng(0) if memory is None else memory
        rows = np.eye(k)
        for i in range(k):
            order = draw.permutation(k) if self.order == "shuffled" else range(k) if self.order == "natural" else self.order
            for j in order:
                against = float(rows[i] @ inner[j])
                if j != i and against < 0 and inner[j, j] > 0:
                    rows[i, j] -= against / inner[j, j]
        return rows
