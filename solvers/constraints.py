"""Which constraints a step over the weights can respect, decided before anything runs."""

from __future__ import annotations

from typing import Literal

from mixopt.language.curvature import curvature
from mixopt.language.expression import Relation

Geometry = Literal["entropic", "euclidean"]


def refuses_region(constraints: tuple[Relation, ...]) -> tuple[str, ...]:
    """Why steps over the weights cannot respect these constraints."""
    for relation in constraints:
        if curvature(relation.gap) not in ("affine", "constant"):
            return (
                f"constraint '{relation.label}' is not linear, and its steps respect linear constraints only; "
                "put it into the objective as a penalty",
            )
    return ()
