"""Nodes made again from their parts by the functions that users call, so that what they check is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, MixoptError

from . import atoms, history, support, symbols
from .expression import Array, Expr, constant, elementwise, matmul
from .ops import ATOMS
from .problem import argmin, trained


@final
@dataclass(frozen=True)
class Parts:
    """What a node is made of: arguments and settings, and names of entries and the shape where nothing else implies them."""

    args: tuple[Expr, ...]
    data: Any = None
    index: tuple[str, ...] | None = None
    shape: tuple[int, ...] = ()

    @property
    def only(self) -> Expr:
        """The one argument."""
        (argument,) = self.args
        return argument

    @property
    def both(self) -> tuple[Expr, Expr]:
        """The two arguments."""
        left, right = self.args
        return left, right

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the entries, which this operation needs."""
        if self.index is None:
            raise InputError("the names of its entries are missing")
        return self.index


def remade(op: str, parts: Parts) -> Expr:
    """The node of an operation with these parts; an atom without a row of its own by its function in ``atoms``.

    Raises:
        MixoptError: whatever the function says against them, or that they are not what it takes.
    """
    try:
        made = MAKERS[op](parts) if op in MAKERS else _called(op, parts)
    except MixoptError:
        raise
    except Exception as error:  # settings from a file can be of any kind, and a function may trip over them in any way
        raise InputError(f"its parts are not what {op!r} takes: {type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(made, Expr):
        raise InputError(f"its parts make no {op!r}")
    return made


def _called(op: str, parts: Parts) -> Expr:
    function: Callable[..., Expr] | None = getattr(atoms, op, None) if op in ATOMS else None
    if function is None:
        raise InputError(f"no function of the language makes {op!r}")
    settings = () if parts.data is None else parts.data if isinstance(parts.data, tuple) else (parts.data,)
    return function(*parts.args, *(s.value if isinstance(s, Array) else s for s in settings))


def _constant(parts: Parts) -> Expr:
    if parts.args or not isinstance(parts.data, Array):
        raise InputError("a constant is an array and nothing else")
    return constant(np.array(parts.data.value), parts.index)


def _entrywise(op: str, parts: Parts) -> Expr:
    return elementwise(op, *parts.both)


def _argmin(parts: Parts) -> Expr:
    theta, lower = parts.data
    return argmin(lower, over=theta)


def _trained(parts: Parts) -> Expr:
    theta, lower, steps = parts.data
    return trained(lower, over=theta, steps=steps)


def _parameter(parts: Parts) -> Expr:
    name, nonneg = parts.data
    if not isinstance(nonneg, bool) or len(parts.shape) > 1:
        raise InputError("a parameter is a name, whether it is never negative, and a shape of at most one length")
    return symbols.parameter(name, parts.shape[0] if parts.shape else None, nonneg)


def _taken(parts: Parts) -> Expr:
    return _renamed(parts.only[list(parts.data) if isinstance(parts.data, tuple) else parts.data], parts)


def _renamed(made: Expr, parts: Parts) -> Expr:
    """The same entries under the names that they have, where these are not what the arguments imply: edges, branches."""
    fits = parts.index is not None and made.shape == (len(parts.index),)
    return replace(made, index=parts.index) if fits and parts.index != made.index else made


def _mixture(parts: Parts) -> Expr:
    name, domains = parts.data
    return symbols.Mixture(domains, name)


def _variable(parts: Parts) -> Expr:
    name, low, high = parts.data
    if len(parts.shape) > 1:
        raise InputError("a variable has a shape of at most one length")
    size = parts.shape[0] if parts.shape else None
    return symbols.variable(name, size, lower=low[0] if size is None else low, upper=high[0] if size is None else high)


def _stages(parts: Parts) -> Expr:
    name, domains = parts.data
    made = symbols.Mixture(domains, name, stages=len(parts.args))
    if made.args != parts.args:
        raise InputError(f"its stages are not those of the mixture {name!r}")
    return made


def _opaque(parts: Parts) -> Expr:
    raise InputError(
        "it is a function of numpy, which a file of a problem does not hold; save the law itself, law.save(path), "
        "and write the problem again with mx.laws.load(path)"
    )


MAKERS: dict[str, Callable[[Parts], Expr]] = {
    "constant": _constant,
    "parameter": _parameter,
    "mixture": _mixture,
    "variable": _variable,
    "stages": _stages,
    "model": lambda parts: symbols.model(parts.data),
    "argmin": _argmin,
    "trained": _trained,
    "losses": lambda parts: symbols.losses(parts.only, parts.names, parts.data),
    "loss": lambda parts: symbols.loss(parts.only, parts.data),
    "tokens": lambda parts: symbols.tokens(parts.only, parts.data),
    "model_sum_squares": lambda parts: atoms.sum_squares(parts.only),
    "gram": lambda parts: symbols.gram(parts.both[0].args[0], *parts.both),
    "previous": lambda parts: history.previous(parts.only),
    "initial": lambda parts: history.initial(parts.only),
    "ema": lambda parts: history.ema(parts.only, parts.data),
    "negate": lambda parts: -parts.only,
    "take": _taken,
    "cardinality": lambda parts: support.count(parts.only),
    "least_used": lambda parts: support.least_used(parts.only),
    "opaque": _opaque,
    "tail": lambda parts: atoms.tail(parts.args[0], parts.data, *parts.args[1:]),
    "stack": lambda parts: atoms.stack(parts.args, parts.index),
    "matmul": lambda parts: _renamed(matmul(*parts.both), parts),
    "domain_mean": lambda parts: symbols.domain_mean(parts.only, parts.names),
    "surrogate": lambda parts: symbols.surrogate(parts.both[0], gradient=parts.both[1]),
    **{op: partial(_entrywise, op) for op in ("add", "subtract", "multiply", "divide")},
}
"""The leaves, the operators and what takes names; every other atom is made by the function of its own name in ``atoms``."""
