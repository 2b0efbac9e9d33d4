"""Pieces: a domain's tokens where they lie in several arrays, mapped from files and read only where they are looked at."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mixopt.errors import InputError


@final
@dataclass(frozen=True, init=False, eq=False)
class Pieces:
    """The tokens of one domain in one or several rows [n], seen as one after the other; nothing is copied.

    >>> both = Pieces([np.arange(3), np.arange(5, 9)])
    >>> len(both)
    7
    >>> both[2:5]
    array([2, 5, 6])

    Raises:
        InputError: no piece, or one that is not a row of integers.
    """

    rows: tuple[np.ndarray, ...]

    def __init__(self, rows: Iterable[np.ndarray]):
        checked = tuple(rows)
        if not checked:
            raise InputError("a domain needs at least one piece of tokens")
        for row in checked:
            if row.ndim != 1 or not np.issubdtype(row.dtype, np.integer):
                raise InputError(f"a piece of tokens has shape {row.shape} and is {row.dtype}; give rows [n] of integers")
        object.__setattr__(self, "rows", checked)

    def __len__(self) -> int:
        return sum(len(row) for row in self.rows)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type that holds the tokens of every piece."""
        return np.result_type(*self.rows)

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """The tokens of a stretch [n], copied; only what is asked for is read."""
        start, stop, step = wanted.indices(len(self))
        if step != 1:
            raise InputError(f"pieces are read in steps of 1, not {step}")
        found, before = [], 0
        for row in self.rows:
            found.append(row[max(start - before, 0) : max(stop - before, 0)])
            before += len(row)
        return np.concatenate(found)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All the tokens [n], read into memory."""
        return np.concatenate(self.rows).astype(dtype or self.dtype, copy=False)


def place_of(row: np.ndarray) -> Any:
    """The file, type, offset and shape of a mapped row, by which another process maps it again; any other row as it is."""
    if not isinstance(row, np.memmap) or row.filename is None or not row.flags.c_contiguous:
        return row
    first = np.frombuffer(row._mmap, np.uint8).ctypes.data  # type: ignore[attr-defined]
    offset = row.offset - row.offset % mmap.ALLOCATIONGRANULARITY + row.ctypes.data - first
    return {"filename": row.filename, "dtype": row.dtype, "offset": offset, "shape": row.shape}


def mapped_again(place: Any) -> np.ndarray:
    """The row that ``place_of`` told the place of.

    Raises:
        InputError: its file cannot be read here.
    """
    if isinstance(place, np.ndarray):
        return place
    try:
        return np.memmap(mode="r", **place)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the tokens in {place['filename']} cannot be read by this process: {error}; "
            "mapped tokens stay in their files, which all processes and machines have to reach under one name"
        ) from None
