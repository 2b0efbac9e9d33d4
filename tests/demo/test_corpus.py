"""The corpus of the demo: what is taken from a module, that nothing leaks between parts, and a cache that never harms."""

from __future__ import annotations

import ast
import codecs
import dataclasses
import os
import tokenize
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.demo import corpus as corpora
from mixopt.demo.corpus import LONG, PARTS, SEPARATOR, Corpus, build, load, long_lines, part_of, split
from mixopt.demo.extract import CHUNK, DOMAINS, Document, documents, library, take_apart
from mixopt.errors import InputError

MODULE = (
    '''#!/usr/bin/env python3
"""About the module."""
import os  # the platform

# A first line of prose,
# and a second.
#
#-----
# Another paragraph.
x = "not a # comment"  # noqa


class Empty:
    """Nothing but words."""


def f(ä="ö"):
    "Short."; return """
# in a string


as is""", (1,  # one
        # two
        2)


async def g():
    """A
        longer one.
    """
    def inner(): "On the line."
    try:
        pass
    finally:
        class Deep:
            """Deep down."""
            y = 1
TABLE = {
'''
    + "".join(f"    {i}: {i},  # row {i}\n" for i in range(80))
    + "}\n"
)

CODE = '''import os

x = "not a # comment"

class Empty:
    pass

def f(ä="ö"):
    pass; return """
# in a string


as is""", (1,
        2)

async def g():
    def inner(): pass
    try:
        pass
    finally:
        class Deep:
            y = 1'''


@pytest.fixture(scope="module")
def found() -> list[Document]:
    if not (library() / "os.py").is_file() or not (library() / "pydoc_data" / "topics.py").is_file():
        pytest.skip("this Python has no standard library as source text")
    everything, missing = documents()
    assert missing == {}
    return everything


@pytest.fixture(scope="module")
def parts(found: list[Document]) -> dict[str, list[Document]]:
    return split(found)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of a few modules of every part, one topic file, no codec."""
    root = tmp_path_factory.mktemp("library")
    names = [f"json/m{i}.py" for i in range(40)] + ["test/test_json.py", "site-packages/other.py", "json/tests/a.py", "stranger.py"]
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""Words of {name}."""\n# A remark on {name}.\nx = {name!r}\n', encoding="utf-8")
    (root / "json" / "broken.py").write_text("def (:\n")
    (root / "json" / "binary.py").write_bytes(b"x = '\xff'\n")
    (root / "pydoc_data").mkdir()
    (root / "pydoc_data" / "topics.py").write_text(repr({"one": "x"}).join(["topics = ", "\n"]))
    return root


def undocumented(source: str) -> str:
    """The tree of a module without its docstrings, tables and lone ``pass``, as text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    tree.body = [n for n in tree.body if not (isinstance(n, ast.Assign | ast.AnnAssign) and n.end_lineno - n.lineno >= 60)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            node.body = [n for n in body if not isinstance(n, ast.Pass)]
    return ast.dump(tree)


def test_a_module_is_taken_apart() -> None:
    pieces = take_apart(MODULE)
    assert pieces.code == CODE
    assert pieces.comments == "the platform\n\nA first line of prose,\nand a second.\n\nAnother paragraph.\n\none\n\ntwo"
    assert pieces.docstrings.split("\n\n") == [
        "About the module.", "Nothing but words.", "Short.", "A\nlonger one.", "On the line.", "Deep down."
    ]  # fmt: skip


def test_code_is_the_same_program_without_its_words(found: list[Document]) -> None:
    code = [d for d in found if d.domain == "code"]
    assert len(code) > 200
    for document in code[::7]:
        with tokenize.open(library() / document.source) as file:
            source = file.read().replace("\f", "")
        assert undocumented(document.text) == undocumented(source), document.source
        assert take_apart(document.text).comments == take_apart(document.text).docstrings == "", document.source


def test_what_is_installed_beside_the_library_stays_out(found: list[Document]) -> None:
    folders = {folder for d in found for folder in Path(d.source).parts[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages", "__pycache__", "idlelib", "tkinter"}
    prose = {d.source for d in found if d.domain in ("code", "comments", "docstrings")}
    assert not any(source.startswith("pydoc_data") for source in prose)
    assert prose.isdisjoint(d.source for d in found if d.domain == "codecs")


def test_names_are_the_characters_in_order(found: list[Document]) -> None:
    for document in [d for d in found if d.domain == "names"][::17]:
        points = [ord(unicodedata.lookup(name)) for name in document.text.split("\n")]
        first = int(document.source.partition("#")[2], 16)
        assert points == sorted(points)
        assert first <= points[0] <= points[-1] < first + CHUNK


def test_codec_tables_say_what_the_codecs_do(found: list[Document]) -> None:
    table = next(d.text for d in found if d.source == "encodings/cp1250.py")
    for byte in (0x8A, 0xA5, 0xFF):
        name = unicodedata.name(codecs.decode(bytes([byte]), "cp1250"))
        assert f"0x{byte:02X} -> {name}" in table
    assert "def " not in table


def test_no_source_is_in_two_parts(parts: dict[str, list[Document]]) -> None:
    sources = {part: {d.source for d in parts[part]} for part in PARTS}
    assert (
        sources["train"] & sources["validation"] == sources["train"] & sources["test"] == sources["validation"] & sources["test"] == set()
    )
    assert all(part_of(d.source) == part for part in PARTS for d in parts[part])


def test_no_long_line_and_no_document_is_in_two_parts(parts: dict[str, list[Document]]) -> None:
    lines = {part: {line for d in parts[part] for line in long_lines(d.text)} for part in PARTS}
    texts = {part: {d.text for d in parts[part]} for part in PARTS}
    for held in (lines, texts):
        assert len(held["train"]) > 300
        assert held["train"].isdisjoint(held["validation"])
        assert held["train"].isdisjoint(held["test"])
        assert held["validation"].isdisjoint(held["test"])


def test_little_is_dropped_and_every_domain_is_in_every_part(found: list[Document], parts: dict[str, list[Document]]) -> None:
    for domain in DOMAINS:
        total = sum(len(d.text) for d in found if d.domain == domain)
        for part, share in zip(PARTS, (0.8, 0.1, 0.1), strict=True):
            kept = [d for d in parts[part] if d.domain == domain]
            assert len(kept) >= 3
            assert sum(len(d.text) for d in kept) > 0.4 * share * total, (domain, part)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.lists(st.sampled_from(["a" * LONG, "b" * LONG, " " + "a" * LONG, "short", ""])))))
def test_long_lines_never_cross_whatever_the_documents(drawn: list[tuple[int, list[str]]]) -> None:
    given_documents = [Document("comments", f"m{i}.py", "\n".join(lines)) for i, lines in drawn]
    parts = split(given_documents)
    seen: set[str] = set()
    for part in PARTS:
        lines = {line for d in parts[part] for line in long_lines(d.text)}
        assert seen.isdisjoint(lines)
        seen |= lines
    train = [d for d in given_documents if part_of(d.source) == "train" and d.text.strip("\n")]
    assert {d.text.strip("\n") for d in train} == {d.text for d in parts["train"]}


def test_tokens_are_the_documents(found: list[Document], parts: dict[str, list[Document]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "documents", lambda root: (found, {}))
    corpus = build()
    assert corpus.domains == DOMAINS
    for part in PARTS:
        for domain in DOMAINS:
            array = corpus.tokens[part][domain]
            texts = [d.text for d in parts[part] if d.domain == domain]
            assert array.dtype == np.uint8
            assert array.tobytes().decode("utf-8").split(chr(SEPARATOR)) == [*texts, ""]
            assert corpus.sizes(part)[domain] == len(array) > 5000
    with pytest.raises(InputError, match=r"no part 'tests' in .*did you mean 'test'"):
        corpus.sizes("tests")


def test_a_part_does_not_depend_on_the_run() -> None:
    assert [part_of(n) for n in ("json/decoder.py", "os.py", "configparser.py")] == ["train", "validation", "test"]
    shares = [sum(part_of(f"f{i}.py") == part for i in range(5000)) / 5000 for part in PARTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_a_library_that_lacks_domains(small: Path) -> None:
    corpus = build(small)
    assert corpus.domains == ("code", "comments", "docstrings", "names")
    assert corpus.missing["reference"].startswith("too few documents for three parts: ")
    assert corpus.missing["codecs"] == f"no readable codec tables in {small / 'encodings'}"
    text = b"".join(corpus.tokens[part]["comments"].tobytes() for part in PARTS).decode()
    assert sorted(text.split("\0")[:-1]) == sorted(f"A remark on json/m{i}.py." for i in range(40))
    assert build(small).fingerprint == corpus.fingerprint


def test_no_library_at_all_leaves_the_names(tmp_path: Path) -> None:
    corpus = build(tmp_path / "absent")
    assert corpus.domains == ("names",)
    assert set(corpus.missing) == set(DOMAINS) - {"names"}
    assert all(corpus.missing.values())


@pytest.fixture
def counted(small: Path, monkeypatch: pytest.MonkeyPatch) -> list[Corpus]:
    """Makes ``load`` build from the small library and counts how often it does."""
    built: list[Corpus] = []

    def once_more() -> Corpus:
        built.append(build(small))
        return built[-1]

    monkeypatch.setattr(corpora, "build", once_more)
    return built


def same(one: Corpus, other: Corpus) -> bool:
    return one.fingerprint == other.fingerprint and one.domains == other.domains and dict(one.missing) == dict(other.missing)


def test_the_cache_gives_back_what_was_built(counted: list[Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXOPT_CACHE", str(tmp_path / "deep" / "er"))
    first, second = load(), load()
    assert len(counted) == 1
    assert same(first, second)
    assert same(first, load(tmp_path / "elsewhere"))
    assert len(counted) == 2
    assert [p.suffix for p in (tmp_path / "deep" / "er").iterdir()] == [".npz"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "pickle", "other contents", "folder"])
def test_a_damaged_cache_is_built_again(damage: str, counted: list[Corpus], tmp_path: Path) -> None:
    first = load(tmp_path)
    (path,) = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "garbage":
        path.write_bytes(os.urandom(5000))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickle":
        np.savez(path, about=np.array([{}], dtype=object))
    elif damage == "other contents":
        arrays = dict(np.load(path))
        arrays["test/code"] = arrays["test/code"][:-1]
        np.savez(path, **arrays)
    else:
        path.unlink()
        path.mkdir()
    assert same(load(tmp_path), first)
    assert len(counted) == 2
    load(tmp_path)
    assert len(counted) == (3 if damage == "folder" else 2)


def test_a_cache_that_cannot_be_written_does_no_harm(counted: list[Corpus], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert same(load(tmp_path / "file"), counted[0])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_another_format_is_another_cache(counted: list[Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(tmp_path).fingerprint
    monkeypatch.setattr(corpora, "FORMAT", "mixopt corpus 0")
    assert load(tmp_path).fingerprint != before
    assert len(counted) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_corpus_is_frozen(small: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        build(small).missing = {}  # type: ignore[misc]
