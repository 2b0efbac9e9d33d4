"""Mixing laws fitted from proxy runs: how each target's metric depends on the mixture."""

from .ado import ADO as ADO
from .apple import AppleAdditive as AppleAdditive
from .apple import AppleJoint as AppleJoint
from .autoscale import AutoScale as AutoScale
from .bimix import BiMix as BiMix
from .blend import Blended as Blended
from .choice import LawChoice as LawChoice
from .choice import choose as choose
from .comparison import LawComparison as LawComparison
from .comparison import compare_laws as compare_laws
from .dcpt import DCPT as DCPT
from .exponential import Exponential as Exponential
from .extent import ExtrapolationWarning as ExtrapolationWarning
from .formula import Formula as Formula
from .gaussian import GaussianProcess as GaussianProcess
from .law import Fit as Fit
from .law import Law as Law
from .law import TargetLaw as TargetLaw
from .linear import Linear as Linear
from .online import Online as Online
from .planned import Planned as Planned
from .posterior import Gain as Gain
from .posterior import Posterior as Posterior
from .posterior import bootstrap as bootstrap
from .posterior import jackknife as jackknife
from .posterior import laplace as laplace
from .power import AdditivePower as AdditivePower
from .scaling import Chinchilla as Chinchilla
from .suggestion import suggest as suggest
from .table import LAWS as LAWS
from .table import load as load
from .task import TaskLaw as TaskLaw
from .task import task_scores as task_scores
from .trees import LightGBM as LightGBM
from .validation import CrossValidation as CrossValidation
from .validation import cross_validate as cross_validate

__all__ = [
    "ADO",
    "DCPT",
    "LAWS",
    "AdditivePower",
    "AppleAdditive",
    "AppleJoint",
    "AutoScale",
    "BiMix",
    "Blended",
    "Chinchilla",
    "CrossValidation",
    "Exponential",
    "ExtrapolationWarning",
    "Fit",
    "Formula",
    "Gain",
    "GaussianProcess",
    "Law",
    "LawChoice",
    "LawComparison",
    "LightGBM",
    "Linear",
    "Online",
    "Planned",
    "Posterior",
    "TargetLaw",
    "TaskLaw",
    "bootstrap",
    "choose",
    "compare_laws",
    "cross_validate",
    "jackknife",
    "laplace",
    "load",
    "suggest",
    "task_scores",
]
