"""Hypergradients by the implicit function theorem: one linear system and one mixed derivative serve all domains."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mixopt.errors import InputError, listed
from mixopt.forms import Abilities, Bilevel
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied, split, vector

from .bilevel import BilevelSolver, Slope, Trained
from .doubts import endless_slopes
from .inner import STEPS, Inner, minimum, reach
from .products import Curved, cross_differences, cross_term, differenced, gauss_newton, hessian, pushed, written_out
from .systems import ConjugateGradients, Dense, System

Curvature = Literal["hessian", "gauss-newton"]
Products = Literal["reverse", "forward", "differences"]
NETWORKS = ConjugateGradients(steps=20, tolerance=0.1, damping=0.03)
"""The system of Gauss-Newton products on batches, where a plan or a study sets it.

Early in training the damping has to be small: with 0.3 and 10 products the slope of a GPT after 30 steps points the wrong way, with these
it does not, and after 300 steps the two are alike. Less damping, 0.01, is better still early on, but leaves 20 products unsolved by half.
What was measured is in docs/hypergradients.md.
"""
FALLEN = 1e6
"""How far below its start, relatively, a lower level is taken to have no lower bound."""


@dataclass(frozen=True, kw_only=True)
class Implicit(BilevelSolver):
    """dF/dw_i = d upper/dw_i - <d/dw_i grad lower, q>, where H q = grad upper and H is the lower level's Hessian.

    The products <grad l_i, q> of all k domains are one derivative along q, so the cost does not grow with k: of the graph that
    ``products="reverse"`` keeps, else one forward-mode product.
    ``curvature="gauss-newton"`` takes Gauss-Newton products for H, which are positive semidefinite even far from a
    minimum; with ``damping`` they are what a network needs, whose lower level never converges. Hessian products go by ``products``:
    "reverse" over reverse on one graph that is kept; "forward" over reverse, dearer, without it; "differences" of gradients, for losses
    that cannot be differentiated twice, in whose mixed derivative differences take the place of the forward mode too. ``system``
    solves for q: ``ConjugateGradients``, ``MinRes`` (indefinite H), ``Neumann``, ``Dense`` or ``Nystroem``.

    Source: Pedregosa 2016, arXiv 1602.02355; section B.2.1 of the survey (implicit function).
    """

    inner: Inner = field(default_factory=Inner)
    system: System = field(default_factory=ConjugateGradients)
    curvature: Curvature = "hessian"
    products: Products = "reverse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curvature not in ("hessian", "gauss-newton"):
            raise InputError(f"the curvature is {self.curvature!r}; it is 'hessian' or 'gauss-newton'")
        if self.products not in ("reverse", "forward", "differences"):
            raise InputError(f"products are {self.products!r}; they are 'reverse', 'forward' or 'differences'")
        if self.curvature == "gauss-newton" and self.products != "reverse":
            raise InputError(
                f"products={self.products!r} are of the Hessian, and Gauss-Newton products have one way; leave one of them out"
            )
        if not isinstance(self.system, System):
            raise InputError(f"the system is {self.system!r}; give ConjugateGradients(), MinRes(), Neumann(), Dense() or Nystroem(rank)")

    @property
    def oracle(self) -> str:
        damped = f", damping {self.system.damping:g}" if self.system.damping else ""
        by = {"reverse": "", "forward": " by forward over reverse", "differences": " by differences of gradients"}[self.products]
        how = "" if isinstance(self.system, ConjugateGradients) else f", {type(self.system).__name__}"
        return f"the implicit function theorem ({self.curvature} products{by}{how}{damped})"

    def limits(self, form: Bilevel, abilities: Abilities) -> tuple[str, ...]:
        if self.curvature == "gauss-newton" and any(n.op == "tokens" for n in form.lower.walk()):
            return ("the lower level uses token losses, for which it has no Gauss-Newton products; use losses(...)",)
        if self.curvature == "gauss-newton" and not abilities.gauss_newton:
            return ("the learner has no Gauss-Newton products; use curvature='hessian'",)
        if self.curvature == "hessian" and not abilities.double_backward and self.products != "differences":
            mend = "use products='differences', curvature='gauss-newton' or ValueFunction()"
            return (f"the learner's losses cannot be differentiated twice; {mend}",)
        return ()

    def trained(self, model: Modelled, w: Tensor, near: Trained) -> Trained:
        system = self.system if isinstance(self.system, ConjugateGradients) else ConjugateGradients()
        free = w.detach().requires_grad_()
        found, taken = minimum(
            model,
            lambda at: model.lower(free, at, None),
            lambda value, at: self._bent(model, free, value, at, None),
            near.leaves,
            self.inner,
            system,
        )
        goal, inner = reach(self.inner, near.leaves), float(found.slope.norm())
        doubt = "" if inner <= goal else unconverged(model, w, found, goal, f"{taken} {STEPS[self.inner.by]}", near.leaves)
        return Trained(copied(found.at), inner, kept=found, doubt=doubt)

    def slope(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Slope:
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        if self.curvature == "gauss-newton":
            return self._solved(model, w, gauss_newton(model, w, at, batch), batch, warm)
        free = w.detach().requires_grad_()
        return self._solved(model, w, self._bent(model, free, model.lower(free, at, batch), at, batch), batch, warm)

    def slope_of(self, model: Modelled, w: Tensor, near: Trained) -> Slope:
        if self.curvature == "gauss-newton":
            return super().slope_of(model, w, near)
        return self._solved(model, w, near.kept, None, None)

    def _bent(self, model: Modelled, w: Tensor, value: Tensor, at: Leaves, batch: Batch) -> Curved:
        """The lower level's Hessian products, as ``products`` says."""
        if self.products == "reverse":
            bent = hessian(model, value, at, w)
            small = isinstance(self.system, Dense) and len(bent.slope) <= self.system.most
            return written_out(model, bent) if small else bent
        make = pushed if self.products == "forward" else differenced
        return make(model, lambda leaves: model.lower(w, leaves, batch), value, at)

    def _solved(self, model: Modelled, w: Tensor, bent: Curved, batch: Batch, warm: Any) -> Slope:
        free = w.detach().clone().requires_grad_()
        value = model.upper(free, bent.at, batch)
        *v, direct = model.gradient(value, (*bent.at, free))
        solved = self.system.solve(bent.product, vector(tuple(v)), warm)
        if bent.crossed is None:
            crossed = cross_differences if self.products == "differences" else cross_term
            cross = crossed(model, w, bent.at, batch, split(solved.x, bent.at))
        else:
            cross = bent.crossed(solved.x)
        kept = None if batch is None else solved.x
        return Slope(direct - cross, value.detach(), bent.slope.norm(), solved.residual, solved.negative, kept)


def unconverged(model: Modelled, w: Tensor, found: Curved, goal: float, taken: str, start: Leaves) -> str:
    """Why so many steps did not solve a lower level, and the mend: a loss that is not finite, no lower bound, or too few steps."""
    index = model.form.mixture.index or ()
    with torch.no_grad():
        further = tuple(leaf - g for leaf, g in zip(found.at, split(found.slope, found.at), strict=True))
        for where, at in (("there", found.at), ("a gradient step further", further)):
            env = model.env(w, at, None)
            model.second(env)
            losses = model.domain_losses(env)
            broken = (losses.isnan() | losses.isposinf()).tolist()
            bad = [name for name, off in zip(index, broken, strict=False) if off]
            if bad and len(bad) < len(index):
                return f"the loss of {listed(bad)} is not finite {where}, where the lower level leads; bound it, or start elsewhere"
        first, last = (float(model.lower(w, at, None)) for at in (start, found.at))
    if last < -FALLEN * (1 + abs(first)) or not math.isfinite(last):
        return (
            f"the lower level falls without end, from {first:.3g} to {last:.3g} after {taken}: it has no minimum. Add a "
            "regulariser such as sum_squares(theta), or bound the losses below"
        )
    size = float(found.slope.norm())
    if not math.isfinite(size) and (told := endless_slopes(model, w, found.at)):
        return told
    return (
        f"the lower level has not converged: |grad| = {size:.1e} against a tolerance of {goal:.1e} after {taken}, so "
        "the hypergradient may be off. Give Inner(steps=...), a larger Inner(tolerance=...), or a regulariser such as "
        "sum_squares(theta)"
    )
