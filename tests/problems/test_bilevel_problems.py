"""DoGE, ScaleBiO, one-step and generic bilevel problems: their forms, the stored vector of DoGE's code, and who they follow."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.solvers import VPBGD, Implicit, OneStep, ScaleBiO, ValueFunction

DOMAINS = mx.Domains(["a", "b", "c"])


@pytest.fixture(scope="module")
def vector(shared):
    """The stored update of DoGE's released code: inputs, what is expected, and the tolerance."""
    rows = json.loads(shared("cases/vectors.json").read_text(encoding="utf-8"))
    return next(row for row in rows if row["id"] == "doge-official")


def at_start(given):
    """Quadratics whose gradients at the start, 0, are those given."""
    gradients = torch.tensor(given["train_grads"], dtype=torch.float64)
    return mx.FunctionLearner(torch.zeros(3, dtype=torch.float64), {"train": lambda x: gradients @ x + x @ x / 2})


def test_doge_s_code_is_that_of_the_stored_vector(vector):
    given, expected = vector["inputs"], vector["expected"]
    method = mx.problems.doge(DOMAINS, name="train", mu=given["mu"], step_size=given["lr"], steps=1, faithful_to="code")
    result = mx.solve(method, at_start(given), start=given["w"])
    assert result.vector == pytest.approx(expected["w_including_self"], abs=vector["tol"])
    scores = np.log(result.vector / given["w"])
    assert scores - scores[2] == pytest.approx(
        (np.array(expected["scores_including_self"]) - expected["scores_including_self"][2]) / given["mu"], abs=1e-7
    )


def test_the_branch_of_the_code_that_never_runs_leaves_out_a_domain_s_product_with_itself(vector):
    given, expected = vector["inputs"], vector["expected"]
    problem = mx.problems.doge(DOMAINS, name="train", faithful_to="code").problem
    solver = OneStep(step_size=given["lr"], rate=1 / given["mu"], normalised=True, floor=0.0, ceiling=5.0, own=False, steps=1)
    result = mx.solve(problem, at_start(given), solver=solver, start=given["w"])
    assert result.vector == pytest.approx(expected["w_excluding_self"], abs=vector["tol"])


def test_who_doge_follows_sums_or_averages_its_targets():
    forms = {f: str(mx.plan(mx.problems.doge(DOMAINS, faithful_to=f).problem).form.upper) for f in (None, "paper", "survey", "code")}
    assert forms[None].startswith("mean(")
    assert forms["paper"] == forms["survey"] == forms["code"] != forms[None]
    out = mx.problems.doge(DOMAINS, mx.Domains(["x", "y"]), faithful_to="paper")
    assert out.solver == mx.problems.doge(DOMAINS).solver
    with pytest.raises(mx.InputError, match="faithful_to is 'thesis'; doge follows"):
        mx.problems.doge(DOMAINS, faithful_to="thesis")


def test_scalebio_follows_code_paper_or_survey():
    code, paper, survey = (mx.problems.scalebio(DOMAINS, alpha=100.0, faithful_to=f) for f in ("code", "paper", "survey"))
    assert (code.solver.decay, code.solver.cosine, code.solver.penalty) == (0.01, True, 100.0)
    assert (paper.solver.decay, paper.solver.cosine) == (0.0, False)
    assert isinstance(code.solver, ScaleBiO)
    assert isinstance(survey.solver, ValueFunction)
    assert survey.solver.differences == "one-sided"
    assert str(code).startswith("ScaleBiO: ScaleBiO(")
    with pytest.raises(mx.InputError, match="scalebio follows 'paper', 'code' or 'survey'"):
        mx.problems.scalebio(DOMAINS, faithful_to="abstract")
    with pytest.raises(mx.InputError, match="leave them out"):
        mx.problems.scalebio(DOMAINS, layers=2, faithful_to="survey")


def test_a_bilevel_problem_takes_any_method_objective_and_ridge():
    """The mean of the centres 0, 1, 3 under w shrunk by 1 / (1 + ridge); the targets are at 0.5 and 2."""
    centres, ends = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64), torch.tensor([0.5, 2.0], dtype=torch.float64)
    learner = mx.FunctionLearner(
        torch.zeros(1, dtype=torch.float64),
        {"train": lambda x: (x - centres) ** 2 / 2, "val": (lambda x: (x - ends) ** 2 / 2, ["x", "y"])},
    )
    targets = mx.Domains(["x", "y"])
    for objective, best in ((mx.mean, 1.25), (lambda reached: reached["y"], 2.0), (lambda reached: 3 * reached["x"] + reached["y"], 0.875)):
        method = mx.problems.bilevel(DOMAINS, targets, solver=Implicit(), objective=objective, ridge=0.25)
        assert mx.solve(method, learner).parameters.item() == pytest.approx(best, abs=1e-6)
    other = mx.problems.bilevel(DOMAINS, targets, solver=VPBGD(penalty=30, rate=0.3, steps=500), ridge=0.25)
    assert mx.solve(other, learner).parameters.item() == pytest.approx(1.25, abs=0.05)
    with pytest.raises(mx.InputError, match="the ridge is -1"):
        mx.problems.bilevel(DOMAINS, solver=Implicit(), ridge=-1)


def test_one_step_is_one_step():
    method = mx.problems.one_step(DOMAINS, step_size=0.5, steps=7)
    assert method.solver == OneStep(step_size=0.5, steps=7)
    assert "one gradient step from the model as it stands" in str(mx.plan(method))
