"""The survey's formulations: each row of ``survey_latex.md`` is a problem with the form, the curvature and LaTeX that stand under it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.compiler.classify import classify
from mixopt.forms import Program

PAGE = Path(__file__).with_name("survey_latex.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^## (S\d\d): [^\n]+\n\n\$\$\n.*?\n\$\$\n\n(?:[^\n]+\n\n)?```python\n(.*?)```\n\n```latex\n(.*?)```$", re.MULTILINE | re.DOTALL
)
ROWS = {row: (program, latex) for row, program, latex in ROW.findall(PAGE)}


def carried_out(program: str) -> dict[str, object]:
    """The names after a row's program."""
    names: dict[str, object] = {}
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1] + program, names)
    return names


def written(program: str) -> mx.Problem:
    """The problem that a row calls ``said``."""
    return carried_out(program)["said"]


def told(problem: mx.Problem) -> str:
    """The form of a problem and, for a program, the curvature of its objective in the user's own sense."""
    form = classify(problem)
    if not isinstance(form, Program):
        return type(form).__name__
    found = mx.curvature(problem.objective)
    return f"Program, {'neither convex nor concave by the rules' if found == 'unknown' else found}"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_survey_is_a_problem_with_this_latex(row):
    program, expected = ROWS[row]
    problem = written(program)
    assert f"% {told(problem)}\n{problem.latex()}\n" == expected


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_survey_is_planned_and_saved(row):
    problem = written(ROWS[row][0])
    assert mx.plan(problem).solver is not None
    assert mx.from_json(mx.to_json(problem)) == problem


def test_the_offline_pipeline_trains_its_target_at_the_weights_found():
    """The target's losses are |theta - c_i|^2, so that it ends at sum_i w_i c_i."""
    centres = torch.eye(3, dtype=torch.float64)
    target = mx.FunctionLearner(torch.zeros(3, dtype=torch.float64), {"train": lambda p: ((p - centres) ** 2).sum(1)})
    names = carried_out(ROWS["S04"][0])
    done, weights = names["pipeline"](target), mx.solve(names["said"]).weights
    assert done.weights == pytest.approx(weights, abs=1e-12)
    assert done.parameters.tolist() == pytest.approx(list(weights.values()), abs=1e-9)


def test_the_online_loop_holds_the_weights_between_updates():
    """Constant losses: each move multiplies the weights by exp(0.1 l), and there are three in ten steps."""
    seen, now = [], np.array([3.0, 2.0, 1.0])
    schedule = carried_out(ROWS["S05"][0])["loop"](lambda: now, seen.append, 10, 3)
    assert schedule.moves == 3
    expected = [np.exp(0.1 * (step // 3) * now) for step in range(1, 11)]
    assert np.allclose(seen, [weights / weights.sum() for weights in expected], atol=1e-12)


def test_a_regressor_that_is_no_formula_is_an_expression():
    w = mx.Mixture(["web", "code"])
    problem = mx.minimize(mx.opaque(w, lambda rows: rows[:, 0] ** 2, "LightGBM") + 0.1 * mx.sum_squares(w), over=w)
    assert told(problem) == "Program, neither convex nor concave by the rules"


def test_every_row_that_is_to_be_expressible_is_here_or_in_the_table_of_what_is_not(shared):
    rows = re.findall(r"^\| (S\d\d) \|[^|]*\|[^|]*\| E\b", shared("methods/survey.md").read_text(encoding="utf-8"), re.MULTILINE)
    table = set(re.findall(r"S\d\d", PAGE[PAGE.index("## What the language does not say") :]))
    assert len(rows) > 15
    assert set(rows) <= set(ROWS) | table
    assert table == {"S21", "S22", "S43"}


def test_every_heading_is_a_row():
    assert len(re.findall(r"^## S\d\d", PAGE, re.MULTILINE)) == len(ROWS) == 24
