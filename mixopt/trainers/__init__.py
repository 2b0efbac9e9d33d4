"""Schedules inside trainers: losses by domain from the trainer's own forward pass, callbacks, several processes, and restarts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .checkpoint import Checkpoint as Checkpoint
from .losses import DomainLoss as DomainLoss
from .losses import chunked_cross_entropy as chunked_cross_entropy
from .losses import cross_entropy as cross_entropy
from .losses import domain_sums as domain_sums
from .meter import Meter as Meter
from .ranks import check_ranks as check_ranks
from .ranks import reduce_sums as reduce_sums
from .stages import Advance as Advance
from .stages import advance as advance

if TYPE_CHECKING:
    from .hugging_face import ScheduleCallback as ScheduleCallback
    from .lightning import LightningCallback as LightningCallback

_LATER = {"LightningCallback": "lightning", "ScheduleCallback": "hugging_face"}
"""Names whose module needs a package that is not always there."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'mixopt.trainers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mixopt.trainers.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Advance",
    "Checkpoint",
    "DomainLoss",
    "LightningCallback",
    "Meter",
    "ScheduleCallback",
    "advance",
    "check_ranks",
    "chunked_cross_entropy",
    "cross_entropy",
    "domain_sums",
    "reduce_sums",
]
