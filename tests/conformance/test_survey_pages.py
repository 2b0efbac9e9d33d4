"""The survey as a textbook: its table has every item, at a place that exists, by a line that stands there; so have the misprints."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "survey"
TABLE = (FOLDER / "table.md").read_text(encoding="utf-8")
ITEM = re.compile(r"^\| (S\d\d) \| [^|]+ \| \[([^\]]+)\]\(([^)#]+)#([^)]+)\) \| `([^`]+)` \|$", re.MULTILINE)
ITEMS = ITEM.findall(TABLE)
MISPRINT = re.compile(r"^\| (T\d\d(?:, T\d\d)*) \| .+ \| ([^|]+) \|$", re.MULTILINE)


def anchors(text: str) -> dict[str, str]:
    """The headings of a page by the places that links lead to."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-"): head for head in re.findall(r"^#{1,3} (.+)$", prose, re.MULTILINE)}


def run_on(text: str) -> str:
    """What a page runs, and the code in its prose."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) + re.findall(r"`[^`\n]+`", text))


def test_the_table_has_all_44_items_in_their_order():
    assert [item[0] for item in ITEMS] == [f"S{n:02d}" for n in range(1, 45)]


@pytest.mark.parametrize(("item", "title", "page", "anchor", "line"), ITEMS, ids=[item[0] for item in ITEMS])
def test_an_item_stands_where_the_table_says(item, title, page, anchor, line):
    text = (FOLDER / page).read_text(encoding="utf-8")
    assert anchors(text).get(anchor) == title
    assert line in run_on(text)


def test_every_misprint_is_told_on_the_page_that_is_named():
    found = []
    for ids, pages in MISPRINT.findall(TABLE):
        for name in ids.split(", "):
            found.append(name)
            for page in re.findall(r"\(([\w-]+\.md)\)", pages):
                remarks = re.findall(r"^> \*\*In print \(([^)]+)\)", (FOLDER / page).read_text(encoding="utf-8"), re.MULTILINE)
                prose = re.findall(r"\((T\d\d)\)", (FOLDER / page).read_text(encoding="utf-8"))
                assert name in ", ".join([*remarks, *prose]), (name, page)
    assert found == [f"T{n:02d}" for n in range(1, 27)]


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_closes_what_it_opens(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>Answer</summary>")
    assert page.stem == "table" or text.count("<details>") >= 2


def test_the_pictures_are_drawn_by_their_program(tmp_path):
    pytest.importorskip("matplotlib").use("svg")
    runpy.run_path(str(FOLDER.parent / "pictures" / "survey.py"))["draw"](tmp_path)
    shown = {name for page in FOLDER.glob("*.md") for name in re.findall(r"pictures/(survey-\w+\.svg)", page.read_text(encoding="utf-8"))}
    assert {path.name for path in tmp_path.iterdir()} == shown
