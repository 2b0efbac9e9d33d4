"""What problems on fitted laws share: the law, fitted where runs are given, and the aggregate of its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from mixopt.errors import InputError, listed, unknown
from mixopt.language.atoms import mean
from mixopt.language.expression import Expr, constant
from mixopt.laws import Law
from mixopt.runs import Runs

L = TypeVar("L", bound=Law)

Weights = Mapping[str, float] | Sequence[float]


def law_of(given: Runs | Law, kinds: type[L] | tuple[type[L], ...], fit: Callable[..., L], **settings: Any) -> L:
    """The law that is given, or the one that ``fit`` makes of the runs.

    Raises:
        InputError: a law of another kind, settings beside a law, or what ``fit`` raises.
    """
    if isinstance(given, Runs):
        return fit(given, **settings)
    if not isinstance(given, kinds):
        known = [k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,))]
        raise InputError(f"the first argument is a {type(given).__name__}; give Runs, or a fitted law of {listed(known)}")
    if settings:
        raise InputError(f"{listed(settings)} are settings of a fit, and the law is fitted already; give them to its fit")
    return given


def aggregate(losses: Expr, weights: Weights | None) -> Expr:
    """The mean of losses [m], or sum_j v_j L_j with the weights v [m] as they are given; a mapping may name some of the targets.

    Raises:
        InputError: weights of other targets, or that are negative or all 0.
    """
    if weights is None:
        return mean(losses)
    names = losses.index or ()
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                raise unknown("target", name, names)
        weights = [weights.get(n, 0.0) for n in names]
    v = np.asarray(weights, dtype=float)
    if v.shape != (len(names),) or not (np.isfinite(v) & (v >= 0)).all() or not v.any():
        raise InputError(f"weights of targets are >= 0 and not all 0, one for each of {listed(names)}; these are {v}")
    return constant(v) @ losses
