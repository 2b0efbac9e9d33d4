"""An objective of the user's own: a formula of the targets, or a function that makes an expression of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.errors import InputError, MixoptError, listed
from mixopt.language import atoms
from mixopt.language.expression import Expr
from mixopt.language.formula import formula
from mixopt.language.symbols import variable
from mixopt.runs import Targets
from mixopt.runtime.program import Function

Build = Callable[[Expr], Expr]
"""What makes an objective [] of the metrics [m], an expression whose entries go by the targets' names."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@final
@dataclass(frozen=True, eq=False)
class Own:
    """What is minimised: how it is built of the metrics, its text, and its value by numbers; ``saved`` is the formula, if it is one."""

    build: Build
    text: str
    saved: str | None
    function: Function

    @classmethod
    def of(cls, given: str | Build, targets: Targets) -> Own:
        """From a formula of the targets' names, where ``metrics`` is all of them, or from a function of the metrics.

        Raises:
            InputError: a formula or function that makes no number of them.
        """
        symbol = variable("metrics", len(targets))
        vector = atoms.stack([symbol[i] for i in range(len(targets))], index=targets.names)
        build = _of_text(given, targets) if isinstance(given, str) else given
        try:
            made = build(vector)
        except MixoptError as error:
            raise InputError(f"the objective {given!r} is no formula of the targets {listed(targets.names)}: {error}") from None
        if not isinstance(made, Expr) or made.shape != ():
            what = f"a vector of shape {made.shape}" if isinstance(made, Expr) else f"a {type(made).__name__}"
            raise InputError(f"the objective {given!r} is {what}; it must be one number: fold it by mean, max or weights")
        text = given if isinstance(given, str) else getattr(given, "__name__", "objective")
        return cls(build, text, given if isinstance(given, str) else None, Function(made, symbol, {}))

    def values(self, metrics: np.ndarray) -> np.ndarray:
        """The objective [...] of metrics [..., m]; NaN where a metric is missing."""
        rows = metrics.reshape(-1, metrics.shape[-1])
        found = np.array([self.function.value(row) if np.isfinite(row).all() else np.nan for row in rows])
        return found.reshape(metrics.shape[:-1])


def _of_text(text: str, targets: Targets) -> Build:
    """The formula with each target that a name can hold, and ``metrics``, all of them."""

    def build(metrics: Expr) -> Expr:
        known = {n: metrics[n] for n in targets.names if _NAME.fullmatch(n) and n != "metrics"}
        return formula(text, {**known, "metrics": metrics})

    return build
