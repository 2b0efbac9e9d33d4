"""Every atom in numpy: its value, and the pullback that turns a cotangent of the value into those of the arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logsumexp, rel_entr, softmax, xlogy

from mixopt.errors import ProblemError
from mixopt.language.atoms import tail_caps
from mixopt.language.expression import Expr
from mixopt.language.opaque import TAKERS
from mixopt.language.support import SUPPORT

TINY = np.finfo(float).tiny
A = Any  # a float64 array or scalar


@dataclass(frozen=True)
class NumpyOp:
    """``value(node, *args)`` and ``pull(node, cotangent, *args)``, one cotangent an argument, before spreading is undone."""

    value: Callable[..., A]
    pull: Callable[..., tuple[A, ...]]


def _inner(n: Expr, g: A, x: A, y: A) -> tuple[A, A]:
    if x.ndim == y.ndim == 1:
        return g * y, g * x
    if x.ndim == 2 and y.ndim == 1:
        return np.outer(g, y), x.T @ g
    if x.ndim == 1:
        return y @ g, np.outer(x, g)
    return g @ y.T, x.T @ g


def _take(n: Expr, g: A, x: A) -> tuple[A]:
    out = np.zeros_like(x)
    np.add.at(out, n.data if isinstance(n.data, int) else list(n.data), g)
    return (out,)


def _only(x: A, position: int, g: A) -> A:
    out = np.zeros_like(x)
    out[position] = g
    return out


def _norm(n: Expr, g: A, x: A) -> tuple[A]:
    if n.data == 1:
        return (g * np.sign(x),)
    if n.data == 2:
        size = np.linalg.norm(x)
        return (g * x / size if size > 0 else np.zeros_like(x),)
    if np.isinf(n.data):
        where = int(np.argmax(np.abs(x)))
        return (_only(x, where, g * np.sign(x[where])),)
    size = np.linalg.norm(x, n.data)
    return (g * np.sign(x) * (np.abs(x) / size) ** (n.data - 1) if size > 0 else np.zeros_like(x),)


def _power(x: A, p: float) -> A:
    """x ** p; below zero NaN unless p is whole and > 1, at zero infinite where p < 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.power(np.where(np.less(x, 0), np.nan, x) if p < 0 else x, p)


def _rise(x: A, p: float) -> A:
    """The derivative p x ** (p - 1), a number everywhere: at an edge that of the least number > 0, at most the largest number."""
    base = x if p > 1 and float(p).is_integer() else np.maximum(x, 0.0 if p > 1 else TINY)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.nan_to_num(p * np.power(base, p - 1), nan=np.nan)


def _tail_weights(n: Expr, x: A) -> A:
    """The share of each entry in the mean of the largest: the last one taken counts in part."""
    order = np.argsort(-x, kind="stable")
    caps = tail_caps(n)[order]
    weights = np.zeros(x.size)
    weights[order] = np.clip(1 - (np.cumsum(caps) - caps), 0, caps)
    return weights


def _tail(n: Expr, g: A, x: A, *parts: A) -> tuple[A, ...]:
    return (g * _tail_weights(n, x), *(np.zeros_like(p) for p in parts))


def _huber(x: A, delta: float) -> A:
    size = np.abs(x)
    return np.where(size <= delta, x * x / 2, delta * (size - delta / 2))


def _stack(n: Expr, g: A, *parts: A) -> tuple[A, ...]:
    ends = np.cumsum([p.size for p in parts])[:-1]
    return tuple(piece.reshape(p.shape) for piece, p in zip(np.split(g, ends), parts, strict=True))


def _relative(g: A, x: A, y: A) -> tuple[A, A]:
    """The slopes of x log(x / y) in x and in y; where y is 0 they are infinite, or NaN where both are."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return g * (np.log(np.maximum(x, TINY) / y) + 1), -g * x / y


def _log(x: A) -> A:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


def _over(x: A, y: A) -> A:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return x / y


def _opaque(n: Expr, x: A) -> A:
    value = n.data.values(np.asarray(x)[None], n.shape)[0]
    return value if n.shape else float(value)


def _no_slope(n: Expr, g: A, x: A) -> tuple[A]:
    raise ProblemError(f"'{n}' is opaque, so it has no gradient; {TAKERS}")


NUMPY: dict[str, NumpyOp] = {
    "add": NumpyOp(lambda n, x, y: x + y, lambda n, g, x, y: (g, g)),
    "subtract": NumpyOp(lambda n, x, y: x - y, lambda n, g, x, y: (g, -g)),
    "negate": NumpyOp(lambda n, x: -x, lambda n, g, x: (-g,)),
    "multiply": NumpyOp(lambda n, x, y: x * y, lambda n, g, x, y: (g * y, g * x)),
    "divide": NumpyOp(lambda n, x, y: _over(x, y), lambda n, g, x, y: (_over(g, y), -_over(g * x, y**2))),
    "matmul": NumpyOp(lambda n, x, y: x @ y, _inner),
    "take": NumpyOp(lambda n, x: x[n.data if isinstance(n.data, int) else list(n.data)], _take),
    "stack": NumpyOp(lambda n, *parts: np.concatenate([np.atleast_1d(p) for p in parts]), _stack),
    "sum": NumpyOp(lambda n, x: x.sum(), lambda n, g, x: (g * np.ones_like(x),)),
    "mean": NumpyOp(lambda n, x: x.sum() / x.size, lambda n, g, x: (np.full(x.shape, g / x.size),)),
    "exp": NumpyOp(lambda n, x: np.exp(x), lambda n, g, x: (g * np.exp(x),)),
    "log": NumpyOp(lambda n, x: _log(x), lambda n, g, x: (g / np.maximum(x, TINY),)),
    "sqrt": NumpyOp(lambda n, x: _power(x, 0.5), lambda n, g, x: (g * _rise(x, 0.5),)),
    "power": NumpyOp(lambda n, x: _power(x, n.data), lambda n, g, x: (g * _rise(x, n.data),)),
    "softplus": NumpyOp(lambda n, x: np.logaddexp(x, 0.0), lambda n, g, x: (g * expit(x),)),
    "logsumexp": NumpyOp(lambda n, x: n.data * logsumexp(x / n.data), lambda n, g, x: (g * softmax(x / n.data),)),
    "huber": NumpyOp(lambda n, x: _huber(x, n.data), lambda n, g, x: (g * np.clip(x, -n.data, n.data),)),
    "tail": NumpyOp(lambda n, x, *parts: (_tail_weights(n, x) * x).sum(), _tail),
    "rel_entropy": NumpyOp(
        lambda n, x, y: rel_entr(x, y),
        lambda n, g, x, y: _relative(g, x, y),
    ),
    "square": NumpyOp(lambda n, x: x * x, lambda n, g, x: (2 * g * x,)),
    "sum_squares": NumpyOp(lambda n, x: (x * x).sum(), lambda n, g, x: (2 * g * x,)),
    "norm": NumpyOp(lambda n, x: np.linalg.norm(x, n.data), _norm),
    "abs": NumpyOp(lambda n, x: np.abs(x), lambda n, g, x: (g * np.sign(x),)),
    "pos": NumpyOp(lambda n, x: np.maximum(x, 0.0), lambda n, g, x: (g * (x > 0),)),
    "clip": NumpyOp(lambda n, x: np.clip(x, *n.data), lambda n, g, x: (g * ((x >= n.data[0]) & (x <= n.data[1])),)),
    "max": NumpyOp(lambda n, x: x.max(), lambda n, g, x: (_only(x, int(np.argmax(x)), g),)),
    "min": NumpyOp(lambda n, x: x.min(), lambda n, g, x: (_only(x, int(np.argmin(x)), g),)),
    "maximum": NumpyOp(lambda n, x, y: np.maximum(x, y), lambda n, g, x, y: (g * (x >= y), g * (x < y))),
    "minimum": NumpyOp(lambda n, x, y: np.minimum(x, y), lambda n, g, x, y: (g * (x <= y), g * (x > y))),
    "entropy": NumpyOp(lambda n, x: -xlogy(x, x).sum(), lambda n, g, x: (-g * (np.log(np.maximum(x, TINY)) + 1),)),
    "kl": NumpyOp(
        lambda n, p, q: rel_entr(p, q).sum(),
        lambda n, g, p, q: _relative(g, p, q),
    ),
    "quad_form": NumpyOp(lambda n, x: x @ n.data.value @ x, lambda n, g, x: (2 * g * (n.data.value @ x),)),
    "domain_mean": NumpyOp(lambda n, x: x.mean(axis=-1), lambda n, g, x: (np.repeat(g[..., None], x.shape[-1], -1) / x.shape[-1],)),
    "cardinality": NumpyOp(lambda n, x: float((x > SUPPORT).sum()), lambda n, g, x: (np.zeros_like(x),)),
    "least_used": NumpyOp(
        lambda n, x: np.where(x > SUPPORT, x, np.inf).min(),
        lambda n, g, x: (_only(x, int(np.argmin(np.where(x > SUPPORT, x, np.inf))), g),),
    ),
    "opaque": NumpyOp(_opaque, _no_slope),
    "surrogate": NumpyOp(lambda n, value, gradient: value, lambda n, g, value, gradient: (g, np.zeros_like(gradient))),
}


def unspread(cotangent: A, like: A) -> A:
    """Undo the spreading of a scalar over a vector: a scalar's cotangent is the sum."""
    return cotangent if np.shape(cotangent) == np.shape(like) else np.asarray(cotangent).sum()
