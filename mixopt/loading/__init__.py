"""Training samples drawn by weights that may change at any batch, resumable exactly, over any number of ranks."""

from __future__ import annotations

from .draws import Drawing, Draws
from .loader import Batch, MixtureLoader
from .sampler import MixtureSampler
from .stream import MixtureStream, Sample, from_datasets
from .tokens import TokenWindows, tokens

__all__ = [
    "Batch",
    "Drawing",
    "Draws",
    "MixtureLoader",
    "MixtureSampler",
    "MixtureStream",
    "Sample",
    "TokenWindows",
    "from_datasets",
    "tokens",
]
