"""The ledger of a preparation: what of each domain is done, and after which source, so that an interrupted one goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from mixopt.errors import InputError, listed
from mixopt.files import write

FORMAT = 1
MOST_DOMAINS = 10_000


@final
@dataclass
class Tally:
    """One domain so far: its ``documents`` and ``bytes`` of text (None where unknown), and its tokens.

    ``dealt`` counts what was dealt out to parts, ``stored`` the tokens in the cache by part, ``mapped`` those that stay where they are.
    """

    documents: int | None = 0
    bytes: int | None = 0
    estimated: bool = False  # whether some of the bytes are estimated from a sample
    dealt: int = 0
    stored: dict[str, int] = field(default_factory=dict)
    mapped: int = 0

    @property
    def tokens(self) -> int:
        """All tokens of the domain."""
        return sum(self.stored.values()) + self.mapped


@final
@dataclass
class Ledger:
    """How far a preparation is: ``finished`` sources, the tallies by domain, the largest token met, and a digest of all tokens."""

    finished: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    largest: int = -1
    digest: str = ""

    def copy(self) -> Ledger:
        """A ledger of its own, to go on in."""
        return copy.deepcopy(self)

    def tally(self, domain: str) -> Tally:
        """A domain's tally, new or begun.

        Raises:
            InputError: there are too many domains to be meant.
        """
        if domain not in self.tallies and len(self.tallies) >= MOST_DOMAINS:
            raise InputError(f"there are more than {MOST_DOMAINS} domains, the last one {domain!r}; choose domain_fields of few values")
        return self.tallies.setdefault(domain, Tally())


@final
@dataclass(frozen=True)
class Manifest:
    """The file in the cache that holds the ledger, and the ``identity`` of what is being prepared: settings and sources."""

    path: Path
    identity: Mapping[str, Any]

    def load(self) -> Ledger:
        """The ledger of an earlier preparation of the same, or a new one.

        Raises:
            InputError: the file is damaged, or belongs to other settings or sources.
        """
        if not self.path.exists():
            return Ledger()
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            before, ledger = content["identity"], content["ledger"]
            tallies = {name: Tally(**tally) for name, tally in ledger.pop("tallies").items()}
            found = Ledger(tallies=tallies, **ledger)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"{self.path} is damaged; prepare anew (fresh), or take another folder") from None
        if before != json.loads(json.dumps(self.identity)):
            raise InputError(
                f"{self.path.parent} was prepared otherwise: {self._difference(before)}; prepare anew (fresh), or take another folder"
            )
        return found

    def save(self, ledger: Ledger) -> None:
        """Write the ledger, whole or not at all."""
        content = {"format": FORMAT, "identity": self.identity, "ledger": asdict(ledger)}
        write(self.path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _difference(self, before: Mapping[str, Any]) -> str:
        """What differs from the identity of before, in words."""
        told = []
        for key, now in json.loads(json.dumps(self.identity)).items():
            was = before.get(key)
            if key == "sources" and isinstance(was, dict) and was != now:
                changed = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
                told.append(f"files that came, went or changed since {listed(changed)}")
            elif was != now:
                told.append(f"{key} was {was!r} and is {now!r}")
        return "; ".join(told) or "by another version of mixopt"
