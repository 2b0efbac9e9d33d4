"""The solver contract, and the one loop that runs every solver: budget, averaging, history, progress and failures."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form, Program
from mixopt.report.result import Cost, Status, Trace
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region

if TYPE_CHECKING:
    from mixopt.runtime.history import Past
    from mixopt.runtime.modelled import Modelled


@dataclass(frozen=True)
class Window:
    """The mean of the weights after the last ``steps`` steps, as an ``average``."""

    steps: int

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, (int, np.integer)) or self.steps < 1:
            raise InputError(f"a window is of {self.steps!r} steps; it is a whole number >= 1")


@dataclass(frozen=True)
class Suffix:
    """The mean of the weights after the last ``share`` of the steps taken, as an ``average`` that forgets the beginning.

    Source: Rakhlin, Shamir and Sridharan 2012, arXiv 1109.5647 (alpha-suffix averaging).
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"a suffix is the share {self.share!r} of the steps; it is in (0, 1]")


Average = Literal["last", "best", "mean", "mean with start"] | Window | Suffix


@dataclass(frozen=True)
class Budget:
    """Limits of a run; whichever ends first ends it. Steps of the solver, tokens read, gradients taken, seconds.

    Raises:
        InputError: a limit that is no number > 0.
    """

    steps: int | None = None
    tokens: int | None = None
    gradients: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "tokens", "gradients", "seconds"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, (int, float, np.number)) and limit > 0):
                raise InputError(f"the budget of {name} is {limit!r}; a limit is > 0, or None for no limit")


@dataclass(frozen=True)
class Pace:
    """How a solver wants to be run: its steps without a budget, how often the host looks, what it returns."""

    steps: int
    every: int = 1
    average: Average = "last"


@dataclass(frozen=True)
class Task:
    """One problem ready to run: the form, its feasible weights, numbers given, the start, and the model where there is one.

    ``kept`` is what the solver keeps with the plan from run to run (``Solver.kept``).
    """

    form: Form
    region: Region
    start: np.ndarray
    given: Mapping[str, np.ndarray]
    seed: int
    model: Modelled | None = None
    kept: Any = None

    @cached_property
    def objective(self) -> Function:
        """The objective of a program as a function of all its unknowns, lowered once a run."""
        assert isinstance(self.form, Program)
        return Function(self.form.objective, self.region.layout, self.given)

    @cached_property
    def bounds(self) -> dict[str, Any]:
        """The region's bounds [k], tensors beside the model where there is one, moved there once; empty where they are the simplex's."""
        return {name: bound if self.model is None else self.model.weights(bound) for name, bound in self.region.bounds.items()}


@dataclass(frozen=True)
class State:
    """Where a run stands. ``weights`` [k] is a numpy array or a torch tensor; ``memory`` is the solver's own.

    ``info`` goes into the trace: numbers or vectors by name, left on their device. ``status`` ends the run when it is set.
    ``past`` is what the histories of a saddle keep for the next step, ``env.kept``; ``model.env(..., state.past)`` takes it.
    """

    weights: Any
    memory: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    status: Status | None = None
    message: str = ""
    duals: Mapping[str, float | dict[str, float]] = field(default_factory=dict)
    past: Past = field(default_factory=dict)


class Solver(ABC):
    """A method: settings only. A state goes in, a state comes out; the loop is not its business."""

    starts: ClassVar[bool] = True
    """Whether it goes on from the start that it is given; one that does not also finds out by itself whether any weights are feasible."""

    goes_on: ClassVar[bool] = True
    """Whether a start that is given changes what it does; where it does not, the result's message says so."""

    @abstractmethod
    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        """Why it does not take this form with this learner; empty when it does."""

    def rewrites(self, form: Form) -> tuple[str, ...]:
        """What it makes of a form before it solves it, in words for a plan's route; nothing for most."""
        return ()

    def kept(self, form: Form) -> Any:
        """What a plan keeps from run to run, made at the first one and handed over in the task; None for most."""
        return None

    @abstractmethod
    def pace(self, task: Task) -> Pace:
        """How it wants to be run on this task."""

    @abstractmethod
    def begin(self, task: Task) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, task: Task, state: State) -> State:
        """One step."""

    @abstractmethod
    def leaves(self, state: State) -> Any:
        """The trained parameters in a state, or None where none are trained."""

    def remarks(self, task: Task, weights: np.ndarray) -> str:
        """What a user should know of a run that is not solved, by its weights [T, k] after each step; nothing for most."""
        return ""

    def idle(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        """Which settings were given though nothing reads them here, in words for a plan's notes; nothing for most."""
        return ()

    def chosen(self) -> dict[str, Any]:
        """The settings that are not the defaults, by name."""
        found = {}
        for entry in fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
            if value != default:
                found[entry.name] = value
        return found

    def __str__(self) -> str:
        """The name, with the settings that are not the defaults."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.chosen().items())})"


@dataclass(frozen=True)
class Progress:
    """What a watcher sees now and then: how far the run is, and the weights [k] as they stand."""

    step: int
    steps: int
    seconds: float
    weights: np.ndarray
    info: Mapping[str, float]


Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """What the loop hands back: weights, why it stopped, the course, the cost, the trained parameters and what histories kept."""

    weights: np.ndarray | None
    status: Status
    message: str
    trace: Trace
    cost: Cost
    leaves: Any
    duals: Mapping[str, float | dict[str, float]]
    past: Past = field(default_factory=dict)


def run(solver: Solver, task: Task, budget: Budget | None = None, watch: Watch | None = None) -> Outcome:
    """Run a solver on a task until it is done, the budget is spent, the losses fail or the user interrupts."""
    budget = budget or Budget()
    if solver.starts and task.region.empty:
        return Outcome(None, Status.INFEASIBLE, task.region.empty, Trace(np.empty((0, task.region.size))), Cost(), None, {})
    return _Run(solver, task, budget, watch).go()


class _Run:
    """The bookkeeping of one run; only the host-side record lives here, the solver's state is passed along."""

    def __init__(self, solver: Solver, task: Task, budget: Budget, watch: Watch | None):
        self.solver, self.task, self.budget, self.watch = solver, task, budget, watch
        self.pace = solver.pace(task)
        self.limit = budget.steps if budget.steps is not None else self.pace.steps
        self.sense = -1 if task.form.maximised else 1  # solvers minimise; users are told their own objective
        self.clock = time.perf_counter()
        self.pending: list[State] = []
        self.weights: list[np.ndarray] = []
        self.series: dict[str, list[np.ndarray]] = {}
        self.good: tuple[Any, Past] = (None, {})  # parameters and past at the last look, and at the best of the looks
        self.best: tuple[Any, Past] = (None, {})

    def go(self) -> Outcome:
        state, status, failure = State(self.task.start), Status.BUDGET, ""
        taken, over = 0, False
        try:
            state = self.solver.begin(self.task)
            while not failure and not over and state.status is None and taken < self.limit:
                state = self.solver.step(self.task, state)
                self._handed_on(state)
                taken += 1
                self.pending.append(state)
                over = self._spent()
                if over or taken % self.pace.every == 0 or state.status is not None or taken == self.limit:
                    failure = self._look(state)
            status = state.status or status
        except KeyboardInterrupt:
            status, failure = Status.INTERRUPTED, self._look(state)
        if failure:
            status = Status.FAILED
        message = failure or (f"after {taken} steps" if status is Status.INTERRUPTED else state.message)
        if self.weights and not status.solved:
            message = "; ".join(filter(None, (message, self.solver.remarks(self.task, np.array(self.weights)))))
        weights = None if status is Status.INFEASIBLE else self._answer(state)
        leaves, past = self._left(state, status)
        return Outcome(weights, status, message, self._trace(), self._cost(taken), leaves, state.duals, past)

    def _handed_on(self, state: State) -> None:
        """A solver that drops what histories keep would find no history at any step, and give another problem's answer."""
        model = self.task.model
        if model is not None and model.histories and not state.past:
            raise InputError(
                f"{type(self.solver).__name__} keeps no history for '{model.histories[0]}'; its step is to return past=env.kept"
            )

    def _look(self, state: State) -> str:
        """Bring the pending steps to the host at once; an unbounded loss drops its step and all after it, and says which."""
        if not self.pending:
            return ""
        arrays = {name: _stacked([s.info[name] for s in self.pending]) for name in self.pending[0].info}
        weights = _stacked([s.weights for s in self.pending])
        good = np.isfinite(weights).all(axis=1)
        for name in ("losses", "value"):
            if name in arrays:
                good &= np.isfinite(arrays[name].reshape(len(good), -1)).all(axis=1)
        count = len(good) if good.all() else int(np.argmin(good))
        first = len(self.weights) + 1
        self.weights.extend(weights[:count])
        for name, values in arrays.items():
            self.series.setdefault(name, []).extend(values[:count])
        self.pending = []
        if count < len(good):
            return self._failure(first + count, {name: values[count] for name, values in arrays.items()})
        leaves = self.solver.leaves(state)
        if not _finite(leaves):
            return f"the model's parameters are not finite after step {len(self.weights)}"
        self.good = _snapshot(leaves), state.past
        if self.pace.average == "best" and int(np.argmin(self.series["value"])) == len(self.weights) - 1:
            self.best = self.good
        if self.watch is not None:
            shown = {n: self._told(n, float(v[-1])) for n, v in arrays.items() if np.ndim(v[-1]) == 0}
            self.watch(Progress(len(self.weights), self.limit, time.perf_counter() - self.clock, weights[-1], shown))
        return ""

    def _failure(self, step: int, info: Mapping[str, np.ndarray]) -> str:
        losses = np.atleast_1d(info.get("losses", np.array([])))
        names = self.task.form.mixture.index or ()
        bad = [f"{n!r} ({v})" for n, v in zip(names, losses, strict=False) if not math.isfinite(v)]
        where = f"the loss of {', '.join(bad)}" if bad else f"the objective ({info.get('value', 'weights')})"
        return f"{where} is not finite at step {step}; the weights are those before it"

    def _spent(self) -> bool:
        budget, meter = self.budget, self.task.model.meter if self.task.model else None
        if budget.seconds is not None and time.perf_counter() - self.clock >= budget.seconds:
            return True
        if meter is None:
            return False
        over_tokens = budget.tokens is not None and meter.tokens >= budget.tokens
        return over_tokens or (budget.gradients is not None and meter.gradients >= budget.gradients)

    def _is_best(self, state: State) -> bool:
        """Whether the answer is the best of the steps: the last is, where the solver has found what was asked for."""
        return self.pace.average == "best" and bool(self.weights) and not (state.status is not None and state.status.solved)

    def _left(self, state: State, status: Status) -> tuple[Any, Past]:
        """The parameters and the past that belong to the answer."""
        if self._is_best(state):
            return self.best
        return self.good if status is Status.FAILED or state.memory is None else (self.solver.leaves(state), state.past)

    def _answer(self, state: State) -> np.ndarray:
        average = self.pace.average
        if not self.weights:
            w = self.task.start
        elif self._is_best(state):
            w = self.weights[int(np.argmin(self.series["value"]))]
        elif average in ("last", "best") or (state.status is not None and state.status.solved):
            w = self.weights[-1]
        elif isinstance(average, (Window, Suffix)):
            count = average.steps if isinstance(average, Window) else math.ceil(average.share * len(self.weights))
            w = np.mean(self.weights[-count:], axis=0)
        else:
            total = np.sum(self.weights, axis=0)
            w = total / len(self.weights) if average == "mean" else (total + self.task.start) / (len(self.weights) + 1)
        return self.task.region.layout.exact(w)

    def _trace(self) -> Trace:
        empty = np.empty((0, self.task.region.size))
        return Trace(np.array(self.weights) if self.weights else empty, {n: self._told(n, np.array(v)) for n, v in self.series.items()})

    def _told(self, name: str, numbers: Any) -> Any:
        """Numbers of the trace as the user knows them: the value in the objective's own sense."""
        return self.sense * numbers if name == "value" else numbers

    def _cost(self, taken: int) -> Cost:
        seconds = time.perf_counter() - self.clock
        meter = self.task.model.meter if self.task.model else None
        if meter is None:
            return Cost(steps=taken, seconds=seconds)
        return Cost(taken, meter.gradients, meter.hessian_products, meter.forward_passes, meter.tokens, seconds)


def _stacked(values: list[Any]) -> np.ndarray:
    """Values of several steps as one float64 array [T, ...]; tensors come over in one transfer."""
    if hasattr(values[0], "detach"):
        import torch

        return torch.stack([v.detach() for v in values]).double().cpu().numpy()
    return np.array(values, dtype=float)


def _finite(leaves: Any) -> bool:
    """Whether all parameters are finite, in one transfer; sums show it, and cost a tenth of looking at every entry."""
    if leaves is None:
        return True
    import torch

    return bool(torch.stack([leaf.detach().sum(dtype=torch.float64) for leaf in leaves]).isfinite().all())


def _snapshot(leaves: Any) -> Any:
    return None if leaves is None else tuple(leaf.detach().clone() for leaf in leaves)
