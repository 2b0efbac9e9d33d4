"""What fits without some runs would predict of them, and how much of such an error is doubt of the parameters, not the error of a run."""

from __future__ import annotations

import numpy as np

from mixopt.runs import Runs

from .curve import CurveLaw
from .laplace import half_hessian
from .validation import predicted_at

_MOST, _MOST_OF_FOLDS, _LARGEST = 0.9, 0.75, 1e100
"""Without the runs that tell a part of a prediction it would be known worse by 1 / (1 - h): at most tenfold without one run, and fourfold
without a fold of several, where of 0.75 and 0.9 the first gave intervals of RegMix's training runs that cover nearest to what they say."""
_FEWEST = 2
"""With no more degrees of freedom than this, residuals have no spread that could be told."""


def left_out(law: CurveLaw, runs: Runs) -> np.ndarray | None:
    """The metrics [R, m] that fits without each run would predict of it, to first order, or None where the runs leave no freedom.

    Without a run the fit misses it by its residual times 1 / (1 - h), h = v J (J'J + ridge)^-1 J' being its leverage, at most 0.9: exact
    in a linear law, and no fit to fewer runs, as a cross-validation of five folds has, whose errors of few runs are those of four
    fifths of them. The errors are larger by sqrt(f / (f - 2)), the spread of Student's distribution at the f = R - sum h degrees of
    freedom that are left, for residuals of few runs tell their own size badly.

    Source: Cook and Weisberg 1982, Residuals and Influence in Regression, section 2.2.
    """
    found, measured = predicted_at(law, runs), runs.metrics
    for j, there in enumerate(np.isfinite(measured).T):
        jacobian, _, inverse = half_hessian(law, runs, j)
        shares = np.einsum("ri,ij,rj->r", jacobian, inverse, jacobian)
        freedom = float(jacobian.any(axis=1).sum() - shares.sum())
        if freedom <= _FEWEST:
            return None
        grown = np.sqrt(freedom / (freedom - _FEWEST)) / (1 - np.minimum(shares, _MOST))
        found[there, j] = measured[there, j] + (grown * (found[:, j] - measured[:, j]))[there]
    return found


def without_fold(root: np.ndarray, folds: np.ndarray | None) -> np.ndarray:
    """What the doubt of the parameters adds to the variance of each run's out-of-fold error [R], in shares of a run's own variance.

    ``root`` [q, R] is a root of the hat matrix H = root' root, in least squares J (J'J + ridge)^-1 J', or the deviations of a
    posterior's predictions in shares of the error of a run. Without the runs f of a fold the doubt there is
    diag(H_ff (1 - H_ff)^-1), which is more than with them, diag H_ff. An eigenvalue h of H_ff counts by h / (1 - h) up to
    0.9, in a fold of several runs 0.75, and a larger one by itself: deviations that are no fit's noise, as those of a jackknife,
    may be that large. Without ``folds`` the doubt is as it is.

    Source: Cook and Weisberg 1982, Residuals and Influence in Regression, section 2.2 and Eq. A.2.1.
    """
    if folds is None:
        return np.asarray((np.minimum(np.abs(root), _LARGEST) ** 2).sum(axis=0))
    found = np.empty(root.shape[1])
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        _, sizes, vectors = np.linalg.svd(root[:, rows], full_matrices=False)
        shares = np.minimum(np.minimum(sizes, 1) ** 2, _MOST if len(rows) == 1 else _MOST_OF_FOLDS)
        found[rows] = np.maximum(shares / (1 - shares), np.minimum(sizes, _LARGEST) ** 2) @ vectors**2
    return found
