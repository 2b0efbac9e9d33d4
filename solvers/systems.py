"""Settings of the linear system (H + damping I) q = v that an implicit hypergradient solves, each with its solve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.runtime.linalg import Sketch, Solved, conjugate_gradients, dense, jacobi, minimal_residual, neumann

from .products import Product


class System(ABC):
    """A linear system by products with H alone; ``damping`` is added to its diagonal."""

    damping: float

    @abstractmethod
    def solved(self, product: Product, v: Tensor, start: Tensor | None) -> Solved:
        """q [P] by products with the damped matrix."""

    def solve(self, product: Product, v: Tensor, start: Tensor | None = None) -> Solved:
        """q [P] with (H + damping I) q = v [P], from a start where the method takes one."""
        d = self.damping
        return self.solved((lambda p: product(p) + d * p) if d else product, v, start)


@final
@dataclass(frozen=True)
class ConjugateGradients(System):
    """The linear system (H + damping I) q = v: ``steps`` products at most, until the residual is ``tolerance`` of |v|.

    With a ``rank`` it is preconditioned by a sketch of H of that rank, made of as many products with seeded random vectors
    (Nystroem; Frangella, Tropp and Udell 2023, arXiv 2110.02820): fewer steps where a few directions are much steeper than the rest.
    With ``probes`` it is preconditioned by H's diagonal, estimated by as many products (Bekas, Kokiopoulou and Saad 2007): fewer steps
    where parameters differ in scale. Either is made anew for each system.
    """

    steps: int = 200
    tolerance: float = 1e-9
    damping: float = 0.0
    rank: int | None = None
    probes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        counts = [count for count in (self.steps, self.rank, self.probes) if count is not None]
        if min(counts) < 1 or not self.tolerance > 0 or not self.damping >= 0:
            raise InputError(f"{self}: steps and tolerance are > 0, damping is >= 0, a rank and probes are >= 1")
        if self.rank is not None and self.probes is not None:
            raise InputError(f"{self}: it is preconditioned by a sketch (rank) or by the diagonal (probes), not by both")

    def solved(self, product: Product, v: Tensor, start: Tensor | None) -> Solved:
        inverse = None
        if self.rank is not None:
            inverse = Sketch.of(product, v, self.rank, self.seed).preconditioner()
        elif self.probes is not None:
            inverse = jacobi(product, v, self.probes, self.seed)
        return conjugate_gradients(product, v, start=start, steps=self.steps, tolerance=self.tolerance, inverse=inverse)


@final
@dataclass(frozen=True)
class MinRes(System):
    """The same by minimal residuals, which takes an indefinite H too: away from a minimum its q is a stationary point's, not a least one's.

    Source: Paige and Saunders 1975.
    """

    steps: int = 200
    tolerance: float = 1e-9
    damping: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.tolerance > 0 or not self.damping >= 0:
            raise InputError(f"{self}: steps and tolerance are > 0, damping is >= 0")

    def solved(self, product: Product, v: Tensor, start: Tensor | None) -> Solved:
        return minimal_residual(product, v, steps=self.steps, tolerance=self.tolerance)


@final
@dataclass(frozen=True)
class Neumann(System):
    """The same by ``steps`` of q <- q + rate (v - H q): the Neumann series, which converges for rate < 2 / (largest eigenvalue of H).

    Without a ``rate`` it is 1 / (an estimate of that eigenvalue by ten power iterations). Source: Lorraine et al. 2020, arXiv 1911.02590.
    """

    steps: int = 100
    rate: float | None = None
    damping: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.damping >= 0 or (self.rate is not None and not self.rate > 0):
            raise InputError(f"{self}: steps and rate are > 0, damping is >= 0")

    def solved(self, product: Product, v: Tensor, start: Tensor | None) -> Solved:
        return neumann(product, v, start=start, steps=self.steps, rate=self.rate)


@final
@dataclass(frozen=True)
class Dense(System):
    """The same by the whole matrix, for models of up to ``most`` parameters.

    Hessian products over a kept graph (``products="reverse"``) write it out in one vectorised pass at each point, and Newton's steps of the
    lower level read it too: with some tens of parameters about half the time of conjugate gradients, whose products are each too short
    for the calls that make them. Other products are taken one a parameter.
    """

    damping: float = 0.0
    most: int = 2000

    def __post_init__(self) -> None:
        if self.most < 1 or not self.damping >= 0:
            raise InputError(f"{self}: most is > 0, damping is >= 0")

    def solved(self, product: Product, v: Tensor, start: Tensor | None) -> Solved:
        if len(v) > self.most:
            raise InputError(f"Dense() writes out the Hessian of {len(v)} parameters; {self.most} are the most. Use ConjugateGradients()")
        return dense(product, v)


@final
@dataclass(frozen=True)
class Nystroem(System):
    """The same with H replaced by a sketch of rank ``rank``, made of as many products with seeded random vectors, and inverted exactly.

    It needs ``damping`` > 0, which stands for all that the sketch does not see. Source: Hataya and Yamada 2023, arXiv 2302.09726.
    """

    rank: int = 20
    damping: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.damping > 0:
            raise InputError(f"{self}: the rank is >= 1 and damping is > 0")

    def solved(self, product: Product, v: Tensor, start: Tensor | None) -> Solved:
        sketch = Sketch.of(lambda p: product(p) - self.damping * p, v, self.rank, self.seed)
        x = sketch.inverse(self.damping)(v)
        residual = float(torch.linalg.vector_norm(product(x) - v) / torch.linalg.vector_norm(v).clamp_min(torch.finfo(v.dtype).tiny))
        return Solved(x, residual, sketch.rank + 1, False)
