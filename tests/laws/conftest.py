"""What tests of curves share: their Jacobians against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from mixopt.laws.curve import Curve
from mixopt.laws.law import At


@pytest.fixture(scope="session")
def jacobian_error():
    """The largest gap between a curve's Jacobian at theta [B, p] and central differences in float64."""

    def error(curve: Curve, theta: np.ndarray, at: At, step: float = 1e-6) -> float:
        told = curve.jacobian(theta, at)
        steps = step * np.eye(theta.shape[1])
        found = [(curve.value(theta + h, at) - curve.value(theta - h, at)) / (2 * step) for h in steps]
        assert told.shape == (len(theta), len(at.mixtures), theta.shape[1])
        return float(np.abs(told - np.stack(found, axis=2)).max())

    return error
