"""Expressions, relations and problems as LaTeX: one row for each operation, constants by letters, names in upright text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, chain
from string import ascii_letters, digits
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast, final

import numpy as np

from .ops import TRAINED

if TYPE_CHECKING:
    from .expression import Array, Expr, Relation
    from .problem import Problem

_SUM, _MINUS, _PRODUCT, _POWER, _INDEXED, _WHOLE = 1, 2, 3, 7, 8, 9  # how tightly a part binds
_VECTORS, _MATRICES, _SHARES = "cbdghuvxyz", "ABCDEFGHKM", "pqrs"
_SENSES = {"<=": r"\le", ">=": r"\ge", "==": "="}
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
)
_SPECIAL = {"\\": r"\backslash ", "~": r"{\sim}", "^": r"\wedge ", "<": "{<}", ">": "{>}"} | {c: f"\\{c}" for c in "_&%#${}"}
_MOST_SIGNS = 60


def latex(subject: Expr | Relation | Problem) -> str:
    """An expression, a relation or a whole problem as LaTeX for display mathematics, the same at every call.

    Constants that are too large to print get letters; those of a problem are explained in its last line. A problem uses the
    environment ``split``, which LaTeX (inside an equation), MathJax and KaTeX know.
    """
    letters = _letters(_nodes(subject))
    if _is_problem(subject):
        return _problem(subject, letters)
    return _relation(subject, letters) if _is_relation(subject) else _expression(cast("Expr", subject), letters).text


def upright(name: str) -> str:
    """A name as upright text in mathematics, its special characters escaped."""
    visible = "".join(c if c.isprintable() else " " for c in name)
    pieces = re.split(r"([\\~^<>_&%#${}])", " ".join(visible.split()))
    return "".join(_SPECIAL.get(p) or rf"\text{{{p}}}" for p in pieces if p) or r"\text{?}"


def letter(name: str) -> str:
    """A symbol's name as LaTeX: a letter as it is, a Greek one by its name, a trailing number as an index, anything else upright."""
    return _symbol(name).within(_WHOLE)


@final
@dataclass(frozen=True)
class _Part:
    """A piece of LaTeX and how tightly it binds."""

    text: str
    level: int = _WHOLE

    def within(self, level: int) -> str:
        """The piece inside another that needs this level; in brackets where it binds less, or begins with a minus."""
        loose = self.level < level or (level > _SUM and self.text.startswith("-"))
        return _bracketed(self.text) if loose else self.text


def _bracketed(text: str) -> str:
    """A text in round brackets, tall ones where it is tall."""
    return rf"\left({text}\right)" if r"\frac" in text else f"({text})"


_Letters: TypeAlias = "Mapping[Array, _Part]"
_Write: TypeAlias = "Callable[[Expr, list[_Part], _Letters], _Part]"


def _expression(expr: Expr, letters: _Letters) -> _Part:
    known: dict[Expr, _Part] = {}
    for node in expr.walk():
        known[node] = LATEX[node.op](node, [known[a] for a in node.args], letters)
    return known[expr]


def _relation(relation: Relation, letters: _Letters) -> str:
    left, right = (_expression(side, letters).text for side in (relation.left, relation.right))
    named = rf"\quad {upright(f'({relation.name})')}" if relation.name else ""
    return f"{left} {_SENSES[relation.sense]} {right}{named}"


def _problem(problem: Problem, letters: _Letters) -> str:
    """The heads of the nested problems in one line, then lower levels, constraints and the constants."""
    heads, limits, objective = _levels(problem)
    rows = [(r"\ ".join(heads), _expression(objective, letters).text)]
    lower = dict.fromkeys(n for e in (objective, *_sides(limits)) for n in e.walk() if n.op in TRAINED)
    for i, node in enumerate(lower):
        theta, inner, *steps = node.data
        below = _symbol(theta.data).text
        head = rf"\text{{{steps[0]} training steps of }}{below}\text{{ on }}" if steps else rf"\underset{{{below}}}{{\text{{arg min}}}}"
        text = rf"{_argmin(node).text} = {head}\ {_expression(inner, letters).text}"
        rows.append(("" if i else r"\text{where}", text))
    rows += [("" if i else r"\text{subject to}", _relation(r, letters)) for i, r in enumerate(limits)]
    sized = [_sized(array, part) for array, part in letters.items() if r"\text" not in part.text]
    if sized:
        rows.append((r"\text{with}", r",\ ".join(sized)))
    body = " \\\\\n".join(rf"{left}\quad & {right}" for left, right in rows)
    return f"\\begin{{split}}\n{body}\n\\end{{split}}"


def _levels(problem: Problem) -> tuple[list[str], list[Relation], Expr]:
    """The heads of nested problems from the outside in, all their constraints, and the innermost objective."""
    inner = problem.objective
    if not _is_problem(inner):
        return [_head(problem)], list(problem.subject_to), cast("Expr", inner)
    heads, limits, objective = _levels(inner)
    return [_head(problem), *heads], [*problem.subject_to, *limits], objective


def _head(problem: Problem) -> str:
    return rf"\{problem.sense[:3]}\limits_{{{', '.join(map(_decided, problem.over))}}}"


def _decided(symbol: Expr) -> str:
    """A symbol under the head of a problem, with the set that it is chosen from."""
    if symbol.op == "model":
        return _symbol(symbol.data).text
    name = _symbol(symbol.data[0]).text
    if symbol.op == "mixture":
        return rf"{name} \in \Delta"
    if symbol.op == "stages":
        return rf"{name} \in \Delta^{{{len(symbol)}}}"
    lower, upper = (_bound(bound) for bound in symbol.data[1:])
    return (
        f"{lower} \\le {name} \\le {upper}"
        if lower and upper
        else f"{name} \\ge {lower}"
        if lower
        else f"{name} \\le {upper}"
        if upper
        else name
    )


def _bound(values: tuple[float, ...]) -> str:
    """A bound of a variable: one number where it is the same for all entries, and nothing where there is none."""
    if not np.isfinite(values).any():
        return ""
    return _number(values[0]).text if len(set(values)) == 1 else r"\cdot"


def _sized(array: Array, part: _Part) -> str:
    shape = r" \times ".join(map(str, array.value.shape))
    return rf"{part.text} \in \mathbb{{R}}^{{{shape}}}"


def _sides(relations: Iterable[Relation]) -> Iterator[Expr]:
    return chain.from_iterable((r.left, r.right) for r in relations)


def _nodes(subject: Expr | Relation | Problem) -> tuple[Expr, ...]:
    """Every distinct node in the order of reading, those of lower levels included."""
    if _is_problem(subject):
        roots: tuple[Expr | Problem, ...] = (subject.objective, *_sides(subject.subject_to))
    elif _is_relation(subject):
        roots = (subject.left, subject.right)
    else:
        top = cast("Expr", subject)
        below = (n for node in top.walk() if node.op in TRAINED for n in node.data[1].walk())
        return tuple(dict.fromkeys((*top.walk(), *below)))
    return tuple(dict.fromkeys(n for root in roots for n in _nodes(root)))


def _is_problem(subject: Expr | Relation | Problem) -> TypeGuard[Problem]:
    return hasattr(subject, "objective")  # the classes themselves import this file


def _is_relation(subject: Expr | Relation | Problem) -> TypeGuard[Relation]:
    return hasattr(subject, "left")


def _letters(nodes: Iterable[Expr]) -> dict[Array, _Part]:
    """A letter for each constant array that is too large to print; the natural and uniform proportions by their names."""
    nodes = tuple(nodes)
    taken = {n.data if n.op == "model" else n.data[0] for n in nodes if n.op in ("model", "mixture", "parameter", "variable")}
    free = [iter([a for a in pool if a not in taken]) for pool in (_VECTORS, _MATRICES, _SHARES)]
    mixtures = [n for n in nodes if n.op == "mixture"]
    found: dict[Array, _Part] = {}
    more = 0
    for node in nodes:
        array = node.data if node.op in ("constant", "quad_form") else None
        if array is None or array in found:
            continue
        values = array.value
        proportions = next((p for m in mixtures if (p := _proportions(m, values))), None)
        if proportions:
            found[array] = proportions
        elif values.ndim == 2 or values.size > 4:
            shares = values.ndim == 1 and (values >= 0).all() and abs(values.sum() - 1) < 1e-6
            letter = next(free[2 if shares else values.ndim - 1], None)
            more += letter is None
            found[array] = _Part(letter) if letter else _Part(f"{'aA'[values.ndim - 1]}_{{{more}}}", _INDEXED)
    return found


def _proportions(mixture: Expr, values: np.ndarray) -> _Part | None:
    """The symbol for a vector that is the natural or the uniform proportions of a mixture's domains."""
    name, domains = mixture.data
    if values.shape != (len(domains),):
        return None
    known = {"uniform": np.full(len(domains), 1 / len(domains))} | ({"natural": domains.natural} if domains.tokens else {})
    for word, proportions in known.items():
        if np.allclose(values, proportions, rtol=1e-9, atol=0):
            return _Part(rf"{_symbol(name).within(_WHOLE)}_{{\text{{{word}}}}}", _INDEXED)
    return None


def _symbol(name: str) -> _Part:
    """A letter as it is, Greek by its name, a trailing number as an index, anything else upright."""
    staged = re.fullmatch(r"(.+)\[(\d+)\]", name)
    if staged:
        return _Part(f"{_symbol(staged[1]).within(_WHOLE)}^{{({staged[2]})}}", _POWER)
    stem = name.rstrip(digits).rstrip("_")
    if stem and stem != name and name[len(stem) :].lstrip("_").isdigit():
        return _Part(f"{_symbol(stem).within(_WHOLE)}_{{{name[len(stem) :].lstrip('_')}}}", _INDEXED)
    if name in _GREEK:
        return _Part(f"\\{name}")
    return _Part(name) if len(name) == 1 and name in ascii_letters else _Part(f"{{{upright(name)}}}")


def _number(value: float) -> _Part:
    mantissa, _, exponent = f"{value:.6g}".partition("e")
    level = _MINUS if value < 0 else _WHOLE
    if not exponent:
        return _Part(mantissa, level)
    power = f"10^{{{int(exponent)}}}"
    return _Part(power, _POWER) if mantissa == "1" else _Part(rf"{mantissa} \times {power}", min(level, _PRODUCT))


def _constant(node: Expr, _: list[_Part], letters: _Letters) -> _Part:
    values = node.data.value
    if node.data in letters:
        return letters[node.data]
    if values.ndim == 0:
        return _number(float(values))
    return _Part(f"({', '.join(_number(float(v)).text for v in values)})")


def _argmin(node: Expr) -> _Part:
    """The model that solves the lower level, or that so many steps on it reach, as a function of the mixtures in it."""
    theta, inner, *steps = node.data
    mixtures = [_symbol(n.data[0]).text for n in inner.walk() if n.op == "mixture"]
    mark = f"_{{{steps[0]}}}" if steps else r"^{\star}"
    return _Part(f"{_symbol(theta.data).within(_WHOLE)}{mark}" + (f"({', '.join(mixtures)})" if mixtures else ""))


def _add(_: Expr, parts: list[_Part], __: _Letters) -> _Part:
    left, right = parts
    return _Part(f"{left.text} - {right.text[1:].lstrip()}" if right.text.startswith("-") else f"{left.text} + {right.text}", _SUM)


def _multiply(node: Expr, parts: list[_Part], _: _Letters) -> _Part:
    if all(a.shape for a in node.args):
        return _Part(rf"{parts[0].within(_PRODUCT)} \odot {parts[1].within(_PRODUCT)}", _MINUS)
    left, right = parts[0].within(_PRODUCT), parts[1].within(_PRODUCT)
    return _Part(f"{left}{_times(right)}{right}", _PRODUCT)


def _times(right: str) -> str:
    return r" \cdot " if right[0].isdigit() or right.startswith((r"\left(", "(")) else r"\,"


def _matmul(node: Expr, parts: list[_Part], _: _Letters) -> _Part:
    vector = len(node.args[0].shape or ()) == 1
    left = parts[0].within(_INDEXED) + r"^{\top}" if vector else parts[0].within(_PRODUCT)
    return _Part(f"{left} {parts[1].within(_PRODUCT)}", _PRODUCT)


def _take(node: Expr, parts: list[_Part], _: _Letters) -> _Part:
    names = node.args[0].index
    chosen = (node.data,) if isinstance(node.data, int) else node.data
    shown = [names[i] if names else str(i + 1) for i in chosen]
    room = max(sum(used <= _MOST_SIGNS for used in accumulate(map(len, shown))), 1)
    listed = [upright(name) for name in shown[:room]] + [r"\ldots"] * (room < len(shown))
    index = listed[0] if isinstance(node.data, int) else rf"\{{{', '.join(listed)}\}}"
    return _Part(f"{parts[0].within(_WHOLE)}_{{{index}}}", _INDEXED)


def _quad_form(node: Expr, parts: list[_Part], letters: _Letters) -> _Part:
    x = parts[0].within(_INDEXED)
    return _Part(rf"{x}^{{\top}} {letters[node.data].text} {x}", _PRODUCT)


def _norm(node: Expr, parts: list[_Part], _: _Letters) -> _Part:
    p = r"\infty" if np.isinf(node.data) else f"{node.data:.6g}"
    return _Part(rf"\lVert {parts[0].text} \rVert_{{{p}}}", _INDEXED)


def _logsumexp(node: Expr, parts: list[_Part], _: _Letters) -> _Part:
    if node.data == 1:
        return _Part(rf"\log \mathbf{{1}}^{{\top}} \exp{_bracketed(parts[0].text)}", _PRODUCT)
    rate = _number(node.data).text
    inside = _bracketed(rf"\frac{{{parts[0].text}}}{{{rate}}}")
    return _Part(rf"{rate} \log \mathbf{{1}}^{{\top}} \exp{inside}", _PRODUCT)


def _indexed(name: str) -> _Write:
    """An operation written as a function with its setting as an index."""
    return lambda node, parts, letters: _Part(rf"\operatorname{{{name}}}_{{{_number(node.data).text}}}{_bracketed(parts[0].text)}")


def _at_step(step: str) -> _Write:
    """The value of an expression at a step of the run."""
    return lambda node, parts, letters: _Part(f"{parts[0].within(_INDEXED)}^{{({step})}}", _POWER)


def _tail(node: Expr, parts: list[_Part], _: _Letters) -> _Part:
    weights = f"^{{{parts[1].text}}}" if len(parts) > 1 else ""
    return _Part(rf"\operatorname{{CVaR}}_{{{_number(node.data).text}}}{weights}{_bracketed(parts[0].text)}")


def _clip(node: Expr, parts: list[_Part], _: _Letters) -> _Part:
    return _Part(r"\operatorname{clip}" + _bracketed(", ".join([parts[0].text, *(_number(v).text for v in node.data)])))


def _function(name: str) -> _Write:
    """An operation written as a function of its arguments."""
    return lambda node, parts, letters: _Part(name + _bracketed(", ".join(p.text for p in parts)))


def _fenced(left: str, right: str, level: int = _WHOLE) -> _Write:
    """An operation written as a pair of fences around its argument."""
    return lambda node, parts, letters: _Part(f"{left}{parts[0].text}{right}", level)


def _measured(symbol: str) -> _Write:
    """Losses of a model, by their name."""
    return lambda node, parts, letters: _Part(f"{symbol}_{{{upright(node.data)}}}({parts[0].text})")


LATEX: dict[str, _Write] = {
    "constant": _constant,
    "parameter": lambda node, parts, letters: _symbol(node.data[0]),
    "mixture": lambda node, parts, letters: _symbol(node.data[0]),
    "variable": lambda node, parts, letters: _symbol(node.data[0]),
    "stages": lambda node, parts, letters: _symbol(node.data[0]),
    "model": lambda node, parts, letters: _symbol(node.data),
    "argmin": lambda node, parts, letters: _argmin(node),
    "trained": lambda node, parts, letters: _argmin(node),
    "losses": _measured(r"\ell"),
    "loss": _measured("L"),
    "tokens": _measured(r"\ell^{\text{token}}"),
    "model_sum_squares": _fenced(r"\lVert ", r" \rVert_{2}^{2}", _POWER),
    "gram": lambda node, parts, letters: _Part(rf"\langle \nabla {parts[0].text},\ \nabla {parts[1].text} \rangle"),
    "previous": _at_step("t-1"),
    "initial": _at_step("0"),
    "ema": _indexed("ema"),
    "add": _add,
    "subtract": lambda node, parts, letters: _Part(f"{parts[0].text} - {parts[1].within(_MINUS)}", _SUM),
    "negate": lambda node, parts, letters: _Part(f"-{parts[0].within(_PRODUCT)}", _MINUS),
    "multiply": _multiply,
    "divide": lambda node, parts, letters: _Part(rf"\frac{{{parts[0].text}}}{{{parts[1].text}}}", _PRODUCT),
    "matmul": _matmul,
    "take": _take,
    "stack": _function(""),
    "sum": lambda node, parts, letters: _Part(rf"\mathbf{{1}}^{{\top}} {parts[0].within(_PRODUCT)}", _PRODUCT),
    "mean": _function(r"\operatorname{mean}"),
    "exp": _function(r"\exp"),
    "log": _function(r"\log"),
    "sqrt": lambda node, parts, letters: _Part(rf"\sqrt{{{parts[0].text}}}"),
    "square": lambda node, parts, letters: _Part(f"{parts[0].within(_INDEXED)}^{{2}}", _POWER),
    "power": lambda node, parts, letters: _Part(f"{parts[0].within(_INDEXED)}^{{{_number(node.data).text}}}", _POWER),
    "softplus": _function(r"\operatorname{softplus}"),
    "logsumexp": _logsumexp,
    "huber": _indexed("huber"),
    "sum_squares": _fenced(r"\lVert ", r" \rVert_{2}^{2}", _POWER),
    "norm": _norm,
    "abs": _fenced(r"\lvert ", r" \rvert"),
    "pos": _fenced(r"\left[", r"\right]_{+}", _INDEXED),
    "clip": _clip,
    "max": _function(r"\max"),
    "min": _function(r"\min"),
    "tail": _tail,
    "maximum": _function(r"\max"),
    "minimum": _function(r"\min"),
    "entropy": _function(r"\operatorname{H}"),
    "kl": lambda node, parts, letters: _Part(r"\operatorname{KL}" + _bracketed(rf"{parts[0].text} \,\Vert\, {parts[1].text}")),
    "rel_entropy": _function(r"\operatorname{rel\,entr}"),
    "quad_form": _quad_form,
    "domain_mean": _function(r"\operatorname{mean}_{\text{domain}}"),
    "surrogate": lambda node, parts, letters: _Part(
        r"\operatorname{surrogate}" + _bracketed(rf"{parts[0].text},\ \nabla {_bracketed(parts[1].text)}")
    ),
    "cardinality": _fenced(r"\lVert ", r" \rVert_{0}", _INDEXED),
    "least_used": _function(r"\min\nolimits_{+}"),
    "opaque": lambda node, parts, letters: _Part(upright(node.data.name) + _bracketed(parts[0].text)),
}
