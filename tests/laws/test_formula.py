"""Laws written as text: parameters and their lengths found, fitted as the built-in laws are, and refused with the mend."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError, ProblemError
from mixopt.language.curvature import curvature
from mixopt.language.formula import formula
from mixopt.language.free import unbound
from mixopt.language.symbols import Mixture
from mixopt.laws import AdditivePower, Exponential, Formula, load
from mixopt.laws.formula import FormulaCurve
from mixopt.laws.law import At
from mixopt.runs import Runs, Targets
from mixopt.runtime.batch import Batch
from mixopt.runtime.layout import Layout

NAMES = ["web", "code", "books"]


def table(y, rows: int = 40, seed: int = 0, alpha: float = 1.0, noise: float = 0.0, **scales) -> Runs:
    rng = np.random.default_rng(seed)
    w = rng.dirichlet(np.full(3, alpha), rows)
    columns = {name: rng.choice(values, rows) for name, values in scales.items()}
    told = y(w, **columns)
    return Runs.from_arrays(NAMES, w, ["loss"], (told + noise * rng.normal(size=rows))[:, None], **columns)


TEXTS = [
    "c + b * exp(A @ w)",
    "c + (C @ w)^-g",
    "c - k * w[web]^g - A[code] * w[code] / (1 + h * w[code])",
    "E + A / N^a + B / D^b + k * sqrt(w[code] + h) * log(s)",
    "c + sum(exp(-(a * w))) + 0.1 * entropy(w) * q - [1, 2, 3] @ v",
    "logsumexp(stack(c, A @ w)) + max(w) * q - mean(w^2) * r + sum_squares(w - C) + maximum(c, d) * w[web]",
]


@pytest.mark.parametrize("text", TEXTS)
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=5)
def test_the_jacobian_is_that_of_the_value(text, jacobian_error, seed):
    rng = np.random.default_rng(seed)
    sizes = {"C": 3} if "w - C" in text else {}
    curve = FormulaCurve(text, tuple(NAMES), positive=("c",) if "c +" in text else (), sizes=sizes)
    at = At(rng.dirichlet(np.ones(3), 4), *rng.uniform(1, 5, (3, 4)))
    theta = rng.uniform(0.3, 1, (2, len(curve.parameters(None))))
    assert jacobian_error(curve, theta, at) < 1e-6


@pytest.mark.parametrize("text", TEXTS[:3])
def test_powers_of_weights_that_are_zero_have_derivatives(text, jacobian_error):
    curve = FormulaCurve(text, tuple(NAMES))
    theta = np.full((1, len(curve.parameters(None))), 0.7)
    assert jacobian_error(curve, theta, At(np.array([[0, 0.5, 0.5], [1, 0, 0]]))) < 1e-6


def test_parameters_and_their_lengths_are_found_in_the_text():
    expr, found = unbound("c + A @ w + w[code]^g * B[code] - v @ [1, 2]", {"w": Mixture(NAMES)}, NAMES)
    assert expr.shape == ()
    assert {name: symbol.shape for name, symbol in found.items()} == {"c": (), "A": (3,), "g": (), "B": (3,), "v": (2,)}
    assert FormulaCurve("c + A @ w", tuple(NAMES), positive=("c",)).parameters(None) == ("log c", "A[web]", "A[code]", "A[books]")


@pytest.mark.parametrize(
    ("text", "positive", "kind"), [("c + exp(A @ w)", (), Exponential), ("E + (C @ w)^(-g)", ("C", "g"), AdditivePower)]
)
def test_the_texts_of_built_in_laws_fit_as_they_do(text, positive, kind):
    runs = table(lambda w: 2 + (0.2 + w @ [1.0, 0.5, 2.0]) ** -0.8, noise=0.01)
    law, theirs = Formula.fit(runs, text, positive=positive, bounds={text[0]: (0, 10)}), kind.fit(runs, ridge=0)
    assert law.rmse[0] == pytest.approx(theirs.rmse[0], rel=1e-5)
    points = np.random.default_rng(5).dirichlet(np.ones(3), 6)
    np.testing.assert_allclose(law.predict(points), theirs.predict(points), atol=1e-4)
    assert law.converged.all()


def test_a_law_with_every_scale_gives_its_parameters_back_and_is_convex_in_the_mixture():
    scales = {"params": [1.0, 2.0, 4.0], "tokens": [5.0, 10.0, 30.0], "steps": [100.0, 200.0, 400.0]}
    truth = lambda w, params, tokens, steps: 1 + 0.8 / params**0.5 + 0.7 * np.exp(w @ [-1, 0.3, 0.2]) / tokens**0.3 + 3 / steps**0.6  # noqa: E731
    runs = table(truth, 80, **scales)
    law = Formula.fit(
        runs, "E + A / N^a + exp(t @ w) / D^b + C / s^g", positive=("A", "C", "a", "b", "g"), start={"a": 0.4, "b": 0.4, "g": 0.4}
    )
    assert law.requires == ("params", "tokens", "steps")
    assert law.rmse[0] < 1e-6
    found = law.parameters("loss")
    assert found["a"] == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(found["t"], np.log(0.7) + np.array([-1, 0.3, 0.2]), atol=1e-2)
    w = Mixture(NAMES)
    expr = law["loss"](w, params=3.0, tokens=20.0, steps=300.0)
    assert curvature(expr) == "convex"
    point = np.array([[0.2, 0.3, 0.5]])
    told = law.predict(point, params=3.0, tokens=20.0, steps=300.0)[0]
    np.testing.assert_allclose(Batch(expr, Layout((w,)), {})(point), told, rtol=1e-9)
    with pytest.raises(InputError, match=r"depends on .*give tokens=..., steps=\.\.\."):
        law.predict(point, params=3.0)


def test_what_the_runs_cannot_tell_is_said():
    law = Formula.fit(table(lambda w: 2 + np.exp(w @ [-1.0, 0.3, 0.2]), noise=0.01), "c + b * exp(A @ w)")
    assert law.fitted.identified.tolist() == [4]
    assert "of the 5 parameters of 'loss' the runs tell 4 apart" in str(law)


def test_positive_bounded_and_started_parameters_keep_to_it():
    runs = table(lambda w: 3 - w[:, 0], noise=0.01)
    law = Formula.fit(runs, "c + b * w[web] + d * w[code]", positive=("b",), bounds={"d": (-0.1, -0.05)})
    found = law.parameters("loss")
    assert found["b"] > 0
    assert -0.1 <= found["d"] <= -0.05


def test_a_saved_formula_is_read_back_equal(tmp_path):
    law = Formula.fit(
        table(lambda w: 2 + w[:, 0] ** 0.5, noise=0.01), "c + b * w[web]^g + A @ w^2", positive=("b",), bounds={"g": (0.1, 2)}
    )
    law.save(tmp_path / "law.json")
    back = load(tmp_path / "law.json")
    assert isinstance(back, Formula)
    np.testing.assert_array_equal(back.predict(np.eye(3) * 0.7 + 0.1), law.predict(np.eye(3) * 0.7 + 0.1))
    assert set(back.parameters("loss")) == {"c", "b", "g", "A"}


def test_a_target_to_be_maximised_is_fitted_by_its_negative():
    runs = table(lambda w: 2 + np.exp(w @ [-1.0, 0.3, 0.2]), noise=0.01)
    up = Runs.from_arrays(NAMES, runs.mixtures, Targets(["acc"], "max"), -runs.metrics)
    one, two = Formula.fit(runs, "c + exp(A @ w)"), Formula.fit(up, "c + exp(A @ w)")
    np.testing.assert_allclose(two.predict(np.eye(3)), -one.predict(np.eye(3)))


@pytest.mark.parametrize(
    ("text", "settings", "error", "message"),
    [
        ("c + expp(A @ w)", {}, ProblemError, r"no function 'expp'; did you mean 'exp'"),
        ("c + A * w", {}, ProblemError, r"has \[3\] values, and a law is one number: fold by sum"),
        ("2 + w[web]", {}, InputError, r"has no parameter to be fitted"),
        ("c + w[wed]", {}, ProblemError, r"no domain 'wed'"),
        ("c + b * w[web]", {"positive": ("d",)}, InputError, r"no parameter 'd' in \(c, b\)"),
        ("c + b * w[web]", {"start": {"B": 1}}, InputError, r"no parameter 'B' in \(c, b\)"),
        ("c + b * D^-0.3", {}, InputError, r"needs \(tokens\) of every run"),
        ("c + log(0 * b - w[web])", {}, InputError, r"no start of the 2 parameters .* is finite at all runs.*give start=\{'c'"),
        ("c + b * norm(A @ w + w)", {}, ProblemError, r"norm has no derivative in a law's formula"),
        ("c + __import__('os')", {}, ProblemError, r"."),
    ],
)
def test_texts_that_cannot_be_fitted_are_refused(text, settings, error, message):
    with pytest.raises(error, match=message):
        Formula.fit(table(lambda w: 2 + w[:, 0]), text, **settings)


def test_a_run_without_the_domain_of_a_negative_power_is_named():
    runs = table(lambda w: 2 + w[:, 0])
    w = runs.mixtures.copy()
    w[5] = [0, 0.5, 0.5]
    bad = Runs.from_arrays(NAMES, w, ["loss"], runs.metrics)
    with pytest.raises(InputError, match=r"least often in a run with weight 0 for \(web\); give start="):
        Formula.fit(bad, "c + b * w[web]^-0.5")


def test_a_vector_of_exponents_has_one_for_each_entry():
    w = Mixture(NAMES)
    expr = formula("sum([1, 2, 3] * w ^ [0.5, 0.7, 1])", w=w)
    assert curvature(expr) == "concave"
    point = np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(Batch(expr, Layout((w,)), {})(point), [0.2**0.5 + 2 * 0.3**0.7 + 3 * 0.5])
    runs = table(lambda w: 1 + 1 / (0.5 + w**0.5 @ [1.0, 2.0, 0.5]), 80, alpha=0.6)
    law = Formula.fit(runs, "E + 1 / (h + sum(C * w^g))", positive=("h", "C", "g"), sizes={"C": 3, "g": 3}, start={"g": 0.6})
    assert law.rmse[0] < 1e-6
    np.testing.assert_allclose(Batch(law["loss"](w), Layout((w,)), {})(point), law.predict(point)[:, 0], rtol=1e-9)
