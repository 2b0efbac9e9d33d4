"""What a preparation gives: domains with their sizes, their tokens by part, and how much text there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains

from .pieces import Pieces
from .split import PARTS

TokenRow = np.ndarray | Pieces


@final
@dataclass(frozen=True)
class Amount:
    """How much there is of one domain: documents, bytes of text, tokens; None where token files do not tell."""

    documents: int | None
    bytes: int | None
    tokens: int
    estimated: bool = False  # the bytes are estimated by decoding a sample of the tokens

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of text that a token stands for on average."""
        return self.bytes / self.tokens if self.bytes is not None and self.tokens else None


@final
@dataclass(frozen=True)
class Count:
    """The amounts of each domain, over all parts, and the ``unit`` of the tokens: the tokenizer's name."""

    amounts: Mapping[str, Amount]
    unit: str
    notes: tuple[str, ...] = ()

    @property
    def domains(self) -> Domains:
        """The domains with all of their tokens."""
        return Domains(self.amounts, {name: amount.tokens for name, amount in self.amounts.items()})

    @property
    def total(self) -> Amount:
        """All domains together."""
        every = list(self.amounts.values())
        documents, sizes = [amount.documents for amount in every], [amount.bytes for amount in every]
        return Amount(
            None if None in documents else sum(n for n in documents if n is not None),
            None if None in sizes else sum(n for n in sizes if n is not None),
            sum(amount.tokens for amount in every),
            any(amount.estimated for amount in every),
        )

    def epochs(self, budget: float, weights: Mapping[str, float] | None = None) -> dict[str, float]:
        """How often each domain is read in a run of ``budget`` tokens, at the weights or in natural proportion."""
        return epochs(self.domains, budget, weights)


@final
@dataclass(frozen=True, eq=False)
class Prepared:
    """Prepared data: ``parts[part][domain]`` is a row of tokens [n], mapped from its files; a part lacks the domains it has nothing of.

    ``domains`` carry the tokens of the part for training, or of the only part. ``fingerprint`` is a digest of all tokens
    and of how they are split: the same data give the same one on every machine.
    """

    folder: Path
    domains: Domains
    parts: Mapping[str, Mapping[str, TokenRow]]
    count: Count
    vocabulary: int
    eos: int | None
    fingerprint: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and why."""
        return self.count.notes

    @property
    def bytes_per_token(self) -> dict[str, float | None]:
        """Bytes of text per token of each domain; None where token files do not tell."""
        return {name: amount.bytes_per_token for name, amount in self.count.amounts.items()}

    def epochs(self, weights: Mapping[str, float] | None, budget: float) -> dict[str, float]:
        """How often each domain's training tokens are read in a run of ``budget`` tokens, at the weights or in natural proportion."""
        return epochs(self.domains, budget, weights)

    def check(self, context: int, parts: tuple[str, ...] = PARTS) -> None:
        """See that each domain has a window of ``context`` + 1 tokens in each of the parts.

        Raises:
            InputError: some have not; each is named with its tokens.
        """
        for part in parts:
            rows = self.parts[part]
            longest = {name: _longest(rows[name]) if name in rows else 0 for name in self.domains}
            short = [f"{name!r} {longest[name]}" for name in self.domains if longest[name] <= context]
            if short:
                raise InputError(
                    f"a window takes {context + 1} tokens, but {part} has less of some domains {listed(short)}; "
                    "give more documents, a larger share of this part, or a shorter context"
                )


def epochs(domains: Domains, budget: float, weights: Mapping[str, float] | None = None) -> dict[str, float]:
    """Epochs of each domain: its weight x ``budget`` tokens over the tokens that it has; infinite for a domain that has none.

    Raises:
        InputError: a budget that is not above 0, or weights that do not fit the domains.
    """
    if not 0 < budget < float("inf"):
        raise InputError(f"the budget is {budget} tokens; it is a number above 0")
    shares = domains.natural if weights is None else domains.weights(weights)
    sizes = domains.sizes
    return {
        name: float(share * budget / size) if size else float("inf") if share else 0.0
        for name, share, size in zip(domains, shares, sizes, strict=True)
    }


def _longest(row: TokenRow) -> int:
    return max(len(piece) for piece in row.rows) if isinstance(row, Pieces) else len(row)
