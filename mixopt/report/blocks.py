"""The parts a report is made of, before they become HTML or Markdown, and how its numbers are written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLAG = "▲"
_NUMERIC = re.compile(r"([▲ ]*[-+−<×±]*[\d.,]+(e[-+−]\d+)?[TBMk%]?( [–±] <?[\d.]+)?|∞|new|–|-|)$")


@final
@dataclass(frozen=True)
class Cell:
    """One entry of a table: its text and how it stands out; beside it a bar, and a mark on its scale, as shares of the full length."""

    text: str
    look: str = ""  # "", "best", "warn", "own", "code"
    bar: float | None = None
    mark: float | None = None


@final
@dataclass(frozen=True)
class Table:
    """A table with a caption; the first column names the rows."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, and are aligned on the right."""
        return tuple(j > 0 and all(_NUMERIC.match(row[j].text) for row in self.rows) for j in range(len(self.head)))

    @property
    def barred(self) -> tuple[bool, ...]:
        """Which columns have bars beside their numbers."""
        return tuple(any(row[j].bar is not None for row in self.rows) for j in range(len(self.head)))


@final
@dataclass(frozen=True)
class Formula:
    """A formula in LaTeX and, where it is known, the same as plain text."""

    latex: str
    text: str = ""


@final
@dataclass(frozen=True)
class Picture:
    """A picture: its name, what it shows in words, and how it is drawn."""

    name: str
    words: str
    draw: Callable[[], Axes | Sequence[Axes]]


@final
@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@final
@dataclass(frozen=True)
class Lines:
    """A list of sentences."""

    items: tuple[str, ...]


@final
@dataclass(frozen=True)
class Code:
    """Text that is to be read letter by letter, such as a command."""

    text: str


Block = Table | Formula | Picture | Prose | Lines | Code


@final
@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; ``key`` is its place in the page."""

    key: str
    title: str
    blocks: tuple[Block, ...]


Row = Iterable[Cell | str]


def table(caption: str, head: Iterable[str], rows: Iterable[Row], notes: Iterable[str] = ()) -> Table:
    """A table whose cells may be given as texts; notes that are empty are left out."""
    cells = tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows)
    return Table(caption, tuple(head), cells, tuple(n for n in notes if n))


def percent(share: float) -> str:
    """A share in percent to one decimal; what is small is not written as nothing."""
    if share == 0 or not math.isfinite(share):
        return "0" if share == 0 else "–"
    return f"{100 * share:.1f}" if abs(share) >= 0.0005 else "<0.1"


def count(number: float) -> str:
    """A count to three digits with its thousands by letter: 1.25T, 38.4B, 512."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * size:
            return f"{_three(number / size)}{letter}"
    return f"{number:.0f}" if abs(number) >= 10 or number == int(number) else f"{number:.2g}"


def _three(number: float) -> str:
    text = f"{number:.{0 if number >= 99.95 else 1 if number >= 9.995 else 2}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def times(ratio: float) -> str:
    """A ratio as a factor."""
    return "–" if not math.isfinite(ratio) else f"×{ratio:.0f}" if ratio >= 99.5 else f"×{ratio:.1f}" if ratio >= 9.95 else f"×{ratio:.2f}"


def passes(epochs: float) -> str:
    """Epochs to three digits at most."""
    if not math.isfinite(epochs):
        return "∞"
    if 0 < epochs < 0.005:
        return "<0.01"
    return f"{epochs:.2f}" if epochs < 9.995 else f"{epochs:,.0f}" if epochs >= 99.95 else f"{epochs:.1f}"


def decimals(rows: Iterable[Iterable[float]]) -> int:
    """How many digits after the point show the differences within rows: about two of them, five at most."""
    spreads = []
    for row in rows:
        finite = [v for v in row if math.isfinite(v)]
        if len(finite) > 1 and max(finite) > min(finite):
            spreads.append(max(finite) - min(finite))
    return 3 if not spreads else int(min(max(math.ceil(-math.log10(float(np.median(spreads)))) + 1, 0), 5))


def figure(value: Any, digits: int) -> str:
    """A number with this many digits after the point; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def short(value: float, padded: bool = False) -> str:
    """A number to three significant digits, zeros at its end kept where it is to be padded."""
    return "–" if not math.isfinite(value) else f"{value:{'#' if padded and value else ''}.3g}".rstrip(".").replace("-", "−")
