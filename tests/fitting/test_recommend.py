"""A recommendation: the optimum of the law, its noise and ranges, its words, and what relaxing a constraint would buy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import mixopt as mx
from mixopt import fitting
from mixopt.errors import InputError
from mixopt.fitting.account import bounds
from mixopt.fitting.inputs import averaged
from mixopt.laws import Exponential, LightGBM
from mixopt.report import page
from mixopt.runs import Runs, Targets
from mixopt.solvers import Projected

REGMIX = Path(__file__).parents[2] / "../shared/data/regmix"
needs_regmix = pytest.mark.skipif(not REGMIX.exists(), reason="needs ../shared/data/regmix beside the project")

recommend = partial(fitting.recommend, law="exponential", ridge=0.0)
PRIOR = {"web": 0.6, "code": 0.2, "books": 0.15, "maths": 0.05}
TOKENS = {"web": 6e11, "code": 2e11, "books": 5e10, "maths": 4e11}


def test_the_weights_are_the_optimum_that_another_solver_finds(table):
    found = recommend(table(), kl=0.05, prior=PRIOR, at_most={"code": 0.3})
    w = mx.Mixture(mx.Domains(list(PRIOR)))
    other = mx.solve(
        mx.minimize(mx.mean(found.law(w)) + 0.05 * mx.kl(w, np.array(list(PRIOR.values()))), over=w, subject_to=[w["code"] <= 0.3]),
        solver=Projected(),
    )
    assert found.result.status is mx.Status.OPTIMAL
    np.testing.assert_allclose(found.fitted.vector, other.vector, atol=1e-4)
    assert found.weights["code"] == pytest.approx(0.3, abs=1e-6)
    assert found.fitted.question.total(found.fitted.vector) == pytest.approx(found.result.value)


def test_the_quality_is_of_the_objective_itself_and_the_noise_the_doubt_of_its_gain(table):
    found = recommend(table(noise=0.05), families={"text": ["chat", "novels"]}, folds=4, seed=3, prior=PRIOR)
    predicted, measured = found.validation.predicted, found.runs.metrics

    def by_hand(y: np.ndarray) -> np.ndarray:
        return (y[:, [0, 2]].mean(axis=1) + y[:, 1]) / 2

    assert found.quality.rmse == pytest.approx(np.sqrt(np.mean((by_hand(predicted) - by_hand(measured)) ** 2)))
    gain = found.fitted.question.loss(np.array(list(PRIOR.values()))) - found.fitted.question.loss(found.fitted.vector)
    assert found.doubt.gain.value == pytest.approx(gain)
    low, high = found.doubt.gain.interval(0.9)
    assert found.fitted.noise.value == pytest.approx((high - low) / 2)
    assert "the gain over natural" in found.fitted.noise.how
    assert "jackknife" in found.fitted.noise.how
    low, high = found.doubt.value
    assert low < found.fitted.question.loss(found.fitted.vector) < high
    assert high - low > 2 * found.quality.rmse
    assert (found.doubt.low <= found.fitted.vector).all()
    assert (found.doubt.high >= found.fitted.vector).all()
    near = np.abs(found.runs.mixtures - found.fitted.vector).sum(axis=1).argsort()[:10]
    squares = (by_hand(predicted) - by_hand(measured)) ** 2
    assert (found.quality.nearby, found.quality.near) == (10, pytest.approx(np.sqrt(squares[near].mean())))
    given = recommend(table(), noise=0.25)
    assert (given.ranges.noise, given.fitted.noise.how) == (0.25, "given by the user")
    with pytest.raises(InputError, match="the noise is -1"):
        recommend(table(), noise=-1)


@pytest.mark.parametrize("settings", [{}, {"kl": 0.05, "prior": PRIOR}, {"objective": "max"}], ids=str)
def test_every_mixture_of_a_range_is_within_the_noise_and_the_next_is_not(table, settings):
    found = recommend(table(noise=0.03), **settings)
    question, best = found.fitted.question, found.fitted.vector
    low, high = (np.array(list(r.values())) for r in (found.ranges.low, found.ranges.high))
    assert (low <= best + 1e-9).all()
    assert (high >= best - 1e-9).all()
    assert (high - low).max() > 0.02
    draws = np.random.default_rng(0).dirichlet(0.5 + 60 * best, 3000)
    good = [
        w
        for w in draws
        if question.total(w) <= question.total(best) + found.ranges.noise and question.loss(w) <= question.loss(best) + found.ranges.noise
    ]
    assert len(good) > 5
    assert (np.min(good, axis=0) >= low - 1e-6).all()
    assert (np.max(good, axis=0) <= high + 1e-6).all()
    assert (np.max(good, axis=0) - np.min(good, axis=0)).sum() > 0.3 * (high - low).sum()


def test_metrics_to_be_made_large_are_and_their_sentence_says_above(table):
    down, up = recommend(table(shift=-8), prior=PRIOR), recommend(table(shift=-8, up=("chat", "python", "novels")), prior=PRIOR)
    np.testing.assert_allclose(up.fitted.vector, down.fitted.vector, atol=1e-5)
    assert up.problem.sense == "maximize"
    assert up.fitted.question.value(up.fitted.vector) == pytest.approx(-down.fitted.question.value(down.fitted.vector))
    assert re.search(r"predicted mean accuracy -?[\d.]+ ± [\d.]+ accuracy, [\d.]+ ± [\d.]+ above natural", up.sentence)
    assert re.search(r"[\d.]+ ± [\d.]+ below natural", down.sentence)
    assert up.best_run() == down.best_run()


def test_the_worst_relative_target_is_no_worse_than_by_the_mean(table):
    runs = table()
    mean, worst = recommend(runs), recommend(runs, objective="max-relative")
    goal = worst.fitted.question.objective
    best = goal.best
    assert best is not None
    np.testing.assert_allclose(best, worst.law.c + np.exp(worst.law.A.min(axis=1)), atol=1e-6)  # each alone, at its vertex
    at_mean = goal.loss(mean.law.predict(mean.fitted.vector))
    assert 0 < worst.fitted.question.loss(worst.fitted.vector) < at_mean


def relaxed(settings: dict, table) -> tuple[float, str]:
    """By how much the objective gets better under other settings, and what was promised for the first bound."""
    base, other = (recommend(table(), **s) for s in (settings["base"], settings["other"]))
    (bought,) = [b for b in bounds(base) if b.buys]
    return base.result.value - other.result.value, bought.buys


@pytest.mark.parametrize(
    ("base", "other", "words"),
    [
        (
            {"cap": 2, "tokens": TOKENS, "budget": 1e12},
            {"cap": 3, "tokens": TOKENS | {"code": 2e11 * 2 / 3, "web": 4e11, "maths": 8e11 / 3}, "budget": 1e12},
            "One more epoch of books allowed would lower the mean loss by up to",
        ),
        ({"at_most": {"code": 0.2}}, {"at_most": {"code": 0.21}}, "Moving the upper bound of code from 20 % to 21 % would lower"),
        ({"at_least": {"maths": 0.2}}, {"at_least": {"maths": 0.19}}, "Moving the lower bound of maths from 20 % to 19 % would lower"),
        ({"fix": {"code": 0.1}}, {"fix": {"code": 0.11}}, "Moving the fixed weight of code from 10 % to 11 % would lower"),
        ({"fix": {"maths": 0.3}}, {"fix": {"maths": 0.29}}, "Moving the fixed weight of maths from 30 % to 29 % would lower"),
        (
            {"at_most": {"code": 0.2}, "kl": 0.01, "prior": PRIOR},
            {"at_most": {"code": 0.21}, "kl": 0.01, "prior": PRIOR},
            "would lower the mean loss, its KL term included, by up to",
        ),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_relaxing_buys_is_what_solving_again_finds_or_a_little_more(table, base, other, words):
    gain, promise = relaxed({"base": base, "other": other}, table)
    assert words in promise
    promised = float(re.search(r"by up to ([\d.]+) nats per token", promise)[1])
    assert gain > 0
    assert gain <= promised * 1.06 + 1e-9  # two digits are shown
    assert gain > 0.5 * promised


def test_relaxing_raises_what_is_to_be_made_large(table):
    runs = table(shift=-8, up=("chat", "python", "novels"))
    (bound,) = bounds(recommend(runs, at_most={"code": 0.2}))
    assert "from 20 % to 21 % would raise the mean accuracy by up to" in bound.buys
    tight, loose = recommend(runs, fix={"code": 0.1}), recommend(runs, fix={"code": 0.11})
    (bound,) = bounds(tight)
    assert "from 10 % to 11 %" in bound.buys
    assert loose.result.value > tight.result.value


def test_doubts_say_what_is_wrong_and_nothing_where_all_is_well(table):
    good = recommend(table(200, noise=0.001), kl=0.05, prior=PRIOR)
    assert good.doubts == ()
    noisy = recommend(table(40, noise=0.5, seed=3), kl=0.05, prior=PRIOR)
    assert any("is within its doubt" in d or "no better than natural" in d for d in noisy.doubts)
    assert any("The law predicts runs that it has not seen badly" in d and "rank correlation" in d for d in noisy.doubts)
    few = recommend(table(12, noise=0.001), kl=0.05, prior=PRIOR)
    assert any("12 runs are few for 5 parameters" in d for d in few.doubts)
    assert not any("are few" in d for d in recommend(table(12, noise=0.001), kl=0.05, prior=PRIOR, ridge=1e-3).doubts)


def test_an_optimum_beyond_the_runs_or_at_a_corner_is_told(table):
    runs = table(200, noise=0.001)
    inner = runs.subset(runs.mixtures.max(axis=1) < 0.5)
    found = recommend(inner, objective={"python": 1, "chat": 0, "novels": 0})
    assert found.weights["code"] == pytest.approx(1, abs=1e-5)
    text = " ".join(found.doubts)
    assert "lies outside the runs, and there the law extrapolates (code 100 %, at most" in text
    assert "Neither a KL term nor caps nor bounds were asked for" in text
    assert "a corner of the feasible set" in text
    assert found.extent.hull > 0.3
    capped = recommend(inner, objective={"python": 1, "chat": 0, "novels": 0}, at_most=dict.fromkeys(PRIOR, 0.3))
    assert "Neither" not in " ".join(capped.doubts)
    assert "a corner" in " ".join(capped.doubts)


def test_the_sentence_names_weights_value_noise_gain_and_freedom(table):
    found = recommend(table(200, noise=0.01), kl=0.05, prior=PRIOR)
    assert re.fullmatch(
        r"Train on ([<\d.]+ % \w+, ){3}[<\d.]+ % \w+: predicted mean loss \d\.\d{3,4} ± 0\.\d{3,4} nats per token, "
        r"0\.\d+ ± 0\.\d+ below natural \(90 % intervals\); \w+ could be anywhere from [<\d.]+ % to [\d.]+ % and \w+ from .* % "
        r"without a difference that these runs could show\.",
        found.sentence,
    )


def test_families_averaged_before_the_fit_are_targets_themselves(table):
    runs = table()
    holes = runs.metrics.copy()
    holes[3, 2] = np.nan
    runs = Runs.from_arrays(runs.domains, runs.mixtures, runs.targets, holes)
    merged, left = averaged(runs, {"text": ["chat", "novels"]})
    weighed, outside = averaged(runs, {"text": ["chat", "novels"]}, {"chat": 3, "text": 2, "python": 5})
    np.testing.assert_allclose(weighed.metrics[:3, 0], holes[:3, [0, 2]] @ [0.75, 0.25])
    assert (left, outside) == ({}, {"text": 2, "python": 5})
    assert merged.targets.names == ("text", "python")
    np.testing.assert_allclose(merged.metrics[:3, 0], holes[:3, [0, 2]].mean(axis=1))
    assert np.isnan(merged.metrics[3, 0])
    found = recommend(runs, families={"text": ["chat", "novels"]}, aggregate=True)
    assert found.law.targets.names == ("text", "python")
    with pytest.raises(InputError, match="there are no families to average before the fit"):
        recommend(runs, aggregate=True)
    with pytest.raises(InputError, match=r"family 'text' has targets to be minimised and to be maximised, \(chat, novels\)"):
        averaged(table(up=("novels",)), {"text": ["chat", "novels"]})


def test_mixtures_to_compare_and_missing_values(table):
    runs = table()
    holes = runs.metrics.copy()
    best = int(runs.metrics.mean(axis=1).argmin())
    holes[best, 0] = np.nan
    found = recommend(replace(runs, metrics=holes, labels=tuple(f"run {i}" for i in range(40))), tokens=TOKENS)
    assert found.best_run() not in (best, None)
    assert list(found.mixtures()) == ["recommended", "natural", "uniform", f"best run (run {found.best_run()})"]
    assert found.mixtures()["natural"]["web"] == pytest.approx(6e11 / 1.25e12)
    assert found.quality.runs == 39
    nothing = np.where(np.arange(3) == np.arange(40)[:, None] % 3, np.nan, runs.metrics)
    with pytest.raises(InputError, match=r"only 0 runs have all 3 targets"):
        recommend(Runs.from_arrays(runs.domains, runs.mixtures, runs.targets, nothing))


def test_names_of_prior_and_tokens_must_agree_with_the_runs(table):
    with pytest.raises(InputError, match=r"\(boks\) of the prior match no domain and \(books\) have no entry"):
        recommend(table(), kl=0.05, prior={"web": 1, "code": 1, "maths": 1, "boks": 1})
    with pytest.raises(InputError, match=r"\(webb\) of the upper bounds match no domain: .*did you mean 'web'"):
        recommend(table(), at_most={"webb": 0.5})
    with pytest.raises(InputError, match=r"KL term of 0\.05 needs the natural proportions"):
        recommend(table(), kl=0.05)


def test_the_report_holds_all_of_it_and_the_blend_the_weights(table, tmp_path):
    (tmp_path / "runs.csv").write_text("x")
    found = recommend(table(), kl=0.05, tokens=TOKENS, budget=1e12, cap=2, families={"text": ["chat", "novels"]})
    report = found.report(command="mixopt fit", files=[str(tmp_path / "runs.csv")], seed=0)
    assert list(report.mixtures)[:3] == ["recommended", "natural", "uniform"]
    assert report.recommended == found.weights
    assert [p.target for p in report.predictions] == ["chat", "python", "novels"]
    assert [p.family for p in report.predictions] == ["text", "", "text"]
    assert sum(p.weight for p in report.predictions) == pytest.approx(1)
    chat = report.predictions[0]
    assert chat.values["recommended"] == pytest.approx(found.law.predict(found.fitted.vector)[0])
    assert report.fit.folds == 5
    assert report.fit.measured.shape == (40, 3)
    assert report.bounds[0].name == "repetition"
    assert "books" in report.bounds[0].binding
    assert report.epochs("recommended")["books"] == pytest.approx(2, abs=1e-4)
    assert report.cap == 2
    assert r"\min" in report.formula
    assert report.provenance.command == "mixopt fit"
    assert list(report.provenance.files) == [str(tmp_path / "runs.csv")]
    blend = found.blend()
    assert blend.weights == pytest.approx(found.weights)
    assert blend.tokens["web"] == 6e11
    assert blend.budget == 1e12


@needs_regmix
def test_regmix_reaches_the_reference_optima():
    runs = Runs.from_csv(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")
    prior = json.loads((REGMIX / "pile_prior.json").read_text())["prior"]
    found = recommend(runs, kl=0.05, prior=prior)  # its keys are the table's columns
    assert found.fitted.question.value(found.fitted.vector) == pytest.approx(4.5507, abs=1e-4)
    assert found.result.value == pytest.approx(4.56250, abs=1e-4)
    assert found.fitted.question.value(found.fitted.question.limits.natural) == pytest.approx(4.6397, abs=1e-4)
    assert "0.089 ± 0.025 below natural" in found.sentence
    assert found.doubts == ()
    assert all(found.ranges.low[n] <= w <= found.ranges.high[n] for n, w in found.weights.items())
    w = mx.Mixture(runs.domains)
    plain = mx.solve(mx.minimize(mx.mean(found.law(w)), over=w))
    assert plain.value == pytest.approx(4.54221, abs=1e-4)


def test_targets_given_in_words_keep_their_units(table):
    runs = table()
    mixed = replace(runs, targets=Targets(runs.targets.names, unit={"chat": "bits per byte"}))
    assert any("different units (bits per byte, nats per token)" in d for d in recommend(mixed).doubts)


def test_a_law_is_chosen_for_the_objective_and_says_why(table):
    found = fitting.recommend(table(36, noise=0.02), kl=0.05, prior=PRIOR, folds=4)
    choice = found.found.choice
    assert [e.name for e in choice.comparison.entries] == ["exponential", "additive-power"]
    assert found.law.name == choice.name
    assert choice.sentence in found.notes
    assert choice.comparison["exponential"].figure("rmse") == pytest.approx(
        np.sqrt(np.mean((choice.comparison["exponential"].validations[0].predicted.mean(1) - found.runs.metrics.mean(1)) ** 2)), rel=0.2
    )
    report = found.report()
    assert list(report.compared.figures) == ["exponential", "additive-power"]
    assert report.compared.taken == choice.sentence
    shown = report.outcome
    inside = np.abs(shown.measured - shown.predicted) <= shown.half * (1 + 1e-9)
    assert inside.sum() == 34  # of 36, as conformal prediction has it: the ceiling of 0.9 * 37
    assert report.ranges.optima is not None


@pytest.mark.parametrize("law", ["linear", "additive-power", "c + b*exp(A @ w)", Exponential, partial(Exponential.fit, ridge=0.1)], ids=str)
def test_a_law_may_be_a_name_a_formula_a_class_or_a_function(table, law):
    found = fitting.recommend(table(40, noise=0.01), kl=0.05, prior=PRIOR, law=law)
    best = found.fitted.question.total(found.fitted.vector)
    draws = np.random.default_rng(0).dirichlet(np.ones(4), 300)
    assert best <= min(found.fitted.question.total(w) for w in draws) + 1e-9
    assert found.doubt.gain.error > 0
    assert found.found.choice is None
    assert found.report().compared is None


def test_trees_are_solved_by_simulation_and_have_no_ranges(table, tmp_path):
    pytest.importorskip("lightgbm")
    found = fitting.recommend(table(40, noise=0.01), kl=0.05, prior=PRIOR, law=partial(LightGBM.fit, rounds=20))
    assert found.ranges is None
    assert found.doubt.low is None
    assert "no proof of its optimum" in found.sentence
    draws = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    assert found.fitted.question.total(found.fitted.vector) < np.median([found.fitted.question.total(w) for w in draws])
    assert page.markdown(found.report())


def test_a_law_that_is_none_is_refused(table):
    with pytest.raises(InputError, match=r"'lightgbn' is no law; it is one of \(auto, convex, .*or a formula .*did you mean 'lightgbm'"):
        fitting.recommend(table(), law="lightgbn")
    with pytest.raises(InputError, match="'formula' is no law"):
        fitting.recommend(table(), law="formula")


def test_without_two_optima_of_draws_no_interval_of_the_weights_is_told(table, monkeypatch):
    monkeypatch.setattr("mixopt.fitting.doubt._optima", lambda question, posterior: np.empty((1, len(question.limits.domains))))
    found = recommend(table(20), kl=0.05, prior=PRIOR)
    assert found.doubt.low is None
    assert found.ranges.optima is None


def test_the_best_measured_run_is_the_safer_choice_until_the_gain_exceeds_the_error_of_a_prediction(table):
    noisy = recommend(table(60, noise=0.2, seed=1), kl=0.02, prior=PRIOR)
    (told,) = [d for d in noisy.doubts if "what was measured is the safer choice" in d]
    assert re.search(
        r"The best run measured \(\d+\) reached \d\.\d+; the recommended mixture is predicted \d\.\d+ (better|worse) than that", told
    )
    runs = table(60, noise=0.001)
    poor = runs.subset(np.argsort(runs.metrics.mean(axis=1))[20:])
    assert not any("safer choice" in d for d in recommend(poor).doubts)
