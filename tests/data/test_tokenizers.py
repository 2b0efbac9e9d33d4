"""Tokenizers: bytes, and those of Hugging Face, with the token that ends a document."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.data import tokenizer
from mixopt.errors import InputError, MissingExtraError


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_bytes_are_the_bytes(texts):
    made = tokenizer("bytes")
    rows = made.encode(texts)
    assert [bytes(row).decode() for row in rows] == texts
    assert [made.bytes_of(row) for row in rows] == [len(text.encode()) for text in texts]
    assert (made.vocabulary, made.eos, made.dtype) == (256, 0, np.uint8)


@pytest.mark.parametrize("path", ["", "tokenizer.json"])
def test_a_tokenizer_of_hugging_face_encodes_as_its_library_does(bpe, path):
    from tokenizers import Tokenizer

    made, theirs = tokenizer(bpe / path), Tokenizer.from_file(str(bpe / "tokenizer.json"))
    texts = ["word and word", "ünd 漢", ""]
    rows = made.encode(texts)
    assert [row.tolist() for row in rows] == [theirs.encode(text, add_special_tokens=False).ids for text in texts]
    assert [made.bytes_of(row) for row in rows] == [len(text.encode()) for text in texts]
    assert made.vocabulary == theirs.get_vocab_size()
    assert made.eos == theirs.token_to_id("<|stop|>")
    assert made.dtype == np.uint16


def test_the_end_of_a_document_may_be_told(bpe):
    assert tokenizer(bpe, eos="<pad>").eos == 0
    assert tokenizer(bpe, eos=5).eos == 5
    assert tokenizer("bytes", eos=10).eos == 10
    assert tokenizer(bpe).identity != tokenizer(bpe, eos=5).identity


def test_texts_are_not_cut_where_the_file_says_so(bpe, tmp_path):
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(bpe / "tokenizer.json"))
    theirs.enable_truncation(4)
    theirs.enable_padding(length=50)
    theirs.save(str(tmp_path / "tokenizer.json"))
    made = tokenizer(tmp_path / "tokenizer.json", eos=0)
    assert [len(row) for row in made.encode(["word " * 30, "a"])] == [len(row) for row in tokenizer(bpe).encode(["word " * 30, "a"])]


def test_a_folder_without_tokenizer_json_is_loaded_by_transformers(bpe, tmp_path):
    from tokenizers import Tokenizer

    with pytest.raises(InputError, match=r"there is no tokenizer .* that transformers can load"):
        tokenizer(tmp_path)
    Tokenizer.from_file(str(bpe / "tokenizer.json")).model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|stop|>"}))
    made = tokenizer(tmp_path)
    assert [row.tolist() for row in made.encode(["word and word"])] == [row.tolist() for row in tokenizer(bpe).encode(["word and word"])]
    assert made.eos == tokenizer(bpe).eos


@pytest.mark.parametrize(
    ("given", "eos", "message"),
    [
        ("./absent", None, "there is no tokenizer absent; give 'bytes', a tokenizer.json"),
        ("absent.json", None, "there is no tokenizer absent.json"),
        ("bytes", 256, "eos is 256; as bytes, tokens are 0 to 255"),
        ("bytes", "</s>", "for bytes give its number"),
    ],
)
def test_tokenizers_that_are_none_are_refused(given, eos, message):
    with pytest.raises(InputError, match=message):
        tokenizer(given, eos)


def test_a_tokenizer_that_names_no_end_asks_for_it(bpe, tmp_path):
    shutil.copy(bpe / "tokenizer.json", tmp_path)
    with pytest.raises(
        InputError, match=r"does not say which token ends a document; give eos, one of its special tokens \(<pad>, <\|stop\|>\)"
    ):
        tokenizer(tmp_path)
    with pytest.raises(InputError, match="has no token '</s>'"):
        tokenizer(tmp_path, "</s>")
    with pytest.raises(InputError, match=r"eos is 300, but the tokenizer .* has the tokens 0 to 2\d\d"):
        tokenizer(tmp_path, 300)


def test_an_end_that_is_usual_is_taken_where_none_is_configured(bpe, tmp_path):
    content = (bpe / "tokenizer.json").read_text().replace("<|stop|>", "<|endoftext|>")
    (tmp_path / "tokenizer.json").write_text(content)
    assert tokenizer(tmp_path).eos == 1


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 1}))
    with pytest.raises(InputError, match=r"tokenizer\.json is no tokenizer as Hugging Face's tokenizers write one"):
        tokenizer(tmp_path)


def test_a_package_that_is_not_installed_is_named(bpe, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"mixopt\[data\]"):
        tokenizer(bpe)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"transformers.*mixopt\[hf\]"):
        tokenizer("someone/model")
