"""Designs that learn: what D-optimal ones gain, expected improvement by integration, and rounds that go towards the optimum."""

from __future__ import annotations

import re
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import mixopt as mx
from mixopt.designs import KINDS, Bayesian, Climb, DOptimal
from mixopt.designs.advice import curve_of
from mixopt.designs.learning import improvement
from mixopt.designs.space import Space
from mixopt.laws.law import At

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e11, 3e11, 1e11])
W = mx.Mixture(DOMAINS)
CAP = (W["web"] <= 0.5).named("cap")
BEST = np.array([0.2, 0.5, 0.3])


def losses(mixtures):
    """A bowl over the simplex, least at BEST."""
    return 2 + ((np.asarray(mixtures) - BEST) ** 2).sum(axis=-1)


def measured(design, seed=0):
    noise = 1e-3 * np.random.default_rng(seed).standard_normal(len(design))
    return design.measured(["val"], (losses(design.mixtures) + noise)[:, None])


@pytest.fixture(scope="module")
def first():
    return measured(mx.design(DOMAINS, runs=16, kind="sobol"))


def test_without_runs_a_linear_law_has_its_corners_evenly():
    found = mx.design(DOMAINS, runs=6, kind="d-optimal", law="linear", replicates=0)
    assert sorted(map(tuple, found.mixtures)) == sorted(map(tuple, np.repeat(np.eye(3), 2, axis=0)))
    assert found.notes == ("6 runs are fewer than the 12 = 3 (k + 1) that are advised for the linear law; expect wide intervals",)


@pytest.mark.parametrize("runs", [5, 7])
def test_d_optimal_for_a_linear_law_is_the_best_of_all_subsets_of_vertices(runs):
    """max det X'X is convex in each row, so that the optimum is at vertices: all choices of five, or seven, out of ten."""
    names = [f"d{i}" for i in range(5)]
    caps = [(mx.Mixture(names) <= 0.5).named("caps")]
    found = mx.design(names, runs=runs, kind=DOptimal(200), law="linear", subject_to=caps, replicates=0).mixtures
    vertices = np.array([row for row in product((0, 0.5), repeat=5) if sum(row) == 1])
    subsets = vertices[np.array(list(combinations_with_replacement(range(len(vertices)), runs)))]
    best = np.linalg.det(subsets.transpose(0, 2, 1) @ subsets).max()
    assert np.linalg.det(found.T @ found) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("law", ["exponential", "additive-power", "c + exp(A @ w)"])
def test_without_runs_a_bent_law_is_told_more_than_by_any_other_kind(law):
    """The information on its parameters, over draws of them that the design did not see; corners alone would tell less than draws do."""
    curve, _ = curve_of(law, DOMAINS)
    theta = np.random.default_rng(5).standard_normal((200, curve.size(3)))
    theta = np.clip(theta, *curve.bounds(At(np.eye(3)), np.zeros(3)))

    def told(kind):
        jacobian = curve.jacobian(theta, At(mx.design(DOMAINS, runs=12, kind=kind, law=law, replicates=0).mixtures))
        return np.linalg.slogdet(jacobian.transpose(0, 2, 1) @ jacobian)[1].mean()

    assert told("d-optimal") > max(map(told, ("dirichlet", "sobol", "uniform")))


def test_laws_without_slopes_are_designed_for_as_the_exponential_law():
    bent = mx.design(DOMAINS, runs=12, kind="d-optimal")
    for law, why in (("lightgbm", "has no slopes"), ("chinchilla", r"sees \(params, tokens\) too")):
        found = mx.design(DOMAINS, runs=12, kind="d-optimal", law=law)
        assert re.search(f"the {law} law {why}: the design is D-optimal for the exponential law", found.notes[0])
        assert (found.mixtures == bent.mixtures).all()


def test_a_law_fitted_elsewhere_is_designed_for_at_its_fit(first):
    law = mx.laws.Exponential.fit(first)
    found = mx.design(DOMAINS, runs=8, kind="d-optimal", law=law, replicates=0).mixtures

    def told(mixtures):
        jacobian = law.curve.jacobian(law.theta, At(mixtures))[0]
        return np.linalg.slogdet(jacobian.T @ jacobian)[1]

    assert told(found) > told(mx.design(DOMAINS, runs=8, kind="d-optimal", replicates=0).mixtures)


def test_d_optimal_mixtures_tell_more_than_draws(first):
    law = mx.laws.Exponential.fit(first)

    def told(mixtures):
        both = np.vstack([first.mixtures, mixtures])
        jacobian = law.curve.jacobian(law.theta, At(both))[0]
        return np.linalg.slogdet(jacobian.T @ jacobian + 1e-9 * np.eye(jacobian.shape[1]))[1]

    found = mx.design(DOMAINS, runs=5, kind=DOptimal(400), law=law, after=first, replicates=0).mixtures
    draws = [mx.design(DOMAINS, runs=5, kind="uniform", seed=s, replicates=0).mixtures for s in range(10)]
    assert told(found) > max(map(told, draws))


def test_laws_without_a_jacobian_are_designed_for_by_bootstrap(first, monkeypatch):
    monkeypatch.setattr("mixopt.designs.learning._DRAWS", 3)
    found = mx.design(DOMAINS, runs=2, kind=DOptimal(60), law="lightgbm", after=first, replicates=0)
    assert len(found) == 2


def test_expected_improvement_is_the_integral():
    for mean, sd in ((0.3, 0.2), (-0.5, 0.4), (2.0, 0.1)):
        truth = quad(lambda f, m=mean, s=sd: max(0.1 - f, 0) * norm.pdf(f, m, s), mean - 9 * sd, 0.1)[0] if mean - 9 * sd < 0.1 else 0
        assert improvement(0.1, np.array([mean]), np.array([sd]))[0] == pytest.approx(truth, abs=1e-7)
    assert improvement(0.1, np.array([0.0, 0.3]), np.zeros(2)).tolist() == [0.1, 0.0]


@pytest.mark.parametrize("kind", [Bayesian(600), Climb(law="exponential", pool=600), DOptimal(300)], ids=lambda k: k.name)
def test_rounds_keep_constraints_names_and_seeds(kind, first):
    found = mx.design(DOMAINS, runs=6, kind=kind, after=first, subject_to=[CAP], replicates=2, seed=4, prior=[0.4, 0.3, 0.3])
    again = mx.design(DOMAINS, runs=6, kind=kind, after=first, subject_to=[CAP], replicates=2, seed=4, prior=[0.4, 0.3, 0.3])
    assert (found.mixtures == again.mixtures).all()
    assert Space.of(DOMAINS, [CAP]).feasible(found.mixtures).all()
    assert found.ids == tuple(f"run{i:03d}" for i in range(16, 22))
    assert found.seeds.tolist() == list(range(20, 26))
    joined = first.joined(measured(found))
    assert len(joined) == 22


def test_the_best_run_so_far_is_repeated(first):
    found = mx.design(DOMAINS, runs=6, kind=Bayesian(200), after=first)
    assert found.origins[0] == "best so far"
    assert (found.mixtures[0] == first.mixtures[first.metrics[:, 0].argmin()]).all()


def test_bayesian_optimisation_comes_to_the_optimum(first):
    runs = first
    for seed in (1, 2):
        runs = runs.joined(measured(mx.design(DOMAINS, runs=4, kind=Bayesian(1500), after=runs, replicates=0, seed=seed), seed))
    best = runs.mixtures[runs.metrics[:, 0].argmin()]
    assert np.abs(best - BEST).max() < 0.06
    assert losses(best) < losses(first.mixtures).min()


def test_climb_draws_from_the_best_of_one_pool():
    kind = Climb(law="gaussian-process", pool=400, top=12)
    runs = measured(mx.design(DOMAINS, runs=24, kind=kind, replicates=0))
    found = mx.design(DOMAINS, runs=8, kind=kind, after=runs, replicates=0).mixtures
    assert losses(found).mean() < np.quantile(losses(runs.mixtures), 0.25)
    tried = {tuple(row) for row in runs.mixtures.round(9)}
    assert not tried & {tuple(row) for row in found.round(9)}
    predicted = mx.laws.GaussianProcess.fit(runs).predict(kind.draws.propose(_ask(kind)).mixtures)[:, 0]
    assert losses(found).max() <= np.sort(predicted)[60] + 0.05


def _ask(kind):
    from mixopt.designs.kinds import Ask

    return Ask(Space.of(DOMAINS), kind.pool, DOMAINS.natural, np.random.default_rng(0))


def test_the_objective_may_be_a_mixture_of_targets(first):
    both = mx.Runs.from_arrays(
        DOMAINS, first.mixtures, mx.runs.Targets(["val", "acc"], {"acc": "max"}), np.column_stack([first.metrics, first.mixtures[:, 2]])
    )
    by_books = mx.design(DOMAINS, runs=2, kind=Climb("linear", pool=200, top=2), after=both, objective={"acc": 1}, replicates=0)
    assert by_books.mixtures[:, 2].min() > 0.5
    same = mx.design(DOMAINS, runs=2, kind=Climb("linear", pool=200, top=2), after=both, objective=lambda y: -y[..., 1], replicates=0)
    assert (same.mixtures == by_books.mixtures).all()


def test_autoscale_runs_are_those_of_the_problem():
    mixtures, tokens = mx.problems.autoscale_runs(DOMAINS, 3e8)
    found = mx.design(DOMAINS, kind="autoscale", tokens=3e8)
    assert np.allclose(found.mixtures, mixtures)
    assert np.allclose(found.tokens, tokens)
    assert found.origins[:2] == ("base", "less web")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "bayesian"}, "a bayesian design goes on from runs; give them, after=runs"),
        ({"kind": "autoscale"}, "give the tokens of the base run"),
        ({"kind": "autoscale", "runs": 5, "tokens": 1e9}, "are 7, and 5 are asked for"),
        ({"tokens": -1}, "tokens are -1"),
        ({"kind": Climb("linear", pool=4), "runs": 9}, "7 mixtures cannot be drawn from 4"),
    ],
)
def test_bad_settings_are_told(settings, words):
    with pytest.raises(mx.InputError, match=words):
        mx.design(DOMAINS, **settings)


def test_a_top_that_is_smaller_than_the_round_is_told(first):
    with pytest.raises(mx.InputError, match="5 mixtures cannot be drawn from the best 3"):
        mx.design(DOMAINS, runs=5, kind=Climb("linear", pool=50, top=3), after=first, replicates=0)


def test_runs_that_do_not_fit_are_told(first):
    with pytest.raises(mx.InputError, match="must have the same domains"):
        mx.design(["a", "b"], after=first)
    with pytest.raises(mx.InputError, match=r"no target 'vall'.*did you mean 'val'"):
        mx.design(DOMAINS, after=first, objective={"vall": 1})
    with pytest.raises(mx.InputError, match="not all 0"):
        mx.design(DOMAINS, after=first, objective={"val": 0})
    nothing = mx.Runs.from_arrays(DOMAINS, first.mixtures, ["val"], np.full((16, 1), np.nan))
    with pytest.raises(mx.InputError, match="no run has all the metrics"):
        mx.design(DOMAINS, kind="bayesian", after=nothing)
    assert set(KINDS) >= {"bayesian", "climb", "d-optimal", "autoscale"}


def test_candidates_over_many_domains_are_draws(monkeypatch):
    monkeypatch.setattr(Space, "inside", lambda *given: pytest.fail("hit-and-run"))
    found = mx.design([f"d{i}" for i in range(60)], runs=6, kind="d-optimal")
    assert len(found) == 6
