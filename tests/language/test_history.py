"""History in the language: shapes, signs, curvature, text, LaTeX, derivations, and where it is refused and why."""

from __future__ import annotations

import pytest

import mixopt as mx
from mixopt.compiler.classify import classify, view
from mixopt.language.curvature import smooth
from mixopt.language.history import histories, live

DOMAINS = mx.Domains(["web", "code", "books"])
W, THETA = mx.Mixture(DOMAINS), mx.model()
LOSSES = mx.losses(THETA, DOMAINS)
HISTORIES = [mx.previous, mx.initial, lambda x: mx.ema(x, 0.1)]


def game(payoff):
    return mx.minimize(mx.maximize(payoff, over=W), over=THETA)


@pytest.mark.parametrize("of", HISTORIES)
@pytest.mark.parametrize("x", [LOSSES, mx.loss(THETA, "val"), W, mx.parameter("p", 2), mx.exp(LOSSES) - W, mx.gram(THETA, DOMAINS)])
def test_a_history_has_the_shape_names_and_sign_of_what_it_is_of_and_is_constant(of, x):
    assert (of(x).shape, of(x).index, mx.sign(of(x)), mx.curvature(of(x))) == (x.shape, x.index, mx.sign(x), "constant")


def test_curvature_kinks_and_culprits_look_past_history():
    bent = mx.previous(W @ W * mx.log(W["web"]))
    assert mx.curvature(bent * W["code"]) == "affine"
    scaled = bent * mx.square(W["code"])
    assert mx.curvature(scaled) == "unknown", "the sign of the factor is not known"
    assert mx.culprit(scaled).node == scaled
    assert mx.curvature(mx.sum(mx.square(W)) + bent) == "convex"
    assert smooth(mx.previous(mx.norm(W)) * W["web"]) is None


def test_text_and_latex():
    x = mx.log(LOSSES) - mx.log(mx.previous(LOSSES))
    assert str(mx.ema(x, 0.1)) == "ema(log(losses(theta, 'train')) - log(previous(losses(theta, 'train'))), 0.1)"
    assert x.latex() == r"\log(\ell_{\text{train}}(\theta)) - \log(\ell_{\text{train}}(\theta)^{(t-1)})"
    assert mx.initial(LOSSES).latex() == r"\ell_{\text{train}}(\theta)^{(0)}"
    assert mx.ema(LOSSES - mx.previous(W), 0.25).latex() == r"\operatorname{ema}_{0.25}(\ell_{\text{train}}(\theta) - w^{(t-1)})"
    assert mx.square(mx.previous(mx.previous(W))).latex() == r"((w^{(t-1)})^{(t-1)})^{2}"
    assert mx.previous(W["web"] + 1).latex() == r"(w_{\text{web}} + 1)^{(t-1)}"


def test_what_gradients_reach():
    x = mx.previous(mx.exp(LOSSES)) * W
    assert histories([x, mx.ema(x, 0.5)]) == (mx.previous(mx.exp(LOSSES)), mx.ema(x, 0.5))
    assert set(live(x)) == {x, W, mx.previous(mx.exp(LOSSES))}
    assert LOSSES in live(mx.previous(LOSSES) + LOSSES)


def test_history_is_of_the_value_in_both_views_of_a_surrogate():
    payoff = mx.previous(mx.surrogate(mx.pos(LOSSES), gradient=LOSSES)) @ mx.surrogate(W, gradient=2 * W)
    assert view(payoff, 0) == mx.previous(mx.pos(LOSSES)) @ W
    assert view(payoff, 1) == mx.previous(mx.pos(LOSSES)) @ (2 * W)


def test_the_plan_tells_what_is_kept():
    route = str(mx.plan(game(W @ (LOSSES / mx.initial(LOSSES) + mx.ema(LOSSES, 0.1)))))
    told = "history: initial(losses(theta, 'train')), ema(losses(theta, 'train'), 0.1) from step to step, numbers to gradients"
    assert told in " ".join(route.split())


def test_a_derivation_takes_history_for_numbers():
    found = mx.derive(game(W @ (LOSSES - mx.previous(LOSSES)) + mx.initial(mx.loss(THETA, "val")) * W["web"]))
    slope = found["gradient"][1].rhs
    assert str(slope) == "-previous(losses(theta, 'train'))[code] + ell_code(theta)"
    assert "previous" not in str(found["model gradient"][0])
    with pytest.raises(mx.ProblemError, match="is a matrix of earlier values"):
        mx.derive(game(W @ (LOSSES + mx.previous(mx.gram(THETA, DOMAINS)) @ [1.0, 1.0, 1.0])))


TRAINED = mx.argmin(W @ LOSSES, over=THETA)
VAL = mx.losses(TRAINED, DOMAINS, name="val")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mx.previous(THETA), "'theta' is a model, not a number, in 'previous'"),
        (lambda: mx.initial(mx.tokens(THETA)), "initial is of token losses .*another one at each step; fold them by domain_mean first"),
        (lambda: mx.ema(LOSSES, 0), r"ema has the rate '0'; a rate is a number in \(0, 1\]"),
        (lambda: mx.ema(LOSSES, 1.5), "ema has the rate '1.5'"),
        (lambda: mx.ema(LOSSES, mx.parameter("rate")), "ema has the rate 'rate'"),
        (lambda: mx.ema(LOSSES, True), "ema has the rate 'True'"),
        (
            lambda: classify(mx.minimize(mx.sum(mx.square(W - mx.previous(W))), over=W)),
            r"'previous\(w\)' stands in a program, but history is of the steps of a run, which only the payoff of a saddle goes through",
        ),
        (lambda: classify(mx.minimize(mx.mean(VAL / mx.initial(VAL)), over=W)), "stands in a bilevel problem"),
        (
            lambda: classify(
                mx.minimize(mx.mean(mx.losses(mx.argmin(W @ (LOSSES / mx.initial(LOSSES)), over=THETA), DOMAINS, name="val")), over=W)
            ),
            r"'initial\(losses\(theta, 'train'\)\)' stands in a bilevel problem",
        ),
        (
            lambda: classify(
                mx.minimize(mx.maximize(W @ LOSSES, over=W, subject_to=[(mx.norm(W - mx.previous(W)) <= 0.1).named("trust")]), over=THETA)
            ),
            r"'previous\(w\)' stands in the constraint 'trust', .*write parameter\(name, size\), and give them as given=",
        ),
        (
            lambda: mx.plan(mx.minimize(mx.maximize((z := mx.Mixture(DOMAINS, name="z")) @ (W + mx.previous(z)), over=z), over=W)),
            r"'previous\(z\)' stands in a problem over weights alone",
        ),
        (
            lambda: classify(game(W @ mx.ema(mx.exp(LOSSES), 0.1))),
            "depends on 'theta' through history alone, and no gradient flows through history; write surrogate",
        ),
        (
            lambda: classify(game(mx.mean(LOSSES) * mx.sum(mx.previous(W)))),
            r"depends on 'w' through history alone, .*let 'w' stand outside too, as in w @ previous\(...\)",
        ),
        (lambda: mx.formula("log(previous(l))", l=LOSSES), r"previous\(...\) is history, which is no part of a formula; bind it to a name"),
    ],
)
def test_where_history_is_refused_and_why(make, words):
    with pytest.raises(mx.ProblemError, match=words):
        make()


def test_a_formula_takes_history_by_a_name():
    assert mx.formula("log(l) - log(p)", l=LOSSES, p=mx.previous(LOSSES)) == mx.log(LOSSES) - mx.log(mx.previous(LOSSES))


def test_a_saved_problem_keeps_its_history():
    problem = game(W @ mx.surrogate(mx.ema(mx.exp(LOSSES) - mx.previous(mx.initial(LOSSES)), 0.25), gradient=LOSSES))
    assert mx.from_json(mx.to_json(problem)) == problem
    assert str(mx.from_json(mx.to_json(problem))) == str(problem)


def test_a_stage_has_one_superscript_at_a_time():
    """LaTeX refuses two superscripts on one symbol: a stage's number goes into brackets under a power, a transpose and a step."""
    stage = mx.Mixture(DOMAINS, name="p", stages=2)[0]
    assert mx.previous(stage).latex() == "(p^{(0)})^{(t-1)}"
    assert mx.square(stage).latex() == "(p^{(0)})^{2}"
    assert (stage @ W).latex() == r"(p^{(0)})^{\top} w"
