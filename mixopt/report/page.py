"""A report as files: report.html that needs nothing else, report.md and report.json, each written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mixopt.errors import InputError, MissingExtraError, cause
from mixopt.files import write

from .blocks import Formula, Picture
from .markdown import markdown as markdown
from .mathml import mathml
from .pictures import inline
from .provenance import provenance as provenance
from .report import Report
from .sections import sections

FORMAT = "mixopt report 1"


def save(report: Report, folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Write report.html, report.md and report.json into a folder, which is made; gives their paths by suffix.

    Raises:
        InputError: mixtures that do not belong together, or a folder that cannot be written.
    """
    texts = {"html": html(report), "md": markdown(report), "json": json.dumps(content(report), indent=1, allow_nan=False) + "\n"}
    paths = {suffix: Path(folder) / f"report.{suffix}" for suffix in texts}
    for suffix, path in paths.items():
        write(path, texts[suffix])
    return paths


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a report.json.

    Raises:
        InputError: no such file, or one that ``save`` did not write.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a report: {cause(error)}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path} is no report in the format {FORMAT!r}; give a report.json that mixopt wrote")
    return found


def content(report: Report) -> dict[str, Any]:
    """The report as JSON values, with the epochs of each mixture; numbers that are NaN or infinite become None."""
    record: dict[str, Any] = {"format": FORMAT, **_plain(report)}
    return record | {"epochs": {name: _plain(report.epochs(name)) for name in report.mixtures}}


def html(report: Report) -> str:
    """The report as one page without scripts or anything from elsewhere; every text in it is escaped.

    Without matplotlib it has no pictures and says so.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    here = files("mixopt.report")
    lost: list[str] = []

    def picture(block: Picture) -> Markup | None:
        try:
            return Markup(inline(block.draw(), block.name, block.words))
        except MissingExtraError as error:
            lost[:] = [str(error)]
            return None

    def formula(block: Formula) -> Markup | None:
        shown = mathml(block.latex) if block.latex else None
        return None if shown is None else Markup(shown)

    def breakable(name: str) -> Markup:
        return Markup(re.sub(r"(?<=[/_])(?=\w)|(?<=[.:-])(?=[^\W\d])", "<wbr>", str(escape(name))))

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(here.joinpath("page.html").read_text(encoding="utf-8"))
    return page.render(
        title=report.title,
        lead=_held(report.recommendation),
        doubts=[_held(doubt) for doubt in report.doubts],
        advice=_held(report.advice),
        sections=sections(report),
        style=Markup(here.joinpath("page.css").read_text(encoding="utf-8")),
        kind_of=lambda block: type(block).__name__,
        missing=lambda: lost[0] if lost else "",
        picture=picture,
        formula=formula,
        breakable=breakable,
    )


def _held(text: str) -> str:
    """A sentence that no line breaks between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _plain(value: Any) -> Any:
    """Dataclasses, mappings, arrays and numbers as JSON values."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
