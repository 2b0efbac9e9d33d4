"""Descent with a line search over the feasible weights, for objectives whose value can be trusted (numpy, float64)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import rel_entr

from .region import Region
from .simplex import mirror, through_softmax
from .tilt import tilted

MEMORY = 8
NOISE = 1e-8  # of a value that is itself the end of a minimisation
SHORTEST, LONGEST = 1e-10, 1e10
FAR = 1e3
"""A step aims no farther than this: the weights are within 1.5 of each other, and rounding grows with the distance."""

FARTHEST = 5.0
"""The most by which a step moves one logit against another."""


class Oracle(Protocol):
    """An objective of the weights [k]: value and gradient, exact or nearly so."""

    def value(self, w: np.ndarray) -> float:
        """Objective at w."""

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Gradient [k] at w, each w_i taken as free."""


@dataclass(frozen=True)
class Descent:
    """Where a descent stands: the weights, value and gradient there, the last values, and the next step length.

    ``bend`` is the last curvature of a softmax step, ``pairs`` the moves and changes of the gradient of quasi-Newton ones.
    """

    w: np.ndarray
    value: float
    gradient: np.ndarray
    values: tuple[float, ...]
    length: float
    stuck: bool = False
    bend: float = 0.0
    pairs: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


def begin(oracle: Oracle, w: np.ndarray) -> Descent:
    """The start of a descent; the first step length moves the weights by about a tenth."""
    value, gradient = oracle.value(w), oracle.gradient(w)
    spread = float(np.ptp(gradient))
    return Descent(w, value, gradient, (value,), 0.1 / spread if spread > 0 else 1.0)


def spectral_step(oracle: Oracle, region: Region, at: Descent) -> Descent:
    """One step of the spectral projected gradient method: Barzilai-Borwein length, non-monotone line search.

    Source: Birgin, Martinez and Raydan 2000, Algorithm 2.2.
    """
    g = at.gradient - at.gradient.mean()  # weights sum to 1, so a constant changes nothing but the rounding
    far = FAR / max(float(np.ptp(g)), 1e-300)
    direction = region.project(at.w - min(at.length, far) * g) - at.w
    slope = float(at.gradient @ direction)
    ceiling = max(at.values)
    return searched(oracle, at, lambda share: at.w + share * direction, lambda share, _: ceiling + 1e-4 * share * slope, spectral_length)


def mirror_step(oracle: Oracle, region: Region, at: Descent) -> Descent:
    """One entropic step with backtracking: shortened until f(u) <= f(w) + <g, u - w> + KL(u || w) / rate.

    Where the values differ by no more than their own noise, gradients decide: <g(u) - g(w), u - w> <= (KL(u || w) + KL(w || u)) / rate,
    which the inequality both ways gives.
    """

    def point(share: float) -> np.ndarray:
        return tilted(region, at.w, share * at.length * at.gradient)

    def bound(share: float, u: np.ndarray) -> float:
        return at.value + float(at.gradient @ (u - at.w)) + _divergence(u, at.w) / (share * at.length)

    def even(share: float, u: np.ndarray, gradient: np.ndarray) -> bool:
        both = (_divergence(u, at.w) + _divergence(at.w, u)) / (share * at.length)
        return float((gradient - at.gradient) @ (u - at.w)) <= both

    return searched(oracle, at, point, bound, lambda old, new, share: 2 * share * old.length, even)


def softmax_step(oracle: Oracle, region: Region, at: Descent) -> Descent:
    """One step of the logits v of w = softmax(v) on the simplex: scaled, of Barzilai-Borwein length, with a non-monotone line search.

    The gradient in logits, h_i = w_i (g_i - <w, g>), vanishes with a weight, and so does its derivative: about |h_i| + B w_i^2, with B that
    of the gradient g along the last move. Divided by it, a weight whose best value is 0 falls by about a factor e a step, where plain
    gradient steps stall; it is never 0. Where the values differ by no more than their own noise, the slope along the step decides, which
    is to rise to no more than its own size (Hager and Zhang 2005, the approximate Wolfe conditions).
    """
    slopes = through_softmax(at.w, at.gradient)
    bend = at.bend or float(np.ptp(at.gradient))
    path = slopes / _stiff(at.w, slopes, bend)
    length = min(at.length if at.bend else 1.0, FARTHEST / max(float(np.ptp(path)), 1e-300))
    ceiling, falls = max(at.values), length * float(slopes @ path)
    tried = searched(
        oracle,
        replace(at, length=length),
        lambda share: np.asarray(mirror(at.w, path, share * length)),
        lambda share, _: ceiling - 1e-4 * share * falls,
        lambda old, new, share: old.length,
        lambda share, u, gradient: -length * float(through_softmax(u, gradient) @ path) <= (1 - 2e-4) * falls,
    )
    moved = tried.w - at.w
    bend = abs(float(moved @ (tried.gradient - at.gradient))) / max(float(moved @ moved), 1e-300) or bend
    return replace(tried, bend=bend, length=_logit_length(at, tried, bend))


def _stiff(w: np.ndarray, slopes: np.ndarray, bend: float) -> np.ndarray:
    """About the derivative of the gradient in logits, entry by entry [k]."""
    return np.abs(slopes) + bend * w * w + 1e-300


def _logit_length(old: Descent, new: Descent, bend: float) -> float:
    """The Barzilai-Borwein length in logits that are scaled by their stiffness, and centred by it."""
    logs = [np.log(np.maximum(w, np.finfo(float).tiny)) for w in (old.w, new.w)]
    slopes = through_softmax(new.w, new.gradient)
    stiff = _stiff(new.w, slopes, bend)
    moved = logs[1] - logs[0]
    moved = moved - float(moved @ stiff) / float(stiff.sum())
    change = float(moved @ (slopes - through_softmax(old.w, old.gradient)))
    return float(np.clip(float(moved @ (stiff * moved)) / change, 1e-4, 50.0)) if change > 0 else 2.0


def _divergence(u: np.ndarray, w: np.ndarray) -> float:
    """KL(u || w), infinite where u has what w has not."""
    return float(rel_entr(u, w).sum())


def searched(
    oracle: Oracle,
    at: Descent,
    point: Callable[[float], np.ndarray],
    bound: Callable[[float, np.ndarray], float],
    length: Callable[[Descent, Descent, float], float],
    even: Callable[[float, np.ndarray, np.ndarray], bool] | None = None,
) -> Descent:
    """The first of shorter and shorter shares of a step whose value is below a bound, or, within the noise, even.

    ``point`` gives the weights of a share, ``bound`` the bound for them, and ``length`` the next step's length by the old place, the new
    one and the share.
    """
    share = 1.0
    rounding = 1e-14 * (1 + abs(at.value))
    while share > 1e-12:
        w = point(share)
        value = oracle.value(w)
        falls = value <= bound(share, w) + rounding
        near = even is not None and abs(value - at.value) <= NOISE * (1 + abs(at.value))
        gradient = oracle.gradient(w) if falls or near else at.gradient
        if falls or (near and even is not None and even(share, w, gradient)):
            new = Descent(w, value, gradient, (*at.values, value)[-MEMORY:], at.length)
            return replace(new, length=float(np.clip(length(at, new, share), SHORTEST, LONGEST)))
        share /= 2 if share > 0.1 else 10
    return replace(at, stuck=True)


def spectral_length(old: Descent, new: Descent, share: float) -> float:
    """The Barzilai-Borwein length of the step from one place to the next."""
    moved, change = new.w - old.w, new.gradient - old.gradient
    bend = float(moved @ change)
    return float(moved @ moved) / bend if bend > 0 else LONGEST
