"""Formulas as text: a small grammar of numbers, names, operators, brackets, entries and the language's functions; nothing is evaluated.

sum      = product { ("+" | "-") product }          all of these from the left
product  = sign { ("*" | "/" | "@") sign }
sign     = { "-" | "+" } power                      a minus takes the whole product: -a*b is -(a*b)
power    = entry [ ("^" | "**") sign ]              from the right; the exponent is a number
entry    = basic { "[" names or positions "]" }     w[code], w[code, books], w[0], w["a name, quoted"]
basic    = number | name | function "(" ... ")" | "(" sum ")" | "[" sum, ... "]"
"""

from __future__ import annotations

import inspect
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, final

import numpy as np

from mixopt.errors import InputError, MixoptError, ProblemError, listed, nearest

from . import atoms
from .expression import Expr, Operand, constant, expression
from .ops import ATOMS, HISTORY

if TYPE_CHECKING:
    from .free import Free

LONGEST = 10_000
"""The most characters of a formula."""
DEEPEST = 100
"""The most brackets, signs and exponents inside one another."""
MARKED = 100
"""The most characters of a formula that an error shows."""

Kind = Literal["number", "name", "text", "sign", "end"]

_TOKEN = re.compile(
    r"""(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>'[^']*'|"[^"]*")
      | (?P<sign>\*\*|<=|>=|==|[-+*/@^()\[\],<>=])""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_POSITION = re.compile(r"-?[0-9]{1,9}")
_SUM, _PRODUCT, _POWER = 1, 3, 7
_BINARY: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "+": (_SUM, operator.add),
    "-": (_SUM, operator.sub),
    "*": (_PRODUCT, operator.mul),
    "/": (_PRODUCT, operator.truediv),
    "@": (_PRODUCT, operator.matmul),
    "^": (_POWER, operator.pow),
    "**": (_POWER, operator.pow),
}
FUNCTIONS: dict[str, Callable[..., Expr]] = {name: getattr(atoms, name) for name in ATOMS if hasattr(atoms, name)}
"""The functions that a formula may call: every atom that users call by its name."""


def formula(text: str, values: Mapping[str, Operand] | None = None, /, **named: Operand) -> Expr:
    """The expression that a text says, with a value for each of its names: a symbol, an expression, a number or an array.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> mx.formula("c + b*exp(A @ w) - 0.1*entropy(w)^2", c=2.0, b=0.5, A=[-1.0, 0.5], w=w)
    <scalar: 2 + 0.5*exp([-1, 0.5] @ w) - 0.1*square(entropy(w))>
    >>> mx.formula("w[code] + wed[web]", w=w)
    Traceback (most recent call last):
        ...
    mixopt.errors.ProblemError: no name 'wed' in (w); did you mean 'w'?
      w[code] + wed[web]
                ^^^

    ``+ - * / @``, ``^`` or ``**`` with a number (or one for each entry), brackets, entries by name or position, lists
    ``[0.2, 0.8]``, and every atom, its settings behind its arguments: ``norm(w, 1)``, ``clip(w, 0, 0.5)``. Nothing in the text is
    run as code.

    Raises:
        ProblemError: a text that is no formula, an unknown name or function, shapes that do not fit; a second line marks where.
        InputError: names that no formula can hold, or values that are neither expressions nor numbers.
    """
    if not isinstance(text, str):
        raise InputError(f"a formula is a text, not {text!r}")
    if len(text) > LONGEST:
        raise ProblemError(f"the formula has {len(text)} characters, and at most {LONGEST} are read; bind parts of it to names")
    return _Parser(text, _bound({**_named(values), **named})).whole()


def parsed(text: str, names: Mapping[str, Operand], free: Free | None = None) -> Expr:
    """The expression of a text; a name without a value is one of ``free`` where it is given."""
    return _Parser(text, _bound(names), free).whole()


def _named(values: Mapping[str, Operand] | None) -> dict[str, Operand]:
    if values is not None and not isinstance(values, Mapping):
        raise InputError(f"the values of a formula are a dict from names, or name=value, not {type(values).__name__}")
    return dict(values or {})


def _bound(values: Mapping[str, Operand]) -> dict[str, Expr]:
    for name in values:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot be a name in a formula; a name is of letters, digits and _, and begins with no digit")
    return {name: expression(value) for name, value in values.items()}


@final
@dataclass(frozen=True)
class _Token:
    """A piece of the text and where it stands."""

    kind: Kind
    text: str
    start: int
    end: int


@final
class _Parser:
    """A Pratt parser: ``_sum`` reads on while the operators bind at least as tightly as asked."""

    def __init__(self, text: str, names: Mapping[str, Expr], free: Free | None = None):
        self._text = text
        self._names = names
        self._free = free
        self._depth = 0
        self._next = self._token(0)

    def whole(self) -> Expr:
        """The expression of the whole text."""
        if self._next.kind == "end":
            raise ProblemError("the formula is empty; write one such as c + b*exp(A @ w)")
        value = self._sum(_SUM)
        if self._next.kind != "end":
            self._unexpected()
        return value

    def _sum(self, level: int) -> Expr:
        self._depth += 1
        if self._depth > DEEPEST:
            self._refuse(f"more than {DEEPEST} brackets, signs or exponents are inside one another; bind parts to names", self._next)
        left = self._entries(self._begin(level))
        while self._next.text in _BINARY and self._next.kind == "sign" and _BINARY[self._next.text][0] >= level:
            sign = self._take()
            own, act = _BINARY[sign.text]
            right = self._sum(own if own == _POWER else own + 1)
            left = self._combined(sign, act, left, right)
        self._depth -= 1
        return left

    def _begin(self, level: int) -> Expr:
        """A number, a name, a function's value, or what stands in brackets or behind a sign."""
        token = self._take()
        if token.kind == "number":
            if math.isinf(float(token.text)):
                self._refuse(f"{token.text} is larger than any number here", token)
            return constant(float(token.text))
        if token.kind == "name":
            return self._called(token) if self._next.text == "(" else self._known(token)
        if token.text in ("-", "+"):
            value = self._sum(max(_PRODUCT, level))
            return value if token.text == "+" else self._made(token, lambda: _negative(value))
        if token.text == "(":
            value = self._sum(_SUM)
            self._close(")", token)
            return value
        if token.text == "[":
            parts = self._listed("]", token)
            return self._made(token, lambda: _vector(parts))
        return self._unexpected(token)

    def _known(self, token: _Token) -> Expr:
        if token.text in self._names:
            return self._names[token.text]
        if token.text in FUNCTIONS:
            self._refuse(f"'{token.text}' is a function; its arguments follow in brackets", token)
        if token.text == "inf":
            self._refuse("inf is only a setting, as in norm(w, inf)", token)
        if self._free is not None:
            return self._free.symbol(token.text)
        known = sorted(self._names)
        return self._refuse(f"no name {token.text!r} in {listed(known)}{nearest(token.text, known)}", token)

    def _called(self, token: _Token) -> Expr:
        opening = self._take()
        function = FUNCTIONS.get(token.text)
        if function is None:
            close = nearest(token.text, FUNCTIONS)
            what = f"'{token.text}' is no function; write * between factors" if token.text in self._names else None
            if token.text in HISTORY:
                what = f"{token.text}(...) is history, which is no part of a formula; bind it to a name, as in p=mx.{token.text}(...)"
            self._refuse(what or f"no function {token.text!r}{close or f' in {listed(sorted(FUNCTIONS), len(FUNCTIONS))}'}", token)
        parts = [_setting(p) for p in self._listed(")", opening)]
        if token.text == "stack":
            return self._made(token, lambda: atoms.stack(parts))
        takes = inspect.signature(function).parameters.values()
        least = sum(p.default is inspect.Parameter.empty for p in takes)
        if not least <= len(parts) <= len(takes):
            told = ", ".join(p.name if p.default is inspect.Parameter.empty else f"{p.name}={p.default:g}" for p in takes)
            self._refuse(f"{token.text}({told}) is given {len(parts)} argument{'' if len(parts) == 1 else 's'}", token)
        return self._made(token, lambda: function(*parts))

    def _listed(self, closing: str, opening: _Token) -> list[Expr]:
        """Values between commas up to the closing bracket; inf is one of them only as a setting."""
        parts: list[Expr] = []
        while self._next.text != closing:
            parts.append(self._infinity() if self._next.text == "inf" and "inf" not in self._names else self._sum(_SUM))
            if self._next.text != ",":
                break
            self._take()
        self._close(closing, opening)
        return parts

    def _infinity(self) -> Expr:
        token = self._take()
        if self._next.text not in (",", ")"):
            self._refuse("inf is only a setting, as in norm(w, inf)", token)
        return _INFINITE

    def _entries(self, value: Expr) -> Expr:
        """What follows in square brackets: names as they are or quoted, or positions."""
        while self._next.text == "[" and self._next.kind == "sign":
            opening = self._next
            if self._free is not None:
                self._free.entries(value)
            keys, end = self._keys(opening)
            mark = _Token("text", "", opening.start, end)
            named = value.index or ()
            found: list[Any] = [k if quoted or k in named or not _POSITION.fullmatch(k) else int(k) for k, quoted in keys]
            held = value
            value = self._made(mark, lambda: held[found[0] if len(found) == 1 else found])  # noqa: B023
            self._next = self._token(end)
        return value

    def _keys(self, opening: _Token) -> tuple[list[tuple[str, bool]], int]:
        """The keys in square brackets, each with whether it is quoted, and where the text goes on."""
        keys: list[tuple[str, bool]] = []
        at = opening.end
        while True:
            match = _KEY.match(self._text, at)
            if match is None:
                self._refuse("this bracket of entries is not closed, or has an empty place; write w[code] or w[code, books]", opening)
            quoted = match["quoted"]
            keys.append((quoted[1:-1], True) if quoted else (match["plain"].strip(), False))
            at = match.end()
            if match["end"] == "]":
                return keys, at

    def _combined(self, sign: _Token, act: Callable[[Any, Any], Any], left: Expr, right: Expr) -> Expr:
        if self._free is not None and sign.text == "@":
            self._free.product(left, right)
        if act is operator.pow and right.op == "constant" and left.shape == right.shape and len(left.shape or ()) == 1:
            return self._made(sign, lambda: atoms.stack([x**p for x, p in zip(left, right.data.value, strict=True)], index=left.index))
        if act is operator.pow and self._free is not None and right.op != "constant":
            return self._made(sign, lambda: atoms.exp(right * atoms.log(left)))
        if act is operator.pow and not (right.op == "constant" and right.shape == ()):
            self._refuse(f"the exponent '{right}' is no number; for a base x > 0 write exp({right} * log(x))", sign)
        a, b = _scalar(left), _scalar(right)
        if a is None or b is None:
            return self._made(sign, lambda: act(left, b if act is operator.pow else right))
        try:
            value = act(a, b) if sign.text != "@" else None
        except (ZeroDivisionError, OverflowError):
            value = math.nan
        if isinstance(value, complex) or (value is not None and not math.isfinite(value)):
            self._refuse(f"{a:g} {sign.text} {b:g} is no finite number", sign)
        return self._made(sign, lambda: left @ right if value is None else constant(value))

    def _made(self, token: _Token, make: Callable[[], Expr]) -> Expr:
        """What ``make`` makes; its errors are told with the place."""
        try:
            return make()
        except MixoptError as error:
            said = str(error)
        except Exception as error:  # an expression stands where a function wants a number; functions trip over that in many ways
            said = f"'{token.text}' wants a fixed number for one of these: {error}"
        return self._refuse(said if len(said) <= 400 else f"{said[:397]}...", token)

    def _take(self) -> _Token:
        token = self._next
        self._next = token if token.kind == "end" else self._token(token.end)
        return token

    def _close(self, closing: str, opening: _Token) -> None:
        if self._next.kind == "end":
            self._refuse(f"this bracket is not closed; {closing!r} is missing", opening)
        if self._next.text != closing:
            self._unexpected()
        self._take()

    def _token(self, at: int) -> _Token:
        """The token that begins at a place, or after the white space there."""
        while at < len(self._text) and self._text[at].isspace():
            at += 1
        if at == len(self._text):
            return _Token("end", "", at, at)
        match = _TOKEN.match(self._text, at)
        if match is None:
            self._refuse(f"{self._text[at]!r} has no meaning in a formula", _Token("sign", self._text[at], at, at + 1))
        return _Token(match.lastgroup, match[0], at, match.end())  # type: ignore[arg-type]

    def _unexpected(self, token: _Token | None = None) -> NoReturn:
        token = token or self._next
        if token.kind == "end":
            self._refuse("the formula ends where a number, a name or a bracket is expected", token)
        if token.text in ("<=", ">=", "==", "="):
            self._refuse("a formula is one side of a relation; write mx.formula(left) <= mx.formula(right)", token)
        if token.text in ("<", ">"):
            self._refuse("a text such as '<3x3 numbers>' leaves its numbers out; bind them to a name", token)
        if token.kind == "text":
            self._refuse("a quoted text is only a name of an entry, as in w['a name']", token)
        if token.kind in ("number", "name") or token.text in ("(", "["):
            self._refuse(f"an operator is missing before '{token.text}'; factors are joined by *", token)
        self._refuse(f"'{token.text}' stands where a number, a name or a bracket is expected", token)

    def _refuse(self, message: str, token: _Token) -> NoReturn:
        """Raise with the part of the formula around the token, which is marked in a line of its own."""
        shown = "".join(c if c.isprintable() else " " for c in self._text)
        first = max(0, min(token.start - MARKED // 2, len(shown) - MARKED))
        part = shown[first : first + MARKED]
        before, after = "..." if first else "", "..." if first + MARKED < len(shown) else ""
        here = len(before) + token.start - first
        width = max(1, min(token.end - token.start, MARKED - (token.start - first)))
        raise ProblemError(f"{message}\n  {before}{part}{after}\n  {' ' * here}{'^' * width}")


_KEY = re.compile(r"""\s*(?:(?P<quoted>'[^']*'|"[^"]*")\s*|(?P<plain>[^\s\],'"][^\],]*))(?P<end>[\],])""")
_INFINITE = Expr("parameter", (), (), None, ("inf", True))
"""Stands for infinity between the parser and a function's settings; it never reaches an expression."""


def _setting(value: Expr) -> Any:
    """A fixed number or array as itself, since some arguments are settings; expressions stay."""
    if value is _INFINITE:
        return math.inf
    if value.op != "constant" or value.index is not None:
        return value
    return np.array(value.data.value) if value.shape else float(value.data.value)


def _scalar(value: Expr) -> float | None:
    return float(value.data.value) if value.op == "constant" and value.shape == () else None


def _negative(value: Expr) -> Expr:
    number = _scalar(value)
    return -value if number is None else constant(-number)


def _vector(parts: list[Expr]) -> Expr:
    """A list of fixed numbers as a vector, of such vectors as a matrix, and of anything else stacked."""
    if parts and all(p.op == "constant" and len(p.shape or ()) == len(parts[0].shape or ()) for p in parts) and parts[0].index is None:
        return constant(np.stack([p.data.value for p in parts]) if len({p.shape for p in parts}) == 1 else [p.data.value for p in parts])
    return atoms.stack(parts)
