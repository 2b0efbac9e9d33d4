"""Linear systems by products alone, on flat vectors: conjugate gradients, minimal residuals, series, sketches, whole matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

LOOK_EVERY = 5
Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Solved:
    """A solution [P] of H x = b, |b - H x| / |b|, products used, and whether negative curvature ended the solve."""

    x: Tensor
    residual: float
    products: int
    negative: bool


def conjugate_gradients(
    product: Map,
    b: Tensor,
    *,
    start: Tensor | None = None,
    steps: int,
    tolerance: float,
    look_every: int | None = None,
    inverse: Map | None = None,
) -> Solved:
    """Solve H x = b for a symmetric positive definite H given as a product.

    Stops when |b - H x| <= tolerance |b|, after ``steps`` products, or where p' H p <= 0 (H is not positive definite
    along p: the point before it is returned and ``negative`` is set). The host looks at every product on the CPU, where
    looking is free, and at every fifth on other devices, where it waits; ``look_every`` says otherwise. ``inverse`` is a
    preconditioner r -> about H^-1 r, symmetric and positive definite.
    """
    every = look_every or (1 if b.device.type == "cpu" else LOOK_EVERY)
    size = float(b.norm())
    goal = (tolerance * size) ** 2
    if size == 0:
        return Solved(torch.zeros_like(b), 0.0, 0, False)
    x = torch.zeros_like(b) if start is None else start
    r, used = (b, 0) if start is None else (b - product(x), 1)
    if every == 1:
        x, left, used, bend = _looking(product, x, r, goal, used, steps, inverse)
    else:
        x, left, used, bend = _waiting(product, x, r, goal, used, steps, inverse, every)
    return Solved(x, left**0.5 / size, used, not bend > 0)


def _looking(
    product: Map, x: Tensor, r: Tensor, goal: float, used: int, steps: int, inverse: Map | None
) -> tuple[Tensor, float, int, float]:
    """The steps with their lengths on the host: the point, its squared residual, the products, and the last curvature."""
    p = r if inverse is None else inverse(r)
    left, bend = float(r @ r), 1.0
    rr = left if inverse is None else float(r @ p)
    while left > goal and rr > 0 and used < steps:
        Hp = product(p)
        used, bend = used + 1, float(p @ Hp)
        if not bend > 0:
            break
        step = rr / bend
        x, r = torch.add(x, p, alpha=step), torch.add(r, Hp, alpha=-step)
        near = r if inverse is None else inverse(r)
        left = float(r @ r)
        new = left if inverse is None else float(r @ near)
        p, rr = torch.add(near, p, alpha=new / rr), new
    return x, left, used, bend


def _waiting(
    product: Map, x: Tensor, r: Tensor, goal: float, used: int, steps: int, inverse: Map | None, every: int
) -> tuple[Tensor, float, int, float]:
    """The same with the lengths left on the device, where the host looks once in so many steps."""
    p = r if inverse is None else inverse(r)
    rr = r @ p
    at, left, bend = x, float(r @ r), 1.0
    course: list[Tensor] = []
    marks: list[Tensor] = []
    while left > goal and bend > 0 and used < steps:
        Hp = product(p)
        used += 1
        curve = p @ Hp
        step = rr / curve
        x, r = torch.addcmul(x, step, p), torch.addcmul(r, step, Hp, value=-1)
        near = r if inverse is None else inverse(r)
        new = r @ near
        course.append(x)
        marks += [curve, new if inverse is None else r @ r]
        p, rr = torch.addcmul(near, new / rr, p), new
        if len(course) == every or used == steps:
            at, left, bend = _reached(course, torch.stack(marks).tolist(), at, left, goal)  # one transfer
            course, marks = [], []
    return at, left, used, bend


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


def minimal_residual(product: Callable[[Tensor], Tensor], b: Tensor, *, steps: int, tolerance: float) -> Solved:
    """Solve H x = b for a symmetric H of any sign by MINRES; stops when |b - H x| <= tolerance |b|, or after ``steps`` products."""
    size = float(b.norm())
    if size == 0:
        return Solved(torch.zeros_like(b), 0.0, 0, False)
    x, v_old, v, beta = torch.zeros_like(b), torch.zeros_like(b), b / size, 0.0
    w_old, w = torch.zeros_like(b), torch.zeros_like(b)
    c_old, c, s_old, s, eta, used = 1.0, 1.0, 0.0, 0.0, size, 0
    while abs(eta) > tolerance * size and used < steps:
        p = product(v)
        used += 1
        alpha = float(v @ p)
        p = p - alpha * v - beta * v_old
        beta_new = float(p.norm())
        rho = c * alpha - c_old * s * beta
        length, off, far = (rho * rho + beta_new * beta_new) ** 0.5, s * alpha + c_old * c * beta, s_old * beta
        if not length > 0:
            break  # H is singular along all that is left
        c_old, s_old, c, s = c, s, rho / length, beta_new / length
        w_old, w = w, (v - off * w - far * w_old) / length
        x = x + c * eta * w
        eta = -s * eta
        if not beta_new > 0:
            break
        v_old, v, beta = v, p / beta_new, beta_new
    return Solved(x, float((product(x) - b).norm()) / size, used + 1, False)


def neumann(product: Callable[[Tensor], Tensor], b: Tensor, *, start: Tensor | None, steps: int, rate: float | None) -> Solved:
    """x <- x + rate (b - H x), ``steps`` times; without a rate, by 1 / (the largest |eigenvalue| of H), from ten power iterations."""
    size, used = b.norm(), steps + 1
    if float(size) == 0:
        return Solved(torch.zeros_like(b), 0.0, 0, False)
    if rate is None:
        p, top = b / size, size
        for _ in range(10):
            p = product(p)
            top = p.norm()
            p = p / top
        rate, used = 1 / (1.1 * float(top)), used + 10  # power iterations end below the eigenvalue
    x = torch.zeros_like(b) if start is None else start
    for _ in range(steps):
        x = x + rate * (b - product(x))
    return Solved(x, float((product(x) - b).norm() / size), used, False)


def dense(product: Callable[[Tensor], Tensor], b: Tensor) -> Solved:
    """Solve H x = b with H written out, of as many products as it has rows; ``negative`` where it is not positive definite."""
    H = torch.stack([product(e) for e in torch.eye(len(b), dtype=b.dtype, device=b.device)])
    H = (H + H.T) / 2
    x = torch.linalg.lstsq(H, b[:, None]).solution[:, 0] if len(b) else b
    negative = int(torch.linalg.cholesky_ex(H).info) != 0
    size = float(b.norm())
    return Solved(x, float((H @ x - b).norm()) / size if size else 0.0, len(b), negative)


@final
@dataclass(frozen=True)
class Sketch:
    """H seen through seeded random vectors S [P, r]: Y = H S and the core S' Y; H is about Y core^-1 Y'."""

    seen: Tensor
    core: Tensor

    @classmethod
    def of(cls, product: Callable[[Tensor], Tensor], like: Tensor, rank: int, seed: int) -> Sketch:
        """The sketch of H by ``rank`` products, or as many as it has rows."""
        draw = torch.Generator().manual_seed(seed)
        S = torch.randn(len(like), min(rank, len(like)), generator=draw, dtype=torch.float64)
        S = torch.linalg.qr(S).Q.to(like)
        Y = torch.stack([product(column) for column in S.T], dim=1)
        core = S.T @ Y
        return cls(Y, (core + core.T) / 2)

    @property
    def rank(self) -> int:
        """How many products it took."""
        return self.seen.shape[1]

    def inverse(self, shift: float) -> Callable[[Tensor], Tensor]:
        """r -> (Y core^-1 Y' + shift I)^-1 r, by Woodbury's identity."""
        small = shift * self.core + self.seen.T @ self.seen
        fold = torch.linalg.pinv(small, hermitian=True)
        return lambda r: (r - self.seen @ (fold @ (self.seen.T @ r))) / shift

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """About H^-1 for a positive definite H: the sketch's inverse, shifted by the least eigenvalue that it saw."""
        least = torch.linalg.eigvalsh(self.core).abs().min()
        return self.inverse(float(least.clamp_min(torch.finfo(least.dtype).tiny)))


def jacobi(product: Callable[[Tensor], Tensor], like: Tensor, probes: int, seed: int) -> Callable[[Tensor], Tensor]:
    """r -> r / |d|, with d the diagonal of H by ``probes`` products with seeded random signs z: the mean of z * H z.

    Entries below 1e-8 of the largest are raised to that. Source: Bekas, Kokiopoulou and Saad 2007 (Hutchinson's, entry by entry).
    """
    draw = torch.Generator().manual_seed(seed)
    signs = (2 * torch.randint(0, 2, (probes, len(like)), generator=draw) - 1).to(like)
    diagonal = torch.stack([z * product(z) for z in signs]).mean(0).abs()
    diagonal = diagonal.clamp_min(max(1e-8 * float(diagonal.max()), torch.finfo(like.dtype).tiny))
    return lambda r: r / diagonal
