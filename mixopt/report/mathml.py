"""LaTeX to MathML that can stand in a page: parsed, reduced to known elements, every text escaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_ELEMENTS = frozenset(
    (
        *(
            "math",
            "mrow",
            "mi",
            "mn",
            "mo",
            "ms",
            "mtext",
            "mspace",
            "mstyle",
            "mpadded",
            "mphantom",
            "menclose",
            "mfrac",
            "msqrt",
            "mroot",
        ),
        *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "mtable", "mtr", "mtd"),
    )
)
_ATTRIBUTES = frozenset(
    (
        *("accent", "columnalign", "columnspacing", "depth", "display", "displaystyle", "fence", "form", "height", "linethickness"),
        *("linebreak", "lspace", "mathvariant", "maxsize", "minsize", "movablelimits", "rowspacing", "rspace", "scriptlevel"),
        *("separator", "stretchy", "width"),
    )
)
_NORMS = {r"\lVert": r"\left\|", r"\rVert": r"\right\|"}  # bare, the closing bars would hang as small as an index
_STAND_INS = {r"\&": "\ue000", "<": "\ue001", ">": "\ue002"}  # latex2mathml writes these into texts without escaping them
_BACK = str.maketrans({"\ue000": "&", "\ue001": "<", "\ue002": ">"})


def fenced(latex: str) -> str:
    """The formula with norms as pairs of fences, which latex2mathml needs to set them as high as what they hold."""
    for bar, fence in _NORMS.items():
        latex = latex.replace(bar, fence)
    return latex


def mathml(latex: str) -> str | None:
    """The formula as a MathML element, or None where it cannot be read or would hold anything but mathematics."""
    from latex2mathml.converter import convert

    latex = fenced(latex)
    for sign, stand_in in _STAND_INS.items():
        latex = latex.replace(sign, stand_in)
    try:
        tree = ElementTree.fromstring(convert(latex, display="block"))
    except Exception:  # whatever latex2mathml or the parser stumble over: the formula is then shown as it was typed
        return None
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
        if element.tag not in _ELEMENTS or (element.text or "").strip() == "\\":
            return None
        element.attrib = {k: v for k, v in element.attrib.items() if k in _ATTRIBUTES}
        element.tail = None
        if element.text:
            text = element.text.translate(_BACK)
            element.text = re.sub(r"\\([_&%#${}])", r"\1", text) if element.tag == "mtext" else text
    return ElementTree.tostring(tree, encoding="unicode")
