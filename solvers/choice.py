"""Which engine a bilevel problem gets without being told: a short table, printed with the plan."""

from __future__ import annotations

from mixopt.forms import Abilities, Bilevel, Form

ROWS = (
    ("the problem is on trained(..., steps=K)", "Unrolled"),
    ("exact losses with second derivatives", "Implicit"),
    ("batches, with a forward mode", "Implicit, Gauss-Newton, damped"),
    ("batches, second derivatives but no forward mode", "Unrolled, one step"),
    ("first derivatives alone", "ValueFunction"),
)
"""When, and which engine; as ``solvers.table`` decides. Source: section B.2 of the survey."""


def printed(form: Form, abilities: Abilities | None, chosen: str | None) -> str:
    """The table with a mark at the engine chosen by it; empty for what is no bilevel problem."""
    if not isinstance(form, Bilevel):
        return ""
    exact = abilities is None or abilities.exact
    here = {"Unrolled": 0 if form.steps else 3, "Implicit": 1 if exact else 2, "ValueFunction": 4}.get(chosen or "")
    width = max(len(when) for when, _ in ROWS)
    lines = [f"          {when.ljust(width)}  {engine}{'  <- here' if i == here else ''}" for i, (when, engine) in enumerate(ROWS)]
    return "\n".join(["without solver=... the first that fits:", *lines])


def fused(form: Form, abilities: Abilities | None) -> tuple[str, ...]:
    """What becomes of fused attention in a bilevel problem, in words."""
    if abilities is None or not abilities.fused or not isinstance(form, Bilevel):
        return ()
    if abilities.double_backward:
        return (
            "the module's fused attention has no second derivatives, so hypergradients run on attention's math kernel; training does not",
        )
    return (
        "the module has no second derivatives even on attention's math kernel; ValueFunction needs none, nor does Unrolled(steps=1) "
        "where there is a forward mode",
    )
