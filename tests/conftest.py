"""What the tests share: one thread, examples that do not change where a change is judged, and the data beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("judged", derandomize=True)  # a change is judged by the same examples each time; at home they vary
settings.load_profile("judged" if os.environ.get("CI") else "default")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors on a machine shared with others: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared():
    """A function from a path within ``../shared`` to the path, which skips the test where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"../shared/{name} is not here")
        return path

    return find
