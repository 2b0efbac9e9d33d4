"""Problems as JSON: nodes by the names of their operations, written once each, and made again by the language's own functions.

The format is ``mixopt problem 1``: ``nodes`` is a list in which each node names its operation, the places of its arguments (always
earlier ones), its settings and, where no argument implies them, the names of its entries; ``problem`` names nodes by their places.
Nothing in a file is code, and nothing is made that the functions of the language would refuse.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixopt.errors import InputError, MixoptError, ProblemError, cause, nearest
from mixopt.files import write

from .domains import Domains
from .expression import Array, Expr, Relation
from .ops import OPS
from .problem import Problem, maximize, minimize
from .remake import Parts, remade

FORMAT = "mixopt problem 1"
LONGEST = 256_000_000
"""The most characters that a file may have."""
WIDEST = 50_000_000
"""The most that the texts of all nodes may add up to, in nodes: a shared node can be written out exponentially often."""
LONGEST_NAME = 1000
"""The most characters that a name may have."""
DEEPEST = 8
"""The most problems inside one another."""

_LONG = f"its nodes, each written out as text, are more than {WIDEST} operations long together; build it from fewer shared parts"
_SENSES = {"minimize": minimize, "maximize": maximize}


def to_json(problem: Problem) -> str:
    """The problem as JSON text, one line a node; ``from_json`` makes it again, with the same text, fingerprint and answer.

    Raises:
        ProblemError: what is given is no problem, or holds a node that no function of the language makes.
    """
    if not isinstance(problem, Problem):
        raise ProblemError(f"{problem!r} is no problem; write mx.minimize(..., over=...)")
    places: dict[Expr, int] = {}
    lines: list[str] = []
    bulk = _Bulk()
    for node in _ordered(problem):
        if node in places:
            continue
        if not bulk.takes([places[n] for n in (*node.args, *_inside(node.data))]):
            raise ProblemError(f"the problem cannot be saved: {_LONG}")
        record = _record(node, places)
        places[node] = len(places)
        lines.append(json.dumps(record, allow_nan=False, ensure_ascii=False))
    for relation in _relations(problem):
        if not bulk.takes([places[relation.left], places[relation.right]]):
            raise ProblemError(f"the problem cannot be saved: {_LONG}")
    body = ",\n".join(lines)
    top = json.dumps(_outline(problem, places), allow_nan=False, ensure_ascii=False)
    return f'{{"format": "{FORMAT}",\n"nodes": [\n{body}\n],\n"problem": {top}}}\n'


def from_json(text: str) -> Problem:
    """The problem that ``to_json`` wrote.

    Raises:
        InputError: text that is no such JSON, of another version, with operations that are not known, or that no function of the
            language would make; the text says which node.
    """
    content = _parsed(text)
    records = content.get("nodes")
    if not isinstance(records, list) or not isinstance(content.get("problem"), dict):
        raise InputError("the saved problem was changed or cut: it needs a list of nodes and a problem; save it again")
    nodes: list[Expr] = []
    known: dict[Expr, Expr] = {}
    bulk = _Bulk()
    for place, record in enumerate(records):
        try:
            made = _node(record, nodes, bulk)
        except MixoptError as error:
            raise InputError(f"node {place} of the saved problem cannot be made: {_short(error)}") from None
        nodes.append(known.setdefault(made, made))
    try:
        return _problem(content["problem"], nodes, bulk, DEEPEST)
    except MixoptError as error:
        raise InputError(f"the saved problem cannot be made: {_short(error)}") from None


def save_problem(problem: Problem, path: str | os.PathLike[str]) -> None:
    """Write a problem as JSON; ``load_problem`` reads it back equal. No numbers that are given at a run, and no learner, are in it.

    Raises:
        ProblemError: what is given is no problem, or cannot be saved.
        InputError: the file cannot be written.
    """
    write(path, to_json(problem))


def load_problem(path: str | os.PathLike[str]) -> Problem:
    """The problem that ``save_problem`` wrote.

    Raises:
        InputError: no such file, or not a saved problem of this version.
    """
    try:
        if Path(path).stat().st_size > 4 * LONGEST:
            raise InputError(f"{path} is too large for a saved problem")
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a saved problem: {cause(error)}") from None
    try:
        return from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class _Bulk:
    """How long the nodes would be if they were written out, so that a small file cannot ask for a long text."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._total = 0

    def takes(self, places: list[int]) -> bool:
        """Count one more node over those at the places; whether there is room for it."""
        size = 1 + sum(self._sizes[p] for p in places)
        self._sizes.append(size)
        self._total += size
        return self._total <= WIDEST


def _ordered(part: Problem | Expr) -> Iterator[Expr]:
    """Every node of a problem, what it rests on first; nodes in the settings of others, such as lower levels, included."""
    if isinstance(part, Problem):
        inside = (*part.over, part.objective, *(side for r in part.subject_to for side in (r.left, r.right)))
        for each in inside:
            yield from _ordered(each)
        return
    for node in part.walk():
        for below in _inside(node.data):
            yield from _ordered(below)
        yield node


def _relations(problem: Problem) -> Iterator[Relation]:
    """The constraints of a problem and of those inside it."""
    yield from problem.subject_to
    if isinstance(problem.objective, Problem):
        yield from _relations(problem.objective)


def _inside(data: Any) -> tuple[Expr, ...]:
    """The expressions among the settings of a node."""
    parts = data if isinstance(data, tuple) else (data,)
    return tuple(p for p in parts if isinstance(p, Expr))


def _record(node: Expr, places: Mapping[Expr, int]) -> dict[str, Any]:
    """A node as a record, if the language makes it from that again."""
    try:
        again = remade(node.op, Parts(node.args, node.data, node.index, node.shape or ()))
    except MixoptError as error:
        raise ProblemError(f"'{node}' cannot be saved: {_short(error)}") from None
    if again != node:
        raise ProblemError(f"'{node}' cannot be saved: no function of the language makes this {node.op!r} from its parts")
    record: dict[str, Any] = {"op": node.op}
    if node.args:
        record["args"] = [places[a] for a in node.args]
    if node.data is not None:
        record["data"] = _coded(node.data, places)
    if node.index is not None and node.op != "mixture" and all(a.index != node.index for a in node.args):
        record["index"] = [_worded(n) for n in node.index]
    if node.shape and node.op in ("parameter", "variable"):
        record["shape"] = list(node.shape)
    return record


def _outline(problem: Problem, places: Mapping[Expr, int]) -> dict[str, Any]:
    inner = problem.objective
    return {
        "sense": problem.sense,
        "over": [places[s] for s in problem.over],
        "objective": _outline(inner, places) if isinstance(inner, Problem) else places[inner],
        "subject_to": [
            {"left": places[r.left], "sense": r.sense, "right": places[r.right], "name": None if r.name is None else _worded(r.name)}
            for r in problem.subject_to
        ],
    }


def _coded(value: Any, places: Mapping[Expr, int]) -> Any:
    """A setting as JSON: texts, numbers and truth values as they are, the rest under the name of its kind."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _worded(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else {"number": repr(float(value))}
    if isinstance(value, tuple):
        return [_coded(v, places) for v in value]
    if isinstance(value, Expr):
        return {"node": places[value]}
    if isinstance(value, Domains):
        return {"domains": [_worded(n) for n in value.names], "tokens": None if value.tokens is None else list(value.tokens)}
    if isinstance(value, Array):
        return {"array": value.value.ravel().tolist(), "shape": list(value.value.shape), "dtype": str(value.value.dtype)}
    raise ProblemError(f"a setting of type {type(value).__name__} has no form in a saved problem")


def _decoded(value: Any, nodes: list[Expr]) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(v, nodes) for v in value)
    if isinstance(value, str):
        return _worded(value)
    if not isinstance(value, dict):
        return value
    kind = next((k for k in ("node", "domains", "array", "number") if k in value), None)
    if kind == "node":
        return _at(value["node"], nodes)
    if kind == "domains":
        return Domains(_names(value["domains"]), value.get("tokens"))
    if kind == "array":
        return _array(value)
    if kind == "number" and value["number"] in ("inf", "-inf"):
        return float(value["number"])
    raise InputError(f"a setting is {_brief(value)}, which is neither a number, names, an array nor a node")


def _array(value: Mapping[str, Any]) -> Array:
    numbers, shape = value["array"], value.get("shape")
    if value.get("dtype") != "float64":
        raise InputError(f"an array is of {_brief(value.get('dtype'))}; the numbers of this version are float64")
    if not isinstance(numbers, list) or not all(type(v) in (int, float) for v in numbers):
        raise InputError("an array is no list of numbers")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) != len(numbers):
        raise InputError(f"an array has {len(numbers)} numbers and the shape {_brief(shape)}")
    try:
        values = np.array(numbers, dtype=float)
    except OverflowError:
        raise InputError("an array has a number that is too large") from None
    if not np.isfinite(values).all():
        raise InputError("an array has a number that is too large")
    return Array(values.reshape(shape))


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(n, str) for n in value):
        raise InputError(f"names are a list of texts, not {_brief(value)}")
    return tuple(_worded(n) for n in value)


def _worded(name: str) -> str:
    """A name, of a length that can be told in a message."""
    if len(name) > LONGEST_NAME:
        raise InputError(f"the name {_brief(name)} has {len(name)} characters; a saved name has at most {LONGEST_NAME}")
    return name


def _at(place: Any, nodes: list[Expr]) -> Expr:
    if type(place) is not int or not 0 <= place < len(nodes):
        raise InputError(f"there is no node {_brief(place)} before it")
    return nodes[place]


def _node(record: Any, nodes: list[Expr], bulk: _Bulk) -> Expr:
    """A node from its record, made by the function of the language that makes such nodes."""
    if not isinstance(record, dict) or not set(record) <= {"op", "args", "data", "index", "shape"}:
        raise InputError(f"it is {_brief(record)}, and not an operation with args, data and index")
    op, args, index = record.get("op"), record.get("args", []), record.get("index")
    if not isinstance(op, str) or op not in OPS:
        raise InputError(f"no operation {_brief(op)}{nearest(str(op), OPS)}; a newer version of mixopt may know it")
    if not isinstance(args, list):
        raise InputError(f"its args are {_brief(args)}, and not a list of nodes")
    parts = tuple(_at(a, nodes) for a in args)
    data = _decoded(record.get("data"), nodes)
    if not bulk.takes([*args, *(v["node"] for v in _coded_nodes(record.get("data")))]):
        raise InputError(_LONG)
    shape = record.get("shape", [])
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise InputError(f"its shape is {_brief(shape)}, and not a list of whole numbers")
    made = remade(op, Parts(parts, data, None if index is None else _names(index), tuple(shape)))
    told = made.op == op and index in (None, list(made.index or ())) and (not shape or made.shape == tuple(shape))
    if not told:
        raise InputError(f"its parts make {_brief(str(made))}, of another kind, shape or names than the file says")
    return made


def _coded_nodes(data: Any) -> list[Any]:
    parts = data if isinstance(data, list) else [data]
    return [p for p in parts if isinstance(p, dict) and "node" in p]


def _problem(outline: Any, nodes: list[Expr], bulk: _Bulk, depth: int) -> Problem:
    if not isinstance(outline, dict) or outline.get("sense") not in _SENSES:
        raise InputError(f"a problem says minimize or maximize, not {_brief(outline)}")
    if depth == 0:
        raise InputError(f"there are more than {DEEPEST} problems inside one another")
    over, limits, inner = outline.get("over"), outline.get("subject_to", []), outline.get("objective")
    if not isinstance(over, list) or not isinstance(limits, list):
        raise InputError("its symbols and its constraints are no lists")
    objective = _problem(inner, nodes, bulk, depth - 1) if isinstance(inner, dict) else _at(inner, nodes)
    make = _SENSES[outline["sense"]]
    return make(objective, over=tuple(_at(s, nodes) for s in over), subject_to=[_limit(r, nodes, bulk) for r in limits])


def _limit(record: Any, nodes: list[Expr], bulk: _Bulk) -> Relation:
    if not isinstance(record, dict) or record.get("sense") not in ("<=", ">=", "=="):
        raise InputError(f"a constraint is {_brief(record)}, without <=, >= or ==")
    left, right = _at(record.get("left"), nodes), _at(record.get("right"), nodes)
    if not bulk.takes([record["left"], record["right"]]):
        raise InputError(_LONG)
    relation = Relation(left, record["sense"], right)
    name = record.get("name")
    return relation if name is None else relation.named(_worded(name) if isinstance(name, str) else name)


def _parsed(text: str) -> dict[str, Any]:
    """The JSON of a saved problem of this version."""
    if not isinstance(text, str) or len(text) > LONGEST:
        raise InputError(f"a saved problem is a text of at most {LONGEST} characters")
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"this is no JSON of a saved problem: {_short(error)}") from None
    known = content.get("format") if isinstance(content, dict) else None
    if not isinstance(known, str) or not known.startswith("mixopt problem "):
        raise InputError("this is no saved problem; give what mx.to_json(problem) or mx.save_problem(problem, path) wrote")
    if known != FORMAT:
        raise InputError(
            f"the problem was saved as {_brief(known)}, and this version of mixopt reads {FORMAT!r}; use the version that saved it"
        )
    return dict(content)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _brief(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _short(error: BaseException) -> str:
    shown = str(error)
    return shown if len(shown) <= 500 else f"{shown[:497]}..."
