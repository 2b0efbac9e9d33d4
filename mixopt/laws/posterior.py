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
from .leverage import left_out, without_fold
from .planned import Planned
from .validation import CrossValidation, Loss, cross_validate, judged, predicted_at

LEVEL = 0.9
_MOVES = 10


@final
@dataclass(frozen=True, eq=False)
class Gain:
    """By how much less one mixture is predicted to lose than another, the standard error of that, and its degrees of freedom."""

    value: float
    error: float
    degrees: float = math.inf

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval of the gain that holds this share of Student's distribution."""
        reach = reach_of(level, self.degrees) * self.error
        return self.value - reach, self.value + reach


@final
@dataclass(frozen=True, eq=False)
class Posterior:
    """A law with S ``draws``, laws that the runs make about as likely, and the ``validation`` that says how large errors are.

    That of a law of curves leaves out one run at a time, to first order (``leverage.left_out``). ``widen`` is the factor by which the
    draws lie too close to each other, as those of a jackknife do; ``unseen`` says that at a run they differ as much as at one unseen.

    Where a ``loss`` is taken, it is that of an objective, [...] of metrics [..., m]; without one each target counts alone by the
    sign that makes less better.
    """

    law: Law
    draws: tuple[Law, ...]
    validation: CrossValidation
    widen: float = 1.0
    unseen: bool = False

    def predict(self, mixtures: ArrayLike, **scale: Any) -> np.ndarray:
        """The metrics by every draw [S, R, m] of mixtures [R, k]."""
        return np.array([one.predicted(mixtures, **scale) for one in self.draws])

    def spread(self, mixtures: ArrayLike, loss: Loss | None = None, **scale: Any) -> np.ndarray:
        """The standard deviation over the draws, [R, m] or [R] of a loss."""
        found = self.widen * self._values(self.predict(mixtures, **scale), loss).std(axis=0)
        return np.asarray(found if loss is None else found[..., 0])

    def intervals(self, mixtures: ArrayLike, level: float = LEVEL, loss: Loss | None = None, **scale: Any) -> np.ndarray:
        """Where unseen runs of mixtures [R, k] will lie with probability ``level``: [R, m, 2], or [R, 2] of a loss.

        The centre is the law's prediction, the half width q sqrt(spread^2 + rmse^2): the doubt of the parameters and the error of a run.
        q is the quantile of the out-of-fold errors so scaled, as in conformal prediction, and no normal distribution is assumed.
        An out-of-fold error is that of a fit which has not seen the run, so it is scaled by the doubt without its fold
        (``leverage.without_fold``); that of the fit to all runs is smaller there than at a run unseen, and intervals would be too wide.
        Of linear laws with normal errors they come to those of multivariate regression, for any linear aggregate of targets.

        Source: Lei et al. 2018, arXiv 1604.04173, section 5.2 (conformal prediction, locally weighted), with cross-validated in place
        of split residuals.

        Raises:
            InputError: a level that is not between 0 and 1, or one so high that the runs are too few to tell it.
        """
        rows = np.atleast_2d(np.asarray(mixtures, dtype=float))
        own, folds = self._values(self.law.predicted(rows, **scale), loss), None if self.unseen else self.validation.folds
        errors = self._values(self.validation.predicted, loss) - self._values(self.validation.measured, loss)
        at_runs = self._values(np.array([predicted_at(one, self.validation.runs) for one in self.draws]), loss)
        with np.errstate(invalid="ignore", over="ignore"):  # a draw may well say infinity far from the runs
            spread = self.widen * self._values(self.predict(rows, **scale), loss).std(axis=0)
            apart = self.widen * (at_runs - at_runs.mean(axis=0)) / math.sqrt(len(at_runs))
        sizes = [_size(column, apart[..., j], folds, _share(level)) for j, column in enumerate(errors.T)]
        rmse, reach = np.array(sizes).T
        half = reach * np.sqrt(rmse**2 + np.where(np.isfinite(spread), spread, np.inf) ** 2)
        found = np.stack([own - half, own + half], axis=-1)
        if loss is not None:
            return np.asarray(found[:, 0])
        return np.sort(signs(self.law.targets)[:, None] * found, axis=-1)

    def gain(self, better: ArrayLike, other: ArrayLike, loss: Loss, **scale: Any) -> Gain:
        """How much less ``better`` [k] loses than ``other`` [k] by the law, and the standard error of that over the draws."""
        pair = np.stack([np.asarray(other, dtype=float), np.asarray(better, dtype=float)])
        own = loss(self.law.predicted(pair, **scale))
        every = loss(self.predict(pair, **scale))
        return Gain(float(own[0] - own[1]), self.widen * float((every[:, 0] - every[:, 1]).std()), len(self.draws) - 1)

    def _values(self, metrics: np.ndarray, loss: Loss | None) -> np.ndarray:
        """Losses [..., m], or of an objective [..., 1]."""
        return signs(self.law.targets) * metrics if loss is None else np.asarray(loss(metrics))[..., None]


def laplace(law: CurveLaw, runs: Runs, validation: CrossValidation | None = None, *, draws: int = 200, seed: int = 0) -> Posterior:
    """The posterior of a curve's parameters about their fit to the runs, normal with covariance Sigma (J'J + ridge P'P)^-1.

    J is the Jacobian at the fit, Sigma the covariance over targets of the errors without each run, so that what the law cannot follow
    counts as noise, and targets that err together are drawn together. Bounds are kept; see ``laplace.drawn``. A ``validation`` tells the
    errors of a fit that leaves the runs no freedom, and of no other.

    Source: MacKay 1992, Neural Computation 4 (3), 448-472 (Laplace's approximation).

    Raises:
        InputError: fewer than 2 draws, or a fit that leaves no freedom where no validation is given.
    """
    if draws < 2:
        raise InputError(f"{draws} draws tell no spread; give at least 2, or 200 as by default")
    checked = _checked(law, runs, validation)
    if checked is None:
        raise InputError(f"a fit of {law.theta.shape[1]} parameters to {len(runs)} runs leaves no errors to tell; give cross_validate(...)")
    errors = signs(law.targets) * (checked.predicted - checked.measured)
    thetas = drawn(law, runs, errors, draws, np.random.default_rng(seed))
    return Posterior(law, tuple(replace(law, theta=theta) for theta in thetas), checked)


def bootstrap(
    fit: Callable[..., Law], runs: Runs, validation: CrossValidation | None = None, *, draws: int = 100, seed: int = 0, **settings: Any
) -> Posterior:
    """Laws of any kind fitted again to runs drawn with replacement; ``fit`` is called as ``fit(runs, **settings)``.

    ``validation`` tells the errors of a law that is not of curves; by default five folds do.

    Source: Efron 1979, Annals of Statistics 7 (1), 1-26.

    Raises:
        InputError: fewer than 2 draws, or runs that cannot be fitted when some are left out and others twice there.
    """
    if draws < 2:
        raise InputError(f"{draws} draws tell no spread; give at least 2, or 100 as by default")
    rng = np.random.default_rng(seed)
    again = tuple(fit(runs.subset(rng.integers(0, len(runs), len(runs))), **settings) for _ in range(draws))
    law = fit(runs, **settings)
    return Posterior(law, again, _checked(law, runs, validation) or cross_validate(runs, law=fit, seed=seed, **settings))


def jackknife(
    fit: Callable[..., Law], runs: Runs, validation: CrossValidation | None = None, *, groups: int = 10, seed: int = 0, **settings: Any
) -> Posterior:
    """Laws fitted again without each of g regions of the mixtures in turn; their deviations are widened by sqrt(g - 1).

    Left out at random, runs tell how much noise there is in a fit, but not that a law bends wrongly: it is as wrong without
    any few of them. Without a whole region it bends otherwise, and by how much it does is the doubt of a law that is only nearly right.
    A region without which the law cannot be fitted is kept. ``validation`` is as of ``bootstrap``.

    Source: Efron and Stein 1981, Annals of Statistics 9 (3), 586-596; by blocks, Kuensch 1989, Annals of Statistics 17 (3), 1217-1241.

    Raises:
        InputError: fewer than 2 groups, or runs that cannot be fitted without any one region.
    """
    if groups < 2:
        raise InputError(f"{groups} regions leave nothing to compare; give at least 2, or 10 as by default")
    place = regions(runs.mixtures, groups)
    draws, lack = [], ""
    for region in range(place.max() + 1):
        try:
            draws.append(fit(runs.subset(place != region), **settings))
        except InputError as error:
            lack = str(error)
    if len(draws) < 2:
        raise InputError(f"the runs cannot be fitted without a region of them: {lack or 'all are in one place'}")
    law = fit(runs, **settings)
    checked = _checked(law, runs, validation) or cross_validate(runs, law=fit, seed=seed, **settings)
    alone = len(np.unique(checked.folds)) == len(runs)  # one draw at least is without the run, as its error is
    return Posterior(law, tuple(draws), checked, math.sqrt(len(draws) - 1), alone)


def regions(mixtures: np.ndarray, count: int) -> np.ndarray:
    """The region [R] of each mixture [R, k], ``count`` at most: around centres as far from each other as can be, moved to their means."""
    centres = mixtures[:1]
    while len(centres) < min(count, len(mixtures)):
        far = np.abs(mixtures[:, None] - centres).sum(axis=2).min(axis=1)
        centres = np.vstack([centres, mixtures[far.argmax()]])
    for _ in range(_MOVES):
        place = np.abs(mixtures[:, None] - centres).sum(axis=2).argmin(axis=1)
        centres = np.array([mixtures[place == c].mean(axis=0) for c in np.unique(place)])
    return np.unique(np.abs(mixtures[:, None] - centres).sum(axis=2).argmin(axis=1), return_inverse=True)[1]


def reach_of(level: float, degrees: float) -> float:
    """How many standard errors to either side hold this share of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(min(degrees, 1e6), (1 + _share(level)) / 2))


def _checked(law: Law, runs: Runs, validation: CrossValidation | None) -> CrossValidation | None:
    """The errors of fits without each run, where the law is of curves and its fit leaves some freedom, or else the validation given."""
    own = law.law if isinstance(law, Planned) else law
    found = left_out(own, runs) if isinstance(own, CurveLaw) else None
    return validation if found is None else judged(runs, found, np.arange(len(runs)))


def _share(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"the level is {level}; it is a share between 0 and 1, such as 0.9")
    return level


def _size(errors: np.ndarray, apart: np.ndarray, folds: np.ndarray | None, level: float) -> tuple[float, float]:
    """The rmse of out-of-fold errors [R], and how many times the error that was to be expected they reach.

    ``apart`` [S, R] are the deviations of the draws, whose squares sum to the variance; without ``folds`` it is that of an unseen run.
    """
    there = np.isfinite(errors) & np.isfinite(apart).all(axis=0)
    found, rmse = errors[there], float(np.sqrt((errors[there] ** 2).sum() / max(there.sum(), 1)))
    doubt = without_fold(apart[:, there] / (rmse or 1.0), None if folds is None else folds[there])
    return rmse, _quantile(np.abs(found) / ((rmse or 1.0) * np.sqrt(1 + doubt)), level)


def _quantile(values: np.ndarray, level: float) -> float:
    """The value that a further one does not exceed with probability ``level``: the ceil((n + 1) level)-th smallest of n."""
    place = math.ceil((len(values) + 1) * level)
    if place > len(values):
        raise InputError(
            f"{len(values)} runs are too few for intervals of level {level:g}; lower it to {len(values) / (len(values) + 1):.2g}"
        )
    return float(np.sort(values)[place - 1])
