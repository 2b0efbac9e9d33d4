"""History: the values that an expression had at earlier steps of a run, as numbers through which no gradient flows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mixopt.errors import ProblemError

from .expression import TOKENS, Expr, Operand, number, shown
from .ops import HISTORY


def previous(x: Operand) -> Expr:
    """The value that x had one step earlier in the run, in the shape of x; at the first step the current one, so that x - previous(x) is 0.

    History is for saddles, whose weights and model move step by step. x is any expression of losses, weights and parameters, history
    among them, and has its value at a step where the weights see it: before they move, on the batch of the step. To gradients a
    history is a number; nothing flows through it. FAMO (arXiv 2306.03792) weights by how little the logarithms of losses fall:

    >>> import mixopt as mx
    >>> w, theta = mx.Mixture(["web", "code"]), mx.model()
    >>> l = mx.losses(theta, ["web", "code"])
    >>> w @ (mx.log(l) - mx.log(mx.previous(l)))
    <scalar: w @ (log(losses(theta, 'train')) - log(previous(losses(theta, 'train'))))>

    Raises:
        ProblemError: a model, or token losses, whose batch is another one at each step.
    """
    return _kept("previous", x)


def initial(x: Operand) -> Expr:
    """The value that x had at the first step of the run, in the shape of x; else as ``previous``.

    Velocitune (arXiv 2411.14318) weights by the share of the way to a target that is left:
    ``clip((l - target) / (initial(l) - target), 0, 1)`` for losses l.

    Raises:
        ProblemError: a model, or token losses.
    """
    return _kept("initial", x)


def ema(x: Operand, rate: float) -> Expr:
    """The exponential moving average of x over the steps of the run, in the shape of x; else as ``previous``.

    m_t = (1 - rate) m_{t-1} + rate x_t with m_0 = x_0: the current value counts, but no gradient flows through it either. Where one
    should, write ``(1 - rate) * previous(ema(x, rate)) + rate * x``. A rate of 1 is x itself as a number.

    Raises:
        ProblemError: a model, token losses, or a rate outside (0, 1].
    """
    plain = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not plain or not 0 < rate <= 1:
        raise ProblemError(f"ema has the rate {str(rate)!r}; a rate is a number in (0, 1], such as 0.1 for a memory of about ten steps")
    return _kept("ema", x, float(rate))


def histories(expressions: Iterable[Expr]) -> tuple[Expr, ...]:
    """The distinct histories in some expressions, the inner ones of nested ones first."""
    return tuple(dict.fromkeys(n for e in expressions for n in e.walk() if n.op in HISTORY))


def live(expr: Expr) -> tuple[Expr, ...]:
    """The nodes that gradients reach, in the order of a walk: all but those inside a history."""
    nodes = tuple(expr.walk())
    reached = {expr}
    for node in reversed(nodes):
        if node in reached and node.op not in HISTORY:
            reached.update(node.args)
    return tuple(n for n in nodes if n in reached)


def refuse_history(where: str, expressions: Iterable[Expr]) -> None:
    """Raise where an expression has a history and its place goes through no steps."""
    for node in histories(expressions)[:1]:
        raise ProblemError(
            f"'{node}' stands in {where}, but history is of the steps of a run, which only the payoff of a saddle goes through; "
            "for numbers that change from run to run write parameter(name, size), and give them as given={...}"
        )


def _kept(op: str, x: Operand, data: float | None = None) -> Expr:
    expr = number(x, op)
    if expr.shape == (TOKENS,):
        raise ProblemError(
            f"{op} is of token losses {shown(expr)}, whose batch is another one at each step; fold them by domain_mean first"
        )
    return Expr(op, (expr,), expr.shape, expr.index, data)
