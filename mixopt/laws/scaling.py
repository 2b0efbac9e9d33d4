"""Laws of scale alone: E plus a power of the model's size and one of its tokens, whatever the mixture."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.runs import Runs

from .curve import Curve, CurveLaw, lowest
from .law import At
from .least_squares import Settings

BILLION = 1e9
"""N and D count in billions inside the laws of scale."""

_EXPONENTS = np.geomspace(0.03, 2.0, 16)
_LETTERS = {"params": ("A", "alpha"), "tokens": ("B", "beta")}


@final
@dataclass(frozen=True)
class ScaleCurve(Curve):
    """E + sum over the scales of A s^-alpha, s in billions; theta is E, then log A and alpha of each scale."""

    scales: tuple[str, ...] = ("params", "tokens")

    by_every_domain: ClassVar[bool] = False

    def parameters(self, domains: Domains) -> tuple[str, ...]:
        return ("E", *(part for n in self.scales for part in (f"log {_LETTERS[n][0]}", _LETTERS[n][1])))

    def value(self, theta: np.ndarray, at: At) -> np.ndarray:
        found: np.ndarray = theta[:, :1] + sum(self._terms(theta, at))
        return found

    def jacobian(self, theta: np.ndarray, at: At) -> np.ndarray:
        terms = self._terms(theta, at)
        parts = [np.ones_like(terms[0])]
        for term, name in zip(terms, self.scales, strict=True):
            parts += [term, -term * np.log(billions(at, name))]
        return np.stack(parts, axis=2)

    def bounds(self, at: At, y: np.ndarray) -> np.ndarray:
        found = super().bounds(at, y)
        found[0, 0], found[0, 2::2] = lowest(y), 0
        return found

    def starts(self, at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
        """Variable projection: exponents on a grid, and E and the factors by non-negative least squares."""
        sizes = [billions(at, name) for name in self.scales]
        found = projected(lambda *powers: [s**-p for s, p in zip(sizes, powers, strict=True)], [_EXPONENTS] * len(sizes), at, y)
        return np.array([[e, *(x for pair in zip(logs(factors), powers, strict=True) for x in pair)] for powers, e, factors in found])

    def expression(self, theta: np.ndarray, w: Expr, names: tuple[str, ...], scale: Mapping[str, float]) -> Expr:
        at = At(np.empty((1, 0)), **{n: np.array([float(scale[n])]) for n in self.scales})
        return constant(self.value(theta, at)[:, 0], index=names)

    def _terms(self, theta: np.ndarray, at: At) -> list[np.ndarray]:
        pairs = zip(self.scales, theta[:, 1::2].T, theta[:, 2::2].T, strict=True)
        return [np.exp(factor[:, None] - power[:, None] * np.log(billions(at, name))) for name, factor, power in pairs]


@final
@dataclass(frozen=True, eq=False)
class Chinchilla(CurveLaw):
    """L_j(N, D) = E_j + A_j / N^alpha_j + B_j / D^beta_j, N and D in billions, whatever the mixture.

    Fitted to runs of several sizes at one mixture it predicts the loss of a larger run there, such as the reference losses that
    Sheared LLaMA holds its domains against: ``law.predict(w, params=..., tokens=...)``. A coefficient per N (not per billion) is A
    times 1e9^alpha.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, Eq. 2; Xia et al. 2024, arXiv 2310.06694 (reference losses).
    """

    name: ClassVar[str] = "chinchilla"
    needs: ClassVar[tuple[str, ...]] = ("params", "tokens")

    @classmethod
    def fit(cls, runs: Runs, loss: str = "linear", huber_delta: float = 1e-3) -> Chinchilla:
        """Fit every target by least squares (or Huber of that width, in the target's unit), from a variable-projection start.

        Raises:
            InputError: runs without params or tokens, no more runs than the 5 parameters, or a constant target.
        """
        return cls.fitted_to(runs, ScaleCurve(), Settings(0.0, loss, huber_delta))

    @classmethod
    def shape(cls, content: Mapping[str, Any]) -> ScaleCurve:
        return ScaleCurve()


def billions(at: At, name: str) -> np.ndarray:
    """A scale of the runs [R] in billions."""
    return np.asarray(getattr(at, name)) / BILLION


def logs(factors: np.ndarray) -> np.ndarray:
    """Logarithms of factors >= 0, those that are 0 as next to nothing."""
    return np.log(np.maximum(factors, 1e-8))


def projected(
    columns: Callable[..., Sequence[np.ndarray]], grids: Sequence[Sequence[float] | np.ndarray], at: At, y: np.ndarray, keep: int = 20
) -> list[tuple[tuple[float, ...], float, np.ndarray]]:
    """The best points of a grid of exponents, where y = E + sum of factors times columns(*exponents) by non-negative least squares.

    Each is its exponents, E (at least the lowest floor of y) and the factors >= 0 of the columns [R].
    """
    from scipy.optimize import nnls

    floor, root = lowest(y), 1.0 if at.weights is None else np.sqrt(at.weights)
    found = []
    for powers in itertools.product(*grids):
        table = np.stack([np.ones_like(y), *columns(*powers)], axis=1) * np.reshape(root, (-1, 1))
        factors, rest = nnls(table, (y - floor) * root, maxiter=50 * table.shape[1])
        found.append((rest, powers, floor + factors[0], factors[1:]))
    found.sort(key=lambda one: one[0])
    return [(powers, e, factors) for _, powers, e, factors in found[:keep]]
