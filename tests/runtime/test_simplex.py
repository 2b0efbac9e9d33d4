"""The step that most methods share: projections and mirror steps against closed answers, optimality conditions and torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixopt.runtime.simplex import entropy, mirror, project, smoothed

torch = pytest.importorskip("torch")

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "cases" / "vectors.json"
POINTS = st.integers(1, 30).flatmap(lambda k: arrays(float, k, elements=st.floats(-50, 50)))


def stored(prefix: str) -> list[dict]:
    if not VECTORS.exists():
        pytest.skip(f"needs {VECTORS.name} of the shared folder")
    found = [case for case in json.loads(VECTORS.read_text()) if case["id"].startswith(prefix)]
    assert found
    return found


def box(draw, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that some point of the simplex meets, a few of them tight or zero."""
    inside = np.array(draw(st.lists(st.floats(0, 1), min_size=k, max_size=k))) + 1e-3
    inside /= inside.sum()
    below, above = (np.array(draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=k, max_size=k))) for _ in range(2))
    return inside * (1 - below), np.minimum(inside + above, 1.0)


@st.composite
def boxed(draw):
    """A vector with bounds."""
    k = draw(st.integers(1, 12))
    lower, upper = box(draw, k)
    return np.array(draw(st.lists(st.floats(-5, 5), min_size=k, max_size=k))), lower, upper


def assert_on_simplex(u: np.ndarray) -> None:
    assert abs(u.sum() - 1) <= 1e-12
    assert u.min() >= 0


def test_projections_of_the_shared_vectors():
    for case in stored("simplex-projection-"):
        np.testing.assert_allclose(project(np.array(case["inputs"]["y"])), case["expected"]["p"], atol=case["tol"])


def test_exponentiated_gradient_of_the_shared_vectors():
    for case in stored("survey-eg-"):
        w, reward, rate = (case["inputs"][n] for n in ("w", "V", "zeta"))
        np.testing.assert_allclose(mirror(np.array(w), -np.array(reward), rate), case["expected"]["w_new"], atol=case["tol"])


@settings(deadline=None, max_examples=100)
@given(POINTS)
def test_a_projection_meets_its_variational_inequality(x):
    """<x - p, u - p> <= 0 for every u of the simplex: it is enough to look at the corners."""
    p = project(x)
    assert_on_simplex(p)
    assert ((x - p) - (x - p) @ p).max() <= 1e-10 * (1 + np.abs(x).max())
    np.testing.assert_allclose(project(p), p, atol=1e-14)


@settings(deadline=None, max_examples=100)
@given(POINTS, st.sampled_from([1e-6, 1.0, 1e7]), st.booleans())
def test_the_simplex_and_its_own_box_have_one_projection(x, scale, ties):
    """The first is found by sorting, the second by halving an interval."""
    x = scale * (np.round(x) if ties else x)
    p = project(x)
    np.testing.assert_allclose(p, project(x, lower=np.zeros_like(x), upper=np.ones_like(x)), atol=1e-12)
    np.testing.assert_allclose(p, project(torch.tensor(x)).numpy(), atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(boxed())
def test_a_projection_onto_a_box_is_one_shift_clipped(case):
    """KKT: x - p is one number on the entries strictly inside, smaller at lower bounds, larger at upper ones."""
    x, lower, upper = case
    p = project(x, lower=lower, upper=upper)
    assert abs(p.sum() - 1) <= 1e-12
    assert ((p >= lower) & (p <= upper)).all()
    shift, slack = x - p, 1e-9
    for i in np.flatnonzero(p < upper - 1e-12):  # raising i and lowering j must not bring p nearer to x
        for j in np.flatnonzero(p > lower + 1e-12):
            assert shift[i] <= shift[j] + slack


@settings(deadline=None, max_examples=100)
@given(boxed(), st.floats(0.01, 10), st.sampled_from([0.0, 0.5]))
def test_a_mirror_step_in_a_box_minimises_its_model(case, rate, temperature):
    """KKT of <g, u> + KL(u || w) / rate + t KL(u || uniform): its slope orders the entries by their bounds."""
    g, lower, upper = case
    w = np.arange(1.0, len(g) + 1) / np.arange(1.0, len(g) + 1).sum()
    u = mirror(w, g, rate, temperature=temperature, lower=lower, upper=upper)
    assert abs(u.sum() - 1) <= 1e-12
    assert ((u >= lower) & (u <= upper)).all()
    positive = u > 1e-200
    slope = np.full(len(g), -np.inf)
    slope[positive] = g[positive] + np.log(u[positive] / w[positive]) / rate + temperature * np.log(u[positive] * len(g))
    for i in np.flatnonzero((u < upper - 1e-12) & positive):
        for j in np.flatnonzero(u > lower + 1e-9 * u):
            assert slope[i] >= slope[j] - 1e-6 * (1 + abs(slope[j])) or u[j] <= lower[j] * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(boxed())
def test_numpy_and_torch_take_the_same_steps(case):
    x, lower, upper = case
    w = np.full(len(x), 1 / len(x))
    bounds = {"lower": torch.tensor(lower), "upper": torch.tensor(upper)}
    both = [
        (project(x), project(torch.tensor(x))),
        (project(x, lower=lower, upper=upper), project(torch.tensor(x), **bounds)),
        (mirror(w, x, 0.7), mirror(torch.tensor(w), torch.tensor(x), 0.7)),
        (mirror(w, x, 0.7, lower=lower, upper=upper), mirror(torch.tensor(w), torch.tensor(x), 0.7, **bounds)),
    ]
    for mine, theirs in both:
        np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_arguments(dtype):
    x = torch.tensor([0.7, 1.3, 0.75], dtype=dtype)
    w = torch.full((3,), 1 / 3, dtype=dtype)
    assert project(x).dtype == dtype
    assert mirror(w, x, 1.0, lower=0 * w, upper=0 * w + 0.4).dtype == dtype
    assert float(project(x).sum()) == pytest.approx(1, abs=1e-6)


def test_huge_gradients_do_not_overflow_and_zeros_stay_zero():
    w = np.array([0.5, 0.5, 0.0])
    np.testing.assert_allclose(mirror(w, np.array([1e8, -1e8, -1e9]), 1.0), [0, 1, 0])
    np.testing.assert_allclose(mirror(w, np.array([3e5, 3e5, 0.0]), 1.0), [0.5, 0.5, 0])


def test_a_huge_gradient_meets_an_upper_bound():
    upper = np.array([0.6, 1.0, 1.0])
    expected = [0.6, 0.2, 0.2]
    np.testing.assert_allclose(mirror(np.full(3, 1 / 3), np.array([-1e4, 0, 0]), 1.0, upper=upper), expected, atol=1e-12)
    np.testing.assert_allclose(mirror(np.array([1.0, 0, 0]), np.zeros(3), 1.0, upper=upper), expected, atol=1e-12)
    single = torch.tensor([1.0, 0, 0], dtype=torch.float32)
    np.testing.assert_allclose(mirror(single, 0 * single, 1.0, upper=torch.tensor(upper, dtype=torch.float32)), expected, atol=1e-6)


def test_a_temperature_draws_towards_uniform():
    w, g = np.array([0.7, 0.2, 0.1]), np.zeros(3)
    expected = w ** (1 / 1.5) / (w ** (1 / 1.5)).sum()
    np.testing.assert_allclose(mirror(w, g, 0.5, temperature=1.0), expected, rtol=1e-14)


def test_smoothing_leaves_every_domain_a_share():
    np.testing.assert_allclose(smoothed(np.array([1.0, 0.0]), 0.2), [0.9, 0.1])
    w = np.array([1.0, 0.0])
    assert smoothed(w, 0.0) is w


def test_entropy_counts_domains():
    assert np.exp(entropy(np.full(5, 0.2))) == pytest.approx(5)
    assert entropy(np.array([1.0, 0.0])) == 0
