"""Designs: which mixtures to train proxies on, what they cost, and how they reach a trainer and come back as runs."""

from .advice import advised as advised
from .advice import fewest as fewest
from .collecting import collect as collect
from .collecting import save as save
from .cutting import Kept as Kept
from .cutting import cut as cut
from .emitting import DESIGN as DESIGN
from .emitting import Emitted as Emitted
from .emitting import check_folder as check_folder
from .emitting import emit as emit
from .epoching import simulated as simulated
from .epoching import subsample as subsample
from .kinds import Dirichlet as Dirichlet
from .kinds import Kind as Kind
from .kinds import Lattice as Lattice
from .kinds import Sobol as Sobol
from .kinds import Uniform as Uniform
from .learning import Bayesian as Bayesian
from .learning import Climb as Climb
from .learning import DOptimal as DOptimal
from .making import KINDS as KINDS
from .making import design as design
from .perturbations import Perturbations as Perturbations
from .plan import Design as Design
from .pricing import Price as Price
from .pricing import price as price

__all__ = [
    "DESIGN",
    "Bayesian",
    "Climb",
    "DOptimal",
    "Dirichlet",
    "Emitted",
    "Kept",
    "Kind",
    "Lattice",
    "Perturbations",
    "Price",
    "Sobol",
    "Uniform",
    "advised",
    "collect",
    "cut",
    "emit",
    "fewest",
    "simulated",
    "subsample",
]
