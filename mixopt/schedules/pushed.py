"""A saddle in push mode: its solver moves the weights by numbers that the user measures, and the model is trained elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor

from mixopt.errors import RefusalError
from mixopt.forms import Abilities, Provided, Saddle
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr
from mixopt.language.symbols import loss, parameter
from mixopt.rules import Memory, Need, Rule, Scene, Seen, Standing
from mixopt.runtime.history import restored, saved
from mixopt.runtime.learner import Batch, Learner
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves
from mixopt.solver import Solver, State, Task
from mixopt.solvers import BestResponse, DescentAscent
from mixopt.solvers.measures import measures
from mixopt.solvers.saddle import Playing, SaddleSolver

NOTHING = "nothing"


@final
class PushedSaddle(Rule):
    """A saddle whose losses are observed: what the payoff measures of models are its needs, as are parameters without a number.

    The weights move by the very step that the solver takes when it trains the model itself. What it knows of a batch is what
    was measured since the last move; where that lacks a domain, the solver's ``absent`` says what counts.
    """

    def __init__(self, form: Saddle, solver: SaddleSolver, given: Mapping[str, np.ndarray]):
        self.form, self.solver, self.given = form, solver, dict(given)
        self._needs, payoff = _measures(form, given)
        self._form = replace(form, payoff=payoff, descent=loss(form.theta, NOTHING))
        self._task: Task | None = None
        self._fresh = State(np.empty(0))

    def needs(self, domains: Domains) -> tuple[Need, ...]:
        return self._needs

    def begin(self, scene: Scene) -> Standing:
        model = _Pushed(self._form, {**self.given, **{n.name: np.zeros(n.shape) for n in self._needs}})
        self._task = Task(self._form, scene.region, scene.start, self.given, scene.seed, model)
        self._fresh = self.solver.begin(self._task)
        return Standing(scene.start, _plain(self._fresh, model))

    def move(self, scene: Scene, at: Standing, seen: Seen) -> Standing:
        assert self._task is not None
        model = self._task.model
        assert isinstance(model, _Pushed)
        model.see(seen)
        state = self.solver.step(self._task, _state(self._fresh, at, model))
        return Standing(state.weights.double().cpu().numpy(), _plain(state, model), {"value": float(state.info["value"])})


def pushed(form: Saddle, solver: Solver, given: Mapping[str, np.ndarray]) -> PushedSaddle:
    """The rule of a saddle and its solver.

    Raises:
        RefusalError: a solver whose steps need more than one look at the losses, or restarts, which need the model.
    """
    if not isinstance(solver, (DescentAscent, BestResponse)):
        name = type(solver).__name__
        raise RefusalError(f"{name} looks at the model more than once a step, a schedule once; take DescentAscent or BestResponse")
    if isinstance(solver, DescentAscent):
        if solver.restart is not None:
            raise RefusalError("in a schedule the model is the user's, so there is no restart from its mean; leave restart out")
        solver = replace(solver, every=1)  # the schedule says when
    return PushedSaddle(form, solver, given)


def _measures(form: Saddle, given: Mapping[str, Any]) -> tuple[tuple[Need, ...], Expr]:
    """What the payoff measures, as needs, and the payoff in which a parameter of the need's name stands for each."""
    found = measures(form)
    free = [p for p in dict.fromkeys(form.payoff.walk()) if p.op == "parameter" and p.data[0] not in given]
    own = tuple(Need(p.data[0], "a number of the problem", _entries(p), each=False) for p in free)
    stand_ins = {node: replace(parameter(name), shape=node.shape, index=node.index) for name, (node, _) in found.items()}
    return (*(need for _, need in found.values()), *own), _replaced(form.payoff, stand_ins)


def _entries(symbol: Expr) -> tuple[str, ...] | None:
    return tuple(str(i) for i in range(symbol.shape[0])) if symbol.shape else None


def _replaced(expr: Expr, by: Mapping[Expr, Expr]) -> Expr:
    if expr in by:
        return by[expr]
    args = tuple(_replaced(arg, by) for arg in expr.args)
    return expr if args == expr.args else replace(expr, args=args)


class _Pushed(Modelled):
    """The model of a task whose measurements are numbers that are set before each step."""

    def __init__(self, form: Saddle, numbers: Mapping[str, np.ndarray]):
        super().__init__(form, _Nobody(), {}, numbers, {})
        self._numbers: dict[str, Tensor] = dict(self.bound.given)
        self.bound = replace(self.bound, given=self._numbers)
        self._there: Tensor | None = None

    def see(self, seen: Seen) -> None:
        """Take what was measured since the last step."""
        k, there = len(self.form.mixture), None
        for name, value in seen.values.items():
            self._numbers[name] = torch.from_numpy(np.ascontiguousarray(value))
            if seen.present[name].shape == (k,) and not seen.present[name].all():
                mine = torch.from_numpy(seen.present[name].copy())
                there = mine if there is None else there & mine
        self._there = there

    def present(self, env: Any) -> Tensor | None:
        return self._there


class _Nobody(Learner):
    """A learner of one parameter that nothing depends on: the model is trained elsewhere."""

    @property
    def abilities(self) -> Abilities:
        return Abilities({NOTHING: Provided(None, None)}, exact=False)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def start(self) -> Leaves:
        return (torch.zeros(1, dtype=torch.float64),)

    def leaves(self, given: Any) -> Leaves:
        return tuple(given)

    def tree(self, leaves: Leaves) -> Any:
        return leaves

    def store(self, leaves: Leaves) -> None:
        return

    def draw(self, generator: torch.Generator) -> Batch:
        return None

    def evaluation(self) -> Batch:
        return None

    def losses(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        return leaves[0].sum()

    def tokens(self, leaves: Leaves, name: str, batch: Batch) -> Tensor:
        return leaves[0]

    def gauss_newton(self, leaves: Leaves, name: str, batch: Batch, coefficients: Tensor) -> Callable[[Leaves], Leaves]:
        return lambda v: v

    def optimizer(self, leaves: Leaves) -> torch.optim.Optimizer:
        return cast(torch.optim.Optimizer, _Still())

    def second_order(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def tokens_of(self, batch: Batch, name: str) -> int:
        return 0


class _Still:
    """An optimizer that moves nothing, and takes no time for it."""

    def step(self) -> None:
        """No step."""

    def zero_grad(self) -> None:
        """No gradient."""


def _plain(state: State, model: Modelled) -> Memory:
    """What a solver's state keeps from step to step, as arrays and numbers."""
    play: Playing = state.memory
    return {
        "taken": play.taken,
        "squares": [float(x) for x in play.squares],
        "kept": None if play.kept is None else play.kept[0].double().cpu().numpy(),
        "scores": None if play.scores is None else play.scores.double().cpu().numpy(),
        "past": saved(model.histories, state.past),
    }


def _state(fresh: State, at: Standing, model: Modelled) -> State:
    """A solver's state again."""
    memory, play = at.memory, fresh.memory
    kept = None if memory["kept"] is None else (torch.from_numpy(memory["kept"]), (torch.zeros(1, dtype=torch.float64),))
    scores = None if memory["scores"] is None else torch.from_numpy(memory["scores"])
    past = restored(model.histories, memory["past"])
    playing = replace(play, taken=int(memory["taken"]), squares=tuple(memory["squares"]), kept=kept, scores=scores)
    return replace(fresh, weights=torch.from_numpy(np.array(at.weights)), memory=playing, past=past)
