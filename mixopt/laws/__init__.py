"""Mixing laws fitted from proxy runs: how each target's metric depends on the mixture."""

from .exponential import Exponential as Exponential
from .law import Fit as Fit
from .law import Law as Law
from .law import TargetLaw as TargetLaw
from .table import LAWS as LAWS
from .table import load as load
from .validation import CrossValidation as CrossValidation
from .validation import cross_validate as cross_validate

__all__ = ["LAWS", "CrossValidation", "Exponential", "Fit", "Law", "TargetLaw", "cross_validate", "load"]
