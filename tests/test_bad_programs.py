"""Wrong programs: each in ``bad_programs.md`` ends in the error that stands under it, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mixopt as mx

pytest.importorskip("torch")
pytest.importorskip("cvxpy")

PAGE = Path(__file__).with_name("bad_programs.md").read_text(encoding="utf-8")
CASES = {
    title: (program, words)
    for title, program, words in re.findall(r"^### ([^\n]+)\n\n```python\n(.*?)```\n\n```text\n(.*?)```$", PAGE, re.M | re.S)
}


@pytest.fixture(scope="module")
def names():
    """What the page begins with."""
    beginning = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, object] = {}
    exec(beginning[1], found)
    return found


@pytest.mark.parametrize("title", CASES)
def test_a_wrong_program_is_told_in_these_words(title, names):
    program, words = CASES[title]
    with pytest.raises(mx.MixoptError) as error:
        exec(program, dict(names))
    assert f"{type(error.value).__name__}: {error.value}\n" == words


def test_the_page_has_at_least_forty_programs_and_every_heading_is_one():
    assert len(CASES) >= 40
    assert len(re.findall(r"^### ", PAGE, re.M)) == len(CASES), "a heading occurs twice, or its blocks are not as they should be"
