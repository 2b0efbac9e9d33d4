"""``mixopt list`` and ``mixopt explain``: the methods there are, and what each of them is."""

from __future__ import annotations

from typing import Annotated

import typer

from mixopt.problems import catalog

from .common import Json, Voice


def _names(incomplete: str) -> list[str]:
    return [card.name for card in catalog.METHODS if card.name.startswith(incomplete.lower())]


def list_methods(
    family: Annotated[
        str | None, typer.Option(help="Only one family: min-max, bi-level, 'gradient balancing', 'mixing law', online, heuristic.")
    ] = None,
    phase: Annotated[
        str | None, typer.Option(help="Only what is used in one phase: PT (pre-training), CPT (continued) or SFT (fine-tuning).")
    ] = None,
    json: Json = False,
) -> None:
    """List the methods with their family, phase, data needs and cost."""
    found = catalog.methods(family=family, phase=phase)
    if json:
        Voice(json).answer("", {"methods": [card.content() for card in found]})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in catalog.HEAD:
        table.add_column(name, no_wrap=name in ("method", "family", "phase"), style="bold" if name == "method" else "")
    for row in found.rows():
        table.add_row(*row)
    screen = Voice().console
    screen.print(table)
    screen.print(
        "\nPhases are those of the source: PT pre-training, CPT continued pre-training, SFT fine-tuning. Next: mixopt explain NAME"
    )


def explain(
    name: Annotated[str, typer.Argument(help="A method of mixopt list.", autocompletion=_names)],
    json: Json = False,
) -> None:
    """Explain a method: its formula, source, needs, cost, where paper and code differ, and the lines of Python that define it."""
    card = catalog.find(name)
    if json:
        Voice(json).answer("", card.content())
        return
    from rich.syntax import Syntax

    screen = Voice().console
    screen.print(card.text(min(screen.width, 100)), markup=False, soft_wrap=True)
    screen.print("\nThe lines that define it\n")
    screen.print(Syntax(card.code, "python", background_color="default", word_wrap=True))
