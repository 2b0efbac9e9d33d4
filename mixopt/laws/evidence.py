"""The marginal likelihood of Gaussian processes, and the amplitude, length and noise of each target that make it largest."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

JITTER = 1e-10
"""Added to every noise, so that two runs of one mixture do no harm."""
_LOW, _HIGH = np.array([1e-3, 1e-2, 1e-10]), np.array([1e5, 1e2, 1.0])
"""Between these lie amplitude, length and noise."""
_LENGTHS, _NOISES = np.geomspace(_LOW[1], _HIGH[1], 17), np.geomspace(1e-12, 1e3, 46)


def kernels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude, length and noise [m, 3] of the largest marginal likelihood of targets y [n, m], of mean 0 and spread 1, at mixtures
    x [n, k]; and whether each search ended by itself, not for want of steps [m].

    At one length the eigenvectors of the kernel serve all targets, each noise and amplitude: a table of 17 lengths and 46 ratios of
    noise to amplitude shows where the largest value lies, and quasi-Newton steps with the analytic gradient lead there.

    Source: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, Eq. 5.8 and 5.9.
    """
    from scipy.optimize import minimize

    apart = distances(x, x)
    sides = list(zip(np.log(_LOW), np.log(_HIGH), strict=True))
    found = [
        minimize(_loss, start, (apart, column), "L-BFGS-B", jac=True, bounds=sides, options={"ftol": 1e-11, "gtol": 1e-5})
        for start, column in zip(_starts(apart, y), y.T, strict=True)
    ]
    return np.exp([one.x for one in found]), np.array([one.status != 1 for one in found])  # 1: out of steps


def likelihood(theta: np.ndarray, apart: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """log p(y) of one target y [n] in nats and its gradient [3] by theta, the logarithms of amplitude, length and noise.

    ``apart`` [n, n] are the squared distances of the mixtures. Where the covariance is singular by rounding, the value is -inf.
    """
    amplitude, length, noise = np.exp(theta)
    own = amplitude * np.exp(-apart / (2 * length**2))
    covariance = own.copy()
    covariance.flat[:: len(y) + 1] += noise + JITTER
    lower, failed = lapack.dpotrf(covariance, lower=1, overwrite_a=1)
    if failed:
        return -np.inf, np.zeros(3)
    solved, _ = lapack.dpotrs(lower, y, lower=1)
    value = -0.5 * (y @ solved + len(y) * np.log(2 * np.pi)) - np.log(np.diag(lower)).sum()
    inverse, _ = lapack.dpotri(lower, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    pull = np.outer(solved, solved) - inverse
    by_own = pull * own
    return float(value), 0.5 * np.array([by_own.sum(), (by_own * apart).sum() / length**2, noise * np.trace(pull)])


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_i - y_j|^2 [n, q]."""
    return np.maximum((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None] - 2 * x @ y.T, 0.0)


def _loss(theta: np.ndarray, apart: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    value, gradient = likelihood(theta, apart, y)
    return -value, -gradient


def _starts(apart: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The best point of a table of lengths and of ratios r of noise to amplitude, each with its best amplitude, for each target [m, 3].

    With the kernel U diag(h) U' at amplitude 1 the best amplitude is mean_i (U'y)_i^2 / (h_i + r).
    """
    n, m = y.shape
    best, found = np.full(m, -np.inf), np.empty((m, 3))
    for length in _LENGTHS:
        heights, vectors = np.linalg.eigh(np.exp(-apart / (2 * length**2)))
        spread = np.maximum(heights, 0) + _NOISES[:, None]
        amplitude = (1 / spread) @ (vectors.T @ y) ** 2 / n
        value = -0.5 * (n * np.log(amplitude) + np.log(spread).sum(axis=1)[:, None])
        top = value.argmax(axis=0)
        level, size = value[top, np.arange(m)], amplitude[top, np.arange(m)]
        better = level > best
        best[better] = level[better]
        found[better] = np.column_stack([size, np.full(m, length), size * _NOISES[top]])[better]
    return np.log(np.clip(found, _LOW, _HIGH))
