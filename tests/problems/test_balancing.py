"""Ready-made gradient balancing: the form that is meant, the first step against the source's formula, and what faithful_to changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.balancing import FAMO, MGDA, CAGrad, CoBa, PCGrad, Static
from mixopt.forms import Saddle
from mixopt.problems import cagrad, coba, famo, imtl_g, imtl_l, mftcoder, mgda, pcgrad

DOMAINS = mx.Domains(["a", "b", "c"])
CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
START, RATE = np.array([3.0, 1.5]), 0.1


def losses(x, offset=0.1):
    return ((x - CENTRES) ** 2).sum(-1) / 2 + offset


def learner():
    c = torch.tensor(CENTRES)
    return mx.FunctionLearner(
        torch.tensor(START),
        {name: lambda x, o=o: ((x - c) ** 2).sum(1) / 2 + o for name, o in (("train", 0.1), ("val", 0.3))},
        optimizer=lambda leaves: torch.optim.SGD(leaves, lr=RATE),
    )


def first(method, steps=1):
    """The coefficients of the first steps."""
    from dataclasses import replace

    return mx.solve(method, learner(), solver=replace(method.solver, steps=steps)).trace["coefficients"]


SLOPES = START - CENTRES
GRAM = SLOPES @ SLOPES.T


@pytest.mark.parametrize("make", [mgda, cagrad, pcgrad, imtl_g, imtl_l, famo, coba, mftcoder], ids=lambda f: f.__name__)
def test_each_is_a_saddle_that_trains(make):
    method = make(DOMAINS, steps=120)
    assert isinstance(mx.plan(method, learner()).form, Saddle)
    result = mx.solve(method, learner())
    assert result.check.feasible
    assert result.trace["losses"][-1].mean() < result.trace["losses"][0].mean()


def test_equation_6_has_its_sign_and_index_put_right():
    """After a step the payoff is the rise of the losses, weighted; the best response in the weights is the domain that rose most."""
    method = mgda(DOMAINS)
    assert "w @ (losses(theta, 'train') - previous(losses(theta, 'train')))" in str(method.problem)
    result = mx.solve(method, learner(), budget=mx.Budget(steps=2))
    x = START - RATE * MGDA().direction(GRAM).coefficients @ SLOPES
    assert result.trace["value"][1] == pytest.approx(result.trace.weights[0] @ (losses(x) - losses(START)))


def test_mgda_improves_the_worst_domain_most_for_its_length():
    d = first(mgda(DOMAINS))[0] @ SLOPES
    rng = np.random.default_rng(0)
    others = rng.normal(size=(2000, 2))
    others *= np.linalg.norm(d) / np.linalg.norm(others, axis=1)[:, None]
    assert (SLOPES @ d).min() >= (SLOPES @ others.T).min(axis=0).max()


def test_cagrad_of_paper_and_code():
    expected = CAGrad(0.5).direction(GRAM).coefficients
    assert first(cagrad(DOMAINS, c=0.5))[0] == pytest.approx(expected)
    assert first(cagrad(DOMAINS, c=0.5, faithful_to="code"))[0] == pytest.approx(expected * 3 / 1.25)


def test_pcgrad_of_paper_and_code():
    assert pcgrad(DOMAINS).solver.rule == PCGrad("shuffled")
    assert first(pcgrad(DOMAINS, faithful_to="code"))[0] == pytest.approx(PCGrad("natural").direction(GRAM).coefficients)


def test_famo_of_paper_code_and_survey():
    for source, gamma, fall in (("paper", 1e-3, "log"), ("code", 0.01, "log"), ("survey", 1e-3, "relative")):
        rule = FAMO(gamma=gamma, fall=fall)
        assert famo(DOMAINS, faithful_to=source).solver.rule == rule
        memory, x = rule.begin(3), START
        for taken in first(famo(DOMAINS, faithful_to=source), steps=4):
            before = losses(x)
            found, memory = rule.direction(memory, before, before)
            assert taken == pytest.approx(found.coefficients)
            x = x - RATE * taken @ (x - CENTRES)
            memory = rule.after(memory, before, losses(x))


def test_the_payoff_of_famo_is_the_relative_fall():
    for source, by_hand in (("paper", lambda new, old: np.log(new / old)), ("survey", lambda new, old: (new - old) / old)):
        result = mx.solve(famo(DOMAINS, faithful_to=source), learner(), budget=mx.Budget(steps=2))
        old, new = result.trace["losses"]
        assert result.trace["value"][1] == pytest.approx(result.trace.weights[0] @ by_hand(new, old), rel=1e-6)


def test_mftcoder_of_survey_and_code():
    assert mftcoder(DOMAINS).solver.rule == FAMO(gamma=1e-3, watch="val")
    assert mftcoder(DOMAINS).problem == famo(DOMAINS, name="val").problem
    assert first(mftcoder(DOMAINS, faithful_to="code"))[0] == pytest.approx([1 / 3] * 3)
    assert mftcoder(DOMAINS, faithful_to="code", weights=[2, 1, 1]).solver.rule == Static([2, 1, 1])


def test_coba_of_paper_and_code():
    for source in ("paper", "code"):
        rule = CoBa(3, 5, 5.0, slopes=source)
        assert coba(DOMAINS, warmup=3, history=5, faithful_to=source).solver.rule == rule
    apart = [first(coba(DOMAINS, warmup=3, history=5, faithful_to=source), steps=9)[-1] for source in ("paper", "code")]
    assert np.abs(apart[0] - apart[1]).max() > 1e-4


def test_constraints_on_the_mixture():
    cap = [mx.Mixture(DOMAINS)["b"] <= 0.3]
    assert mx.solve(mgda(DOMAINS, subject_to=cap), learner()).weights["b"] <= 0.3 + 1e-9
    assert mx.solve(cagrad(DOMAINS, subject_to=cap, steps=50), learner()).weights["b"] <= 0.3 + 1e-9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cagrad(DOMAINS, faithful_to="survey"), "faithful_to is 'survey'; cagrad follows 'paper' or 'code'"),
        (lambda: pcgrad(DOMAINS, faithful_to="libmtl"), "pcgrad follows 'paper' or 'code'"),
        (lambda: famo(DOMAINS, faithful_to="torchjd"), "famo follows 'paper' or 'code' or 'survey'"),
        (lambda: coba(DOMAINS, faithful_to="survey"), "coba follows 'paper' or 'code'"),
        (lambda: coba(DOMAINS, history=50), "shorter than the warm-up"),
        (lambda: mftcoder(DOMAINS, faithful_to="paper"), "mftcoder follows 'survey' or 'code'"),
        (lambda: mftcoder(DOMAINS, weights=[1, 1, 1]), "fixed weights go with faithful_to='code'"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(mx.InputError, match=message):
        make()


def test_a_learner_without_validation_losses_is_told():
    bare = mx.FunctionLearner(torch.tensor(START), {"train": lambda x: ((x - torch.tensor(CENTRES)) ** 2).sum(1) / 2})
    with pytest.raises(mx.LearnerError, match="val"):
        mx.solve(coba(DOMAINS), bare)
