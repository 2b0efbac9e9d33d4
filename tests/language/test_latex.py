"""LaTeX of every operation: as a reader would write it, balanced, and convertible to MathML whatever the expression."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latex2mathml.converter import convert

import mixopt as mx
from mixopt.language.latex import LATEX, latex, upright
from mixopt.language.ops import OPS

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8, 1, 1])
W, THETA = mx.Mixture(DOMAINS), mx.model()
V = mx.losses(THETA, DOMAINS, name="val")
R = mx.parameter("lambda_2")
BIG = np.arange(15.0).reshape(5, 3)

CASES = {
    "sum": (mx.mass(W, ["web", "books"]), r"\mathbf{1}^{\top} w_{\{\text{web}, \text{books}\}}"),
    "entry": (W["code"] ** 2, r"w_{\text{code}}^{2}"),
    "difference": (W - (V - W), r"w - (\ell_{\text{val}}(\theta) - w)"),
    "minus": (W + (-V), r"w - \ell_{\text{val}}(\theta)"),
    "negative number": (W * -2.5, r"w\cdot (-2.5)"),
    "product of numbers": (R * 2, r"\lambda_{2} \cdot 2"),
    "square of a sum": ((W + V) ** 2, r"(w + \ell_{\text{val}}(\theta))^{2}"),
    "square of a square": ((W**2) ** 2, r"(w^{2})^{2}"),
    "entries": (W * V, r"w \odot \ell_{\text{val}}(\theta)"),
    "quotient": ((W + V) / R, r"\frac{w + \ell_{\text{val}}(\theta)}{\lambda_{2}}"),
    "inner product": ((W + V) @ V, r"(w + \ell_{\text{val}}(\theta))^{\top} \ell_{\text{val}}(\theta)"),
    "law": (mx.constant(np.arange(5.0)) + mx.exp(mx.constant(BIG) @ W), r"c + \exp(A w)"),
    "small vector": (mx.constant([0.5, 1e-7, -2.0]) @ W, r"(0.5, 10^{-7}, -2)^{\top} w"),
    "natural": (mx.kl(W, DOMAINS.natural), r"\operatorname{KL}(w \,\Vert\, w_{\text{natural}})"),
    "shares": (mx.kl(mx.Mixture(list("abcde")), np.arange(1, 6) / 15), r"\operatorname{KL}(w \,\Vert\, p)"),
    "uniform": (mx.norm(W - np.full(3, 1 / 3), 1), r"\lVert w - w_{\text{uniform}} \rVert_{1}"),
    "tall": (W @ (V / R), r"w^{\top} \frac{\ell_{\text{val}}(\theta)}{\lambda_{2}}"),
    "tall brackets": (mx.exp(V / R), r"\exp\left(\frac{\ell_{\text{val}}(\theta)}{\lambda_{2}}\right)"),
    "infinity": (mx.norm(W, np.inf) ** 2, r"\lVert w \rVert_{\infty}^{2}"),
    "power": ((W + 1) ** -0.5, r"(w + 1)^{-0.5}"),
    "power of a product": (mx.power(2 * W, 1.5), r"(2\,w)^{1.5}"),
    "root": (mx.sqrt(W / R), r"\sqrt{\frac{w}{\lambda_{2}}}"),
    "softplus": (mx.softplus(W), r"\operatorname{softplus}(w)"),
    "logsumexp": (-mx.logsumexp(V), r"-\log \mathbf{1}^{\top} \exp(\ell_{\text{val}}(\theta))"),
    "temperature": (mx.logsumexp(V, 0.5), r"0.5 \log \mathbf{1}^{\top} \exp\left(\frac{\ell_{\text{val}}(\theta)}{0.5}\right)"),
    "huber": (mx.huber(V, 1e-3), r"\operatorname{huber}_{0.001}(\ell_{\text{val}}(\theta))"),
    "tail with weights": (
        mx.tail(V, 0.25, DOMAINS.natural),
        r"\operatorname{CVaR}_{0.25}^{(0.8, 0.1, 0.1)}(\ell_{\text{val}}(\theta))",
    ),
    "tail": (mx.tail(V, 0.25), r"\operatorname{CVaR}_{0.25}(\ell_{\text{val}}(\theta))"),
    "relative entropy": (mx.rel_entropy(W, DOMAINS.natural), r"\operatorname{rel\,entr}(w, w_{\text{natural}})"),
    "stack": (mx.stack([R, W, 1]), r"(\lambda_{2}, w, 1)"),
    "other norm": (mx.norm(W, 1.5), r"\lVert w \rVert_{1.5}"),
    "form": (mx.quad_form(W, np.eye(3)), r"w^{\top} A w"),
    "taken letter": (mx.constant(np.arange(5.0)) + mx.parameter("c", 5), r"b + c"),
    "relation": ((W["web"] <= 0.5).named("web cap"), r"w_{\text{web}} \le 0.5\quad \text{(web cap)}"),
    "equality": (mx.equal(W["web"], W["code"]), r"w_{\text{web}} = w_{\text{code}}"),
}


@pytest.mark.parametrize(("subject", "expected"), CASES.values(), ids=CASES)
def test_an_expression_is_written_as_a_reader_would(subject, expected):
    assert latex(subject).replace(" ", "") == expected.replace(" ", "")


def test_every_operation_has_its_row():
    assert list(LATEX) == list(OPS)


def test_a_nested_problem_names_its_levels_its_constraints_and_its_constants():
    star = mx.argmin(W @ mx.losses(THETA, DOMAINS), over=THETA)
    law = mx.constant(np.arange(5.0)) + mx.exp(mx.constant(BIG) @ W)
    problem = mx.minimize(
        mx.mean(mx.losses(star, DOMAINS, name="val")) + mx.max(law), over=W, subject_to=[(W <= 0.6).named("cap"), W["web"] >= 0.1]
    )
    assert latex(problem).splitlines() == [
        r"\begin{split}",
        r"\min\limits_{w \in \Delta}\quad & \operatorname{mean}(\ell_{\text{val}}(\theta^{\star}(w))) + \max(c + \exp(A w)) \\",
        r"\text{where}\quad & \theta^{\star}(w) = \underset{\theta}{\text{arg min}}\ w^{\top} \ell_{\text{train}}(\theta) \\",
        r"\text{subject to}\quad & w \le 0.6\quad \text{(cap)} \\",
        r"\quad & w_{\text{web}} \ge 0.1 \\",
        r"\text{with}\quad & c \in \mathbb{R}^{5},\ A \in \mathbb{R}^{5 \times 3}",
        r"\end{split}",
    ]


def test_a_game_is_one_line_of_heads():
    game = mx.minimize(mx.maximize(W @ V, over=W, subject_to=[W <= 0.5]), over=THETA)
    lines = latex(game).splitlines()
    assert lines[1].startswith(r"\min\limits_{\theta}\ \max\limits_{w \in \Delta}\quad & w^{\top}")
    assert lines[2] == r"\text{subject to}\quad & w \le 0.5"


@pytest.mark.parametrize("method", ["doremi", "doge"])
def test_the_ready_made_problems_convert(method):
    read(latex(getattr(mx.problems, method)(DOMAINS).problem))


def read(text: str) -> ElementTree.Element:
    """The MathML of a formula; what latex2mathml leaves unescaped is escaped first. Unknown commands are an error."""
    unescaped = text.replace("{<}", "{lt}").replace("{>}", "{gt}").replace(r"\&", "and")
    tree = ElementTree.fromstring(convert(unescaped))
    wrong = [e.text for e in tree.iter() if e.text and e.text.startswith("\\") and len(e.text) > 1]
    assert wrong == []
    return tree


def balanced(text: str) -> bool:
    """Whether braces close in order and each left fence has its right one."""
    bare = re.sub(r"\\[{}\\]", "", text)
    depth = 0
    for sign in re.findall("[{}]", bare):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            return False
    fences = re.findall(r"\\(left|right)(?![a-z])", bare)
    return depth == 0 and fences.count("left") == fences.count("right")


def payoff(value, gradient):
    return mx.surrogate(value, gradient=gradient)


@st.composite
def vectors(draw, depth: int):
    """A random vector expression [3] of at most this depth."""
    if depth == 0:
        return draw(st.sampled_from([W, V, mx.constant([0.1, -2e-9, 3e12]), mx.parameter("_odd name_", 3), BIG[:3] @ W]))
    x, s = vectors(depth - 1), scalars(depth - 1)
    kind = draw(st.sampled_from(["+", "-", "neg", "*", "s*", "/", "f", "two", "clip", "take"]))
    if kind in "+-*":
        a, b = draw(x), draw(x)
        return a + b if kind == "+" else a - b if kind == "-" else a * b
    if kind == "two":
        return draw(st.sampled_from([mx.maximum, mx.minimum, payoff]))(draw(x), draw(x))
    if kind == "s*":
        return draw(s) * draw(x)
    if kind == "/":
        return draw(x) / (1 + draw(s))
    if kind == "f":
        powers = [mx.sqrt, mx.softplus, mx.huber, lambda y: mx.exp(y) ** -1.5, lambda y: y**3]
        return draw(st.sampled_from([mx.exp, mx.log, mx.abs, mx.pos, mx.square, *powers]))(draw(x))
    if kind == "take":
        return draw(x)[[0, 1, 2]]
    return -draw(x) if kind == "neg" else mx.clip(draw(x), -1e-5, 0.5)


@st.composite
def scalars(draw, depth: int):
    """A random scalar expression of at most this depth."""
    if depth == 0:
        star = mx.argmin(W @ V + mx.sum_squares(THETA), over=THETA)
        return draw(st.sampled_from([R, mx.constant(-0.5), mx.loss(THETA, "a&b<c>"), mx.loss(star, "val"), W["web"]]))
    x = draw(vectors(depth - 1))
    kind = draw(st.sampled_from(["fold", "@", "kl", "form", "norm", "take"]))
    if kind == "fold":
        more = [mx.logsumexp, lambda y: mx.logsumexp(y, 0.1), lambda y: mx.tail(y, 0.3), lambda y: mx.sum(mx.stack([y, 1, y]))]
        return draw(st.sampled_from([mx.sum, mx.mean, mx.max, mx.min, mx.entropy, mx.sum_squares, *more]))(x)
    if kind in ("@", "kl"):
        y = draw(vectors(depth - 1))
        return x @ y if kind == "@" else mx.kl(W, mx.exp(y))
    if kind == "norm":
        return mx.norm(x, draw(st.sampled_from([1, 2, np.inf])))
    return x[1] if kind == "take" else mx.quad_form(x, np.diag([1.0, 2.0, 3.0]))


@given(scalars(3))
@settings(max_examples=120, deadline=None)
def test_any_expression_is_balanced_deterministic_and_convertible(expr):
    text = latex(expr)
    assert balanced(text)
    assert text == latex(expr)
    read(text)


@given(st.text(min_size=1, max_size=12).filter(str.strip))
@settings(max_examples=150, deadline=None)
def test_any_name_is_inert(name):
    text = latex(mx.Mixture([name, "a name longer than that"])[name])
    assert balanced(text)
    assert text.isprintable()
    tree = read(text)
    assert {e.tag.rpartition("}")[2] for e in tree.iter()} <= {"math", "mrow", "msub", "mi", "mo", "mtext", "mn"}


def test_a_name_keeps_its_characters():
    assert upright("a_b {50%} & <c>") == r"\text{a}\_\text{b }\{\text{50}\%\}\text{ }\&\text{ }{<}\text{c}{>}"


def test_expressions_relations_and_problems_write_themselves():
    cap = (W["web"] <= 0.5).named("web cap")
    problem = mx.minimize(mx.sum_squares(W), over=W, subject_to=[cap])
    assert mx.sum_squares(W).latex() == r"\lVert w \rVert_{2}^{2}"
    assert cap.latex() == r"w_{\text{web}} \le 0.5\quad \text{(web cap)}"
    assert problem.latex() == latex(problem)
