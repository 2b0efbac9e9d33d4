"""CAGrad: the direction near the mean gradient under which the worst domain improves most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.optimize import brentq

from mixopt.errors import InputError
from mixopt.runtime.region import Region

from .nearest import lengths, min_norm, within
from .rule import Direction, GramRule, products

NOTHING = 1e-7  # of the longest gradient: shorter ones are rounding, since squares are known to 1e-16


@dataclass(frozen=True)
class CAGrad(GramRule):
    r"""max over d with |d - g_0| <= c |g_0| of min_i <g_i, d>, g_0 the mean gradient: d = g_0 + c |g_0| g_w / |g_w|.

    ``inner`` are the weights w, which minimise <g_w, g_0> + c |g_0| |g_w| over mixtures. That is solved by the min-norm problem of MGDA:
    |g_w| = min over t of (|g_w|^2 / t + t) / 2, and at fixed t it is the mixture nearest to 0 of gradients that are all moved by
    t g_0 / (c |g_0|); t is found as the root of |g_w| = t. Under constraints w is found by projected steps.

    ``rescale`` as in the released code: 0 leaves d, 1 divides it by 1 + c^2, 2 by 1 + c; ``summed`` multiplies it by k, as that code
    does. Where some mixture of the gradients is 0 and no direction improves all domains, the coefficients are 0.

    Source: Liu et al. 2021, arXiv 2110.14048, Eq. 3 and Algorithm 1; code Cranial-XIX/CAGrad.

    Raises:
        InputError: c is no finite number >= 0, or rescale none of 0, 1 and 2.
    """

    c: float = 0.4
    rescale: Literal[0, 1, 2] = 0
    summed: bool = False
    constrained: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (isinstance(self.c, (int, float)) and 0 <= self.c < math.inf):
            raise InputError(f"c is {self.c!r}; it is a finite number >= 0, the radius around the mean gradient as a share of its length")
        if self.rescale not in (0, 1, 2):
            raise InputError(f"rescale is {self.rescale!r}; it is 0 (none), 1 (divide by 1 + c^2) or 2 (divide by 1 + c)")

    def direction(self, gram: Any, *, region: Region | None = None, memory: Any = None) -> Direction:
        inner = products(gram)
        k = len(inner)
        longest = float(lengths(inner).max())
        mean = inner.mean(axis=1)
        size = math.sqrt(max(float(mean.mean()), 0.0))
        scale = (k if self.summed else 1) / {0: 1.0, 1: 1 + self.c**2, 2: 1 + self.c}[self.rescale]
        radius = self.c * size
        if size <= NOTHING * longest or not radius:
            w = min_norm(inner, region)
            return Direction(np.full(k, 0.0 if size <= NOTHING * longest else scale / k), w)
        tied = region is not None and region.kind != "simplex"
        w = within(_Inner(inner / longest**2, self.c), region) if tied and region is not None else _inner(inner, mean, radius, longest)
        length = math.sqrt(max(float(w @ inner @ w), 0.0))
        if length <= NOTHING * longest:
            return Direction(np.zeros(k), w)
        return Direction(scale * (1 / k + radius / length * w), w)


def _inner(inner: np.ndarray, mean: np.ndarray, radius: float, longest: float) -> np.ndarray:
    """argmin over mixtures w of <g_w, g_0> + radius |g_w|; the least-norm mixture where that is shorter than what counts."""

    def at(t: float) -> np.ndarray:
        shift = t / radius
        return min_norm(inner + shift * (mean[:, None] + mean) + shift**2 * mean.mean())

    def longer(log_t: float) -> float:
        w, t = at(math.exp(log_t)), math.exp(log_t)
        return float(w @ inner @ w) / t**2 - 1

    least = min_norm(inner)
    low = max(math.sqrt(max(float(least @ inner @ least), 0.0)), NOTHING * longest)
    if longer(math.log(low)) <= 0:
        return least if low <= NOTHING * longest else at(low)
    root = brentq(longer, math.log(low), math.log(longest) + 1e-9, xtol=1e-15, rtol=1e-15)
    return at(math.exp(root))


@dataclass(frozen=True)
class _Inner:
    """<g_w, g_0> + c |g_0| |g_w| as an objective of the weights."""

    gram: np.ndarray
    c: float

    def value(self, w: np.ndarray) -> float:
        mean = self.gram.mean(axis=1)
        return float(w @ mean) + self.c * math.sqrt(mean.mean()) * math.sqrt(max(float(w @ self.gram @ w), 0.0))

    def gradient(self, w: np.ndarray) -> np.ndarray:
        mean, slope = self.gram.mean(axis=1), self.gram @ w
        length = math.sqrt(max(float(w @ slope), 1e-300))
        return np.asarray(mean + self.c * math.sqrt(mean.mean()) * slope / length)
