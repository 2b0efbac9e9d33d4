"""The documents of the demo's corpus: what a CPython installation carries as text, cut into six domains."""

from __future__ import annotations

import ast
import io
import itertools
import re
import sys
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DOMAINS = ("code", "comments", "docstrings", "reference", "codecs", "names")
CHUNK = 128  # code points of one document of names
LONGEST_TABLE = 60  # lines; an assignment at the top of a module that is longer is data, not program text

# What distributions ship apart or newer versions drop, vendored or generated; without them the corpus is nearly the same everywhere.
APART = frozenset({"distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "tkinter", "turtle", "turtledemo", "venv"})
FOLDERS = frozenset({"__pycache__", "dist-packages", "idle_test", "site-packages", "test", "tests"})
DIRECTIVE = re.compile(r"!|-\*-|coding[:=]|type:|noqa|pragma|pylint:|fmt:|mypy:|vim?:|local variables:|end:", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z]{2}")
Holder = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Document:
    """One text of a domain; texts of one ``source`` (a path relative to the library, or a part of one) belong together."""

    domain: str
    source: str
    text: str


@dataclass(frozen=True)
class Pieces:
    """A module taken apart: program text, comments as paragraphs, cleaned docstrings."""

    code: str
    comments: str
    docstrings: str


@dataclass(frozen=True)
class Span:
    """Characters from ``start`` to ``end``, each a (line, column), and what stands there instead; lines count from 0."""

    start: tuple[int, int]
    end: tuple[int, int]
    instead: str = ""


def library() -> Path:
    """The folder of the running installation's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def documents(root: Path | None = None) -> tuple[list[Document], dict[str, str]]:
    """All documents in a fixed order, before any split, and for each domain that has none the reason.

    ``root`` is a standard library folder, by default the running one; the names come from ``unicodedata`` in any case.
    """
    root = library() if root is None else root
    found = [*_modules(root), *_topics(root), *_codecs(root), *_names()]
    found = [d for d in found if d.text]
    have = {d.domain for d in found}
    reasons = {
        "code": f"no readable .py files of the standard library in {root}",
        "comments": f"no comments in .py files of the standard library in {root}",
        "docstrings": f"no docstrings in .py files of the standard library in {root}",
        "reference": f"no readable pydoc_data/topics.py in {root}",
        "codecs": f"no readable codec tables in {root / 'encodings'}",
        "names": "this Python has no module unicodedata",
    }
    return found, {name: reason for name, reason in reasons.items() if name not in have}


def take_apart(source: str) -> Pieces:
    """Program text without docstrings, comments and long tables; the comments; the docstrings.

    Raises:
        SyntaxError, tokenize.TokenError, ValueError, RecursionError: the text is no module of this Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    lines = source.split("\n")
    tables = [_table_span(n) for n in tree.body if _is_table(n)]
    hidden = {row for span in tables for row in range(span.start[0], span.end[0] + 1)}
    comments, blank = [], set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start[0] - 1, token.start[1]
        if token.type == tokenize.COMMENT and row not in hidden:
            comments.append((row, column, token.string))
        elif token.type == tokenize.NL and not token.line.strip():
            blank.add(row)
    documented = [(holder, text) for holder in _holders(tree) if (text := ast.get_docstring(holder)) is not None]
    spans = [*tables, *(Span((row, column), (row, len(lines[row]))) for row, column, _ in comments)]
    spans += [_docstring_span(holder, lines) for holder, _ in documented]
    return Pieces(
        code=_without(lines, spans, blank),
        comments=_paragraphs(comments, lines),
        docstrings="\n\n".join(text for text in (_tidy(text) for _, text in documented) if text),
    )


def _modules(root: Path) -> Iterator[Document]:
    for path in _python_files(root):
        source, name = _read(path), path.relative_to(root).as_posix()
        if source is None or _table_of(name, source):
            continue
        try:
            pieces = take_apart(source)
        except (SyntaxError, tokenize.TokenError, ValueError, RecursionError):
            continue
        yield Document("code", name, pieces.code)
        yield Document("comments", name, pieces.comments)
        yield Document("docstrings", name, pieces.docstrings)


def _topics(root: Path) -> Iterator[Document]:
    """The language reference as the interpreter's help shows it, a document a topic."""
    source = _read(root / "pydoc_data" / "topics.py")
    if source is None:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = [n.value for n in ast.parse(source).body if isinstance(n, ast.Assign)]
        topics = ast.literal_eval(values[0])
        for topic in sorted(topics):
            yield Document("reference", f"pydoc_data/topics.py#{topic}", _tidy(topics[topic]))
    except (SyntaxError, ValueError, IndexError, TypeError, AttributeError):
        return


def _codecs(root: Path) -> Iterator[Document]:
    """Tables of the one-byte codecs, without the rows that most of them share (ASCII as itself)."""
    tables = {}
    for path in sorted((root / "encodings").glob("*.py")):
        name, source = path.relative_to(root).as_posix(), _read(path)
        table = _table_of(name, source) if source else ""
        if table:
            tables[name] = table.split("\n")
    counts = Counter(row for rows in tables.values() for row in set(rows))
    for name, rows in tables.items():
        yield Document("codecs", name, _tidy("\n".join(r for r in rows if not r or counts[r] <= max(1, len(tables) // 8))))


def _names() -> Iterator[Document]:
    """Character names in the order of their code points, a line each; names that only spell the number are left out."""
    try:
        import unicodedata
    except ImportError:
        return
    for first in range(0, sys.maxunicode + 1, CHUNK):
        named = ((code, unicodedata.name(chr(code), "")) for code in range(first, first + CHUNK))
        kept = [n for code, n in named if n and not n.endswith(f"-{code:04X}") and not n.startswith("HANGUL SYLLABLE ")]
        yield Document("names", f"unicodedata#{first:06X}", "\n".join(kept))


def _python_files(root: Path) -> list[Path]:
    """Library modules, sorted by name; nothing that is installed beside them."""
    chosen = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in sys.stdlib_module_names and parts[0] not in APART and FOLDERS.isdisjoint(parts):
            chosen.append(path)
    return sorted(chosen, key=lambda p: p.relative_to(root).as_posix())


def _read(path: Path) -> str | None:
    """Text of a source file in its declared encoding, or None where it cannot be read."""
    try:
        with tokenize.open(path) as file:
            return file.read().replace("\0", "").replace("\f", "")
    except (OSError, SyntaxError, UnicodeDecodeError, LookupError):
        return None


def _table_of(name: str, source: str) -> str:
    """Text of a codec's tables, or nothing where the file is no table codec."""
    start = source.find("### Decoding ") if name.startswith("encodings/") else -1
    return source[start:] if start >= 0 else ""


def _holders(node: ast.AST) -> Iterator[Holder]:
    """Everything that can have a docstring, in the order of the text."""
    if isinstance(node, Holder):
        yield node
    for field in ("body", "handlers", "cases", "orelse", "finalbody"):
        children = getattr(node, field, ())
        for child in children if isinstance(children, list) else ():
            yield from _holders(child)


def _is_table(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign) and (node.end_lineno or node.lineno) - node.lineno >= LONGEST_TABLE


def _table_span(node: ast.stmt) -> Span:
    """The whole lines of a statement."""
    return Span((node.lineno - 1, 0), ((node.end_lineno or node.lineno) - 1, sys.maxsize))


def _docstring_span(holder: Holder, lines: list[str]) -> Span:
    """A docstring's place; ``pass`` stands there where its body or its line needs a statement."""
    first = holder.body[0]
    top, bottom = first.lineno - 1, (first.end_lineno or first.lineno) - 1
    # the columns of ast count UTF-8 bytes, ours characters
    start = len(lines[top].encode()[: first.col_offset].decode())
    end = len(lines[bottom].encode()[: first.end_col_offset].decode())
    rest = lines[bottom][end:].strip()
    alone = not lines[top][:start].strip() and (not rest or rest.startswith("#"))
    needed = not alone or (len(holder.body) == 1 and not isinstance(holder, ast.Module))
    return Span((top, start), (bottom, end), "pass" if needed else "")


def _without(lines: list[str], spans: Iterable[Span], blank: set[int]) -> str:
    """The lines with every span replaced; lines that this empties go, and of several blank ones in a row one stays."""
    kept: list[str | None] = list(lines)
    for span in sorted(spans, key=lambda s: s.start, reverse=True):
        (top, start), (bottom, end) = span.start, span.end
        merged = (kept[top] or "")[:start] + span.instead + (kept[bottom] or "")[end:]
        kept[top : bottom + 1] = [merged.rstrip() or None, *[None] * (bottom - top)]
    result: list[str] = []
    for row, line in enumerate(kept):
        if row in blank:
            if result and result[-1]:
                result.append("")
        elif line is not None:
            result.append(line)
    return "\n".join(result).rstrip()


def _paragraphs(comments: Iterable[tuple[int, int, str]], lines: list[str]) -> str:
    """Comments as prose: lines that follow one another make a paragraph, one beside code stands alone."""
    parts: list[list[str]] = []
    previous = (-2, -1)
    for row, column, raw in comments:
        text = raw.lstrip("#").rstrip()
        text = text[1:] if text.startswith(" ") else text
        beside = bool(lines[row][:column].strip())
        if not WORD.search(text) or DIRECTIVE.match(text.lstrip()):
            continue
        if not beside and previous == (row - 1, column):
            parts[-1].append(text)
        else:
            parts.append([text.lstrip()])
        previous = (-2, -1) if beside else (row, column)
    return "\n\n".join(_tidy("\n".join(p)) for p in parts)


def _tidy(text: str) -> str:
    """The text without space at line ends, and with at most one blank line in a row."""
    lines = (line.rstrip() for line in text.strip().expandtabs().split("\n"))
    groups = ((full, list(group)) for full, group in itertools.groupby(lines, key=bool))
    return "\n".join("\n".join(group) if full else "" for full, group in groups)
