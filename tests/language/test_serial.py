"""Problems as JSON: what is saved is what is loaded, and what was changed or made up is refused in words."""

from __future__ import annotations

import contextlib
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.language.expression import Expr
from mixopt.language.ops import OPS
from mixopt.language.remake import Parts, remade
from mixopt.language.serial import FORMAT
from mixopt.report.result import fingerprint

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W, THETA = mx.Mixture(DOMAINS), mx.model()
TRAINED = mx.argmin(W @ mx.losses(THETA, DOMAINS) + 0.1 * mx.sum_squares(THETA), over=THETA)
EXCESS = mx.losses(THETA, DOMAINS) - mx.parameter("reference", 3)
CAP = (W["web"] <= 0.5).named("web cap")
PROBLEMS = {
    "program": mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[CAP, mx.equal(W["code"], 0.2), W >= 0.01]),
    "maximised": mx.maximize(mx.entropy(W) + W["web"] ** 1.5, over=W),
    "saddle": mx.minimize(mx.maximize(W @ mx.surrogate(mx.pos(EXCESS), gradient=EXCESS), over=W, subject_to=[CAP]), over=THETA),
    "bilevel": mx.minimize(mx.mean(mx.losses(TRAINED, ["a", "b"], name="val")), over=W, subject_to=[CAP]),
    "outcome": mx.minimize(mx.loss(mx.trained(W @ mx.losses(THETA, DOMAINS), over=THETA, steps=7), "val"), over=W),
}


def saved(nodes, problem=None, version=FORMAT):
    return json.dumps({"format": version, "nodes": nodes, "problem": problem or {"sense": "minimize", "over": [0], "objective": 1}})


def array(numbers, shape):
    return {"op": "constant", "data": {"array": numbers, "shape": shape, "dtype": "float64"}}


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_a_saved_problem_has_the_same_text_and_fingerprint(problem, tmp_path):
    mx.save_problem(problem, tmp_path / "problem.json")
    again = mx.load_problem(tmp_path / "problem.json")
    assert again == problem
    assert str(again) == str(problem)
    assert fingerprint(again) == fingerprint(problem)
    assert mx.to_json(again) == mx.to_json(problem)


def test_a_saved_problem_has_the_same_answer_and_duals():
    problem = PROBLEMS["program"]
    first, second = mx.solve(problem), mx.solve(mx.from_json(mx.to_json(problem)))
    assert second.weights == first.weights
    assert second.duals == first.duals


@pytest.mark.parametrize("op", [op for op in OPS if op != "opaque"])
def test_every_operation_is_saved(op, samples):
    node: Expr = samples[op]
    assert node.op == op
    assert remade(op, Parts(node.args, node.data, node.index, node.shape or ())) == node
    if node.shape == () and any(n == W for n in node.walk()):
        problem = mx.minimize(node, over=W)
    elif node.shape and node.shape[0] > 0 and len(node.shape) == 1 and node.op not in ("stages", "variable"):
        problem = mx.minimize(mx.sum(node) + mx.sum(W), over=W)
    else:
        return  # models, stages and the like stand inside others
    assert mx.from_json(mx.to_json(problem)) == problem


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_random_programs_are_saved(vectors, data):
    problem = mx.minimize(mx.sum(data.draw(vectors)), over=W, subject_to=[data.draw(vectors) <= 1])
    assert mx.from_json(mx.to_json(problem)) == problem


def test_numbers_come_back_to_the_last_bit():
    numbers = np.random.default_rng(0).normal(size=3) * [1e-300, 1.0, 1e300]
    problem = mx.minimize(W @ mx.constant(numbers), over=W)
    assert mx.from_json(mx.to_json(problem)).objective.args[1].data.value.tobytes() == numbers.tobytes()


def test_a_shared_node_is_written_once():
    shared = mx.exp(W)
    problem = mx.minimize(mx.sum(shared) + mx.max(shared), over=W, subject_to=[shared <= 2])
    operations = [node["op"] for node in json.loads(mx.to_json(problem))["nodes"]]
    assert operations.count("exp") == operations.count("mixture") == 1


MIXTURE = {"op": "mixture", "data": ["w", {"domains": ["a", "b"], "tokens": None}]}
BROKEN = {
    "no JSON": ("{", "this is no JSON of a saved problem"),
    "not a number of JSON": ('{"format": NaN}', "NaN is no number of JSON"),
    "another file": ("{}", "this is no saved problem"),
    "another version": (
        saved([], version="mixopt problem 2"),
        "saved as 'mixopt problem 2', and this version of mixopt reads 'mixopt problem 1'",
    ),
    "deep brackets": ("[" * 100_000, "this is no JSON of a saved problem"),
    "no nodes": (json.dumps({"format": FORMAT}), "changed or cut"),
    "an unknown operation": (
        saved([{"op": "summ", "args": []}]),
        "node 0 of the saved problem cannot be made: no operation 'summ'; did you mean 'sum'?",
    ),
    "a node that is none": (saved([7]), "it is 7, and not an operation"),
    "an unknown key": (saved([{"op": "model", "data": "m", "run": "rm"}]), "and not an operation with args, data and index"),
    "a node that comes later": (saved([{"op": "exp", "args": [0]}]), "there is no node 0 before it"),
    "a truth value for a place": (saved([MIXTURE, {"op": "exp", "args": [True]}]), "there is no node True before it"),
    "shapes that do not fit": (
        saved([MIXTURE, array([1, 2, 3], [3]), {"op": "add", "args": [0, 1]}]),
        "node 2 of the saved problem cannot be made: shapes do not fit",
    ),
    "a shape of another size": (saved([array([1, 2, 3], [4])]), "an array has 3 numbers and the shape [4]"),
    "another dtype": (saved([{"op": "constant", "data": {"array": [1], "shape": [1], "dtype": "object"}}]), "an array is of 'object'"),
    "an infinite number": (saved([array([1], [1])]).replace('[1], "shape"', '[1e999], "shape"'), "a number that is too large"),
    "a huge number": (saved([array([10**400], [1])]), "a number that is too large"),
    "texts for numbers": (saved([array(["1"], [1])]), "an array is no list of numbers"),
    "too many arguments": (saved([MIXTURE, {"op": "exp", "args": [0, 0]}]), "its parts are not what 'exp' takes"),
    "settings of another kind": (saved([MIXTURE, {"op": "clip", "args": [0], "data": ["a", "b"]}]), "its parts are not what 'clip' takes"),
    "a bound that is refused": (saved([MIXTURE, {"op": "clip", "args": [0], "data": [1, 0]}]), "clip needs finite bounds"),
    "one domain twice": (saved([{"op": "mixture", "data": ["w", {"domains": ["a", "a"], "tokens": None}]}]), "domain names must differ"),
    "a constant without its numbers": (saved([{"op": "constant"}]), "a constant is an array and nothing else"),
    "names that do not agree": (
        saved([MIXTURE, {"op": "take", "args": [0], "data": 0, "index": ["z"]}]),
        "of another kind, shape or names",
    ),
    "a double negative": (
        saved([MIXTURE, {"op": "negate", "args": [0]}, {"op": "negate", "args": [1]}]),
        "its parts make 'w', of another kind",
    ),
    "a vector objective": (saved([MIXTURE], {"sense": "minimize", "over": [0], "objective": 0}), "fold it: mean"),
    "another sense": (saved([MIXTURE], {"sense": "delete", "over": [0], "objective": 0}), "a problem says minimize or maximize"),
    "no symbol": (saved([MIXTURE], {"sense": "minimize", "over": 0, "objective": 0}), "its symbols and its constraints are no lists"),
    "a constraint that is none": (
        saved([MIXTURE, {"op": "sum", "args": [0]}], {"sense": "minimize", "over": [0], "objective": 1, "subject_to": [3]}),
        "a constraint is 3",
    ),
    "a name that is no text": (
        saved(
            [MIXTURE, {"op": "sum", "args": [0]}],
            {"sense": "minimize", "over": [0], "objective": 1, "subject_to": [{"left": 1, "sense": "<=", "right": 1, "name": 5}]},
        ),
        "a relation's name is a text",
    ),
    "a long name": (saved([{"op": "model", "data": "m" * 5000}]), "has 5000 characters; a saved name has at most 1000"),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_saved_problem_is_refused_in_words(text, words):
    with pytest.raises(mx.InputError) as error:
        mx.from_json(text)
    assert words in str(error.value)


def test_a_small_file_cannot_ask_for_a_text_that_is_exponentially_long():
    nodes = [MIXTURE, *({"op": "add", "args": [i, i]} for i in range(200))]
    began = time.process_time()
    with pytest.raises(mx.InputError, match="build it from fewer shared parts"):
        mx.from_json(saved(nodes))
    assert time.process_time() - began < 20
    bomb = W
    for _ in range(200):
        bomb = bomb + bomb
    with pytest.raises(mx.ProblemError, match="cannot be saved: its nodes"):
        mx.to_json(mx.minimize(mx.sum(bomb), over=W))


def test_deep_problems_need_no_deep_recursion():
    """A sum of 1,000 terms, and a file that says it twice."""
    problem = mx.minimize(sum((i + 1.0) * W["web"] ** 2 for i in range(1000)), over=W)
    text = mx.to_json(problem)
    assert mx.from_json(text) == problem
    chain = [MIXTURE, {"op": "sum", "args": [0]}]
    for _ in range(2):
        chain += [{"op": "exp", "args": [1]}, *({"op": "exp", "args": [len(chain) + i]} for i in range(1000))]
    twice = mx.from_json(saved([*chain, {"op": "add", "args": [1002, 2003]}], {"sense": "minimize", "over": [0], "objective": 2004}))
    assert len(set(twice.objective.walk())) == 1004


def test_problems_inside_problems_end_somewhere():
    outline = {"sense": "minimize", "over": [0], "objective": 1}
    for _ in range(200):
        outline = {"sense": "minimize", "over": [0], "objective": outline}
    with pytest.raises(mx.InputError, match="more than 8 problems inside one another"):
        mx.from_json(saved([MIXTURE, {"op": "sum", "args": [0]}], outline))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(mx.InputError, match=r"none.json cannot be read as a saved problem: "):
        mx.load_problem(tmp_path / "none.json")
    (tmp_path / "other.json").write_bytes(b"\xff\xfe")
    with pytest.raises(mx.InputError, match=r"other.json cannot be read"):
        mx.load_problem(tmp_path / "other.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(mx.InputError, match=r"other.json: this is no saved problem"):
        mx.load_problem(tmp_path / "other.json")


def test_only_problems_are_saved():
    with pytest.raises(mx.ProblemError, match=r"is no problem; write mx.minimize"):
        mx.to_json(mx.sum(W))
    with pytest.raises(mx.ProblemError, match="cannot be saved: no function of the language makes this 'negate'"):
        mx.to_json(mx.minimize(mx.sum(Expr("negate", (W,), (3,), ("x", "y", "z"))), over=W))


KEYS = st.sampled_from(["op", "args", "data", "index", "shape", "node", "domains", "tokens", "array", "number", "dtype"])
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.floats()
    | st.sampled_from([*OPS, "w", "node", "inf", "minimize"])
    | st.text(max_size=3)
)
JUNK = st.deferred(lambda: PLAIN | st.lists(JUNK, max_size=3) | st.dictionaries(KEYS, JUNK, max_size=4))
NODES = st.fixed_dictionaries(
    {"op": st.sampled_from([*OPS])},
    optional={"args": st.lists(st.integers(0, 3), max_size=3), "data": JUNK, "index": JUNK, "shape": JUNK},
)


@settings(deadline=None, max_examples=200)
@given(st.lists(NODES | JUNK, max_size=6), JUNK)
def test_made_up_nodes_raise_nothing_but_our_own_errors(nodes, problem):
    content = {"format": FORMAT, "nodes": [MIXTURE, *nodes], "problem": problem}
    with contextlib.suppress(mx.MixoptError):
        mx.from_json(json.dumps(content))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([*PROBLEMS]), st.data())
def test_changed_files_raise_nothing_but_our_own_errors(name, data):
    text = mx.to_json(PROBLEMS[name])
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    with contextlib.suppress(mx.MixoptError):
        mx.from_json(text[:start] + data.draw(st.text(max_size=5)) + text[end:])


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=50))
def test_any_text_raises_nothing_but_our_own_errors(text):
    with pytest.raises(mx.MixoptError):
        mx.from_json(text)
