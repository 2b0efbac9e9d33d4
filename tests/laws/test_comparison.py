"""Laws side by side, and the choice among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixopt.errors import InputError, MissingExtraError
from mixopt.laws import Exponential, Law
from mixopt.laws.accuracy import expected_regret, figures
from mixopt.laws.choice import choose
from mixopt.laws.comparison import compare_laws
from mixopt.laws.named import fitter
from mixopt.runs import Runs, Targets

REGMIX = Path(__file__).parents[2] / "../shared/data/regmix"
needs_regmix = pytest.mark.skipif(not REGMIX.exists(), reason="needs ../shared/data/regmix beside the project")
A = np.array([[-1.5, 0.6, 0.4], [0.5, -2.0, 0.4]])


def table(rows: int = 40, noise: float = 0.01) -> Runs:
    rng = np.random.default_rng(0)
    w = rng.dirichlet(np.ones(3), rows)
    y = np.array([1, -1]) * (1.5 + np.exp(w @ A.T) + noise * rng.normal(size=(rows, 2)))
    return Runs.from_arrays(["web", "code", "books"], w, Targets(["chat", "python"], {"python": "max"}), y)


def poor(runs: Runs) -> Law:
    """A law that has seen other outcomes."""
    order = np.random.default_rng(0).permutation(len(runs))
    return Exponential.fit(Runs.from_arrays(runs.domains, runs.mixtures, runs.targets, runs.metrics[order]), ridge=1.0)


def missing(runs: Runs) -> Law:
    raise MissingExtraError("trees", "laws", "fitting trees")


LAWS = {"good": Exponential.fit, "poor": poor, "absent": missing}


def test_a_comparison_has_the_figures_of_each_law_on_the_same_folds():
    runs = table()
    found = compare_laws(runs, LAWS, folds=4, repeats=2, seed=3)
    assert [e.name for e in found.fitted] == ["good", "poor"]
    assert "trees" in found["absent"].refusal
    for one, other in zip(found["good"].validations, found["poor"].validations, strict=True):
        np.testing.assert_array_equal(one.folds, other.folds)

    def loss(metrics: np.ndarray) -> np.ndarray:
        return (metrics[:, 0] - metrics[:, 1]) / 2  # the second is to be maximised

    by_hand = [figures(loss(v.predicted), loss(runs.metrics))["rmse"] for v in found["good"].validations]
    assert found["good"].figure("rmse") == pytest.approx(np.mean(by_hand))
    regrets = [expected_regret(loss(v.predicted), loss(runs.metrics)) for v in found["good"].validations]
    assert found["good"].regret == pytest.approx(np.mean(regrets))
    text = str(found).splitlines()
    assert text[0].startswith("law")
    assert text[1].startswith("good")
    assert "absent was left out" in text[-1]
    assert "<td" in found._repr_html_()
    assert len(found.plot()) == 3
    with pytest.raises(InputError, match=r"no compared law 'god'.*did you mean 'good'"):
        found["god"]


def test_the_law_that_decides_best_is_chosen_and_says_why():
    runs = table()
    chosen = choose(runs, LAWS, folds=4)
    assert chosen.name == "good"
    assert chosen.sentence.startswith("The law is good: its decisions on held-out runs lose ")
    assert "poor" in chosen.sentence
    np.testing.assert_array_equal(chosen.fit(runs).A, Exponential.fit(runs).A)
    assert chosen.validation is chosen.comparison["good"].validations[0]
    alone = choose(runs, {"good": Exponential.fit, "absent": missing})
    assert alone.sentence.endswith("no other could be fitted.")


def test_of_laws_that_decide_alike_that_of_least_error_is_chosen():
    runs = table()
    alike = {"rough": fitter("exponential", ridge=0.01), "good": Exponential.fit}
    found = compare_laws(runs, alike)
    assert abs(found["rough"].regret - found["good"].regret) < 0.003
    assert found["rough"].figure("rmse") > found["good"].figure("rmse")
    assert found.best.name == choose(runs, dict(reversed(alike.items()))).name == "good"


def test_an_objective_of_one_target_chooses_for_it_alone():
    found = compare_laws(table(), {"good": Exponential.fit}, loss=lambda metrics: -metrics[..., 1])
    v = found["good"].validations[0]
    assert found["good"].figure("spearman") == pytest.approx(v.spearman[1])
    other = found.judged_by(lambda metrics: metrics[..., 0])["good"]
    assert other.figure("spearman") == pytest.approx(v.spearman[0])
    assert other.validations is found["good"].validations


@pytest.mark.parametrize(
    ("laws", "settings", "message"),
    [
        (["exponentail"], {}, "'exponentail' is no law; .*did you mean 'exponential'"),
        ({"absent": missing}, {}, "none of the laws .* can be fitted: absent"),
        (LAWS, {"folds": 1}, "1 folds of 40 runs"),
        (LAWS, {"repeats": 0}, "repeats is 0"),
    ],
    ids=["misspelt", "none fits", "one fold", "no repeats"],
)
def test_what_cannot_be_compared_is_refused(laws, settings, message):
    with pytest.raises(InputError, match=message):
        compare_laws(table(), laws, **settings)


def test_a_fitter_takes_the_settings_that_its_law_takes():
    runs = table()
    assert fitter("exponential")(runs).fitted.ridge is not None
    np.testing.assert_array_equal(fitter("exponential", ridge=0.1)(runs).A, Exponential.fit(runs, ridge=0.1).A)
    assert fitter(poor) is poor
    with pytest.raises(InputError, match=r"the exponential law takes no .trees."):
        fitter("exponential", trees=3)
    with pytest.raises(InputError, match="cannot be given with a function"):
        fitter(poor, ridge=0.1)


@needs_regmix
def test_on_regmix_the_linear_law_is_taken_for_no_average_and_decisions_on_unseen_runs_are_good():
    """A small part of benchmarks/law_choice.py: 64 training runs, judged on the 256 test runs."""
    train, test = (Runs.from_csv(REGMIX / f"{part}_mixture_1m.csv", REGMIX / f"{part}_pile_loss_1m.csv") for part in ("train", "test"))
    runs = train.subset(np.sort(np.random.default_rng([64, 0]).permutation(512)[:64]))
    found = compare_laws(runs, {"linear": fitter("linear"), "exponential": fitter("exponential", ridge=1e-3)})
    assert found.best.name == "exponential"
    own = found.judged_by(lambda metrics: metrics[..., 8]).best  # a single target
    regrets = []
    for entry, loss in ((found.best, lambda metrics: metrics.mean(axis=-1)), (own, lambda metrics: metrics[..., 8])):
        predicted = entry.fit(runs).predict(test.mixtures)
        regrets.append(figures(loss(predicted), loss(test.metrics))["regret"])
    assert max(regrets) < 0.2
