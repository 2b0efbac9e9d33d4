"""Pictures that stand in a page: inline SVG whose texts and colours follow the page, in the light, in the dark and on paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from .figures import BETTER, COLOURS, FAINT, GRID, INK, NOISE, PAPER, RULE, WORSE, figure_of, rendered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR_NAMES = {INK: "ink", FAINT: "faint", RULE: "rule", GRID: "grid", PAPER: "paper", BETTER: "accent", WORSE: "warn", NOISE: "noise"}
_COLOUR_NAMES |= {colour: f"c{i}" for i, colour in enumerate(COLOURS)}
_VARIABLES = {colour.lower(): f"var(--{name})" for colour, name in _COLOUR_NAMES.items()}
_DROPPED = ("metadata", "style", "title")


def inline(axes: Axes | Sequence[Axes], name: str, words: str) -> str:
    """The figure of these axes as an ``svg`` element: transparent, coloured by the page's variables, described by ``words``.

    Its ids begin with ``name``, so that several pictures share a page.
    """
    figure = figure_of(axes)
    for patch in (figure.patch, *(one.patch for one in figure.axes)):
        patch.set_visible(False)
    tree = ElementTree.fromstring(rendered(axes, "svg"))
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        element.attrib = {key.rpartition("}")[2]: _value(value, name) for key, value in element.attrib.items()}
        identity = element.attrib.pop("id", None)
        if identity and element.tag != "g":  # groups are never referred to
            element.set("id", f"{name}-{identity}")
        for child in [c for c in element if c.tag.rpartition("}")[2] in _DROPPED]:
            element.remove(child)
    box = tree.attrib["viewBox"]
    width = float(box.split()[2]) * 4 / 3  # from points to the pixels of CSS
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in tree)
    place = f'viewBox="{box}" preserveAspectRatio="xMinYMin meet" style="width: {width:.0f}px"'
    return f'<svg {place} role="img" aria-label="{escape(words)}">{body}</svg>'


def _value(value: str, name: str) -> str:
    """An attribute with the page's font, colours and ids in place of matplotlib's."""
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", re.sub(r"^#(?=[\w.-]+$)(?![0-9a-fA-F]{6}$)", f"#{name}-", value))
    value = re.sub(r"#[0-9a-fA-F]{6}", lambda found: _VARIABLES.get(found[0].lower(), found[0]), value)
    value = re.sub(r"font: (?:bold |\d+ )?([\d.]+)px [^;]*", r"font-size: \1px", value)
    return re.sub(r"font-family: [^;]*;?", "", value)
