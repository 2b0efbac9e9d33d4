"""The weights that a sampler draws by, read anew for each batch: numbers, a function, or whatever has ``.weights``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mixopt.language.domains import Domains

TOLERANCE = 1e-5
"""How far the sum of weights may be off 1."""


class HasWeights(Protocol):
    """What knows the weights of the moment, a ``Schedule`` or a ``Result``."""

    @property
    def weights(self) -> Any:
        """Shares by name, or [k] in the domains' order."""


Weights = Mapping[str, float] | Sequence[float] | np.ndarray | Callable[[], Any] | HasWeights
"""Shares by name or [k] by the domains' order; a function of nothing that returns them; an object with them as ``.weights``."""


def current(weights: Any, domains: Domains) -> np.ndarray:
    """The weights of the moment as float64 [k] on the simplex.

    Raises:
        InputError: an unknown or missing domain, a negative or NaN weight, or a sum that is not 1.
    """
    if hasattr(weights, "weights"):
        weights = weights.weights
    if callable(weights):
        weights = weights()
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().numpy()
    row = np.array(list(weights.values())) if isinstance(weights, Mapping) and tuple(weights) == domains.names else weights
    if isinstance(row, np.ndarray) and row.shape == (len(domains),) and row.dtype == float and row.min() >= 0:
        total = row.sum()
        if abs(total - 1) <= TOLERANCE:  # the usual case, at the cost of a few array operations
            return row / total
    return domains.weights(weights, tolerance=TOLERANCE)
