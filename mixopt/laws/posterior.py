"""How far a fitted law is to be doubted: laws that the runs make as likely, and intervals that unseen runs keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError
from mixopt.runs import Runs

from .curve import CurveLaw
from .laplace import drawn
from .law import Law, signs
from .validation import CrossValidation, Loss, cross_validate, predicted_at

LEVEL = 0.9


@final
@dataclass(frozen=True, eq=False)
class Gain:
    """By how much less one mixture is predicted to lose than another, and the standard error of that over the posterior."""

    value: float
    error: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval of the gain that holds this share of a normal distribution."""
        from scipy.special import ndtri

        reach = float(ndtri((1 + _share(level)) / 2)) * self.error
        return self.value - reach, self.value + reach


@final
@dataclass(frozen=True, eq=False)
class Posterior:
    """A law with S ``draws``, laws that the ``runs`` make about as likely, and the cross-validation that says how large errors are.

    Where a ``loss`` is taken, it is that of an objective, [...] of metrics [..., m]; without one each target counts alone by the
    sign that makes less better.
    """

    law: Law
    draws: tuple[Law, ...]
    runs: Runs
    validation: CrossValidation

    def predict(self, mixtures: ArrayLike, **scale: Any) -> np.ndarray:
        """The metrics by every draw [S, R, m] of mixtures [R, k]."""
        return np.array([one.predict(mixtures, **scale) for one in self.draws])

    def spread(self, mixtures: ArrayLike, loss: Loss | None = None, **scale: Any) -> np.ndarray:
        """The standard deviation over the draws, [R, m] or [R] of a loss."""
        found: np.ndarray = self._values(self.predict(mixtures, **scale), loss).std(axis=0)
        return found if loss is None else found[:, 0]

    def intervals(self, mixtures: ArrayLike, level: float = LEVEL, loss: Loss | None = None, **scale: Any) -> np.ndarray:
        """Where unseen runs of mixtures [R, k] will lie with probability ``level``: [R, m, 2], or [R, 2] of a loss.

        The centre is the law's prediction, the width q sqrt(spread^2 + rmse^2): the doubt of the parameters and the error of a run.
        q is the quantile of the out-of-fold errors so scaled, as in conformal prediction, and no normal distribution is
        assumed.

        Source: Lei et al. 2018, arXiv 1604.04173, section 5.2, with cross-validated in place of split residuals.

        Raises:
            InputError: a level that is not between 0 and 1, or one so high that the runs are too few to tell it.
        """
        rows = np.atleast_2d(np.asarray(mixtures, dtype=float))
        own = self._values(self.law.predict(rows, **scale), loss)
        spread = self._values(self.predict(rows, **scale), loss).std(axis=0)
        errors = self._values(self.validation.predicted, loss) - self._values(self.validation.measured, loss)
        with np.errstate(invalid="ignore"):
            rmse = np.sqrt(np.nanmean(errors**2, axis=0))
        at_runs = self._values(np.array([predicted_at(one, self.runs) for one in self.draws]), loss).std(axis=0)
        scaled = np.abs(errors) / np.sqrt(at_runs**2 + rmse**2)
        reach = np.array([_quantile(column[np.isfinite(column)], _share(level)) for column in scaled.T])
        half = reach * np.sqrt(spread**2 + rmse**2)
        found = np.stack([own - half, own + half], axis=-1)
        if loss is not None:
            return np.asarray(found[:, 0])
        return np.sort(signs(self.law.targets)[:, None] * found, axis=-1)

    def gain(self, better: ArrayLike, other: ArrayLike, loss: Loss, **scale: Any) -> Gain:
        """How much less ``better`` [k] loses than ``other`` [k] by the law, and the standard error of that over the draws."""
        pair = np.stack([np.asarray(other, dtype=float), np.asarray(better, dtype=float)])
        own = loss(self.law.predict(pair, **scale))
        every = loss(self.predict(pair, **scale))
        return Gain(float(own[0] - own[1]), float((every[:, 0] - every[:, 1]).std()))

    def _values(self, metrics: np.ndarray, loss: Loss | None) -> np.ndarray:
        """Losses [..., m], or of an objective [..., 1]."""
        return signs(self.law.targets) * metrics if loss is None else np.asarray(loss(metrics))[..., None]


def laplace(law: CurveLaw, runs: Runs, validation: CrossValidation, *, draws: int = 200, seed: int = 0) -> Posterior:
    """The posterior of a curve's parameters about their fit, normal with covariance Sigma (J'J + ridge P'P)^-1.

    J is the Jacobian at the fit, Sigma the covariance over targets of the out-of-fold errors, so that what the law cannot follow
    counts as noise, and targets that err together are drawn together. Bounds are kept; see ``laplace.drawn``.

    Source: MacKay 1992, Neural Computation 4 (3), 448-472 (Laplace's approximation).

    Raises:
        InputError: fewer than 2 draws.
    """
    if draws < 2:
        raise InputError(f"{draws} draws tell no spread; give at least 2, or 200 as by default")
    errors = signs(law.targets) * (validation.predicted - validation.measured)
    thetas = drawn(law, runs, errors, draws, np.random.default_rng(seed))
    return Posterior(law, tuple(replace(law, theta=theta) for theta in thetas), runs, validation)


def bootstrap(
    fit: Callable[..., Law], runs: Runs, validation: CrossValidation | None = None, *, draws: int = 100, seed: int = 0, **settings: Any
) -> Posterior:
    """Laws of any kind fitted again to runs drawn with replacement; ``fit`` is called as ``fit(runs, **settings)``.

    Source: Efron 1979, Annals of Statistics 7 (1), 1-26.

    Raises:
        InputError: fewer than 2 draws, or runs that cannot be fitted when some are left out and others twice there.
    """
    if draws < 2:
        raise InputError(f"{draws} draws tell no spread; give at least 2, or 100 as by default")
    rng = np.random.default_rng(seed)
    checked = cross_validate(runs, law=fit, seed=seed, **settings) if validation is None else validation
    again = tuple(fit(runs.subset(rng.integers(0, len(runs), len(runs))), **settings) for _ in range(draws))
    return Posterior(fit(runs, **settings), again, runs, checked)


def _share(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"the level is {level}; it is a share between 0 and 1, such as 0.9")
    return level


def _quantile(values: np.ndarray, level: float) -> float:
    """The value that a further one does not exceed with probability ``level``: the ceil((n + 1) level)-th smallest of n."""
    place = math.ceil((len(values) + 1) * level)
    if place > len(values):
        raise InputError(
            f"{len(values)} runs are too few for intervals of level {level:g}; lower it to {len(values) / (len(values) + 1):.2g}"
        )
    return float(np.sort(values)[place - 1])
