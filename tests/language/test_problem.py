"""Problems: how they read, nested as the mathematics nests them, and what is refused when one is written."""

from __future__ import annotations

import pytest

import mixopt as mx

DOMAINS = mx.Domains(["web", "code"])
W, THETA = mx.Mixture(DOMAINS), mx.model()
LOSSES = mx.losses(THETA, DOMAINS)
TRAINED = mx.argmin(W @ LOSSES, over=THETA)


def test_a_program_reads_with_its_constraints():
    problem = mx.maximize(mx.entropy(W), over=W, subject_to=[(W["web"] <= 0.25).named("cap"), W["code"] >= 0.1])
    assert str(problem) == ("maximize over w\n  entropy(w)\n  subject to w[web] <= 0.25   (cap)\n             w[code] >= 0.1")


def test_a_saddle_reads_nested():
    game = mx.minimize(mx.maximize(W @ LOSSES, over=W), over=THETA)
    assert str(game) == "minimize over theta\n  maximize over w\n    w @ losses(theta, 'train')"


def test_a_bilevel_problem_says_what_its_argmin_is():
    problem = mx.minimize(mx.loss(TRAINED, "val"), over=W)
    assert str(problem) == "minimize over w\n  loss(theta*, 'val')\n  where theta* = argmin over theta of w @ losses(theta, 'train')"


def test_one_relation_may_stand_without_a_list():
    assert mx.minimize(mx.sum(W), over=W, subject_to=W["web"] <= 0.5).subject_to == (W["web"] <= 0.5,)


def test_problems_are_equal_when_they_read_and_mean_the_same():
    assert mx.minimize(mx.sum_squares(W), over=W) == mx.minimize(mx.sum_squares(W), over=W)
    assert mx.minimize(mx.sum_squares(W), over=W) != mx.maximize(mx.sum_squares(W), over=W)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: mx.minimize(LOSSES, over=THETA),
            r"is a vector, and minimize needs one number; fold it: mean\(...\).*max\(...\).*weights @",
        ),
        (lambda: mx.minimize(THETA, over=THETA), "'theta' is a model, not a number"),
        (lambda: mx.minimize(mx.sum(W), over="w"), "minimize is over a symbol that Mixture.* or model.* made, not over 'w'"),
        (lambda: mx.minimize(mx.sum(W), over=W["web"]), r"not over 'w\[web\]', which is an expression"),
        (lambda: mx.minimize(mx.sum(W), over=()), "name each symbol once"),
        (lambda: mx.minimize(mx.sum(W), over=(W, W)), "name each symbol once"),
        (lambda: mx.minimize(mx.sum(W), over=W, subject_to=[W["web"] == 0.5]), r"a constraint is True or False.*write equal\(a, b\)"),
        (lambda: mx.minimize(mx.sum(W), over=W, subject_to=[W]), "is no relation; constraints are written a <= b"),
        (lambda: mx.minimize(mx.sum(W), over=W, subject_to=[W <= 1, W <= 1]), r"must differ in name, but \(w <= 1\) occurs more than once"),
        (lambda: mx.argmin(W @ LOSSES, over=W), r"argmin is over a model, but 'w' is a mixture; write argmin\(..., over=model\(\)\)"),
        (lambda: mx.argmin(mx.sum(W), over=THETA), "does not depend on 'theta', so its argmin is every model"),
        (lambda: mx.argmin(LOSSES, over=THETA), "is a vector, and argmin needs one number"),
        (lambda: mx.argmin(mx.minimize(W @ LOSSES, over=W), over=THETA), "the objective of argmin is a problem"),
        (
            lambda: mx.argmin(mx.loss(TRAINED, "val") + mx.loss(THETA, "x"), over=THETA),
            r"'theta\*' is itself an argmin; two levels are what bilevel problems have",
        ),
    ],
)
def test_what_is_no_problem_is_refused_in_words(make, words):
    with pytest.raises(mx.ProblemError, match=words):
        make()
