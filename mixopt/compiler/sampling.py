"""Sampling by weights: which losses of the model's objective stand as w @ losses, so that a batch drawn by w has that mean."""

from __future__ import annotations

from mixopt.errors import LearnerError, listed
from mixopt.forms import Abilities, Form, Program, Saddle
from mixopt.language.expression import Expr
from mixopt.language.history import live

from .linear import holds, terms

MEASURED = ("losses", "loss", "tokens")


def drawn(form: Form, abilities: Abilities | None) -> tuple[Expr, ...]:
    """The losses of the trained model that a training step reads from a batch drawn by weights or shares; none for a stratified one.

    Raises:
        LearnerError: the learner samples, and the model's objective is not w @ losses, or the losses are not among those it can draw so.
    """
    if abilities is None or abilities.sampling == "uniform" or isinstance(form, Program):
        return ()
    objective = form.descent if isinstance(form, Saddle) else form.lower
    found: dict[Expr, None] = {}
    others: set[str] = set()
    for sign, term in terms(objective):
        measured = [n for n in live(term) if n.op in MEASURED and n.args[0] == form.theta]
        if measured and _weighted(term, sign, form.mixture, form.theta):
            found |= dict.fromkeys(measured)
        elif measured and holds(term, form.mixture):
            raise _no(abilities, objective, f"its term '{term}' is not '{form.mixture} @ losses'", form)
        else:
            others |= {n.data for n in measured}
    names = dict.fromkeys(n.data for n in found)
    if not names:
        raise _no(abilities, objective, f"it has no '{form.mixture} @ losses'", form)
    twice = [n for n in names if n in others]
    if twice:
        raise _no(abilities, objective, f"the losses {listed(twice)} stand in it with '{form.mixture}' and without", form)
    away = [n for n in names if n not in abilities.sampled]
    if away:
        raise _no(abilities, objective, f"the shares given are not over the domains of {listed(away)}", form)
    return tuple(found)


def told(form: Form, abilities: Abilities | None) -> tuple[str, ...]:
    """How the weights act on the batches of a sampled learner, in words."""
    if abilities is None or abilities.exact or isinstance(form, Program):
        return ()
    w, theta = form.mixture, form.theta
    if abilities.sampling == "uniform":
        return (f"'{w}' weights the losses of '{theta}': each batch holds every domain alike",)
    by = f"'{w}', and their plain mean is descended" if abilities.sampling == "weights" else f"given shares q, and weighted by {w} / q"
    return (
        f"the windows that '{theta}' is trained on are drawn by {by}; what moves '{w}' is measured on batches that hold every domain alike",
    )


def _weighted(term: Expr, sign: int, w: Expr, theta: Expr) -> bool:
    """Whether a term is w @ losses, up to what the model has no part in."""
    if term.op != "matmul" or w not in term.args:
        return False
    (other,) = [a for a in term.args if a != w] or [w]
    return _plain(other, sign, theta)


def _plain(vector: Expr, sign: int, theta: Expr) -> bool:
    """Whether the model's losses are the summands of a vector, each with the factor 1."""
    for s, term in terms(vector, sign):
        if theta not in live(term):
            continue
        inner = term.op == "domain_mean" and _plain(term.args[0], s, theta)
        if not inner and not (s > 0 and term.op in MEASURED):
            return False
    return True


def _no(abilities: Abilities, objective: Expr, why: str, form: Form) -> LearnerError:
    how, w = "by the weights" if abilities.sampling == "weights" else "by given shares", form.mixture
    return LearnerError(
        f"the learner samples {how}, so the model's objective is to be '{w} @ losses', which the mean over a batch estimates, and terms "
        f"without '{w}'. It is '{objective}': {why}. Write it so, or give the learner sampling='uniform' (loss weighting)"
    )
