"""``mixopt sweep``: from a folder of text to a table of runs, which ``mixopt fit`` reads."""

from __future__ import annotations

import json
import random

import pytest
from typer.testing import CliRunner

import mixopt as mx
from mixopt.cli import app

WORDS = {"code": ["def ", "return ", "x = 1\n"], "prose": ["the ", "cat ", "sat on ", "a mat. "], "lists": ["1, ", "2, ", "3;\n"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("sweep"), random.Random(0)
    for name, words in WORDS.items():
        (root / "text" / name).mkdir(parents=True)
        (root / "text" / name / "a.txt").write_text("".join(rng.choice(words) for _ in range(40000)), encoding="utf-8")
    return root


def call(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_sweep_goes_on_and_its_folder_is_fitted(folder):
    out = folder / "runs"
    asked = (
        "sweep",
        "--data",
        folder / "text",
        "--tokens",
        2048,
        "--context",
        16,
        "--batch",
        8,
        "--windows",
        8,
        "--width",
        8,
        "--out",
        out,
    )
    first = call(*asked, "--design", "sobol", "--runs", 12, "--json")
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert told["runs"] == 12
    table = mx.Runs.from_csv(out / "runs.csv")
    assert table.targets.names == tuple(sorted(WORDS))
    assert abs(sum(told["best"]["mixture"].values()) - 1) < 1e-9
    again = call(*asked, "--design", "sobol", "--runs", 12, "--executor", "sequential")
    assert again.exit_code == 0
    assert "next: mixopt fit" in again.stdout
    assert (mx.Runs.from_csv(out / "runs.csv").metrics == table.metrics).all()  # all of them came from the journal
    fitted = call("fit", out, "--out", folder / "fit", "--law", "exponential", "--quiet")
    assert fitted.exit_code == 0, fitted.output
    assert json.loads((folder / "fit" / "mixture.json").read_text(encoding="utf-8"))


def test_a_csv_of_mixtures_is_a_design(folder):
    mx.design(mx.Domains(sorted(WORDS)), runs=5).to_csv(folder / "mixtures.csv")
    found = call(
        *("sweep", "--data", folder / "text", "--tokens", 1024, "--context", 16, "--batch", 8, "--windows", 4, "--width", 8),
        *("--design", folder / "mixtures.csv", "--out", folder / "own", "--curve", 1),
    )
    assert found.exit_code == 0, found.output
    assert len(mx.Runs.from_csv(folder / "own" / "runs.csv")) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--executor", "rey"), "did you mean 'ray'"),
        (("--halving", "--executor", "ray"), "trains them apart"),
        (("--precision", "float16"), "precision"),
        (("--design", "none.csv", "--runs", "3"), "leave --runs out"),
        (("--context", "40000"), "context"),
    ],
)
def test_bad_input_is_told(folder, words, told):
    found = call("sweep", "--data", folder / "text", "--tokens", 1024, "--out", folder / "bad", *words)
    assert found.exit_code == 2
    assert told in found.stderr


def test_a_folder_without_a_table_is_told(folder):
    found = call("fit", folder)
    assert found.exit_code == 2
    assert "holds no runs.csv" in found.stderr
