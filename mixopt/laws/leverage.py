"""How much of an out-of-fold error is doubt of the parameters rather than the error of a run."""

from __future__ import annotations

import numpy as np

_MOST = 0.9
"""A prediction that is the fold's own by more than this would be known tenfold worse without it; linear algebra tells no more than that."""


def without_fold(root: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """What the doubt of the parameters adds to the variance of each run's out-of-fold error [R], in shares of a run's own variance.

    ``root`` [q, R] is a root of the hat matrix H = root' root, in least squares J (J'J + ridge)^-1 J', or the deviations of a
    posterior's predictions in shares of the error of a run. Without the runs f of a fold the doubt there is
    diag(H_ff (1 - H_ff)^-1), which is more than with them, diag H_ff. An eigenvalue of H_ff counts up to 0.9, a tenfold doubt.

    Source: Cook and Weisberg 1982, Residuals and Influence in Regression, section 2.2 and Eq. A.2.1.
    """
    found = np.empty(root.shape[1])
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        _, sizes, vectors = np.linalg.svd(root[:, rows], full_matrices=False)
        shares = np.minimum(np.minimum(sizes, 1) ** 2, _MOST)
        found[rows] = (shares / (1 - shares)) @ vectors**2
    return found
