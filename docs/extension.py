"""What the site has of its own: formulas as MathML, docstrings as plain text, and pages that the program writes about itself."""

from __future__ import annotations

import re
from typing import Any

import typer
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

from mixopt.cli import app as application
from mixopt.problems import catalog
from mixopt.report.mathml import fenced

COMMANDS = typer.main.get_command(application).commands  # type: ignore[attr-defined]


def mathml(latex: str, display: str) -> str:
    """A formula as MathML; what the converter does not know is a warning, and so an error of the build."""
    made = convert(fenced(latex).replace(r"\arg", r"\mathrm{arg}"), display=display)
    if "\\" in made or "<mi>&</mi>" in made:
        getLogger(__name__).warning("a formula has a command that latex2mathml does not know: %s", latex)
    return made


def inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line, as MathML: a browser draws it without a script."""
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def block_math(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own."""
    self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


class Options(SphinxDirective):
    """The arguments and options of a command of mixopt, as the command itself has them."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One table."""
        rows = ["| option | |", "| --- | --- |"]
        for option in COMMANDS[self.arguments[0]].params:
            flags = option.opts[0].startswith("-")
            name = (
                ", ".join(f"`{o}`" for o in (*option.opts, *option.secondary_opts))
                if flags
                else f"`{option.metavar or option.name.upper()}`"
            )
            told = not (option.default in (None, False, "", ()) or callable(option.default))
            text = _cell(option.help or "") + (f" Default: `{option.default}`." if told else "")
            rows.append(f"| {name} | {text}{' Repeatable.' if option.multiple and 'again' not in text and 'epeat' not in text else ''} |")
        return self.parse_text_to_nodes("\n".join(rows))


class Methods(SphinxDirective):
    """The table of methods, each linked to its card."""

    def run(self) -> list[nodes.Node]:
        """One table."""
        rows = [(f"[`{row[0]}`](#method-{row[0]})", *row[1:]) for row in catalog.methods().rows()]
        table = [catalog.HEAD, ("---",) * len(catalog.HEAD), *rows]
        return self.parse_text_to_nodes("\n".join("| " + " | ".join(row) + " |" for row in table))


class Cards(SphinxDirective):
    """A section for each method: formula, needs, source, a line of use, and where paper, code, survey and mixopt differ."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        return self.parse_text_to_nodes("\n\n".join(map(_card, catalog.METHODS)), allow_section_headings=True)


def _card(card: catalog.Card) -> str:
    """A method's section as Markdown."""
    differences = "\n".join(f"* {_text(line)}" for line in card.differences)
    return (
        f"(method-{card.name})=\n## {card.title}\n\n$$\n{card.latex}\n$$\n\nSource: {_text(card.source)}.\n\n"
        f"```python\n{card.use}\n```\n\nWhere paper, code, survey and mixopt differ:\n\n{differences}"
    )


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    """Plain text as Markdown that shows it: what Markdown would take for its own is escaped, arXiv numbers are linked."""
    escaped = re.sub(r"([*_\[\]<>])", r"\\\1", text)
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", escaped)


LITERAL = re.compile(r"(``.+?``)")


def plain_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are plain text with ``code``, and a section "Raises:" whose entries become fields."""
    raising = False
    for at, line in enumerate(lines):
        raising = (raising and (not line or line.startswith("  "))) or line == "Raises:"
        entry = re.match(r"    ([\w, ]+): (.*)", line) if raising else None
        shown = _escaped(line)
        lines[at] = "" if line == "Raises:" else f":raises {entry[1]}: {_escaped(entry[2])}" if entry else shown


def _escaped(line: str) -> str:
    """A line of text in reStructuredText that shows it as it is; examples and code stay."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = LITERAL.split(line)
    return "".join(p if LITERAL.fullmatch(p) else re.sub(r"[*|\\`]|(?<=\w)_(?=\W|$)", lambda m: "\\" + m[0], p) for p in parts)


def readable_signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, args: str | None, result: str | None) -> Any:
    """A default that is made anew each time reads ``...``: Sphinx cannot parse the word that Python has for it."""
    return (args.replace("<factory>", "..."), result) if args else None


def without_last_blank_lines(app: Sphinx, tree: nodes.document) -> None:
    """Doctest wants a blank line before the fence ends; a reader does not."""
    for block in tree.findall(nodes.literal_block):
        text = block.astext().rstrip("\n")
        block.rawsource, block.children = text, [nodes.Text(text)]
        block.children[0].parent = block


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.add_directive("options", Options)
    app.add_directive("methods", Methods)
    app.add_directive("cards", Cards)
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("autodoc-process-signature", readable_signature)
    app.connect("doctree-read", without_last_blank_lines)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
