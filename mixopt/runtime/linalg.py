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


def conjugate_gradients(product: Callable[[Tensor], Tensor], b: Tensor, *, start: Tensor | None, steps: int, tolerance: float) -> Solved:
    """Solve H x = b for a symmetric positive definite H given as a product.

    Stops when |b - H x| <= tolerance |b|, after ``steps`` products, or where p' H p <= 0 (H is not positive definite
    along p: the point so far is returned and ``negative`` is set). The host looks every few products, not at each.
    """
    size = float(b.norm())
    if size == 0:
        return Solved(torch.zeros_like(b), 0.0, 0, False)
    x = torch.zeros_like(b) if start is None else start
    r = b.clone() if start is None else b - product(x)
    p, rr = r, r @ r
    used, least = int(start is not None), torch.full((), torch.inf, dtype=b.dtype, device=b.device)
    for count in range(1, steps + 1):
        Hp = product(p)
        used += 1
        bend = p @ Hp
        least = torch.minimum(least, bend)
        ok = (least > 0) & (rr > 0)
        alpha = torch.where(ok, rr / torch.where(ok, bend, torch.ones_like(bend)), torch.zeros_like(rr))
        x, r = x + alpha * p, r - alpha * Hp
        new = r @ r
        p = r + torch.where(rr > 0, new / torch.where(rr > 0, rr, torch.ones_like(rr)), torch.zeros_like(rr)) * p
        rr = new
        if count % LOOK_EVERY == 0 or count == steps:
            left, low = torch.stack([rr, least]).tolist()
            if left <= (tolerance * size) ** 2 or low <= 0:
                break
    left, low = torch.stack([rr, least]).tolist()
    return Solved(x, left**0.5 / size, used, low < 0)
