"""Solvers, as values: settings of a method, given to ``solve`` as ``solver=``; those that train a model import torch when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .conic import Conic as Conic
from .grid import Grid as Grid
from .lagrangian import Lagrangian as Lagrangian
from .projected import Projected as Projected
from .simulation import Simulation as Simulation
from .water_filling import WaterFilling as WaterFilling

if TYPE_CHECKING:
    from .balanced import Balanced as Balanced
    from .descent_ascent import DescentAscent as DescentAscent
    from .implicit import ConjugateGradients as ConjugateGradients
    from .implicit import Implicit as Implicit
    from .implicit import Inner as Inner
    from .steps import Normalised as Normalised
    from .surrogate import Surrogate as Surrogate
    from .unrolled import Unrolled as Unrolled
    from .value_function import ValueFunction as ValueFunction

_LATER = {
    "Balanced": "balanced",
    "ConjugateGradients": "implicit",
    "DescentAscent": "descent_ascent",
    "Implicit": "implicit",
    "Inner": "implicit",
    "Normalised": "steps",
    "Surrogate": "surrogate",
    "Unrolled": "unrolled",
    "ValueFunction": "value_function",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'mixopt.solvers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "Balanced",
    "Conic",
    "ConjugateGradients",
    "DescentAscent",
    "Grid",
    "Implicit",
    "Inner",
    "Lagrangian",
    "Normalised",
    "Projected",
    "Simulation",
    "Surrogate",
    "Unrolled",
    "ValueFunction",
    "WaterFilling",
]
