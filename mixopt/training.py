"""Training at given weights: the second half of the offline pipeline, after weights have been found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from mixopt.compiler.binding import bind_given, bind_losses, bind_tokens
from mixopt.compiler.classify import classify
from mixopt.compiler.rewrites import rewritten
from mixopt.compiler.sampling import drawn
from mixopt.errors import InputError, ProblemError
from mixopt.forms import Abilities, Form, Program, Saddle, measurements
from mixopt.language.expression import Expr
from mixopt.language.history import live
from mixopt.language.problem import Problem
from mixopt.language.symbols import domains_of
from mixopt.method import Method
from mixopt.report.result import Cost, Result, Status, Trace
from mixopt.runtime.region import Region
from mixopt.solver import Budget, Pace, Solver, State, Task, Watch, run

if TYPE_CHECKING:
    from mixopt.runtime.learner import Learner
    from mixopt.runtime.modelled import Modelled


@final
@dataclass(frozen=True)
class Training:
    """A model trained at fixed weights.

    ``losses`` are those of the trained model under each of the learner's names, on its evaluation sample: a dict domain -> nats per
    token, or a number. ``parameters`` are the trained ones, as the learner keeps them; ``trace`` has the training loss by step.
    """

    weights: Mapping[str, float]
    losses: Mapping[str, dict[str, float] | float]
    parameters: Any
    status: Status
    trace: Trace
    cost: Cost
    message: str = ""

    def __str__(self) -> str:
        lines = [f"trained at fixed weights for {self.cost.steps} steps"]
        lines += [f"  {self.status.name}: {self.message or self.status.value}"] if self.status is not Status.BUDGET else []
        width = max(map(len, self.weights))
        lines += [f"  {name:<{width}}  {weight:.4f}" for name, weight in self.weights.items()]
        for name, found in self.losses.items():
            entries = found.items() if isinstance(found, dict) else [("", found)]
            lines += [f"  {name}{f'[{domain}]' if domain else ''} {loss:.4f}" for domain, loss in entries]
        return "\n".join([*lines, f"  cost: {self.cost}"])


def train(
    problem: Problem | Method | Expr,
    learner: Learner,
    weights: Result | Mapping[str, float] | Sequence[float] | np.ndarray,
    *,
    given: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    watch: Watch | None = None,
    inplace: bool = False,
) -> Training:
    """Train a copy of the learner's model at fixed weights, on what the problem's model minimises at them (survey, Algorithm 1).

    That is the lower level of a bilevel problem, the model's view of a saddle, or an expression such as ``w @ mx.losses(theta, domains)``,
    for weights that a law, a heuristic or another problem gave. Steps are the learner's optimizer on the learner's batches, 1,000
    without a budget; whether the weights draw the batches or weight their losses is the learner's ``sampling``.

    >>> import torch
    >>> import mixopt as mx
    >>> learner = mx.FunctionLearner(torch.zeros(1), {"train": lambda p: torch.cat([(p - 1) ** 2, (p + 1) ** 2])})
    >>> w, theta = mx.Mixture(["web", "code"]), mx.model()
    >>> done = mx.train(w @ mx.losses(theta, ["web", "code"]), learner, {"web": 0.75, "code": 0.25})
    >>> {name: round(loss, 3) for name, loss in done.losses["train"].items()}
    {'web': 0.25, 'code': 2.25}

    Raises:
        ProblemError: a problem that trains no model, or an expression without one mixture and one model.
        LearnerError: the learner does not provide a loss that is named.
        InputError: weights, numbers or a budget that do not fit.
    """
    form, names = _form(problem)
    if not hasattr(learner, "abilities"):
        raise InputError(f"the second argument is a learner, not {learner!r}")
    if budget is not None and not isinstance(budget, Budget):
        raise InputError(f"the budget is {budget!r}; give mx.Budget(steps=..., tokens=..., gradients=..., seconds=...)")
    task = _task(form, learner, weights, given, seed)
    assert task.model is not None
    outcome = run(_Fixed(), task, budget, watch)
    leaves = outcome.leaves if outcome.leaves is not None else learner.start()
    if inplace and outcome.leaves is not None:
        learner.store(leaves)
    own = dict(zip(form.mixture.index or (), task.start.tolist(), strict=True))
    losses = _losses(task.model, leaves, names)
    return Training(own, losses, learner.tree(leaves), outcome.status, outcome.trace, outcome.cost, outcome.message)


@final
@dataclass(frozen=True)
class _Fixed(Solver):
    """The weights stay, the model descends."""

    steps: int = 1000

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        return ()

    def pace(self, task: Task) -> Pace:
        assert task.model is not None
        return Pace(self.steps, 1 if task.model.exact else 25)

    def begin(self, task: Task) -> State:
        from mixopt.runtime.tree import copied

        model = task.model
        assert model is not None
        leaves = copied(model.learner.start(), trainable=True)
        return State(model.weights(task.start), (leaves, model.learner.optimizer(leaves), model.generator(task.seed)))

    def step(self, task: Task, state: State) -> State:
        leaves, optimizer, generator = state.memory
        model = task.model
        assert model is not None
        env = model.env(state.weights, leaves, model.draw(state.weights, generator), state.past)
        (value, *_) = model.first(env)
        optimizer.zero_grad()
        value.backward()
        model.meter.gradients += 1
        optimizer.step()
        return State(state.weights, state.memory, {"value": value.detach()}, past=env.kept)

    def leaves(self, state: State) -> Any:
        return state.memory[0]


def _form(problem: Problem | Method | Expr) -> tuple[Saddle, dict[str, tuple[str, ...] | None]]:
    """What the model minimises, as both views of a saddle whose weights stay; and the entries of all losses that the problem names."""
    problem = problem.problem if isinstance(problem, Method) else problem
    if isinstance(problem, Expr):
        symbols = {op: [n for n in problem.walk() if n.op == op] for op in ("mixture", "model")}
        trained = {n.args[0] for n in live(problem) if n.op in ("losses", "loss", "tokens")} & set(symbols["model"])
        if problem.shape != () or len(symbols["mixture"]) != 1 or len(trained) != 1:
            raise ProblemError(
                f"'{problem}' is no number with the losses of one model at the weights of one mixture; write w @ losses(theta, domains)"
            )
        alone = Saddle(symbols["mixture"][0], trained.pop(), problem, problem)
        return alone, _names(alone)
    form = classify(rewritten(problem).problem)
    if isinstance(form, Program):
        raise ProblemError("the problem is a program, which trains no model; give what it minimises, such as w @ losses(theta, domains)")
    objective = form.descent if isinstance(form, Saddle) else form.lower
    return Saddle(form.mixture, form.theta, objective, objective), _names(form)


def _names(form: Form) -> dict[str, tuple[str, ...] | None]:
    return {n.data: n.index for n in measurements(form) if n.op == "losses"}


def _task(form: Saddle, learner: Learner, weights: Any, given: Mapping[str, Any] | None, seed: int) -> Task:
    from mixopt.runtime.modelled import Modelled

    bind_tokens(form, learner.abilities)
    orders = bind_losses(form, learner.abilities)
    numbers, models = bind_given(form, given)
    w = domains_of(form.mixture).weights(weights.weights if isinstance(weights, Result) else weights)
    model = Modelled(form, learner, orders, numbers, models, drawn(form, learner.abilities))
    return Task(form, Region.compile(form.mixture, (), numbers), w, numbers, seed, model)


def _losses(model: Modelled, leaves: Any, own: Mapping[str, tuple[str, ...] | None]) -> dict[str, dict[str, float] | float]:
    """The losses under every name on the evaluation sample, by domain where they are vectors."""
    import torch

    found: dict[str, dict[str, float] | float] = {}
    with torch.no_grad():
        for name, has in model.learner.abilities.provides.items():
            values = model.learner.losses(leaves, name, model.learner.evaluation()).double().tolist()
            names = has.names or own.get(name) or [str(i) for i in range(has.size or 0)]
            found[name] = dict(zip(names, values, strict=True)) if isinstance(values, list) else values
    return found
