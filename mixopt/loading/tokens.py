"""Windows of prepared tokens as samples: side by side, none across a document file's end, mapped and never copied."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mixopt.data import Pieces, Prepared, Reading, discover
from mixopt.data.pieces import mapped_again, place_of
from mixopt.data.sources import TOKENS
from mixopt.data.tokenfiles import token_file
from mixopt.errors import InputError, listed

from .loader import MixtureLoader
from .weights import Weights

TokenRow = np.ndarray | Pieces


@final
class TokenWindows(Dataset[Tensor]):
    """A domain's tokens as windows [context+1], int64, that lie side by side: the last token of one is the first of the next.

    ``tokens`` is a row [n] or ``Pieces`` of them; no window crosses a piece's end, and what is left there is not read.

    >>> windows = TokenWindows(np.arange(10), context=3)
    >>> len(windows), windows[1].tolist()
    (3, [3, 4, 5, 6])

    Raises:
        InputError: a context below 1, or no piece that holds a window.
    """

    def __init__(self, tokens: TokenRow, context: int, name: str = "tokens"):
        if context < 1:
            raise InputError(f"a context of {context} tokens was given; it is at least 1")
        self._rows = tokens.rows if isinstance(tokens, Pieces) else (np.asanyarray(tokens),)
        self._context = context
        self._ends = list(accumulate(max(len(row) - 1, 0) // context for row in self._rows))
        if not self._ends[-1]:
            raise InputError(
                f"{name!r} has {max(map(len, self._rows))} tokens in one piece, and a window takes {context + 1}; give a shorter context"
            )

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._window(range(len(self))[index]).astype(np.int64))

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """The windows of several indices, for a DataLoader."""
        found = np.empty((len(indices), self._context + 1), np.int64)
        for window, index in zip(found, indices, strict=True):
            window[:] = self._window(index)
        return list(torch.from_numpy(found))

    def _window(self, index: int) -> np.ndarray:
        piece = bisect_right(self._ends, index)
        start = (index - (self._ends[piece - 1] if piece else 0)) * self._context
        return self._rows[piece][start : start + self._context + 1]

    def __getstate__(self) -> dict[str, Any]:
        """Mapped rows go to a worker as their place in the file, not as their tokens."""
        return {**self.__dict__, "_rows": [place_of(row) for row in self._rows]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _rows=[mapped_again(row) for row in state["_rows"]])


def tokens(
    data: str | os.PathLike[str] | Prepared | Mapping[str, TokenRow],
    weights: Weights,
    batch_size: int,
    *,
    context: int,
    part: str = "train",
    **arguments: Any,
) -> MixtureLoader:
    """A loader of windows [b, context+1] of tokens, drawn by live weights; each domain is read once before any of it comes again.

    ``data`` is what ``prepare`` returned, or the folder that it filled, of which the ``part`` is read; a folder of token files; or
    rows of tokens by name. ``arguments`` are those of ``MixtureLoader``.

    >>> loader = tokens({"web": np.arange(90), "code": np.arange(30)}, [0.5, 0.5], 4, context=8, batches=1)
    >>> [batch.data.shape for batch in loader]
    [torch.Size([4, 9])]

    Raises:
        InputError: a folder without token files, a part that is not there, a domain shorter than a window; as ``MixtureLoader``.
    """
    rows = _rows(data, part)
    return MixtureLoader({name: TokenWindows(row, context, name) for name, row in rows.items()}, weights, batch_size, **arguments)


def _rows(data: Any, part: str) -> Mapping[str, TokenRow]:
    """The tokens by domain."""
    if isinstance(data, Prepared):
        if not data.parts.get(part):
            raise InputError(f"the data have no part {part!r} with tokens; they have {listed(n for n, rows in data.parts.items() if rows)}")
        return data.parts[part]
    return data if isinstance(data, Mapping) else _from_folder(Path(data), part)


def _from_folder(folder: Path, part: str) -> dict[str, TokenRow]:
    """The token files of a folder by domain; where ``prepare`` filled it, each file below the part is a domain."""
    prepared = (folder / part / "meta.json").exists()
    reading = Reading(per="file") if prepared else Reading()
    found = discover(folder / part if prepared else folder, reading)
    texts = [source.path.name for source in found.sources if source.kind not in TOKENS]
    if texts:
        raise InputError(f"{folder} holds text {listed(texts)}; turn it into tokens first: mixopt.data.prepare({str(folder)!r}, ...)")
    rows: dict[str, list[np.ndarray]] = {}
    for source in found.sources:
        name = unquote(source.domain) if prepared else source.domain
        rows.setdefault(name, []).append(token_file(source, reading, found.folder).tokens)
    return {name: some[0] if len(some) == 1 else Pieces(some) for name, some in sorted(rows.items())}
