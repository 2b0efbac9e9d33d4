"""The options that say how a folder of text or tokens is read, and the value that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

if TYPE_CHECKING:
    from mixopt.data.reading import Reading


def _option(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="How the data are read")


TextField = Annotated[str, _option("Field or column that holds the text; a dot reaches into an object.")]
DomainField = Annotated[str, _option("Fields of the records that name their domain: source,topic,quality.")]
Tokenizer = Annotated[str, _option("bytes, a tokenizer.json, or a Hugging Face folder or name; else bytes (run: the model's own).")]
Per = Annotated[str, _option("What is a domain: folder (a sub-folder with all its files) or file.")]
Split = Annotated[str, _option("The split of a saved Hugging Face DatasetDict.")]
Dtype = Annotated[str, _option("Type of flat token files without a sidecar: uint16, uint32.")]
Eos = Annotated[str, _option("End-of-document token: a number, or the tokenizer's text for it.")]
Undecodable = Annotated[str, _option("Bytes that are no UTF-8: refuse or replace.")]


def reading(text_field: str, domain_field: str, tokenizer: str, per: str, split: str, dtype: str, eos: str, undecodable: str) -> Reading:
    """How the data are read, from the options as they were typed."""
    from mixopt.data.reading import Reading

    return Reading(
        tokenizer=tokenizer or None,
        text_field=text_field,
        domain_fields=tuple(field for field in domain_field.split(",") if field),
        per=cast(Literal["folder", "file"], per),
        split=split,
        dtype=dtype or None,
        eos=int(eos) if eos.isdecimal() else eos or None,
        undecodable=cast(Literal["refuse", "replace"], undecodable),
    )
