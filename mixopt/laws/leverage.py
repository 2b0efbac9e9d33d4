"""How much of an out-of-fold error is doubt of the parameters rather than the error of a run."""

from __future__ import annotations

import numpy as np

_MOST, _LARGEST = 0.75, 1e100
"""Without the runs that tell a part of a prediction it would be known worse by 1 / (1 - h), and at most fourfold: of 0.75 and 0.9 this
bound gave intervals of unseen training runs of RegMix (34 and 64 to fit) that cover nearest to what they say."""


def without_fold(root: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """What the doubt of the parameters adds to the variance of each run's out-of-fold error [R], in shares of a run's own variance.

    ``root`` [q, R] is a root of the hat matrix H = root' root, in least squares J (J'J + ridge)^-1 J', or the deviations of a
    posterior's predictions in shares of the error of a run. Without the runs f of a fold the doubt there is
    diag(H_ff (1 - H_ff)^-1), which is more than with them, diag H_ff. An eigenvalue h of H_ff counts by h / (1 - h) up to
    0.75, a fourfold doubt, and a larger one by itself: deviations that are no fit's noise, as those of a jackknife, may be that large.

    Source: Cook and Weisberg 1982, Residuals and Influence in Regression, section 2.2 and Eq. A.2.1.
    """
    found = np.empty(root.shape[1])
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        _, sizes, vectors = np.linalg.svd(root[:, rows], full_matrices=False)
        shares = np.minimum(np.minimum(sizes, 1) ** 2, _MOST)
        found[rows] = np.maximum(shares / (1 - shares), np.minimum(sizes, _LARGEST) ** 2) @ vectors**2
    return found
