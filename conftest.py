"""What the README's examples find beside them: a small table of proxy runs, made by a known law."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _beside_the_readme(request, tmp_path, monkeypatch):
    """Run README.md in a folder of its own that holds ``runs.csv``."""
    if getattr(request.node, "path", None) is None or request.node.path.name != "README.md":
        return
    from mixopt.runs import Runs

    monkeypatch.chdir(tmp_path)
    names = ["web", "code", "books"]
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), size=40)
    bends = np.array([[-1.5, 0.2, -0.3], [0.1, -2.0, 0.3], [-0.4, 0.3, -1.8]])
    Runs.from_arrays(names, mixtures, names, 2.0 + np.exp(mixtures @ bends.T)).to_csv("runs.csv")
