"""Solvers, as values: settings of a method, given to ``solve`` as ``solver=``; those that train a model import torch when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mixopt.solver import Suffix as Suffix
from mixopt.solver import Window as Window

from .conic import Conic as Conic
from .grid import Grid as Grid
from .lagrangian import Lagrangian as Lagrangian
from .projected import Projected as Projected
from .simulation import Simulation as Simulation
from .water_filling import WaterFilling as WaterFilling

if TYPE_CHECKING:
    from .balanced import Balanced as Balanced
    from .best_response import BestResponse as BestResponse
    from .best_response import ChiSquare as ChiSquare
    from .best_response import Entropic as Entropic
    from .best_response import Tail as Tail
    from .bome import BOME as BOME
    from .descent_ascent import DescentAscent as DescentAscent
    from .extragradient import Extragradient as Extragradient
    from .gpbgd import GPBGD as GPBGD
    from .implicit import Implicit as Implicit
    from .inner import Inner as Inner
    from .one_step import OneStep as OneStep
    from .online import Online as Online
    from .outer import LineSearch as LineSearch
    from .scalebio import ScaleBiO as ScaleBiO
    from .schedules import AdaGradNorm as AdaGradNorm
    from .schedules import Backtracking as Backtracking
    from .schedules import Decaying as Decaying
    from .smoothed import SmoothedDescentAscent as SmoothedDescentAscent
    from .steps import Normalised as Normalised
    from .surrogate import Surrogate as Surrogate
    from .systems import ConjugateGradients as ConjugateGradients
    from .systems import Dense as Dense
    from .systems import MinRes as MinRes
    from .systems import Neumann as Neumann
    from .systems import Nystroem as Nystroem
    from .unrolled import Unrolled as Unrolled
    from .value_function import ValueFunction as ValueFunction
    from .vpbgd import VPBGD as VPBGD

_LATER = {
    "AdaGradNorm": "schedules",
    "BOME": "bome",
    "Backtracking": "schedules",
    "Balanced": "balanced",
    "BestResponse": "best_response",
    "ChiSquare": "best_response",
    "ConjugateGradients": "systems",
    "Decaying": "schedules",
    "Dense": "systems",
    "DescentAscent": "descent_ascent",
    "Entropic": "best_response",
    "Extragradient": "extragradient",
    "GPBGD": "gpbgd",
    "Implicit": "implicit",
    "Inner": "inner",
    "LineSearch": "outer",
    "MinRes": "systems",
    "Neumann": "systems",
    "Normalised": "steps",
    "Nystroem": "systems",
    "OneStep": "one_step",
    "Online": "online",
    "ScaleBiO": "scalebio",
    "SmoothedDescentAscent": "smoothed",
    "Surrogate": "surrogate",
    "Tail": "best_response",
    "Unrolled": "unrolled",
    "VPBGD": "vpbgd",
    "ValueFunction": "value_function",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'mixopt.solvers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)


__all__ = [
    "BOME",
    "GPBGD",
    "VPBGD",
    "AdaGradNorm",
    "Backtracking",
    "Balanced",
    "BestResponse",
    "ChiSquare",
    "Conic",
    "ConjugateGradients",
    "Decaying",
    "Dense",
    "DescentAscent",
    "Entropic",
    "Extragradient",
    "Grid",
    "Implicit",
    "Inner",
    "Lagrangian",
    "LineSearch",
    "MinRes",
    "Neumann",
    "Normalised",
    "Nystroem",
    "OneStep",
    "Online",
    "Projected",
    "ScaleBiO",
    "Simulation",
    "SmoothedDescentAscent",
    "Suffix",
    "Surrogate",
    "Tail",
    "Unrolled",
    "ValueFunction",
    "WaterFilling",
    "Window",
]
