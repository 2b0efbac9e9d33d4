"""Online rules as a solver: a rule moves the weights by what each batch measures, while the learner's model trains under them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form, Saddle, kind
from mixopt.language.expression import Expr
from mixopt.language.symbols import domains_of
from mixopt.rules import Rule, Scene, Seen, Standing
from mixopt.rules.rule import filled
from mixopt.runtime.evaluate import Lowered
from mixopt.runtime.tree import Leaves
from mixopt.solver import Average, Pace, Solver, State, Task

from .constraints import refuses_region
from .measures import measures
from .steps import check_counts, hosted
from .trainee import Trainee, begun


@dataclass(frozen=True)
class _Memory(Trainee):
    scene: Scene
    at: Standing
    measure: dict[str, Lowered]
    taken: int = 0
    last: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Online(Solver):
    """Training under an online ``rule``: the weights move by it every so many steps, and the model descends under them in between.

    ``mx.online`` takes the rule out of it and leaves the training to the user; this is the same rule with a learner of ours, so that a
    method can be run and compared. At each move the rule's needs are measured on one stratified batch, the one that the model then
    descends under the new weights; a need is a loss, an excess or a gram of the payoff that has its name (``mixopt.solvers.measures``).

    The payoff tells what is measured. It is not what the rule maximises, unless the rule says so, so a check by its best response tells
    how far the weights are from that of the payoff and no more.

    Source: the rules name their own.

    Raises:
        InputError: no rule, an average or a count out of range.
    """

    rule: Rule
    every: int = 1
    average: Literal["mean", "last"] = "last"
    steps: int = 1000
    goes_on: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise InputError(f"the rule is {self.rule!r}; it is an online rule of mixopt.rules")
        if self.average not in ("mean", "last"):
            raise InputError(f"the average is {self.average!r}; it is 'mean' or 'last'")
        check_counts(self, steps=1, every=1)

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Saddle):
            return (f"it takes saddles, and this is a {kind(form)}",)
        return tuple(self._against(form, abilities))

    def _against(self, form: Saddle, abilities: Abilities | None) -> Iterator[str]:
        known = measures(form)
        for need in self.rule.needs(domains_of(form.mixture)):
            if need.name not in known and not need.optional:
                has = f"measures {', '.join(known) or 'nothing'}"
                yield f"{type(self.rule).__name__} needs {need}, and the payoff {has}; write it into the payoff, or give it to mx.online"
        yield from refuses_region(form.constraints)

    def rewrites(self, form: Form) -> tuple[str, ...]:
        return (f"the weights move by {type(self.rule).__name__}, not along the payoff",)

    def pace(self, task: Task) -> Pace:
        assert task.model is not None
        average: Average = self.average
        return Pace(self.steps, 1 if task.model.exact else 25, average)

    def begin(self, task: Task) -> State:
        assert isinstance(task.form, Saddle)
        trainee = begun(task)
        model = trainee[0]
        scene = Scene(domains_of(task.form.mixture), task.region, task.start, task.given, task.seed)
        known: dict[str, Expr] = {name: node for name, (node, _) in measures(task.form).items()}
        wanted = [n.name for n in self.rule.needs(scene.domains) if n.name in known]
        lowered = {name: Lowered((known[name],), model.device, (task.form.theta,)) for name in wanted}
        at = self.rule.allowed(scene, self.rule.begin(scene))
        return State(model.weights(at.weights), _Memory(*trainee, scene, at, lowered))

    def step(self, task: Task, state: State) -> State:
        memory: _Memory = state.memory
        model, w = memory.model, state.weights
        env = model.env(w, memory.leaves, model.learner.draw(memory.draw), state.past)
        with torch.no_grad():
            value = model.first(env)[0].detach()
        env = replace(env, measured={})
        if memory.taken % self.every == 0:
            memory = self._moved(memory, env)
            w = model.weights(memory.at.weights)
        at = env.at(w, model.draw(w, memory.draw) if model.drawn else None)
        memory.optimizer.zero_grad()
        model.second(at)[0].backward()
        model.meter.gradients += 1
        memory.optimizer.step()
        info = {"value": value, "losses": model.domain_losses(at).detach(), **_numbers(memory.at.info)}
        return State(w, replace(memory, taken=memory.taken + 1), info, past=env.kept or state.past)

    def leaves(self, state: State) -> Leaves:
        found: Leaves = state.memory.leaves
        return found

    def _moved(self, memory: _Memory, env: Any) -> _Memory:
        """The memory after the rule's move by what this batch measures."""
        model = memory.model
        there = model.present(env)
        found, present, last = {}, {}, {}
        for name, lowered in memory.measure.items():
            value = hosted(lowered(env)[0].detach())
            present[name] = np.ones(value.shape, dtype=bool)
            if there is not None and value.shape == tuple(there.shape):
                present[name] = there.cpu().numpy()
            found[name], last[name] = filled(value, present[name], memory.last.get(name))
        seen = Seen(found, present, memory.taken // self.every, memory.taken + 1, float(model.meter.tokens))
        at = self.rule.allowed(memory.scene, self.rule.move(memory.scene, memory.at, seen))
        return replace(memory, at=at, last=last)


def _numbers(info: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, dtype=float) for name, value in info.items() if name != "value"}
