"""The weights that a sampler draws by, read anew for each batch: numbers, a function, or whatever has ``.weights``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mixopt.language.domains import Domains


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
    return domains.weights(weights, tolerance=1e-5)
