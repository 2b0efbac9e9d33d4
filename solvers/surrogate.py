"""Surrogate: a bilevel problem by a mixing law: train at designed mixtures, fit, optimise the law, and train at its optimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch

from mixopt.designs.kinds import Ask
from mixopt.designs.learning import Climb
from mixopt.designs.space import Space
from mixopt.errors import InputError, unknown
from mixopt.forms import Abilities, Bilevel, Form, Program, kind
from mixopt.language.expression import Expr, constant
from mixopt.language.symbols import domains_of
from mixopt.laws import LAWS, Law
from mixopt.report.result import Status
from mixopt.runs import Runs
from mixopt.runtime.batch import Batch
from mixopt.runtime.evaluate import Lowered
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied
from mixopt.solver import Pace, Solver, State, Task, run

from .bilevel import Trained
from .conic import Conic
from .implicit import Implicit
from .lagrangian import Lagrangian
from .projected import Projected
from .simulation import Simulation
from .unrolled import Unrolled

SOLVERS: tuple[Solver, ...] = (Conic(), Projected(), Lagrangian(), Simulation())
"""What optimises the law: the first that takes the program."""
MEASURED = ("losses", "loss", "model_sum_squares")


@dataclass(frozen=True)
class Surrogate(Solver):
    """Solve a bilevel problem as mixing laws do: train the lower level at each mixture of a design, measure the upper losses, fit
    ``law`` to these runs, minimise the upper objective with the law in their place, and train at the minimum.

    ``law`` is the name of a law (``laws.LAWS``) or the ``fit`` of one, called with ``Runs``. ``design`` is a number of mixtures, drawn
    uniformly from the simplex and moved into the constraints (3 (k + 1) without one, the start among them); mixtures [R, k]; or ``Runs``
    that were measured before, whose targets have the names of the upper losses (``val``, or ``val[code]`` for an entry of a vector).
    Each of ``rounds`` adds the law's optimum to the runs, and fits again. Several numbers, ``rounds=(32, 16)``, are CLIMB's rounds before
    one such optimum: so many mixtures each, drawn from those of ``designs.Climb``'s pool that the law calls best.

    With a sampled learner each mixture gets ``train`` optimizer steps from the learner's parameters, all on the same draws of batches;
    with an exact one the lower level is solved.

    A step is one trained mixture, and the answer is the best that was measured, be it of the design or a law's optimum; the message has
    what the law foretold. Ends SEARCHED. The check of an exact learner is the hypergradient's own, which no law was asked for.

    Source: section 3.3 of the survey (function fitting), with the proxies run by the solver itself; rounds by Diao et al. 2025, CLIMB,
    arXiv 2504.13161.
    """

    law: str | Callable[[Runs], Law] = "exponential"
    design: int | Sequence[Sequence[float]] | np.ndarray | Runs | None = None
    rounds: int | tuple[int, ...] = 1
    train: int = 1000
    solver: Solver | None = None

    def __post_init__(self) -> None:
        if isinstance(self.law, str) and self.law not in LAWS:
            raise unknown("law", self.law, LAWS)
        rounds = self.rounds if isinstance(self.rounds, tuple) else (self.rounds,)
        drawn = tuple(("rounds", n) for n in rounds)
        for name, value in (*drawn, ("train", self.train), ("design", self.design)):
            if isinstance(value, bool) or (isinstance(value, int) and value < 1) or (name != "design" and not isinstance(value, int)):
                raise InputError(f"Surrogate's {name} is {value!r}; it is a whole number >= 1")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Bilevel):
            return (f"it takes bilevel problems, and this is a {kind(form)}",)
        reasons = []
        if isinstance(self.law, str) and LAWS[self.law].needs:
            reasons.append(f"the law {self.law!r} depends on scales, and a bilevel problem has one; give a law of the mixture alone")
        odd = next((n for n in form.upper.walk() if form.trained in n.args and n.op not in MEASURED), None)
        if odd is not None:
            reasons.append(f"the upper objective uses '{odd}', and laws are fitted to losses(...) and loss(...)")
        if abilities is not None and abilities.exact and not abilities.double_backward and not form.steps:
            reasons.append("it solves an exact lower level by Newton steps, and the learner's losses cannot be differentiated twice")
        return tuple(reasons)

    def pace(self, task: Task) -> Pace:
        batches, last = self._turns
        return Pace(len(self._mixtures(task)) + sum(batches) + last, 1, "best")

    def begin(self, task: Task) -> State:
        model, form = task.model, task.form
        assert model is not None
        assert isinstance(form, Bilevel)
        own = tuple(n for n in form.upper.walk() if n.op in MEASURED and n.args[0] == form.trained)
        others = tuple(n for n in form.upper.walk() if n.op in MEASURED and n.args[0] != form.trained)
        first = Trained(model.learner.start(), np.inf)
        fixed = dict(zip(others, _measured(model, others, task.start, first.leaves), strict=True))
        return State(task.start, _Sweep(_Gauge(model, own, fixed), self._mixtures(task), self._known(form, own), first))

    def step(self, task: Task, state: State) -> State:
        sweep: _Sweep = state.memory
        number = len(sweep.values)
        if number < len(sweep.design):
            after = sweep.with_run(self._trained(task, sweep.design[number], sweep), sweep.design[number])
            return State(sweep.design[number], after, {"value": after.values[-1]})
        law, (batches, last) = self._law(task, sweep), self._turns
        if sweep.round < len(batches):
            more = self._drawn(task, sweep, law, batches[sweep.round])
            return self.step(task, replace(state, memory=sweep.with_round(more)))
        w, foretold = self._optimum(task, sweep, law)
        after = sweep.with_run(self._trained(task, w, sweep), w)
        done = number + 1 == len(sweep.design) + last
        said = self._said(task, law, after, foretold)
        return State(w, after, {"value": after.values[-1]}, Status.SEARCHED if done else None, said)

    def _said(self, task: Task, law: Law, sweep: _Sweep, foretold: float) -> str:
        sign = -1 if task.form.maximised else 1
        least = int(np.argmin(sweep.values))
        drawn = "a mixture of the rounds" if isinstance(self.rounds, tuple) else "a mixture of the design"
        which = drawn if least < len(sweep.design) else "a law's optimum"
        runs = int(law.fitted.runs.min())
        return (
            f"the {law.name} law of {runs} runs foretold {sign * foretold:.6g} at its optimum, which came to "
            f"{sign * sweep.values[-1]:.6g}; the best that was measured, {sign * sweep.values[least]:.6g}, is {which}"
        )

    def _mixtures(self, task: Task) -> np.ndarray:
        """The mixtures to train at [R, k]."""
        k, region = task.region.size, task.region
        if isinstance(self.design, Runs):
            return np.empty((0, k))
        if isinstance(self.rounds, tuple) and isinstance(self.design, int):
            return Climb().propose(_ask(task, self.design)).mixtures
        if self.design is not None and not isinstance(self.design, int):
            return np.array([domains_of(task.form.mixture).weights(row) for row in self.design])
        count = 3 * (k + 1) if self.design is None else self.design
        drawn = np.random.default_rng(task.seed).dirichlet(np.ones(k), count - 1)
        moved = drawn if region.kind == "simplex" else [region.layout.exact(region.project(row)) for row in drawn]
        return np.vstack([task.start[None], *np.atleast_2d(moved)]) if count > 1 else task.start[None]

    def _known(self, form: Bilevel, own: tuple[Expr, ...]) -> Runs | None:
        """The runs that were measured before, with the targets that the upper level has.

        Raises:
            InputError: a target of the upper level is not among theirs.
        """
        if not isinstance(self.design, Runs):
            return None
        for name in names_of(own):
            self.design.targets.index(name)
        domains_of(form.mixture).weights(dict.fromkeys(self.design.domains, 1 / len(self.design.domains)))
        return self.design

    def _law(self, task: Task, sweep: _Sweep) -> Law:
        """The law of all runs so far."""
        names, domains = names_of(sweep.gauge.own), domains_of(task.form.mixture)
        mixtures, metrics = list(sweep.mixtures), list(sweep.metrics)
        if sweep.known is not None:
            places = [sweep.known.targets.index(n) for n in names]
            order = [sweep.known.domains.index(n) for n in domains]
            mixtures = [*sweep.known.mixtures[:, order], *mixtures]
            metrics = [*sweep.known.metrics[:, places], *metrics]
        fit: Callable[[Runs], Law] = LAWS[self.law].fit if isinstance(self.law, str) else self.law  # type: ignore[attr-defined]
        return fit(Runs.from_arrays(domains, np.array(mixtures), names, np.array(metrics)))

    def _optimum(self, task: Task, sweep: _Sweep, law: Law) -> tuple[np.ndarray, float]:
        """The weights that the law calls best, and the upper value that it foretells there."""
        form = task.form
        assert isinstance(form, Bilevel)
        program = Program(form.mixture, foretelling(form, sweep.gauge, law), form.constraints, form.maximised)
        best = sweep.mixtures[int(np.argmin(sweep.values))] if sweep.values else task.start
        inner = Task(program, task.region, best, task.given, task.seed)
        takers = [s for s in ((self.solver,) if self.solver else SOLVERS) if not s.refuses(program, None)]
        if not takers:
            why = "; ".join((self.solver or SOLVERS[0]).refuses(program, None))
            raise InputError(f"the law's program is taken by no solver: {why}")
        found = run(takers[0], inner)
        w = best if found.weights is None else found.weights
        return w, float(inner.objective.value(w))

    @property
    def _turns(self) -> tuple[tuple[int, ...], int]:
        """How many mixtures each of CLIMB's rounds draws, and how many optima of the law come after them."""
        return (self.rounds, 1) if isinstance(self.rounds, tuple) else ((), self.rounds)

    def _drawn(self, task: Task, sweep: _Sweep, law: Law, count: int) -> np.ndarray:
        """The mixtures [count, k] of a round."""
        form = task.form
        assert isinstance(form, Bilevel)
        foretold = Batch(foretelling(form, sweep.gauge, law), task.region.layout, task.given)
        return Climb().better(_ask(task, count), np.array(sweep.mixtures), foretold).mixtures

    def _trained(self, task: Task, w: np.ndarray, sweep: _Sweep) -> Trained:
        """The lower level trained at these weights."""
        model = task.model
        assert model is not None
        assert isinstance(task.form, Bilevel)
        weights, steps = model.weights(w), task.form.steps
        if model.exact:
            return (Unrolled() if steps else Implicit()).trained(model, weights, sweep.near)
        leaves = copied(model.learner.start(), trainable=True)
        optimizer, draws = model.learner.optimizer(leaves), model.generator(task.seed)
        for _ in range(steps or self.train):
            optimizer.zero_grad()
            model.second(model.env(weights, leaves, model.draw(weights, draws)))[0].backward()
            model.meter.gradients += 1
            optimizer.step()
        return Trained(tuple(leaf.detach() for leaf in leaves), np.inf)

    def __str__(self) -> str:
        """The settings that are not the defaults, a table of runs or of mixtures by its size."""
        law = self.law if isinstance(self.law, str) else getattr(self.law, "__qualname__", "a function")
        told = {"law": repr(law), "design": self.design, "rounds": self.rounds, "train": self.train, "solver": self.solver}
        if isinstance(self.design, Runs):
            told["design"] = f"<{len(self.design)} runs>"
        elif self.design is not None and not isinstance(self.design, int):
            told["design"] = f"<{len(self.design)} mixtures>"
        plain = {"law": "'exponential'", "design": None, "rounds": 1, "train": 1000, "solver": None}
        return f"Surrogate({', '.join(f'{n}={v}' for n, v in told.items() if v != plain[n])})"

    def leaves(self, state: State) -> Leaves:
        found: Leaves = state.memory.near.leaves
        return found


@final
@dataclass(frozen=True)
class _Gauge:
    """What is measured of a trained model: its ``own`` losses in the upper objective; ``fixed`` are those of other models."""

    model: Modelled
    own: tuple[Expr, ...]
    fixed: Mapping[Expr, np.ndarray]

    def __call__(self, w: np.ndarray, leaves: Leaves) -> tuple[np.ndarray, float]:
        """The upper losses [m] and the upper value."""
        parts = _measured(self.model, self.own, w, leaves)
        batch = None if self.model.exact else self.model.learner.evaluation()
        with torch.no_grad():
            value = self.model.upper(self.model.weights(w), leaves, batch)
        return np.concatenate([np.atleast_1d(p) for p in parts]), float(value)


def _measured(model: Modelled, nodes: tuple[Expr, ...], w: np.ndarray, leaves: Leaves) -> list[np.ndarray]:
    """What these nodes are at weights [k] and parameters, on the evaluation sample where there is one."""
    batch = None if model.exact else model.learner.evaluation()
    with torch.no_grad():
        found = Lowered(nodes, model.device, (model.outer,))(model.env(model.weights(w), leaves, batch))
    return [v.double().cpu().numpy() for v in found]


@final
@dataclass(frozen=True)
class _Sweep:
    """The runs so far: mixtures [R, k], upper losses [R, m] and values [R]; ``near`` is the last model."""

    gauge: _Gauge
    design: np.ndarray
    known: Runs | None
    near: Trained
    mixtures: tuple[np.ndarray, ...] = ()
    metrics: tuple[np.ndarray, ...] = ()
    values: tuple[float, ...] = ()
    round: int = 0

    def with_round(self, more: np.ndarray) -> _Sweep:
        """With the mixtures [n, k] of one more round to be trained."""
        return replace(self, design=np.vstack([self.design, more]), round=self.round + 1)

    def with_run(self, trained: Trained, w: np.ndarray) -> _Sweep:
        """With one more trained mixture, measured."""
        own, value = self.gauge(w, trained.leaves)
        near = Trained(trained.leaves, trained.inner)
        return replace(self, near=near, mixtures=(*self.mixtures, w), metrics=(*self.metrics, own), values=(*self.values, value))


def _ask(task: Task, count: int) -> Ask:
    """What a design of so many mixtures is asked for, the natural proportions at its middle where they are known."""
    domains = domains_of(task.form.mixture)
    space = Space.within(domains, task.region, task.given)
    prior = space.nearest(domains.natural) if domains.tokens else task.start
    return Ask(space, count, prior, np.random.default_rng(task.seed))


def names_of(nodes: Sequence[Expr]) -> list[str]:
    """The names of the upper losses: ``val``, or ``val[code]`` for an entry of a vector."""
    named = [(n.data if n.op != "model_sum_squares" else "sum_squares", n) for n in nodes]
    return [f"{name}[{entry}]" if n.shape else name for name, n in named for entry in (n.index or ("",))]


def foretelling(form: Bilevel, gauge: _Gauge, law: Law) -> Expr:
    """The upper objective with the law's predictions in the place of the trained model's losses."""
    losses = law.losses(form.mixture)
    known: dict[Expr, Expr] = {}
    for node in form.upper.walk():
        if node in gauge.own:
            names = names_of([node])
            known[node] = replace(losses[names], index=node.index) if node.shape else losses[names[0]]
        elif node in gauge.fixed:
            known[node] = constant(gauge.fixed[node], index=node.index)
        else:
            args = tuple(known[a] for a in node.args)
            known[node] = node if args == node.args else replace(node, args=args)
    return known[form.upper]
