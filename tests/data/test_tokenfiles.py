"""Token files: flat arrays with their sidecars and Megatron's pairs, mapped where they lie, and what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mixopt.data import Pieces, Reading, count, prepare
from mixopt.errors import InputError

ROW = np.arange(1000) % 50


def train(folder, cache, **how):
    """All tokens of each domain, in one part."""
    prepared = prepare(folder, cache, Reading(**how), validation=0, test=0)
    return prepared, {name: np.asarray(row) for name, row in prepared.parts["train"].items()}


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int32", "int64"])
def test_flat_arrays_are_mapped_with_the_type_told(lay, tmp_path, kind):
    folder = lay({"a.bin": ROW.astype(kind).tobytes()})
    np.save(folder / "b.npy", ROW.astype(kind))
    prepared, rows = train(folder, tmp_path / "cache", dtype=kind, eos=0)
    for name in ("a", "b"):
        np.testing.assert_array_equal(rows[name], ROW)
        assert isinstance(prepared.parts["train"][name], np.memmap)
    assert prepared.vocabulary == 50
    assert prepared.eos == 0
    assert prepared.count.amounts["a"].documents == prepared.count.amounts["b"].documents == 21  # 20 ends, and one that is not ended
    assert prepared.count.amounts["a"].bytes is None
    assert not list((tmp_path / "cache").rglob("*.bin"))


@pytest.mark.parametrize("name", ["a.json", "a.meta.json", "a.bin.json", "meta.json"])
@pytest.mark.parametrize("keys", [("eos", "vocabulary"), ("eos_token_id", "vocab_size")])
def test_a_sidecar_tells_the_type_the_end_and_the_vocabulary(lay, tmp_path, name, keys):
    told = {"dtype": "uint16", keys[0]: 7, keys[1]: 64}
    prepared, rows = train(lay({"a.bin": ROW.astype("<u2").tobytes(), name: json.dumps(told)}), tmp_path / "cache")
    np.testing.assert_array_equal(rows["a"], ROW)
    assert (prepared.eos, prepared.vocabulary) == (7, 64)


def test_what_prepare_writes_is_read_again_as_token_files(lay, texts, tmp_path):
    folder = lay({"web/a.jsonl": texts(50), "web/deep/a.jsonl": texts(30)})
    first, rows = train(folder, tmp_path / "one")
    second, again = train(tmp_path / "one" / "train", tmp_path / "two", per="file")
    assert {name: row.tolist() for name, row in again.items()} == {name: row.tolist() for name, row in rows.items()}
    assert (second.vocabulary, second.eos) == (first.vocabulary, first.eos) == (256, 0)
    assert [a.documents for a in second.count.amounts.values()] == [50, 30]


@pytest.mark.parametrize(("code", "kind"), [(1, "u1"), (4, "<i4"), (5, "<i8"), (8, "<u2")])
def test_megatrons_pair_is_mapped(tmp_path, megatron, code, kind):
    documents = [[5, 6, 7, 1], [8, 1], [9, 9, 9, 1]]
    megatron(tmp_path / "data" / "web_text_document", documents, code, kind)
    prepared, rows = train(tmp_path / "data", tmp_path / "cache")
    assert rows["web"].tolist() == [*documents[0], *documents[1], *documents[2]]
    assert prepared.count.amounts["web"].documents == 3
    assert prepared.vocabulary == 10


def test_several_token_files_of_a_domain_are_pieces_and_each_is_split(tmp_path, megatron):
    for name in ("one", "two"):
        megatron(tmp_path / "data" / "web" / name, [[i % 50 for i in range(100)]] * 10)
    prepared = prepare(tmp_path / "data", tmp_path / "cache", validation=0.1, test=0.2)
    parts = {part: rows["web"] for part, rows in prepared.parts.items()}
    assert all(isinstance(row, Pieces) for row in parts.values())
    assert {part: [len(row) for row in pieces.rows] for part, pieces in parts.items()} == {
        "train": [700, 700],
        "validation": [100, 100],
        "test": [200, 200],
    }
    assert prepared.domains.tokens == (1400,)


def test_a_tokenizer_tells_the_bytes_of_token_files_by_a_sample(lay, texts, tmp_path, bpe):
    folder = lay({"web.jsonl": texts(400)})
    exact = prepare(folder, tmp_path / "one", Reading(tokenizer=bpe), validation=0, test=0).count.amounts["web"]
    told = count(tmp_path / "one" / "train", Reading(tokenizer=bpe)).amounts["web"]
    assert told.estimated
    assert not exact.estimated
    assert told.tokens == exact.tokens
    assert told.bytes_per_token == pytest.approx(exact.bytes_per_token, rel=0.02)


def test_text_and_tokens_of_a_domain_lie_side_by_side_under_one_tokenizer(lay, texts, tmp_path):
    folder = lay({"web/a.jsonl": texts(200), "web/b.bin": bytes(range(1, 200)) * 20, "web/meta.json": '{"dtype": "uint8", "eos": 0}'})
    prepared, rows = train(folder, tmp_path / "cache", tokenizer="bytes")
    assert bytes(rows["web"].astype(np.uint8)[-3980:]) == bytes(range(1, 200)) * 20
    assert len(prepared.parts["train"]["web"].rows) == 2
    with pytest.raises(InputError, match=r"holds text \(a.jsonl\) and tokens \(b.bin\); name the tokenizer"):
        prepare(folder, tmp_path / "other")


BROKEN = [
    ({"a.bin": b"123"}, {}, r"a.bin does not say of which type its tokens are; give dtype .--dtype uint16., or write a.json beside it"),
    ({"a.bin": b"123"}, {"dtype": "uint16"}, r"a.bin has 3 bytes, no whole number of uint16 tokens of 2 bytes"),
    ({"a.bin": b"1234", "a.json": '{"dtype": "float16"}'}, {}, r"a.bin says tokens of type 'float16'; it is one of \(uint8"),
    ({"a.bin": b"1234", "a.json": "{dtype"}, {}, r"a.json, which describes a.bin, is not JSON"),
    ({"a.bin": b"1234", "a.json": "[]"}, {}, r"a.json, which describes a.bin, holds no JSON object"),
    ({"a.bin": b"1234", "a.json": '{"dtype": "uint8", "eos": -1}'}, {}, r"the sidecar of .*a.bin says eos = -1"),
    ({"a.npy": b"none"}, {}, r"a.npy is no whole NumPy array"),
    ({"a.bin": b"\xff\xff\xff\xff"}, {"dtype": "int32"}, r"a.bin holds the token -1 at place 0; is its dtype right"),
    ({"a.bin": b"12\xff4"}, {"dtype": "uint8", "tokenizer": "BPE", "eos": 1}, None),
    ({"a.bin": b"1\0\xff\xff"}, {"dtype": "uint16", "tokenizer": "BPE"}, r"token 65535 at place 1, but the tokenizer bpe0 has 2\d\d"),
    ({"a.bin": b"1\0\xff\xff"}, {"dtype": "uint16", "tokenizer": "bytes"}, r"token 65535 at place 1, but the tokenizer bytes has 256"),
    ({"a.bin": b"12", "a.json": '{"dtype": "uint8", "vocab_size": 50}'}, {}, r"holds the token 50 at place 1, but the sidecar has 50"),
    ({"a.bin": b"12"}, {"dtype": "uint8", "domain_fields": ("topic",)}, r"a.bin holds no records with fields \(topic\)"),
    ({"a.bin": b"12"}, {"dtype": "uint8", "eos": "</s>"}, r"eos is the text '</s>', but no tokenizer is given"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "how", "message"), BROKEN)
def test_token_files_that_do_not_fit_are_refused(lay, bpe, files, how, message):
    if how.get("tokenizer") == "BPE":
        how = how | {"tokenizer": bpe}
    folder = lay(files)
    if message is None:
        assert count(folder, Reading(**how)).amounts["a"].tokens == 4
        return
    with pytest.raises(InputError, match=message):
        count(folder, Reading(**how))


def test_arrays_that_are_no_row_of_integers_are_refused(tmp_path):
    for number, array in enumerate([np.zeros((2, 3), int), np.zeros(4)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.save(folder / "a.npy", array)
        with pytest.raises(InputError, match=r"a.npy holds an array .*; tokens are one row \[n\] of integers"):
            count(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index, data: (b"MMIDIDY" + index[7:], data), "does not begin as Megatron's index does"),
        (lambda index, data: (index[:20], data), "does not begin as Megatron's index does"),
        (lambda index, data: (index[:9] + b"\2" + index[10:], data), "is of version 2 with type code 8; version 1"),
        (lambda index, data: (index[:17] + b"\7" + index[18:], data), "says tokens of type 'float32'"),
        (lambda index, data: (index[:-1], data), r"has \d+ bytes, too few for 2 sequences and 3 documents; it is cut off"),
        (lambda index, data: (index, data[:-2]), r"a.bin has 8 bytes, but a.idx tells of 5 uint16 tokens; the two are not a pair"),
        (lambda index, data: (index[:50] + b"\1" + index[51:], data), "its sequences do not lie one after the other in a.bin"),
    ],
)
def test_megatron_pairs_that_do_not_fit_are_refused(tmp_path, megatron, change, message):
    megatron(tmp_path / "a", [[1, 2, 3], [4, 5]])
    index, data = change((tmp_path / "a.idx").read_bytes(), (tmp_path / "a.bin").read_bytes())
    (tmp_path / "a.idx").write_bytes(index)
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(InputError, match=message):
        count(tmp_path)
