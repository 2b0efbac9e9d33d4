"""The demo's data: the embedded text cut to the size of a study, as token streams for training, validation and test."""

from __future__ import annotations

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.runtime.streams import Streams
from mixopt.study.data import Data, mean_of

from .corpus import Corpus
from .presets import CONTEXT

HELD_OUT = "docstrings"
BLOCK = 2048


def prepare(corpus: Corpus, size: int, device: str = "cpu") -> Data:
    """The corpus with its training text cut evenly to about ``size`` tokens in all; validation and test text is whole.

    Cutting makes the demo a project in miniature: as in a large one, a run passes over its data once or twice, and small
    domains are repeated if their weight is large. Docstrings are measured and never trained on.

    Raises:
        InputError: the installation lacks the text that the demo needs.
    """
    names = [d for d in corpus.domains if d != HELD_OUT]
    if HELD_OUT not in corpus.domains or len(names) < 2:
        lacks = "; ".join(f"{n}: {why}" for n, why in corpus.missing.items())
        raise InputError(f"the demo needs docstrings and two more domains of Python's own text, but this installation lacks them ({lacks})")
    sizes = corpus.sizes("train")
    share = min(1.0, size / sum(sizes[n] for n in names))
    cut = {n: _cut(corpus.tokens["train"][n], share) for n in names}
    parts = {part: {n: corpus.tokens[part][n] for n in (*names, HELD_OUT)} for part in ("validation", "test")}
    return Data(
        Domains(names, tokens=[len(cut[n]) for n in names]),
        Streams(cut, CONTEXT, device),
        Streams(parts["validation"], CONTEXT, device),
        Streams(parts["test"], CONTEXT, device),
        parts["validation"],
        (
            mean_of(names, title=f"mean of the {len(names)} domains trained on"),
            mean_of([HELD_OUT], HELD_OUT, f"{HELD_OUT}, never trained on"),
        ),
        unit="nats per byte",
    )


def _cut(tokens: np.ndarray, share: float) -> np.ndarray:
    """Evenly spaced blocks that hold about a share of the tokens."""
    blocks = max(1, len(tokens) // BLOCK)
    keep = max(1, round(share * blocks))
    if keep >= blocks:
        return tokens
    starts = (np.arange(keep) * blocks // keep) * BLOCK
    return np.concatenate([tokens[s : s + BLOCK] for s in starts])
