"""Binding: the losses and parameters that a form asks for, met with what the learner and the user give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixopt.errors import InputError, LearnerError, listed, nearest
from mixopt.forms import Abilities, Form, Program, Provided, expressions, given_models, measurements, parameters
from mixopt.language.expression import Expr, shown

Order = tuple[int, ...] | None


def bind_losses(form: Form, abilities: Abilities | None) -> dict[Expr, Order]:
    """For each loss of the form, the positions that put the learner's vector into the problem's order (None: as it is).

    Raises:
        LearnerError: no learner, a loss that it does not provide, a vector for a scalar, domains that are not there.
    """
    needed = measurements(form)
    if abilities is None:
        if not needed and isinstance(form, Program):
            return {}
        what = f"has {listed([f'{n.op} {n.data!r}' for n in needed])} of a model" if needed else "trains a model"
        raise LearnerError(f"the problem {what}, so it needs a learner; give a FunctionLearner or a TorchLearner as the second argument")
    return {node: _order(node, abilities) for node in needed}


def _order(node: Expr, abilities: Abilities) -> Order:
    name: str = node.data
    known = abilities.provides
    if name not in known:
        raise LearnerError(f"the problem needs {node.op} {name!r}, but the learner provides {listed(known)}{nearest(name, known)}")
    has: Provided = known[name]
    if node.op == "tokens":
        if not has.tokens:
            raise LearnerError(
                f"the problem needs token losses {name!r}, but the learner has only their means; use losses(...), or a TorchLearner"
            )
        return None
    if node.op == "loss":
        if has.size is not None:
            raise LearnerError(
                f"loss(theta, {name!r}) is a scalar, but the learner's {name!r} is a vector [{has.size}]; "
                f"write losses(theta, domains, name={name!r})"
            )
        return None
    wanted = node.index or ()
    if has.size is None:
        raise LearnerError(f"{shown(node)} is a vector, but the learner's {name!r} is a scalar; write loss(theta, {name!r})")
    if has.names is None:
        if has.size != len(wanted):
            raise LearnerError(f"shapes do not fit: {shown(node)}, but the learner's {name!r} has [{has.size}] entries")
        return None
    missing = [d for d in wanted if d not in has.names]
    if missing:
        raise LearnerError(f"the learner's {name!r} has no domain {missing[0]!r}, only {listed(has.names)}{nearest(missing[0], has.names)}")
    return None if wanted == has.names else tuple(has.names.index(d) for d in wanted)


def bind_tokens(form: Form, abilities: Abilities | None) -> None:
    """Token losses fold into the learner's own domains, so the two must be in one order.

    Raises:
        LearnerError: ``domain_mean(..., domains)`` names other domains than the learner measures.
    """
    for expr in expressions(form):
        for node in expr.walk():
            if node.op != "domain_mean" or abilities is None:
                continue
            for inner in node.walk():
                names = abilities.provides[inner.data].names if inner.op == "tokens" else node.index
                if names != node.index:
                    raise LearnerError(
                        f"domain_mean is over {listed(node.index or ())}, but the learner's {inner.data!r} is over {listed(names or ())}"
                    )


def bind_given(form: Form, given: Mapping[str, Any] | None) -> tuple[dict[str, np.ndarray], dict[Expr, Any]]:
    """The given numbers of every parameter, checked, and the given parameters of every model that is not trained.

    Raises:
        InputError: a value that is missing, left over, of another shape, negative where it must not be, or not finite.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"given is a dict from the names of parameters and models to their values, not a {type(given).__name__}")
    values = dict(given or {})
    symbols = [*parameters(form), *given_models(form)]
    twice = sorted({str(s) for s in symbols if [str(t) for t in symbols].count(str(s)) > 1})
    if twice:
        raise InputError(f"two different symbols are named {listed(twice)}, so given={{...}} cannot tell them apart; rename one")
    wanted = {p.data[0]: p for p in parameters(form)}
    models = {str(m): m for m in given_models(form)}
    missing = [n for n in (*wanted, *models) if n not in values]
    if missing:
        raise InputError(f"given={{...}} lacks {listed(missing)}, which the problem uses")
    extra = [n for n in values if n not in wanted and n not in models]
    if extra:
        raise InputError(f"given={{...}} has {listed(extra)}, which the problem does not use{nearest(extra[0], (*wanted, *models))}")
    numbers = {n: _number(p, values[n]) for n, p in wanted.items()}
    return numbers, {m: values[n] for n, m in models.items()}


def _number(symbol: Expr, value: Any) -> np.ndarray:
    name, nonneg = symbol.data
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"the given value of {name!r} is {value!r}, which is not numbers of shape {list(symbol.shape or ())}") from None
    if array.shape != symbol.shape:
        raise InputError(f"parameter {name!r} has shape {list(symbol.shape or ())}, but the given value has shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InputError(f"the given value of {name!r} is NaN or infinite: {array}")
    if nonneg and (array < 0).any():
        raise InputError(f"parameter {name!r} is declared nonneg, but the given value is {array}")
    return array
