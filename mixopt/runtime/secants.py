"""Directions and their products with a curvature matrix, kept from earlier linear systems to precondition the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

MOST, NUMBERS, INDEPENDENT = 64, 4_000_000, 0.03
"""The most pairs kept, the most numbers that they take together, and the share of new direction that a pair must bring."""


@final
@dataclass(frozen=True)
class Secants:
    """Pairs of p and H p, both [P], the newest last; H may have changed a little since."""

    pairs: tuple[tuple[Tensor, Tensor], ...] = ()

    def joined(self, seen: list[tuple[Tensor, Tensor]]) -> Secants:
        """These and newer pairs, of which the last are kept."""
        pairs = (*self.pairs, *((p / p.norm(), Hp / p.norm()) for p, Hp in seen))
        most = min(MOST, NUMBERS // (2 * len(pairs[0][0]))) if pairs else 0
        return Secants(pairs[-most:] if most else ())

    def inverse(self) -> Callable[[Tensor], Tensor] | None:
        """r -> M r, with M y = p for the pairs and M a multiple of the identity elsewhere, positive definite; None without pairs.

        Source: Gratton, Sartenaer and Tshimanga 2011 (limited-memory preconditioners), equation 2.1.
        """
        if not self.pairs:
            return None
        p, y = (torch.stack(part, dim=1) for part in zip(*self.pairs, strict=True))
        u, sizes, v = torch.linalg.svd(p, full_matrices=False)
        kept = sizes > INDEPENDENT * sizes[0]
        s = u[:, kept]
        y = y @ (v[kept].T / sizes[kept])
        bend, turned = torch.linalg.eigh((s.T @ y + y.T @ s) / 2)
        if not bool(bend[0] > 0):
            return None
        s, y, scale = s @ turned, y @ turned, bend.mean()

        def product(r: Tensor) -> Tensor:
            along = (s.T @ r) / bend
            rest = r - y @ along
            return s @ (along - (y.T @ rest) / bend / scale) + rest / scale

        return product
