"""Designs: distributions against their sources, constraints kept, corners counted, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, ks_2samp

import mixopt as mx
from mixopt.designs import KINDS, Dirichlet, Sobol, advised, fewest
from mixopt.designs.kinds import _dirichlet
from mixopt.designs.space import Space
from mixopt.laws import LAWS

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e11, 3e11, 1e11])
W = mx.Mixture(DOMAINS)
CAP = (W["web"] <= 0.5).named("cap")
TIGHT = [CAP, (W["code"] + W["books"] <= 0.6).named("both"), (W["books"] >= 0.1).named("floor")]
EACH = pytest.mark.parametrize("kind", [name for name in KINDS if name not in ("autoscale", "bayesian", "climb")])


def two_sided(sample, expected, error):
    return abs(np.mean(sample) - expected) < 5 * error


@EACH
@pytest.mark.parametrize("limits", [[], [CAP], TIGHT, [mx.equal(W["web"], 0.4).named("fixed")]], ids=len)
def test_every_mixture_is_on_the_simplex_and_keeps_the_constraints(kind, limits):
    found = mx.design(DOMAINS, runs=5, kind=kind, subject_to=limits, seed=3)
    assert len(found) == 5
    assert (found.mixtures >= 0).all()
    assert np.allclose(found.mixtures.sum(axis=1), 1, atol=1e-12)
    assert Space.of(DOMAINS, limits).feasible(found.mixtures).all()


@EACH
def test_the_same_seed_gives_the_same_design(kind):
    first, again, other = (mx.design(DOMAINS, runs=5, kind=kind, subject_to=TIGHT, seed=s, replicates=0) for s in (1, 1, 2))
    assert (first.mixtures == again.mixtures).all()
    assert kind in ("lattice", "d-optimal") or (first.mixtures != other.mixtures).any()


@settings(deadline=None, max_examples=12)
@given(st.integers(2, 7), st.integers(0, 1000), st.lists(st.floats(0.05, 1), min_size=7, max_size=7))
def test_under_random_caps_all_kinds_of_draws_stay_inside(k, seed, caps):
    domains = mx.Domains([f"d{i}" for i in range(k)])
    w, caps = mx.Mixture(domains), np.array(caps[:k]) + 1 / k
    limits = [(w <= mx.constant(caps, domains.names)).named("caps"), (w[0] + w[1] >= 0.1).named("two")]
    for kind in ("dirichlet", "sobol", "uniform"):
        found = mx.design(domains, runs=8, kind=kind, subject_to=limits, seed=seed)
        assert (found.mixtures <= caps + 1e-7).all()
        assert (found.mixtures[:, :2].sum(axis=1) >= 0.1 - 1e-7).all()


def test_dirichlet_draws_follow_regmix_rule(shared):
    """Against a straight reading of RegMix's rule, draw by draw with numpy's Dirichlet."""
    told = json.loads(shared("data/regmix/pile_prior.json").read_text())["prior"]
    prior = np.array(list(told.values()))
    prior = prior / prior.sum()
    rng, rows = np.random.default_rng(7), []
    flat = prior**0.5 / (prior**0.5).sum()
    for strength in rng.choice(np.logspace(-1, np.log10(5), 15), 30_000):
        row = rng.dirichlet(flat * strength)
        if np.isfinite(row).all() and (row <= np.minimum(15 * prior, 1)).all():
            row = np.where(row < 2e-4, 0, row)
            rows.append(np.round(row / row.sum() / 2e-4) * 2e-4)
    rows = np.unique(np.array(rows).round(6), axis=0)
    found = np.vstack([mx.design(mx.Domains(told, tokens=told), runs=300, replicates=0, seed=s).mixtures for s in range(3)])
    assert (found <= np.minimum(15 * prior, 1) + 2e-4).all()
    assert np.allclose(found / 2e-4, np.rint(found / 2e-4), atol=1e-6)
    for figure in (lambda x: x, lambda x: x > 0, lambda x: x**2):
        error = figure(rows).std(axis=0) * np.sqrt(1 / 900 + 1 / len(rows)) + 1e-3
        assert (np.abs(figure(found).mean(axis=0) - figure(rows).mean(axis=0)) < 4 * error).all()


def test_small_dirichlet_parameters_have_their_moments():
    alpha = np.array([0.002, 0.3, 2.0])
    drawn = _dirichlet(np.tile(alpha, (20_000, 1)), np.random.default_rng(0))
    mean = alpha / alpha.sum()
    spread = np.sqrt(mean * (1 - mean) / (alpha.sum() + 1) / 20_000)
    assert (np.abs(drawn.mean(axis=0) - mean) < 5 * spread).all()


def test_uniform_and_sobol_have_the_moments_of_the_simplex():
    for kind, factor in (("uniform", 5), ("sobol", 0.5)):
        found = mx.design(DOMAINS, runs=1024, kind=kind, replicates=0).mixtures
        error = np.sqrt(1 / 18 / 1024)  # the variance of a weight of Dirichlet(1, 1, 1) is 1/18
        assert (np.abs(found.mean(axis=0) - 1 / 3) < factor * error).all()
        assert np.allclose(found.var(axis=0), 1 / 18, atol=0.01)


def test_sobol_around_a_prior_has_its_mean():
    found = mx.design(DOMAINS, runs=512, kind=Sobol(strength=20), replicates=0).mixtures
    assert np.allclose(found.mean(axis=0), DOMAINS.natural, atol=0.005)


def chi_squared(found, inside):
    """The p-value of draws [R, 3] over 25 cells of the triangle, against as many uniform draws as were kept of two million."""
    edges = [np.quantile(inside[:, i], np.linspace(0, 1, 6)[1:-1]) for i in (0, 2)]
    counts = [np.bincount(5 * np.digitize(x[:, 0], edges[0]) + np.digitize(x[:, 2], edges[1]), minlength=25) for x in (found, inside)]
    often = counts[1] > 20 * len(inside) / len(found)
    return chi2_contingency([row[often] for row in counts]).pvalue


@pytest.mark.parametrize(
    "limits",
    [
        [CAP],
        TIGHT,
        [(W["web"] <= 0.02).named("slice")],
        [(W["web"] - W["code"] <= 0.01).named("a"), (W["code"] - W["web"] <= 0.01).named("b")],
    ],
    ids=["cap", "tight", "slice", "diagonal band"],
)
def test_hit_and_run_is_uniform(limits):
    """Where constraints leave a thin slice, too, from a start in a corner of it."""
    space, rng = Space.of(DOMAINS, limits), np.random.default_rng(0)
    every = rng.dirichlet(np.ones(3), 2_000_000)
    found = space.inside(np.tile(space.corners[0], (3000, 1)), rng)
    assert chi_squared(found, every[space.feasible(every)]) > 0.01


@pytest.mark.parametrize(("k", "most"), [(17, 0.5), (17, 0.1)])
def test_hit_and_run_is_uniform_over_many_domains(k, most):
    """The sum of squares and the largest weight are distributed as those of uniform draws that keep the caps."""
    names, rng = [f"d{i}" for i in range(k)], np.random.default_rng(0)
    space = Space.of(names, [(mx.Mixture(names) <= most).named("caps")])
    every = rng.dirichlet(np.ones(k), 1_000_000)
    inside = every[(every <= most).all(axis=1)]
    found = space.inside(np.tile(space.centre, (300, 1)), rng)
    for figure in ((lambda x: (x**2).sum(axis=1)), (lambda x: x.max(axis=1)), (lambda x: x[:, 0])):
        assert ks_2samp(figure(found), figure(inside)).pvalue > 0.01


def test_uniform_draws_that_keep_the_constraints_are_taken_as_they_are():
    found = mx.design(DOMAINS, runs=20, kind="uniform", subject_to=[CAP], replicates=0)
    assert set(found.origins) == {"uniform"}
    few = mx.design(DOMAINS, runs=20, kind="uniform", subject_to=[(W["web"] <= 1e-4).named("slice")], replicates=0)
    assert "hit-and-run" in few.origins
    assert "draws are within the constraints; " in few.notes[0]
    assert "are drawn there by hit-and-run" in few.notes[0]


def test_hit_and_run_moves_where_a_weight_is_settled():
    fixed = [mx.equal(W["web"], 0.4).named("fixed")]
    found = mx.design(DOMAINS, runs=2000, kind="uniform", subject_to=fixed, replicates=0).mixtures
    assert np.allclose(found[:, 0], 0.4)
    assert found[:, 1].mean() == pytest.approx(0.3, abs=0.02)
    assert found[:, 1].var() == pytest.approx(0.6**2 / 12, rel=0.1)
    space = Space.of(DOMAINS, fixed)
    still = space.inside(np.tile([0.4, 0.1, 0.5], (500, 1)), np.random.default_rng(0))
    assert still[:, 1].std() > 0.15


def test_metropolis_keeps_a_dirichlet_distribution():
    space, alpha = Space.of(DOMAINS), np.array([4.0, 2.0, 3.0])
    rng = np.random.default_rng(0)
    found = space.inside(rng.dirichlet(np.ones(3), 3000), rng, np.tile(alpha, (3000, 1)))
    assert np.allclose(found.mean(axis=0), alpha / 9, atol=0.015)
    assert np.allclose(found.var(axis=0), alpha * (9 - alpha) / 81 / 10, rtol=0.15)


def test_the_lattice_has_corners_half_ways_and_middles():
    found = mx.design(DOMAINS, runs=10, kind="lattice", replicates=0)
    assert found.origins == ("centre", *["corner"] * 3, *["half-way"] * 3, *["middle of two"] * 3)
    assert np.allclose(found.mixtures[1:4], np.eye(3))
    assert np.allclose(found.mixtures[4], [2 / 3, 1 / 6, 1 / 6])
    assert len(mx.design(DOMAINS, kind="lattice", replicates=0)) == 7
    with pytest.raises(mx.InputError, match="3 corners has 10 mixtures, and 11 are asked for"):
        mx.design(DOMAINS, runs=11, kind="lattice", replicates=0)


def test_corners_under_caps_are_those_of_the_polygon():
    corners = Space.of(DOMAINS, [CAP]).corners
    expected = {(0.5, 0.5, 0), (0.5, 0, 0.5), (0, 1, 0), (0, 0, 1)}
    assert {tuple(row) for row in corners.round(9)} <= expected
    assert len(corners) >= 3


def test_a_problem_brings_its_constraints_and_its_parameters():
    most = mx.parameter("most", nonneg=True)
    problem = mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[(W["web"] <= most).named("cap")])
    found = mx.design(problem, runs=12, given={"most": 0.3})
    assert found.mixtures[:, 0].max() <= 0.3 + 1e-7
    assert np.allclose(found.mixtures[0], [0.3, 0.45, 0.25])  # the natural proportions, moved under the cap
    with pytest.raises(mx.InputError, match=r"parameters \(most\); give their numbers"):
        mx.design(problem, runs=12)


def test_constraints_that_bend_are_kept_by_leaving_draws_out():
    near = (mx.kl(W, DOMAINS.natural) <= 0.1).named("near")
    found = mx.design(DOMAINS, runs=10, subject_to=[near])
    kl = (found.mixtures * np.log(np.maximum(found.mixtures, 1e-300) / DOMAINS.natural)).sum(axis=1)
    assert kl.max() <= 0.1 + 1e-7
    with pytest.raises(mx.InputError, match=r"corners are found under linear constraints, and \(near\) is not linear"):
        mx.design(DOMAINS, runs=4, kind="lattice", subject_to=[near])
    with pytest.raises(mx.InputError, match=r"only 0 distinct mixtures .* relax them"):
        mx.design(DOMAINS, runs=40, subject_to=[(mx.kl(W, DOMAINS.natural) <= 1e-9).named("close")])


@pytest.mark.parametrize("kind", ["dirichlet", "uniform", "sobol", "d-optimal"])
def test_constraints_that_leave_one_mixture_are_told(kind):
    with pytest.raises(
        mx.InputError, match=r"leave one mixture only \(web 0.5, code 0.3, books 0.2\), so that there is nothing to compare"
    ):
        mx.design(DOMAINS, runs=6, kind=kind, subject_to=[mx.equal(W["web"], 0.5).named("a"), mx.equal(W["code"], 0.3).named("b")])


def test_replicates_share_the_reference_mixture_and_differ_in_seed():
    found = mx.design(DOMAINS, runs=64, seed=5)
    (group,) = found.replicates()
    assert group == (0, 1, 2, 3)
    assert np.allclose(found.mixtures[0], DOMAINS.natural)
    assert found.seeds.tolist() == list(range(5, 69))
    assert mx.design(DOMAINS, runs=64, replicates=0).replicates() == ()


def test_too_few_runs_are_noted_with_the_law_named():
    assert "3 runs are fewer than the 5 that the exponential law takes without a ridge" in mx.design(DOMAINS, runs=3).describe()
    assert "8 runs are fewer than the 12 = 3 (k + 1) that are advised for the exponential law" in mx.design(DOMAINS, runs=8).notes[0]
    assert mx.design(DOMAINS).notes == ()
    assert len(mx.design(DOMAINS)) == advised(DOMAINS) == 12


def test_the_fewest_runs_of_each_law_are_what_its_fit_asks_for():
    known = {"exponential": 5, "additive-power": 6, "linear": 4, "autoscale": 7, "lightgbm": 10, "gaussian-process": 5, "chinchilla": 6}
    assert {name: fewest(name, DOMAINS) for name in known} == known
    assert fewest("c + b*exp(A @ w)", DOMAINS) == 6
    for name in LAWS:
        if name != "formula":
            assert fewest(name, DOMAINS) >= 2
    rng = np.random.default_rng(0)
    for name in ("exponential", "linear", "additive-power"):
        least = fewest(name, DOMAINS)
        runs = mx.Runs.from_arrays(DOMAINS, rng.dirichlet(np.ones(3), least - 1), ["loss"], rng.random((least - 1, 1)))
        with pytest.raises(mx.InputError, match="too few"):
            LAWS[name].fit(runs, ridge=0.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "dirchlet"}, "no kind of design 'dirchlet'.*did you mean 'dirichlet'"),
        ({"runs": 0}, "runs is 0; it is a whole number >= 1"),
        ({"replicates": 1}, "one run alone tells no noise"),
        ({"runs": 5, "replicates": 9}, "give 0, or from 2 to 5"),
        ({"law": "exponental"}, "'exponental' is no law"),
        ({"prior": {"web": 0.5}}, "weights are missing for"),
        ({"subject_to": [(W["web"] >= 0.7).named("a"), (W["code"] >= 0.7).named("b")]}, "nothing to design: the lower bounds sum to 1.4"),
        ({"subject_to": [mx.Mixture(mx.Domains(["a", "b"]))["a"] <= 0.5]}, "constraints are on a mixture of"),
        ({"kind": Sobol()}, None),
    ],
)
def test_bad_input_is_told(settings, words):
    if words is None:
        mx.design(DOMAINS, **settings)
    else:
        with pytest.raises(mx.InputError, match=words):
            mx.design(DOMAINS, **settings)


@pytest.mark.parametrize("settings", [{"temperature": 2}, {"strengths": (0, 1)}, {"most": 0}, {"least": 1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(mx.InputError):
        Dirichlet(**settings)
    with pytest.raises(mx.InputError, match="strength is"):
        Sobol(-1)


def test_sizes_of_domains_stay_where_constraints_are_on_a_mixture_without_them():
    bare = mx.Mixture(DOMAINS.names)
    assert mx.design(DOMAINS, runs=6, subject_to=[bare["web"] <= 0.5]).domains.tokens == DOMAINS.tokens


def test_a_row_that_breaks_a_constraint_is_refused_by_name(tmp_path):
    (tmp_path / "own.csv").write_text("run,web,code,books\na,0.4,0.3,0.3\nb,0.6,0.2,0.2\nc,0.7,0.2,0.1\n")
    own = mx.Design.from_csv(tmp_path / "own.csv")
    with pytest.raises(mx.InputError, match=r"run 'b' breaks 'cap' by 0\.1, and 1 more runs break constraints; change"):
        own.check(DOMAINS, [CAP])
    with pytest.raises(mx.InputError, match="the order counts too"):
        own.check(["code", "web", "books"])
    own.check(mx.minimize(mx.kl(W, DOMAINS.natural), over=W))
    with pytest.raises(mx.InputError, match=r"the mixture of run 'b' breaks 'cap' by 0\.1; change or leave out the row"):
        Space.of(DOMAINS, [CAP]).check(np.array([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]), ["a", "b"])


def test_mixtures_that_are_rejected_for_the_prior_are_not_laid_to_constraints():
    names = ["a", "b", "c", "d"]
    found = mx.design(names, runs=8, kind=mx.designs.Dirichlet(most=1.2))
    assert "draws are within 1.2 times the prior; " in found.notes[0]
    assert found.mixtures.max() <= 0.3 + 1e-9
    w = mx.Mixture(mx.Domains(names))
    both = mx.design(mx.Domains(names), runs=8, kind=mx.designs.Dirichlet(most=1.2), subject_to=[w["a"] <= 0.27])
    assert "draws are within 1.2 times the prior and the constraints; " in both.notes[0]
