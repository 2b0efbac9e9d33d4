"""The cache: one flat token file for each part and domain, which only grows and can be cut back to what is known to be whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

import numpy as np

from mixopt.errors import InputError
from mixopt.files import write

from .ledger import Ledger
from .split import PARTS
from .tokenizers import Tokenizer

LONGEST_NAME = 120


@final
@dataclass(frozen=True)
class Cache:
    """A folder with ``<part>/<domain>.bin``, flat arrays of ``dtype``, and a sidecar in each part that says so."""

    folder: Path
    dtype: np.dtype[Any]

    def path(self, part: str, domain: str) -> Path:
        """The file of a domain's tokens in one part."""
        levels = [_safe(level) for level in domain.split("/")]
        return self.folder.joinpath(part, *levels[:-1], levels[-1] + ".bin")

    def describe(self, eos: int | None, tokenizer: Tokenizer | None) -> None:
        """Write each part's sidecar, by which the files can be read without mixopt."""
        made = {"vocabulary": tokenizer.vocabulary, "tokenizer": tokenizer.name} if tokenizer else {}
        told = {"dtype": self.dtype.name, "eos": eos, **made}
        for part in PARTS:
            write(self.folder / part / "meta.json", json.dumps(told) + "\n")

    def append(self, part: str, domain: str, rows: Iterable[np.ndarray]) -> None:
        """Append rows of tokens to a file.

        Raises:
            InputError: the disk is full, or the file cannot be written; what stood in the ledger is kept.
        """
        path = self.path(part, domain)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                for row in rows:
                    file.write(row.astype(self.dtype, copy=False).data)
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {error.strerror or error}; what is finished is kept: make room and start again to go on"
            ) from None

    def cut_back(self, ledger: Ledger) -> None:
        """Bring every file back to the tokens that the ledger holds, and remove those that it does not know.

        Raises:
            InputError: a file is shorter than the ledger says.
        """
        known = {self.path(part, name): n for name, tally in ledger.tallies.items() for part, n in tally.stored.items() if n}
        for part in PARTS:
            for path in (self.folder / part).rglob("*.bin"):
                if path not in known:
                    path.unlink()
        for path, tokens in known.items():
            size, whole = path.stat().st_size if path.exists() else 0, tokens * self.dtype.itemsize
            if size < whole:
                raise InputError(f"{path} has {size} bytes where {whole} were written; prepare anew (fresh), or take another folder")
            if size > whole:
                os.truncate(path, whole)

    def tokens(self, part: str, domain: str) -> np.ndarray:
        """The tokens of a file [n], mapped."""
        return np.memmap(self.path(part, domain), self.dtype, "r")


def _safe(level: str) -> str:
    """One level of a domain's name as a file's name, different for different levels."""
    name = quote(level, safe=" ,+=@()")
    name = name if name.strip(".") else name.replace(".", "%2E")
    return name if len(name) <= LONGEST_NAME else f"{name[:80]}-{hashlib.sha256(level.encode()).hexdigest()[:16]}"
