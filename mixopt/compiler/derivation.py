"""Derivations: named steps of sympy formulas with a sentence each, as text and as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from mixopt.errors import unknown
from mixopt.language.latex import upright

_DIGITS = 4


@final
@dataclass(frozen=True)
class Step:
    """One step: its name, a sentence that says what is done, and its formulas as sympy objects."""

    name: str
    words: str
    formulas: tuple[Any, ...]


@final
@dataclass(frozen=True)
class Derivation:
    """What follows from a problem by calculus, step by step; ``derivation["stationarity"]`` are the sympy formulas of one step.

    Numbers are exact in the formulas and shown to four digits; ``symbols`` finds a sympy symbol by its printed name.
    """

    title: str
    steps: tuple[Step, ...]
    names: Mapping[Any, str] = field(default_factory=dict, repr=False)

    def __getitem__(self, step: str) -> tuple[Any, ...]:
        found = next((s for s in self.steps if s.name == step), None)
        if found is None:
            raise unknown("step", step, [s.name for s in self.steps])
        return found.formulas

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    @property
    def symbols(self) -> dict[str, Any]:
        """The sympy symbols of the problem by name: ``w[code]``, ``p``, ``theta``."""
        return {str(symbol): symbol for symbol in self.names}

    def __str__(self) -> str:
        lines = [self.title]
        for step in self.steps:
            lines += [f"{step.name}: {step.words}", *(f"    {_text(f)}" for f in step.formulas)]
        return "\n".join(lines)

    def latex(self) -> str:
        """The steps as LaTeX for display mathematics, one formula a line."""
        rows = [rf"\textbf{{{self.title}}}"]
        for step in self.steps:
            rows.append(rf"{upright(step.name)}\text{{: }}{upright(step.words)}")
            rows += [rf"\quad {_latex(f, self.names)}" for f in step.formulas]
        body = " \\\\\n".join(f"& {row}" for row in rows)
        return f"\\begin{{split}}\n{body}\n\\end{{split}}"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"


def _rounded(formula: Any) -> Any:
    """The formula with its numbers to four digits."""
    import sympy

    return formula.xreplace({f: sympy.Float(f, _DIGITS) for f in formula.atoms(sympy.Float)})


def _text(formula: Any) -> str:
    import sympy

    if isinstance(formula, sympy.Equality):
        return f"{_text(formula.lhs)} = {_text(formula.rhs)}"
    return str(_rounded(formula))


def _latex(formula: Any, names: Mapping[Any, str]) -> str:
    import sympy

    return str(sympy.latex(_rounded(formula), symbol_names=dict(names)))
