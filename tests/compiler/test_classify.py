"""Classification: the three forms with their sense normalised, and the reasons for which a problem is none of them."""

from __future__ import annotations

import pytest

import mixopt as mx
from mixopt.compiler.classify import classify, view
from mixopt.forms import Bilevel, Program, Saddle

DOMAINS = mx.Domains(["web", "code"], tokens=[3.0, 1.0])
W, THETA = mx.Mixture(DOMAINS), mx.model()
LOSSES = mx.losses(THETA, DOMAINS)
TRAINED = mx.argmin(W @ LOSSES, over=THETA)
CAP = (W["web"] <= 0.6).named("cap")


def test_a_program_is_minimised():
    assert classify(mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[CAP])) == Program(W, mx.kl(W, DOMAINS.natural), (CAP,))


def test_a_maximised_program_is_the_negative_minimised():
    assert classify(mx.maximize(mx.entropy(W), over=W)) == Program(W, -mx.entropy(W), maximised=True)


def test_a_saddle_has_one_payoff_in_two_views():
    form = classify(mx.minimize(mx.maximize(W @ LOSSES, over=W, subject_to=[CAP]), over=THETA))
    assert form == Saddle(W, THETA, W @ LOSSES, W @ LOSSES, (CAP,))


def test_a_surrogate_splits_the_views():
    payoff = mx.surrogate(mx.pos(LOSSES - 1), gradient=LOSSES)
    form = classify(mx.minimize(mx.maximize(W @ payoff, over=W), over=THETA))
    assert isinstance(form, Saddle)
    assert form.payoff == W @ mx.pos(LOSSES - 1)
    assert form.descent == W @ LOSSES
    assert view(W @ LOSSES, 0) == W @ LOSSES, "without a surrogate both views are the payoff itself"


def test_a_saddle_written_with_the_outer_maximum_is_turned():
    form = classify(mx.maximize(mx.minimize(-(W @ LOSSES), over=W), over=THETA))
    assert form == Saddle(W, THETA, W @ LOSSES, W @ LOSSES, maximised=True)


def test_a_bilevel_problem_keeps_both_levels():
    form = classify(mx.maximize(-mx.loss(TRAINED, "val"), over=W))
    assert form == Bilevel(W, THETA, TRAINED, mx.loss(TRAINED, "val"), W @ LOSSES, maximised=True)


OTHER = mx.Mixture(["web", "books"], name="v")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mx.sum(W), r"is no problem; write mx.minimize\(..., over=...\)"),
        (lambda: mx.minimize(mx.maximize(mx.minimize(W @ LOSSES, over=W), over=W), over=THETA), "nests three levels"),
        (lambda: mx.minimize(mx.maximize(W @ LOSSES, over=THETA), over=W), "over mixture 'w' and the inner 'maximize' over model 'theta'"),
        (lambda: mx.maximize(mx.maximize(W @ LOSSES, over=W), over=THETA), "both levels maximize, over theta and over w"),
        (
            lambda: mx.minimize(mx.maximize(W @ LOSSES, over=W), over=THETA, subject_to=[CAP]),
            r"\(cap\) stands on the outer problem, over 'theta'; constraints on the weights belong to the inner one",
        ),
        (lambda: mx.minimize(mx.maximize(mx.mean(LOSSES), over=W), over=THETA), "does not depend on 'w', over which it is optimised"),
        (lambda: mx.minimize(mx.maximize(mx.entropy(W), over=W), over=THETA), "does not depend on 'theta'"),
        (
            lambda: mx.minimize(mx.maximize(W @ mx.losses(TRAINED, DOMAINS) + mx.loss(THETA, "x"), over=W), over=THETA),
            r"uses the argmin 'theta\*', a third level",
        ),
        (
            lambda: mx.minimize(W @ LOSSES, over=(W, THETA)),
            "over both a mixture and a model is neither min-max, bilevel nor a program: the weights would favour whatever is easy to learn",
        ),
        (lambda: mx.minimize(mx.mean(LOSSES), over=THETA), "over the model alone has no mixture to find"),
        (lambda: mx.minimize(W @ LOSSES, over=W), r"losses of \(theta\), which nothing trains: neither min-max, bilevel nor a program"),
        (lambda: mx.minimize(mx.sum(OTHER), over=W), "does not depend on 'w'"),
        (lambda: mx.minimize(mx.loss(TRAINED, "val"), over=(W, OTHER)), "each level of a saddle or bilevel problem has one symbol"),
        (lambda: mx.minimize(mx.sum(W) + mx.sum(OTHER), over=W), r"uses the mixtures \(w, v\)"),
        (
            lambda: mx.minimize(mx.loss(mx.argmin(mx.mean(LOSSES), over=THETA), "val") + mx.sum(W), over=W),
            "the lower level .* does not depend on 'w', so the weights change nothing",
        ),
        (
            lambda: mx.minimize(mx.loss(TRAINED, "val") + mx.loss(THETA, "val"), over=W),
            r"the free model 'theta' beside the trained 'theta\*'",
        ),
        (
            lambda: mx.minimize(mx.loss(TRAINED, "val") + mx.loss(mx.argmin(2 * (W @ LOSSES), over=THETA), "val"), over=W),
            "uses 2 different argmins; a bilevel problem has one lower level",
        ),
        (
            lambda: mx.minimize(mx.sum_squares(W), over=W, subject_to=[(mx.loss(THETA, "val") <= W["web"]).named("quality")]),
            "constraint 'quality' uses the model 'theta'; constraints are on the weights, put losses into the objective",
        ),
        (
            lambda: mx.minimize(mx.sum_squares(W), over=W, subject_to=[OTHER["web"] <= 0.5]),
            r"constraint 'v\[web\] <= 0.5' is on 'v' over \(web, books\), not on the problem's 'w'",
        ),
        (
            lambda: mx.minimize(mx.sum_squares(W), over=W, subject_to=[mx.parameter("p") <= 1]),
            "constraint 'p <= 1' has no weight in it, so no choice of weights can meet or break it",
        ),
    ],
)
def test_what_is_none_of_the_forms_is_refused_with_the_mend(make, words):
    with pytest.raises(mx.ProblemError, match=words):
        classify(make())
