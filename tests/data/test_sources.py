"""Discovery: each sub-folder or file is a domain, sidecars and hidden files are passed over, clashes are told."""

from __future__ import annotations

import os

import pytest

from mixopt.data import Reading, discover
from mixopt.errors import InputError


def domains(folder, **how):
    """Domain -> names of its files."""
    found: dict[str, list[str]] = {}
    for source in discover(folder, Reading(**how)).sources:
        found.setdefault(source.domain, []).append(source.path.name)
    return found


def test_each_sub_folder_and_each_file_beside_them_is_a_domain(lay):
    folder = lay({"web/b.jsonl": "{}", "web/a.jsonl.gz": "x", "code.txt": "x", "books.parquet": "x", "notes.jsonl.zst": "x"})
    assert domains(folder) == {
        "books": ["books.parquet"],
        "code": ["code.txt"],
        "notes": ["notes.jsonl.zst"],
        "web": ["a.jsonl.gz", "b.jsonl"],
    }


def test_nested_folders_give_a_tree_and_files_may_be_leaves(lay):
    folder = lay({"crawl/news/high/1.txt": "x", "crawl/news/low/1.txt": "x", "crawl/all.txt": "x"})
    assert set(domains(folder)) == {"crawl", "crawl/news/high", "crawl/news/low"}
    assert set(domains(folder, per="file")) == {"crawl/all", "crawl/news/high/1", "crawl/news/low/1"}


def test_fields_of_the_records_take_the_place_of_the_files_names(lay):
    folder = lay({"part-0.jsonl": "{}", "part-1.jsonl": "{}", "more/part-2.jsonl": "{}"})
    assert domains(folder, domain_fields=("topic",)) == {"": ["part-0.jsonl", "part-1.jsonl"], "more": ["part-2.jsonl"]}


def test_a_single_file_is_a_domain(lay):
    assert domains(lay({"code.jsonl": "{}"}) / "code.jsonl") == {"code": ["code.jsonl"]}


def test_sidecars_and_hidden_files_are_passed_over_and_the_rest_is_told(lay, megatron):
    folder = lay({
        "a.bin": b"12", "a.json": "{}", "b.npy": "x", "b.meta.json": "{}", "c.bin": "x", "c.bin.json": "{}", "meta.json": "{}",
        ".hidden.txt": "x", ".git/x.txt": "x", "README.md": "x", "deep/config.json": "{}", "e.txt": "x", "none.txt": "",
        "e2/none.txt": "", "e2/some.txt": "x",
    })  # fmt: skip
    (folder / "none.txt").unlink()
    megatron(folder / "d_text_document", [[1, 2]])
    found = discover(folder)
    assert [(s.domain, s.kind) for s in found.sources] == [
        ("a", "flat"), ("b", "flat"), ("c", "flat"), ("d", "megatron"), ("e", "text"), ("e2", "text"),
    ]  # fmt: skip
    assert found.notes == ("not read, of no known format: (README.md, deep/config.json)", "empty files: (e2/none.txt)")
    assert found.bytes == sum(source.path.stat().st_size for source in found.sources)


def test_a_link_back_to_its_own_folder_ends_the_walk(lay):
    folder = lay({"web/a.txt": "x"})
    os.symlink(folder, folder / "web" / "round")
    assert domains(folder) == {"web": ["a.txt"]}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.md": "x", "b.pdf": "x"}, r"has nothing to read: it holds \(a.md, b.pdf\); put in .txt, .jsonl"),
        ({"a.txt": ""}, "a.txt.* is empty"),
        ({"a.txt": "", "b.txt": "x"}, r"\(a\) has only empty files: .*a.txt.*remove them or fill them"),
        ({"web/a.txt": "x", "web.jsonl": "x"}, "web and .*web.jsonl both give the domain 'web'; rename one"),
        ({"web.txt": "x", "web.jsonl": "x"}, "web.jsonl and .*web.txt both give the domain 'web'"),
        ({"a.idx": "x"}, "a.idx is Megatron's index of a.bin, which is not there"),
    ],
)
def test_folders_that_do_not_fit_are_refused(lay, files, message):
    with pytest.raises(InputError, match=message):
        discover(lay(files))


def test_an_empty_folder_and_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="has nothing to read: it is empty"):
        discover(tmp_path)
    with pytest.raises(InputError, match=r"there is no file or folder .*absent; give a folder"):
        discover(tmp_path / "absent")


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"per": "fil"}, "per is 'fil'"), ({"dtype": "float32"}, "uint16"), ({"undecodable": "drop"}, "drop"), ({"text_field": ""}, "empty")],
)
def test_settings_that_are_none_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        Reading(**setting)
