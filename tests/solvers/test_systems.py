"""The linear systems and the products of Implicit: the same hypergradient by each, and what is said where one does not fit."""

from __future__ import annotations

import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, LearnerError, RefusalError
from mixopt.solvers import ConjugateGradients, Dense, Implicit, MinRes, Neumann, Nystroem

from .small import Once, Twice, validation

POINT = [0.4, 0.3, 0.2, 0.1]
SYSTEMS = {
    "minres": MinRes(),
    "neumann": Neumann(steps=200),
    "neumann at a rate": Neumann(steps=200, rate=0.5),
    "dense": Dense(),
    "preconditioned": ConjugateGradients(rank=1),
    "preconditioned by the diagonal": ConjugateGradients(probes=2),
}


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_every_system_gives_the_closed_hypergradient(toy, system):
    found = mx.hypergradient(toy.problem(), toy.learner, at=POINT, solver=Implicit(system=system))
    assert found == pytest.approx(toy.gradient(POINT), rel=1e-8)


@pytest.mark.parametrize("make", [lambda d: MinRes(damping=d), lambda d: Neumann(damping=d, steps=300), Dense, lambda d: Nystroem(2, d)])
def test_damping_means_the_same_in_each(toy, make):
    """H is (1 + rho) I, so damping d multiplies the gradient by (1 + rho) / (1 + rho + d)."""
    found = mx.hypergradient(toy.problem(), toy.learner, solver=Implicit(system=make(0.5)))
    assert found == pytest.approx(toy.gradient([0.25] * 4) * 1.25 / 1.75, rel=1e-8)


@pytest.mark.parametrize(("products", "error"), [("forward", 1e-9), ("differences", 1e-5)])
def test_products_by_other_ways(toy, products, error):
    solver = Implicit(products=products)
    assert mx.hypergradient(toy.problem(), toy.learner, at=POINT, solver=solver) == pytest.approx(toy.gradient(POINT), rel=error)
    result = mx.solve(toy.problem(), toy.learner, solver=solver)
    assert result.value == pytest.approx(mx.solve(toy.problem(), toy.learner).value, abs=1e-8)


def test_differences_serve_losses_with_first_derivatives_alone():
    centres = torch.tensor([[0.0, 0.3], [2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)

    def waved(wrap=lambda x: x):
        losses = {"train": lambda p: ((p - centres) ** 2).sum(1) + torch.cos(wrap(p)).sum() / 4, "val": lambda p: ((p - 0.7) ** 2).sum()}
        return validation(losses, names="abc")

    problem, once = waved(Once.apply)
    with pytest.raises(RefusalError, match="use products='differences'"):
        mx.solve(problem, once, solver=Implicit())
    exact = mx.hypergradient(*waved())
    for curved in (Implicit(products="differences"), Implicit(products="differences", system=Dense())):
        assert mx.hypergradient(problem, once, solver=curved) == pytest.approx(exact, rel=1e-5)
    result = mx.solve(problem, once, solver=Implicit(products="differences"))
    assert "by differences of gradients" in result.check.oracle
    twice = {"train": lambda p: Twice.apply(p - centres).sum(1), "val": lambda p: p.sum()}
    with pytest.raises(LearnerError, match=r"no forward mode.*'reverse' or 'differences'"):
        mx.hypergradient(*validation(twice, names="abc"), solver=Implicit(products="forward"))


class _Looked(torch.autograd.Function):
    """The identity, whose backward pass looks at a number, which no vectorised pass can."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        assert bool(torch.isfinite(slope.sum()))
        return _Looked.apply(slope)


@pytest.mark.parametrize(("square", "passes"), [(torch.square, 8), (lambda x: _Looked.apply(x) ** 2, 38)], ids=["vectorised", "one by one"])
def test_a_small_matrix_is_written_out_once_at_a_point(monkeypatch, square, passes):
    """Ten parameters: one backward pass for all rows where torch can, and Newton's steps and the system read the same matrix."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 20, 10, generator=draw, dtype=torch.float64)
    losses = {"train": lambda p: square(rows @ p - 1).mean(1), "val": lambda p: (p - 0.7).square().sum()}
    it, calls, grad = validation(losses, torch.zeros(10, dtype=torch.float64), names="abc", ridge=0.1), [], torch.autograd.grad
    expected = mx.hypergradient(*it)
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or grad(*a, **k))
    assert mx.hypergradient(*it, solver=Implicit(system=Dense())) == pytest.approx(expected, rel=1e-7)
    assert len(calls) == passes
    check = mx.check_hypergradient(*it, solvers=[Implicit(system=Dense())])
    assert check.rows[0].cost.hessian_products % 10 == 0


def test_an_indefinite_hessian_is_told_by_conjugate_gradients_and_solved_by_minres():
    """The lower level has a saddle at its start, where Newton's steps stay: H = diag(2, -2), so q = (v1 / 2, -v2 / 2)."""
    losses = {
        "train": lambda p: torch.stack([p[0] ** 2 - p[1] ** 2 + p[0] * 0, p[0] ** 2 - p[1] ** 2 + 1e-12 * p.sum()]),
        "val": lambda p: p[0] + 2 * p[1],
    }
    problem, learner = validation(losses)
    with pytest.warns(UserWarning, match="negative curvature"):
        mx.hypergradient(problem, learner, at=[0.5, 0.5])
    found = mx.hypergradient(problem, learner, at=[0.5, 0.5], solver=Implicit(system=MinRes()))
    assert found == pytest.approx([0.0, -1e-12 * (1 / 2 - 2 / 2)], abs=1e-15)
    with pytest.warns(UserWarning, match="negative curvature"):
        mx.hypergradient(problem, learner, at=[0.5, 0.5], solver=Implicit(system=Dense()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConjugateGradients(rank=0), "a rank and probes are >= 1"),
        (lambda: ConjugateGradients(probes=0), "a rank and probes are >= 1"),
        (lambda: ConjugateGradients(rank=2, probes=2), "not by both"),
        (lambda: MinRes(steps=0), "steps and tolerance are > 0"),
        (lambda: Neumann(rate=-1), "steps and rate are > 0"),
        (lambda: Dense(most=0), "most is > 0"),
        (lambda: Nystroem(damping=0.0), "damping is > 0"),
        (lambda: Implicit(products="fast"), "'reverse', 'forward' or 'differences'"),
        (lambda: Implicit(products="forward", curvature="gauss-newton"), "leave one of them out"),
        (lambda: Implicit(system="cg"), r"give ConjugateGradients\(\), MinRes"),
    ],
)
def test_settings_outside_their_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_dense_system_is_for_small_models(toy):
    with pytest.raises(InputError, match="writes out the Hessian of 2 parameters; 1 are the most"):
        mx.hypergradient(toy.problem(), toy.learner, solver=Implicit(system=Dense(most=1)))


def test_the_diagonal_cuts_the_steps_where_parameters_differ_in_scale():
    """H = D (I + small) D, with the scales D over four orders of magnitude: with the diagonal it is solved as the identity is, nearly."""
    draw = torch.Generator().manual_seed(1)
    scales = torch.logspace(-2, 2, 60, dtype=torch.float64)
    mixed = torch.randn(60, 60, generator=draw, dtype=torch.float64)
    H = scales[:, None] * (torch.eye(60, dtype=torch.float64) + 0.05 * mixed @ mixed.T / 60) * scales
    v = torch.randn(60, generator=draw, dtype=torch.float64)
    used = {}
    for probes in (None, 30):
        taken = []
        found = ConjugateGradients(steps=2000, tolerance=1e-8, probes=probes).solve(lambda p, taken=taken: taken.append(1) or H @ p, v)
        assert found.x == pytest.approx(torch.linalg.solve(H, v), rel=1e-4)
        used[probes] = len(taken)
    assert used[30] < used[None] / 3, used
