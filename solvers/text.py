"""Solvers from their text, as they print: ``Implicit(system=ConjugateGradients(steps=10))`` is parsed, never evaluated.

>>> from_text("Projected(geometry='entropic')")
Projected(geometry='entropic', steps=5000, tolerance=1e-08, newton=True)
>>> str(from_text("Conic"))
'Conic()'
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mixopt.errors import InputError, listed, nearest, unknown
from mixopt.solver import Solver

from .table import TABLE

NAMES = (*(entry.name for entry in TABLE), "Online")
SETTINGS = (
    "AdaGradNorm",
    "Backtracking",
    "ChiSquare",
    "ConjugateGradients",
    "Decaying",
    "Dense",
    "Entropic",
    "Inner",
    "LineSearch",
    "MinRes",
    "Neumann",
    "Normalised",
    "Nystroem",
    "Suffix",
    "Tail",
    "Window",
)
RULES = ("CAGrad", "CoBa", "FAMO", "IMTLG", "IMTLL", "MGDA", "PCGrad", "Static", "TorchJD", "UPGrad")
MOVES = ("ADO", "Aioli", "DoGE", "GRAPE", "ODM", "PiKE", "RAndB")
WORDS = {int: "a whole number", float: "a number", str: "a text", Mapping: "a mapping"}


def from_text(text: str) -> Solver:
    """The solver that a text names, with its settings as keywords; without brackets it has the defaults.

    Raises:
        InputError: no such solver or setting (the nearest is suggested), or a value that is no literal or not allowed.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise InputError(f"the solver {text!r} cannot be read ({error.msg}); write it like Projected(geometry='entropic')") from None
    name = node.func if isinstance(node, ast.Call) else node
    if not isinstance(name, ast.Name):
        raise InputError(f"the solver {text!r} is no name with settings; write it like Projected(geometry='entropic')")
    if name.id not in NAMES:
        close = {known.lower(): known for known in NAMES}.get(name.id.lower())
        raise (
            InputError(f"no solver {name.id!r} in {listed(NAMES)}; did you mean {close!r}?") if close else unknown("solver", name.id, NAMES)
        )
    made = _made(name.id, node.keywords if isinstance(node, ast.Call) else [], node.args if isinstance(node, ast.Call) else [])
    assert isinstance(made, Solver)
    return made


def _made(name: str, keywords: list[ast.keyword], positional: list[ast.expr]) -> Any:
    """The solver or setting of this name, with these keywords."""
    from mixopt import balancing, rules, solvers

    kind = getattr(balancing if name in RULES else rules if name in MOVES else solvers, name)
    known = [entry.name for entry in fields(kind)]
    if positional:
        raise InputError(f"{name}({ast.unparse(positional[0])}) has a setting without its name; write {name}({known[0]}=...)")
    values: dict[str, Any] = {}
    for keyword in keywords:
        if keyword.arg is None:
            raise InputError(f"{name} takes its settings by name, {listed(known)}, not as **{ast.unparse(keyword.value)}")
        if keyword.arg not in known:
            raise InputError(f"{name} has no setting {keyword.arg!r}; it has {listed(known)}{nearest(keyword.arg, known)}")
        values[keyword.arg] = _value(f"{name}({keyword.arg}=...)", keyword.value)
    hints = get_type_hints(kind)
    for key, value in values.items():
        kinds = _kinds(hints[key])
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            expected = " or ".join(WORDS.get(k, k.__name__) for k in kinds if k is not int or float not in kinds)
            raise InputError(f"{name}({key}=...) is {value!r}; it is {expected}")
    return kind(**values)


def _kinds(hint: Any) -> tuple[type, ...]:
    """The classes that a value of a hinted setting may have; a whole number is a number too."""
    if get_origin(hint) is Literal:
        return tuple(dict.fromkeys(type(value) for value in get_args(hint)))
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return tuple(dict.fromkeys(kind for part in get_args(hint) for kind in _kinds(part)))
    found = get_origin(hint) or hint
    return (float, int) if found is float else (found,) if isinstance(found, type) else ()


def _value(where: str, node: ast.expr) -> Any:
    """A literal, or one of the settings that are records themselves."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id not in SETTINGS + RULES + MOVES:
            close = nearest(node.func.id, SETTINGS + RULES + MOVES)
            raise InputError(f"{where} is {ast.unparse(node)}; it is a literal, or one of {listed(SETTINGS)}{close}")
        return _made(node.func.id, node.keywords, node.args)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise InputError(f"{where} is {ast.unparse(node)}, which is no literal; text wants quotes, as in geometry='entropic'") from None
