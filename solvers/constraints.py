"""Which constraints a step over the weights can respect, decided before anything runs."""

from __future__ import annotations

from typing import Literal

from mixopt.language.curvature import curvature
from mixopt.language.expression import Expr, Relation
from mixopt.language.opaque import TAKERS, blind

Geometry = Literal["entropic", "euclidean"]


def refuses_blind(*expressions: Expr) -> tuple[str, ...]:
    """Why steps along a gradient are not possible, where a part has none."""
    node = blind(*expressions)
    return () if node is None else (f"'{node}' is opaque, so there is no gradient to descend; {TAKERS}",)


def refuses_region(constraints: tuple[Relation, ...]) -> tuple[str, ...]:
    """Why steps over the weights cannot respect these constraints."""
    for relation in constraints:
        bend = curvature(relation.gap)
        if bend not in ("affine", "constant") and (relation.sense == "==" or bend != "convex"):
            what = "an equality that is not linear" if relation.sense == "==" else "not convex by the rules"
            return (f"constraint '{relation.label}' is {what}, and its steps respect convex constraints only; put it into the objective",)
    return ()
