"""Formulas as text: what they mean, that printed expressions are read back, and how errors mark the place."""

from __future__ import annotations

import contextlib
import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.language.formula import DEEPEST, FUNCTIONS, LONGEST
from mixopt.language.ops import ATOMS
from mixopt.runtime.program import Function

W = mx.Mixture(["web", "code", "books"])
ODD = mx.Mixture(["web/news", "3", "a, b", "it's"], name="v")
A = np.arange(9.0).reshape(3, 3)
NAMES = {"w": W, "v": ODD, "A": A, "b": mx.parameter("b"), "c": [1.0, 2.0, 3.0], "p": mx.parameter("p", 3, nonneg=True)}

MEANT = {
    "c + b*exp(A @ w)": mx.constant([1.0, 2.0, 3.0]) + NAMES["b"] * mx.exp(mx.constant(A) @ W),
    "-w[web]**2": -mx.square(W["web"]),
    "-w*c": -(W * [1.0, 2.0, 3.0]),
    "w*-b*c": W * -NAMES["b"] * [1.0, 2.0, 3.0],
    "2^3^2 * b": 512 * NAMES["b"],
    "2**-1 * b": 0.5 * NAMES["b"],
    "-2^2 * b": -(4 * NAMES["b"]),
    "1 - 2 - 3 + b": -4 + NAMES["b"],
    "8/4/2 * b": 1 * NAMES["b"],
    "1.5e1 + .5 + 2. + b": 17.5 + NAMES["b"],
    "w ^ 1.5": W**1.5,
    "w[code]": W["code"],
    "w[1]": W["code"],
    "w[-1]": W["books"],
    "w[ books , web ]": W[["books", "web"]],
    "(w - 0.5)[code]": (W - 0.5)["code"],
    "v[web/news]": ODD["web/news"],
    "v[3]": ODD["3"],
    "v['a, b']": ODD["a, b"],
    """v["it's"]""": ODD["it's"],
    "[w[web], 2, b]": mx.stack([W["web"], 2.0, NAMES["b"]]),
    "stack(w, b)": mx.stack([W, NAMES["b"]]),
    "[[1, 2, 3], [4, 5, 6]] @ w": mx.constant([[1, 2, 3], [4, 5, 6]]) @ W,
    "norm(w, inf) + norm(w, 1) + norm(w)": mx.norm(W, math.inf) + mx.norm(W, 1) + mx.norm(W),
    "clip(w, -1, .5)": mx.clip(W, -1, 0.5),
    "kl(w, [0.2, 0.3, 0.5])": mx.kl(W, [0.2, 0.3, 0.5]),
    "quad_form(w, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])": mx.quad_form(W, np.eye(3)),
    "tail(A @ w, 0.5)": mx.tail(mx.constant(A) @ W, 0.5),
    "tail(w, 0.5, [1, 2, 5])": mx.tail(W, 0.5, [1, 2, 5]),
    "\n  w\t+ 1 ": W + 1,
}


@pytest.mark.parametrize(("text", "meant"), MEANT.items(), ids=MEANT)
def test_a_formula_means_what_the_same_python_means(text, meant):
    assert mx.formula(text, NAMES) == meant


def test_values_come_by_name_or_in_a_dict():
    assert mx.formula("a*w", {"a": 2.0}, w=W) == 2 * W
    assert mx.formula("max(max)", max=W) == mx.max(W), "a name may be that of a function"
    staged = mx.Mixture(["web", "code"], name="s", stages=2)
    assert mx.formula("s[1][code]", s=staged) == staged[1]["code"]


def test_every_atom_that_users_call_by_name_can_be_called():
    assert set(FUNCTIONS) == {op for op in ATOMS if not ATOMS[op].infix} - {
        "negate",
        "take",
        "domain_mean",
        "surrogate",
        "cardinality",
        "least_used",
        "opaque",
    }


WRONG = {
    "": "the formula is empty; write one such as c + b*exp(A @ w)",
    "w +": "the formula ends where a number, a name or a bracket is expected\n  w +\n     ^",
    "(w": "this bracket is not closed; ')' is missing\n  (w\n  ^",
    "w)": "')' stands where a number, a name or a bracket is expected\n  w)\n   ^",
    "c + bb*w": "no name 'bb' in (A, b, c, p, v, w); did you mean 'b'?\n  c + bb*w\n      ^^",
    "expp(w)": "no function 'expp'; did you mean 'exp'?\n  expp(w)\n  ^^^^",
    "w(2)": "'w' is no function; write * between factors\n  w(2)\n  ^",
    "exp": "'exp' is a function; its arguments follow in brackets\n  exp\n  ^^^",
    "2*exp(w, w)": "exp(x) is given 2 arguments\n  2*exp(w, w)\n    ^^^",
    "norm()": "norm(x, p=2) is given 0 arguments\n  norm()\n  ^^^^",
    "w 2": "an operator is missing before '2'; factors are joined by *\n  w 2\n    ^",
    "w[codee]": "no domain 'codee' in (web, code, books); did you mean 'code'?\n  w[codee]\n   ^^^^^^^",
    "w[5]": "position 5 is outside 'w', which has 3 entries\n  w[5]\n   ^^^",
    "w[]": "this bracket of entries is not closed, or has an empty place; write w[code] or w[code, books]\n  w[]\n   ^",
    "w[web": "this bracket of entries is not closed, or has an empty place; write w[code] or w[code, books]\n  w[web\n   ^",
    "w @ [1, 2]": "shapes do not fit in 'w @ [1, 2]': 'w' [3] over (web, code, books) and '[1, 2]' [2]\n  w @ [1, 2]\n    ^",
    "w ^ w": "the exponent 'w' is no number; for a base x > 0 write exp(w * log(x))\n  w ^ w\n    ^",
    "1/0": "1 / 0 is no finite number\n  1/0\n   ^",
    "(-8)^0.5": "-8 ^ 0.5 is no finite number\n  (-8)^0.5\n      ^",
    "9^9^9^9": "9 ^ 3.8742e+08 is no finite number\n  9^9^9^9\n     ^",
    "1e999": "1e999 is larger than any number here\n  1e999\n  ^^^^^",
    "w <= 1": "a formula is one side of a relation; write mx.formula(left) <= mx.formula(right)\n  w <= 1\n    ^^",
    "<3x3 numbers> @ w": "a text such as '<3x3 numbers>' leaves its numbers out; bind them to a name\n  <3x3 numbers> @ w\n  ^",
    "'w'": "a quoted text is only a name of an entry, as in w['a name']\n  'w'\n  ^^^",
    "w.web": "'.' has no meaning in a formula\n  w.web\n   ^",
    "inf*w": "inf is only a setting, as in norm(w, inf)\n  inf*w\n  ^^^",
    "norm(w, -1)": "norm has p = -1.0; p is a number >= 1, or math.inf\n  norm(w, -1)\n  ^^^^",
    "clip(w, w, 1)": "'clip' wants a fixed number for one of these: must be real number, not Expr\n  clip(w, w, 1)\n  ^^^^",
    "w\n+ $": "'$' has no meaning in a formula\n  w + $\n      ^",
}


@pytest.mark.parametrize(("text", "words"), WRONG.items(), ids=WRONG)
def test_an_error_says_what_and_marks_where(text, words):
    with pytest.raises(mx.ProblemError) as error:
        mx.formula(text, NAMES)
    assert str(error.value) == words


def test_an_error_in_a_long_formula_shows_the_part_around_it():
    with pytest.raises(mx.ProblemError) as error:
        mx.formula(" + ".join(["w"] * 100) + " + wx + " + " + ".join(["w"] * 100), w=W)
    _, shown, marked = str(error.value).splitlines()
    assert shown.startswith("  ...")
    assert shown.endswith("...")
    assert len(shown) < 120
    assert shown[marked.index("^") :].startswith("wx")
    assert marked.count("^") == 2


@pytest.mark.parametrize("text", ["(" * 5000, "-" * 5000 + "w", "2^" * 4000 + "2", "[" * 5000, "exp(" * 2000])
def test_depth_is_bounded(text):
    with pytest.raises(mx.ProblemError, match=f"more than {DEEPEST} brackets, signs or exponents are inside one another"):
        mx.formula(text, w=W)


def test_length_is_bounded_and_the_longest_formula_takes_no_time():
    with pytest.raises(mx.ProblemError, match=f"has {LONGEST + 1} characters, and at most {LONGEST} are read"):
        mx.formula("w" * (LONGEST + 1), w=W)
    began = time.process_time()
    assert mx.formula("w" + "+w" * (LONGEST // 2 - 1), w=W).shape == (3,)
    with contextlib.suppress(mx.ProblemError):
        mx.formula("w*" * (LONGEST // 2 - 5) + "w@2", w=W)
    assert time.process_time() - began < 20


def test_nothing_in_a_formula_is_run(tmp_path):
    told = tmp_path / "run"
    for text in (f"__import__('os').system('touch {told}')", f"open('{told}', 'w')", f"exec('{told}')", "w.__class__", "(lambda: w)()"):
        with pytest.raises(mx.ProblemError):
            mx.formula(text, w=W)
    assert not told.exists()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: mx.formula(3), "a formula is a text, not 3"),
        (lambda: mx.formula("w", [W]), "the values of a formula are a dict from names, or name=value, not list"),
        (lambda: mx.formula("w", {"my w": W}), "'my w' cannot be a name in a formula; a name is of letters, digits and _"),
    ],
)
def test_values_that_cannot_be_named_are_refused(act, words):
    with pytest.raises(mx.InputError) as error:
        act()
    assert words in str(error.value)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_printed_expression_is_read_back_with_the_same_value(vectors, data):
    expr = data.draw(vectors)
    assume("numbers>" not in str(expr))
    again = mx.formula(str(expr), {n.data[0]: n for n in expr.walk() if n.op in ("mixture", "parameter")})
    given = {"p": np.array([0.5, 1.5, 1.0])}
    w = np.array([0.5, 0.3, 0.2])
    mixture = next((n for n in expr.walk() if n.op == "mixture"), W)
    with np.errstate(all="ignore"):
        expected, found = Function(expr, mixture, given).value(w), Function(again, mixture, given).value(w)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


WORDS = "w A b c q exp norm kl clip stack inf web code tail power huber 0 1 2.5 1e3 9999999999999"
SIGNS = ". + - * / @ ^ ** ( ) [ ] , ' \" < = \\ é"
PIECES = st.sampled_from([*WORDS.split(), *SIGNS.split(), " ", "\n", "\x00"])


@settings(deadline=None, max_examples=400)
@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=30))
def test_any_text_is_a_formula_or_our_own_error(text):
    with contextlib.suppress(mx.MixoptError):
        assert isinstance(mx.formula(text, NAMES), mx.Expr)
