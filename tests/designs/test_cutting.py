"""Domains cut to what a proxy may read: even shares of documents and tokens, whole folders, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mixopt.cli import app
from mixopt.data import Reading, count
from mixopt.designs import cut
from mixopt.errors import InputError


def documents(path):
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def data(tmp_path):
    """Two domains of text, one below another, and their documents."""
    folder = tmp_path / "data"
    (folder / "web" / "de").mkdir(parents=True)
    web = [f"Seite {i} ä\u2028" + "x" * (i % 7) for i in range(100)]
    (folder / "web" / "de" / "a.jsonl").write_text("".join(json.dumps({"text": t, "id": 1}) + "\n" for t in web[:60]), encoding="utf-8")
    (folder / "web" / "de" / "b.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in web[60:]), encoding="utf-8")
    (folder / "code.txt").write_text("".join(f"line {i:06d}\n" for i in range(20_000)))
    return folder, web


def test_documents_at_even_distances_and_passages_of_text_files_are_kept(data, tmp_path):
    folder, web = data
    told = []
    found = cut(folder, tmp_path / "out", 0.1, watch=lambda done, whole: told.append((done, whole)))
    kept = documents(found["web/de"].file)
    assert kept == web[4::10]
    assert (found["web/de"].documents, found["web/de"].unit) == ((10, 100), "bytes")
    assert found["web/de"].kept == sum(len(t.encode()) for t in kept)
    assert found["web/de"].whole == sum(len(t.encode()) for t in web)
    assert found["code"].kept == pytest.approx(0.1 * found["code"].whole, abs=2**12)
    assert found["code"].whole == 20_000 * 12
    assert told[-1][0] == told[-1][1] == sum(path.stat().st_size for path in folder.rglob("*.*"))
    again = count(tmp_path / "out")  # which finds the same domains
    assert {name: amount.bytes for name, amount in again.amounts.items()} == {name: one.kept for name, one in found.items()}


def test_a_share_of_one_keeps_all(data, tmp_path):
    folder, web = data
    found = cut(folder, tmp_path / "out", 1.0)
    assert documents(found["web/de"].file) == web
    assert found["code"].kept == found["code"].whole


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 200), share=st.floats(0.01, 1.0))
def test_as_many_documents_as_the_share_says(tmp_path_factory, n, share):
    folder = tmp_path_factory.mktemp("cut")
    (folder / "data").mkdir()
    (folder / "data" / "a.jsonl").write_text("".join(json.dumps({"text": f"{i}"}) + "\n" for i in range(n)))
    if int(n * share + 0.5) == 0:
        with pytest.raises(InputError, match=f"'a' has {n} documents, of which a share of .* keeps none"):
            cut(folder / "data", folder / "out", share)
        assert not (folder / "out").exists()
        return
    kept = [int(text) for text in documents(cut(folder / "data", folder / "out", share)["a"].file)]
    assert len(kept) == int(n * share + 0.5)
    gaps = np.diff(kept)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_records_name_their_domains(tmp_path):
    lines = [{"body": {"raw": f"{i}"}, "source": ["x", "y"][i % 2]} for i in range(20)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = cut(tmp_path / "all.jsonl", tmp_path / "out", 0.2, Reading(text_field="body.raw", domain_fields=("source",)))
    assert {name.rpartition("/")[2]: one.documents for name, one in found.items()} == {"x": (2, 10), "y": (2, 10)}
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": "t", "source": "../../out"}) + "\n")
    with pytest.raises(InputError, match="names begin with a dot"):
        cut(tmp_path / "bad.jsonl", tmp_path / "other", 1.0, Reading(domain_fields=("source",)))


def test_token_files_are_cut_by_stretches(tmp_path):
    (tmp_path / "data" / "web").mkdir(parents=True)
    rows = [np.arange(50_000, dtype=np.uint16), np.arange(50_000, 60_000, dtype=np.uint16)]
    for name, row in zip("ab", rows, strict=True):
        row.tofile(tmp_path / "data" / "web" / f"{name}.bin")
    (tmp_path / "data" / "web" / "meta.json").write_text(json.dumps({"dtype": "uint16", "eos": 7}))
    found = cut(tmp_path / "data", tmp_path / "out", 0.25)["web"]
    kept = np.fromfile(found.file, np.uint16)
    assert (len(kept), found.kept, found.whole, found.unit, found.documents) == (15_000, 15_000, 60_000, "tokens", None)
    assert (np.diff(kept.astype(int)) > 0).all()
    assert (np.diff(kept.astype(int)) == 1).sum() >= 15_000 - 4
    assert json.loads((found.file.with_name("cut.json")).read_text()) == {"dtype": "uint16", "eos": 7}
    assert count(tmp_path / "out").amounts["web"].tokens == 15_000


def test_what_does_not_fit_is_told_and_nothing_is_written(data, tmp_path):
    folder, _ = data
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="above 0 and at most 1"):
            cut(folder, tmp_path / "out", share)
    with pytest.raises(InputError, match="lies inside the data"):
        cut(folder, folder / "out", 0.5)
    with pytest.raises(InputError, match=r"documents, of which a share of .* keeps none"):
        cut(folder, tmp_path / "out", 0.001)
    (folder / "web" / "de" / "c.jsonl").write_text("no JSON\n")
    with pytest.raises(InputError, match=r"c\.jsonl, line 1: not JSON"):
        cut(folder, tmp_path / "out", 0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(InputError, match="full is not empty"):
        cut(folder, tmp_path / "full", 0.5)


def test_rows_of_tokens_in_a_table_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "web").mkdir()
    pq.write_table(pa.table({"input_ids": [[1, 2], [3]]}), tmp_path / "web" / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet holds rows of tokens, and no text"):
        cut(tmp_path, tmp_path.with_name("out"), 0.5)


def test_the_command(data, tmp_path):
    folder, _ = data
    base = ["cut", str(folder), "--run-tokens", "1e9", "--target-tokens", "1e10", "--out"]
    shown = CliRunner().invoke(app, [*base, str(tmp_path / "one")])
    assert shown.exit_code == 0
    assert "web/de: 10 of 100 documents" in shown.output
    told = json.loads(CliRunner().invoke(app, [*base, str(tmp_path / "two"), "--json"]).stdout)
    assert told["share"] == 0.1
    assert told["domains"]["web/de"]["file"] == str(tmp_path / "two" / "web" / "de" / "cut.jsonl")
    for change, words in (
        (["--run-tokens", "1e11"], "the longer run as the target"),
        (["--target-tokens", "nan"], "--target-tokens is nan"),
    ):
        bad = CliRunner().invoke(app, [*base, str(tmp_path / "three"), *change])
        assert (bad.exit_code, words in bad.stderr) == (2, True)
