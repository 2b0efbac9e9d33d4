"""Ready-made problems of the literature, each a few lines with its source; the mixing laws; and the heuristics."""

from . import catalog as catalog
from .doge import doge as doge
from .doge import validation_problem as validation_problem
from .doremi import doremi as doremi
from .heuristics import proportional as proportional
from .heuristics import temperature as temperature
from .heuristics import uniform as uniform
from .heuristics import unimax as unimax
from .mixmax import mixmax as mixmax
from .mixmin import mixmin as mixmin
from .regmix import regmix as regmix

__all__ = ["doge", "doremi", "mixmax", "mixmin", "proportional", "regmix", "temperature", "uniform", "unimax", "validation_problem"]
