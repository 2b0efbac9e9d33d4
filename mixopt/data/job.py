"""A job: what a preparation is to do, with everything checked that can be before it begins."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, listed

from .documents import holds_tokens
from .reading import Reading
from .sources import TOKENS, Found, Source
from .split import Split
from .tokenfiles import TokenFile, token_file
from .tokenizers import Tokenizer, smallest, tokenizer

FEW_FILES = 100  # a domain of fewer text files is split within its files


@final
@dataclass(frozen=True)
class Job:
    """Sources, how they are read and split, their tokenizer (None where all are tokens already), and the token files, mapped.

    ``cut`` are the domains whose text files each give to several parts.
    """

    found: Found
    reading: Reading
    split: Split
    tokenizer: Tokenizer | None
    files: Mapping[Path, TokenFile]
    cut: frozenset[str]

    @staticmethod
    def of(found: Found, reading: Reading, split: Split) -> Job:
        """The job of reading what was found.

        Raises:
            InputError: text and tokens without a tokenizer, fields asked of files without records, or a token file that cannot be read.
        """
        files = {source.path: token_file(source, reading, found.folder) for source in found.sources if source.kind in TOKENS}
        bare = [source.path for source in found.sources if source.kind in (*TOKENS, "text")]
        if reading.domain_fields and bare:
            raise InputError(f"{bare[0]} holds no records with fields {listed(reading.domain_fields)}; move it, or ask for no fields")
        made = _tokenizer(found, reading, files)
        texts = Counter(source.domain for source in found.sources if source.kind == "text")
        cut = frozenset(name for name, number in texts.items() if number < FEW_FILES and split.several)
        return Job(found, reading, split, made, files, cut)

    @property
    def eos(self) -> int | None:
        """The token that ends a document, where it is known."""
        if self.tokenizer:
            return self.tokenizer.eos
        told = {file.eos for file in self.files.values()}
        return self.reading.eos if isinstance(self.reading.eos, int) else told.pop() if len(told) == 1 else None

    @property
    def vocabulary(self) -> int | None:
        """How many tokens there are, where the tokenizer or every token file tells."""
        if self.tokenizer:
            return self.tokenizer.vocabulary
        told = [file.vocabulary for file in self.files.values()]
        return max((n for n in told if n is not None), default=None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the tokens that are written."""
        return self.tokenizer.dtype if self.tokenizer else smallest(2**32)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the outcome hangs on: settings, and each source with its size and time of change."""
        reading, root = self.reading, self.found.folder
        return {
            "tokenizer": self.tokenizer.identity if self.tokenizer else None,
            "eos": self.eos,
            "text_field": reading.text_field,
            "domain_fields": list(reading.domain_fields),
            "per": reading.per,
            "split": reading.split,
            "dtype": reading.dtype,
            "undecodable": reading.undecodable,
            "validation": self.split.validation,
            "test": self.split.test,
            "sources": {str(s.path.relative_to(root)): [s.domain, s.kind, s.bytes, s.changed] for s in self.found.sources},
        }

    def fingerprint(self, digest: str) -> str:
        """A digest of all tokens and of how they are split, from that of the tokens."""
        text = f"{digest}, {self.tokenizer.identity if self.tokenizer else None}, {self.split.validation}, {self.split.test}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _tokenizer(found: Found, reading: Reading, files: Mapping[Path, TokenFile]) -> Tokenizer | None:
    """The tokenizer asked for; without one, bytes where there is text and none where there are tokens."""
    if reading.tokenizer is not None:
        return tokenizer(reading.tokenizer, reading.eos)
    ready: list[Source] = []
    text: list[Source] = []
    for source in found.sources:
        (ready if source.path in files or holds_tokens(source, reading) else text).append(source)
    if text and ready:
        raise InputError(
            f"{found.folder} holds text ({text[0].path.name}) and tokens ({ready[0].path.name}); "
            "name the tokenizer that made the tokens, so that the text gets the same"
        )
    if text:
        return tokenizer("bytes", reading.eos)
    if isinstance(reading.eos, str):
        raise InputError(f"eos is the text {reading.eos!r}, but no tokenizer is given; give the token's number")
    return None
