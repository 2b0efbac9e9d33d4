"""Mixing laws fitted from proxy runs: how each target's loss depends on the mixture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, listed
from mixopt.language.atoms import exp
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.report.ranks import spearman as spearman
from mixopt.runs import Runs, Targets

_START_GAPS = np.geomspace(1e-3, 1e2, 60)
_FARTHEST_FLOOR = 1e2
_REWEIGHTINGS = 10


@dataclass(frozen=True, eq=False)
class Exponential:
    """L_j(w) = c_j + exp(A_j . w) for each target j, in the target's unit; convex in w whatever the signs of A.

    ``c`` [m], ``A`` [m, k]. There is no factor before exp: on the simplex it is the same as a constant added to A_j.
    ``seen`` [k] is the largest weight of each domain in the runs, ``rmse`` [m] the error on them, ``converged`` [m]
    whether the least squares ended by its tolerances. One target alone is smallest at a vertex of the simplex
    (``law[target].vertex``); mixtures come from several targets, a KL term or caps.

    Source: Ye et al. 2024, arXiv 2403.16952, Eq. 7, without the redundant factor; Chen et al. 2026, arXiv 2602.12237.
    """

    domains: Domains
    targets: Targets
    c: np.ndarray
    A: np.ndarray
    seen: np.ndarray
    rmse: np.ndarray
    converged: np.ndarray

    @classmethod
    def fit(cls, runs: Runs, ridge: float = 0.0, loss: str = "linear", huber_delta: float = 0.02) -> Exponential:
        """Fit every target of the runs by least squares, from a variable-projection start with the analytic Jacobian.

        Minimises sum_r rho(L(w_r) - y_r) + ridge sum_i (A_i - mean A)^2 for each target: rho is the square, or with
        ``loss="huber"`` the square up to ``huber_delta`` (target units) and linear beyond. As in both sources a floor c is
        >= 0 where all values are > 0; else it stays within 100 times their spread below the smallest.
        A ridge of 1e-4 to 1e-3 (target units squared) is for few runs, Huber for runs that went wrong; plain squares fit
        clean tables best.

        Raises:
            InputError: no more runs than the k + 1 parameters, or mixtures that do not tell them apart, without a ridge;
                a target that is missing in some run, constant, or to be maximised; a setting out of range.
        """
        _check_settings(ridge, loss, huber_delta)
        _check_runs(runs, ridge)
        fits = [_fit_target(runs.mixtures, y, ridge, loss, huber_delta) for y in runs.metrics.T]
        c, A = np.array([f[0] for f in fits]), np.array([f[1] for f in fits])
        errors = c + np.exp(runs.mixtures @ A.T) - runs.metrics
        arrays = (c, A, runs.mixtures.max(0), np.sqrt((errors**2).mean(0)), np.array([f[2] for f in fits]))
        for array in arrays:
            array.flags.writeable = False
        return cls(runs.domains, runs.targets, *arrays)

    def predict(self, mixtures: ArrayLike) -> np.ndarray:
        """Predicted metrics [R, m] of mixtures [R, k], or [m] of one mixture [k]; rows are taken as they are."""
        rows = np.asarray(mixtures, dtype=float)
        if rows.ndim not in (1, 2) or rows.shape[-1] != len(self.domains):
            raise InputError(f"mixtures have shape {rows.shape}, but the law is over {len(self.domains)} domains {listed(self.domains)}")
        with np.errstate(over="ignore"):  # far from the runs the law may well say infinity
            return np.asarray(self.c + np.exp(rows @ self.A.T))

    def __call__(self, w: Expr) -> Expr:
        """The law of a mixture expression [k] as an expression [m], its entries named by target; domains are bound by name."""
        return constant(self.c, index=self.targets.names) + exp(constant(self.A) @ _bound(w, self.domains))

    def __getitem__(self, target: str) -> TargetLaw:
        """The law of one target; raises with the nearest name suggested."""
        j = self.targets.index(target)
        return TargetLaw(self.domains, target, float(self.c[j]), self.A[j])

    def beyond(self, weights: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
        """The domains whose weight [k] exceeds the largest in any run, and by how much: there the law extrapolates."""
        excess = self.domains.weights(weights) - self.seen
        return {name: float(e) for name, e in zip(self.domains, excess, strict=True) if e > 1e-9}

    def __str__(self) -> str:
        width = max(map(len, self.targets.names))
        rows = [f"{'target':<{width}}  {'floor c':>8}  {'rmse':>8}  vertex"]
        for j, name in enumerate(self.targets.names):
            ended = "" if self.converged[j] else "  (not converged)"
            rows.append(f"{name:<{width}}  {self.c[j]:8.4g}  {self.rmse[j]:8.2g}  {self[name].vertex}{ended}")
        return "\n".join(rows)


@dataclass(frozen=True, eq=False)
class TargetLaw:
    """The law c + exp(A . w) of one target, ``A`` [k]; its call gives a scalar expression."""

    domains: Domains
    target: str
    c: float
    A: np.ndarray

    def __call__(self, w: Expr) -> Expr:
        """The law of a mixture expression [k] as a scalar expression []."""
        return self.c + exp(constant(self.A, index=self.domains.names) @ _bound(w, self.domains))

    @property
    def vertex(self) -> str:
        """The domain whose vertex is this target's minimum over the whole simplex: exp rises, so it is that of the smallest A_i."""
        return self.domains.names[int(self.A.argmin())]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Errors of out-of-fold predictions [R, m], per target [m]: rmse and mae in target units, Spearman, R2 and regret.

    ``regret`` is the metric of the run that the predictions call best less that of the best run, as a share of what a
    run drawn at random loses: 0 is the best run, 1 is no better than chance. A value that is not defined is NaN.
    """

    targets: Targets
    predicted: np.ndarray
    folds: np.ndarray
    rmse: np.ndarray
    mae: np.ndarray
    spearman: np.ndarray
    r2: np.ndarray
    regret: np.ndarray

    def table(self) -> str:
        """One line a target and one for the mean."""
        width = max(len("target"), *map(len, self.targets.names))
        columns = ("rmse", "mae", "spearman", "r2", "regret")
        values = np.stack([getattr(self, c) for c in columns], 1)
        lines = [f"{'target':<{width}}" + "".join(f"  {c:>8}" for c in columns)]
        for name, row in zip((*self.targets.names, "mean"), (*values, values.mean(0)), strict=True):
            lines.append(f"{name:<{width}}" + "".join(f"  {v:8.4f}" for v in row))
        return "\n".join(lines)


def cross_validate(
    runs: Runs, folds: int = 5, seed: int = 0, *, ridge: float = 0.0, loss: str = "linear", huber_delta: float = 0.02
) -> CrossValidation:
    """Predict every run by the exponential law fitted to the other folds, and measure the errors.

    Raises:
        InputError: fewer than 2 folds or more than runs, or folds whose rest cannot be fitted (see ``Exponential.fit``).
    """
    if not 2 <= folds <= len(runs):
        raise InputError(f"{folds} folds of {len(runs)} runs; give from 2 to {len(runs)}")
    fold = np.empty(len(runs), dtype=int)
    fold[np.random.default_rng(seed).permutation(len(runs))] = np.arange(len(runs)) % folds
    predicted = np.empty_like(runs.metrics)
    for f in range(folds):
        law = Exponential.fit(runs.subset(fold != f), ridge, loss, huber_delta)
        predicted[fold == f] = law.predict(runs.mixtures[fold == f])
    errors, y = predicted - runs.metrics, runs.metrics
    scatter = y - y.mean(0)
    taken = y[predicted.argmin(0), np.arange(y.shape[1])]
    return CrossValidation(
        runs.targets,
        predicted,
        fold,
        rmse=np.sqrt((errors**2).mean(0)),
        mae=np.abs(errors).mean(0),
        spearman=np.array([spearman(a, b) for a, b in zip(predicted.T, y.T, strict=True)]),
        r2=1 - (errors**2).sum(0) / (scatter**2).sum(0),
        regret=(taken - y.min(0)) / (y.mean(0) - y.min(0)),
    )


_Rho = Callable[[np.ndarray], np.ndarray]


def _fit_target(weights: np.ndarray, y: np.ndarray, ridge: float, loss: str, delta: float) -> tuple[float, np.ndarray, bool]:
    """c, A [k] and whether it converged, for one target [R]."""
    from scipy.optimize import least_squares

    R, k = weights.shape
    rho = _rho(loss, R)
    centre = math.sqrt(ridge) * (np.eye(k) - 1 / k)[: k if ridge else 0]

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x[0] + np.exp(weights @ x[1:]) - y, centre @ x[1:]])

    def jacobian(x: np.ndarray) -> np.ndarray:
        top = np.column_stack([np.ones(R), np.exp(weights @ x[1:])[:, None] * weights])
        return np.vstack([top, np.column_stack([np.zeros(len(centre)), centre])])

    def cost(x: np.ndarray) -> float:
        return float(rho((residuals(x) / delta) ** 2)[0].sum())

    lowest = 0.0 if y.min() > 0 else float(y.min() - _FARTHEST_FLOOR * np.ptp(y))
    bounds = np.full((2, k + 1), [[-np.inf], [np.inf]])
    bounds[0, 0] = lowest
    tight = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12, "max_nfev": 500}
    with np.errstate(over="ignore", invalid="ignore"):  # a trial step may overflow; least_squares then shortens it
        start = min(_starts(weights, y, centre, rho, delta, loss == "huber", lowest), key=cost)
        result = least_squares(residuals, start, jacobian, bounds, x_scale="jac", loss=rho, f_scale=delta, **tight)
    return float(result.x[0]), result.x[1:], bool(result.status > 0)


def _starts(
    weights: np.ndarray, y: np.ndarray, centre: np.ndarray, rho: _Rho, delta: float, robust: bool, lowest: float
) -> list[np.ndarray]:
    """Variable projection: for each trial floor c, log(y - c) is linear in w; least squares weighted by y - c gives A.

    Under a robust rho the least squares are reweighted a few times, and the floor is sought below the lower tenth, so that
    neither a high nor a low outlier decides where the fit begins; runs below the floor do not count.
    """
    low, high = np.quantile(y, (0.1, 0.9)) if robust else (y.min(), y.max())
    starts = []
    for gap in _START_GAPS * (high - low or np.ptp(y)):
        c = max(low - gap, lowest)
        above = np.maximum(y - c, 0)
        logs = np.log(np.where(above > 0, above, 1))
        trust = np.ones_like(y)
        for _ in range(_REWEIGHTINGS if robust else 1):
            rows = weights * (above * trust)[:, None]
            gram = rows.T @ rows + centre.T @ centre
            gram.flat[:: len(gram) + 1] += 1e-12 * np.trace(gram) + np.finfo(float).tiny
            a = np.linalg.solve(gram, rows.T @ (above * trust * logs))
            trust = np.sqrt(rho(((np.exp(weights @ a) - above) / delta) ** 2)[1])
        starts.append(np.append(c, a))
    return starts


def _rho(loss: str, R: int) -> _Rho:
    """scipy's rho and its two derivatives [3, R + penalties]: Huber on the R runs only, so that a ridge stays square."""

    def rho(z: np.ndarray) -> np.ndarray:
        out = np.stack([z, np.ones_like(z), np.zeros_like(z)])
        if loss == "huber":
            far = np.flatnonzero(z[:R] > 1)
            root = np.sqrt(z[far])
            out[:, far] = 2 * root - 1, 1 / root, -0.5 / (root * z[far])
        return out

    return rho


def _bound(w: Expr, domains: Domains) -> Expr:
    """The mixture expression in the law's order of domains."""
    if not isinstance(w, Expr):
        raise InputError(
            f"a law is called with a mixture symbol, and this is a {type(w).__name__}; for numbers write law.predict(mixtures)"
        )
    if w.shape != (len(domains),) or (w.index is not None and set(w.index) != set(domains)):
        found = f"is over {listed(w.index)}" if w.index else f"has shape {w.shape}"
        raise InputError(f"the law is over the domains {domains}, but '{w}' {found}; fit the law on runs over the same domains")
    return w if w.index in (None, domains.names) else w[list(domains)]


def _check_settings(ridge: float, loss: str, huber_delta: float) -> None:
    if not (math.isfinite(ridge) and ridge >= 0):
        raise InputError(f"ridge is {ridge}; it must be a finite number >= 0")
    if loss not in ("linear", "huber"):
        raise InputError(f"loss is {loss!r}; it is 'linear' (least squares) or 'huber'")
    if not (math.isfinite(huber_delta) and huber_delta > 0):
        raise InputError(f"huber_delta is {huber_delta}; it must be a finite number > 0, in the targets' unit")


def _check_runs(runs: Runs, ridge: float) -> None:
    R, k = runs.mixtures.shape
    mend = "give ridge=1e-3, or more runs"
    if (3 if ridge else k + 2) > R:
        raise InputError(f"{R} runs are too few for the {k + 1} parameters of each target ({k} domains and a floor); {mend}")
    for name, way, y in zip(runs.targets.names, runs.targets.directions, runs.metrics.T, strict=True):
        if not np.isfinite(y).all():
            gone = [i for i, bad in zip(runs.ids, ~np.isfinite(y), strict=True) if bad]
            raise InputError(
                f"target {name!r} has no value in {len(gone)} of {R} runs {listed(gone)}; leave them out with runs.subset(...)"
            )
        if np.ptp(y) <= 1e-12 * max(1.0, float(np.abs(y).max())):
            raise InputError(f"target {name!r} is {y[0]:.6g} in every run, so there is nothing to fit; leave it out of the table")
        if way == "max":
            raise InputError(
                f"target {name!r} is to be maximised, but the law has a floor; give a loss or an error rate, which falls, instead"
            )
    singular = np.linalg.svd(runs.mixtures, compute_uv=False)
    if ridge == 0 and singular[-1] < 1e-9 * singular[0]:
        unseen = [n for n, top in zip(runs.domains, runs.mixtures.max(0), strict=True) if top == 0]
        why = f"{listed(unseen)} has weight 0 in all of them" if unseen else "some weights always move together"
        raise InputError(f"the {R} runs do not tell all {k} domains apart: {why}; {mend} in which they differ")
