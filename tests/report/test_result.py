"""Results: weights by name, text, saving and going on, and comparisons as tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mixopt as mx
from mixopt.report.comparison import Comparison, Row
from mixopt.report.result import Cost, Trace, fingerprint, saved_weights
from mixopt.solvers import Conic, Implicit, Projected

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code"], tokens=[3.0, 1.0])
W = mx.Mixture(DOMAINS)
PROBLEM = mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[(W["web"] <= 0.5).named("cap")])


@pytest.fixture(scope="module")
def result() -> mx.Result:
    return mx.solve(PROBLEM)


def test_weights_go_by_name_and_by_symbol(result):
    assert list(result.weights) == ["web", "code"]
    assert result[W] == result.weights
    assert sum(result.weights.values()) == pytest.approx(1, abs=1e-12)
    with pytest.raises(mx.ProblemError, match="the result has weights for 'w', not for 'v'"):
        result[mx.Mixture(DOMAINS, name="v")]


def test_a_result_reads_with_status_weights_duals_check_and_cost(result):
    lines = str(result).splitlines()
    assert lines[0] == "Conic(): OPTIMAL, a global optimum, to the solver's tolerance"
    assert lines[1] == "  CLARABEL: optimal"
    assert lines[2:4] == ["  web   0.5000", "  code  0.5000"]
    assert lines[4] == "  value 0.143841"
    assert lines[5].startswith("  dual of cap: 1.09")
    assert lines[6].startswith("  check: off the simplex by ")
    assert lines[7].startswith("  cost: 1 steps, ")


def test_a_problem_with_other_numbers_than_its_text_shows_is_another_problem(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(5, 2))

    def fitted(matrix):
        return mx.minimize(mx.sum_squares(matrix @ W), over=W)

    mx.solve(fitted(numbers)).save(tmp_path / "result.json")
    assert str(fitted(numbers)) == str(fitted(2 * numbers))
    with pytest.raises(mx.InputError, match="is a checkpoint of another problem"):
        saved_weights(tmp_path / "result.json", fitted(2 * numbers))
    assert saved_weights(tmp_path / "result.json", fitted(numbers * (1 + 1e-14)))["web"] >= 0
    theta = mx.model()
    lower = [mx.argmin(w @ mx.losses(theta, names), over=theta) for names in (["a", "b"], ["a", "c"]) for w in [mx.Mixture(names)]]
    upper = [mx.minimize(mx.loss(t, "val"), over=mx.Mixture(n)) for t, n in zip(lower, (["a", "b"], ["a", "c"]), strict=True)]
    assert str(upper[0]) == str(upper[1])
    assert fingerprint(upper[0]) != fingerprint(upper[1])


def test_every_status_is_a_sentence_and_only_two_are_solved():
    assert {s for s in mx.Status if s.solved} == {mx.Status.OPTIMAL, mx.Status.STATIONARY}
    assert {s for s in mx.Status if not s.usable} == {mx.Status.INFEASIBLE}
    assert all(len(s.value.split()) > 5 for s in mx.Status)


def test_what_is_saved_is_read_again_and_starts_a_solve(result, tmp_path):
    path = tmp_path / "new" / "result.json"
    result.save(path)
    assert saved_weights(path, PROBLEM) == result.weights
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"
    again = mx.solve(PROBLEM, solver=Projected(), start=path)
    np.testing.assert_allclose(again.vector, result.vector, atol=1e-5)
    assert again.cost.steps <= 3


def test_a_checkpoint_of_another_problem_is_refused_with_both_shown(result, tmp_path):
    path = tmp_path / "result.json"
    result.save(path)
    other = mx.minimize(mx.sum_squares(W), over=W)
    with pytest.raises(
        mx.InputError, match=r"(?s)is a checkpoint of another problem:\nminimize over w\n  kl.*and not of\n.*sum_squares\(w\)"
    ):
        mx.solve(other, start=path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read as a saved result: .*No such file"),
        ("{", "cannot be read as a saved result"),
        ("[1]", r"is no saved result; give a file written by result.save\(path\)"),
        (json.dumps({"format": "other"}), "is no saved result"),
        (json.dumps({"format": "mixopt result 1"}), "is no saved result"),
        (json.dumps({"format": "mixopt result 1", "problem": str(PROBLEM), "weights": 3}), "is no saved result"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, content, words):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(mx.InputError, match=words):
        saved_weights(path, PROBLEM)


def test_a_folder_that_cannot_be_made_is_told(result, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(mx.InputError, match=r"x.json cannot be written: .*; give another folder"):
        result.save(tmp_path / "file" / "x.json")


def test_a_trace_knows_its_entropy():
    trace = Trace(np.array([[0.5, 0.5], [1.0, 0.0]]), {"value": np.array([2.0, 1.0])})
    np.testing.assert_allclose(trace.entropy, [np.log(2), 0.0])
    assert (len(trace), trace["value"][1]) == (2, 1.0)


def test_a_cost_names_only_what_was_spent():
    assert str(Cost(steps=3, gradients=4, tokens=12_000, seconds=0.5)) == "3 steps, 4 gradients, 1.2e+04 tokens, 0.50 s"


def test_a_comparison_is_a_table_with_refusals_below(result):
    table = Comparison(str(PROBLEM), (Row("Conic()", 0, result), Row("Implicit()", 0, refusal="it takes bilevel problems")))
    lines = str(table).splitlines()
    assert lines[0].split() == ["solver", "seed", "status", "value", "gap", "inner", "gradients", "Hv", "seconds"]
    assert lines[1].split()[:4] == ["Conic()", "0", "OPTIMAL", "0.143841"]
    assert lines[2].split() == ["Implicit()", "0", "refused", *("-" * 6)]
    assert lines[3] == "it takes bilevel problems"
    assert table.results == (result,)
    assert table.error(result) is None


def test_a_comparison_with_a_reference_has_errors():
    table = mx.compare(PROBLEM, None, [Conic(), Implicit()], reference={"web": 0.5, "code": 0.5})
    lines = [line.split() for line in str(table).splitlines()]
    assert lines[0] == ["solver", "seed", "status", "value", "error", "gap", "inner", "gradients", "Hv", "seconds"]
    assert table.error(table.results[0]) == pytest.approx(0, abs=1e-6)
    assert lines[2] == ["Implicit()", "0", "refused", *("-" * 7)]
    with pytest.raises(mx.InputError, match="weights are missing for"):
        mx.compare(PROBLEM, None, [Conic()], reference={"web": 1.0})
    both = mx.minimize(mx.sum_squares(mx.Mixture(["a", "b"])) + mx.variable("z") ** 2, over=(mx.Mixture(["a", "b"]), mx.variable("z")))
    with pytest.raises(mx.InputError, match="reference weights are of one mixture, and the problem is over w, z"):
        mx.compare(both, None, [Conic()], reference=[0.5, 0.5])


def test_the_spread_of_a_solver_is_over_its_seeds(result):
    table = mx.compare(PROBLEM, None, [Conic(), Projected()], seeds=(0, 1))
    assert [(r.solver, r.seed) for r in table.rows] == [("Conic()", 0), ("Conic()", 1), ("Projected()", 0), ("Projected()", 1)]
    np.testing.assert_allclose(table.spread("Conic()"), 0, atol=1e-12)


def test_a_result_is_exported_with_the_sizes_of_its_domains(result, tmp_path):
    done = result.export("megatron", tmp_path / "mix.txt", paths={"web": "/d/web", "code": "/d/code"}, budget=4.0, digits=6)
    assert (tmp_path / "mix.txt").read_text() == "0.5 /d/web\n0.5 /d/code\n"
    assert done.epochs == pytest.approx({"web": 2 / 3, "code": 2.0})
    told = result.export("json", tmp_path / "mix.json", tokens={"code": 8.0}, budget=4.0)
    assert told.epochs == pytest.approx({"web": 2 / 3, "code": 0.25})
    with pytest.raises(mx.InputError, match=r"megatron needs to know where \(web, code\) lie"):
        result.export("megatron", tmp_path / "other.txt")
