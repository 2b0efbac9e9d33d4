"""``mixopt cut``: the data of proxies that repeat their domains as often as the target run will, for a trainer of the user's own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixopt.errors import InputError

from .common import Json, Quiet, Voice
from .count import progress
from .reading import DomainField, Dtype, Eos, Per, Split, TextField, Tokenizer, Undecodable, reading

if TYPE_CHECKING:
    from mixopt.designs import Kept


def cut(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with one domain for each sub-folder or file.")],
    run_tokens: Annotated[float, typer.Option(help="Training tokens of a proxy, as 6.2e9.")],
    target_tokens: Annotated[float, typer.Option(help="Tokens of the run that the mixture is for, as 2e12.")],
    out: Annotated[Path, typer.Option(help="New folder, with one for each domain: --root of mixopt design --emit.")] = Path("out/cut"),
    text_field: TextField = "text",
    domain_field: DomainField = "",
    tokenizer: Tokenizer = "",
    per: Per = "folder",
    split: Split = "train",
    dtype: Dtype = "",
    eos: Eos = "",
    undecodable: Undecodable = "refuse",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cut each domain to what a proxy may read of it, so that proxies repeat domains as often as the target run will."""
    from mixopt import designs

    for name, value in (("--run-tokens", run_tokens), ("--target-tokens", target_tokens)):
        if not 0 < value < float("inf"):
            raise InputError(f"{name} is {value:g}; it is a number > 0")
    if run_tokens > target_tokens:
        raise InputError(f"a proxy reads {run_tokens:g} tokens and the target {target_tokens:g}; give the longer run as the target")
    voice, share = Voice(json, quiet), run_tokens / target_tokens
    how = reading(text_field, domain_field, tokenizer, per, split, dtype, eos, undecodable)
    with progress(voice, f"cutting {data}") as watch:
        found = designs.cut(data, out, share, how, watch=watch)
    lines = [f"a share of {share:.4g} of each domain, in {out}", *(_line(name, kept) for name, kept in sorted(found.items()))]
    domains = {name: {**asdict(kept), "file": str(kept.file)} for name, kept in sorted(found.items())}
    voice.answer("\n".join(lines), {"share": share, "domains": domains})


def _line(name: str, kept: Kept) -> str:
    """What was kept of a domain, in words."""
    documents = "" if kept.documents is None else f"{kept.documents[0]:,} of {kept.documents[1]:,} documents, "
    return f"  {name}: {documents}{kept.kept:,} of {kept.whole:,} {kept.unit} ({kept.kept / kept.whole:.4g})"
