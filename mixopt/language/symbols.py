"""Symbols: mixtures, models, parameters, and the losses of a model on domains."""

from __future__ import annotations

from collections.abc import Sequence

from mixopt.errors import ProblemError, listed

from .domains import Domains
from .expression import TOKENS, Expr, expression, joint, number, shown

MODELS = ("model", "argmin")


def Mixture(domains: Domains | Sequence[str], name: str = "w") -> Expr:  # noqa: N802
    """The weights of the domains [k], a point of the simplex: every entry >= 0, sum 1; no constraint need say so.

    >>> w = Mixture(Domains(["web", "code", "books"]))
    >>> w["code"], w[["code", "books"]]
    (<scalar: w[code]>, <2: w[code, books]>)
    """
    index = domains if isinstance(domains, Domains) else Domains(domains)
    return Expr("mixture", (), (len(index),), index.names, (_named(name, "mixture"), index))


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
    if not isinstance(w, Expr) or w.op != "mixture":
        raise ProblemError(f"'{w}' is no mixture; give the symbol made by Mixture(domains)")
    index: Domains = w.data[1]
    return index


def _model(theta: Expr, where: str) -> Expr:
    if not isinstance(theta, Expr) or theta.op not in MODELS:
        raise ProblemError(f"{where} are of a model, but '{theta}' is none; give the symbol made by model() or argmin(...)")
    return theta


def _named(name: str, kind: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ProblemError(f"a {kind}'s name is a text that is not empty, not {name!r}")
    return name
