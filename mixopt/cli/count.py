"""``mixopt count``: how much there is of each domain, and how often a run would read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from mixopt.errors import InputError

from .common import Json, Quiet, Voice

if TYPE_CHECKING:
    from mixopt.data.prepare import Watch
    from mixopt.data.prepared import Amount, Count


def count(
    data: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders with one domain for each sub-folder or file.")],
    text_field: Annotated[str, typer.Option(help="Field or column that holds the text; a dot reaches into an object.")] = "text",
    domain_field: Annotated[str, typer.Option(help="Fields of the records that name their domain: source,topic,quality.")] = "",
    tokenizer: Annotated[str, typer.Option(help="bytes, a tokenizer.json, or a Hugging Face folder or name; else bytes.")] = "",
    per: Annotated[str, typer.Option(help="What is a domain: folder (a sub-folder with all its files) or file.")] = "folder",
    split: Annotated[str, typer.Option(help="The split of a saved Hugging Face DatasetDict.")] = "train",
    dtype: Annotated[str, typer.Option(help="Type of flat token files without a sidecar: uint16, uint32.")] = "",
    eos: Annotated[str, typer.Option(help="End-of-document token: a number, or the tokenizer's text for it.")] = "",
    undecodable: Annotated[str, typer.Option(help="Bytes that are no UTF-8: refuse or replace.")] = "refuse",
    budget: Annotated[float | None, typer.Option(help="Tokens of a run, as 1e10: adds how many epochs it reads of each domain.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Mixture of that run, as mixopt fit or run wrote it; else natural.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count the documents, bytes and tokens of each domain, and the epochs that a run of some budget reads of it."""
    from mixopt.data.prepare import count as count_folder
    from mixopt.data.reading import Reading

    if weights is not None and budget is None:
        raise InputError("--weights tell epochs only together with --budget; give the tokens of the run")
    reading = Reading(
        tokenizer=tokenizer or None,
        text_field=text_field,
        domain_fields=tuple(field for field in domain_field.split(",") if field),
        per=cast(Literal["folder", "file"], per),
        split=split,
        dtype=dtype or None,
        eos=int(eos) if eos.isdecimal() else eos or None,
        undecodable=cast(Literal["refuse", "replace"], undecodable),
    )
    mixture, voice, told = _mixture(weights), Voice(json, quiet), []
    for folder in data:
        with _progress(voice, f"reading {folder}") as watch:
            counted = count_folder(folder, reading, watch=watch)
        epochs = None if budget is None else counted.epochs(budget, mixture)
        told.append(_content(folder, counted, budget, mixture, epochs))
        if not json:
            _show(voice, folder, counted, budget, mixture, epochs)
    if json:
        voice.answer("", {"folders": told})


def _mixture(path: Path | None) -> Mapping[str, float] | None:
    """The weights of a file, as shares of tokens."""
    if path is None:
        return None
    from mixopt.export.blend import Blend

    blend = Blend.load(path)
    if blend.unit != "token":
        raise InputError(f"the weights of {path} are shares of {blend.unit}s; epochs need shares of tokens")
    return blend.weights


@contextmanager
def _progress(voice: Voice, what: str) -> Iterator[Watch | None]:
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


def _content(
    folder: Path, counted: Count, budget: float | None, mixture: Mapping[str, float] | None, epochs: Mapping[str, float] | None
) -> dict[str, Any]:
    """The counts as JSON has them."""
    natural = dict(zip(counted.domains, counted.domains.natural, strict=True))
    shares = {} if mixture is None else dict(zip(counted.domains, counted.domains.weights(mixture), strict=True))
    rows = {
        name: {
            "documents": amount.documents,
            "bytes": amount.bytes,
            "bytes_estimated": amount.estimated,
            "tokens": amount.tokens,
            "bytes_per_token": amount.bytes_per_token,
            "natural_token_share": natural[name],
            **({"token_share": shares[name]} if shares else {}),
            **({} if epochs is None else {"epochs": epochs[name]}),
        }
        for name, amount in counted.amounts.items()
    }
    return {"folder": str(folder), "tokenizer": counted.unit, "budget_tokens": budget, "domains": rows, "notes": list(counted.notes)}


def _show(
    voice: Voice,
    folder: Path,
    counted: Count,
    budget: float | None,
    mixture: Mapping[str, float] | None,
    epochs: Mapping[str, float] | None,
) -> None:
    """Print the counts as a table, with their sum where there are several domains."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    heads = ["domain", "documents", "bytes", "tokens", "bytes/token", "share of tokens"]
    heads += [] if mixture is None else ["weight (token share)"]
    heads += [] if budget is None else [f"epochs at {budget:.3g} tokens"]
    for head in heads:
        table.add_column(head, justify="left" if head == "domain" else "right", overflow="fold")
    natural, shares = counted.domains.natural, None if mixture is None else counted.domains.weights(mixture)
    for i, (name, amount) in enumerate(counted.amounts.items()):
        row = [name, *_cells(amount), f"{natural[i]:.4f}"]
        row += [] if shares is None else [f"{shares[i]:.4f}"]
        row += [] if epochs is None else [f"{epochs[name]:.3g}"]
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
