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
    _own: set[str] = field(default_factory=set, compare=False, repr=False)  # tallies that no other ledger shares

    def copy(self) -> Ledger:
        """A ledger of its own, to go on in; a tally is copied when it is first asked for."""
        return Ledger(self.finished, dict(self.tallies), self.largest, self.digest)

    def tally(self, domain: str) -> Tally:
        """A domain's tally, new or begun, to write in.

        Raises:
            InputError: there are too many domains to be meant.
        """
        if domain not in self._own:
            if domain not in self.tallies and len(self.tallies) >= MOST_DOMAINS:
                raise InputError(f"there are more than {MOST_DOMAINS} domains, the last one {domain!r}; choose domain_fields of few values")
            self.tallies[domain] = copy.deepcopy(self.tallies.get(domain, Tally()))
            self._own.add(domain)
        return self.tallies[domain]


@final
@dataclass(frozen=True)
class Manifest:
    """Two files in the cache: ``manifest.json``, the ``identity`` of what is prepared (settings and sources), and ``ledger.json``."""

    folder: Path
    identity: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file of the identity, by which a cache is known to be one."""
        return self.folder / "manifest.json"

    def load(self) -> Ledger:
        """The ledger of an earlier preparation of the same, or a new one, which is noted.

        Raises:
            InputError: a file is damaged, or belongs to other settings or sources.
        """
        now = json.loads(json.dumps({"format": FORMAT, **self.identity}))
        if not self.path.exists():
            self.save(Ledger())
            write(self.path, json.dumps(now, indent=1, ensure_ascii=False) + "\n")
            return Ledger()
        before, noted = _read(self.path), _read(self.folder / "ledger.json")
        if before != now:
            told = _difference(before, now)
            raise InputError(f"{self.folder} was prepared otherwise: {told}; prepare anew (fresh), or take another folder")
        try:
            return Ledger(**{**noted, "tallies": {name: Tally(**tally) for name, tally in noted["tallies"].items()}})
        except (KeyError, TypeError, AttributeError):
            raise _damaged(self.folder / "ledger.json") from None

    def save(self, ledger: Ledger) -> None:
        """Note the ledger, whole or not at all."""
        content = {
            "finished": ledger.finished,
            "tallies": {name: asdict(tally) for name, tally in ledger.tallies.items()},
            "largest": ledger.largest,
            "digest": ledger.digest,
        }
        write(self.folder / "ledger.json", json.dumps(content, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise _damaged(path) from None
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged; prepare anew (fresh), or take another folder")


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two identities, in words."""
    told = []
    for key, value in now.items():
        was = before.get(key)
        if key == "sources" and isinstance(was, dict) and was != value:
            changed = sorted(name for name in {*was, *value} if was.get(name) != value.get(name))
            told.append(f"files that came, went or changed since {listed(changed)}")
        elif was != value:
            told.append(f"{key} was {was!r} and is {value!r}")
    return "; ".join(told) or "by another version of mixopt"
