"""MixMin and MixMax: closed answers, exponentiated gradient by hand, the saddle, and the same weights by the bilevel and saddle solvers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.forms import Program
from mixopt.language.curvature import curvature
from mixopt.problems import mixmax, mixmin
from mixopt.solvers import Conic, DescentAscent, Implicit, Projected

pytest.importorskip("cvxpy")

TWO, THREE = mx.Domains(["a", "b"]), mx.Domains(["a", "b", "c"])


def softened(rows: np.ndarray, w: np.ndarray, shares: np.ndarray) -> float:
    """-sum_d shares_d logsumexp_i(log w_i + rows_di), as the released code has it."""
    with np.errstate(divide="ignore"):
        at = rows + np.log(w)
    top = at.max(axis=1)
    return float(-shares @ (top + np.log(np.exp(at - top[:, None]).sum(axis=1))))


def exponentiated(rows: np.ndarray, shares: np.ndarray, steps: int) -> np.ndarray:
    """Exponentiated gradient of rate 1 from uniform weights: w_i <- w_i exp(sum_d shares_d p_i(d) / p_w(d)), normalised."""
    p = np.exp(rows - rows.max(axis=1, keepdims=True))
    w = np.full(rows.shape[1], 1 / rows.shape[1])
    for _ in range(steps):
        w = w * np.exp(shares @ (p / (p @ w)[:, None]))
        w /= w.sum()
    return w


def test_mixmin_is_a_convex_program_and_a_method():
    method = mixmin(TWO, probabilities=[[0.5, 0.1], [0.2, 0.9]])
    plan = mx.plan(method)
    assert isinstance(plan.form, Program)
    assert curvature(plan.form.objective) == "convex"
    assert (method.name, method.solver) == ("MixMin", Conic())
    assert str(method.problem).startswith("minimize over w\n  -[0.5, 0.5] @ log(<2x2 numbers> @ w)")


def test_sources_that_share_nothing_get_the_shares_of_their_examples():
    logs = np.log([[1.0, 1e-300]] * 3 + [[1e-300, 1.0]])
    result = mx.solve(mixmin(TWO, logs))
    np.testing.assert_allclose(result.vector, [0.75, 0.25], atol=1e-5)
    assert result.value == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), abs=1e-9)
    impossible = mx.solve(mixmin(TWO, probabilities=[[1.0, 0.0]] * 3 + [[0.0, 1.0]]))
    np.testing.assert_allclose(impossible.vector, [0.75, 0.25], atol=1e-5)


def test_lengths_make_every_document_count_by_its_tokens():
    """Shares proportional to 1 / length: (1/2 + 1/4) to 1/8."""
    probabilities = [[0.3, 0.0], [0.1, 0.0], [0.0, 0.2]]
    result = mx.solve(mixmin(TWO, probabilities=probabilities, lengths=[2, 4, 8]))
    np.testing.assert_allclose(result.vector, [6 / 7, 1 / 7], atol=1e-5)


def test_a_target_within_the_hull_gives_its_own_weights_back():
    sources, truth = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.array([0.3, 0.7])
    w = mx.Mixture(TWO)
    counts = 1000 * truth @ sources
    tokens = np.repeat(sources.T, np.round(counts).astype(int), axis=0)
    result = mx.solve(mixmin(TWO, probabilities=tokens))
    np.testing.assert_allclose(result.vector, truth, atol=1e-5)
    direct = mx.solve(mx.minimize(-(mx.constant(truth @ sources) @ mx.log(sources.T @ w)), over=w))
    assert result.value == pytest.approx(direct.value, abs=1e-9)


def test_two_sources_that_mirror_each_other_share_evenly():
    result = mx.solve(mixmin(TWO, probabilities=[[0.8, 0.3], [0.3, 0.8]]))
    np.testing.assert_allclose(result.vector, [0.5, 0.5], atol=1e-5)
    assert result.value == pytest.approx(-np.log(0.55), abs=1e-9)


def test_documents_of_thousands_of_nats_do_not_underflow():
    rng = np.random.default_rng(3)
    rows = rng.normal(-4000, 2, size=(50, 3))
    result = mx.solve(mixmin(THREE, rows))
    shares = np.full(50, 1 / 50)
    assert result.value == pytest.approx(softened(rows, result.vector, shares), abs=1e-9)
    np.testing.assert_allclose(result.vector, exponentiated(rows, shares, 5000), atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 40))
def test_mixmin_agrees_with_exponentiated_gradient_by_hand(seed, k, n):
    rng = np.random.default_rng(seed)
    rows, lengths = rng.normal(-30, 2, size=(n, k)), rng.integers(1, 50, n)
    shares = 1 / (n * lengths)
    result = mx.solve(mixmin(mx.Domains([f"d{i}" for i in range(k)]), rows, lengths=lengths))
    byhand = softened(rows, exponentiated(rows, shares / shares.sum(), 3000), shares)
    assert result.status is mx.Status.OPTIMAL
    assert result.value == pytest.approx(softened(rows, result.vector, shares), abs=1e-9)
    assert result.value <= byhand + 1e-8
    assert byhand == pytest.approx(result.value, abs=1e-4)


def test_many_rows_go_to_descent_and_equal_rows_count_once():
    rng = np.random.default_rng(0)
    rows = rng.normal(-20, 1, size=(3000, 3))
    many = mixmin(THREE, rows)
    result = mx.solve(many)
    assert many.solver == Projected()
    assert result.status is mx.Status.OPTIMAL
    assert result.check.gap <= 1e-6
    np.testing.assert_allclose(result.vector, mx.solve(many.problem, solver=Conic()).vector, atol=1e-3)
    w = mx.Mixture(THREE)
    assert mixmin(THREE, rows, subject_to=[mx.sum_squares(w) <= 0.9]).solver == Conic(), "descent takes linear constraints only"
    few = mixmin(THREE, np.repeat(rows[:10], 300, axis=0))
    assert few.solver == Conic()
    assert mx.solve(few).value == pytest.approx(mx.solve(mixmin(THREE, rows[:10])).value, abs=1e-9)


def test_constraints_and_their_duals():
    w = mx.Mixture(TWO)
    result = mx.solve(mixmin(TWO, probabilities=[[1.0, 0.0]] * 3 + [[0.0, 1.0]], subject_to=[(w["a"] <= 0.5).named("cap")]))
    np.testing.assert_allclose(result.vector, [0.5, 0.5], atol=1e-5)
    assert result.duals["cap"] == pytest.approx(0.75 / 0.5 - 0.25 / 0.5, abs=1e-6)


def risks(tables: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The cross-entropy of the mixture's own predictor on every source [k]."""
    joint = np.einsum("i,ixy->xy", w, tables)
    given_x = joint / joint.sum(axis=1, keepdims=True)
    return -(tables * np.log(np.where(given_x > 0, given_x, 1))).sum(axis=(1, 2))


def test_mixmax_of_two_coins_is_the_mixture_that_is_fair():
    result = mx.solve(mixmax(TWO, [[[0.9, 0.1]], [[0.2, 0.8]]]))
    np.testing.assert_allclose(result.vector, [3 / 7, 4 / 7], atol=1e-5)
    assert result.value == pytest.approx(np.log(2), abs=1e-9)


def test_mixmax_of_mirrored_sources_is_even_and_of_coins_on_one_side_the_fairer():
    mirrored = mx.solve(mixmax(TWO, [[[0.4, 0.1], [0.2, 0.3]], [[0.1, 0.4], [0.3, 0.2]]]))
    np.testing.assert_allclose(mirrored.vector, [0.5, 0.5], atol=1e-5)
    assert mirrored.value == pytest.approx(np.log(2), abs=1e-9)
    one_side = mx.solve(mixmax(TWO, [[[0.9, 0.1]], [[0.6, 0.4]]]))
    np.testing.assert_allclose(one_side.vector, [0, 1], atol=1e-5)
    assert one_side.value == pytest.approx(-0.6 * np.log(0.6) - 0.4 * np.log(0.4), abs=1e-7)


def test_sources_with_inputs_of_their_own_have_the_mean_of_their_entropies():
    """x tells the source, so H(Y | X) = sum_i w_i H_i, largest at the source of the largest entropy."""
    tables = np.zeros((2, 2, 2))
    tables[0, 0], tables[1, 1] = [0.5, 0.5], [0.9, 0.1]
    result = mx.solve(mixmax(TWO, tables))
    np.testing.assert_allclose(result.vector, [1, 0], atol=1e-5)
    assert result.value == pytest.approx(np.log(2), abs=1e-8)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_at_the_optimum_of_mixmax_the_worst_source_has_the_value_as_its_loss(seed, k):
    """The saddle: max_i of the cross-entropy of the Bayes predictor equals the largest conditional entropy."""
    rng = np.random.default_rng(seed)
    tables = rng.dirichlet(np.full(6, 0.7), size=k).reshape(k, 3, 2)
    method = mixmax(mx.Domains([f"d{i}" for i in range(k)]), tables)
    result = mx.solve(method)
    at = risks(tables, result.vector)
    assert result.status is mx.Status.OPTIMAL
    assert method.problem.sense == "maximize"
    assert at @ result.vector == pytest.approx(result.value, abs=1e-7)
    assert at.max() == pytest.approx(result.value, abs=2e-5)
    for other in rng.dirichlet(np.ones(k), size=5):
        assert risks(tables, other) @ other <= result.value + 1e-8


@pytest.fixture(scope="module")
def tabular():
    """Three sources with one p(x), a target, and a model that is a table of logits, the last of each row fixed at 0."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    conditional, inputs = rng.dirichlet(np.full(3, 0.7), size=(3, 2)), np.array([0.4, 0.6])
    tables = inputs[None, :, None] * conditional
    target = inputs[:, None] * (0.8 * np.einsum("i,ixy->xy", [0.5, 0.2, 0.3], conditional) + 0.2 / 3)
    at, goal = torch.tensor(tables), torch.tensor(target)

    def log_p(logits):
        return torch.log_softmax(torch.cat([logits, torch.zeros(2, 1, dtype=torch.float64)], dim=1), dim=1)

    losses = {"train": lambda t: -(at * log_p(t)).sum((1, 2)), "val": lambda t: -(goal * log_p(t)).sum()}
    learner = mx.FunctionLearner(torch.zeros(2, 2, dtype=torch.float64), losses, optimizer=lambda leaves: torch.optim.SGD(leaves, lr=2.0))
    return learner, tables, conditional, target


def test_mixmin_solved_as_the_bilevel_problem_that_it_is_has_the_same_weights(tabular):
    learner, _, conditional, target = tabular
    w, theta = mx.Mixture(THREE), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, THREE), over=theta)
    bilevel = mx.solve(mx.minimize(mx.loss(trained, "val"), over=w), learner, solver=Implicit())
    rows = np.log(conditional.reshape(3, -1).T)
    rewritten = mx.solve(mixmin(THREE, rows, lengths=1 / (target.ravel() * target.size)))  # target's shares in the place of 1 / (n length)
    assert bilevel.status is mx.Status.STATIONARY
    np.testing.assert_allclose(bilevel.vector, rewritten.vector, atol=1e-5)
    assert bilevel.value == pytest.approx(rewritten.value, abs=1e-8)
    assert rewritten.vector.min() > 0.2, "an interior answer, so that the weights say something"


def test_mixmax_solved_as_the_saddle_that_it_is_has_the_same_weights(tabular):
    learner, tables, _, _ = tabular
    w, theta = mx.Mixture(THREE), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, THREE), over=w), over=theta)
    saddle = mx.solve(game, learner, solver=DescentAscent(average="last", steps=4000))
    rewritten = mx.solve(mixmax(THREE, tables))
    assert saddle.status is mx.Status.STATIONARY
    np.testing.assert_allclose(saddle.vector, rewritten.vector, atol=1e-5)
    assert saddle.value == pytest.approx(rewritten.value, abs=1e-6)


BAD = {
    "neither": (lambda: mixmin(TWO), "either log_likelihoods .* or probabilities"),
    "both": (lambda: mixmin(TWO, [[0.0, 0.0]], probabilities=[[1, 1]]), "one of the two"),
    "words": (lambda: mixmin(TWO, [["x", "y"]]), r"log_likelihoods are no numbers of shape \[n, 2\]"),
    "columns": (lambda: mixmin(TWO, [[0.0, 0.0, 0.0]]), r"shape \[1, 3\]; a row an example and a column a domain \(a, b\)"),
    "no rows": (lambda: mixmin(TWO, np.zeros((0, 2))), r"shape \[0, 2\]"),
    "NaN": (lambda: mixmin(TWO, [[0.0, np.nan]]), "NaN or infinite; give log-likelihoods in nats"),
    "negative": (lambda: mixmin(TWO, probabilities=[[0.5, -0.1]]), "an entry that is negative or NaN"),
    "impossible": (lambda: mixmin(TWO, probabilities=[[1, 1], [0, 0]]), "example 1 has probability 0 under every domain"),
    "lengths": (lambda: mixmin(TWO, [[0.0, 0.0]], lengths=[0]), r"lengths \[1\] are the tokens of each document, all > 0"),
    "tables' shape": (lambda: mixmax(TWO, [[0.5, 0.5], [0.5, 0.5]]), r"shape \[2, 2\]; \[2, X, Y\] is expected"),
    "ragged tables": (lambda: mixmax(TWO, [[[1.0]], [[0.5, 0.5]]]), r"no numbers of shape \[2, X, Y\]"),
    "tables' sign": (lambda: mixmax(TWO, [[[1.5, -0.5]], [[0.5, 0.5]]]), "negative or NaN"),
    "tables' sum": (lambda: mixmax(TWO, [[[0.5, 0.5]], [[3, 1]]]), "the table of 'b' sums to 4; .* divide counts by their total"),
}


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD)
def test_numbers_that_do_not_fit_are_refused(make, words):
    with pytest.raises(mx.InputError, match=words):
        make()
