"""Small tables for notebooks: escaped, without colours of their own, so that they read in light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

_MOST = 60
_NUMBER = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)?( %)?$|-?$")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", notes: Iterable[str] = ()) -> str:
    """A table as HTML, cut after 60 rows; columns of numbers are aligned on the right, notes stand below it."""
    every = [list(map(str, row)) for row in rows]
    shown = every[:_MOST]
    numbers = [j > 0 and all(_NUMBER.match(row[j]) for row in shown) for j in range(len(head))]

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="text-align: {"right" if number else "left"}">{escape(text)}</{tag}>'
            for text, number in zip(row, numbers, strict=True)
        )

    title = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in shown)
    more = [f"{len(every) - len(shown)} more rows"] if len(every) > len(shown) else []
    below = "".join(f"<div>{escape(note)}</div>" for note in (*more, *notes))
    style = 'style="font-variant-numeric: tabular-nums"'
    top = f"<thead><tr>{cells('th', head)}</tr></thead>" if any(head) else ""
    return f"<div {style}><table>{title}{top}<tbody>{body}</tbody></table>{below}</div>"
