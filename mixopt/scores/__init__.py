"""Scores of domains by gradients, cheaply, of a user's own module in a loop of their own: alignments, products, lengths, noise; and embeddings."""

from __future__ import annotations

from .alignment import alignment as alignment
from .choice import Choice as Choice
from .choice import choose as choose
from .embeddings import embeddings as embeddings
from .noise import signal_and_noise as signal_and_noise
from .products import norms as norms
from .products import products as products
from .products import sketches as sketches

__all__ = ["Choice", "alignment", "choose", "embeddings", "norms", "products", "signal_and_noise", "sketches"]
