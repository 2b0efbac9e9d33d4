"""Mixing laws fitted from proxy runs: how each target's loss depends on the mixture."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, listed
from mixopt.files import write
from mixopt.language.atoms import exp
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, constant
from mixopt.report.ranks import spearman as spearman
from mixopt.runs import Runs, Targets

from .least_squares import fit_target

_FORMAT = "mixopt exponential law 1"


@dataclass(frozen=True, eq=False)
class Exponential:
    """L_j(w) = s_j (c_j + exp(A_j . w)) for each target j, in the target's unit; s_j L_j is convex in w whatever the signs of A.

    ``c`` [m], ``A`` [m, k]; the sign s_j is 1 for a target to be minimised and -1 for one to be maximised, which is fitted
    by its negative. There is no factor before exp: on the simplex it is the same as a constant added to A_j.
    ``seen`` [k] is the largest weight of each domain in the runs, ``rmse`` [m] the error on them, ``converged`` [m]
    whether the least squares ended by its tolerances. One target alone is best at a vertex of the simplex
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
        """Fit every target by least squares to the runs that have it, from a variable-projection start with the analytic Jacobian.

        Minimises sum_r rho(L(w_r) - y_r) + ridge sum_i (A_i - mean A)^2 for each target: rho is the square, or with
        ``loss="huber"`` the square up to ``huber_delta`` (target units) and linear beyond. As in both sources a floor c is
        >= 0 where all values (of a target to be minimised) are > 0; else it stays within 100 times their spread below the
        smallest. A ridge of 1e-4 to 1e-3 (target units squared) is for few runs, Huber for runs that went wrong; plain
        squares fit clean tables best.

        Raises:
            InputError: no more runs than the k + 1 parameters, or mixtures that do not tell them apart, without a ridge;
                a constant target; a setting out of range.
        """
        _check_settings(ridge, loss, huber_delta)
        _check_runs(runs, ridge)
        signs = _signs(runs.targets)
        fits = [
            fit_target(runs.mixtures[there], s * y[there], ridge, loss, huber_delta)
            for s, y in zip(signs, runs.metrics.T, strict=True)
            for there in (np.isfinite(y),)
        ]
        c, A = np.array([f[0] for f in fits]), np.array([f[1] for f in fits])
        errors = c + np.exp(runs.mixtures @ A.T) - signs * runs.metrics
        arrays = (c, A, runs.mixtures.max(0), np.sqrt(np.nanmean(errors**2, axis=0)), np.array([f[2] for f in fits]))
        for array in arrays:
            array.flags.writeable = False
        return cls(runs.domains, runs.targets, *arrays)

    @property
    def sign(self) -> np.ndarray:
        """1 for a target to be minimised, -1 for one to be maximised [m]."""
        return _signs(self.targets)

    def predict(self, mixtures: ArrayLike) -> np.ndarray:
        """Predicted metrics [R, m] of mixtures [R, k], or [m] of one mixture [k]; rows are taken as they are."""
        rows = np.asarray(mixtures, dtype=float)
        if rows.ndim not in (1, 2) or rows.shape[-1] != len(self.domains):
            raise InputError(f"mixtures have shape {rows.shape}, but the law is over {len(self.domains)} domains {listed(self.domains)}")
        with np.errstate(over="ignore"):  # far from the runs the law may well say infinity
            return np.asarray(self.sign * (self.c + np.exp(rows @ self.A.T)))

    def __call__(self, w: Expr) -> Expr:
        """The metrics of a mixture expression [k] as an expression [m], its entries named by target; domains are bound by name.

        Convex where every target is to be minimised, concave where every one is to be maximised; where they differ, write
        problems with ``losses`` or ``law[target]``.
        """
        loss = self.losses(w)
        if (self.sign == 1).all():
            return loss
        return -loss if (self.sign == -1).all() else constant(self.sign, index=self.targets.names) * loss

    def losses(self, w: Expr) -> Expr:
        """s_j L_j(w) = c_j + exp(A_j . w) as an expression [m]: metrics with the sign that makes less better, convex in w."""
        return constant(self.c, index=self.targets.names) + exp(constant(self.A) @ _bound(w, self.domains))

    def __getitem__(self, target: str) -> TargetLaw:
        """The law of one target; raises with the nearest name suggested."""
        j = self.targets.index(target)
        return TargetLaw(self.domains, target, float(self.c[j]), self.A[j], int(self.sign[j]))

    def beyond(self, weights: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
        """The domains whose weight [k] exceeds the largest in any run, and by how much: there the law extrapolates."""
        excess = self.domains.weights(weights) - self.seen
        return {name: float(e) for name, e in zip(self.domains, excess, strict=True) if e > 1e-9}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the law as JSON; ``load`` reads it back equal."""
        content = {
            "format": _FORMAT,
            "domains": {"names": self.domains.names, "tokens": self.domains.tokens},
            "targets": {"names": self.targets.names, "directions": self.targets.directions, "units": self.targets.units},
            **{name: getattr(self, name).tolist() for name in ("c", "A", "seen", "rmse", "converged")},
        }
        write(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Exponential:
        """The law that ``save`` wrote.

        Raises:
            InputError: no such file, or not a saved law.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a saved law: {error}") from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InputError(f"{path} is no saved law; give a file written by law.save(path), as mixopt fit writes law.json")
        try:
            return cls._restored(content)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is a saved law that was changed or cut: {error!r}; fit again") from None

    @classmethod
    def _restored(cls, content: Mapping[str, Any]) -> Exponential:
        named = content["targets"]
        ways, units = (dict(zip(named["names"], named[part], strict=True)) for part in ("directions", "units"))
        domains, targets = Domains(**content["domains"]), Targets(named["names"], ways, units)
        kinds = {"c": float, "A": float, "seen": float, "rmse": float, "converged": bool}
        arrays = {name: np.array(content[name], dtype=kind) for name, kind in kinds.items()}
        m, k = len(targets), len(domains)
        shapes = {name: (m, k) if name == "A" else (k,) if name == "seen" else (m,) for name in kinds}
        for name, array in arrays.items():
            if array.shape != shapes[name]:
                raise ValueError(f"{name} has shape {array.shape}, not {shapes[name]}")
            array.flags.writeable = False
        return cls(domains, targets, **arrays)

    def __str__(self) -> str:
        width = max(map(len, self.targets.names))
        rows = [f"{'target':<{width}}  {'floor c':>8}  {'rmse':>8}  vertex"]
        for j, name in enumerate(self.targets.names):
            ended = "" if self.converged[j] else "  (not converged)"
            rows.append(f"{name:<{width}}  {self.c[j]:8.4g}  {self.rmse[j]:8.2g}  {self[name].vertex}{ended}")
        return "\n".join(rows)


@dataclass(frozen=True, eq=False)
class TargetLaw:
    """The law sign (c + exp(A . w)) of one target, ``A`` [k]; its call gives a scalar expression."""

    domains: Domains
    target: str
    c: float
    A: np.ndarray
    sign: int = 1

    def __call__(self, w: Expr) -> Expr:
        """The metric of a mixture expression [k] as a scalar expression []: convex, or concave for a target to be maximised."""
        loss = self.c + exp(constant(self.A, index=self.domains.names) @ _bound(w, self.domains))
        return loss if self.sign == 1 else -loss

    @property
    def vertex(self) -> str:
        """The domain whose vertex is this target's best over the whole simplex: exp rises, so it is that of the smallest A_i."""
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
    """Predict every run by the exponential law fitted to the other folds, and measure the errors on the metrics that are there.

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
    signs, y = _signs(runs.targets), runs.metrics
    figures = np.array([_figures(s * p, s * t) for s, p, t in zip(signs, predicted.T, y.T, strict=True)])
    return CrossValidation(runs.targets, predicted, fold, *figures.T)


def _figures(predicted: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float, float]:
    """rmse, mae, Spearman, R2 and regret of one target [R] to be minimised, over the runs that have it."""
    there = np.isfinite(y)
    predicted, y = predicted[there], y[there]
    errors, scatter = predicted - y, y - y.mean()
    taken = y[predicted.argmin()]
    return (
        math.sqrt((errors**2).mean()),
        float(np.abs(errors).mean()),
        spearman(predicted, y),
        float(1 - (errors**2).sum() / (scatter**2).sum()),
        float((taken - y.min()) / (y.mean() - y.min())),
    )


def _signs(targets: Targets) -> np.ndarray:
    return np.array([1 if way == "min" else -1 for way in targets.directions])


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
    k = len(runs.domains)
    mend = "give ridge=1e-3, or more runs"
    for name, y in zip(runs.targets.names, runs.metrics.T, strict=True):
        there = np.isfinite(y)
        R = int(there.sum())
        if (3 if ridge else k + 2) > R:
            lacking = f"{R} runs with target {name!r}" if len(runs) > R else f"{R} runs"
            raise InputError(f"{lacking} are too few for the {k + 1} parameters of each target ({k} domains and a floor); {mend}")
        if np.ptp(y[there]) <= 1e-12 * max(1.0, float(np.abs(y[there]).max())):
            raise InputError(f"target {name!r} is {y[there][0]:.6g} in every run, so there is nothing to fit; leave it out of the table")
        if ridge == 0:
            _check_rank(runs.domains, runs.mixtures[there], mend)


def _check_rank(domains: Domains, mixtures: np.ndarray, mend: str) -> None:
    singular = np.linalg.svd(mixtures, compute_uv=False)
    if singular[-1] < 1e-9 * singular[0]:
        unseen = [n for n, top in zip(domains, mixtures.max(0), strict=True) if top == 0]
        why = f"{listed(unseen)} has weight 0 in all of them" if unseen else "some weights always move together"
        raise InputError(f"the {len(mixtures)} runs do not tell all {len(domains)} domains apart: {why}; {mend} in which they differ")
