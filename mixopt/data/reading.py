"""Reading: everything that says how a folder is read, in one value that ``prepare`` and ``count`` share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from mixopt.errors import InputError, listed

TOKEN_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


@final
@dataclass(frozen=True)
class Reading:
    """How a folder of text or tokens is read.

    ``tokenizer``: "bytes", a ``tokenizer.json``, or a folder or name of a Hugging Face tokenizer; without one, text is read as bytes.
    ``text_field``: the field or column of the text; a dot reaches into an object, as in "meta.text".
    ``domain_fields``: fields whose values, joined by "/", name each record's domain, below its folder.
    ``per``: "folder": the files of a sub-folder are one domain; "file": each file is one.
    ``split``: which split of a Hugging Face ``DatasetDict`` is read.
    ``dtype``, ``eos``: type and end-of-document token of flat token files that have no sidecar; ``eos`` (a number or, for a tokenizer,
    its text) also replaces the tokenizer's own.
    ``undecodable``: bytes that are no UTF-8 are refused, or replaced by U+FFFD.

    Raises:
        InputError: a setting that is none of these.
    """

    tokenizer: str | os.PathLike[str] | None = None
    text_field: str = "text"
    domain_fields: tuple[str, ...] = ()
    per: Literal["folder", "file"] = "folder"
    split: str = "train"
    dtype: str | None = None
    eos: int | str | None = None
    undecodable: Literal["refuse", "replace"] = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "domain_fields", tuple(self.domain_fields))
        choices = {"per": (self.per, ("folder", "file")), "undecodable": (self.undecodable, ("refuse", "replace"))}
        for name, (given, known) in choices.items():
            if given not in known:
                raise InputError(f"{name} is {given!r}; it is one of {listed(known)}")
        if self.dtype is not None:
            token_type(self.dtype, "dtype")
        if not self.text_field or not all(self.domain_fields):
            raise InputError("a field's name is empty; give the names as the records have them")


def token_type(given: object, where: object) -> np.dtype[np.integer]:
    """A token type by its name; raises where it is none."""
    if given not in TOKEN_TYPES:
        raise InputError(f"{where} says tokens of type {given!r}; it is one of {listed(TOKEN_TYPES)}")
    return np.dtype(str(given))
