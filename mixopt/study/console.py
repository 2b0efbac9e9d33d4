"""What a study shows on the screen: progress with time left, what each method found, and the verdict as tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from .search import Found
from .verdict import Line

STYLE = {"better": "green", "worse": "red"}
INDENT = (0, 0, 0, 2)
SHORT = {"within noise": "noise", "the same": "same"}


class Screen:
    """The console of one study, which keeps count of the time that its stages were expected to take."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False)
        self._expected = 0.0
        self._finished = 0.0

    def expect(self, seconds: float) -> None:
        """Say how long the work ahead is expected to take."""
        self._expected = seconds

    def say(self, text: str, style: str = "") -> None:
        """A line of text."""
        self.console.print(text, style=style or None, markup=False)

    def head(self, text: str) -> None:
        """The head of a stage."""
        self.console.print()
        self.console.print(text, style="bold", markup=False)

    @contextmanager
    def stage(self, name: str, seconds: float) -> Iterator[Callable[[float], None]]:
        """A stage with a bar; the caller tells the share that is done, and the time left of the whole is shown."""
        begun = time.perf_counter()
        columns = (TextColumn("  {task.description:<26}"), BarColumn(30), TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"))
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(name, total=1.0, left="")

            def tell(share: float) -> None:
                progress.update(task, completed=share, left=self._left(begun, share, seconds))

            yield tell
        self._finished += seconds
        self.console.print(f"  {name:<26}{time.perf_counter() - begun:6.1f} s", markup=False)

    def _left(self, begun: float, share: float, seconds: float) -> str:
        spent = time.perf_counter() - begun
        here = spent * (1 - share) / share if share > 0.05 else seconds * (1 - share)
        left = here + max(self._expected - self._finished - seconds, 0.0)
        return f"about {left // 60:.0f}:{left % 60:02.0f} left in all"

    def weights(self, domains: Sequence[str], mixtures: Mapping[str, Mapping[str, float]]) -> None:
        """Mixtures as a table of percentages."""
        table = Table("mixture", *domains, box=None, pad_edge=False, header_style="dim")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, weights in mixtures.items():
            table.add_row(name, *(f"{100 * weights[d]:.1f} %" for d in domains))
        self.console.print(Padding(table, INDENT))

    def found(self, found: Found) -> None:
        """The evidence behind a mixture."""
        self.console.print(f"  {found.label:<22}{found.evidence[0]}", markup=False)
        for line in found.evidence[1:]:
            self.console.print(f"  {'':<22}{line}", markup=False)

    def verdict(self, title: str, lines: Sequence[Line], sentences: Sequence[str]) -> None:
        """The verdict on one target: best first."""
        self.head(title)
        head = ("mixture", "loss", "vs uniform", "", "worst domain", "epochs", "cost")
        table = Table(*head, box=None, pad_edge=False, header_style="dim")
        for i in (1, 2, 5, 6):
            table.columns[i].justify = "right"
        for line in lines:
            word = line.against_uniform
            half = (line.high - line.low) / 2
            table.add_row(
                f"{line.name.partition(' (')[0]}{'' if line.method else ' *'}",
                f"{line.loss:.3f}",
                "-" if line.name == "uniform" else f"{line.difference:+.3f} ± {half:.3f}",
                "" if line.name == "uniform" else f"[{STYLE.get(word, 'dim')}]{SHORT.get(word, word)}[/]",
                f"{line.worst} {line.worst_loss:.2f}",
                f"{line.epochs:.1f}",
                f"{line.cost:.1f}" if line.cost else "-",
            )
        self.console.print(Padding(table, INDENT))
        for sentence in sentences:
            self.console.print(f"  {sentence}", markup=False)
