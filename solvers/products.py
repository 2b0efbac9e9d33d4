"""Products with the curvature of a lower level, and its mixed derivative with the weights: each by what the losses can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from mixopt.errors import LearnerError
from mixopt.runtime.learner import Batch
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, split, vector

Product = Callable[[Tensor], Tensor]
LINEAR = "the lower level is linear in the model, so it has no curvature and no minimum; add a regulariser such as sum_squares(theta)"


@dataclass(frozen=True)
class Curved:
    """An objective at some parameters: curvature products p -> B p, its gradient [P], and how exact the products are, relatively.

    ``crossed`` is q [P] -> <d/dw_i grad lower, q> [k] where a graph that is kept has it.
    """

    at: Leaves
    product: Product
    slope: Tensor
    exact: float = 0.0
    crossed: Product | None = None


def hessian(model: Modelled, lower: Tensor, at: Leaves, free: Tensor | None = None) -> Curved:
    """p -> H p of the lower level's value on one retained graph, and its mixed derivative with the ``free`` weights."""
    graph = model.gradient(lower, at, create_graph=True)
    live = [i for i, g in enumerate(graph) if g.requires_grad]
    bent = tuple(graph[i] for i in live)

    def along(p: Tensor, inputs: Leaves) -> tuple[Tensor | None, ...]:
        if not live:
            return (None,) * len(inputs)
        parts = split(p, at)
        if len(live) < len(at):
            parts = tuple(parts[i] for i in live)
        return torch.autograd.grad(bent, inputs, parts, retain_graph=True, allow_unused=True)

    def product(p: Tensor) -> Tensor:
        model.meter.hessian_products += 1
        found = along(p, at)
        there = [part for part in found if part is not None]
        if not there:
            raise LearnerError(LINEAR)
        if len(there) == len(at):
            return vector(tuple(there))
        return vector(tuple(torch.zeros_like(leaf) if part is None else part for leaf, part in zip(at, found, strict=True)))

    def crossed(q: Tensor) -> Tensor:
        assert free is not None
        (found,) = along(q, (free,))
        return torch.zeros_like(free) if found is None else found

    slope = vector(tuple(g.detach() for g in graph))
    return Curved(at, product, slope, crossed=None if free is None else crossed)


def written_out(model: Modelled, bent: Curved) -> Curved:
    """The same with the matrix [P, P] written out at the first product, by one backward pass for all its rows where torch can."""
    seen: list[Tensor] = []

    def product(p: Tensor) -> Tensor:
        if not seen:
            rows, before = torch.eye(len(p), dtype=p.dtype, device=p.device), model.meter.hessian_products
            try:
                H = torch.vmap(bent.product)(rows)
            except RuntimeError:  # an operation that torch does not vectorise
                H = torch.stack([bent.product(row) for row in rows])
            model.meter.hessian_products = before + len(p)
            seen.append((H + H.T) / 2)
        return seen[0] @ p

    return replace(bent, product=product)


def pushed(model: Modelled, objective: Callable[[Leaves], Tensor], value: Tensor, at: Leaves) -> Curved:
    """p -> H p by forward over reverse: no graph is kept between products, and each takes a gradient with its tangent."""
    slope = vector(model.gradient(value, at)).detach()

    def product(p: Tensor) -> Tensor:
        model.meter.hessian_products += 1
        try:
            with forward_ad.dual_level():
                duals = tuple(
                    forward_ad.make_dual(leaf.detach().requires_grad_(), part) for leaf, part in zip(at, split(p, at), strict=True)
                )
                found = torch.autograd.grad(objective(duals), duals, materialize_grads=True)
                tangents = [forward_ad.unpack_dual(g).tangent for g in found]
        except (NotImplementedError, RuntimeError) as error:
            if "forward" not in str(error):
                raise
            raise LearnerError(f"the losses have no forward mode: {error}; give products='reverse' or 'differences'") from error
        return vector(tuple(torch.zeros_like(leaf) if t is None else t for leaf, t in zip(at, tangents, strict=True))).detach()

    return Curved(at, product, slope)


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


def cross_differences(model: Modelled, w: Tensor, at: Leaves, batch: Batch, q: Leaves) -> Tensor:
    """The same by central differences of d lower / dw along q, for losses with first derivatives alone: two forward passes."""
    free, base = w.detach().clone().requires_grad_(), vector(at).detach()
    flat = vector(q).detach()
    size = float(flat.norm())
    if not size > 0:
        return torch.zeros_like(free)
    step = rounding(at) ** (1 / 3) * (1 + float(base.norm())) / size
    ends = [torch.autograd.grad(model.lower(free, split(base + sign * step * flat, at), batch), free)[0] for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def rounding(leaves: Leaves) -> float:
    """The distance from 1 to the next number in the coarsest dtype of the parameters."""
    return max(torch.finfo(leaf.dtype).eps for leaf in leaves)


def differenced(model: Modelled, objective: Callable[[Leaves], Tensor], value: Tensor, at: Leaves) -> Curved:
    """p -> H p by differences of gradients, for what cannot be differentiated twice: one more gradient a product."""
    slope, base = vector(model.gradient(value, at)).detach(), vector(at).detach()
    half = rounding(at) ** 0.5
    far = half * (1 + base.norm())

    def product(p: Tensor) -> Tensor:
        step = far / p.norm()
        moved = tuple(leaf.detach().requires_grad_() for leaf in split(base + step * p, at))
        return (vector(model.gradient(objective(moved), moved)) - slope) / step

    return Curved(at, product, slope, 100 * half)
