"""Hypergradients by unrolling: the derivative of the loss after K training steps of the lower level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.forms import Abilities, Bilevel, Form
from mixopt.runtime.accelerated import Reached, to_minimum
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied, vector
from mixopt.runtime.unrolling import Course, Rule, Slopes
from mixopt.solver import State, Task

from .bilevel import BilevelSolver, Sampled, Slope, Trained
from .inner import Inner, reach
from .products import cross_term
from .steps import check_counts

Mode = Literal["reverse", "checkpointed", "forward"]
BESIDE = 1e-2
"""How far the weights differ at which the derivative of a converged run is watched."""


@dataclass(frozen=True, kw_only=True)
class Unrolled(BilevelSolver):
    """d/dw of upper(theta_K), theta_{t+1} = theta_t - ``step_size`` grad lower(theta_t, w), differentiated through all K ``steps``.

    ``rule="optimizer"`` unrolls the learner's own optimizer instead, SGD with momentum, Adam or AdamW, its state included. Of a problem
    on ``trained(lower, over=theta, steps=K)`` these are the steps, and the answer is exact; of one on ``argmin`` it is exact for the
    K-step outcome, a different problem. With an exact learner theta_0 is the learner's start. With a sampled one it is the model as it
    stands, the steps read one batch, and ``steps=1`` needs no second derivative: dF/dw_i = -step_size <grad l_i, grad upper>, all k by
    one forward-mode product, upper's gradient taken at theta_0, first order in ``step_size`` (DoGE, arXiv 2310.15393, Eq. 4); of a
    ``trained`` problem each outer step trains anew from the learner's start, on K stratified batches.

    ``mode`` says what is kept: "reverse" the graphs of K steps; "checkpointed" about 2 sqrt(K) states and graphs, each step taken twice;
    "forward" k tangents of the model, at k products a step. ``last`` differentiates the last steps alone (truncated: biased, and said so).

    ``steps=None`` unrolls to convergence, for the argmin of an exact learner: accelerated steps, whose lengths are found beginning with
    ``step_size``, until |grad lower| <= ``inner.tolerance`` there and at weights nearby, ``inner.steps`` at most.

    Source: section B.2.1 of the survey (gradient unrolling).
    """

    unrolls: ClassVar[bool] = True

    steps: int | None = 1
    step_size: float = 0.1
    rule: Literal["gradient", "optimizer"] = "gradient"
    mode: Mode = "reverse"
    last: int | None = None
    inner: Inner = field(default_factory=lambda: Inner(tolerance=1e-10, steps=10_000))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, **({} if self.steps is None else {"steps": 1}), **({} if self.last is None else {"last": 1}))
        if self.steps is None and self.rule == "optimizer":
            raise InputError(
                "steps=None unrolls accelerated steps to convergence, not the learner's optimizer; give rule='gradient', or steps"
            )
        if self.rule == "optimizer" and "step_size" in self.chosen():
            raise InputError("step_size is of plain steps; the learner's optimizer has a rate of its own, so leave step_size or rule out")
        if self.steps is not None and "inner" in self.chosen():
            raise InputError(f"inner says when steps to convergence end, which is steps=None; this takes {self.steps}")
        if self.inner.by != "newton":
            raise InputError(
                f"Unrolled converges by steps of its own, not by {self.inner.by!r}; Inner(by=...) is for Implicit and ValueFunction"
            )
        if not self.step_size > 0:
            raise InputError(f"the step_size of Unrolled is {self.step_size}; it is > 0")
        if self.rule not in ("gradient", "optimizer"):
            raise InputError(f"the rule is {self.rule!r}; it is 'gradient' (plain steps of step_size) or 'optimizer' (the learner's)")
        if self.mode not in ("reverse", "checkpointed", "forward"):
            raise InputError(f"the mode is {self.mode!r}; it is 'reverse', 'checkpointed' or 'forward'")

    @property
    def oracle(self) -> str:
        if self.steps is None:
            return "steps unrolled to convergence" + (f", the last {self.last} differentiated" if self.last else "")
        many = f"{self.steps} unrolled step{'s' if self.steps > 1 else ''}"
        by = f" of {self.step_size:g}" if self.rule == "gradient" else " of the learner's optimizer"
        return many + by + (f", the last {self.last} differentiated" if self.last else "")

    def oracle_of(self, form: Bilevel) -> str:
        return self.oracle if form.steps is None else replace(self, steps=form.steps, rule="optimizer").oracle

    def rewrites(self, form: Form) -> tuple[str, ...]:
        assert isinstance(form, Bilevel)
        steps = form.steps or self.steps
        if steps is None:
            return ("unrolled: accelerated steps until the lower level has converged, found first and then differentiated",)
        last = min(self.last or steps, steps)
        if last == 1 or (self.mode == "reverse" and not form.steps):
            return ()
        stride = self._stride(last)
        kept = {
            "reverse": f"in reverse, the graphs of {last} steps in memory",
            "checkpointed": f"in reverse by checkpoints, {math.ceil(last / stride)} states and the graphs of {stride} steps in memory",
            "forward": f"in forward mode, {len(form.mixture)} tangents of the model in memory",
        }[self.mode]
        return (f"unrolled: {last} of {steps} steps differentiated {kept}",)

    def limits(self, form: Bilevel, abilities: Abilities) -> tuple[str, ...]:
        if form.steps and self.steps not in (1, form.steps):
            return (f"the problem is of {form.steps} training steps, and this unrolls {self.steps or 'to convergence'}; leave steps out",)
        if self.steps is None and not abilities.exact:
            return ("steps=None unrolls until the lower level's gradient is small, which on batches it never is; give a number of steps",)
        if form.steps and (self.warmup or self.train > 1):
            return (
                f"each outer step trains anew for the problem's {form.steps} steps, so that warmup and train do nothing; leave them out",
            )
        one = self.steps == 1 and not form.steps and not abilities.exact
        if abilities.double_backward or (one and abilities.gauss_newton):
            return ()
        mend = " or, with a sampled learner that has a forward mode, steps=1" if self.steps != 1 else ""
        instead = "Surrogate()" if form.steps else f"ValueFunction(){mend}"
        return (f"the learner's losses cannot be differentiated twice; use {instead}",)

    def trained(self, model: Modelled, w: Tensor, near: Trained) -> Trained:
        start = model.learner.start()
        if self.steps is None:
            return self._converged(model, w, start)
        sizes: list[Tensor] = []
        course = self._course(model, start, (None,) * (self._steps(model) + 1), sizes)
        leaves = tuple(leaf.requires_grad_() for leaf in course.end(w))
        inner = float(vector(model.gradient(model.lower(w, leaves, None), leaves)).norm())
        return Trained(leaves, inner, start, doubt="" if inner < math.inf else self._diverged(model, course, sizes))

    def _converged(self, model: Modelled, w: Tensor, start: Leaves) -> Trained:
        """The lower level trained from the start to its minimum by steps that can be differentiated."""
        draw = torch.Generator().manual_seed(0)
        near = w + BESIDE * torch.rand(len(w), generator=draw, dtype=torch.float64).to(w)
        goal = reach(self.inner, start)
        lower, beside = (lambda at, u=u: model.lower(u, at, None) for u in (w, near))
        found = to_minimum(lower, beside, model.gradient, start, goal, self.inner.steps, self.step_size)
        return Trained(found.leaves, found.size, start, kept=found, doubt=_unsettled(found, goal))

    def slope_of(self, model: Modelled, w: Tensor, near: Trained) -> Slope:
        if not isinstance(near.kept, Reached):
            return super().slope_of(model, w, near)
        course = Course(model.learner.start(), near.kept.rule, self._slopes(model, [None] * near.kept.taken, []), near.kept.taken)
        return self._through(model, w, course, None)

    def slope(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Slope:
        steps, again = self._steps(model), bool(_form(model).steps)
        if again and batch is not None:  # the outcome of training from the start, on batches of its own
            draw = model.generator(0)
            return self._outcome(model, w, model.learner.start(), (*(model.learner.draw(draw) for _ in range(steps)), batch))
        if steps == 1 and batch is not None and self.rule == "gradient":
            return self._one_step(model, w, leaves, batch)
        return self._outcome(model, w, leaves, (batch,) * (steps + 1))

    def step(self, task: Task, state: State) -> State:
        return super().step(task, state) if self._online(task) else self._anew(task, state)

    def _online(self, task: Task) -> bool:
        """Whether a run is not of training anew at each outer step."""
        assert task.model is not None
        return task.model.exact or not _form(task.model).steps

    def _anew(self, task: Task, state: State) -> State:
        """An outer step that trains from the learner's start on batches of its own; upper is measured on one more."""
        model, memory = task.model, state.memory
        assert model is not None
        assert isinstance(memory, Sampled)
        batches = tuple(model.learner.draw(memory.draw) for _ in range(self._steps(model) + 1))
        course = self._course(model, model.learner.start(), batches, [])
        with model.learner.second_order():
            slope = self._through(model, state.weights, course, batches[-1])
            before = state.weights
            w, memory = self.moved(task, before, memory, slope.gradient, lambda u: slope.warm if u is before else course.end(u))
        env = model.env(w.detach(), slope.warm, batches[-1])
        with torch.no_grad():
            model.second(env)
        info = {
            "value": slope.value.detach(),
            "inner": slope.inner,
            "losses": model.domain_losses(env),
            **self._factor(memory, slope.value),
        }
        return State(w, replace(memory, leaves=slope.warm), info)

    def _outcome(self, model: Modelled, w: Tensor, start: Leaves, batches: Sequence[Batch]) -> Slope:
        """The hypergradient through the steps, each on its batch; upper on the last one."""
        return self._through(model, w, self._course(model, start, batches, []), batches[-1])

    def _through(self, model: Modelled, w: Tensor, course: Course, batch: Batch) -> Slope:
        """The hypergradient through a course; upper on a batch."""
        last = min(self.last or course.steps, course.steps)

        def upper(weights: Tensor, leaves: Leaves) -> Tensor:
            return model.upper(weights, leaves, batch)

        if self.mode == "forward":
            gradient, value, leaves = course.forward(w, upper, last)
        else:
            gradient, value, leaves = course.reverse(w, upper, last, self._stride(last))
        model.meter.gradients += 1
        still = copied(leaves, trainable=True)
        inner = vector(model.gradient(model.lower(w, still, batch), still)).norm()
        return Slope(gradient, value, inner, warm=leaves)

    def _course(self, model: Modelled, start: Leaves, batches: Sequence[Batch], sizes: list[Tensor]) -> Course:
        """The training run; the norms of its gradients are noted."""
        rule = Rule.of(model.learner.optimizer, start) if self._own(model) else Rule.plain(self.step_size, len(start))
        return Course(start, rule, self._slopes(model, batches, sizes), self._steps(model))

    def _slopes(self, model: Modelled, batches: Sequence[Batch], sizes: list[Tensor]) -> Slopes:
        """The gradients that a training run follows, each on its batch; their norms are noted."""

        def slopes(w: Tensor, at: Leaves, t: int, graph: bool) -> Leaves:
            found = model.gradient(model.lower(w, at, batches[t]), at, create_graph=graph)
            sizes.append(vector(found).detach().norm())
            return found

        return slopes

    def _own(self, model: Modelled) -> bool:
        """Whether the steps are those of the learner's optimizer."""
        return self.rule == "optimizer" or bool(_form(model).steps)

    def _steps(self, model: Modelled) -> int:
        steps = _form(model).steps or self.steps
        assert steps is not None
        return steps

    def _stride(self, last: int) -> int:
        return last if self.mode == "reverse" else math.ceil(math.sqrt(last))

    def _diverged(self, model: Modelled, course: Course, sizes: Sequence[Tensor]) -> str:
        """Which step was the first without a finite gradient, in words."""
        finite = torch.isfinite(torch.stack(list(sizes))).tolist()
        which = finite.index(False) if False in finite else course.steps
        what = "the learner's rate" if self._own(model) else "step_size"
        many = f"the {course.steps} unrolled steps of {course.rule.rate:g}"
        return f"{many} diverged; lower {what} (the gradient was no longer finite after {which} of them)"

    def _one_step(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch) -> Slope:
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        free = w.detach().clone().requires_grad_()
        value = model.upper(free, at, batch)
        *v, direct = model.gradient(value, (*at, free))
        cross = cross_term(model, w, at, batch, tuple(v))
        return Slope(direct - self.step_size * cross, value.detach(), None)


def _unsettled(found: Reached, goal: float) -> str:
    """Why steps to convergence did not converge, and the mend; empty where they did."""
    if max(found.size, found.beside) <= goal:
        return ""
    return (
        f"the lower level has not converged: |grad| = {found.size:.1e}, and {found.beside:.1e} at weights nearby, against a tolerance of "
        f"{goal:.1e} after {found.taken} accelerated steps, so the hypergradient may be off. Give Inner(steps=...), a larger "
        "Inner(tolerance=...), or a regulariser such as sum_squares(theta)"
    )


def _form(model: Modelled) -> Bilevel:
    assert isinstance(model.form, Bilevel)
    return model.form
