"""``mixopt count``: how much there is of each domain, and how often a run would read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from mixopt.errors import InputError

from .common import Json, Quiet, Voice
from .reading import DomainField, Dtype, Eos, Per, Split, TextField, Tokenizer, Undecodable, reading

if TYPE_CHECKING:
    from mixopt.data.prepare import Watch
    from mixopt.data.prepared import Amount, Count
    from mixopt.export.blend import Blend


def count(
    data: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders with one domain for each sub-folder or file.")],
    text_field: TextField = "text",
    domain_field: DomainField = "",
    tokenizer: Tokenizer = "",
    per: Per = "folder",
    split: Split = "train",
    dtype: Dtype = "",
    eos: Eos = "",
    undecodable: Undecodable = "refuse",
    budget: Annotated[float | None, typer.Option(help="Tokens of a run, as 1e10: tells how many epochs it reads of each domain.")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Mixture of that run, as mixopt fit and run write it, or a JSON, YAML or CSV of weights; else natural."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count the documents, bytes and tokens of each domain, and the epochs that a run of some budget reads of it."""
    from mixopt.data.prepare import count as count_folder

    blend = None if weights is None else _blend(weights, budget)
    how = reading(text_field, domain_field, tokenizer, per, split, dtype, eos, undecodable)
    voice, told = Voice(json, quiet), []
    for folder in data:
        with progress(voice, f"reading {folder}") as watch:
            counted = count_folder(folder, how, watch=watch)
        run = _run(counted, budget, blend)
        told.append(_content(folder, counted, run))
        if not json:
            _show(voice, folder, counted, run)
    if json:
        voice.answer("", {"folders": told})


@final
@dataclass(frozen=True)
class _Run:
    """A run over the counted domains: its tokens, its weights as shares of tokens (None: natural), and the epochs of each domain."""

    budget: float
    shares: Mapping[str, float] | None
    epochs: Mapping[str, float]


def _blend(path: Path, budget: float | None) -> Blend:
    """The mixture of a file, with the budget of the run."""
    from mixopt.export.blend import Blend

    found = Blend.load(path)
    if budget is None and found.budget is None:
        raise InputError(f"{path} does not say how many tokens its run has, so that there are no epochs; give --budget")
    return found if budget is None else replace(found, budget=budget)


def _run(counted: Count, budget: float | None, blend: Blend | None) -> _Run | None:
    """The run that was asked for, or None; shares of documents become shares of tokens by the documents counted."""
    if blend is None:
        return None if budget is None else _Run(budget, None, counted.epochs(budget))
    if blend.unit == "example" and blend.tokens_per_example is None:
        lengths = {name: amount.tokens / amount.documents for name, amount in counted.amounts.items() if amount.documents}
        blend = replace(blend, tokens_per_example={name: lengths[name] for name in blend.weights if name in lengths})
    shares = dict(zip(counted.domains, counted.domains.weights(blend.token_shares(blend.weights)).tolist(), strict=True))
    sized = replace(blend, tokens={name: amount.tokens for name, amount in counted.amounts.items()})
    return _Run(sized.budget or 0.0, shares, sized.epochs or {})


@contextmanager
def progress(voice: Voice, what: str) -> Iterator[Watch | None]:
    """A bar of the bytes read, gone at the end; none where nobody looks."""
    from rich.console import Console
    from rich.progress import Progress

    screen = Console(stderr=True)
    if voice.quiet or not screen.is_terminal:
        yield None
        return
    with Progress(console=screen, transient=True) as progress:
        task = progress.add_task(what)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)


def _content(folder: Path, counted: Count, run: _Run | None) -> dict[str, Any]:
    """The counts as JSON has them."""
    natural = dict(zip(counted.domains, counted.domains.natural, strict=True))
    rows = {
        name: {
            "documents": amount.documents,
            "bytes": amount.bytes,
            "bytes_estimated": amount.estimated,
            "tokens": amount.tokens,
            "bytes_per_token": amount.bytes_per_token,
            "natural_token_share": natural[name],
            **({"token_share": run.shares[name]} if run and run.shares else {}),
            **({"epochs": run.epochs[name]} if run else {}),
        }
        for name, amount in counted.amounts.items()
    }
    return {
        "folder": str(folder),
        "tokenizer": counted.unit,
        "budget_tokens": run and run.budget,
        "domains": rows,
        "notes": list(counted.notes),
    }


def _show(voice: Voice, folder: Path, counted: Count, run: _Run | None) -> None:
    """Print the counts as a table, with their sum where there are several domains."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    heads = ["domain", "documents", "bytes", "tokens", "bytes per token", "share of tokens"]
    heads += ["weight (token share)"] if run and run.shares else []
    heads += [f"epochs at {run.budget:.3g} tokens"] if run else []
    for head in heads:
        table.add_column(head, justify="left" if head == "domain" else "right", no_wrap=head == "domain")
    for (name, amount), natural in zip(counted.amounts.items(), counted.domains.natural, strict=True):
        row = [name, *_cells(amount), f"{natural:.4f}"]
        row += [f"{run.shares[name]:.4f}"] if run and run.shares else []
        row += [f"{run.epochs[name]:.3g}"] if run else []
        table.add_row(*row)
    if len(counted.amounts) > 1:
        table.add_row("all", *_cells(counted.total), style="bold")
    screen = Console(highlight=False)
    how = "as they are stored" if counted.unit == "as stored" else f"by {counted.unit}, with one for the end of each document"
    screen.print(f"{folder}: tokens {how}", markup=False, soft_wrap=True)
    screen.print(table)
    for note in counted.notes:
        voice.say(f"note: {note}", style="yellow")


def _cells(amount: Amount) -> list[str]:
    """Documents, bytes, tokens and bytes per token as they are read; about (~) where estimated, a dash where unknown."""
    about = "~" if amount.estimated else ""
    size, each = amount.bytes, amount.bytes_per_token
    return [
        "-" if amount.documents is None else f"{amount.documents:,}",
        "-" if size is None else f"{about}{size:,}",
        f"{amount.tokens:,}",
        "-" if each is None else f"{about}{each:.3f}",
    ]
