"""Auxiliary variables and stages as symbols: shapes, bounds, text, LaTeX, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.language.curvature import curvature, sign
from mixopt.language.latex import latex
from mixopt.language.symbols import domains_of

DOMAINS = mx.Domains(["web", "code", "books"])
W = mx.Mixture(DOMAINS)
P = mx.Mixture(DOMAINS, name="p", stages=3)


def test_a_variable_is_affine_and_its_bounds_tell_its_sign():
    z, free = mx.variable("z", 2, nonneg=True), mx.variable("t")
    assert (z.shape, free.shape) == ((2,), ())
    assert (curvature(z), curvature(mx.square(free)), sign(z), sign(free)) == ("affine", "convex", "+", "any")
    assert sign(mx.variable("d", upper=0.0)) == "-"
    assert curvature(z[0] * mx.parameter("p")) == "affine"


def test_a_variable_is_its_name_size_and_bounds():
    assert mx.variable("z", 2) == mx.variable("z", 2)
    assert mx.variable("z", 2) != mx.variable("z", 3)
    assert mx.variable("z", 2, lower=[0.0, 1.0]) != mx.variable("z", 2)
    assert mx.variable("z", 2, nonneg=True) == mx.variable("z", 2, lower=0.0)


def test_the_stages_of_a_mixture_are_mixtures_of_the_same_domains():
    assert P.shape == (3, 3)
    assert list(P) == [P[0], P[1], P[2]] == [P.stage(t) for t in range(3)]
    assert P[-1] == P[2] != P[1]
    assert P[1]["code"].shape == ()
    assert domains_of(P[1]) == domains_of(P) == DOMAINS
    assert str(mx.kl(P[1], P[0])) == "kl(p[1], p[0])"


def test_problems_show_stages_and_bounds():
    z, t = mx.variable("z", 2, lower=0.0, upper=1.0), mx.variable("t", lower=-1.0)
    problem = mx.minimize(sum(mx.sum_squares(row) for row in P) + mx.sum(z) + t, over=(P, z, t))
    assert str(problem).splitlines()[0] == "minimize over p (3 stages), 0 <= z <= 1, t >= -1"
    head = latex(problem).splitlines()[1]
    assert r"p \in \Delta^{3}, 0 \le z \le 1, t \ge -1" in head
    assert r"p^{(0)}" in latex(problem)
    free = mx.minimize(mx.variable("u", upper=[1.0, 2.0], size=2)[0] + W["web"], over=(W, mx.variable("u", 2, upper=[1.0, 2.0])))
    assert str(free).splitlines()[0] == "minimize over w, u <= <2 numbers>"
    assert r"u \le \cdot" in latex(free)


REFUSED = {
    "a size of 0": (lambda: mx.variable("z", 0), "variable 'z' has size 0; a size is a whole number >= 1"),
    "an empty name": (lambda: mx.variable(" "), "a variable's name is a text that is not empty"),
    "bounds crossed": (lambda: mx.variable("z", lower=2, upper=1), "variable 'z' has the lower bound 2 above its upper bound 1"),
    "two lower bounds": (lambda: mx.variable("z", nonneg=True, lower=1), "variable 'z' has both nonneg=True and lower=1"),
    "bounds of another shape": (lambda: mx.variable("z", 2, lower=[0.0, 0.0, 0.0]), "the lower bound of variable 'z' has shape [3]"),
    "a bound that is NaN": (lambda: mx.variable("z", upper=float("nan")), "the upper bound of variable 'z' is NaN"),
    "a bound that is text": (lambda: mx.variable("z", upper="much"), "the upper bound of variable 'z' is 'much', which is no number"),
    "no stages": (lambda: mx.Mixture(DOMAINS, stages=0), "mixture 'w' has stages=0; the number of stages is a whole number >= 1"),
    "a stage too many": (lambda: P[3], "'p' has the stages 0 to 2, and no stage 3"),
    "a domain of all stages": (lambda: P["web"], "'p['web']': a stage goes by its number; write p[0][...]"),
    "a stage of one mixture": (lambda: W.stage(0), "'w' has no stages; make it by Mixture(domains, stages=T)"),
    "all stages in a sum": (lambda: P + 1.0, "'p' has 3 stages and stands where one mixture is meant, in 'p + 1'; write p[t]"),
    "all stages in an atom": (lambda: mx.entropy(P), "'p' has 3 stages and stands where one mixture is meant"),
    "two domain sets in one expression": (
        lambda: W - mx.Mixture(["web", "math", "books"], name="v"),
        "the entries of 'w - v' are over different names: (web, code, books) and (web, math, books)",
    ),
    "one name for two symbols": (
        lambda: mx.minimize(W["web"], over=(W, mx.variable("w"))),
        "minimize is over two different symbols named (w); give one of them another name",
    ),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_in_words(make, said):
    with pytest.raises(mx.ProblemError) as refusal:
        make()
    assert said in str(refusal.value)


def test_bounds_one_an_entry_are_kept():
    z = mx.variable("z", 2, lower=[0.0, -np.inf], upper=3)
    assert z.data == ("z", (0.0, -np.inf), (3.0, 3.0))
