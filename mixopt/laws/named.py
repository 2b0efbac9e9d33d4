"""From what a user calls a law to what fits it: a name, a class, or a function of runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from mixopt.errors import InputError, listed, nearest
from mixopt.runs import Runs

from .law import Law
from .table import LAWS

Fitter = Callable[[Runs], Law]
"""What fits a law to runs."""


def fitter(law: str | type[Law] | Fitter, **settings: Any) -> Fitter:
    """What fits this law with these settings; a setting that is None is left to the law, but for a ridge, which is then "auto".

    Raises:
        InputError: a name that no law has, or settings that the law does not take.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(law, str):
        if law not in LAWS:
            raise InputError(f"{law!r} is no law; the laws are {listed(LAWS)}{nearest(law, LAWS)}")
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
