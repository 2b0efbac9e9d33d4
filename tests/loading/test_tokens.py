"""Windows of tokens: side by side within pieces, from rows, from what prepare returns and from the folder that it fills."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.data import Pieces, prepare
from mixopt.errors import InputError
from mixopt.loading import TokenWindows, tokens


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of text in two domains, one of them nested and strangely named, and its tokens."""
    place = tmp_path_factory.mktemp("own")
    for name, word in (("web", "page "), ("books/old: 1", "once upon a time ")):
        (place / "text" / name).mkdir(parents=True)
        lines = [json.dumps({"text": f"{word}{i} " * 20}) for i in range(120)]
        (place / "text" / name / "a.jsonl").write_text("\n".join(lines))
    return prepare(place / "text", place / "tokens")


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4), context=st.integers(1, 8))
def test_windows_lie_side_by_side_and_cross_no_piece(sizes, context):
    starts = np.cumsum([0, *sizes[:-1]])
    pieces = Pieces([np.arange(start, start + n) for start, n in zip(starts, sizes, strict=True)])
    expected = [
        list(range(start + i, start + i + context + 1))
        for start, n in zip(starts, sizes, strict=True)
        for i in range(0, n - context, context)
        if i + context < n
    ]
    if not expected:
        with pytest.raises(InputError, match="a window takes"):
            TokenWindows(pieces, context)
        return
    windows = TokenWindows(pieces, context)
    assert [windows[i].tolist() for i in range(len(windows))] == expected


def test_prepared_data_and_its_folder_give_the_same_batches(prepared):
    weights = {"web": 0.5, "books/old: 1": 0.5}
    one = tokens(prepared, weights, 8, context=16, batches=4)
    two = tokens(prepared.folder, weights, 8, context=16, batches=4, num_workers=1)
    assert list(one.domains) == ["books/old: 1", "web"] == list(two.domains)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.data, b.data)
        for row, domain in zip(a.data, a.domains, strict=True):
            assert ("g" in bytes(row[row < 128].tolist()).decode()) == bool(domain)  # of page, not of once upon a time
    assert len(tokens(prepared, weights, 4, context=16, part="validation", batches=2)) == 2


def test_mapped_rows_go_to_workers_by_their_place(tmp_path):
    np.arange(5000, dtype=np.uint16).tofile(tmp_path / "a.bin")
    row = np.memmap(tmp_path / "a.bin", np.uint16, "r", offset=20)[1000:3000]
    windows = TokenWindows(row, 7)
    packed = pickle.dumps(windows)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert (
        [again[i].tolist() for i in (0, 5)] == [windows[i].tolist() for i in (0, 5)] == [list(range(1010 + s, 1018 + s)) for s in (0, 35)]
    )
    assert pickle.loads(pickle.dumps(TokenWindows(np.arange(9), 2)))[3].tolist() == [6, 7, 8]


def test_a_folder_of_token_files_needs_no_preparation(tmp_path):
    for name in ("web", "code"):
        (tmp_path / name).mkdir()
        for i in (0, 1):
            np.save(tmp_path / name / f"{i}.npy", np.arange(100 * i, 100 * i + 50, dtype=np.int32))
    loader = tokens(tmp_path, {"web": 0.5, "code": 0.5}, 4, context=10, batches=8)
    assert list(loader.domains) == ["code", "web"]
    assert sorted({row[0] for batch in loader for row in batch.data.tolist()}) == [0, 10, 20, 30, 100, 110, 120, 130]


def test_what_holds_no_tokens_is_named(tmp_path, prepared):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.txt").write_text("some text")
    with pytest.raises(InputError, match=r"holds text \(a.txt\); turn it into tokens first"):
        tokens(tmp_path, [1.0], 4, context=4)
    with pytest.raises(InputError, match=r"no part 'trian' with tokens; they have \(train, validation, test\)"):
        tokens(prepared, [0.5, 0.5], 4, context=4, part="trian")
    with pytest.raises(InputError, match="'web' has 5 tokens in one piece, and a window takes 9"):
        tokens({"web": np.arange(5)}, [1.0], 4, context=8)
    with pytest.raises(InputError, match="a context of 0 tokens"):
        TokenWindows(np.arange(5), 0)


def test_a_window_from_the_end_is_the_one_that_is_meant():
    windows = TokenWindows(np.arange(10), 3)
    assert windows[-1].tolist() == windows[2].tolist() == [6, 7, 8, 9]
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            windows[beyond]
