"""Rules of gradient balancing pushed by measurements: the conformance vectors, equality with the solver that trains, states."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.balancing import FAMO, IMTLG, MGDA, CAGrad, CoBa
from mixopt.errors import RefusalError
from mixopt.problems import cagrad, coba, famo, imtl_g, imtl_l, mftcoder, mgda, pcgrad
from mixopt.solvers import Balanced

DOMAINS = mx.Domains(["web", "code", "books"])
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
OFF = torch.tensor([0.5, 1.0, 0.2], dtype=torch.float64)


@pytest.fixture(scope="module")
def vector(shared):
    rows = {row["id"]: row for row in json.loads(shared("cases/vectors.json").read_text(encoding="utf-8"))}
    return lambda name: (rows[name]["inputs"], rows[name]["expected"], rows[name]["tol"])


def learner():
    start = {"x": torch.tensor([0.3, 0.2], dtype=torch.float64)}
    losses = lambda p: OFF + ((p["x"] - CENTRES) ** 2).sum(dim=1)  # noqa: E731
    return mx.FunctionLearner(start, {"train": losses, "val": lambda p: 1.1 * losses(p)})


def test_famo_over_three_steps(vector):
    given, expected, tolerance = vector("famo-official-3steps")
    problem = famo(DOMAINS).problem
    rule = FAMO(given["w_lr"], given["gamma_weight_decay"], given["min_losses"], tuple(given["adam_betas"]))
    schedule = mx.online(problem, Balanced(rule))
    pairs = np.array(given["losses_before_after"])
    for step, (before, _) in enumerate(pairs):
        schedule.observe(train=before, **({"after": pairs[step - 1][1]} if step else {}))
        assert schedule.w == pytest.approx(expected["grad_coefficients"][step], abs=tolerance)
        if step:
            logits = schedule.state_dict()["memory"]["kept"]["values"].numpy()
            assert logits == pytest.approx(expected["logits_after_update"][step - 1], abs=tolerance)
    schedule.observe(train=pairs[2][1], after=pairs[2][1])
    assert schedule.state_dict()["memory"]["kept"]["values"].numpy() == pytest.approx(expected["logits_after_update"][2], abs=tolerance)


def test_coba_over_its_steps(vector):
    given, expected, tolerance = vector("coba-official")
    course = 2.5 * np.array(given["normalised_valid_loss_history"]).T
    rule = CoBa(given["warmup_steps"], given["history_length"], given["tau"])
    schedule = mx.online(coba(DOMAINS).problem, Balanced(rule))
    found = []
    for losses in course:
        schedule.observe(val=losses)
        found.append(schedule.w)
    assert np.array(found[:3]) == pytest.approx(1 / 3)
    for at, step in enumerate(given["update_steps"]):
        assert found[step - 1] == pytest.approx(expected["w"][at], abs=tolerance)


@pytest.mark.parametrize(
    "method",
    [famo(DOMAINS), famo(DOMAINS, faithful_to="survey"), famo(DOMAINS, name="val"), coba(DOMAINS, warmup=3, history=6), imtl_l(DOMAINS),
     mftcoder(DOMAINS), mftcoder(DOMAINS, weights=[1, 2, 1], faithful_to="code")],
    ids=lambda m: f"{m.name} {m.solver.rule}",
)  # fmt: skip
def test_weights_pushed_are_the_coefficients_of_the_solver_that_trains(method):
    """The losses of the trained run, told step by step; those after a step are those of the next, as its batch is all there is."""
    pulled = mx.solve(method, learner(), budget=mx.Budget(steps=9))
    schedule = mx.online(method)
    for losses, coefficients in zip(pulled.trace["losses"], pulled.trace["coefficients"], strict=True):
        told = {"train": losses, "val": 1.1 * losses, "after": losses * (1.1 if method.solver.rule.watch else 1)}
        schedule.observe(**{name: value for name, value in told.items() if name in schedule.needs})
        assert schedule.w == pytest.approx(coefficients / coefficients.sum(), abs=1e-12)


@pytest.mark.parametrize(
    "method", [mgda(DOMAINS), cagrad(DOMAINS), imtl_g(DOMAINS), pcgrad(DOMAINS, faithful_to="code")], ids=lambda m: m.name
)
def test_rules_on_inner_products_read_a_gram(method):
    gram = np.array([[2.0, -0.5, 0.1], [-0.5, 1.0, 0.2], [0.1, 0.2, 0.5]])
    schedule = mx.online(method)
    assert schedule.needs["gram"].shape == (3, 3)
    schedule.observe(gram=gram)
    found = method.solver.rule.direction(gram)
    expected = found.coefficients / found.coefficients.sum() if found.simplex or found.mixture is not None else schedule.w
    assert schedule.w == pytest.approx(expected, abs=1e-9)
    assert schedule.w.min() >= 0


def test_constraints_on_the_minimum_norm_point_hold():
    w = mx.Mixture(DOMAINS)
    gram = np.diag([1.0, 4.0, 4.0])
    free, capped = mx.online(mgda(DOMAINS)), mx.online(mgda(DOMAINS, subject_to=[w["web"] <= 0.4]))
    free.observe(gram=gram)
    capped.observe(gram=gram)
    assert free.weights["web"] == pytest.approx(2 / 3)
    assert capped.w == pytest.approx([0.4, 0.3, 0.3], abs=1e-8)


@pytest.mark.parametrize("cut", [1, 4])
def test_a_run_that_is_cut_goes_on_exactly(cut, tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.uniform(0.5, 3, (8, 2, 3))
    for method in (famo(DOMAINS), coba(DOMAINS, warmup=2, history=4), imtl_l(DOMAINS)):
        whole, first, second = (mx.online(method) for _ in range(3))
        tell = lambda s, row: s.observe(**{n: v for n, v in zip(("train", "val", "after"), (*row, row[1]), strict=True) if n in s.needs})  # noqa: E731
        for row in rows:
            tell(whole, row)
        for row in rows[:cut]:
            tell(first, row)
        first.save(tmp_path / "state.json")
        second.load(tmp_path / "state.json")
        for row in rows[cut:]:
            tell(second, row)
        assert (second.w == whole.w).all()


def test_shuffled_orders_are_those_of_the_seed_and_the_move():
    gram = np.array([[2.0, -1.5, 0.1], [-1.5, 3.0, -0.6], [0.1, -0.6, 0.5]])
    runs = []
    for seed in (0, 0, 1):
        schedule = mx.online(pcgrad(DOMAINS), seed=seed)
        rows = []
        for _ in range(6):
            schedule.observe(gram=gram)
            rows.append(schedule.w)
        runs.append(np.array(rows))
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()
    assert np.ptp(runs[0], axis=0).max() > 0


def test_constraints_on_a_rule_that_takes_none_are_refused():
    w = mx.Mixture(DOMAINS)
    with pytest.raises(RefusalError, match="no minimisation over mixtures"):
        mx.online(famo(DOMAINS), subject_to=[w["web"] <= 0.4])
    assert {type(m.solver.rule) for m in (mgda(DOMAINS), cagrad(DOMAINS), imtl_g(DOMAINS))} == {MGDA, CAGrad, IMTLG}
