"""Hypergradients by the value function: differences of losses between models trained with and without the upper objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mixopt.compiler.value_form import value_form
from mixopt.errors import InputError
from mixopt.forms import Abilities, Bilevel, Form
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.secants import Secants
from mixopt.runtime.tree import Leaves, copied
from mixopt.solver import Task

from .bilevel import BilevelSolver, Slope, Trained
from .inner import STEPS, Inner, minimum, reach
from .products import Curved, differenced, rounding
from .steps import check_counts
from .systems import ConjugateGradients

Differences = Literal["one-sided", "central", "richardson"]
RULES: dict[str, dict[float, float]] = {
    "one-sided": {0.0: -1.0, 1.0: 1.0},
    "central": {-1.0: -0.5, 1.0: 0.5},
    "richardson": {0.0: -3.0, 0.5: 4.0, 1.0: -1.0},
}
"""A rule's points s and coefficients c: the derivative of v at 0 is about the sum of c v(s / penalty), times the penalty."""
ORDERS = {"one-sided": 1, "central": 2, "richardson": 2}
DOUBLE, SINGLE, SMALL = 1000.0, 100.0, 1e-12
"""The penalty where none is given: for parameters whose rounding is small, and for others."""
PRODUCTS = ConjugateGradients(steps=500)


@dataclass(frozen=True)
class _Companions:
    """The models that a run on batches trains beside its own, by their point s, each with its optimizer; and the steps taken."""

    leaves: Mapping[float, Leaves]
    optimizers: Mapping[float, torch.optim.Optimizer]
    taken: int = 0


@dataclass(frozen=True)
class _Found:
    """The models of an exact run by their point s, and products of their training, which precondition the next."""

    leaves: Mapping[float, Leaves]
    secants: Secants


@dataclass(frozen=True, kw_only=True)
class ValueFunction(BilevelSolver):
    """dF/dw = penalty sum_s c_s d/dw v(s / penalty), where v(d) = min over theta of lower + d upper: no second derivative is needed.

    By the envelope theorem d/dw_i v(d) is d/dw_i (lower + d upper) at the minimiser theta_s, so of ``w @ losses`` it is the loss
    l_i(theta_s): forward passes alone. ``one-sided`` differences are F2SA's, penalty (l_i(theta_1) - l_i(theta_0)) plus the direct term,
    with an error O(1 / penalty); ``central`` and ``richardson`` ones have O(1 / penalty^2). ``central`` needs a minimum of
    lower - upper / penalty, which there is where the penalty is large enough; ``richardson``, 2 d(2 penalty) - d(penalty), does not.
    Rounding is multiplied by the penalty: without one it is 1,000 for parameters in float64, and 100 for others.

    With an exact learner each theta_s is trained until |grad| <= ``inner.tolerance``, by Newton steps whose products are differences
    of gradients, preconditioned by those taken before, and a run descends the function whose gradient the differences are: it differs
    from the upper value as they do from the hypergradient. The parameters that come back are theta_0, the lower level's own.

    With a sampled one each theta_s is a copy of the model that takes the same optimizer steps on the same batches, with the same dropout,
    and the penalty at outer step t is ``penalty (1 + t)^growth``; where no run has trained them (a hypergradient, an audit, a certificate)
    they take ``steps`` plain gradient steps of ``step_size`` from the model as it stands. Copies of a network drift apart where its
    training is unstable, and the penalty multiplies that too: lower it, or the optimizer's rate, or audit the direction.

    Source: Kwon et al. 2023, arXiv 2301.10945 (F2SA, with the growth 1/7 of its schedules); arXiv 2509.02937 (higher differences).
    """

    penalty: float | None = None
    differences: Differences = "richardson"
    growth: float = 1 / 7
    inner: Inner = field(default_factory=lambda: Inner(tolerance=1e-12))
    steps: int = 10
    step_size: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, steps=1)
        if self.differences not in RULES:
            raise InputError(f"the differences are {self.differences!r}; they are 'one-sided', 'central' or 'richardson'")
        if self.penalty is not None and not 0 < self.penalty < math.inf:
            raise InputError(f"the penalty is {self.penalty!r}; it is a finite number > 0, or None for one that suits the dtype")
        if not 0 <= self.growth < math.inf or not 0 < self.step_size < math.inf:
            raise InputError(f"growth is {self.growth} and step_size {self.step_size}; both are finite, growth >= 0, step_size > 0")

    @property
    def oracle(self) -> str:
        penalty = f"{DOUBLE:g} in float64 and {SINGLE:g} else" if self.penalty is None else f"{self.penalty:g}"
        return f"the value function ({self.differences} differences, penalty {penalty}, first order)"

    def limits(self, form: Bilevel, abilities: Abilities) -> tuple[str, ...]:
        return ()

    def rewrites(self, form: Form) -> tuple[str, ...]:
        assert isinstance(form, Bilevel)
        stated = value_form(form, self.penalty)
        bias = f"{self.differences} differences: biased by O(1/penalty{'^2' if ORDERS[self.differences] > 1 else ''})"
        return (
            f"lower level -> value gap '{stated.gap}' <= 0, '{form.theta}' free",
            f"value gap -> penalty, minimise '{stated.penalised.objective}' ({bias})",
        )

    def remarks(self, task: Task, weights: np.ndarray) -> str:
        """That rounding is multiplied by the penalty, where an exact learner's dtype makes that more than the tolerance."""
        if task.model is None or not task.model.exact:
            return ""
        leaves = task.model.learner.start()
        noise = rounding(leaves) * self._penalty(leaves)
        if noise <= self.tolerance:
            return ""
        return (
            f"the penalty multiplies the rounding of losses in {str(leaves[0].dtype).removeprefix('torch.')} to about {noise:.0e} in the "
            "hypergradient, so that the gap cannot fall below that. Give parameters and losses in float64, a lower penalty, or Implicit()"
        )

    @property
    def _companions(self) -> tuple[float, ...]:
        return tuple(s for s in RULES[self.differences] if s)

    def trained(self, model: Modelled, w: Tensor, near: Trained) -> Trained:
        last: _Found | None = near.kept
        secants = Secants() if last is None else last.secants
        found: dict[float, Leaves] = {}
        inner, doubts = 0.0, []
        for s in (0.0, *self._companions):
            start = found.get(0.0, near.leaves)
            if s and last is not None:  # the companion's distance from the model changes less than the model does
                start = tuple(now + far - was for now, far, was in zip(start, last.leaves[s], last.leaves[0.0], strict=True))
            bent, taken, secants = self._solved(model, w, s, start, secants)
            found[s], size = copied(bent.at), float(bent.slope.norm())
            doubts.append(self._doubt(s, size, taken, start))
            inner = inner if s else size
        return Trained(found[0.0], inner, kept=_Found(found, secants), doubt=next((d for d in doubts if d), ""))

    def value_of(self, model: Modelled, w: Tensor, near: Trained) -> float:
        """The function whose gradient the differences are: it tends to the upper value as they do to the hypergradient."""
        with torch.no_grad():
            return float(self._difference(model, w, near.kept.leaves, None, self._penalty(near.leaves)))

    def slope_of(self, model: Modelled, w: Tensor, near: Trained) -> Slope:
        return self._slope(model, w, near.kept.leaves, None, self._penalty(near.leaves))

    def slope(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Slope:
        if isinstance(warm, _Companions):
            return self._slope(model, w, {0.0: leaves, **warm.leaves}, batch, self._penalty(leaves, warm.taken), warm)
        probed = {s: self._probed(model, w, s, leaves, batch) for s in (0.0, *self._companions)}
        return self._slope(model, w, probed, batch, self._penalty(leaves))

    def follow(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Any:
        if warm is None:
            copies = {s: copied(leaves, trainable=True) for s in self._companions}
            warm = _Companions(copies, {s: model.learner.optimizer(own) for s, own in copies.items()})
        for s, own in warm.leaves.items():
            warm.optimizers[s].zero_grad()
            with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):  # one dropout mask for all
                self._objective(model, w.detach(), s, own, batch, self._penalty(leaves, warm.taken)).backward()
            model.meter.gradients += 1
            warm.optimizers[s].step()
        return warm

    def _penalty(self, leaves: Leaves, taken: int = 0) -> float:
        """The penalty for parameters of this dtype, at an outer step of a run on batches."""
        first = self.penalty or (DOUBLE if rounding(leaves) < SMALL else SINGLE)
        return float(first * (1 + taken) ** self.growth)

    def _slope(
        self, model: Modelled, w: Tensor, at: Mapping[float, Leaves], batch: Batch, penalty: float, warm: _Companions | None = None
    ) -> Slope:
        free = w.detach().clone().requires_grad_()
        still = {s: tuple(leaf.detach() for leaf in leaves) for s, leaves in at.items()}
        (gradient,) = torch.autograd.grad(self._difference(model, free, still, batch, penalty), free)
        with torch.no_grad():
            value = model.upper(w, still[0.0], batch)
        return Slope(gradient, value, None, warm=None if warm is None else replace(warm, taken=warm.taken + 1))

    def _difference(self, model: Modelled, w: Tensor, at: Mapping[float, Leaves], batch: Batch, penalty: float) -> Tensor:
        """sum_s c_s penalty (lower + s / penalty upper)(theta_s, w), a scalar."""
        parts = [c * penalty * self._objective(model, w, s, at[s], batch, penalty) for s, c in RULES[self.differences].items()]
        return torch.stack(parts).sum()

    def _objective(self, model: Modelled, w: Tensor, s: float, leaves: Leaves, batch: Batch, penalty: float) -> Tensor:
        """What theta_s minimises: lower + s / penalty upper."""
        env = model.env(w, leaves, batch)
        lower = model.second(env)[0]
        return lower + s / penalty * model.first(env)[0] if s else lower

    def _solved(self, model: Modelled, w: Tensor, s: float, start: Leaves, secants: Secants) -> tuple[Curved, int, Secants]:
        """The minimum of theta_s's objective, the Newton steps taken, and the products that they took beside those given."""
        penalty = self._penalty(start)
        seen: list[tuple[Tensor, Tensor]] = []

        def objective(at: Leaves) -> Tensor:
            return self._objective(model, w, s, at, None, penalty)

        def curved(value: Tensor, at: Leaves) -> Curved:
            bent = differenced(model, objective, value, at)

            def product(p: Tensor) -> Tensor:
                seen.append((p, bent.product(p)))
                return seen[-1][1]

            return replace(bent, product=product)

        bent, taken = minimum(model, objective, curved, start, self.inner, PRODUCTS, secants.inverse())
        return bent, taken, secants.joined(seen)

    def _probed(self, model: Modelled, w: Tensor, s: float, leaves: Leaves, batch: Batch) -> Leaves:
        """Where plain gradient steps on one batch lead from the model as it stands."""
        at, penalty = leaves, self._penalty(leaves)
        for _ in range(self.steps):
            at = tuple(leaf.detach().requires_grad_() for leaf in at)
            slope = model.gradient(self._objective(model, w, s, at, batch, penalty), at)
            at = tuple(leaf - self.step_size * g for leaf, g in zip(at, slope, strict=True))
        return at

    def _doubt(self, s: float, size: float, taken: int, leaves: Leaves) -> str:
        goal = reach(self.inner, leaves)
        if size <= goal:
            return ""
        mend = "a regulariser such as sum_squares(theta)" + (", or a larger penalty" if s else "")
        what = f"the lower level {'+' if s > 0 else '-'} {abs(s):g}/penalty of the upper one" if s else "the lower level"
        return (
            f"{what} has not converged: |grad| = {size:.1e} against a tolerance of {goal:.1e} after {taken} {STEPS[self.inner.by]}, so the "
            f"hypergradient may be off. Give Inner(steps=...), a larger Inner(tolerance=...), or {mend}"
        )
