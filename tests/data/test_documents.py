"""Documents: every format gives the same texts, and each fault is told with its file and line."""

from __future__ import annotations

import gzip
import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.data import Reading, discover
from mixopt.data.documents import PASSAGE, passages
from mixopt.errors import InputError, MissingExtraError


def read(folder, cut=False, **how):
    """Domain, text and end of every passage of a folder."""
    reading = Reading(**how)
    return [(p.domain, p.content, p.ends) for source in discover(folder, reading).sources for p in passages(source, reading, cut)]


def contents(folder, **how):
    return [content for _, content, _ in read(folder, **how)]


def saved(records, path):
    """Records as a Hugging Face dataset saves them."""
    import datasets

    datasets.Dataset.from_list(records).save_to_disk(str(path))


def parquet(records, path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)


def test_every_format_gives_the_same_documents(lay, texts):
    import zstandard

    records = [*texts(600), {"text": "Zeile\r\nzwei\n"}]
    wanted = [record["text"] for record in records]
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    pressed = zstandard.ZstdCompressor().compress
    folder = lay({
        "a.jsonl": lines,
        "b.jsonl.gz": gzip.compress(lines),
        "c.jsonl.zst": pressed(lines[:900]) + pressed(lines[900:]),  # two frames, as pzstd writes them
        "d.json.gz": gzip.compress(lines[:1000]) + gzip.compress(lines[1000:]),
    })  # fmt: skip
    parquet(records, folder / "e.parquet")
    saved(records, folder / "f")
    names = [source.path.name for source in discover(folder).sources]
    assert names == ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.json.gz", "e.parquet", "f"]
    assert contents(folder) == wanted * len(names)
    assert all(ends for _, _, ends in read(folder))


def test_empty_texts_and_lines_are_passed_over_and_a_byte_order_mark_is_none_of_the_text(lay):
    lines = b'\xef\xbb\xbf{"text": "one"}\n\n{"text": ""}\n  \n{"text": "two"}'
    assert contents(lay({"a.jsonl": lines, "b.txt": b"\xef\xbb\xbfthree"})) == ["one", "two", "three"]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(["a line\n", "ü", "long" * 500, " ", "\n\n", "漢字" * 700, "😀"]), min_size=1, max_size=60).map("".join),
    st.booleans(),
)
def test_a_text_file_is_one_document_and_its_passages_are_the_whole_of_it(tmp_path_factory, text, cut):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(text, encoding="utf-8", newline="")
    found = read(path, cut)
    assert "".join(content for _, content, _ in found) == text
    assert [ends for _, _, ends in found] == [False] * (len(found) - 1) + [True]
    if cut:
        assert max(len(content.encode()) for _, content, _ in found) <= PASSAGE


def test_cut_text_ends_its_passages_at_line_ends(lay):
    folder = lay({"a.txt": "a line of text\n" * 5000})
    found = read(folder, cut=True)
    assert len(found) > 5
    assert all(content.endswith("\n") for _, content, _ in found)
    assert len(read(folder)) == 1


def test_fields_name_domains_and_dots_reach_into_objects(lay):
    records = [{"body": {"raw": "x"}, "meta": {"source": "web"}, "topic": "a/b", "level": 3}]
    folder = lay({"a.jsonl": records})
    parquet(records, folder / "b.parquet")
    how = {"text_field": "body.raw", "domain_fields": ("meta.source", "topic", "level")}
    assert read(folder, **how) == [("web/a/b/3", "x", True)] * 2


def test_the_text_field_may_have_a_dot_in_its_name(lay):
    assert contents(lay({"a.jsonl": [{"body.raw": "x"}]}), text_field="body.raw") == ["x"]


def test_rows_of_tokens_are_read_where_there_is_no_text(lay):
    folder = lay({})
    records = [{"input_ids": [1, 2, 3], "topic": "x"}, {"input_ids": [], "topic": "x"}, {"input_ids": [7], "topic": "y"}]
    saved(records, folder / "a")
    parquet(records, folder / "b.parquet")
    found = [(domain, tokens.tolist()) for domain, tokens, _ in read(folder, domain_fields=("topic",))]
    assert found == [("x", [1, 2, 3]), ("y", [7])] * 2


def test_a_split_of_several_is_read_or_asked_for(lay):
    import datasets

    folder = lay({})
    one = {name: datasets.Dataset.from_list([{"text": name}]) for name in ("train", "held")}
    datasets.DatasetDict(one).save_to_disk(str(folder / "a"))
    assert contents(folder) == ["train"]
    assert discover(folder).notes == ("only one split is read of a: train",)
    assert contents(folder, split="held") == ["held"]
    with pytest.raises(InputError, match=r"has the splits \(train, held\), not 'test'; choose by split"):
        contents(folder, split="test")


BROKEN = [
    ({"a.jsonl": '{"text": "x"}\n{"text": '}, "a.jsonl, line 2: not JSON .Expecting value at column 10"),
    ({"a.jsonl.gz": gzip.compress(b'{"text": "x"}\n\n{text')}, "a.jsonl.gz, line 3: not JSON"),
    ({"a.jsonl": '["x"]'}, r"a.jsonl, line 1: a list where a JSON object is expected"),
    ({"a.jsonl": '{"text": "x"}\n{"txt": "x", "id": 1}'}, r"line 2: no field 'text'; the fields are \(txt, id\); did you mean 'txt'\?"),
    ({"a.jsonl": '{"text": 3, "body": ""}'}, r"the field 'text' is 3, no text; the fields are \(text, body\)"),
    ({"a.jsonl": '{"text": null}'}, "the field 'text' is null"),
    ({"a.jsonl": b'{"text": "ok"}\n{"text": "\xff"}'}, "a.jsonl, line 2: byte 0xff at offset 25 is no UTF-8 .invalid start byte.; convert"),
    ({"a.jsonl": '{"text": "\\ud83d"}'}, r"line 1: .*d83d is half a character"),
    ({"a.txt": b"good\nline\nb\xe4d\n"}, "a.txt, line 3: byte 0xe4 at offset 11 is no UTF-8"),
    ({"a.jsonl.gz": b"no gzip"}, "a.jsonl.gz cannot be read: Not a gzipped file"),
    ({"a.jsonl.zst": b"no zst at all"}, "a.jsonl.zst is cut off or damaged after line 0"),
    ({"a.parquet": b"PAR1 none"}, "a.parquet is no whole Parquet file"),
    ({"a/state.json": "{", "a/dataset_info.json": "{}"}, "a is no whole saved dataset"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "message"), BROKEN, ids=[message[:30] for _, message in BROKEN])
def test_each_fault_is_told_with_its_file_and_line(lay, files, message):
    with pytest.raises(InputError, match=message):
        read(lay(files))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_compressed_file_that_is_cut_off_is_told(lay, texts, suffix, kind):
    import zstandard

    lines = "".join(json.dumps(record) + "\n" for record in texts(500)).encode()
    packed = gzip.compress(lines) if suffix == ".gz" else zstandard.ZstdCompressor().compress(lines)
    with pytest.raises(InputError, match=rf"a.{kind}{suffix} is cut off or damaged"):
        read(lay({f"a.{kind}{suffix}": packed[: len(packed) // 2]}))


def test_a_parquet_file_damaged_inside_is_told(lay, texts):
    folder = lay({})
    parquet(texts(500), folder / "a.parquet")
    content = bytearray((folder / "a.parquet").read_bytes())
    content[200:400] = b"\xff" * 200
    (folder / "a.parquet").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"a\.parquet"):
        read(folder)


def test_columns_that_are_not_there_list_those_that_are(lay):
    folder = lay({})
    parquet([{"content": "x", "id": 1}], folder / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet has no column 'text'; its columns are \(content, id\)"):
        read(folder)
    with pytest.raises(InputError, match=r"no column 'topic'; its columns are \(content, id\).*choose by domain_fields"):
        read(folder, text_field="content", domain_fields=("topic",))
    with pytest.raises(InputError, match=r"a.parquet, row 1: the field 'id' is 1, no text"):
        read(folder, text_field="id")


@pytest.mark.parametrize(
    ("topic", "what"), [("", "empty"), (None, "null"), (1.5, "1.5"), (True, "true"), ("/", "the text '/'"), ({}, "an object")]
)
def test_a_domain_that_a_record_does_not_name_is_told(lay, topic, what):
    with pytest.raises(InputError, match=f"a.jsonl, line 1: the field 'topic' is {what}"):
        read(lay({"a.jsonl": [{"text": "x", "topic": topic}]}), domain_fields=("topic",))


def test_undecodable_bytes_may_be_replaced(lay):
    folder = lay({"a.jsonl": b'{"text": "b\xe4d"}\n{"text": "\\ud83d!"}\n{"text": "\\ud83d\\ude00"}', "b.txt": b"\xff"})
    assert contents(folder, undecodable="replace") == ["b�d", "�!", "😀", "�"]


@pytest.mark.parametrize(("name", "package"), [("a.parquet", "pyarrow"), ("a.jsonl.zst", "zstandard"), ("a/state.json", "datasets")])
def test_a_package_that_is_not_installed_is_named_with_the_pip_line(lay, monkeypatch, name, package):
    folder = lay({name: "{}", "a/dataset_info.json": "{}"} if "/" in name else {name: "x"})
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}, which is not installed; run: pip install 'mixopt\[data\]'"):
        read(folder)
