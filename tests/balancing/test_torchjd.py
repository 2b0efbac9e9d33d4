"""TorchJD's rules: held against ours where it is installed, and the pip line where it is not."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest

import mixopt as mx
from mixopt.balancing import FAMO, IMTLG, IMTLL, MGDA, CAGrad, PCGrad, TorchJD, UPGrad
from mixopt.balancing.nearest import gap


@pytest.fixture
def library():
    return pytest.importorskip("torchjd", reason="torchjd is not installed: pip install 'mixopt[torchjd]'")


def cases():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(k, d)) + shift for k, d, shift in ((2, 3, 0.0), (3, 4, 0.3), (5, 9, 0.0), (8, 20, 0.2))]


@pytest.mark.parametrize("g", cases(), ids=lambda g: f"k={len(g)}")
def test_ours_are_theirs_to_their_precision(library, g):
    """CAGrad there is a cone solver, UPGrad a quadratic program on a matrix moved by 1e-4; IMTL-G is the same formula."""
    gram = g @ g.T
    pytest.importorskip("qpsolvers")
    for ours, theirs, near in (
        (IMTLG(), TorchJD("imtl_g"), 1e-9),
        (CAGrad(c=0.4), TorchJD("cagrad", {"c": 0.4, "norm_eps": 1e-9}), 1e-3),
        (UPGrad(), TorchJD("upgrad"), 1e-3),
    ):
        mine, other = ours.direction(gram).coefficients @ g, theirs.direction(gram).coefficients @ g
        assert mine == pytest.approx(other, abs=near * np.linalg.norm(g)), str(theirs)


@pytest.mark.parametrize("g", cases(), ids=lambda g: f"k={len(g)}")
def test_their_mgda_stops_short_of_ours(library, g):
    gram = g @ g.T
    ours, theirs = MGDA().direction(gram).coefficients, TorchJD("mgda").direction(gram).coefficients
    assert ours @ gram @ ours <= theirs @ gram @ theirs + 1e-12
    assert gap(gram, ours) <= 1e-12 * gram.max()
    assert theirs @ g == pytest.approx(ours @ g, abs=0.1 * np.linalg.norm(g, axis=1).max())


def test_nash_mtl_gives_each_gradient_the_inverse_of_its_weight(library):
    """Its condition: <g_i, d> = 1 / a_i for the coefficients a, here up to the length that it gives the direction."""
    pytest.importorskip("ecos")
    g = np.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 2.0]])
    a = TorchJD("nash_mtl", {"max_norm": 0.0}).direction(g @ g.T).coefficients
    balance = a * (g @ (a @ g))
    assert balance == pytest.approx(np.full(3, balance.mean()), rel=1e-2)


def test_it_trains_as_any_rule_does(library):
    import torch

    pytest.importorskip("ecos")
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    losses = mx.losses(theta, ["a", "b"])
    problem = mx.minimize(mx.maximize(w @ (losses - mx.previous(losses)), over=w), over=theta)
    centres = torch.tensor([[0.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    learner = mx.FunctionLearner(torch.tensor([1.0, 3.0], dtype=torch.float64), {"train": lambda x: ((x - centres) ** 2).sum(1) / 2})
    for rule in (TorchJD("nash_mtl"), TorchJD("upgrad"), TorchJD("pcgrad"), PCGrad()):
        result = mx.solve(problem, learner, solver=mx.solvers.Balanced(rule, steps=60))
        assert (result.trace["losses"][-1] < result.trace["losses"][0]).all()


def test_options_and_names_are_checked(library):
    with pytest.raises(mx.InputError, match=r"TorchJD\('upgrad'\) does not take the options \{'c': 1\}"):
        TorchJD("upgrad", {"c": 1}).direction(np.eye(2))
    with pytest.raises(mx.InputError, match=r"no rule of TorchJD 'nash' in .*did you mean 'nash_mtl'"):
        TorchJD("nash")


def test_where_it_is_not_installed_the_pip_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(mx.errors.MissingExtraError, match=r"TorchJD\('nash_mtl'\) needs torchjd, .* pip install 'mixopt\[torchjd\]'"):
        TorchJD("nash_mtl").direction(np.eye(2))


def test_famo_and_imtl_l_step_as_theirs(library):
    """The slope of their scalar in the losses are our coefficients, and their weights after ten steps are ours."""
    import torch

    scalars = pytest.importorskip("torchjd.scalarization")
    course = np.random.default_rng(0).uniform(0.5, 3, (11, 4))
    ours, theirs = FAMO(rate=0.05, gamma=0.01), scalars.FAMO(4, lr=0.05, weight_decay=0.01)
    memory = ours.begin(4)
    for before, after in pairwise(course):
        values = torch.tensor(before, dtype=torch.float32, requires_grad=True)
        (slope,) = torch.autograd.grad(theirs(values), values)
        assert ours.direction(memory, before, before)[0].coefficients == pytest.approx(slope.numpy(), abs=1e-5)
        theirs.update(torch.tensor(after, dtype=torch.float32))
        memory = ours.after(memory, before, after)
    scaled = scalars.IMTLL(4)
    values = torch.tensor(course[0], dtype=torch.float32, requires_grad=True)
    (slope,) = torch.autograd.grad(scaled(values), values)
    assert IMTLL().direction(np.zeros(4), course[0], course[0])[0].coefficients == pytest.approx(slope.numpy(), abs=1e-6)
