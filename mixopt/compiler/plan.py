"""Plans: the form of a problem, the route to it, the solver that takes it, and every other one's reason for refusing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mixopt.errors import listed
from mixopt.forms import Abilities, Bilevel, Form, Program, Saddle, expressions, unknowns
from mixopt.language.curvature import curvature
from mixopt.language.expression import Expr
from mixopt.language.history import histories
from mixopt.language.ops import OPS
from mixopt.language.problem import Problem
from mixopt.notebook import table


def route(problem: Problem, form: Form) -> tuple[str, ...]:
    """What was done to the problem on the way to its form, in words."""
    steps = []
    if isinstance(form, Program):
        steps.append(f"program in {_named(unknowns(form))}: {_bend(curvature(form.objective))} objective, {_count(form)}")
    elif isinstance(form, Saddle):
        steps.append(
            f"saddle: '{form.theta}' descends, '{form.mixture}' ascends a payoff {_bend(curvature(form.payoff))} in it, {_count(form)}"
        )
        if form.payoff != form.descent and not form.maximised:
            steps.append(f"surrogate: '{form.mixture}' sees {form.payoff}; '{form.theta}' follows {form.descent}")
        kept = histories(expressions(form))
        if kept:
            steps.append(
                f"history: {', '.join(map(str, kept))} from step to step, {'a number' if len(kept) == 1 else 'numbers'} to gradients"
            )
    else:
        steps.append(f"bilevel: '{form.mixture}' above, '{form.theta}' below, {_count(form)}")
        if form.steps:
            steps.append(
                f"'{form.trained}': the outcome of {form.steps} training steps from the learner's start, another problem than the argmin"
            )
    if form.maximised:
        steps.insert(0, "maximise f -> minimise -f")
    return tuple(steps)


def biased(form: Form, abilities: Abilities | None) -> tuple[str, ...]:
    """Where a nonlinear operation of a sampled loss makes its estimate biased."""
    if abilities is None or abilities.exact:
        return ()
    notes = []
    for expr in expressions(form):
        sampled: set[object] = set()
        for node in expr.walk():
            if node.op in ("losses", "loss", "tokens"):
                sampled.add(node)
                continue
            touched = [a for a in node.args if a in sampled]
            if not touched:
                continue
            sampled.add(node)
            op = OPS[node.op]
            bent = (
                node.op == "gram"
                or op.shape in ("convex", "concave", "power", "opaque")
                or (op.shape in ("product", "quotient") and len(touched) > 1)
            )
            token_level = any(a.shape == (-1,) for a in node.args)
            if bent and not token_level:
                notes.append(f"'{node}' bends a loss that is estimated on a batch, so its estimate is biased; larger batches reduce it")
    return tuple(dict.fromkeys(notes))


def repeated(form: Form, abilities: Abilities | None) -> tuple[str, ...]:
    """Where the upper level of a bilevel problem is measured on what the lower level trains on."""
    if abilities is None or not isinstance(form, Bilevel):
        return ()
    upper, lower = ({n.data for n in e.walk() if n.op in ("losses", "loss", "tokens")} for e in (form.upper, form.lower))
    notes = []
    for one, other, domains in abilities.repeated:
        for above, below in ((one, other), (other, one)):
            if above in upper and below in lower:
                notes.append(
                    f"{above!r} holds the training tokens of {listed(domains)}, the same as {below!r}: the upper level rewards what is "
                    "memorised; hold other tokens out for it"
                )
    return tuple(notes)


SMOOTH = {
    "max": "mx.logsumexp(x, t) for mx.max(x) is smooth, and at most t log n above it",
    "min": "-mx.logsumexp(-x, t) for mx.min(x) is smooth, and at most t log n below it",
    "pos": "mx.softplus(x / t) * t for mx.pos(x) is smooth, and at most t log 2 above it",
    "abs": "mx.huber(x, t) / t for mx.abs(x) is smooth, and at most t / 2 below it",
}
"""What takes the place of a kink, with how far it is from it."""


def kinked(form: Form) -> tuple[str, ...]:
    """Where the upper objective of a bilevel problem has a kink, at which descent along its gradient can stall, with the mend."""
    nodes = form.upper.walk() if isinstance(form, Bilevel) else ()
    kinks = [
        n for n in nodes if not OPS[n.op].smooth and any(leaf.op not in ("constant", "parameter") for leaf in n.walk() if not leaf.args)
    ]
    return tuple(
        f"the upper objective has a kink at '{n}', where descent can stall away from the optimum; read the check"
        + (f". {SMOOTH[n.op]}" if n.op in SMOOTH else "")
        for n in kinks
    )


def _named(symbols: tuple[Expr, ...]) -> str:
    return f"'{symbols[0]}'" if len(symbols) == 1 else listed(symbols)


def _bend(bend: str) -> str:
    return "neither convex nor concave" if bend == "unknown" else bend


def _count(form: Form) -> str:
    n = len(form.constraints)
    return "no constraint beyond the simplex" if n == 0 else f"{n} constraint{'s' if n > 1 else ''} beyond the simplex"


@dataclass(frozen=True)
class Choice:
    """What a plan prints: the problem's text, its form and route, the chosen solver, and the refusals by solver."""

    problem: str
    form: str
    route: tuple[str, ...]
    chosen: str | None
    refusals: Mapping[str, tuple[str, ...]]
    also: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    engines: str = ""
    """Of a bilevel problem: the table by which its engine was chosen."""

    def __str__(self) -> str:
        lines = ["Problem", *("  " + line for line in self.problem.splitlines()), f"Form    {self.form}"]
        lines += [f"{'Route   ' if i == 0 else '        '}{step}" for i, step in enumerate(self.route)]
        lines.append(f"Solver  {self.chosen or 'none takes it'}")
        lines += [f"        {name} would take it too" for name in self.also]
        for name, reasons in self.refusals.items():
            lines += [f"        {name} refuses: {reasons[0]}", *(f"        {' ' * len(name)} and: {r}" for r in reasons[1:])]
        lines += [f"Engine  {self.engines}"] if self.engines else []
        lines += [f"Note    {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [("form", self.form), *(("route", step) for step in self.route), ("solver", self.chosen or "none takes it")]
        rows += [("would take it too", name) for name in self.also]
        rows += [(f"{name} refuses", "; and ".join(reasons)) for name, reasons in self.refusals.items()]
        rows += [("engine", self.engines)] if self.engines else []
        return table(["", ""], rows, notes=self.notes)
