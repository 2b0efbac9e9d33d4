"""Solvers from text: what they print is read back, and what cannot be read says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt import rules, solvers
from mixopt.solvers.table import TABLE
from mixopt.solvers.text import NAMES, SETTINGS, from_text

FRACTIONS = st.floats(0.001, 0.5)
SOLVERS = st.one_of(
    st.builds(solvers.Conic, solver=st.sampled_from(["CLARABEL", "SCS"]), options=st.just({"verbose": 1})),
    st.builds(solvers.Projected, geometry=st.sampled_from(["euclidean", "entropic"]), steps=st.integers(1, 99), tolerance=FRACTIONS),
    st.builds(solvers.Simulation, draws=st.integers(1, 99), best=st.sampled_from(["mean", "argmin"]), prior=st.just({"a": 0.5, "b": 0.5})),
    st.builds(solvers.Grid, parts=st.integers(1, 99), spacing=st.sampled_from(["even", "halving"])),
    st.builds(solvers.WaterFilling, tolerance=FRACTIONS),
    st.builds(solvers.DescentAscent, rate=FRACTIONS | st.builds(solvers.Normalised, move=FRACTIONS), smoothing=FRACTIONS),
    st.builds(
        solvers.Extragradient,
        geometry=st.sampled_from(["euclidean", "entropic"]),
        average=st.sampled_from(["last", "mean"])
        | st.builds(solvers.Window, steps=st.integers(1, 9))
        | st.builds(solvers.Suffix, share=FRACTIONS),
        model_rate=st.none() | FRACTIONS,
        schedule=st.none() | st.builds(solvers.Decaying, power=FRACTIONS) | st.builds(solvers.AdaGradNorm, floor=FRACTIONS),
        restart=st.none() | st.integers(2, 9),
    ),
    st.builds(solvers.SmoothedDescentAscent, pull=FRACTIONS, follow=FRACTIONS, absent=st.sampled_from(["zero", "carry"])),
    st.builds(
        solvers.BestResponse,
        ball=st.builds(solvers.Entropic, temperature=FRACTIONS)
        | st.builds(solvers.Tail, share=FRACTIONS)
        | st.builds(solvers.ChiSquare, radius=FRACTIONS),
    ),
    st.builds(solvers.Unrolled, steps=st.none() | st.integers(1, 99), step_size=FRACTIONS, average=st.sampled_from(["last", "mean"])),
    st.builds(solvers.Online, rule=st.builds(rules.ODM, alpha=FRACTIONS) | st.builds(rules.DoGE, mu=FRACTIONS), every=st.integers(1, 9)),
    st.builds(
        solvers.ValueFunction, penalty=st.none() | FRACTIONS, differences=st.sampled_from(["one-sided", "central"]), growth=FRACTIONS
    ),
    st.builds(
        solvers.Implicit,
        inner=st.builds(solvers.Inner, steps=st.integers(1, 99)),
        system=st.builds(solvers.ConjugateGradients, steps=st.integers(1, 99), damping=FRACTIONS),
        curvature=st.sampled_from(["hessian", "gauss-newton"]),
        rate=FRACTIONS | st.builds(solvers.LineSearch, first=FRACTIONS | st.builds(solvers.Normalised, move=FRACTIONS), shrink=FRACTIONS),
        geometry=st.sampled_from(["euclidean", "entropic", "softmax"]),
        momentum=FRACTIONS,
    ),
)


@settings(deadline=None, max_examples=60)
@given(SOLVERS)
def test_a_solver_is_read_back_from_what_it_prints(solver):
    assert from_text(str(solver)) == solver


def test_the_names_are_those_there_are():
    assert set(NAMES) == {entry.name for entry in TABLE} | {"Online"}
    assert set(NAMES) | set(SETTINGS) == set(solvers.__all__)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Conik", r"no solver 'Conik' in \(Conic, .*did you mean 'Conic'"),
        ("implicit", "did you mean 'Implicit'"),
        ("Projected(", r"cannot be read \('\(' was never closed\)"),
        ("1 + 1", "is no name with settings"),
        ("__import__('os').system('true')", "is no name with settings"),
        ("Projected(steps=__import__('os').getpid())", "is no literal"),
        ("Projected(geom='entropic')", "no setting 'geom'.*did you mean 'geometry'"),
        ("Projected('entropic')", r"without its name; write Projected\(geometry=...\)"),
        ("Projected(**{})", "by name"),
        ("Projected(geometry=entropic)", "text wants quotes"),
        ("Projected(steps='many')", "it is a whole number"),
        ("Projected(steps=True)", "it is a whole number"),
        ("Implicit(rate='fast')", "it is a number or Normalised"),
        ("Implicit(inner=Iner())", "did you mean 'Inner'"),
        ("Implicit(inner=Conic())", r"one of \(AdaGradNorm, .*, ConjugateGradients, "),
        ("Conic(options=3)", "it is a mapping"),
        ("Unrolled(steps=0)", "steps of Unrolled is 0"),
    ],
)
def test_what_cannot_be_read_says_why(text, says):
    with pytest.raises(mx.InputError, match=says):
        from_text(text)
