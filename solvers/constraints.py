"""Which constraints a step over the weights can respect, decided before anything runs."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mixopt.language.curvature import curvature
from mixopt.language.expression import Relation
from mixopt.runtime.program import Function

Geometry = Literal["entropic", "euclidean"]


def refuses_region(geometry: str, constraints: tuple[Relation, ...]) -> tuple[str, ...]:
    """Why a step of this geometry cannot respect these constraints."""
    for relation in constraints:
        if curvature(relation.gap) not in ("affine", "constant"):
            return (
                f"constraint '{relation.label}' is not linear, and its steps respect linear constraints only; "
                "put it into the objective as a penalty",
            )
        if geometry == "entropic" and not _one_weight_a_row(relation):
            return (f"constraint '{relation.label}' ties several weights, which entropic steps do not respect; set geometry='euclidean'",)
    return ()


def _one_weight_a_row(relation: Relation) -> bool:
    mixture = next(n for side in (relation.left, relation.right) for n in side.walk() if n.op == "mixture")
    numbers = {n.data[0]: np.ones(n.shape or ()) for side in (relation.left, relation.right) for n in side.walk() if n.op == "parameter"}
    rows = Function(relation.gap, mixture, numbers).jacobian(np.full(len(mixture), 1 / len(mixture)))
    return bool(((rows != 0).sum(axis=1) <= 1).all())
