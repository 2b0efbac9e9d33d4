"""Tables of proxy runs: which mixture each run was trained on, and the metrics it reached."""

from __future__ import annotations

from .likelihoods import Likelihoods as Likelihoods
from .table import SCALES as SCALES
from .table import Runs as Runs
from .targets import Targets as Targets

__all__ = ["SCALES", "Likelihoods", "Runs", "Targets"]
