"""What is odd in a table of runs: mixtures that occur more than once, and metrics far from all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mixopt.errors import listed

if TYPE_CHECKING:
    from .table import Runs

_SAME = 9
"""Mixtures are the same where they agree to this many decimals."""
_LAST = 1e-12
"""Replicates that differ by less than this share of their size are the same number."""
_MANY = 30
"""Degrees of freedom from which on the noise between replicates is taken as known."""
_FAR = 8.0
"""Robust standard deviations from the median from which on a metric is pointed out."""


def replicates(runs: Runs) -> tuple[tuple[int, ...], ...]:
    """The positions of runs with the same mixture, and the same N, D and steps: groups of two or more."""
    return alike(runs.mixtures, runs.params, runs.tokens, runs.steps)


def alike(mixtures: np.ndarray, *scales: np.ndarray | None) -> tuple[tuple[int, ...], ...]:
    """The positions of equal rows of mixtures [R, k] with equal scales [R], where these are known: groups of two or more."""
    columns = [mixtures.round(_SAME), *(a[:, None] for a in scales if a is not None)]
    groups: dict[bytes, list[int]] = {}
    for r, row in enumerate(np.hstack(columns) + 0.0):
        groups.setdefault(row.tobytes(), []).append(r)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def spread(runs: Runs) -> np.ndarray:
    """The pooled standard deviation of each target [m] between runs of one mixture, in its unit; NaN where there are none."""
    squares, freedom = _pooled(runs)
    sizes = np.nanmax(np.abs(np.where(np.isfinite(runs.metrics), runs.metrics, 0)), axis=0)
    with np.errstate(invalid="ignore"):
        found = np.sqrt(squares / np.where(freedom > 0, freedom, np.nan))
    return np.asarray(np.where(found <= _LAST * sizes, 0.0, found))


def _pooled(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """The squares of each target [m] about the means of repeated mixtures, and their degrees of freedom [m]."""
    squares, freedom = np.zeros(len(runs.targets)), np.zeros(len(runs.targets))
    for group in replicates(runs):
        y = runs.metrics[list(group)]
        there = np.isfinite(y)
        counts = there.sum(axis=0)
        means = np.where(there, y, 0).sum(axis=0) / np.maximum(counts, 1)
        squares += np.where(there, (y - means) ** 2, 0).sum(axis=0)
        freedom += np.maximum(counts - 1, 0)
    return squares, freedom


def signal_to_noise(runs: Runs) -> np.ndarray:
    """By how many noises the mixtures' means differ [m]: their standard deviation, noise taken off, over ``spread``.

    NaN without replicates; below 1 a target tells runs apart by chance more than by mixture.
    """
    same = replicates(runs)
    alone = [(r,) for r in range(len(runs)) if not any(r in group for group in same)]
    groups, noise = [*same, *alone], spread(runs)
    found = np.full(len(runs.targets), np.nan)
    for j, y in enumerate(runs.metrics.T):
        seen = [values for group in groups if len(values := y[list(group)][np.isfinite(y[list(group)])])]
        if len(seen) > 1 and np.isfinite(noise[j]) and noise[j] > 0:
            means, counts = np.array([v.mean() for v in seen]), np.array([len(v) for v in seen])
            found[j] = np.sqrt(max(means.var(ddof=1) - noise[j] ** 2 * np.mean(1 / counts), 0.0)) / noise[j]
    return found


def _doubt(runs: Runs) -> str:
    """What few replicates leave open: the range of the true noise, by the chi-squared distribution of the squares."""
    from scipy.special import chdtri

    freedom = int(_pooled(runs)[1].max())
    if freedom >= _MANY:
        return ""
    low, high = np.sqrt(freedom / chdtri(freedom, [0.05, 0.95]))
    return f"; the true one is {low:.2g} to {high:.2g} times that, at 90 %"


def far(runs: Runs) -> tuple[tuple[int, int, float], ...]:
    """Metrics more than 8 robust standard deviations from their target's median: run, target, and how many, the farthest first."""
    found = []
    for j, y in enumerate(runs.metrics.T):
        seen = y[np.isfinite(y)]
        if len(seen) < 5:
            continue
        middle = np.median(seen)
        scale = 1.4826 * float(np.median(np.abs(seen - middle)))
        if scale > 0:
            away = np.abs(y - middle) / scale
            found += [(int(r), j, float(away[r])) for r in np.flatnonzero(np.where(np.isfinite(y), away, 0) > _FAR)]
    return tuple(sorted(found, key=lambda entry: -entry[2]))


def oddities(runs: Runs) -> tuple[str, ...]:
    """Sentences for people on both."""
    notes = []
    groups = replicates(runs)
    if groups:
        sds = spread(runs)
        known = [f"{name} {s:.2g}" for name, s in zip(runs.targets.names, sds, strict=True) if s > 0]
        among = f"; between them metrics differ by {listed(known)} (standard deviation{_doubt(runs)})" if known else ""
        count = sum(map(len, groups))
        notes.append(
            f"{count} runs share {len(groups)} mixture{'s' if len(groups) > 1 else ''}, "
            f"such as {listed(runs.ids[r] for r in groups[0])}{among}"
        )
        same = [n for n, s, y in zip(runs.targets.names, sds, runs.metrics.T, strict=True) if s == 0 and np.nanmin(y) < np.nanmax(y)]
        if same:
            notes.append(f"{listed(same)} are the same to the last digit in runs of one mixture; does the trainer use the runs' seeds?")
    away = far(runs)
    if away:
        told = [f"{runs.ids[r]} {runs.targets.names[j]} {runs.metrics[r, j]:.4g}" for r, j, _ in away]
        notes.append(
            f"{len(away)} metric{'s are' if len(away) > 1 else ' is'} far from the target's median, perhaps of a run that went wrong: "
            f"{listed(told, 4)}; a Huber loss fits past them"
        )
    return tuple(notes)
