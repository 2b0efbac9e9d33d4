"""More domains than runs: a law that sees a mixture through slopes alone is fitted in the directions in which the runs differ."""

from __future__ import annotations

import numpy as np


def directions(mixtures: np.ndarray) -> np.ndarray:
    """The vector of ones and an orthonormal basis of the centred rows of mixtures [R, k], as columns [k, 1 + rank].

    Under a ridge on the slopes A about their mean the best A is a combination of these: a part that is orthogonal to all of them
    changes no prediction and costs (the representer theorem; Schölkopf et al. 2001). With A = directions @ a, the ridge is
    the sum of squares of all a but the first.
    """
    centred = mixtures - mixtures.mean(axis=1, keepdims=True)
    _, sizes, basis = np.linalg.svd(centred, full_matrices=False)
    return np.column_stack([np.ones(mixtures.shape[1]), basis[sizes > 1e-12 * sizes[0]].T])
