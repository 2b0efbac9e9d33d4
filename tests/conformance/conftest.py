"""The conformance vectors, computed from official code."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def vector(shared):
    """A function from an id to that conformance vector."""
    rows = json.loads(shared("cases/vectors.json").read_text(encoding="utf-8"))
    found = {row["id"]: row for row in rows}
    return lambda name: (found[name]["inputs"], found[name]["expected"], found[name]["tol"])
