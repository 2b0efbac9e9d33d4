"""Designs: which mixtures to train proxies on, what they cost, and how they reach a trainer and come back as runs."""

from .advice import advised as advised
from .advice import fewest as fewest
from .kinds import Dirichlet as Dirichlet
from .kinds import Kind as Kind
from .kinds import Lattice as Lattice
from .kinds import Sobol as Sobol
from .kinds import Uniform as Uniform
from .making import KINDS as KINDS
from .making import design as design
from .plan import Design as Design

__all__ = ["KINDS", "Design", "Dirichlet", "Kind", "Lattice", "Sobol", "Uniform", "advised", "design", "fewest"]
