"""Designs: which mixtures to train proxies on, what they cost, and how they reach a trainer and come back as runs."""

from .advice import advised as advised
from .advice import fewest as fewest
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

__all__ = [
    "KINDS",
    "Bayesian",
    "Climb",
    "DOptimal",
    "Design",
    "Dirichlet",
    "Kind",
    "Lattice",
    "Perturbations",
    "Sobol",
    "Uniform",
    "advised",
    "design",
    "fewest",
]
