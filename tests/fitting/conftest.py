"""Runs of a known law, for all tests of fitting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mixopt.runs import Runs, Targets

NAMES = ("web", "code", "books", "maths")
C = np.array([2.0, 1.2, 1.6])
A = np.array([[-1.0, 0.6, 0.2, 1.1], [0.5, -2.0, 0.4, 0.3], [0.3, 0.4, -1.2, 0.2]])
TARGETS = ("chat", "python", "novels")

Table = Callable[..., Runs]


@pytest.fixture(scope="session")
def table() -> Table:
    def make(rows: int = 40, seed: int = 0, noise: float = 0.005, up: tuple[str, ...] = (), shift: float = 0.0) -> Runs:
        """Runs of the law above; the targets in ``up`` by their negative, to be maximised, and all shifted."""
        rng = np.random.default_rng(seed)
        w = rng.dirichlet(np.ones(len(NAMES)), rows)
        signs = np.array([-1 if t in up else 1 for t in TARGETS])
        y = signs * (C + shift + np.exp(w @ A.T) + noise * rng.normal(size=(rows, len(C))))
        return Runs.from_arrays(NAMES, w, Targets(TARGETS, dict.fromkeys(up, "max"), dict.fromkeys(up, "accuracy")), y)

    return make
