"""A study's folder: what is finished is on disk, so that an interrupted study goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixopt.errors import InputError
from mixopt.files import writable, write
from mixopt.runs import Runs

from .search import Found
from .sizes import Sizes

FORMAT = 1


@dataclass(frozen=True)
class Store:
    """One study's folder; every file is written whole or not at all."""

    folder: Path

    @staticmethod
    def open(folder: str | os.PathLike[str]) -> Store:
        """The folder, made and tried before any work starts.

        Raises:
            InputError: it cannot be made or written.
        """
        store = Store(Path(folder))
        writable(store.folder)
        write(store.folder / ".writable", "")
        (store.folder / ".writable").unlink()
        return store

    def sizes(self, identity: Mapping[str, Any]) -> Sizes | None:
        """The sizes of the study that was begun here, or None in a new folder.

        Raises:
            InputError: the folder holds another study.
        """
        content = self._read("study.json")
        if content is None:
            return None
        before = content.get("identity")
        if content.get("format") != FORMAT or before != dict(identity):
            was = ", ".join(f"{k} {v}" for k, v in (before or {}).items())
            now = ", ".join(f"{k} {v}" for k, v in identity.items())
            raise InputError(f"{self.folder} holds another study ({was}; this one is {now}); give another --out, or --fresh to begin anew")
        return Sizes(**content["sizes"])

    def begin(self, identity: Mapping[str, Any], sizes: Sizes) -> None:
        """Note which study this is."""
        self._write("study.json", {"format": FORMAT, "identity": dict(identity), "sizes": sizes.asdict()})

    def clear(self) -> None:
        """Forget what an earlier study left."""
        for name in ("study.json", "runs.csv", "search.json", "weights.json", "losses.json", "table.json"):
            (self.folder / name).unlink(missing_ok=True)

    def runs(self) -> Runs | None:
        """The proxy runs finished so far."""
        path = self.folder / "runs.csv"
        return Runs.from_csv(path) if path.exists() else None

    def save_runs(self, runs: Runs) -> None:
        """Keep the proxy runs."""
        runs.to_csv(self.folder / "runs.csv")

    def found(self) -> list[Found]:
        """The mixtures found so far."""
        return [Found(**{**row, "evidence": tuple(row["evidence"])}) for row in self._read("search.json") or []]

    def save_found(self, found: Sequence[Found]) -> None:
        """Keep the mixtures found."""
        self._write("search.json", [asdict(f) for f in found])

    def save_weights(self, weights: Mapping[str, Mapping[str, float]]) -> None:
        """Write ``weights.json``: method -> domain -> weight."""
        self._write("weights.json", {name: dict(w) for name, w in weights.items()})

    def losses(self) -> dict[str, dict[int, list[float]]]:
        """The test losses measured so far."""
        return {name: {int(s): row for s, row in seeds.items()} for name, seeds in (self._read("losses.json") or {}).items()}

    def save_losses(self, losses: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
        """Keep the test losses."""
        self._write("losses.json", {n: {str(s): list(row) for s, row in seeds.items()} for n, seeds in losses.items()})

    def save_table(self, table: Mapping[str, Any]) -> None:
        """Write ``table.json``, the verdict."""
        self._write("table.json", table)

    def _read(self, name: str) -> Any:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(f"{path} is damaged; give another --out, or --fresh to begin anew") from None

    def _write(self, name: str, content: Any) -> None:
        write(self.folder / name, json.dumps(content, indent=1) + "\n")
