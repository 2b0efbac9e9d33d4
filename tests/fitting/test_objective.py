"""Objectives: the same value from numbers and from the expression, convex, in words, and refused where they mean nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mixopt.errors import InputError
from mixopt.fitting import Fitted, recommend
from mixopt.fitting.objective import Objective
from mixopt.language import atoms
from mixopt.language.curvature import curvature
from mixopt.language.domains import Domains
from mixopt.language.symbols import Mixture
from mixopt.laws import Exponential
from mixopt.runs import Targets
from mixopt.runtime.program import Function

THREE = Targets(["chat", "python", "novels"])
FAMILIES = {"text": ["chat", "novels"]}


@pytest.mark.parametrize("up", [(), ("python",), ("chat", "python", "novels")], ids=str)
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mean", {}),
        ("mean", {"weights": {"chat": 2, "python": 0}}),
        ("mean", {"families": FAMILIES, "weights": {"text": 3, "chat": 0.5}}),
        ("max", {}),
        ("max", {"families": FAMILIES}),
        ("max-relative", {"families": FAMILIES}),
    ],
    ids=str,
)
def test_the_expression_is_convex_and_has_the_value_of_the_numbers(table, kind, settings, up):
    law = Exponential.fit(table(up=up, shift=-8))
    goal = Objective.of(law.targets, kind, **settings)
    if kind == "max-relative":
        goal = goal.relative_to(np.linspace(-2, 1.5, len(goal.groups)))
    w = Mixture(Domains(law.domains.names))
    expression = goal.expression(law, w)
    assert curvature(expression) == "convex"
    function = Function(expression, w, {})
    for point in np.random.default_rng(0).dirichlet(np.ones(4), 5):
        assert function.value(point) == pytest.approx(float(goal.loss(law.predict(point))), abs=1e-12)


def test_a_mean_and_a_worst_by_hand():
    metrics = np.array([[3.0, 1.0, 5.0], [2.0, 2.0, 2.5]])
    np.testing.assert_allclose(Objective.of(THREE).loss(metrics), [3, 6.5 / 3])
    np.testing.assert_allclose(Objective.of(THREE, weights={"novels": 2}).loss(metrics), [14 / 4, 9 / 4])
    np.testing.assert_allclose(Objective.of(THREE, families=FAMILIES).loss(metrics), [(4 + 1) / 2, (2.25 + 2) / 2])
    np.testing.assert_allclose(Objective.of(THREE, families=FAMILIES, weights={"text": 3, "chat": 3}).loss(metrics)[0], (3 * 3.5 + 1) / 4)
    np.testing.assert_allclose(Objective.of(THREE, "max", families=FAMILIES).loss(metrics), [4, 2.25])
    relative = Objective.of(THREE, "max-relative").relative_to(np.array([2.0, 0.5, 4.0]))
    np.testing.assert_allclose(relative.loss(metrics), [1, 3])


def test_what_is_to_be_made_large_counts_by_its_negative_and_is_shown_as_it_is():
    up = Targets(["a", "b"], "max", "accuracy")
    goal = Objective.of(up)
    assert goal.maximised
    assert goal.loss(np.array([0.4, 0.8])) == pytest.approx(-0.6)
    assert goal.value(np.array([0.4, 0.8])) == pytest.approx(0.6)
    assert Objective.of(up, "max").value(np.array([0.4, 0.8])) == pytest.approx(0.4)  # the worst accuracy is the smallest
    both = Objective.of(Targets(["a", "b"], {"a": "max"}, {"a": "accuracy"}))
    assert not both.maximised
    assert both.unit == "in mixed units"
    assert both.value(np.array([0.4, 0.8])) == pytest.approx(0.2)


def test_shares_of_targets_sum_to_one():
    goal = Objective.of(THREE, families=FAMILIES, weights={"text": 3, "chat": 3})
    assert goal.groups == ("text", "python")
    np.testing.assert_allclose(goal.target_weights, [0.75 * 0.75, 0.25, 0.75 * 0.25])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "mean loss"),
        ({"weights": {"chat": 2}}, "weighted mean loss"),
        ({"families": FAMILIES}, "mean loss over families"),
        ({"kind": "max"}, "worst loss"),
        ({"kind": "max", "families": FAMILIES}, "worst family mean of the loss"),
        ({"kind": "max-relative"}, "worst loss, relative to the best of each"),
    ],
    ids=str,
)
def test_an_objective_in_words(settings, words):
    assert Objective.of(THREE, **settings).name == words
    assert Objective.of(Targets(["gsm8k"], "max", "accuracy")).name == "accuracy of gsm8k"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "meen"}, r"the objective is 'meen'; it is one of .*; did you mean 'mean'"),
        ({"weights": {"pyton": 1}}, r"no target or family 'pyton'.*did you mean 'python'"),
        ({"weights": {"chat": -1}}, r"weight of 'chat' is -1"),
        ({"weights": dict.fromkeys(THREE.names, 0)}, "every weight is 0"),
        ({"kind": "max", "weights": {"chat": 1}}, "weights have no meaning under the objective 'max'"),
        ({"families": {"a": ["chat"], "b": ["chat"]}}, "'chat' is in two families, 'a' and 'b'"),
        ({"families": {"a": ["chatt"]}}, "no target 'chatt'.*did you mean 'chat'"),
        ({"families": {"chat": ["python"]}}, "the family 'chat' has the name of a target"),
        ({"families": {"a": []}}, "the family 'a' has no targets"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Objective.of(THREE, **settings)


def test_there_are_no_shares_of_a_best_of_zero():
    with pytest.raises(InputError, match="the best that 'python' can reach is 0"):
        Objective.of(THREE, "max-relative").relative_to(np.array([1.0, 0.0, 1.0]))


def test_a_target_or_family_alone_is_the_objective(table):
    runs = table()
    one = Objective.of(runs.targets, "python")
    np.testing.assert_allclose(one.loss(runs.metrics), runs.metrics[:, 1])
    assert one.name == "loss of python"
    both = Objective.of(runs.targets, "text", families={"text": ["chat", "novels"]})
    np.testing.assert_allclose(both.loss(runs.metrics), runs.metrics[:, [0, 2]].mean(axis=1))
    inside = Objective.of(runs.targets, "chat", families={"text": ["chat", "novels"]})
    np.testing.assert_allclose(inside.loss(runs.metrics), runs.metrics[:, 0])
    with pytest.raises(InputError, match="weights have no meaning where 'python' alone counts"):
        Objective.of(runs.targets, "python", {"chat": 2})


@pytest.mark.parametrize("given", ["0.5*chat + max([python, novels])", lambda m: 0.5 * m["chat"] + atoms.max(m[["python", "novels"]])])
def test_an_objective_of_ones_own_is_what_its_text_says(table, given):
    runs = table(noise=0.01)
    goal = Objective.of(runs.targets, given)
    y = runs.metrics
    np.testing.assert_allclose(goal.loss(y), 0.5 * y[:, 0] + y[:, 1:].max(axis=1))
    assert np.isnan(goal.loss(np.array([1.0, np.nan, 2.0])))
    law = Exponential.fit(runs)
    w = Mixture(runs.domains)
    expr = goal.expression(law, w)
    assert curvature(expr) == "convex"
    found = recommend(runs, objective=given, law="exponential", ridge=0)
    best = found.fitted.question.loss(found.fitted.vector)
    draws = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    assert best <= goal.loss(law.predict(draws)).min() + 1e-6
    assert best == pytest.approx(found.result.value)


def test_an_objective_of_ones_own_is_saved_as_its_formula(table, tmp_path):
    runs = table(noise=0.01)
    found = recommend(runs, objective="chat + 2*metrics[python]", law="exponential")
    found.fitted.save(tmp_path)
    back = Fitted.load(tmp_path)
    assert back.question.loss(found.fitted.vector) == pytest.approx(found.fitted.question.loss(found.fitted.vector))
    assert "chat + 2*metrics[python]" in found.sentence
    named = recommend(runs, objective=lambda m: atoms.max(m), law="exponential")
    with pytest.raises(InputError, match="cannot be saved; write it as a formula"):
        named.fitted.save(tmp_path)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ("chat + pithon", {}, r"is no formula of the targets .*no name 'pithon' .*did you mean 'python'"),
        ("metrics*2", {}, r"is a vector of shape \(3,\); it must be one number"),
        (lambda m: 3.0, {}, "is a float; it must be one number"),
        ("chat + python", {"weights": {"chat": 2}}, "have no meaning beside an objective of your own"),
        ("mox", {}, "is one of .*, a target, or a formula of them; did you mean 'max'"),
    ],
)
def test_what_is_no_objective_is_refused(table, given, settings, message):
    with pytest.raises(InputError, match=re.compile(message, re.DOTALL)):
        Objective.of(table().targets, given, **settings)
