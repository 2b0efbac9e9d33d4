"""Symbols: mixtures, models, parameters, and the losses of a model on domains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixopt.errors import ProblemError, listed

from .domains import Domains
from .expression import TOKENS, Expr, expression, joint, number, shown
from .ops import TRAINED

MODELS = ("model", *TRAINED)


def Mixture(domains: Domains | Sequence[str], name: str = "w", stages: int | None = None) -> Expr:  # noqa: N802
    """The weights of the domains [k], a point of the simplex: every entry >= 0, sum 1; no constraint need say so.

    With ``stages`` = T it is a curriculum [T, k]: ``w[t]``, or ``w.stage(t)``, is the mixture [k] of stage t = 0, ..., T - 1, on a
    simplex of its own, and ``for row in w`` goes through them. Expressions are written in the stages; ``over=w`` optimises all of them.

    >>> w = Mixture(Domains(["web", "code", "books"]))
    >>> w["code"], w[["code", "books"]]
    (<scalar: w[code]>, <2: w[code, books]>)
    >>> plan = Mixture(Domains(["web", "code", "books"]), name="p", stages=2)
    >>> plan[1], plan[1]["code"]
    (<3: p[1]>, <scalar: p[1][code]>)

    Raises:
        ProblemError: a name that is empty, or stages that are no whole number >= 1.
    """
    index = domains if isinstance(domains, Domains) else Domains(domains)
    data = (_named(name, "mixture"), index)
    if stages is None:
        return Expr("mixture", (), (len(index),), index.names, data)
    if isinstance(stages, bool) or not isinstance(stages, int) or stages < 1:
        raise ProblemError(f"mixture {name!r} has stages={stages!r}; the number of stages is a whole number >= 1")
    rows = tuple(Expr("mixture", (), (len(index),), index.names, (f"{name}[{t}]", index)) for t in range(stages))
    return Expr("stages", rows, (stages, len(index)), None, data)


def variable(
    name: str,
    size: int | None = None,
    nonneg: bool = False,
    lower: float | Sequence[float] | np.ndarray | None = None,
    upper: float | Sequence[float] | np.ndarray | None = None,
) -> Expr:
    """An auxiliary unknown of a program: a number [] or vector [size] within its bounds, found together with the mixture.

    Name it in ``over``: ``minimize(t, over=(w, t), subject_to=[law(w) <= t])``; its value is ``result[t]``. ``nonneg`` is short
    for ``lower=0``. Bounds are numbers, or one for each entry.

    Raises:
        ProblemError: a size that is no whole number >= 1, or bounds of another shape, that are NaN, or that no number lies between.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ProblemError(f"variable {name!r} has size {size!r}; a size is a whole number >= 1, or None for a scalar")
    if nonneg and lower is not None:
        raise ProblemError(f"variable {name!r} has both nonneg=True and lower={lower!r}; nonneg means lower=0, so give one of them")
    shape = () if size is None else (size,)
    low = _bound(name, "lower", -np.inf if lower is None else lower, shape) if not nonneg else _bound(name, "lower", 0.0, shape)
    high = _bound(name, "upper", np.inf if upper is None else upper, shape)
    crossed = [i for i, (a, b) in enumerate(zip(low, high, strict=True)) if a > b]
    if crossed:
        i = crossed[0]
        raise ProblemError(f"variable {name!r} has the lower bound {low[i]:.6g} above its upper bound {high[i]:.6g}; swap or widen them")
    return Expr("variable", (), shape, None, (_named(name, "variable"), low, high))


def _bound(name: str, which: str, value: float | Sequence[float] | np.ndarray, shape: tuple[int, ...]) -> tuple[float, ...]:
    """A bound of a variable, one number an entry."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ProblemError(f"the {which} bound of variable {name!r} is {value!r}, which is no number") from None
    if array.shape not in ((), shape) or np.isnan(array).any():
        what = "is NaN" if np.isnan(array).any() else f"has shape {list(array.shape)}"
        raise ProblemError(f"the {which} bound of variable {name!r} {what}; give one number, or one for each entry {list(shape)}")
    return tuple(np.broadcast_to(array, shape).ravel().tolist())


def model(name: str = "theta") -> Expr:
    """The trainable parameters of a model as one symbol; its losses are numbers, it is not."""
    return Expr("model", (), None, None, _named(name, "model"))


def parameter(name: str, size: int | None = None, nonneg: bool = False) -> Expr:
    """A number [] or vector [size] whose value is given at each run, without compiling again."""
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ProblemError(f"parameter {name!r} has size {size!r}; a size is a whole number >= 1, or None for a scalar")
    return Expr("parameter", (), () if size is None else (size,), None, (_named(name, "parameter"), bool(nonneg)))


def losses(theta: Expr, domains: Domains | Sequence[str], name: str = "train") -> Expr:
    """Mean losses of a model on each domain [k], in nats per token; the learner provides them under ``name``."""
    theta = _model(theta, "losses")
    index = domains if isinstance(domains, Domains) else Domains(domains)
    return Expr("losses", (theta,), (len(index),), index.names, _named(name, "loss"))


def loss(theta: Expr, name: str) -> Expr:
    """One scalar loss [] of a model, in nats per token; the learner provides it under ``name``."""
    return Expr("loss", (_model(theta, "loss"),), (), None, _named(name, "loss"))


def gram(theta: Expr, rows: Expr | Domains | Sequence[str], cols: Expr | Domains | Sequence[str] | None = None) -> Expr:
    """Inner products [k, m] of gradients of losses: entry (i, j) is <grad l_i, grad l_j>, taken over the model's parameters.

    ``rows`` and ``cols`` are losses or a loss of ``theta``, or domains for ``losses(theta, domains)``; ``cols`` is ``rows``
    where left out. A scalar loss leaves its side away: [k] instead of [k, 1]. It is a number that the weights see: a model
    cannot descend it, so it stands in the value of a ``surrogate``. DoGE's scores (arXiv 2310.15393) are
    ``gram(theta, domains) @ ones``. On a sampled learner both sides are measured on one batch; of one and the same loss the
    diagonal is then biased upwards. It costs one backward pass for each row and column, and holds a gradient for each.

    >>> theta = model()
    >>> gram(theta, ["web", "code"], loss(theta, "val")), gram(theta, ["web", "code"]).shape
    (<2: gram(theta, losses(theta, 'train'), loss(theta, 'val'))>, (2, 2))

    Raises:
        ProblemError: a side that is neither losses of ``theta`` nor domains.
    """
    first = _gradients_of(theta, rows)
    second = first if cols is None else _gradients_of(theta, cols)
    shape = (first.shape or ()) + (second.shape or ())
    return Expr("gram", (first, second), shape, (first.index or second.index) if len(shape) == 1 else None)


def _gradients_of(theta: Expr, side: Expr | Domains | Sequence[str]) -> Expr:
    """One side of a gram: losses or a loss of the model."""
    if not isinstance(side, Expr):
        return losses(theta, side)
    if side.op not in ("losses", "loss") or side.args != (_model(theta, "the gradients of a gram"),):
        raise ProblemError(f"gram is of losses(...) or loss(...) of '{theta}', or of domains, not of '{side}'")
    return side


def tokens(theta: Expr, name: str = "train") -> Expr:
    """Token losses of a model on the batch drawn, in nats; fold them into domains with ``domain_mean``."""
    return Expr("tokens", (_model(theta, "tokens"),), (TOKENS,), None, _named(name, "loss"))


def domain_mean(values: Expr, domains: Domains | Sequence[str]) -> Expr:
    """The mean over each domain's tokens [k] of a vector of token values."""
    index = domains if isinstance(domains, Domains) else Domains(domains)
    if number(values, "domain_mean").shape != (TOKENS,):
        raise ProblemError(
            f"domain_mean folds token values into domains, but {shown(values)} is no vector of tokens; build it from tokens(theta)"
        )
    return Expr("domain_mean", (values,), (len(index),), index.names)


def surrogate(value: Expr, *, gradient: Expr) -> Expr:
    """One payoff with two views: the weights see ``value``, the model follows the gradient of ``gradient``.

    DoReMi (arXiv 2305.10429, Algorithm 1) needs it: its weights see the clipped excess, its model descends the plain loss.
    """
    value, gradient = expression(value), expression(gradient)
    shape, index = joint(value, gradient, "surrogate({}, gradient={})")
    if value.shape != gradient.shape:
        raise ProblemError(f"the two views of a surrogate have different shapes: {shown(value)} and {shown(gradient)}")
    return Expr("surrogate", (value, gradient), shape, index)


def mass(w: Expr, group: Sequence[str]) -> Expr:
    """The total weight of a group of domains [].

    Raises:
        ProblemError: a single name for a list of them, or a name that occurs twice.
    """
    if isinstance(group, str):
        raise ProblemError(f"a group is a list of names, not the single text {group!r}; write [{group!r}]")
    names = list(group)
    twice = sorted({str(n) for n in names if names.count(n) > 1})
    if twice:
        raise ProblemError(f"the group names {listed(twice)} more than once; its mass counts each domain once")
    return Expr("sum", (w[names],))


def domains_of(w: Expr) -> Domains:
    """The domains that a mixture symbol is over."""
    if not isinstance(w, Expr) or w.op not in ("mixture", "stages"):
        raise ProblemError(f"'{w}' is no mixture; give the symbol made by Mixture(domains)")
    index: Domains = w.data[1]
    return index


def _model(theta: Expr, where: str) -> Expr:
    if not isinstance(theta, Expr) or theta.op not in MODELS:
        raise ProblemError(f"{where} are of a model, but '{theta}' is none; give the symbol made by model(), argmin(...) or trained(...)")
    return theta


def _named(name: str, kind: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ProblemError(f"a {kind}'s name is a text that is not empty, not {name!r}")
    return name
