"""Hypergradients by the implicit function theorem: one linear system and one forward-mode product serve all domains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mixopt.errors import InputError, LearnerError
from mixopt.forms import Abilities, Bilevel
from mixopt.runtime.learner import Batch
from mixopt.runtime.linalg import Solved, conjugate_gradients
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied, split, vector

from .bilevel import BilevelSolver, Slope, Trained

Curvature = Literal["hessian", "gauss-newton"]
Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Inner:
    """The lower level of an exact learner: Newton steps by conjugate gradients until |grad| <= ``tolerance``, ``steps`` at most."""

    tolerance: float = 1e-9
    steps: int = 50

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.steps < 1:
            raise InputError(f"Inner(tolerance={self.tolerance}, steps={self.steps}): both are > 0")


@dataclass(frozen=True)
class ConjugateGradients:
    """The linear system (H + damping I) q = v: ``steps`` products at most, until the residual is ``tolerance`` of |v|."""

    steps: int = 200
    tolerance: float = 1e-9
    damping: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.tolerance > 0 or not self.damping >= 0:
            raise InputError(f"{self}: steps and tolerance are > 0, damping is >= 0")


@dataclass(frozen=True, kw_only=True)
class Implicit(BilevelSolver):
    """dF/dw_i = d upper/dw_i - <d/dw_i grad lower, q>, where H q = grad upper and H is the lower level's Hessian.

    The products <grad l_i, q> of all k domains are one forward-mode product, so the cost does not grow with k.
    ``curvature="gauss-newton"`` takes Gauss-Newton products for H, which are positive semidefinite even far from a
    minimum; with ``damping`` they are what a network needs, whose lower level never converges.

    Source: Pedregosa 2016, arXiv 1602.02355; section B.2.1 of the survey (implicit function).
    """

    inner: Inner = field(default_factory=Inner)
    system: ConjugateGradients = field(default_factory=ConjugateGradients)
    curvature: Curvature = "hessian"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curvature not in ("hessian", "gauss-newton"):
            raise InputError(f"the curvature is {self.curvature!r}; it is 'hessian' or 'gauss-newton'")

    @property
    def oracle(self) -> str:
        damped = f", damping {self.system.damping:g}" if self.system.damping else ""
        return f"the implicit function theorem ({self.curvature} products{damped})"

    def limits(self, form: Bilevel, abilities: Abilities) -> tuple[str, ...]:
        if self.curvature == "gauss-newton" and any(n.op == "tokens" for n in form.lower.walk()):
            return ("the lower level uses token losses, for which it has no Gauss-Newton products; use losses(...)",)
        if self.curvature == "gauss-newton" and not abilities.gauss_newton:
            return ("the learner has no Gauss-Newton products; use curvature='hessian'",)
        if self.curvature == "hessian" and not abilities.double_backward:
            return ("the learner's losses cannot be differentiated twice; use curvature='gauss-newton' or ValueFunction()",)
        return ()

    def trained(self, model: Modelled, w: Tensor, near: Trained) -> Trained:
        found, taken = newton(
            lambda at: model.lower(w, at, None), lambda value, at: hessian(model, value, at), near.leaves, self.inner, self.system
        )
        goal, inner = reach(self.inner, near.leaves), float(found.slope.norm())
        doubt = (
            f"the lower level has not converged: |grad| = {inner:.1e} against a tolerance of {goal:.1e} after {taken} Newton steps, so the "
            "hypergradient may be off. Give Inner(steps=...), a larger Inner(tolerance=...), or a regulariser such as sum_squares(theta)"
        )
        return Trained(copied(found.at), inner, kept=found, doubt="" if inner <= goal else doubt)

    def slope(self, model: Modelled, w: Tensor, leaves: Leaves, batch: Batch, warm: Any) -> Slope:
        at = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        if self.curvature == "gauss-newton":
            return self._solved(model, w, gauss_newton(model, w, at, batch), batch, warm)
        return self._solved(model, w, hessian(model, model.lower(w, at, batch), at), batch, warm)

    def slope_of(self, model: Modelled, w: Tensor, near: Trained) -> Slope:
        if self.curvature == "gauss-newton":
            return super().slope_of(model, w, near)
        return self._solved(model, w, near.kept, None, None)

    def _solved(self, model: Modelled, w: Tensor, bent: Curved, batch: Batch, warm: Any) -> Slope:
        free, damping = w.detach().clone().requires_grad_(), self.system.damping
        value = model.upper(free, bent.at, batch)
        *v, direct = model.gradient(value, (*bent.at, free))
        product: Product = (lambda p: bent.product(p) + damping * p) if damping else bent.product
        solved = conjugate_gradients(product, vector(tuple(v)), start=warm, steps=self.system.steps, tolerance=self.system.tolerance)
        cross = cross_term(model, w, bent.at, batch, split(solved.x, bent.at))
        kept = None if batch is None else solved.x
        return Slope(direct - cross, value.detach(), bent.slope.norm(), solved.residual, solved.negative, kept)


@dataclass(frozen=True)
class Curved:
    """An objective at some parameters: curvature products p -> B p, its gradient [P], and how exact the products are, relatively."""

    at: Leaves
    product: Product
    slope: Tensor
    exact: float = 0.0


def hessian(model: Modelled, lower: Tensor, at: Leaves) -> Curved:
    """p -> H p of the lower level's value on one retained graph."""
    graph = model.gradient(lower, at, create_graph=True)
    if not any(g.requires_grad for g in graph):
        raise LearnerError(
            "the lower level is linear in the model, so it has no curvature and no minimum; add a regulariser such as sum_squares(theta)"
        )

    def product(p: Tensor) -> Tensor:
        model.meter.hessian_products += 1
        return vector(torch.autograd.grad(graph, at, split(p, at), retain_graph=True, materialize_grads=True))

    return Curved(at, product, vector(tuple(g.detach() for g in graph)))


def gauss_newton(model: Modelled, w: Tensor, at: Leaves, batch: Batch) -> Curved:
    """p -> (sum_i c_i J_i' H_i J_i + H_rest) p with c = d lower / d losses, H_rest the Hessian of what is no loss."""
    env = model.env(w, at, batch)
    slope = vector(model.gradient(model.second(env)[0], at)).detach()
    trained = [node for node in model.second.measures if node.args[0] == model.inner]  # a given model is a constant here
    fixed: dict[Any, Tensor] = {node: env.measured[node].detach().requires_grad_() for node in trained}
    detached = model.env(w, at, batch)
    detached.measured.update(env.measured | fixed)
    rest = model.second(detached)[0]
    coefficients = torch.autograd.grad(rest, tuple(fixed.values()), retain_graph=True, materialize_grads=True)
    for node in trained:
        model.bound.count(node.data, batch)  # the products' own forward pass
    products = [
        model.learner.gauss_newton(at, node.data, batch, model.bound.ordered_back(node, c))
        for node, c in zip(fixed, coefficients, strict=True)
    ]
    graph = torch.autograd.grad(rest, at, create_graph=True, materialize_grads=True)
    bends = any(g.requires_grad for g in graph)

    def product(p: Tensor) -> Tensor:
        model.meter.hessian_products += 1
        parts = split(p, at)
        total = sum(vector(one(parts)) for one in products)
        if bends:
            live = [(g, v) for g, v in zip(graph, parts, strict=True) if g.requires_grad]
            more = torch.autograd.grad([g for g, _ in live], at, [v for _, v in live], retain_graph=True, materialize_grads=True)
            total = total + vector(more)
        return total  # type: ignore[return-value]

    return Curved(at, product, slope)


def cross_term(model: Modelled, w: Tensor, at: Leaves, batch: Batch, q: Leaves) -> Tensor:
    """<d/dw_i grad lower, q> for every i [k]: the forward-mode derivative of d lower / dw along q.

    A model with an operation that has no forward mode is answered by a second backward pass: the same numbers, dearer.
    """
    free = w.detach().clone().requires_grad_()
    try:
        with forward_ad.dual_level():
            duals = tuple(forward_ad.make_dual(leaf.detach(), part.detach()) for leaf, part in zip(at, q, strict=True))
            (over_w,) = torch.autograd.grad(model.lower(free, duals, batch), free)
            tangent = forward_ad.unpack_dual(over_w).tangent
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error):
            raise
        slopes = model.gradient(model.lower(free, at, batch), at, create_graph=True)
        (tangent,) = torch.autograd.grad(vector(slopes) @ vector(q).detach(), free, materialize_grads=True)
    return torch.zeros_like(free) if tangent is None else tangent


def reach(inner: Inner, leaves: Leaves) -> float:
    """The tolerance on |grad| that the parameters' dtype can reach."""
    return max(inner.tolerance, 100 * rounding(leaves))


def rounding(leaves: Leaves) -> float:
    """The distance from 1 to the next number in the coarsest dtype of the parameters."""
    return max(torch.finfo(leaf.dtype).eps for leaf in leaves)


def newton(
    objective: Callable[[Leaves], Tensor],
    curved: Callable[[Tensor, Leaves], Curved],
    start: Leaves,
    inner: Inner,
    system: ConjugateGradients,
) -> tuple[Curved, int]:
    """A minimum of an objective by Newton steps with a line search: where it ended, and the steps taken.

    ``curved`` gives the curvature at a point from the value there. Each linear system is solved to the square of the last step's
    progress, so that convergence is quadratic in the end.
    """
    at, goal = tuple(leaf.detach().requires_grad_() for leaf in start), reach(inner, start)
    last, share, taken = float("inf"), 1e-3, 0
    while True:
        value = objective(at)
        bent = curved(value, at)
        size = float(bent.slope.norm())
        if not size > goal or taken == inner.steps:
            return bent, taken
        share = min(share, (size / last) ** 2) if taken else share
        aim = max(0.1 * goal / size, share, bent.exact)
        solved: Solved = conjugate_gradients(bent.product, -bent.slope, steps=system.steps, tolerance=aim)
        moved = None
        for path in (solved.x, -bent.slope):  # the gradient where Newton's step is no descent, or too long to be shortened
            descent = float(path @ bent.slope)
            if moved is None and descent < 0:
                moved = _searched(objective, at, path, float(value.detach()), descent)
        if moved is None:
            return bent, taken
        at, last, taken = tuple(leaf.requires_grad_() for leaf in moved), size, taken + 1


def _searched(objective: Callable[[Leaves], Tensor], leaves: Leaves, path: Tensor, value: float, descent: float) -> Leaves | None:
    """Armijo backtracking along a path from a value; None where rounding leaves no progress."""
    base = tuple(leaf.detach() for leaf in leaves)
    parts = split(path, base)
    with torch.no_grad():
        slack = 500 * rounding(base) * (1 + abs(value))
        share = 1.0
        while share > 1e-10:
            moved = tuple(leaf + share * part for leaf, part in zip(base, parts, strict=True))
            if float(objective(moved)) <= value + 1e-4 * share * descent + slack:
                return moved
            share /= 2
    return None
