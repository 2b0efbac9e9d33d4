"""LightGBM as a law: few runs, files, early stopping as the notebook has it, RegMix's figures and its published search."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import mixopt as mx
from mixopt.laws import LightGBM
from mixopt.problems.regmix import of_target
from mixopt.report.ranks import spearman
from mixopt.runs import Targets
from mixopt.solvers import Grid, Simulation

pytest.importorskip("lightgbm")

NAMES = ["web", "code", "books"]


def runs_of(count, seed=0, targets=("loss", "score")):
    """Runs whose loss falls with web up to 0.6 and whose score rises with code."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(3), size=count)
    loss = 2 + np.abs(rows[:, 0] - 0.6)
    metrics = np.column_stack([loss, rows[:, 1]]) + 0.005 * rng.normal(size=(count, 2))
    return mx.Runs.from_arrays(NAMES, rows, Targets(targets, {targets[0]: "min", targets[1]: "max"}), metrics)


@pytest.fixture(scope="module")
def law():
    return LightGBM.fit(runs_of(120), rounds=300, rate=0.05)


def test_no_clock_decides_how_trees_grow(law):
    """By itself LightGBM times two orders of addition, and takes the faster."""
    for text in law.texts:
        assert {"[num_threads: 1]", "[force_col_wise: 1]"} <= set(text.splitlines())


def test_it_ranks_what_it_has_not_seen(law):
    test = runs_of(200, seed=1)
    predicted = law.predict(test.mixtures)
    assert predicted.shape == (200, 2)
    assert all(spearman(predicted[:, j], test.metrics[:, j]) > 0.93 for j in range(2))
    assert (law.trees == 300).all()
    assert (law.rmse < 0.05).all()
    assert "trees are flat beyond the runs" in str(law)


def test_few_runs_still_split():
    law = LightGBM.fit(runs_of(34), rounds=200, rate=0.05)
    assert np.ptp(law.predict(runs_of(50, seed=2).mixtures)[:, 0]) > 0.1
    flat = LightGBM.fit(runs_of(34), rounds=20, leaf=20)
    assert np.ptp(flat.predict(runs_of(50, seed=2).mixtures)[:, 0]) < 1e-12, "LightGBM's own least leaf, 20, leaves no split"


def test_its_expressions_are_opaque_and_a_maximum_is_one(law):
    w = mx.Mixture(NAMES)
    assert str(law["loss"](w)) == "lightgbm[loss](w)"
    assert str(law.losses(w)) == "lightgbm(w)"
    assert law.losses(w) == law.losses(w)
    assert law(w).index == ("loss", "score")
    best = mx.solve(mx.maximize(law["score"](w), over=w), solver=Grid())
    assert best.value == pytest.approx(law.predict(best.vector)[1])
    assert best.weights["code"] > 0.8
    both = mx.minimize(mx.sum(law.losses(w)), over=w, subject_to=[w["books"] <= 0.1])
    found = mx.solve(both, solver=Simulation(draws=5000, best="argmin"))
    assert found.value == pytest.approx(law.predict(found.vector) @ [1, -1])
    assert found.weights["books"] <= 0.1 + 1e-9
    assert "not certified" in str(found.check)
    with pytest.raises(mx.RefusalError, match="opaque"):
        mx.solve(both, solver=mx.solvers.Conic())


def test_a_file_has_lightgbms_own_text(law, tmp_path):
    path = tmp_path / "law.json"
    law.save(path)
    again = mx.laws.load(path)
    at = runs_of(20, seed=3).mixtures
    assert isinstance(again, LightGBM)
    assert (again.predict(at) == law.predict(at)).all()
    assert json.loads(path.read_text())["models"][0][0] == "tree"
    content = json.loads(path.read_text())
    for change in (lambda c: c["models"].pop(), lambda c: c["models"][0].__setitem__(slice(10, None), [])):
        broken = json.loads(json.dumps(content))
        change(broken)
        path.write_text(json.dumps(broken))
        with pytest.raises(mx.InputError, match="changed or cut"):
            mx.laws.load(path)


def test_missing_metrics_are_left_out_and_weights_count():
    runs = runs_of(60)
    metrics = runs.metrics.copy()
    metrics[::3, 1] = np.nan
    law = LightGBM.fit(mx.Runs.from_arrays(NAMES, runs.mixtures, runs.targets, metrics), rounds=20)
    assert law.fitted.runs.tolist() == [60, 40]
    doubled = np.r_[np.ones(30), np.zeros(30)]
    weighted = mx.Runs.from_arrays(NAMES, runs.mixtures, runs.targets, runs.metrics, weights=doubled)
    first = LightGBM.fit(weighted, rounds=50, leaf=3)
    assert np.sqrt(((first.predict(runs.mixtures) - runs.metrics) ** 2)[:30].mean()) < np.sqrt(
        ((first.predict(runs.mixtures) - runs.metrics) ** 2)[30:].mean()
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"rate": 2.0}, "rate is 2.0"),
        ({"leaf": 0}, "leaf is 0"),
        ({"faithful_to": "paper"}, "there is RegMix's 'code'"),
        ({"faithful_to": "code"}, "give them as held_out=runs"),
        ({"held_out": runs_of(20)}, "held_out stops the fit early"),
        (
            {"faithful_to": "code", "held_out": runs_of(20, targets=("a", "b"))},
            r"held_out is over \(web, code, books\) with targets \(a, b\)",
        ),
    ],
)
def test_settings_out_of_range(change, text):
    with pytest.raises(mx.InputError, match=text):
        LightGBM.fit(runs_of(30), **change)


def test_too_few_runs_and_a_constant_target():
    with pytest.raises(mx.InputError, match="9 runs have the target 'loss', and trees need 10"):
        LightGBM.fit(runs_of(9))
    runs = runs_of(20)
    with pytest.raises(mx.InputError, match="the target 'loss' is 1 in every run"):
        LightGBM.fit(mx.Runs.from_arrays(NAMES, runs.mixtures, runs.targets, np.ones((20, 2))))


def test_without_the_package_the_pip_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(mx.MixoptError, match=r"the lightgbm law needs lightgbm, .*pip install 'mixopt\[trees\]'"):
        LightGBM.fit(runs_of(30))


def test_regmix_is_a_method_with_a_search(law):
    prior = {"web": 0.2, "code": 0.3, "books": 0.5}
    method = mx.problems.regmix(law, "score", prior=prior)
    assert method.problem.sense == "maximize"
    assert method.solver == Simulation(prior=prior)
    assert mx.problems.regmix(law, "loss", faithful_to="paper").solver == Simulation(draws=1_000_000, top=100)
    found = mx.solve(mx.problems.regmix(runs_of(40), "loss"))
    assert found.status is mx.Status.SEARCHED
    assert found.weights["web"] == pytest.approx(0.6, abs=0.15)
    with pytest.raises(mx.InputError, match=r"name one of \(loss, score\) as target="):
        mx.problems.regmix(law)
    with pytest.raises(mx.InputError, match="the law is fitted already"):
        mx.problems.regmix(law, "loss", faithful_to="code")


@pytest.fixture(scope="module")
def pile(shared):
    """RegMix's runs as the files have them: those to fit, those to judge, and the prior."""

    def read(part, **settings):
        mixtures, losses = (shared(f"data/regmix/{part}_{kind}_1m.csv") for kind in ("mixture", "pile_loss"))
        return mx.Runs.from_csv(mixtures, losses, **settings)

    return read


def test_the_notebooks_search_comes_again(pile, shared):
    """Pile-CC, seed 42, 100,000 draws around the Pile's proportions, the mean of the best 128."""
    train, test = (pile(part, rescale=False) for part in ("train", "test"))
    assert not np.allclose(train.mixtures.sum(axis=1), 1, atol=1e-6)
    told = json.loads(shared("data/regmix/pile_prior.json").read_text())["prior"]
    total = sum(told.values())
    prior = {name: told[f"train_{name}"] / total for name in train.domains}
    method = mx.problems.regmix(train, "the_pile_pile_cc", prior=prior, faithful_to="code", held_out=test)
    law = method.problem.objective.data.function.law
    assert spearman(law.predict(test.mixtures)[:, 0], of_target(test, "the_pile_pile_cc").metrics[:, 0]) == pytest.approx(0.9892, abs=5e-5)
    found = mx.solve(method).weights
    figures = {"the_pile_pile_cc": 0.8909, "the_pile_ubuntu_irc": 0.0614, "the_pile_pubmed_abstracts": 0.0123}
    assert {name: round(found[name], 4) for name in figures} == figures


@pytest.mark.slow
def test_the_mean_rank_correlation_over_the_thirteen_targets(pile):
    train, test = (pile(part) for part in ("train", "test"))
    predicted = LightGBM.fit(train).predict(test.mixtures)
    assert np.mean([spearman(predicted[:, j], test.metrics[:, j]) for j in range(13)]) >= 0.988
