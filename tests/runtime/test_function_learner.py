"""FunctionLearner: what it accepts, what it refuses before any work, and whose tensors it leaves alone."""

from __future__ import annotations

import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, LearnerError


def learner(**losses):
    return mx.FunctionLearner(torch.zeros(2, dtype=torch.float64), losses=losses or {"train": lambda p: (p - 1) ** 2})


def test_provides_scalars_and_vectors_as_they_are_measured():
    made = mx.FunctionLearner(
        {"x": torch.zeros(3), "y": [torch.ones(2)]},
        losses={"one": lambda p: p["x"].sum(), "many": lambda p: p["x"], "named": (lambda p: p["y"][0], ["b", "a"])},
    )
    provided = {n: (p.names, p.size) for n, p in made.abilities.provides.items()}
    assert provided == {"one": (None, None), "many": (None, 3), "named": (("b", "a"), 2)}
    assert made.abilities.exact
    assert made.tree(made.start())["y"][0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        ({"train": lambda p: 3.0}, r"returns a float"),
        ({"train": lambda p: p[:, None]}, r"returns shape \[2, 1\]"),
        ({"train": (lambda p: p, ["a", "b", "c"])}, r"shape \[2\] for the 3 domains"),
        ({"train": lambda p: torch.log(p - 1)}, r"'train' is \[nan, nan\] at the start"),
        ({"train": lambda p: 1 / p}, r"losses must be finite"),
        ({"train": lambda p: (p.detach() - 1) ** 2}, r"carries no gradient of the parameters"),
        ({"train": lambda p: torch.tensor(p.detach().numpy() ** 2)}, r"carries no gradient of the parameters"),
    ],
)
def test_a_loss_that_cannot_be_used_is_told_when_the_learner_is_made(losses, text):
    with pytest.raises(LearnerError, match=text):
        learner(**losses)


@pytest.mark.parametrize("parameters", [torch.zeros(2, dtype=torch.int64), {}, [], 3.0])
def test_parameters_are_floating_tensors(parameters):
    with pytest.raises(InputError, match="float"):
        mx.FunctionLearner(parameters, losses={"train": lambda p: p})


def test_no_losses_at_all():
    with pytest.raises(InputError, match="the dict is empty"):
        mx.FunctionLearner(torch.zeros(1), losses={})
    with pytest.raises(InputError, match="this is a function"):
        mx.FunctionLearner(torch.zeros(1), losses=lambda p: p.sum())
    with pytest.raises(InputError, match="loss 'train' is 3; give a function of the parameters"):
        mx.FunctionLearner(torch.zeros(1), losses={"train": 3})


def test_the_start_is_a_copy_each_time():
    made = learner()
    first = made.start()
    first[0].fill_(7.0)
    assert made.start()[0].tolist() == [0, 0]
    made.store(first)
    assert made.start()[0].tolist() == [7, 7]


def test_given_parameters_must_have_the_shapes():
    with pytest.raises(InputError, match=r"shapes \[\[3\]\], but the learner's are \[\[2\]\]"):
        learner().leaves(torch.zeros(3))


def test_a_user_s_parameter_that_requires_grad_is_left_unchanged():
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    centres = torch.tensor([0.0, 2.0], dtype=torch.float64)
    made = mx.FunctionLearner(p, losses={"train": lambda q: (q - centres) ** 2})
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, ["a", "b"]), over=w), over=theta)
    mx.solve(game, made, budget=mx.Budget(steps=3))
    assert (p.item(), p.grad) == (0.0, None)
    result = mx.solve(game, made, budget=mx.Budget(steps=3), inplace=True)
    assert p.item() == pytest.approx(result.parameters.item())
    assert p.item() != 0.0


def test_token_losses_and_gauss_newton_products_are_refused_in_words():
    made = learner()
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.domain_mean(mx.tokens(theta), ["a", "b"]), over=w), over=theta)
    with pytest.raises(LearnerError, match="token losses"):
        mx.plan(game, made)
    with pytest.raises(LearnerError, match="no Gauss-Newton product"):
        made.gauss_newton(made.start(), "train", None, torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_parameters(dtype):
    centres = torch.tensor([0.0, 2.0], dtype=dtype)
    made = mx.FunctionLearner(torch.zeros(1, dtype=dtype), losses={"train": lambda q: (q - centres) ** 2, "val": lambda q: (q * q).sum()})
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    problem = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, ["a", "b"]), over=theta), "val"), over=w)
    result = mx.solve(problem, made)
    assert result.parameters.dtype == dtype
    assert result.vector == pytest.approx([1, 0], abs=1e-5)
