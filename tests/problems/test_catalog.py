"""The catalog lists what mixopt has, and nothing else; every formula converts, every line of code is found."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import latex2mathml.converter
import pytest

import mixopt as mx
from mixopt.problems import catalog

CARDS = pytest.mark.parametrize("card", catalog.METHODS, ids=lambda card: card.name)


def test_every_public_problem_and_law_has_a_card():
    cards = {place.partition(":")[2].partition(".")[0] for card in catalog.METHODS for place in card.defined}
    laws = [law.__name__ for law in mx.laws.LAWS.values()]
    assert laws
    assert set(mx.problems.__all__) | set(laws) <= cards


def test_names_and_aliases_are_unambiguous():
    names = [catalog._plain(name) for card in catalog.METHODS for name in {card.name, card.title.lower(), *card.aliases}]
    assert len(names) == len(set(names))


@CARDS
def test_the_formula_converts_to_mathml(card):
    assert card.formula.strip()
    mathml = latex2mathml.converter.convert(card.latex, display="block")
    assert mathml.startswith("<math")
    assert "\\" not in mathml  # a command that was not understood
    assert "<mi>&</mi>" not in mathml  # an environment that was not


@CARDS
def test_the_lines_are_those_of_the_objects_named(card):
    tree = ast.parse(card.code)
    assert len(tree.body) == len(card.defined)
    for node, place in zip(tree.body, card.defined, strict=True):
        module, _, path = place.partition(":")
        found = sys.modules.get(module) or __import__(module, fromlist=["*"])
        for part in path.split("."):
            found = inspect.getattr_static(found, part)
        inner = getattr(found, "__func__", found)
        whole = ast.parse(inspect.cleandoc("\n" + inspect.getsource(inner))).body[0]
        assert ast.get_docstring(node) is None
        whole.body = whole.body[1:] if ast.get_docstring(whole) else whole.body
        assert ast.unparse(node) == ast.unparse(whole)


@CARDS
def test_the_line_of_use_is_python_and_its_names_exist(card):
    for node in ast.walk(ast.parse(card.use, mode="eval")):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("mx."):
            assert eval(ast.unparse(node), {"mx": mx}) is not None


def test_what_every_card_says():
    for card in catalog.METHODS:
        assert card.source
        assert card.cost
        assert card.differences
        assert all(line.endswith(".") for line in card.differences)
        assert max(map(len, card.text(72).splitlines()[1:-1])) <= max(72, len(card.use) + 8)


@pytest.mark.parametrize(
    ("asked", "name"), [("DoReMi", "doremi"), ("ddo", "autoscale"), ("Data Mixing Laws", "dml"), ("natural", "proportional")]
)
def test_a_method_is_found_by_any_of_its_names(asked, name):
    assert catalog.find(asked).name == name


def test_an_unknown_name_family_or_phase_suggests_the_nearest():
    with pytest.raises(mx.InputError, match=r"no method 'doreme' in .*did you mean 'doremi'"):
        catalog.find("doreme")
    with pytest.raises(mx.InputError, match="did you mean 'min-max'"):
        catalog.methods(family="minmax")
    with pytest.raises(mx.InputError, match="no phase 'pt'"):
        catalog.methods(phase="pt")


def test_a_selection_is_a_sequence_and_prints_as_a_table():
    laws = catalog.methods(family="mixing law")
    assert [card.name for card in laws][:3] == ["exponential", "dml", "olmix"]
    assert laws[0] is laws[:1][0]
    assert str(laws).splitlines()[0].split() == list(catalog.HEAD)
    assert laws._repr_markdown_().count("\n") == len(laws) + 1
    assert {c.name for c in catalog.methods(phase="SFT")} == {c.name for c in catalog.METHODS if not c.phases or "SFT" in c.phases}


def test_a_notebook_shows_formula_and_code():
    shown = catalog.find("unimax")._repr_markdown_()
    assert "$$" in shown
    assert "def unimax" in shown


def test_no_method_needs_torch_to_be_listed_or_explained():
    code = (
        "import sys\nfrom mixopt.problems import catalog\n"
        "assert all(card.content()['code'] for card in catalog.METHODS)\nassert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
