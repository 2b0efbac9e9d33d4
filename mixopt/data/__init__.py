"""Own data: folders of text or tokens become domains, counted, tokenised once, split, and mapped."""

from __future__ import annotations

from .pieces import Pieces
from .prepare import count, prepare
from .prepared import Amount, Count, Prepared, epochs
from .reading import Reading
from .sources import Found, Source, discover
from .split import PARTS, Split
from .tokenizers import Tokenizer, tokenizer

__all__ = [
    "PARTS",
    "Amount",
    "Count",
    "Found",
    "Pieces",
    "Prepared",
    "Reading",
    "Source",
    "Split",
    "Tokenizer",
    "count",
    "discover",
    "epochs",
    "prepare",
    "tokenizer",
]
