"""``mixopt count``: the table and the JSON tell the same counts, and errors end in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mixopt.cli import app


@pytest.fixture
def folder(tmp_path):
    """Two domains: 30 documents of 10 bytes and 10 of 30, so 330 and 310 tokens."""
    (tmp_path / "data").mkdir()
    for name, count, size in (("web", 30, 10), ("code", 10, 30)):
        lines = [json.dumps({"text": "x" * size, "topic": f"t{i % 2}"}) for i in range(count)]
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path / "data"


def run(*arguments, columns=120):
    return CliRunner().invoke(app, ["count", *map(str, arguments)], env={"COLUMNS": str(columns), "TERM": "dumb"})


def told(*arguments):
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.stderr
    return json.loads(found.stdout)["folders"]


def test_the_counts_shares_and_epochs_of_each_domain(folder):
    (one,) = told(folder, "--budget", 1280)
    assert one["tokenizer"] == "bytes"
    assert one["domains"] == {
        "code": {
            "documents": 10, "bytes": 300, "bytes_estimated": False, "tokens": 310, "bytes_per_token": 300 / 310,
            "natural_token_share": pytest.approx(310 / 640), "epochs": pytest.approx(2),
        },
        "web": {
            "documents": 30, "bytes": 300, "bytes_estimated": False, "tokens": 330, "bytes_per_token": 300 / 330,
            "natural_token_share": pytest.approx(330 / 640), "epochs": pytest.approx(2),
        },
    }  # fmt: skip


def test_the_table_names_its_units_and_sums_up(folder):
    (folder / "README.md").write_text("x")
    found = run(folder, "--budget", "1280")
    assert found.exit_code == 0
    words = [line.split() for line in found.stdout.splitlines()]
    assert f"{folder}: tokens by bytes, with one for the end of each document" in found.stdout
    assert ["code", "10", "300", "310", "0.968", "0.4844", "2"] in words
    assert ["all", "40", "600", "640", "0.938"] in words
    assert "epochs at 1.28e+03 tokens" in " ".join(found.stdout.split())
    assert "note: not read, of no known format: (README.md)" in found.stdout
    assert "note" not in run(folder, "--quiet").stdout


@pytest.mark.parametrize("name", ["mixture.json", "mixture.yaml", "mixture.csv"])
def test_epochs_follow_the_weights_of_a_file(folder, tmp_path, name):
    content = {"json": '{"web": 0.75, "code": 0.25}', "yaml": "web: 0.75\ncode: 0.25\n", "csv": "domain,weight\nweb,0.75\ncode,0.25\n"}
    (tmp_path / name).write_text(content[name.rpartition(".")[2]])
    (one,) = told(folder, "--budget", 1000, "--weights", tmp_path / name)
    assert {n: (d["token_share"], d["epochs"]) for n, d in one["domains"].items()} == {
        "code": (0.25, pytest.approx(250 / 310)),
        "web": (0.75, pytest.approx(750 / 330)),
    }
    assert "weight (token" in run(folder, "--budget", 1000, "--weights", tmp_path / name).stdout


def test_shares_of_examples_become_shares_of_tokens_by_the_documents_counted(folder, tmp_path):
    from mixopt.export.blend import Blend

    Blend({"web": 0.5, "code": 0.5}, unit="example", budget=1000).save(tmp_path / "mixture.json")
    (one,) = told(folder, "--weights", tmp_path / "mixture.json")
    assert one["domains"]["web"]["token_share"] == pytest.approx(11 / (11 + 31))
    assert one["domains"]["web"]["epochs"] == pytest.approx(1000 * 11 / 42 / 330)


def test_several_folders_and_fields(folder):
    two = told(folder, folder / "web.jsonl", "--domain-field", "topic")
    assert [list(one["domains"]) for one in two] == [["t0", "t1"], ["t0", "t1"]]
    assert [sum(d["documents"] for d in one["domains"].values()) for one in two] == [40, 30]


def test_token_files_tell_no_bytes(tmp_path):
    np.arange(100, dtype=np.uint16).tofile(tmp_path / "web.bin")
    (one,) = told(tmp_path, "--dtype", "uint16", "--eos", "7")
    assert one["domains"]["web"]["bytes"] is None
    assert one["domains"]["web"]["documents"] == 2
    found = run(tmp_path, "--dtype", "uint16")
    assert ["web", "-", "-", "100", "-", "1.0000"] in [line.split() for line in found.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text-field", "body"], "web.jsonl, line 1: no field 'body'; the fields are (text, topic); choose by text_field (--text-field)"),
        (["--per", "row"], "per is 'row'; it is one of (folder, file)"),
        (["--budget", "-1"], "the budget is -1.0 tokens"),
        (["--tokenizer", "absent.json"], "there is no tokenizer absent.json"),
        (["--weights", "WEIGHTS"], "does not say how many tokens its run has, so that there are no epochs; give --budget"),
        (["--weights", "WEIGHTS", "--budget", "10"], "no domain 'wub' in (code, web); did you mean 'web'?"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(folder, tmp_path, options, message):
    (tmp_path / "weights.json").write_text('{"wub": 0.5, "code": 0.5}')
    (folder / "code.jsonl").rename(tmp_path / "code.jsonl") if "--text-field" in options else None
    found = run(folder, *(str(tmp_path / "weights.json") if option == "WEIGHTS" else option for option in options))
    assert found.exit_code == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
