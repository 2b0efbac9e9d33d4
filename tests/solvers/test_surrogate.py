"""Surrogate: a bilevel problem by a law of trained proxies, beside the hypergradient; designs, runs measured before, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.laws import Exponential, LightGBM
from mixopt.solvers import Implicit, Surrogate

NAMES = ["a", "b", "c"]
W, THETA = mx.Mixture(NAMES), mx.model()
CENTRES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
GOALS = torch.tensor([[0.2, 1.2], [1.0, 0.6]], dtype=torch.float64)
TRAINED = mx.argmin(W @ mx.losses(THETA, NAMES), over=THETA)
BOTH = mx.losses(TRAINED, ["x", "y"], name="val")


def learner():
    """theta*(w) = sum_i w_i c_i, so that each upper loss is a quadratic of w."""
    return mx.FunctionLearner(
        torch.zeros(2, dtype=torch.float64),
        losses={
            "train": lambda p: ((p - CENTRES) ** 2).sum(1) / 2,
            "val": lambda p: ((p - GOALS) ** 2).sum(1) / 2,
            "one": lambda p: ((p - GOALS[0]) ** 2).sum() / 2,
        },
    )


def upper(rows):
    """The upper losses [R, 2] in closed form."""
    theta = np.asarray(rows) @ CENTRES.numpy()
    return ((theta[:, None] - GOALS.numpy()[None]) ** 2).sum(axis=2) / 2


def test_a_law_and_hypergradients_side_by_side():
    problem = mx.minimize(mx.mean(BOTH) + 0.05 * mx.kl(W, [1 / 3] * 3), over=W)
    table = mx.compare(problem, learner(), [Implicit(), Surrogate(design=30, rounds=4)])
    sure, found = table.results
    assert found.status is mx.Status.SEARCHED
    assert sure.value <= found.value <= sure.value + 0.01
    np.testing.assert_allclose(found.vector, sure.vector, atol=0.1)
    assert found.check.gap >= found.value - sure.value
    assert found.check.oracle.startswith("the implicit function theorem")
    assert found.cost.steps == 34
    assert found.cost.gradients > 0
    assert len(found.trace) == 34
    np.testing.assert_allclose(found.trace["value"].min(), found.value, rtol=1e-9)
    np.testing.assert_allclose(found.parameters, found.vector @ CENTRES.numpy(), atol=1e-8)
    assert "the exponential law of 33 runs foretold" in found.message


def test_what_is_fitted_is_what_the_learner_measures():
    """The runs of a design, by a law that remembers them."""
    seen = []

    def fit(runs):
        seen.append(runs)
        return Exponential.fit(runs)

    design = np.random.default_rng(3).dirichlet(np.ones(3), 12)
    mx.solve(mx.minimize(mx.max(BOTH), over=W), learner(), solver=Surrogate(fit, design=design, rounds=2))
    assert [len(runs) for runs in seen] == [12, 13]
    assert seen[0].targets.names == ("val[x]", "val[y]")
    np.testing.assert_allclose(seen[1].mixtures[:12], design, atol=1e-12)
    np.testing.assert_allclose(seen[1].metrics, upper(seen[1].mixtures), atol=1e-8)


def test_runs_measured_before_need_one_training():
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    other = mx.Runs.from_arrays(["c", "a", "b"], rows[:, [2, 0, 1]], ["val[y]", "val[x]", "more"], np.c_[upper(rows)[:, ::-1], rows[:, 0]])
    problem = mx.minimize(mx.mean(BOTH), over=W, subject_to=[(W <= 0.7).named("cap"), (W >= 0.05).named("floor")])
    found = mx.solve(problem, learner(), solver=Surrogate(design=other))
    assert found.cost.steps == 1
    assert found.check.feasible
    law = Exponential.fit(mx.Runs.from_arrays(NAMES, rows, ["x", "y"], upper(rows)))
    best = mx.solve(mx.minimize(mx.mean(law.losses(W)), over=W, subject_to=problem.subject_to))
    np.testing.assert_allclose(found.vector, best.vector, atol=1e-5)
    assert found.value == pytest.approx(upper(found.vector[None]).mean(), abs=1e-8)
    assert f"foretold {best.value:.6g}" in found.message
    with pytest.raises(mx.InputError, match=r"no target 'one'"):
        mx.solve(mx.minimize(mx.loss(TRAINED, "one"), over=W), learner(), solver=Surrogate(design=other))


def test_a_design_respects_the_constraints():
    problem = mx.minimize(mx.mean(BOTH), over=W, subject_to=[(W["a"] + W["b"] <= 0.5).named("group")])
    found = mx.solve(problem, learner(), solver=Surrogate(design=12))
    assert (found.trace.weights[:, :2].sum(axis=1) <= 0.5 + 1e-7).all()


def test_an_opaque_law_and_a_maximum():
    pytest.importorskip("lightgbm")
    problem = mx.maximize(-mx.loss(TRAINED, "one"), over=W)

    def fit(runs):
        return LightGBM.fit(runs, rounds=100, rate=0.1)

    simulated = Surrogate(fit, design=40, rounds=2, solver=mx.solvers.Simulation(draws=4000))
    found = mx.solve(problem, learner(), solver=simulated)
    assert found.value == pytest.approx(-upper(found.vector[None])[0, 0], abs=1e-8)
    assert found.value >= -0.05


def test_another_models_losses_are_numbers_of_the_law():
    reference = mx.model("reference")
    excess = BOTH - mx.losses(reference, ["x", "y"], name="val")
    problem = mx.minimize(mx.max(excess), over=W)
    given = {"reference": torch.tensor([0.5, 0.5], dtype=torch.float64)}
    found = mx.solve(problem, learner(), solver=Surrogate(design=25, rounds=2), given=given)
    below = ((np.array([0.5, 0.5]) - GOALS.numpy()) ** 2).sum(axis=1) / 2
    assert found.value == pytest.approx((upper(found.vector[None])[0] - below).max(), abs=1e-8)


def test_near_implicits_optimum_on_the_shared_ridge_case(shared):
    """Case b, with the design's upper losses in closed form and the law's optima trained by the learner."""
    case = "b_ridge_k8_d50"
    figures = json.loads(shared("cases/bilevel/expected.json").read_text(encoding="utf-8"))["cases"][case]
    with np.load(shared(f"cases/bilevel/{case}.npz")) as arrays:
        z = {name: arrays[name] for name in arrays}
    count = z["X"].shape[1]
    gram, cross = np.einsum("knd,kne->kde", z["X"], z["X"]) / count, np.einsum("knd,kn->kd", z["X"], z["y"]) / count

    def value(w):
        theta = np.linalg.solve(np.einsum("k,kde->de", w, gram) + figures["rho"] * np.eye(figures["d"]), w @ cross)
        return ((z["Xv"] @ theta - z["yv"]) ** 2).mean() / 2

    domains = [f"d{i}" for i in range(figures["k"])]
    rows = np.random.default_rng(0).dirichlet(np.ones(8), 150)
    runs = mx.Runs.from_arrays(domains, rows, ["val"], [[value(row)] for row in rows])
    w, theta = mx.Mixture(domains), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, domains) + figures["rho"] / 2 * mx.sum_squares(theta), over=theta)
    t = {name: torch.tensor(array) for name, array in z.items()}
    ridge = mx.FunctionLearner(
        torch.zeros(figures["d"], dtype=torch.float64),
        losses={
            "train": lambda p: ((t["X"] @ p - t["y"]) ** 2).mean(1) / 2,
            "val": lambda p: ((t["Xv"] @ p - t["yv"]) ** 2).mean() / 2,
        },
    )
    surrogate = Surrogate("gaussian-process", design=runs, rounds=8)
    found = mx.solve(mx.minimize(mx.loss(trained, "val"), over=w), ridge, solver=surrogate)
    best = figures["optimum"]["F"]
    assert found.value == pytest.approx(value(found.vector), rel=1e-6)
    assert best <= found.value <= 1.15 * best < min(runs.metrics[:, 0])


def test_a_sampled_learner_is_trained_from_its_parameters():
    """Bigrams: domain a repeats 0 1, domain b repeats 2 3, and the target is a."""
    torch.manual_seed(0)
    texts = {"a": torch.tensor([0, 1] * 200), "b": torch.tensor([2, 3] * 200)}
    module = torch.nn.Embedding(4, 4)
    bigrams = mx.TorchLearner(
        module, {"train": texts, "val": {"a": texts["a"]}}, context=8, optimizer=lambda tensors: torch.optim.SGD(tensors, lr=1.0)
    )
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, w.index), over=theta)
    problem = mx.minimize(mx.mean(mx.losses(trained, ["a"], name="val")), over=w, subject_to=[(w["a"] <= 0.9).named("cap")])
    found = mx.solve(problem, bigrams, solver=Surrogate(design=8, train=20))
    assert found.status is mx.Status.SEARCHED
    assert found.weights["a"] == pytest.approx(0.9, abs=0.05)
    assert found.check.gap is None
    assert "no gap: the solver has no hypergradient" in str(found.check)
    assert found.cost.gradients == 9 * 20
    assert found.cost.tokens > 0


def test_it_prints_its_design_by_size():
    assert str(Surrogate()) == "Surrogate()"
    assert str(Surrogate(LightGBM.fit, design=np.eye(3), rounds=2)) == "Surrogate(law='LightGBM.fit', design=<3 mixtures>, rounds=2)"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Surrogate("exponental"), "did you mean 'exponential'"),
        (lambda: Surrogate(rounds=0), "rounds is 0"),
        (lambda: Surrogate(design=0), "design is 0"),
        (lambda: Surrogate(train=1.5), "train is 1.5"),
    ],
)
def test_settings_out_of_range(make, text):
    with pytest.raises(mx.InputError, match=text):
        make()


def test_what_it_does_not_take():
    with pytest.raises(mx.RefusalError, match="it takes bilevel problems"):
        mx.plan(mx.minimize(mx.entropy(W), over=W), solver=Surrogate())
    with pytest.raises(mx.RefusalError, match="depends on scales"):
        mx.plan(mx.minimize(mx.mean(BOTH), over=W), learner(), solver=Surrogate("chinchilla"))
    names = list(mx.plan(mx.minimize(mx.mean(BOTH), over=W), learner()).choice.refusals)
    assert "Surrogate" not in names, "it is thought of by name alone"


def test_climbs_rounds_come_from_the_best_foretold_and_end_at_an_optimum():
    problem = mx.minimize(mx.mean(BOTH), over=W, subject_to=[(W["a"] <= 0.7).named("cap")])
    sizes = []

    def fit(runs):
        sizes.append(len(runs))
        return Exponential.fit(runs)

    found = mx.solve(problem, learner(), solver=Surrogate(fit, design=16, rounds=(8, 4)))
    assert found.cost.steps == 16 + 8 + 4 + 1
    assert sizes == [16, 24, 28]
    values = np.array(found.trace["value"])
    assert values[16:24].mean() < values[:16].mean()
    assert found.weights["a"] <= 0.7 + 1e-9
    assert str(Surrogate(rounds=(8, 4))) == "Surrogate(rounds=(8, 4))"
    again = mx.solve(mx.problems.climb(problem, design=16, rounds=(8, 4), law="exponential"), learner())
    assert (again.vector == found.vector).all()
    with pytest.raises(mx.InputError, match="rounds is 0"):
        Surrogate(rounds=(8, 0))
