"""Linear systems by products alone: conjugate gradients on flat vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LOOK_EVERY = 5


@dataclass(frozen=True)
class Solved:
    """A solution [P] of H x = b, |b - H x| / |b|, products used, and whether negative curvature ended the solve."""

    x: Tensor
    residual: float
    products: int
    negative: bool


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    start: Tensor | None = None,
    steps: int,
    tolerance: float,
    look_every: int | None = None,
) -> Solved:
    """Solve H x = b for a symmetric positive definite H given as a product.

    Stops when |b - H x| <= tolerance |b|, after ``steps`` products, or where p' H p <= 0 (H is not positive definite
    along p: the point before it is returned and ``negative`` is set). The host looks at every product on the CPU, where
    looking is free, and at every fifth on other devices, where it waits; ``look_every`` says otherwise.
    """
    every = look_every or (1 if b.device.type == "cpu" else LOOK_EVERY)
    size = float(b.norm())
    goal = (tolerance * size) ** 2
    if size == 0:
        return Solved(torch.zeros_like(b), 0.0, 0, False)
    x = torch.zeros_like(b) if start is None else start
    r = b if start is None else b - product(x)
    p, rr = r, r @ r
    at, left, bend, used = x, float(rr), 1.0, int(start is not None)
    course: list[Tensor] = []
    marks: list[Tensor] = []
    while left > goal and bend > 0 and used < steps:
        Hp = product(p)
        used += 1
        curve = p @ Hp
        step = rr / curve
        x, r = torch.addcmul(x, step, p), torch.addcmul(r, step, Hp, value=-1)
        new = r @ r
        course.append(x)
        marks += [curve, new]
        p, rr = torch.addcmul(r, new / rr, p), new
        if len(course) == every or used == steps:
            seen = [mark.item() for mark in marks] if every == 1 else torch.stack(marks).tolist()  # one transfer
            at, left, bend = _reached(course, seen, at, left, goal)
            course, marks = [], []
    return Solved(at, left**0.5 / size, used, not bend > 0)


def _reached(course: list[Tensor], marks: list[float], at: Tensor, left: float, goal: float) -> tuple[Tensor, float, float]:
    """The first point that is good enough, or the last before the curvature failed; its squared residual; the last curvature."""
    bend = 1.0
    for x, (bend, new) in zip(course, zip(marks[::2], marks[1::2], strict=True), strict=True):
        if not bend > 0:
            break
        at, left = x, new
        if left <= goal:
            break
    return at, left, bend
