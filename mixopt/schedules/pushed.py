"""A saddle in push mode: its solver moves the weights by numbers that the user measures, and the model is trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, final

import numpy as np

from mixopt.compiler.linear import holds, terms
from mixopt.errors import ProblemError, RefusalError
from mixopt.forms import Saddle
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.language.history import histories
from mixopt.language.symbols import parameter
from mixopt.rules import Need, Rule, Scene, Seen, Standing
from mixopt.runtime.history import moved
from mixopt.runtime.program import Function
from mixopt.solver import Solver, Task
from mixopt.solvers import BestResponse, DescentAscent
from mixopt.solvers.measures import measures
from mixopt.solvers.saddle import Climbing, Look


@final
class PushedSaddle(Rule):
    """A saddle whose losses are observed: what the payoff measures of models are its needs, as are parameters without a number.

    The weights move by the very half step that the solver takes when it trains the model itself. What it knows of a batch is what
    was measured since the last move; where that lacks a domain, the solver's ``absent`` says what counts.
    """

    def __init__(self, form: Saddle, solver: DescentAscent | BestResponse, given: Mapping[str, np.ndarray]):
        self.form, self.solver = form, solver
        payoff = _weighed(form)
        self._needs, stand_ins = _measures(replace(form, payoff=payoff), given)
        self._payoff = _Payoff(_replaced(payoff, stand_ins), form.mixture, given)

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        return self._needs

    def begin(self, scene: Scene) -> Standing:
        return Standing(scene.start, {**vars(Climbing()), "past": []})

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        task = Task(self.form, scene.region, scene.start, scene.given, scene.seed)
        before = Climbing(**{name: entry for name, entry in at.memory.items() if name != "past"})
        value, ascent, past = self._payoff(at.weights, seen.values, at.memory["past"])
        look = Look(None, value, ascent, self._there(scene, seen))
        after, _, weights = self.solver.climbed(task, before, at.weights, look)
        return Standing(weights, {**vars(after), "taken": after.taken + 1, "past": past}, {"value": value})

    def _there(self, scene: Scene, seen: Seen) -> np.ndarray | None:
        """Which domains [k] every need by domain was measured of; None where all."""
        by_domain = [seen.present[n.name] for n in self._needs if n.names == scene.domains.names and n.columns is None]
        there = np.logical_and.reduce(by_domain) if by_domain else np.array(True)
        return None if there.all() else there


def pushed(form: Saddle, solver: Solver, given: Mapping[str, np.ndarray]) -> PushedSaddle:
    """The rule of a saddle and its solver.

    Raises:
        RefusalError: a solver whose steps need more than one look at the losses, or restarts, which need the model.
        ProblemError: a payoff that weighs the model's size, or measures what has the name of one of its parameters.
    """
    if not isinstance(solver, (DescentAscent, BestResponse)):
        name = type(solver).__name__
        raise RefusalError(f"{name} looks at the model more than once a step, a schedule once; take DescentAscent or BestResponse")
    if isinstance(solver, DescentAscent):
        if solver.restart is not None:
            raise RefusalError("in a schedule the model is the user's, so there is no restart from its mean; leave restart out")
        solver = replace(solver, every=1)  # the schedule says when
    return PushedSaddle(form, solver, given)


class _Payoff:
    """A payoff as a function of weights [k], of numbers by name and of what its histories kept."""

    def __init__(self, payoff: Expr, mixture: Expr, given: Mapping[str, np.ndarray]):
        nodes = histories((payoff,))  # inner ones first
        self._given, self._nodes = dict(given), nodes
        stand_ins = {node: _stand_in(_observed(f"history {i}"), node) for i, node in enumerate(nodes)}
        self._names = [str(symbol.data[0]) for symbol in stand_ins.values()]
        self._of = [Function(_replaced(node.args[0], stand_ins), mixture, {}) for node in nodes]
        self._value = Function(_replaced(payoff, stand_ins), mixture, {})

    def __call__(self, w: np.ndarray, seen: Mapping[str, np.ndarray], past: Sequence[Any]) -> tuple[float, np.ndarray, list[Any]]:
        """The value, its gradient [k] in the weights, and what the histories keep for the next step; ``past`` is empty at the first."""
        numbers, kept = {**self._given, **{_observed(name): value for name, value in seen.items()}}, []
        for node, name, of, last in zip(self._nodes, self._names, self._of, past or [None] * len(self._nodes), strict=True):
            numbers[name], left = moved(node, last, of.with_numbers(numbers).value(w))
            kept.append(left)
        return *self._value.with_numbers(numbers).value_and_gradient(w), kept


def _weighed(form: Saddle) -> Expr:
    """The summands of the payoff that the weights enter; the others do not move them."""
    found = [term if sign > 0 else -term for sign, term in terms(form.payoff) if holds(term, form.mixture)]
    if not found:
        raise ProblemError(f"the weights do not enter the payoff {form.payoff}, so it cannot move them")
    return reduce(add, found)


def _measures(form: Saddle, given: Mapping[str, Any]) -> tuple[tuple[Need, ...], dict[Expr, Expr]]:
    """What the payoff measures, and parameters without a number, as needs; and the parameter that stands for each in the payoff."""
    found, nodes = measures(form), tuple(form.payoff.walk())
    own = {
        n: Need(n.data[0], "a number of the problem", _entries(n), each=False)
        for n in nodes
        if n.op == "parameter" and n.data[0] not in given
    }
    if twice := [need.name for need in own.values() if need.name in found]:
        raise ProblemError(f"the payoff measures {twice[0]!r}, and has a parameter of that name without a number; rename the parameter")
    if any(n.op == "model_sum_squares" for n in nodes):
        raise RefusalError(f"a schedule does not see the model, whose size {form.payoff} weighs; leave it out, or make it a summand apart")
    every = {**dict(found.values()), **own}
    return tuple(every.values()), {node: _stand_in(_observed(need.name), node) for node, need in every.items()}


def _entries(symbol: Expr) -> tuple[str, ...] | None:
    return tuple(str(i) for i in range(symbol.shape[0])) if symbol.shape else None


def _observed(name: str) -> str:
    """The name of the parameter that stands for a need, unlike any that a user gives."""
    return f"\0{name}"


def _stand_in(name: str, node: Expr) -> Expr:
    return replace(parameter(name), shape=node.shape, index=node.index)


def _replaced(expr: Expr, by: Mapping[Expr, Expr]) -> Expr:
    if expr in by:
        return by[expr]
    args = tuple(_replaced(arg, by) for arg in expr.args)
    return expr if args == expr.args else replace(expr, args=args)
