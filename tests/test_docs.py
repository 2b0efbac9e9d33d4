"""The pages: every link leads somewhere, every page can be reached, every snippet runs as a doctest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[Path]:
    """The files that a page links to; other sites are not followed."""
    found = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return [(page.parent / link.split("#")[0]).resolve() for link in found if "://" not in link and not link.startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    assert [str(target) for target in links(page) if not target.exists()] == []


def test_every_page_is_reached_from_the_first():
    reached, todo = set(), [(ROOT / "docs" / "index.md").resolve()]
    while todo:
        page = todo.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            todo += links(page)
    assert {page.resolve() for page in PAGES} <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_are_doctests_that_the_fence_does_not_cut(page):
    """A python block without a prompt would not run, and without a blank line before the fence would expect the fence as output."""
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            assert body.startswith(">>> "), body
            assert body.endswith("\n\n"), body
