"""The lower level of an exact learner, solved: by Newton steps, by L-BFGS, or by the learner's own optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mixopt.errors import InputError
from mixopt.runtime.linalg import conjugate_gradients
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.tree import Leaves, copied, split, vector

from .products import Curved, rounding
from .systems import ConjugateGradients

By = Literal["newton", "lbfgs", "optimizer"]
STEPS: dict[By, str] = {"newton": "Newton steps", "lbfgs": "steps of L-BFGS", "optimizer": "steps of the learner's optimizer"}


@dataclass(frozen=True)
class Inner:
    """The lower level of an exact learner: steps until |grad| <= ``tolerance``, ``steps`` at most.

    ``by`` "newton": Newton steps by conjugate gradients, of which 50 are many. "lbfgs": torch's L-BFGS with a strong Wolfe line search, for
    small problems; "optimizer": the learner's own, any of torch's. These need more ``steps``, and only near a minimum that rounding
    lets them reach: where they stop above the tolerance, the result says at which |grad|.
    """

    tolerance: float = 1e-9
    steps: int = 50
    by: By = "newton"

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.steps < 1:
            raise InputError(f"Inner(tolerance={self.tolerance}, steps={self.steps}): both are > 0")
        if self.by not in STEPS:
            raise InputError(f"Inner(by={self.by!r}): it is 'newton', 'lbfgs' or 'optimizer' (the learner's own)")


Objective = Callable[[Leaves], Tensor]


def minimum(
    model: Modelled,
    objective: Objective,
    curved: Callable[[Tensor, Leaves], Curved],
    start: Leaves,
    inner: Inner,
    system: ConjugateGradients,
    inverse: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Curved, int]:
    """A minimum of an objective as ``inner`` says: where it ended, with the curvature there, and the steps taken.

    ``curved`` gives the curvature at a point from the value there; of Newton's systems ``system`` says how long they are solved, and
    ``inverse`` preconditions them.
    """
    if inner.by == "newton":
        return newton(objective, curved, start, inner, system, inverse)
    at, goal = copied(start, trainable=True), reach(inner, start)
    if inner.by == "lbfgs":
        at, taken = _lbfgs(model, objective, at, goal, inner.steps)
    else:
        at, taken = _stepped(model, objective, at, goal, inner.steps)
    at = copied(at, trainable=True)
    return curved(objective(at), at), taken


def _lbfgs(model: Modelled, objective: Objective, at: Leaves, goal: float, steps: int) -> tuple[Leaves, int]:
    """Steps of L-BFGS: searched, and where rounding hides the descent from the search, full ones, kept if they lower |grad|."""
    taken, last = 0, math.inf
    for search in ("strong_wolfe", None):
        new = copied(at, trainable=True)
        optimizer = torch.optim.LBFGS(
            list(new),
            max_iter=steps - taken,
            max_eval=25 * steps,
            history_size=20,
            tolerance_grad=goal / math.sqrt(sum(leaf.numel() for leaf in new)),
            tolerance_change=0.0,
            line_search_fn=search,
        )
        seen: list[float] = []
        optimizer.step(_closure(model, objective, new, optimizer, seen))
        size = float(vector(model.gradient(objective(new), new)).norm())
        if not size < last:
            break
        at, last, taken = new, size, taken + int(optimizer.state[new[0]]["n_iter"])
        if size <= goal or taken >= steps:
            break
    return at, taken


def _stepped(model: Modelled, objective: Objective, at: Leaves, goal: float, steps: int) -> tuple[Leaves, int]:
    """Steps of the learner's optimizer to the first point whose gradient is small, and how many."""
    optimizer, taken = model.learner.searching(at), 0
    while taken < steps:
        before, seen = copied(at), list[float]()
        optimizer.step(_closure(model, objective, at, optimizer, seen))  # the first point that it sees is the one before
        if not seen[0] > goal:
            return before, taken
        taken += 1
    return at, taken


def _closure(model: Modelled, objective: Objective, at: Leaves, optimizer: torch.optim.Optimizer, seen: list[float]) -> Callable[[], float]:
    """What an optimizer calls at each point: the value, its gradient left in the leaves, whose norm is noted."""

    def closure() -> float:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = objective(at)
        value.backward(inputs=list(at))
        model.meter.gradients += 1
        seen.append(float(vector(tuple(leaf.grad for leaf in at if leaf.grad is not None)).norm()))
        return float(value.detach())

    return closure


def reach(inner: Inner, leaves: Leaves) -> float:
    """The tolerance on |grad| that the parameters' dtype can reach."""
    return max(inner.tolerance, 100 * rounding(leaves))


def newton(
    objective: Callable[[Leaves], Tensor],
    curved: Callable[[Tensor, Leaves], Curved],
    start: Leaves,
    inner: Inner,
    system: ConjugateGradients,
    inverse: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Curved, int]:
    """A minimum of an objective by Newton steps with a line search: where it ended, and the steps taken.

    ``curved`` gives the curvature at a point from the value there, and ``inverse`` preconditions its systems. Each is solved to the
    square of the last step's progress, so that convergence is quadratic in the end.
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
        solved = conjugate_gradients(bent.product, -bent.slope, steps=system.steps, tolerance=aim, inverse=inverse)
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
