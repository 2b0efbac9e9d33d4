"""What a user types: name=value pairs, and files of numbers by domain."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mixopt.errors import InputError, cause, listed

_INSIDE = ("prior", "priors", "relative_sizes", "token_counts", "tokens", "weights", "shares")


def number(text: object, what: str) -> float:
    """A number from text such as 0.3, 30%, 7/52 or 1_000_000.

    >>> number("30%", "x"), number("7/52.0", "x"), number("2e12", "x")
    (0.3, 0.1346153846153846, 2000000000000.0)

    Raises:
        InputError: text that is no such number.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    try:
        parts = [p.strip() for p in str(text).split("/")]
        if len(parts) == 2:
            value = float(parts[0]) / float(parts[1])
        elif parts[0].endswith("%"):
            value = float(parts[0][:-1]) / 100
        else:
            value = float(str(text))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{what}: {text!r} is not a number; write 0.3, 30%, 7/52 or 2e12") from None
    if not math.isfinite(value):
        raise InputError(f"{what}: {text!r} is not finite")
    return value


def texts(given: Iterable[str], flag: str) -> dict[str, str]:
    """Name -> text from items such as "web=0.3"; the name may hold = signs, the value not.

    Raises:
        InputError: an item without =, or a name given twice.
    """
    found: dict[str, str] = {}
    for item in given:
        name, equals, value = item.rpartition("=")
        if not equals or not name.strip() or not value.strip():
            raise InputError(f"{flag} {item!r}: write name=value, such as {flag} web=0.3")
        if name.strip() in found:
            raise InputError(f"{flag} names {name.strip()!r} twice")
        found[name.strip()] = value.strip()
    return found


def paths(given: Iterable[str], flag: str) -> dict[str, list[str]]:
    """Name -> its paths in their order, from items such as "web=/data/lang=en"; a path may hold = signs, the name not.

    Raises:
        InputError: an item that is not name=path.
    """
    found: dict[str, list[str]] = {}
    for item in given:
        name, _, path = item.partition("=")
        if not name.strip() or not path.strip():
            raise InputError(f"{flag} {item!r}: write name=path, such as {flag} web=/data/web")
        found.setdefault(name.strip(), []).append(path.strip())
    return found


def folders(given: Iterable[str], flag: str) -> dict[str, str]:
    """Name -> its one folder.

    Raises:
        InputError: an item that is not name=path, or a name given twice.
    """
    found = paths(given, flag)
    if twice := [name for name, places in found.items() if len(places) > 1]:
        raise InputError(f"{flag} names {twice[0]!r} twice")
    return {name: place for name, (place,) in found.items()}


def numbers(given: Iterable[str], flag: str) -> dict[str, float]:
    """Name -> number from items such as "web=0.3"."""
    return {name: number(value, f"{flag} {name}") for name, value in texts(given, flag).items()}


def families(given: Iterable[str], flag: str = "--family") -> dict[str, list[str]]:
    """Family -> targets from items such as "math=gsm8k,minerva"."""
    return {name: [n.strip() for n in members.split(",") if n.strip()] for name, members in texts(given, flag).items()}


def by_name(given: str, flag: str) -> dict[str, float]:
    """Numbers by name from a file (JSON, YAML or CSV) or from "web=0.6,code=0.4".

    A JSON or YAML file is a mapping, or holds one under prior, priors, token_counts, tokens or the like; a CSV file has two
    columns, with or without a header, or one row of numbers under their names.

    Raises:
        InputError: neither a file nor pairs, a file that cannot be read, or values that are no numbers.
    """
    path = Path(given)
    if path.is_file():
        return {str(n): number(v, f"{flag} {given}, {n}") for n, v in _file(path, flag).items()}
    if "=" in given:
        return numbers([item for item in given.split(",") if item.strip()], flag)
    raise InputError(f"{flag} {given!r} is no file that is there, and no list such as web=0.6,code=0.4")


def _file(path: Path, flag: str) -> Mapping[Any, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = _parsed(path, text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{flag} {path} cannot be read: {cause(error)}") from None
    for _ in range(2):  # Olmix has priors: {token_counts: {...}}
        inside = next((content[k] for k in _INSIDE if isinstance(content, Mapping) and isinstance(content.get(k), Mapping)), None)
        content = content if inside is None else inside
    if not isinstance(content, Mapping) or not content:
        raise InputError(
            f"{flag} {path} holds no numbers by domain; expected a mapping such as {{web: 0.6, code: 0.4}}, found {_kind(content)}"
        )
    return content


def _parsed(path: Path, text: str) -> Any:
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"it is no YAML: {error}") from None
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if len(rows) == 2 and len(rows[0]) == len(rows[1]) != 2:
        return dict(zip(*rows, strict=True))
    if any(len(row) != 2 for row in rows):
        raise ValueError("a CSV of numbers by domain has two columns, name and number")
    if rows and not _numeric(rows[0][1]):
        rows = rows[1:]
    names = [row[0] for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"it names {listed(sorted({n for n in names if names.count(n) > 1}))} more than once")
    return dict(rows)


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _kind(content: object) -> str:
    return "nothing" if not content else f"a {type(content).__name__}"
