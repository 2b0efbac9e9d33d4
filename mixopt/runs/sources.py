"""Where a table of runs comes from: CSV, Parquet or a pandas frame, wide or long, as one table of text cells."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixopt.errors import InputError, MissingExtraError, listed
from mixopt.files import write

from .files import EXTRAS, KEYS, LABEL, Table

if TYPE_CHECKING:
    from pandas import DataFrame

_LONG = (("domain", ("weight",)), ("target", ("value", "loss", "score")), ("metric", ("value", "loss", "score")))
"""In a long table, the column that names a weight or metric, and those that may hold its number."""


def read(source: Any) -> Table:
    """The cells of a CSV or Parquet file or of a frame, checked to be a table and made wide where it is long.

    Raises:
        InputError: a file that cannot be read, or one that is no table.
    """
    if hasattr(source, "columns") and hasattr(source, "itertuples"):
        return widened(_frame(source))
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"a table of runs is read from a file or a pandas frame, and this is a {type(source).__name__}")
    return widened(_parquet(source) if Path(source).suffix in (".parquet", ".pq") else _csv(source))


def widened(table: Table) -> Table:
    """A long table, a row for each run and domain or each run and target, with one row a run; a wide one as it is.

    What else the rows of a run say, such as its seed, must agree. A weight that is not there is 0, a metric that is not there missing.

    Raises:
        InputError: a pair that stands there twice, or rows of one run that disagree.
    """
    found = next(((n, v) for n, options in _LONG if n in table.header for v in options if v in table.header), None)
    key = next((k for k in KEYS if k in table.header), None)
    if found is None or key is None or not set(table.header) <= {key, *found, *EXTRAS, LABEL}:
        return table
    name, value = (table.header.index(column) for column in found)
    place = table.header.index(key)
    others = [i for i in range(len(table.header)) if i not in (name, value, place)]
    names = list(dict.fromkeys(row[name].strip() for row in table.rows))
    cells: dict[str, dict[str, str]] = {}
    said: dict[str, list[str]] = {}
    for number, row in enumerate(table.rows, 1):
        run, column = row[place].strip(), row[name].strip()
        if column in cells.setdefault(run, {}):
            raise InputError(f"{table.path}, row {number}: run {run!r} has {found[0]} {column!r} twice")
        cells[run][column] = row[value]
        if said.setdefault(run, [row[i] for i in others]) != [row[i] for i in others]:
            raise InputError(
                f"{table.path}, row {number}: run {run!r} has another {listed(table.header[i] for i in others)} than in its rows before"
            )
    absent = "0" if found[0] == "domain" else ""
    rows = [[run, *said[run], *(own.get(n, absent) for n in names)] for run, own in cells.items()]
    return Table(table.path, [key, *(table.header[i] for i in others), *names], rows)


def _csv(path: str | os.PathLike[str]) -> Table:
    path = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no CSV text in UTF-8: {error}") from error
    if len(rows) < 2:
        raise InputError(f"{path} has {len(rows)} lines; a header and at least one run are needed")
    return _checked(path, rows[0], rows[1:])


def _parquet(path: str | os.PathLike[str]) -> Table:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "data", "A Parquet table of runs") from None
    try:
        found = pyarrow.parquet.read_table(os.fspath(path))
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise InputError(f"{path} cannot be read as Parquet: {error}") from None
    return _checked(os.fspath(path), found.column_names, _texts(zip(*(c.to_pylist() for c in found.columns), strict=True)))


def _frame(frame: DataFrame) -> Table:
    named = frame.reset_index() if frame.index.name is not None else frame
    return _checked("the frame", [str(c) for c in named.columns], _texts(named.itertuples(index=False, name=None)))


def write_parquet(path: str | os.PathLike[str], columns: Mapping[str, list[Any]]) -> None:
    """Write columns as a Parquet file, whole or not at all."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "data", "A Parquet table of runs") from None
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    write(path, buffer.getvalue())


def _texts(rows: Iterable[tuple[Any, ...]]) -> list[list[str]]:
    """Cells as text from which numbers come back exactly; what is missing is empty."""
    return [["" if c is None or c != c or str(c) == "<NA>" else repr(float(c)) if _inexact(c) else str(c) for c in row] for row in rows]


def _inexact(cell: Any) -> bool:
    return hasattr(cell, "is_integer") and not hasattr(cell, "denominator") and math.isfinite(cell)


def _checked(path: str, header: list[str], rows: list[list[str]]) -> Table:
    """A table: one header, names that differ, rows of one length."""
    header = [name.strip() for name in header]
    if header and header[0].startswith("Unnamed:"):
        header[0] = ""
    twice = sorted({n for n in header if header.count(n) > 1})
    if twice:
        raise InputError(f"{path} has more than one column {listed(map(repr, twice))}; column names must differ")
    if not rows:
        raise InputError(f"{path} has a header and no run; at least one is needed")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise InputError(f"{path}, row {number}: {len(row)} cells, but the header has {len(header)}")
    return Table(path, header, rows)
