"""From what a user calls a law to what fits it: a name, a class, or a function of runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from mixopt.errors import InputError, listed, nearest
from mixopt.runs import Runs

from .formula import Formula
from .law import Law
from .table import LAWS

Fitter = Callable[[Runs], Law]
"""What fits a law to runs."""


def is_formula(law: str) -> bool:
    """Whether a text is a law of one's own rather than the name of one: it has more than letters, digits and hyphens."""
    return re.fullmatch(r"[\w-]+", law) is None


def fitter(law: str | type[Law] | Fitter, **settings: Any) -> Fitter:
    """What fits this law with these settings; a setting that is None is left to the law, but for a ridge, which is then "auto".

    ``law`` is a name, a class, a function of runs, or a formula such as "c + b*exp(A @ w)" (see ``Formula``), which has no ridge but one
    that is given.

    Raises:
        InputError: a name that no law has, or settings that the law does not take.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(law, str):
        if is_formula(law):
            return partial(Formula.fit, text=law, **given)
        if law not in LAWS or law == Formula.name:
            names = [n for n in LAWS if n != Formula.name]
            raise InputError(
                f"{law!r} is no law; give a formula such as 'c + b*exp(A @ w)', or one of {listed(names, most=20)}{nearest(law, names)}"
            )
        kind: Any = LAWS[law]
    elif isinstance(law, type):
        kind = law
    else:
        if given:
            raise InputError(f"{listed(given)} cannot be given with a function that fits runs; settle them in the function")
        return law
    taken = inspect.signature(kind.fit).parameters
    strange = [name for name in given if name not in taken]
    if strange:
        raise InputError(
            f"the {kind.name} law takes no {listed(strange)}; it takes {listed([n for n in taken if n != 'runs']) or 'nothing'}"
        )
    if "ridge" in taken:
        given.setdefault("ridge", "auto")
    return partial(kind.fit, **given)
