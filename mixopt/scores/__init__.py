"""Scores of domains, cheaply, of a user's own module in a loop of their own: alignments, products, lengths, noise, embeddings."""

from __future__ import annotations

from .alignment import alignment as alignment
from .choice import Chosen as Chosen
from .choice import choose as choose
from .clusters import Clusters as Clusters
from .clusters import clusters as clusters
from .embeddings import embeddings as embeddings
from .noise import signal_and_noise as signal_and_noise
from .products import norms as norms
from .products import products as products
from .products import sketches as sketches

__all__ = ["Chosen", "Clusters", "alignment", "choose", "clusters", "embeddings", "norms", "products", "signal_and_noise", "sketches"]
