"""One thread, one screen and the same numbers for tests and examples; where the examples of the pages run, and what they find there."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

# What commands print is for a plain screen of 80 columns, whatever the tests are started from; typer asks when it is imported.
for name in ("CLICOLOR_FORCE", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)
os.environ["COLUMNS"] = "80"

collect_ignore = ["docs/conf.py", "docs/extension.py"]  # they need the extra `docs`, and have no examples


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors on a machine shared with others: more threads only wait for each other, and sums differ in their last digits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_numbers():
    """torch's own generator begins anew: what it gives does not depend on the tests before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(request, tmp_path, monkeypatch):
    """Run each page in a folder of its own; README.md finds proxy runs there, ``runs.csv``, made by a known law."""
    page = getattr(request.node, "path", None)
    if page is None or page.suffix != ".md":
        return
    monkeypatch.chdir(tmp_path)
    if page.name != "README.md":
        return
    from mixopt.runs import Runs

    names = ["web", "code", "books"]
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), size=40)
    bends = np.array([[-1.5, 0.2, -0.3], [0.1, -2.0, 0.3], [-0.4, 0.3, -1.8]])
    Runs.from_arrays(names, mixtures, names, 2.0 + np.exp(mixtures @ bends.T)).to_csv("runs.csv")
