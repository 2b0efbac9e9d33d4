"""Mixtures of data experts: MixMin and MDE over log-likelihoods that are streamed from disk, never all in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import lsq_linear

from mixopt.errors import InputError, listed
from mixopt.language.atoms import quad_form
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.runs import Likelihoods, Runs
from mixopt.runtime.region import Region

STEPS = 2.0 ** -np.arange(12)
"""Parts of a Newton step that are tried together, in one pass."""


@final
@dataclass(frozen=True, eq=False)
class ExpertMixture:
    """The best mixture of experts and its certificate: the value is at most ``gap`` above the least one (objective's unit).

    ``passes`` over the shards were made. ``features`` [m] are the mean -log sum_i w_i p_i of each validation set at the weights, in
    nats; where runs calibrated them, ``A`` [m, m] >= 0 and ``B`` [m, k] are L_j(w) = A_j . features(w) + B_j . w, and ``rmse`` [m] its
    error on the runs, in the targets' units.
    """

    weights: dict[str, float]
    value: float
    gap: float
    passes: int
    features: dict[str, float]
    A: np.ndarray | None = None
    B: np.ndarray | None = None
    rmse: np.ndarray | None = None


def mixmin_streamed(likelihoods: Likelihoods, *, subject_to: Iterable[Relation] = (), tolerance: float = 1e-7) -> ExpertMixture:
    r"""min over w of -mean_d (1 / length_d) log sum_i w_i p_i(d), in nats, as ``mixmin``, with the shards read block by block.

    Newton's method: a pass over the shards adds up value, gradient [k] and Hessian [k, k] of all examples, a small conic program finds the
    step within the constraints (relations on ``Mixture(domains)``), and a second pass tries several lengths of it at once. No example is
    sampled or left out, and memory does not grow with their number; ten passes or so are enough. The Frank-Wolfe gap of the
    last pass is the certificate; it ends below ``tolerance``, relative to the value.

    Raises:
        InputError: shards that cannot be read (see ``Likelihoods.blocks``), or constraints that nothing meets.

    Source: Thudi et al. 2025, arXiv 2502.10510, which takes exponentiated gradients in memory.
    """
    k = len(likelihoods.domains)
    found = _minimised([likelihoods], np.ones(1), np.zeros(k), subject_to, tolerance)
    return _told([likelihoods], ["target"], found)


def mde(
    experts: Mapping[str, Likelihoods],
    runs: Runs | None = None,
    *,
    weights: Sequence[float] | Mapping[str, float] | None = None,
    subject_to: Iterable[Relation] = (),
    ridge: float = 1e-4,
    tolerance: float = 1e-7,
) -> ExpertMixture:
    r"""The best mixture by what k experts foretell: phi_j(w) = -mean over the tokens x of validation set j of log sum_i w_i p_i(x).

    ``experts`` has, for each validation set, the experts' log-likelihoods of its tokens. Without ``runs`` the mean of the features is
    minimised (``weights`` [m], or by set, count them otherwise): the features rank mixtures well, and are too high in value.
    With runs, whose targets are the sets, each target is first regressed on the features and the weights, L_j(w) = A_j . phi(w) + B_j . w
    with A >= 0, so that the whole stays convex, by least squares with a ridge on the deviations of the scaled coefficients.

    The survey prints the feature as -sum_i w_i log p_i(x), which is linear in w, so that its best mixture is a corner; the source
    averages probabilities and then takes the logarithm, as here. The source regresses by linear models, boosted trees and a multi-task
    Gaussian process, and searches by Vizier.

    Raises:
        InputError: sets over different domains, runs without such targets, fewer than 2 runs, or what ``mixmin_streamed`` raises.

    Source: Belenki et al. 2025, arXiv 2502.15950; section 3.3 of the survey.
    """
    names, parts = list(experts), list(experts.values())
    if not parts or any(p.domains.names != parts[0].domains.names for p in parts):
        raise InputError("mde needs the log-likelihoods of one validation set or more, all under the same experts")
    counts = _counts(names, weights)
    k, A, B, rmse = len(parts[0].domains), None, None, None
    shares, linear, passes = counts, np.zeros(k), 0
    if runs is not None:
        A, B, rmse = _calibrated(parts, names, runs, ridge)
        shares, linear, passes = counts @ A, counts @ B, 1
    found = _minimised(parts, shares, linear, subject_to, tolerance)
    return _told(parts, names, found, passes, A, B, rmse)


def expert_features(experts: Mapping[str, Likelihoods], mixtures: ArrayLike) -> np.ndarray:
    """phi_j(w) [R, m] of each validation set at mixtures [R, k], in nats, in one pass over the shards."""
    return _features(list(experts.values()), np.atleast_2d(np.asarray(mixtures, dtype=float)))


@dataclass(frozen=True)
class _Found:
    """Where Newton's method ended."""

    w: np.ndarray
    value: float
    gap: float
    passes: int


def _minimised(
    parts: Sequence[Likelihoods], shares: np.ndarray, linear: np.ndarray, subject_to: Iterable[Relation], tolerance: float, most: int = 100
) -> _Found:
    """min over w of sum_j shares_j phi_j(w) + linear . w."""
    from mixopt.api import solve
    from mixopt.solvers import Conic

    symbol, limits = Mixture(Domains(parts[0].domains.names)), tuple(subject_to)
    region = Region.compile(symbol, limits, {})
    if region.empty:
        raise InputError(region.empty)
    if region.kind == "nonlinear":
        raise InputError(
            "the constraints of a streamed mixture are linear; cap a KL divergence in the problem that mixmin states in memory"
        )
    w, passes = region.start(None), 0
    while True:
        value, slope, bend = _derivatives(parts, shares, linear, w)
        gap, passes = float(slope @ (w - region.lowest(slope))), passes + 1
        if gap <= tolerance * (1 + abs(value)) or passes >= most:
            return _Found(w, value, max(gap, 0.0), passes)
        floor = 1e-12 * (1 + np.trace(bend)) * np.eye(len(w))
        step = solve(minimize(slope @ symbol + 0.5 * quad_form(symbol - w, bend + floor), over=symbol, subject_to=limits), solver=Conic())
        ahead = step.vector - w if step.vector is not None else np.zeros(len(w))
        heights = _along(parts, shares, linear, w, ahead)
        passes += 1
        best = int(np.argmin(heights))
        if not heights[best] < value:
            return _Found(w, value, max(gap, 0.0), passes)
        w = region.layout.exact(w + STEPS[best] * ahead)


def _blocks(part: Likelihoods) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Probabilities [b, k] divided by the largest of each row, the logarithms of these [b], and 1 / length [b]."""
    for rows, lengths in part.blocks():
        top = rows.max(axis=1)
        yield np.exp(rows - top[:, None]), top, 1 / lengths


def _derivatives(
    parts: Sequence[Likelihoods], shares: np.ndarray, linear: np.ndarray, w: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient [k] and Hessian [k, k], in one pass."""
    value, slope, bend = float(linear @ w), linear.copy(), np.zeros((len(w), len(w)))
    for share, part in zip(shares, parts, strict=True):
        total, height, rise, curve = 0, 0.0, np.zeros_like(slope), np.zeros_like(bend)
        for p, top, scale in _blocks(part):
            mixed = p @ w
            ratio = p / mixed[:, None]
            height -= float(scale @ (np.log(mixed) + top))
            rise -= scale @ ratio
            curve += (ratio * scale[:, None]).T @ ratio
            total += len(p)
        value += share * height / total
        slope, bend = slope + share / total * rise, bend + share / total * curve
    return value, slope, bend


def _along(parts: Sequence[Likelihoods], shares: np.ndarray, linear: np.ndarray, w: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """The value after each of the STEPS [S] along a direction, in one pass; infinite where an example becomes impossible."""
    values = linear @ w + STEPS * (linear @ ahead)
    for share, part in zip(shares, parts, strict=True):
        total, heights = 0, np.zeros(len(STEPS))
        for p, top, scale in _blocks(part):
            at, along = p @ w, p @ ahead
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log(np.maximum(at[:, None] + along[:, None] * STEPS, 0.0))
            heights -= scale @ (logs + top[:, None])
            total += len(p)
        values = values + share / total * heights
    return values


def _features(parts: Sequence[Likelihoods], mixtures: np.ndarray) -> np.ndarray:
    """The features [R, m] of mixtures [R, k]."""
    columns = []
    for part in parts:
        total, sums = 0, np.zeros(len(mixtures))
        for p, top, scale in _blocks(part):
            with np.errstate(divide="ignore"):
                sums -= scale @ np.log(p @ mixtures.T) + scale @ top
            total += len(p)
        columns.append(sums / total)
    return np.column_stack(columns)


def _calibrated(parts: Sequence[Likelihoods], names: Sequence[str], runs: Runs, ridge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A [m, m] >= 0, B [m, k] and the error [m] of the regression of each target on the features and the weights."""
    if len(runs) < 2 or not ridge >= 0:
        raise InputError(f"{len(runs)} runs and a ridge of {ridge}; calibration needs 2 runs or more, and a ridge >= 0")
    order = [runs.domains.index(n) for n in parts[0].domains]
    mixtures = runs.mixtures[:, order]
    features = _features(parts, mixtures)
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(axis=1)))
        raise InputError(f"run {runs.ids[row]!r} gives a token probability 0, so its feature is infinite; leave the run out")
    m, k = len(names), mixtures.shape[1]
    scale = np.maximum(features.std(axis=0), 1e-12)
    table = np.hstack([features / scale, mixtures])
    centred = np.vstack([np.hstack([np.eye(m), np.zeros((m, k))]), np.hstack([np.zeros((k, m)), np.eye(k) - 1 / k])])
    bounds = (np.r_[np.zeros(m), np.full(k, -np.inf)], np.full(m + k, np.inf))
    A, B, errors = np.empty((m, m)), np.empty((m, k)), np.empty(m)
    for j, name in enumerate(names):
        i = runs.targets.index(name)
        if runs.targets.directions[i] != "min":
            raise InputError(f"the target {name!r} is to be maximised, and features are losses; give it with its sign changed")
        y = runs.metrics[:, i]
        there = np.isfinite(y)
        rows = np.vstack([table[there], np.sqrt(ridge) * y[there].std() * centred])
        found = lsq_linear(rows, np.r_[y[there], np.zeros(m + k)], bounds=bounds, tol=1e-12).x
        A[j], B[j] = found[:m] / scale, found[m:]
        errors[j] = np.sqrt(((table[there] @ found - y[there]) ** 2).mean())
    return A, B, errors


def _counts(names: Sequence[str], weights: Sequence[float] | Mapping[str, float] | None) -> np.ndarray:
    """How much each validation set counts [m]."""
    if weights is None:
        return np.full(len(names), 1 / len(names))
    counts = np.array([weights.get(n, 0.0) for n in names] if isinstance(weights, Mapping) else list(weights), dtype=float)
    odd = [n for n in weights if n not in names] if isinstance(weights, Mapping) else []
    if odd or counts.shape != (len(names),) or not (np.isfinite(counts) & (counts >= 0)).all() or not counts.any():
        raise InputError(f"weights are >= 0 and not all 0, one for each validation set {listed(names)}; these are {weights}")
    return counts


def _told(
    parts: Sequence[Likelihoods],
    names: Sequence[str],
    found: _Found,
    passes: int = 0,
    A: np.ndarray | None = None,
    B: np.ndarray | None = None,
    rmse: np.ndarray | None = None,
) -> ExpertMixture:
    features = _features(parts, found.w[None])[0]
    weights = dict(zip(parts[0].domains.names, found.w.tolist(), strict=True))
    told = dict(zip(names, features.tolist(), strict=True))
    return ExpertMixture(weights, found.value, found.gap, found.passes + passes + 1, told, A, B, rmse)
