"""Log-likelihoods of examples under domain experts, in shards on disk: npy, Parquet or JSON lines, read block by block."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, MissingExtraError, listed
from mixopt.language.domains import Domains

LENGTH = "length"
KINDS = (".npy", ".parquet", ".jsonl")
BLOCK = 65_536
"""Examples in memory at a time."""

Block = tuple[np.ndarray, np.ndarray]
"""Log-likelihoods [b, k] and lengths [b] of some examples."""


@final
@dataclass(frozen=True)
class Likelihoods:
    """log p_i(x), in nats, of n examples x under k experts, expert i being the model trained on domain i alone.

    An example is a token, or a document with its log-likelihoods summed over its tokens and, in ``length``, their number. The shards
    stay on disk: ``blocks`` reads them one after the other, at most ``size`` examples at a time. Make one by ``from_files``.
    """

    domains: Domains
    paths: tuple[Path, ...]

    @classmethod
    def from_files(cls, domains: Domains | Sequence[str], paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Likelihoods:
        """The shards of a folder, or those that are named, in order.

        ``.npy``: an array [n, k] in the order of the domains, or [n, k + 1] with the lengths last; it is mapped, not read.
        ``.parquet``: a column a domain, by name, and ``length`` where there is one. ``.jsonl``: an object a line, with the same names.

        Raises:
            InputError: no shards, a file of another kind or shape, or a domain without a column.
        """
        names = domains if isinstance(domains, Domains) else Domains(domains)
        if isinstance(paths, (str, os.PathLike)):
            top = Path(paths)
            found = sorted(p for p in top.iterdir() if p.suffix in KINDS) if top.is_dir() else [top]
        else:
            found = [Path(p) for p in paths]
        if not found:
            raise InputError(f"{paths} has no shards of log-likelihoods; they end in {listed(KINDS)}")
        for path in found:
            if path.suffix not in KINDS:
                raise InputError(f"{path} is no shard of log-likelihoods; they end in {listed(KINDS)}")
            if not path.is_file():
                raise InputError(f"there is no file {path}")
        return cls(names, tuple(found))

    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        """Log-likelihoods [b, k] and lengths [b] (1 where there are none) of all examples, at most ``size`` at a time.

        Raises:
            InputError: a shard that cannot be read, an entry that is NaN or +inf, an example that no expert can produce, or a length
                that is not > 0; the file and the example are named.
        """
        for path in self.paths:
            first = 0
            for rows, lengths in _READERS[path.suffix](path, self.domains, size):
                _check(path, first, rows, lengths)
                yield rows, lengths
                first += len(rows)


def _npy(path: Path, domains: Domains, size: int) -> Iterator[Block]:
    k = len(domains)
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as an array: {error}") from None
    if table.ndim != 2 or table.shape[1] not in (k, k + 1):
        raise InputError(f"{path} has shape {list(table.shape)}; [n, {k}] is expected, or [n, {k + 1}] with the lengths last")
    for start in range(0, len(table), size):
        part = np.array(table[start : start + size], dtype=float)
        yield part[:, :k], part[:, k] if table.shape[1] > k else np.ones(len(part))


def _parquet(path: Path, domains: Domains, size: int) -> Iterator[Block]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "data", "reading Parquet") from None
    with parquet.ParquetFile(path) as table:
        known = table.schema_arrow.names
        _named(path, domains, known)
        columns = [*domains, *([LENGTH] if LENGTH in known else [])]
        for part in table.iter_batches(size, columns=columns):
            yield (
                np.column_stack([part.column(n).to_numpy(zero_copy_only=False) for n in domains]).astype(float),
                part.column(LENGTH).to_numpy(zero_copy_only=False).astype(float) if LENGTH in known else np.ones(part.num_rows),
            )


def _jsonl(path: Path, domains: Domains, size: int) -> Iterator[Block]:
    rows: list[list[float]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                _named(path, domains, entry)
                rows.append([float(entry[n]) for n in (*domains, *([LENGTH] if LENGTH in entry else []))])
            except (TypeError, ValueError, AttributeError) as error:
                raise InputError(f"{path}, line {number}: {error}") from None
            if len(rows) == size:
                yield _split(rows, len(domains))
                rows = []
    if rows:
        yield _split(rows, len(domains))


def _split(rows: list[list[float]], k: int) -> Block:
    """Rows of numbers, some of which may have a length behind."""
    return np.array([row[:k] for row in rows]), np.array([row[k] if len(row) > k else 1.0 for row in rows])


def _named(path: Path, domains: Domains, known: Iterable[str]) -> None:
    lacking = [n for n in domains if n not in known]
    if lacking:
        raise InputError(f"{path} has no log-likelihoods under the expert of {lacking[0]!r}; it has {listed(known)}")


def _check(path: Path, first: int, rows: np.ndarray, lengths: np.ndarray) -> None:
    for bad, what in (
        (np.isnan(rows).any(axis=1) | (rows == np.inf).any(axis=1), "has a log-likelihood that is NaN or infinite"),
        (np.isneginf(rows).all(axis=1), "has probability 0 under every expert, so no mixture explains it"),
        (~(np.isfinite(lengths) & (lengths > 0)), "has a length that is no number > 0"),
    ):
        if bad.any():
            raise InputError(f"example {first + int(np.argmax(bad))} of {path} {what}; correct it, or leave it out")


_READERS: dict[str, Any] = {".npy": _npy, ".parquet": _parquet, ".jsonl": _jsonl}
