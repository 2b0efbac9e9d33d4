"""A report as Markdown of the GitHub kind: tables, a fenced formula, and no HTML."""

from __future__ import annotations

import re

from .blocks import Block, Cell, Code, Formula, Lines, Picture, Prose, Table
from .report import Report
from .sections import sections


def markdown(report: Report) -> str:
    """The whole report but its pictures; names and sentences are escaped, so that they are read as they stand."""
    lines = [f"# {plain(report.title)}", "", f"**{plain(report.recommendation)}**", ""]
    if report.doubts:
        lines += ["## Doubts", "", *(f"- {plain(d)}" for d in report.doubts), ""]
    if report.advice:
        lines += [f"**Next:** {plain(report.advice)}", ""]
    for section in sections(report):
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += [*_written(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def plain(text: str) -> str:
    """Text on one line in which no sign is markup."""
    escaped = re.sub(r"([\\`*\[\]<>|~$&])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^([-+#=]|\d+(?=[.)]\s))|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", escaped)


def _written(block: Block) -> list[str]:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Formula):
        return [*(_fenced(block.latex, "math") if block.latex else []), *(_fenced(block.text, "text") if block.text else [])]
    if isinstance(block, Picture):
        return [f"*Picture in report.html: {plain(block.words)}*"]
    if isinstance(block, Lines):
        return [f"- {plain(item)}" for item in block.items]
    if isinstance(block, Code):
        return _fenced(block.text, "text")
    return [plain(block.text)] if isinstance(block, Prose) else []


def _table(block: Table) -> list[str]:
    rule = ["---:" if number else "---" for number in block.numeric]
    rows = [[_cell(cell) for cell in row] for row in block.rows]
    lines = [f"*{plain(block.caption)}*", "", _row([plain(name) for name in block.head]), _row(rule), *map(_row, rows)]
    return [*lines, *(line for note in block.notes for line in ("", plain(note)))]


def _cell(cell: Cell) -> str:
    text = plain(cell.text)
    return f"**{text}**" if text and cell.look in ("best", "own") else text


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _fenced(text: str, language: str) -> list[str]:
    """A fenced block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text.splitlines(), fence]
