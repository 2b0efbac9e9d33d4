"""Gradient balancing as a solver: at each step a rule makes one direction of the domains' gradients, and the model follows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mixopt.balancing import MGDA, Direction, GramRule, LossRule
from mixopt.errors import InputError, LearnerError
from mixopt.forms import Abilities, Form, Saddle, kind
from mixopt.language.curvature import curvature
from mixopt.language.expression import Expr
from mixopt.language.history import live
from mixopt.report.result import Status
from mixopt.runtime.evaluate import Env
from mixopt.runtime.gramian import STACKED, fits, gramian, lean_gramian
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.simplex import project
from mixopt.runtime.tree import Leaves
from mixopt.solver import Pace, Solver, State, Task

from .constraints import refuses_region
from .steps import check_counts
from .trainee import Trainee, begun

PARETO = "some mixture of the losses' gradients is 0: to first order no step improves all domains (Pareto-stationary)"


@dataclass(frozen=True)
class _Memory(Trainee):
    rule: Any
    losses: Expr | None = None
    watched: Expr | None = None
    signed: int = 0

    def seen(self, env: Env, node: Expr | None) -> np.ndarray:
        """The values [k] of some losses in an evaluation, on the host; none for a rule that sees no losses."""
        return np.empty(0) if node is None else env.measure(node).detach().double().cpu().numpy()


@dataclass(frozen=True)
class Balanced(Solver):
    r"""Training by a rule of gradient balancing: min over theta of max over w of ``w @ (losses - previous(losses))``, step by step.

    That is Equation 6 of the survey with index and sign put right (misprint T15). Each step takes a batch, the entries l_i of the
    payoff as the model descends it, and the ``rule``'s coefficients c from the inner products of their gradients or from losses; then
    the learner's optimizer makes one step along sum_i c_i grad l_i. The payoff is linear in the weights; a rule on losses sees the losses
    of the model over the mixture's domains, and those under ``rule.watch`` where it has one.

    The weights are the rule's own (``Direction.inner``), else the mixture that has the direction, else, where coefficients are
    negative, the nearest mixture, of which the result's message tells; the result has their ``average``, "mean" or "last". The trace
    has the ``coefficients`` [T, k]. An exact learner's run ends where |sum_i c_i grad l_i| <= ``tolerance``.

    A rule on inner products takes k + 1 gradients a step and brings their products to the host. The k gradients are held together where
    they take no more than ``stacked`` bytes, else one of them (``mixopt.runtime.gramian``): dropout is then off while they are taken,
    each costs two more forward passes, and where forward mode is missing or runs in half precision there are up to k (k + 1) / 2 of them.

    Source: Eq. 6 and section C.1.1 of the survey; the rules name their own.

    Raises:
        InputError: a rule, average or count out of range.
        LearnerError: a sampled learner's losses whose gradients are all 0.
    """

    rule: GramRule | LossRule = field(default_factory=MGDA)
    average: Literal["mean", "last"] = "mean"
    steps: int = 1000
    tolerance: float = 1e-8
    stacked: int = STACKED
    goes_on: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.rule, (GramRule, LossRule)):
            raise InputError(f"the rule is {self.rule!r}; it is one of mixopt.balancing, such as MGDA() or FAMO()")
        if self.average not in ("mean", "last"):
            raise InputError(f"the average is {self.average!r}; it is 'mean' or 'last'")
        if not (isinstance(self.tolerance, (int, float)) and 0 <= self.tolerance < math.inf):
            raise InputError(f"the tolerance is {self.tolerance!r}; it is a finite number >= 0")
        check_counts(self, steps=1, stacked=0)

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Saddle):
            return (f"it takes saddles, and this is a {kind(form)}",)
        return tuple(self._against(form, abilities))

    def _against(self, form: Saddle, abilities: Abilities | None) -> Iterator[str]:
        name = type(self.rule).__name__
        if curvature(form.payoff) != "affine" or curvature(form.descent) != "affine":
            yield "the payoff is not linear in the weights, so it has no entries to balance; write w @ (losses - previous(losses))"
        if form.constraints and not (isinstance(self.rule, GramRule) and self.rule.constrained):
            yield f"{name} is no minimisation over mixtures that constraints could cut; MGDA() and CAGrad() are"
        yield from refuses_region(form.constraints)
        if abilities is not None and abilities.sampling != "uniform":
            yield f"it balances losses on batches that hold every domain alike, and this learner samples by {abilities.sampling}"
        if isinstance(self.rule, LossRule):
            if _measured(form, live(form.descent), None) is None:
                yield f"{name} sees losses, and the model descends none over the domains of '{form.mixture}'; write w @ losses(...)"
            if self.rule.watch is not None and _measured(form, form.payoff.walk(), self.rule.watch) is None:
                yield (
                    f"{name} watches losses named {self.rule.watch!r} over the domains of '{form.mixture}', and the payoff has none; "
                    f"write them into it, or give the rule another name with watch="
                )

    def pace(self, task: Task) -> Pace:
        assert task.model is not None
        return Pace(self.steps, 1 if task.model.exact else 25, self.average)

    def begin(self, task: Task) -> State:
        assert isinstance(task.form, Saddle)
        trainee, k = begun(task), len(task.start)
        if isinstance(self.rule, GramRule):
            memory = _Memory(*trainee, self.rule.begin(k, task.seed))
        else:
            losses = _measured(task.form, live(task.form.descent), None)
            watched = losses if self.rule.watch is None else _measured(task.form, task.form.payoff.walk(), self.rule.watch)
            memory = _Memory(*trainee, self.rule.begin(k), losses, watched)
        return State(memory.model.weights(task.start), memory)

    def step(self, task: Task, state: State) -> State:
        memory: _Memory = state.memory
        model, leaves = memory.model, memory.leaves
        env = model.env(state.weights, leaves, model.learner.draw(memory.draw), state.past)
        lean = isinstance(self.rule, GramRule) and not fits(len(state.weights), leaves, self.stacked)
        with torch.no_grad() if lean else nullcontext():
            payoff = model.first(env)[0].detach()
        before = memory.seen(env, memory.watched)
        found, entries, rule = self._made(task, state, env) if isinstance(self.rule, GramRule) else self._seen(memory, env, before)
        memory.optimizer.zero_grad()
        (torch.as_tensor(found.coefficients, device=entries.device).to(entries.dtype) @ entries).backward()
        model.meter.gradients += 1
        info, status = {"value": payoff, "losses": model.domain_losses(env)}, None
        if model.exact:
            slope = torch.stack([leaf.grad.norm() for leaf in leaves if leaf.grad is not None]).norm()
            info |= {"gradient": slope}
            status = Status.STATIONARY if float(slope) <= self.tolerance else None
        memory.optimizer.step()  # what was measured above is kept in env
        if isinstance(self.rule, LossRule) and self.rule.again:
            with torch.no_grad():
                rule = self.rule.after(rule, before, memory.seen(replace(env, measured={}), memory.watched))
        return self._handed(replace(memory, rule=rule), env, found, info, status)

    def leaves(self, state: State) -> Leaves:
        found: Leaves = state.memory.leaves
        return found

    def _made(self, task: Task, state: State, env: Env) -> tuple[Direction, Tensor, Any]:
        """The direction of a rule on inner products, the entries that it weights, and what the rule remembers."""
        assert isinstance(self.rule, GramRule)
        memory: _Memory = state.memory
        model, leaves, k = memory.model, memory.leaves, len(state.weights)
        if fits(k, leaves, self.stacked):
            entries = _entries(model, env)
            gram = gramian(entries, leaves, most=self.stacked, spend=model.meter.spend)
        else:
            gram = lean_gramian(lambda at: _entries_at(model, env, at), leaves, most=self.stacked, spend=model.meter.spend)
            entries = _entries(model, replace(env, measured={}))
        inner = gram.double().cpu().numpy()
        if np.trace(inner) > 0:
            return self.rule.direction(inner, region=task.region, memory=memory.rule), entries, memory.rule
        if not model.exact:
            raise LearnerError("the gradients of all losses are 0 on this batch; do the losses depend on the parameters that are trained?")
        return Direction(np.zeros(k), state.weights.cpu().numpy()), entries, memory.rule

    def _seen(self, memory: _Memory, env: Env, watched: np.ndarray) -> tuple[Direction, Tensor, Any]:
        """The direction of a rule on losses, the entries that it weights, and what the rule remembers."""
        assert isinstance(self.rule, LossRule)
        found, rule = self.rule.direction(memory.rule, memory.seen(env, memory.losses), watched)
        return found, _entries(memory.model, env), rule

    def _handed(self, memory: _Memory, env: Env, found: Direction, info: dict[str, Any], status: Status | None) -> State:
        """The state after a step, with what the trace and the message tell of its direction."""
        mixture = found.mixture if found.inner is None else found.inner
        signed = memory.signed + (mixture is None)
        weights = project(found.coefficients) if mixture is None else mixture
        info |= {"coefficients": found.coefficients}
        notes = [PARETO] if status is not None and mixture is not None else []
        if signed:
            times = f"{signed} step{'s' if signed > 1 else ''}"
            notes.append(f"coefficients were negative at {times}, whose weights are the nearest mixtures; the trace has the coefficients")
        memory = replace(memory, signed=signed)
        return State(memory.model.weights(weights), memory, info, status, "; ".join(notes), past=env.kept)


def _entries(model: Modelled, env: Env) -> Tensor:
    """What the model descends at each corner of the simplex [k]: the slope in the weights, and what is left where they are 0."""
    with torch.enable_grad():
        w = torch.zeros_like(env.w, requires_grad=True)
        value = model.second(env.at(w))[0]
        (slope,) = torch.autograd.grad(value, w, create_graph=True)
        return slope + value


def _entries_at(model: Modelled, env: Env, leaves: Leaves) -> Tensor:
    """The entries measured anew at other leaves of the model, without noise, so that forward mode passes through."""
    with model.learner.second_order():
        return _entries(model, replace(env, models={**env.models, model.inner: leaves, model.outer: leaves}, measured={}))


def _measured(form: Saddle, nodes: Iterable[Expr], name: str | None) -> Expr | None:
    """The losses of the trained model over the mixture's domains among some nodes, under a name where one is given."""
    fit = (n for n in nodes if n.op == "losses" and n.args[0] == form.theta and n.index == form.mixture.index)
    return next((n for n in fit if name is None or n.data == name), None)
