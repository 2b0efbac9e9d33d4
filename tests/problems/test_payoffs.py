"""The payoffs of the page on saddles: what the weights see, and what the model descends, against the same numbers by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.solvers import DescentAscent

PAGE = (Path(__file__).parents[2] / "docs" / "saddles.md").read_text(encoding="utf-8")
CENTRES = np.array([-1.0, 0.5, 3.0])
STORED, LAW, COUNTS = np.array([1.1, 0.9, 2.0]), np.array([1.2, 1.0, 1.5]), np.array([4.0, 1.0, 1.0])


def losses(x):
    return (x - CENTRES) ** 2 / 2 + 1


def slopes(x):
    return x - CENTRES


@pytest.fixture(scope="module")
def page():
    """The names that the page's first two blocks define."""
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:2]:
        exec("\n".join(line[4:] for line in block.splitlines() if line[:4] in (">>> ", "... ")), names)
    return names


SCORES = {  # at x, with the losses of the first step and of the last one
    "plain loss": lambda x, first, last: losses(x),
    "excess over a model": lambda x, first, last: losses(x) - losses(1.0),
    "over stored losses": lambda x, first, last: losses(x) - STORED,
    "over a scaling law": lambda x, first, last: losses(x) - LAW,
    "clipped per domain": lambda x, first, last: np.maximum(losses(x) - STORED, 0),
    "ratio": lambda x, first, last: losses(x) / STORED,
    "regret": lambda x, first, last: losses(x) - STORED,
    "normalised gap": lambda x, first, last: np.clip((losses(x) - LAW) / (first - LAW), 0, 1),
    "relative progress": lambda x, first, last: np.log(losses(x)) - np.log(last),
    "weighted token mean": lambda x, first, last: losses(x),
}
FALLS = {
    "ratio": lambda w, x: w @ (slopes(x) / STORED),
    "weighted token mean": lambda w, x: (w * COUNTS) @ slopes(x) / (w @ COUNTS),
}


def test_every_payoff_of_the_page_is_here_but_the_one_of_tokens(page):
    assert set(page["payoffs"]) == {*SCORES, "clipped per token"}


@pytest.mark.parametrize("name", SCORES)
def test_a_payoff_moves_both_players_as_by_hand(name, page):
    """Three entropic steps of rate 1/2 and gradient steps of rate 0.1, each model step at the new weights."""
    problem = mx.minimize(mx.maximize(page["payoffs"][name], over=page["w"]), over=page["theta"])
    given = {"stored": STORED} | ({"reference": torch.ones(1, dtype=torch.float64)} if "model" in name else {})
    given = {key: value for key, value in given.items() if key in str(page["payoffs"][name])}
    result = mx.solve(problem, page["learner"], solver=DescentAscent(rate=0.5, average="last", steps=3), given=given)
    x, w, first = 0.0, np.full(3, 1 / 3), losses(0.0)
    last = first
    for step in range(3):
        w = w * np.exp(0.5 * SCORES[name](x, first, last))
        w = w / w.sum()
        last = losses(x)
        x -= 0.1 * FALLS.get(name, lambda w, x: w @ slopes(x))(w, x)
        assert result.trace.weights[step] == pytest.approx(w, abs=1e-12)
    assert result.parameters.item() == pytest.approx(x, abs=1e-12)
