"""The verdict's arithmetic: paired intervals, merged twins, and what it says when a method bought nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mixopt.demo.presets import preset
from mixopt.language.domains import Domains
from mixopt.runtime.streams import Streams
from mixopt.study import verdict
from mixopt.study.data import Data, mean_of
from mixopt.study.search import Found

QUICK, _ = preset("quick")

NAMES = ("code", "prose", "held")


@pytest.fixture
def data():
    tokens = {n: np.arange(200) % 250 for n in NAMES}
    own = {n: tokens[n] for n in NAMES[:2]}
    everything = Streams(tokens, 8)
    targets = (mean_of(NAMES[:2]), mean_of(["held"], "held"))
    return Data(Domains(NAMES[:2], tokens=[300, 100]), Streams(own, 8), everything, everything, tokens, targets)


def found(method, target, weights):
    return Found(method, target, dict(zip(NAMES[:2], weights, strict=True)), (), tokens=100.0, seconds=1.0)


BASELINES = {
    "uniform": (("mean", "held"), {"code": 0.5, "prose": 0.5}, 0.0),
    "natural": (("mean", "held"), {"code": 0.75, "prose": 0.25}, 0.0),
}


def test_the_paired_interval_is_students():
    differences = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    mean, low, high = verdict.paired(differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((0.2, expected.low, expected.high))


def test_one_seed_proves_nothing_and_no_difference_is_none():
    assert verdict.paired(np.array([0.4]))[1:] == (-np.inf, np.inf)
    assert verdict.paired(np.zeros(5)) == (0.0, 0.0, 0.0)
    assert verdict.paired(np.full(5, 0.4))[1:] == (-np.inf, np.inf)


@pytest.mark.parametrize(("low", "high", "word"), [(-2, -1, "better"), (1, 2, "worse"), (-1, 1, "within noise"), (0, 0, "the same")])
def test_the_word_follows_the_interval(low, high, word):
    assert verdict.verdict_word(low, high) == word


def test_targets_take_their_own_domains(data):
    losses = np.array([[1.0, 3.0, 9.0]])
    assert data.score(losses, data.target("mean")) == pytest.approx([2.0])
    assert data.score(losses, data.target("held")) == pytest.approx([9.0])
    assert [data.in_domain(t) for t in data.targets] == [True, False]


def test_equal_mixtures_are_trained_once(data):
    rows = verdict.candidates(data, [found("law", "mean", (0.5, 0.5)), found("DoReMi", "all", (0.1, 0.9))], BASELINES, lambda t: t / 50)
    assert [(c.name, c.same_as, c.targets, c.cost) for c in rows] == [
        ("uniform", "", ("mean", "held"), 0.0),
        ("natural", "", ("mean", "held"), 0.0),
        ("law (mean)", "uniform", ("mean",), 2.0),
        ("DoReMi", "", ("mean", "held"), 2.0),
    ]


def judged(data, shift):
    """A verdict on "mean" where the method's losses are those of the best baseline plus ``shift`` [seeds]."""
    rows = verdict.candidates(data, [found("law", "mean", (0.9, 0.1))], BASELINES, lambda t: t)
    noise = np.array([0.01, -0.02, 0.015, -0.005, 0.0])
    base = 2.0 + noise
    losses = {
        "uniform": {s: [base[s], base[s], 1.0] for s in range(5)},
        "natural": {s: [base[s] + 1 + 0.01 * s, base[s] + 1.18, 1.0] for s in range(5)},
        "law (mean)": {s: [base[s] + shift[s], base[s] + shift[s], 1.0] for s in range(5)},
    }
    lines = verdict.judged(data, QUICK, rows, losses, data.target("mean"))
    return lines, verdict.sentences(data, rows, losses, data.target("mean"), lines)


def test_a_method_within_noise_bought_nothing(data):
    lines, said = judged(data, np.array([0.01, -0.01, 0.012, -0.008, 0.0]))
    assert "law (mean) is within noise of uniform" in said[1]
    assert said[1].endswith("It bought nothing that uniform does not give.")
    assert {line.name: line.against_uniform for line in lines} == {
        "uniform": "the same",
        "natural": "worse",
        "law (mean)": "within noise",
    }


def test_a_better_method_is_called_so_and_a_worse_one_too(data):
    lines, said = judged(data, np.array([-0.1, -0.11, -0.09, -0.1, -0.1]))
    assert lines[0].name == "law (mean)"
    assert said[1].startswith("law (mean) beats every baseline: -0.100")
    _, said = judged(data, np.array([0.1, 0.11, 0.09, 0.1, 0.1]))
    assert said[1] == "law (mean) is worse than uniform: +0.100 [+0.091, +0.109]. It bought nothing."


def test_a_method_that_finds_a_baseline_bought_nothing(data):
    rows = verdict.candidates(data, [found("law", "mean", (0.5, 0.5))], BASELINES, lambda t: t)
    losses = {"uniform": {0: [2, 2, 1.0], 1: [2.1, 2, 1.0]}, "natural": {0: [3, 2, 1.0], 1: [3.1, 2, 1.0]}}
    lines = verdict.judged(data, QUICK, rows, losses, data.target("mean"))
    said = verdict.sentences(data, rows, losses, data.target("mean"), lines)
    assert said == ["The best baseline is uniform (2.025).", "law (mean) found the same mixture as uniform: it bought nothing."]


def test_the_worst_domain_and_the_epochs_of_the_most_repeated(data):
    lines, _ = judged(data, np.zeros(5))
    natural = next(line for line in lines if line.name == "natural")
    assert (natural.worst, natural.worst_loss) == ("prose", pytest.approx(3.18))
    assert natural.epochs == pytest.approx(QUICK.target_tokens * 0.75 / 300)


def test_only_seeds_that_every_mixture_has_count(data):
    rows = verdict.candidates(data, [], BASELINES, lambda t: t)
    assert verdict.complete(rows, {"uniform": {0: [], 1: [], 2: []}, "natural": {2: [], 0: []}}) == [0, 2]
    assert verdict.complete(rows, {"uniform": {0: []}}) == []
