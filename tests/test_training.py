"""Training at given weights: what is descended, what comes back, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, LearnerError, ProblemError
from mixopt.problems import doremi
from mixopt.runtime.gpt import GPT

NAMES = ("a", "b")
W, THETA = mx.Mixture(NAMES), mx.model()
U = mx.Mixture(NAMES, name="u")
PLAIN = W @ mx.losses(THETA, NAMES)
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)


def quadratic():
    """l_i = |theta - c_i|^2, whose w @ losses is least at sum_i w_i c_i."""
    return mx.FunctionLearner(
        torch.zeros(2, dtype=torch.float64),
        {"train": lambda p: ((p - CENTRES) ** 2).sum(1), "val": lambda p: (p**2).sum()},
    )


def gpt(**options):
    draw = np.random.default_rng(0)
    streams = {"train": {n: draw.integers(0, 8, 60) for n in NAMES}, "val": {"x": draw.integers(0, 8, 60)}}
    return mx.TorchLearner(GPT(vocabulary=8, context=8, width=4, layers=1, heads=1, seed=0), streams, context=8, **options)


@pytest.mark.parametrize(
    "problem",
    [
        PLAIN,
        mx.minimize(mx.maximize(PLAIN, over=W), over=THETA),
        mx.maximize(mx.minimize(-PLAIN, over=W), over=THETA),
        mx.minimize(mx.loss(mx.argmin(PLAIN, over=THETA), "val"), over=W),
        mx.minimize(mx.maximize(U @ mx.losses(mx.argmin(PLAIN, over=THETA), NAMES), over=U), over=W),
        mx.Method(mx.minimize(mx.loss(mx.argmin(PLAIN, over=THETA), "val"), over=W), mx.solvers.Implicit()),
    ],
)
@pytest.mark.parametrize("weights", [{"b": 0.75, "a": 0.25}, [0.25, 0.75]])
def test_the_model_goes_to_the_minimum_of_the_weighted_losses(problem, weights):
    learner = quadratic()
    found = mx.train(problem, learner, weights, budget=mx.Budget(steps=200))
    expected = np.array([0.25, 0.75]) @ CENTRES.numpy()
    assert found.parameters.numpy() == pytest.approx(expected, abs=1e-9)
    assert found.losses == {
        "train": {n: pytest.approx(((expected - c) ** 2).sum(), abs=1e-8) for n, c in zip(NAMES, CENTRES.numpy(), strict=True)},
        "val": pytest.approx((expected**2).sum(), abs=1e-8),
    }
    assert found.weights == {"a": 0.25, "b": 0.75}
    assert found.cost.steps == found.cost.gradients == len(found.trace["value"]) == 200
    assert not learner.start()[0].any()  # a copy is trained


def test_values_of_earlier_steps_are_those_of_the_training():
    """With l_i / l_i at the start the minimum is at the mean of the centres by w_i / l_i(start), here 1 and 1/9."""
    relative = mx.losses(THETA, NAMES) / mx.initial(mx.losses(THETA, NAMES))
    found = mx.train(mx.minimize(mx.maximize(W @ relative, over=W), over=THETA), quadratic(), [0.5, 0.5])
    assert found.parameters.numpy() == pytest.approx(np.array([0.9, 0.1]) @ CENTRES.numpy(), abs=1e-6)
    assert found.trace["value"][0] == pytest.approx(1.0)
    assert found.trace["value"][-1] < 1.0


def test_losses_are_named_as_the_problem_names_them():
    learner = mx.FunctionLearner(
        torch.zeros(2, dtype=torch.float64), dict.fromkeys(("train", "val", "more"), lambda p: ((p - CENTRES) ** 2).sum(1))
    )
    problem = mx.minimize(mx.mean(mx.losses(mx.argmin(PLAIN, over=THETA), ["x", "y"], name="val")), over=W)
    found = mx.train(problem, learner, [0.5, 0.5], budget=mx.Budget(steps=1))
    assert {name: list(each) for name, each in found.losses.items()} == {"train": ["a", "b"], "val": ["x", "y"], "more": ["0", "1"]}


def test_weights_may_come_from_a_result_and_go_in_place():
    law = mx.solve(mx.minimize(mx.kl(W, np.array([0.25, 0.75])), over=W))
    given = torch.zeros(2, dtype=torch.float64)
    learner = mx.FunctionLearner(given, {"train": lambda p: ((p - CENTRES) ** 2).sum(1)})
    found = mx.train(PLAIN, learner, law, inplace=True)
    assert given.numpy() == pytest.approx(found.parameters.numpy())
    assert given.numpy() == pytest.approx([0.25, 2.25], abs=1e-5)
    assert "train[a]" in str(found)
    assert str(found).startswith("trained at fixed weights for 1000 steps\n  a  0.2500")


@pytest.mark.parametrize("sampling", ["uniform", "weights"])
def test_a_torch_module_is_trained_on_its_batches_by_its_seed(sampling):
    options = {"sampling": sampling, "optimizer": lambda tensors: torch.optim.AdamW(tensors, lr=1e-2)}
    a, b, c = (mx.train(PLAIN, gpt(**options), [0.9, 0.1], budget=mx.Budget(steps=30), seed=s) for s in (1, 1, 2))
    assert a.losses == b.losses != c.losses
    assert set(a.losses) == {"train", "val"}
    assert set(a.losses["val"]) == {"x"}
    assert a.losses["train"]["a"] < 2.1
    assert a.cost.tokens == 30 * 8 * 8
    assert np.isfinite(a.trace["value"]).all()


def test_the_model_s_view_of_doremi_is_trained():
    learner = gpt()
    reference = learner.tree(learner.start())
    found = mx.train(doremi(mx.Domains(NAMES)), learner, [0.5, 0.5], given={"reference": reference}, budget=mx.Budget(steps=2))
    assert found.cost.steps == 2


def test_a_run_that_fails_says_so():
    learner = mx.FunctionLearner(
        torch.ones(1, dtype=torch.float64),
        {"train": lambda p: torch.cat([p**4, p**2])},
        optimizer=lambda tensors: torch.optim.SGD(tensors, lr=100.0),
    )
    found = mx.train(PLAIN, learner, [0.5, 0.5])
    assert found.status is mx.Status.FAILED
    assert torch.isfinite(found.parameters).all()
    assert "FAILED" in str(found)


@pytest.mark.parametrize(
    ("problem", "error", "why"),
    [
        (mx.minimize(mx.kl(W, np.array([0.5, 0.5])), over=W), ProblemError, "trains no model; give what it minimises"),
        (mx.losses(THETA, NAMES), ProblemError, "is no number with the losses of one model"),
        (mx.mean(mx.losses(THETA, NAMES)), ProblemError, "at the weights of one mixture"),
        (W @ (mx.losses(THETA, NAMES) - mx.losses(mx.model("other"), NAMES)), ProblemError, "the losses of one model"),
        (W @ mx.losses(THETA, NAMES, name="tain"), LearnerError, "provides"),
    ],
)
def test_what_trains_no_model_is_refused(problem, error, why):
    with pytest.raises(error, match=why):
        mx.train(problem, quadratic(), [0.5, 0.5])


@pytest.mark.parametrize(
    ("learner", "weights", "more", "why"),
    [
        (mx.solvers.Conic(), [0.5, 0.5], {}, "the second argument is a learner"),
        (None, {"a": 1.0}, {}, "weights are missing"),
        (None, [0.5, 0.6], {}, "sum"),
        (None, [0.5, 0.5], {"budget": 10}, "give mx.Budget"),
        (None, [0.5, 0.5], {"given": {"x": 1.0}}, "does not use"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(learner, weights, more, why):
    with pytest.raises(InputError, match=why):
        mx.train(PLAIN, learner or quadratic(), weights, **more)
