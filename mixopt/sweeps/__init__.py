"""Sweeps: the proxy runs of a design, many small models at once, and never a finished run lost."""

from .by_ray import Ray as Ray
from .collecting import collect as collect
from .corpus import Corpus as Corpus
from .executors import Ensemble as Ensemble
from .executors import Executor as Executor
from .executors import Sequential as Sequential
from .halving import Halving as Halving
from .halving import predicted as predicted
from .journal import Journal as Journal
from .processes import Processes as Processes
from .progress import Progress as Progress
from .sweeping import sweep as sweep

__all__ = ["Corpus", "Ensemble", "Executor", "Halving", "Journal", "Processes", "Progress", "Ray", "Sequential", "collect", "predicted"]
