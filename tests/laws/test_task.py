"""Scores of tasks from losses: both forms come back, expressions are predictions, and what cannot be fitted is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mixopt.api import solve
from mixopt.errors import InputError, ProblemError
from mixopt.language.atoms import exp, mean
from mixopt.language.expression import constant
from mixopt.language.problem import maximize
from mixopt.language.symbols import Mixture
from mixopt.laws import TaskLaw, task_scores

LOSSES = np.random.default_rng(0).uniform(1.8, 3.2, 60)


def sigmoid(x):
    return 0.25 + 0.6 / (1 + np.exp(4 * (x - 2.4)))


def power(x):
    return 0.1 + 7 * np.exp(-1.3 * x)


@pytest.mark.parametrize(("form", "curve", "low"), [("sigmoid", sigmoid, 0.25), ("power", power, 0.1)])
@pytest.mark.parametrize("held", [False, True], ids=["low fitted", "low is chance"])
def test_both_forms_come_back(form, curve, low, held):
    law = TaskLaw.fit(LOSSES, curve(LOSSES), form=form, chance=low if held else None)
    truth = (low, 0.6, 4, 2.4) if form == "sigmoid" else (low, 7, 1.3, 0)
    np.testing.assert_allclose((law.low, law.rise, law.slope, law.middle), truth, rtol=1e-5)
    assert law.rmse < 1e-9
    noisy = TaskLaw.fit(LOSSES, curve(LOSSES) + 0.01 * np.random.default_rng(1).normal(size=60), form=form)
    np.testing.assert_allclose(noisy.predict(LOSSES), curve(LOSSES), atol=0.02)
    assert noisy.rmse == pytest.approx(0.01, rel=0.25)


def test_an_objective_may_be_accuracy():
    tasks = [TaskLaw.fit(LOSSES, sigmoid(LOSSES)), TaskLaw.fit(LOSSES, power(LOSSES), form="power")]
    w = Mixture(["web", "code"])
    losses = constant([1.7, 1.9], index=("chat", "python")) + exp(constant([[-2.0, 0.3], [0.2, -2.0]]) @ w)
    score = task_scores(tasks, losses)
    assert score.index == ("chat", "python")
    result = solve(maximize(mean(score), over=w))
    shares = np.linspace(0, 1, 4001)
    grid = np.array([1.7, 1.9]) + np.exp(np.stack([shares, 1 - shares], axis=1) @ np.array([[-2.0, 0.2], [0.3, -2.0]]))
    means = np.stack([t.predict(x) for t, x in zip(tasks, grid.T, strict=True)]).mean(axis=0)
    assert result.value == pytest.approx(means.max(), abs=1e-6)
    assert str(tasks[0]) == "score = 0.25 + 0.6 / (1 + exp(4 (L - 2.4))), rmse " + f"{tasks[0].rmse:.2g}"
    assert "exp(-1.3 L)" in str(tasks[1])


@pytest.mark.parametrize(
    ("losses", "scores", "settings", "message"),
    [
        ([2, 2, 2, 2, 2], [0.1, 0.2, 0.3, 0.4, 0.5], {}, "the loss is 2 in every run"),
        ([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], {}, "4 pairs of loss and score are too few for the 4 parameters"),
        ([1, 2, np.nan, 4, 5], [1, 2, 3, 4, 5], {}, "NaN or infinity; leave those runs out"),
        ([1, 2, 3], [1, 2], {}, r"shapes \(3,\) and \(2,\)"),
        ([1, 2, 3], [1, 2, 3], {"form": "sigmiod"}, "did you mean 'sigmoid'"),
    ],
)
def test_pairs_that_cannot_be_fitted(losses, scores, settings, message):
    with pytest.raises(InputError, match=message):
        TaskLaw.fit(losses, scores, **settings)


def test_one_task_an_entry():
    with pytest.raises((InputError, ProblemError), match="one task for each entry"):
        task_scores([TaskLaw.fit(LOSSES, sigmoid(LOSSES))], constant([1.0, 2.0]) * 1)
