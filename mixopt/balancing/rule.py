"""What a rule of gradient balancing is: inner products of gradients, or losses, in; the coefficients of one direction out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from mixopt.errors import InputError
from mixopt.runtime.region import Region

ROUNDING = 1e-12


@final
@dataclass(frozen=True)
class Direction:
    """What a rule makes of k gradients: the model moves against sum_i coefficients_i grad l_i.

    ``inner`` [k] are the weights on the simplex that the rule itself minimises over (MGDA, CAGrad); None where it has no such problem.
    """

    coefficients: np.ndarray
    inner: np.ndarray | None = None

    @property
    def simplex(self) -> bool:
        """Whether the coefficients themselves are a mixture: none is negative, and their sum is 1."""
        return bool(self.coefficients.min() >= 0 and abs(self.coefficients.sum() - 1) <= ROUNDING * len(self.coefficients))

    @property
    def mixture(self) -> np.ndarray | None:
        """The mixture [k] whose weighted loss has this direction, up to its length.

        ``inner`` where the direction is 0; None where a coefficient is negative, so that no mixture has it.
        """
        total = self.coefficients.sum()
        if self.coefficients.min() < 0:
            return None
        return self.coefficients / total if total > 0 else self.inner


class GramRule(ABC):
    """A rule that sees the inner products [k, k] of the domains' gradients alone. A value: settings only."""

    constrained: ClassVar[bool] = False
    """Whether it is a minimisation over mixtures, which a problem's constraints can cut."""

    def begin(self, k: int, seed: int) -> Any:
        """What the rule carries through a run over k domains: a generator of random numbers, say; nothing for most."""
        return None

    @abstractmethod
    def direction(self, gram: Any, *, region: Region | None = None, memory: Any = None) -> Direction:
        """The direction from the inner products [k, k]; ``region`` are the weights allowed, for rules that are ``constrained``.

        Raises:
            InputError: what is given is no matrix of inner products, or the rule has no answer for it.
        """


class LossRule(ABC):
    """A rule that sees losses [k] alone, and what it remembers of earlier steps; one gradient a step is all that it costs."""

    again: ClassVar[bool] = False
    """Whether it wants to see the losses of the same batch again after the model's step."""

    watch: str | None
    """The name of the losses that it judges progress by, such as "val"; None for those that the model descends."""

    @abstractmethod
    def begin(self, k: int) -> Any:
        """What it remembers before the first step, over k domains."""

    @abstractmethod
    def direction(self, memory: Any, losses: np.ndarray, watched: np.ndarray) -> tuple[Direction, Any]:
        """The direction from the losses [k] of this step, those watched [k], and what is remembered; and what it remembers next.

        Raises:
            InputError: losses out of the rule's range.
        """

    def after(self, memory: Any, before: np.ndarray, after: np.ndarray) -> Any:
        """What it remembers once the watched losses [k] of one batch have gone from ``before`` to ``after`` by the model's step."""
        return memory


Rule = GramRule | LossRule


def products(gram: Any) -> np.ndarray:
    """The inner products [k, k] of k gradients as float64, symmetric to the last bit.

    Raises:
        InputError: no finite square matrix, not symmetric, or with a negative eigenvalue, as no gradients have them.
    """
    found = np.asarray(gram.detach().double().cpu() if hasattr(gram, "detach") else gram, dtype=float)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.size:
        raise InputError(f"the inner products of k gradients are a matrix [k, k]; this has the shape {list(found.shape)}")
    if not np.isfinite(found).all():
        raise InputError(f"the inner products hold {found[~np.isfinite(found)][0]}; a gradient is not finite")
    size = float(np.abs(found).max())
    even = (found + found.T) / 2
    if np.abs(found - even).max() > 1e-3 * size:
        raise InputError("the matrix is not symmetric, so it holds no inner products of k gradients with each other")
    if size and np.linalg.eigvalsh(even / size)[0] < -1e-3:
        raise InputError("the matrix has a negative eigenvalue, so it holds no inner products of k gradients with each other")
    return even
