"""Preparing: the parts hold every document once, an interrupted call goes on to the same result, and memory stays flat."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import textwrap
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from mixopt.data import PARTS, Reading, count, prepare
from mixopt.data import prepare as preparing
from mixopt.data.tokenizers import tokenizer
from mixopt.errors import InputError


def documents(prepared, domain, eos=0):
    """The documents of each part, as bytes."""
    return {
        part: bytes(np.asarray(rows[domain], np.uint8)).split(bytes([eos]))[:-1] for part, rows in prepared.parts.items() if domain in rows
    }


def content(folder):
    """Every token file of a cache, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.bin"))}


def test_every_document_is_in_one_part_at_the_shares(lay, texts, tmp_path):
    records = texts(400)
    prepared = prepare(lay({"web/a.jsonl": records[:150], "web/b.jsonl": records[150:]}), tmp_path / "cache", validation=0.1, test=0.05)
    parts = documents(prepared, "web")
    assert {part: len(some) for part, some in parts.items()} == pytest.approx({"train": 340, "validation": 40, "test": 20}, abs=2)
    assert sorted(chain(*parts.values())) == sorted(record["text"].encode() for record in records)
    assert prepared.domains.tokens == (len(prepared.parts["train"]["web"]),)
    amount = prepared.count.amounts["web"]
    assert amount.documents == 400
    assert amount.bytes == sum(len(record["text"].encode()) for record in records)
    assert amount.tokens == amount.bytes + 400
    assert prepared.bytes_per_token["web"] == amount.bytes / amount.tokens
    assert (prepared.vocabulary, prepared.eos) == (256, 0)


def test_twenty_domains_of_several_formats(lay, texts, tmp_path):
    folder = lay({f"d{i:02}/{j}.jsonl": texts(30 + i, word=f"w{i}-{j}") for i in range(20) for j in range(2)})
    heard = []
    prepared = prepare(folder, tmp_path / "cache", watch=lambda done, whole: heard.append((done, whole)))
    prepared.check(64)
    assert prepared.domains.names == tuple(f"d{i:02}" for i in range(20))
    assert {part: tuple(rows) for part, rows in prepared.parts.items()} == dict.fromkeys(PARTS, prepared.domains.names)
    assert [amount.documents for amount in prepared.count.amounts.values()] == [2 * (30 + i) for i in range(20)]
    whole = sum(path.stat().st_size for path in folder.rglob("*.jsonl"))
    assert heard[-1] == (whole, whole)
    assert heard == sorted(heard)
    assert count(folder) == prepared.count


def test_tokens_are_those_of_the_tokenizer_with_an_end_after_each_document(lay, texts, tmp_path, bpe):
    records = texts(40)
    prepared = prepare(lay({"web.jsonl": records}), tmp_path / "cache", Reading(tokenizer=bpe), validation=0, test=0)
    made = tokenizer(bpe)
    wanted = np.concatenate([np.append(row, made.eos) for row in made.encode([record["text"] for record in records])])
    row = prepared.parts["train"]["web"]
    np.testing.assert_array_equal(row, wanted)
    assert row.dtype == np.uint16
    assert isinstance(row, np.memmap)
    assert prepared.vocabulary == made.vocabulary
    assert json.loads((tmp_path / "cache" / "train" / "meta.json").read_text()) == {
        "dtype": "uint16", "eos": made.eos, "vocabulary": made.vocabulary, "tokenizer": made.name,
    }  # fmt: skip


def test_a_few_text_files_are_split_within_and_no_text_is_lost(lay, tmp_path):
    lines = [f"line {i} of a long text\n".encode() for i in range(20_000)]
    prepared = prepare(lay({"code.txt": b"".join(lines)}), tmp_path / "cache")
    prepared.check(512)
    parts = documents(prepared, "code")
    assert sorted(b"".join(chain(*parts.values())).splitlines(keepends=True)) == sorted(lines)
    assert len(parts["train"]) < 12  # the stretches between what was taken out, not one for each passage
    assert prepared.count.amounts["code"].documents == 1


def test_many_text_files_are_split_by_file(lay, tmp_path):
    prepared = prepare(lay({f"code/{i:03}.txt": f"file {i}\n" * 3000 for i in range(100)}), tmp_path / "cache")
    parts = documents(prepared, "code")
    assert sorted(chain(*parts.values())) == sorted(f"file {i}\n".encode() * 3000 for i in range(100))
    assert {part: len(some) for part, some in parts.items()} == {"train": 90, "validation": 5, "test": 5}


def test_all_goes_to_one_part_where_that_is_asked(lay, texts, tmp_path):
    prepared = prepare(lay({"code.txt": "x\n" * 9000, "web.jsonl": texts(20)}), tmp_path / "cache", validation=1, test=0)
    assert prepared.parts["train"] == prepared.parts["test"] == {}
    assert prepared.domains.tokens == tuple(len(row) for row in prepared.parts["validation"].values())
    assert documents(prepared, "code")["validation"] == [b"x\n" * 9000]


def test_records_go_to_the_domains_of_their_fields_whatever_the_names(lay, texts, tmp_path):
    odd = ["a/b", "..", "x" * 300, "über: alles?", "a"]
    records = [record for topic in odd for record in texts(30, word=topic, topic=topic)]
    prepared = prepare(lay({"part.jsonl": records}), tmp_path / "cache", Reading(domain_fields=("topic",)))
    assert set(prepared.domains) == set(odd)
    for topic in odd:
        assert sorted(chain(*documents(prepared, topic).values())) == sorted(
            record["text"].encode() for record in records if record["topic"] == topic
        )
    assert prepared.domains.under("a") == ("a", "a/b")
    assert all(path.resolve().is_relative_to(tmp_path / "cache") for path in (tmp_path / "cache").rglob("*.bin"))


def test_rows_of_tokens_are_stored_and_split_as_documents(tmp_path):
    import datasets

    rows = [[i % 90 + 2, 5, 1] if i % 2 else [i % 90 + 2, 5] for i in range(200)]
    datasets.Dataset.from_list([{"input_ids": row} for row in rows]).save_to_disk(str(tmp_path / "data" / "web"))
    prepared = prepare(tmp_path / "data", tmp_path / "cache", Reading(eos=1), validation=0, test=0)
    wanted = np.concatenate([row if row[-1] == 1 else [*row, 1] for row in rows])
    np.testing.assert_array_equal(prepared.parts["train"]["web"], wanted)
    assert (prepared.vocabulary, prepared.eos, prepared.count.unit) == (92, 1, "as stored")
    with pytest.raises(InputError, match=r"web holds the token 9\d at place 0, but the tokenizer small has 90"):
        prepare(tmp_path / "data", tmp_path / "other", Reading(tokenizer=small(tmp_path)))


def small(folder):
    """A tokenizer of 90 tokens."""
    from tokenizers import Tokenizer, models

    (folder / "small").mkdir()
    Tokenizer(models.WordLevel({"</s>": 0} | {str(i): i for i in range(1, 90)}, unk_token="1")).save(
        str(folder / "small" / "tokenizer.json")
    )
    return folder / "small"


class StopError(Exception):
    """Something from outside ends the work."""


@pytest.fixture
def several(lay, texts, monkeypatch):
    """A folder of several files, read in small batches so that files are left in the middle."""
    monkeypatch.setattr("mixopt.data.work.BATCH", 300)
    return lay({"a/1.jsonl": texts(40), "a/2.jsonl": texts(40, word="two"), "b.txt": "some line\n" * 3000, "c/1.jsonl": texts(30)})


@pytest.mark.parametrize("often", [0.0, 1e9], ids=["noted after each file", "noted at the end only"])
def test_a_call_stopped_anywhere_goes_on_to_the_same_result(several, tmp_path, monkeypatch, often):
    monkeypatch.setattr(preparing_module(), "SAVE_EVERY", often)
    heard = []
    whole = prepare(several, tmp_path / "whole", watch=lambda done, _: heard.append(done))
    for stop in range(0, len(heard), 7):
        cache, told, again = tmp_path / f"cut-{stop}", [], []

        def halt(done, _, stop=stop, told=told):
            told.append(done)
            if len(told) > stop:
                raise StopError

        with pytest.raises(StopError):
            prepare(several, cache, watch=halt)
        resumed = prepare(several, cache, watch=lambda done, _, again=again: again.append(done))
        assert content(cache) == content(tmp_path / "whole")
        assert resumed.fingerprint == whole.fingerprint
        assert resumed.count == whole.count
        assert (
            again[0] > max((d for d in file_ends(several) if d <= told[-2]), default=0) if stop else True
        )  # no finished file is read again


def file_ends(folder):
    """Bytes after each source."""
    return np.cumsum([path.stat().st_size for path in sorted(folder.rglob("*.*"))]).tolist()


def preparing_module():
    return sys.modules[preparing.__module__]


def test_a_call_that_was_killed_goes_on_to_the_same_result(several, tmp_path, monkeypatch):
    """What lies on the disk at some moment of the work, as a kill leaves it, is enough to go on from."""
    monkeypatch.setattr(preparing_module(), "SAVE_EVERY", 0.0)
    moments = []

    def keep(done, _):
        if len(moments) % 5 == 0:
            shutil.copytree(tmp_path / "whole", tmp_path / f"killed-{len(moments)}")
        moments.append(done)

    whole = prepare(several, tmp_path / "whole", watch=keep)
    for cache in sorted(tmp_path.glob("killed-*")):
        assert prepare(several, cache).fingerprint == whole.fingerprint
        assert content(cache) == content(tmp_path / "whole")


def test_a_finished_preparation_reads_nothing_again(several, tmp_path):
    first = prepare(several, tmp_path / "cache")
    heard = []
    second = prepare(several, tmp_path / "cache", watch=lambda *progress: heard.append(progress))
    assert heard == []
    assert (second.fingerprint, second.count, second.domains.tokens) == (first.fingerprint, first.count, first.domains.tokens)


def test_the_fingerprint_is_that_of_the_tokens_and_the_split(lay, texts, tmp_path):
    one, same, other = (lay({"web.jsonl": texts(50, word=word)}, folder) for folder, word in (("one", "a"), ("same", "a"), ("other", "b")))
    prints = [prepare(folder, tmp_path / f"cache-{folder.name}").fingerprint for folder in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]
    assert prepare(one, tmp_path / "split", validation=0.2).fingerprint != prints[0]


def test_a_cache_of_other_settings_or_data_is_refused_and_made_anew_where_asked(several, tmp_path):
    cache = tmp_path / "cache"
    prepare(several, cache)
    with pytest.raises(InputError, match=r"cache was prepared otherwise: validation was 0.05 and is 0.1; prepare anew \(fresh\)"):
        prepare(several, cache, validation=0.1)
    (several / "a" / "1.jsonl").write_text('{"text": "other"}\n')
    with pytest.raises(InputError, match=r"files that came, went or changed since \(a/1.jsonl\)"):
        prepare(several, cache)
    assert prepare(several, cache, fresh=True).fingerprint == prepare(several, tmp_path / "new").fingerprint
    assert content(cache) == content(tmp_path / "new")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"tallies": 1}'])
def test_a_damaged_cache_is_told_and_made_anew_where_asked(several, tmp_path, content):
    first = prepare(several, tmp_path / "cache")
    (tmp_path / "cache" / "ledger.json").write_text(content)
    with pytest.raises(InputError, match=r"ledger.json is damaged; prepare anew \(fresh\)"):
        prepare(several, tmp_path / "cache")
    assert prepare(several, tmp_path / "cache", fresh=True).fingerprint == first.fingerprint
    (tmp_path / "cache" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        prepare(several, tmp_path / "cache")


def test_token_files_that_lost_something_are_told(several, tmp_path):
    prepare(several, tmp_path / "cache")
    (tmp_path / "cache" / "train" / "a.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"a.bin has 0 bytes where \d+ were written; prepare anew"):
        prepare(several, tmp_path / "cache")


def test_folders_of_someone_else_are_left_alone(lay, texts, tmp_path):
    folder = lay({"web.jsonl": texts(5)})
    own = lay({"train/kept.bin": "x"}, "out")
    for fresh in (False, True):
        with pytest.raises(InputError, match=r"train.* exist and were not made by mixopt"):
            prepare(folder, own, fresh=fresh)
    assert (own / "train" / "kept.bin").read_text() == "x"
    with pytest.raises(InputError, match=r"the cache .* lies inside the data"):
        prepare(folder, folder / "cache")


def test_a_full_disk_ends_in_one_sentence_and_what_is_finished_is_kept(several, tmp_path):
    whole = prepare(several, tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # as a full disk: a write beyond it fails
    try:
        with pytest.raises(
            InputError, match=r"train/b.bin cannot be written: .*; what is finished is kept: make room and start again to go on"
        ):
            prepare(several, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert json.loads((tmp_path / "cache" / "ledger.json").read_text())["finished"] == 2
    assert prepare(several, tmp_path / "cache").fingerprint == whole.fingerprint
    assert content(tmp_path / "cache") == content(tmp_path / "whole")


def test_domains_too_small_for_a_window_are_named(lay, texts, tmp_path):
    prepared = prepare(lay({"web.jsonl": texts(100), "tiny.jsonl": [{"text": "ab"}]}), tmp_path / "cache")
    with pytest.raises(InputError, match=r"a window takes 9 tokens, but train has less of some domains \('tiny' 3\); give more documents"):
        prepared.check(8)


def test_a_domain_without_any_text_is_named(lay, texts, tmp_path):
    folder = lay({"web.jsonl": texts(5), "void.jsonl": [{"text": ""}]})
    with pytest.raises(InputError, match=r"void\.jsonl holds no text, and nor does any other file of domain 'void'"):
        prepare(folder, tmp_path / "cache")
    with pytest.raises(InputError, match="of domain 'void'"):  # also where all was read before
        prepare(folder, tmp_path / "cache")
    with pytest.raises(InputError, match="of domain 'void'"):
        count(folder)


def test_fields_that_make_a_domain_of_each_record_are_refused(lay, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("mixopt.data.ledger.MOST_DOMAINS", 30)
    records = [record | {"id": i} for i, record in enumerate(texts(40))]
    with pytest.raises(InputError, match="more than 30 domains, the last one '30'; choose domain_fields of few values"):
        prepare(lay({"web.jsonl": records}), tmp_path / "cache", Reading(domain_fields=("id",)))


def test_epochs_follow_weights_and_budget(lay, texts, tmp_path):
    prepared = prepare(lay({"a.jsonl": texts(50), "b.jsonl": texts(90)}), tmp_path / "cache")
    sizes = dict(zip(prepared.domains, prepared.domains.tokens, strict=True))
    natural = prepared.epochs(None, 3 * sum(sizes.values()))
    assert natural == pytest.approx({"a": 3, "b": 3})
    assert prepared.epochs({"a": 0.5, "b": 0.5}, 1000) == pytest.approx({name: 500 / size for name, size in sizes.items()})
    with pytest.raises(InputError, match="the budget is 0 tokens"):
        prepared.epochs(None, 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc, where the peak of a process is told")
def test_memory_does_not_grow_with_the_input(tmp_path):
    """The peak of a fresh process on 24 MB, less that on 1 MB, is a small part of 24 MB."""
    program = textwrap.dedent("""
        import sys
        from mixopt.data import prepare
        prepare(sys.argv[1], sys.argv[2])
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """)
    line = json.dumps({"text": "some words of a text " * 100}) + "\n"
    peaks = []
    for name, lines in (("small", 500), ("large", 12_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "web.jsonl").write_text(line * lines)
        (tmp_path / name / "code.txt").write_text("a line of code\n" * lines)
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / name), str(tmp_path / f"{name}-cache")], capture_output=True, check=True
        )
        peaks.append(int(done.stdout) * 1024)
    assert (tmp_path / "large" / "web.jsonl").stat().st_size > 24e6
    assert peaks[1] - peaks[0] < 8e6
