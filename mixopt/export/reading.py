"""Weights as others keep them: mixopt's own files, tables, RegMix's, DoReMi's and Olmix's configurations.

JSON and YAML may hold: what ``Blend.save``, ``result.save`` or a report wrote; a mapping of domain to weight, alone or under
``weights`` or ``prior``; RegMix's ``train`` beside ``valid``; DoReMi's ``train_domain_weights`` beside ``eval_domain_weights``; Olmix's
nested ``mix``, whose leaves are the products of the weights down the tree, named ``source:topic``. CSV holds ``domain,weight`` rows, with
or without a head, and may have the columns ``tokens``, ``tokens_per_example`` and ``path`` too.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixopt.errors import InputError, cause, listed, unknown

FIELDS = ("weights", "tokens", "budget", "unit", "paths", "tokens_per_example", "stages")
COLUMNS = ("domain", "weight", "tokens", "tokens_per_example", "path")
BESIDE_A_WEIGHT = ("weight", "repetition_factor", "max_repetition_factor")


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of a blend that a file holds, ``weights`` at least; their values are not checked yet.

    Raises:
        InputError: no such file, not readable, or of no known form.
    """
    if Path(path).suffix.lower() == ".csv":
        return _table(path, _text(path))
    content = structured(path)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds {type(content).__name__} where a mapping of domain to weight was expected")
    return _fields(path, content)


def structured(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON or YAML file.

    Raises:
        InputError: no such file, another suffix, or a syntax error, with its line.
    """
    import yaml

    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise InputError(f"{path} ends in {suffix or 'no suffix'}; weights are read from .json, .yaml, .yml and .csv")
    text = _text(path)
    try:
        return json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: no valid JSON ({error.msg})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{path}{where}: no valid YAML ({getattr(error, 'problem', None) or error})") from None


def read_paths(path: str | os.PathLike[str]) -> dict[str, str | Sequence[str]]:
    """Where each domain lies: a JSON or YAML mapping of domain to a path, or to a list of paths.

    Raises:
        InputError: anything else.
    """
    content = structured(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds {type(content).__name__} where a mapping of domain to path was expected")
    for name, where in content.items():
        if not (isinstance(where, str) or (isinstance(where, list) and where and all(isinstance(p, str) for p in where))):
            raise InputError(f"{path}: the path of {name!r} is {where!r}; give one path or a list of paths")
    return {str(name): where for name, where in content.items()}


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {cause(error)}") from None


def _fields(path: object, content: Mapping[str, Any]) -> dict[str, Any]:
    if "mixtures" in content and isinstance(content["mixtures"], Mapping):
        first = next(iter(content["mixtures"].values()), None)
        known = {k: content[k] for k in ("tokens", "budget") if content.get(k) is not None}
        return _checked(path, {"weights": _mapping(path, "mixtures", first), **known})
    if isinstance(content.get("weights"), Mapping):
        return _checked(path, {k: content[k] for k in FIELDS if content.get(k) is not None})
    for key in ("train_domain_weights", "train", "prior"):
        if isinstance(content.get(key), Mapping):
            return {"weights": _mapping(path, key, content[key])}
    if "mix" in content:
        return {"weights": dict(_leaves(path, "", 1.0, _mapping(path, "mix", content["mix"])))}
    nested = [str(k) for k, v in content.items() if isinstance(v, (Mapping, list)) or v is None]
    if nested:
        raise InputError(
            f"{path}: no weights are found under {listed(content)}; expected domain: weight, or a mapping under weights, train, prior, "
            "train_domain_weights or mix"
        )
    return {"weights": _mapping(path, "it", content)}


def _checked(path: object, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, once what must be a mapping or a list of stages is one."""
    named = {k: _mapping(path, k, fields[k]) for k in ("weights", "tokens", "tokens_per_example", "paths") if k in fields}
    if not isinstance(fields.get("budget", 0.0), (int, float)):
        raise InputError(f"{path}: the budget is {fields['budget']!r}; it must be a number of tokens")
    stages = fields.get("stages", [])
    if not (
        isinstance(stages, list) and all(isinstance(s, Mapping) and isinstance(s.get("weights"), Mapping) and "start" in s for s in stages)
    ):
        raise InputError(f"{path}: stages must be a list of mappings with start (in tokens) and weights")
    return fields | named


def _mapping(path: object, key: str, value: Any) -> dict[str, Any]:
    """A mapping that is not empty, its names as text."""
    if not isinstance(value, Mapping) or not value:
        raise InputError(f"{path}: {key} holds {value!r} where a mapping of domain to weight was expected")
    if any(isinstance(name, bool) for name in value):
        raise InputError(f"{path}: a name under {key} is read as true or false; YAML takes on, off, yes and no for these: put it in quotes")
    return {str(name): weight for name, weight in value.items()}


def _leaves(path: object, prefix: str, share: float, tree: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The leaves of Olmix's tree with the product of the weights above them."""
    for key, below in tree.items():
        if key in BESIDE_A_WEIGHT:
            continue
        name = f"{prefix}:{key}" if prefix else str(key)
        weight = below.get("weight") if isinstance(below, Mapping) else below
        try:
            product = share * float(weight if weight is not None else "none")
        except (TypeError, ValueError):
            raise InputError(f"{path}: {name} under mix has the weight {weight!r}; every branch needs a number") from None
        children = {k: v for k, v in below.items() if k not in BESIDE_A_WEIGHT} if isinstance(below, Mapping) else {}
        if children:
            yield from _leaves(path, name, product, children)
        else:
            yield name, product


def _table(path: object, text: str) -> dict[str, Any]:
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if not rows:
        raise InputError(f"{path} is empty; expected rows of domain,weight")
    head = ["domain", "weight"]
    if [cell.strip() for cell in rows[0][:1]] == ["domain"] or not _numeric(rows[0][1:2]):
        head = [cell.strip() for cell in rows.pop(0)]
        if len(head) == 2:  # any two words over names and numbers
            head = ["domain", "weight"]
    for column in head:
        if column not in COLUMNS:
            raise InputError(f"{path}: {unknown('column', column, COLUMNS)}")
    table: dict[str, dict[str, str]] = {column: {} for column in head}
    for line, row in enumerate(rows, start=1):
        if len(row) != len(head):
            raise InputError(f"{path}, row {line}: {len(row)} cells where {len(head)} ({', '.join(head)}) were expected")
        cells = dict(zip(head, map(str.strip, row), strict=True))
        name = cells.pop("domain", "")
        if name in table[head[1]]:
            raise InputError(f"{path}, row {line}: the domain {name!r} stands there twice")
        for column, cell in cells.items():
            table[column][name] = cell
    if "weight" not in table:
        raise InputError(f"{path} has the columns {listed(head)}, but no column weight")
    renamed = {"weight": "weights", "path": "paths"}
    return {renamed.get(column, column): values for column, values in table.items() if column != "domain"}


def _numeric(cells: Sequence[str]) -> bool:
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False
