"""Gradient balancing: rules that make one direction of the gradients, or of the losses, of k domains; ``solvers.Balanced`` runs them."""

from __future__ import annotations

from .cagrad import CAGrad as CAGrad
from .coba import CoBa as CoBa
from .famo import FAMO as FAMO
from .imtl import IMTLG as IMTLG
from .imtl import IMTLL as IMTLL
from .mftcoder import mftcoder_weights as mftcoder_weights
from .mgda import MGDA as MGDA
from .pcgrad import PCGrad as PCGrad
from .rule import Direction as Direction
from .rule import GramRule as GramRule
from .rule import LossRule as LossRule
from .static import Static as Static
from .torchjd import TorchJD as TorchJD
from .upgrad import UPGrad as UPGrad

__all__ = [
    "FAMO",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "CAGrad",
    "CoBa",
    "Direction",
    "GramRule",
    "LossRule",
    "PCGrad",
    "Static",
    "TorchJD",
    "UPGrad",
    "mftcoder_weights",
]
