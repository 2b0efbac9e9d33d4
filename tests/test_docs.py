"""The pages: every link leads somewhere, every page can be reached, every snippet runs, every command and option exists."""

from __future__ import annotations

import doctest
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import mixopt
from mixopt.cli import app
from mixopt.problems import catalog

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {page.relative_to(DOCS).with_suffix("").as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
COMMANDS = typer.main.get_command(app).commands
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_A_COMMAND = re.compile(r"^\$ (.*?[^\\])\n(.*?)(?=^\$ |\Z)", re.MULTILINE | re.DOTALL)

EACH = pytest.mark.parametrize("name", TEXTS)


def links(page: Path) -> list[Path]:
    """The files that a page links to; other sites are not followed."""
    found = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return [(page.parent / link.split("#")[0]).resolve() for link in found if "://" not in link and not link.startswith("#")]


def lines_of_commands(text: str) -> Iterator[str]:
    """What a page tells to type: the lines of its shell blocks, and the code in its prose, that begin with mixopt."""
    for language, body in FENCE.findall(text):
        if language in ("console", "bash"):
            typed = re.sub(r"\\\n\s*", " ", body).splitlines()
            yield from (line.removeprefix("$ ") for line in typed if line.removeprefix("$ ").startswith("mixopt "))
    yield from re.findall(r"`(mixopt [^`]+)`", FENCE.sub("", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    assert [str(target) for target in links(page) if not target.exists()] == []


def test_every_page_is_reached_from_the_first():
    reached, todo = set(), [(DOCS / "index.md").resolve()]
    while todo:
        page = todo.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            todo += links(page)
    assert {page.resolve() for page in PAGES} <= reached


def test_every_page_stands_in_one_table_of_contents():
    listed = []
    for name, text in TEXTS.items():
        for language, body in FENCE.findall(text):
            if language == "{toctree}":
                entries = [line.strip() for line in body.splitlines() if line.strip() and not line.startswith(":")]
                listed += [(Path(name).parent / entry).as_posix() for entry in entries]
    assert sorted(listed) == sorted(set(TEXTS) - {"index"})


@EACH
def test_snippets_are_doctests_that_the_fence_does_not_cut(name):
    """A python block without a prompt would not run, and without a blank line before the fence would expect the fence as output."""
    for language, body in FENCE.findall(TEXTS[name]):
        if language == "python":
            assert body.startswith(">>> "), body
            assert body.endswith("\n\n"), body


def test_the_reference_has_every_public_name():
    reference = "\n".join(text for name, text in TEXTS.items() if name.startswith("api/"))
    found = set(re.findall(r"auto\w+:: (\S+)", reference))
    modules = {"balancing", "designs", "graph", "laws", "loading", "problems", "rules", "scores", "solvers", "sweeps", "trainers"}
    assert {f"mixopt.{name}" for name in mixopt.__all__ if name not in modules} <= found
    for module, part in (
        ("balancing", mixopt.balancing),
        ("designs", mixopt.designs),
        ("graph", mixopt.graph),
        ("loading", mixopt.loading),
        ("problems", mixopt.problems),
        ("scores", mixopt.scores),
        ("solvers", mixopt.solvers),
        ("sweeps", mixopt.sweeps),
        ("trainers", mixopt.trainers),
    ):
        assert {f"mixopt.{module}.{name}" for name in part.__all__} <= found


def test_the_gallery_has_every_method_of_the_catalogue():
    assert set(re.findall(r"\(#method-([\w-]+)\)", TEXTS["gallery"])) == {card.name for card in catalog.METHODS}


def test_every_public_function_stands_in_an_example():
    """In a page, or in a docstring of the code; results, errors and the like come out of these functions."""
    texts = [
        *TEXTS.values(),
        *(path.read_text(encoding="utf-8") for top in ("mixopt", "problems", "solvers") for path in (ROOT / top).rglob("*.py")),
    ]
    typed = "\n".join(line for text in texts for line in re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", text, re.MULTILINE))
    functions = {name for name in mixopt.__all__ if inspect.isfunction(getattr(mixopt, name))}
    assert functions - set(re.findall(r"\b(\w+)\(", typed)) == set()


def test_every_command_has_its_options_and_an_example_on_its_page():
    told = re.findall(r"^```\{options\} (\S+)$", TEXTS["commands"], re.MULTILINE)
    assert sorted(told) == sorted(COMMANDS)
    typed = {line.split()[1] for line in lines_of_commands(TEXTS["commands"])}
    assert set(COMMANDS) <= typed
    shown = [command.epilog.removeprefix("Example: ") for command in COMMANDS.values()]
    assert set(shown) <= set(lines_of_commands(TEXTS["commands"]))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page):
    for line in lines_of_commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        if words[1].startswith("-"):
            assert words[1] in ("--help", "--version", "--install-completion", "--show-completion"), line
            continue
        assert words[1] in COMMANDS, line
        known = {flag for option in COMMANDS[words[1]].params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known, line


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "\n```console\n" in text])
def test_console_blocks_print_what_the_page_says(name, tmp_path, monkeypatch):
    """Python and console blocks in their order in one folder; a block of bash is shown, not run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    names: dict[str, object] = {}
    for language, body in FENCE.findall(TEXTS[name]):
        if language == "python":
            examples = doctest.DocTestParser().get_examples(body)
            exec("".join(example.source for example in examples if example.exc_msg is None), names)
        for line, expected in OF_A_COMMAND.findall(body) if language == "console" else ():
            words = shlex.split(re.sub(r"\\\n\s*", " ", line))
            assert words[0] == "mixopt", f"only mixopt is run by the tests, not: {line}"
            run = CliRunner().invoke(app, words[1:], env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})
            assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
            assert doctest.OutputChecker().check_output(expected, run.output, flags), f"$ {line}\n{run.output}"
