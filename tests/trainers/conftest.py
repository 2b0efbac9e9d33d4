"""What the tests of trainers share: three domains of bytes, a schedule over them, and a small model."""

from __future__ import annotations

import pytest
import torch

import mixopt as mx

NAMES = ("web", "code", "books")
LENGTH = 12


def schedule(**settings):
    """Group DRO over the three domains, as a schedule."""
    domains = mx.Domains(NAMES)
    w, theta = mx.Mixture(domains), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, domains), over=w), over=theta)
    return mx.online(game, mx.solvers.DescentAscent(rate=0.5, average="last"), **settings)


@pytest.fixture
def make_schedule():
    return schedule


@pytest.fixture
def rows():
    """A data set of 96 rows: tokens, labels, and the domain, whose kinds of text differ in how even they are."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for i in range(96):
        domain = i % 3
        tokens = torch.randint(0, (3, 9, 27)[domain], (LENGTH,), generator=draw)
        found.append({"input_ids": tokens, "labels": tokens.clone(), "domain": domain})
    return found
