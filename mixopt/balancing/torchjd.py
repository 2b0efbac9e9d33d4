"""Rules of the TorchJD library, Nash-MTL among them, as rules of ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixopt.errors import InputError, MissingExtraError, unknown
from mixopt.runtime.region import Region

from .nearest import factor
from .rule import Direction, GramRule, products

NAMES = {
    "aligned_mtl": "AlignedMTL",
    "cagrad": "CAGrad",
    "dual_proj": "DualProj",
    "imtl_g": "IMTLG",
    "mgda": "MGDA",
    "nash_mtl": "NashMTL",
    "pcgrad": "PCGrad",
    "upgrad": "UPGrad",
}
"""The rules that can be taken, by the names here, and their classes in ``torchjd.aggregation``."""


@dataclass(frozen=True)
class TorchJD(GramRule):
    """A rule of TorchJD by its name: "nash_mtl", "upgrad", "aligned_mtl", "dual_proj", or its own "mgda", "cagrad", "imtl_g", "pcgrad".

    ``options`` go to its class, as ``TorchJD("cagrad", {"c": 0.4})``. Nash-MTL and CAGrad there need solvers of their own, which the
    extra brings. Where mixopt has a rule of the same name, that one is exact and this one is for comparison.

    Source: Quinton and Rey 2024, arXiv 2406.16232; Navon et al. 2022, arXiv 2202.01017 (Nash-MTL); code SimplexLab/TorchJD.

    Raises:
        InputError: no such rule, or options that its class does not take.
        MissingExtraError: torchjd is not installed.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise unknown("rule of TorchJD", self.name, NAMES)

    def begin(self, k: int, seed: int) -> Any:
        try:
            from torchjd import aggregation
        except ImportError:
            raise MissingExtraError("torchjd", "torchjd", f"TorchJD({self.name!r})") from None
        try:
            return getattr(aggregation, NAMES[self.name])(**({"n_tasks": k} if self.name == "nash_mtl" else {}), **self.options)
        except ImportError as error:
            raise MissingExtraError(f"a solver ({error})", "torchjd", f"TorchJD({self.name!r})") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"TorchJD({self.name!r}) does not take the options {dict(self.options)}: {error}") from None

    def direction(self, gram: Any, *, region: Region | None = None, memory: Any = None) -> Direction:
        """As for every rule; ``memory`` is the library's object, a new one where there is none."""
        import torch

        inner = products(gram)
        made = self.begin(len(inner), 0) if memory is None else memory
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are solving a parameterized problem that is not DPP", UserWarning)  # Nash-MTL's
            if hasattr(made, "gramian_weighting"):
                found = made.gramian_weighting(torch.from_numpy(inner))
            else:
                found = made.weighting(torch.from_numpy(factor(inner).T.copy()))
        return Direction(np.asarray(found.detach().double().cpu()))
