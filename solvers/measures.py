"""What the payoff of a saddle measures of models, under the names by which a schedule's ``observe`` takes them."""

from __future__ import annotations

from collections.abc import Sequence

from mixopt.forms import Saddle
from mixopt.language.expression import Expr
from mixopt.rules import Need

TAKEN = ("losses", "loss", "domain_mean", "gram")


def measures(form: Saddle) -> dict[str, tuple[Expr, Need]]:
    """The outermost measured nodes of the payoff by name, each with what it is in words.

    Losses of the trained model have their own name, those of another model its name; means of token losses that are more than one loss
    are an "excess", inner products of gradients a "gram".
    """
    found: dict[str, tuple[Expr, Need]] = {}
    outer = list(dict.fromkeys(_outermost(form.payoff)))
    for node in outer:
        need = _need(node, form, outer, found)
        found[need.name] = (node, need)
    return found


def _outermost(expr: Expr) -> list[Expr]:
    """The measured nodes that stand in no other measured one."""
    return [expr] if expr.op in TAKEN else [node for arg in expr.args for node in _outermost(arg)]


def _need(node: Expr, form: Saddle, outer: Sequence[Expr], used: dict[str, tuple[Expr, Need]]) -> Need:
    """The need that a measured node is."""
    if node.op == "gram":
        names: list[tuple[str, ...] | None] = [side.index or () for side in node.args if side.shape]
        return Need(_free("gram", used), f"inner products of gradients, {node}", names[0], [*names, None][1], each=False)
    inner = node.args[0] if node.op == "domain_mean" else node
    if inner.op in ("losses", "loss", "tokens"):
        model, name = inner.args[0], inner.data
        if model != form.theta:
            several = len({n.data for n in outer if n.op in ("losses", "loss") and n.args[0] == model}) > 1
            name = f"{model}_{name}" if several else str(model)
        what = "mean loss" if node.op == "loss" else "mean losses by domain"
        return Need(_free(name, used), f"{what} of '{model}' on {inner.data!r}, in nats per token", node.index)
    return Need(_free("excess", used), f"the mean over each domain's tokens of {inner}, in nats per token", node.index)


def _free(name: str, used: dict[str, tuple[Expr, Need]]) -> str:
    """The name, with a number where it is taken."""
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, 100))) if n not in used)
