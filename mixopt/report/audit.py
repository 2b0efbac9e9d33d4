"""What an audit of a bilevel direction says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Audit:
    """A hypergradient held against what training really does: both slopes [k] and their cosine on the simplex.

    ``inner`` is the norm of the lower level's gradient where the hypergradient was taken; the larger it is, the less the
    implicit function theorem says. ``outcome`` is the mean of finite differences of the upper loss after ``steps``
    training steps, and ``agreement`` the mean cosine between those of different batches: where it is low, the outcome
    itself is mostly noise, and no direction can agree with it.
    """

    hypergradient: np.ndarray
    outcome: np.ndarray
    cosine: float
    agreement: float
    inner: float
    steps: int
    oracle: str

    def __str__(self) -> str:
        return (
            f"cosine {self.cosine:.2f} with the loss after {self.steps} steps, which agrees with itself to {self.agreement:.2f}; "
            f"inner gradient {self.inner:.1e}; by {self.oracle}"
        )
