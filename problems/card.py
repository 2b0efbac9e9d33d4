"""A method's card: what the catalog knows of it, and how that reads as text, Markdown and data."""

from __future__ import annotations

import ast
import importlib.util
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.abc import InspectLoader
from typing import Any, Literal, final, overload

from mixopt.errors import InputError

Family = Literal["min-max", "bi-level", "gradient balancing", "mixing law", "online", "heuristic"]
Phase = Literal["PT", "CPT", "SFT"]
Need = Literal["training data", "validation set", "reference model", "proxy runs", "gradients", "token counts"]


@final
@dataclass(frozen=True)
class Card:
    """One method: ``phases`` are those its source used it in (empty: the source names none), ``cost`` is beyond the target run.

    ``formula`` is plain text and ``latex`` the same in LaTeX; ``differences`` say where paper, code, survey and mixopt differ.
    ``defined`` names the objects that are the method, as ``module:object``, and ``use`` is a line that runs it.
    """

    name: str
    title: str
    family: Family
    phases: tuple[Phase, ...]
    needs: tuple[Need, ...]
    cost: str
    formula: str
    latex: str
    source: str
    differences: tuple[str, ...]
    defined: tuple[str, ...]
    use: str
    aliases: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The lines of Python that define the method, without their docstrings; nothing is imported for it."""
        return "\n\n".join(map(_lines, self.defined))

    def content(self) -> dict[str, Any]:
        """The card as plain data, its code included."""
        return asdict(self) | {"code": self.code}

    def text(self, width: int = 100) -> str:
        """The card without its code, in lines of at most ``width`` characters where words allow it."""
        facts = {"Needs": ", ".join(self.needs) or "nothing", "Cost": self.cost, "Source": self.source}
        fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
        return "\n".join(
            [
                f"{self.title}: {self.family}, {', '.join(self.phases) or 'any phase'}\n",
                *(fill(line, initial_indent="  ", subsequent_indent="      ") for line in self.formula.splitlines()),
                "",
                *(fill(f"{name:<7} {value}", subsequent_indent=" " * 8) for name, value in facts.items()),
                f"{'Use':<7} {self.use}\n",
                "Where paper, code, survey and mixopt differ",
                *(fill(f"- {line}", subsequent_indent="  ") for line in self.differences),
            ]
        )

    def __str__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        differences = "\n".join(f"- {line}" for line in self.differences)
        return (
            f"**{self.title}**: {self.family}, {', '.join(self.phases) or 'any phase'}\n\n$$\n{self.latex}\n$$\n\n"
            f"Needs: {', '.join(self.needs) or 'nothing'}. Cost: {self.cost}. Source: {self.source}.\n\n{differences}\n\n"
            f"```python\n{self.code}\n```"
        )


@final
@dataclass(frozen=True)
class Catalog(Sequence[Card]):
    """Cards in order; prints as a table, and is one in a notebook."""

    cards: tuple[Card, ...]

    @overload
    def __getitem__(self, at: int) -> Card: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Card, ...]: ...
    def __getitem__(self, at: int | slice) -> Card | tuple[Card, ...]:
        return self.cards[at]

    def __len__(self) -> int:
        return len(self.cards)

    def __iter__(self) -> Iterator[Card]:
        return iter(self.cards)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Name, family, phase, needs and cost of each, as text."""
        return [(c.name, c.family, " ".join(c.phases) or "any", ", ".join(c.needs) or "-", c.cost) for c in self.cards]

    def __str__(self) -> str:
        table = [HEAD, *self.rows()]
        widths = [max(len(row[j]) for row in table) for j in range(len(HEAD))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table)

    def _repr_markdown_(self) -> str:
        return "\n".join("| " + " | ".join(row) + " |" for row in [HEAD, ("---",) * len(HEAD), *self.rows()])


HEAD = ("method", "family", "phase", "needs", "cost")


def _lines(place: str) -> str:
    """The source of ``module:object`` without docstrings, past its overloads, found by reading the module and not by importing it.

    Raises:
        InputError: the module or the object is not there, or its source is not installed.
    """
    module, _, path = place.partition(":")
    spec = importlib.util.find_spec(module)
    loader = spec and spec.loader
    text = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    if text is None:
        raise InputError(f"the source of {module} is not installed; reinstall mixopt from its wheel or a checkout")
    body: list[ast.stmt] = ast.parse(text).body
    node: ast.FunctionDef | ast.ClassDef | None = None
    for part in path.split("."):
        node = next((n for n in reversed(body) if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == part), None)
        if node is None:
            raise InputError(f"{module} has no {path!r}")
        body = node.body
    assert node is not None
    lines = text.splitlines()
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    said = set(_docstrings(node))
    kept = [line for at, line in enumerate(lines[first - 1 : node.end_lineno], start=first) if at not in said]
    shown = textwrap.dedent("\n".join(kept)).strip()
    owner = path.rpartition(".")[0]
    return f"# {module}, in class {owner}\n{shown}" if owner else f"# {module}\n{shown}"


def _docstrings(node: ast.AST) -> Iterator[int]:
    """The numbers of the lines that docstrings in a tree take."""
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(part) is not None:
            yield from range(part.body[0].lineno, (part.body[0].end_lineno or 0) + 1)
