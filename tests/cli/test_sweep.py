"""``mixopt sweep``: from a folder of text to a table of runs, which ``mixopt fit`` reads."""

from __future__ import annotations

import json
import pickle
import random
import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import mixopt as mx
from mixopt.cli import app
from mixopt.cli.sweep import _factory
from mixopt.sweeps import progress

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


def test_pythons_own_text_is_swept_fitted_cross_validated_and_optimised(tmp_path):
    asked = ("--tokens", 1024, *SMALL, "--width", 8, "--runs", 64, "--out", tmp_path / "runs")
    swept = call("sweep", "--data", "demo", *asked, "--quiet")
    assert swept.exit_code == 0, swept.output
    fitted = call("fit", tmp_path / "runs", "--out", tmp_path / "fit", "--law", "exponential", "--json")
    assert fitted.exit_code == 0, fitted.output
    told = json.loads(fitted.stdout)
    assert abs(sum(told["weights"].values()) - 1) < 1e-9
    assert "docstrings" not in told["weights"]  # measured, and not trained on
    assert told["cross_validation"]["rmse"] > 0
    assert "docstrings" in mx.Runs.from_csv(tmp_path / "runs" / "runs.csv").targets.names


def test_a_csv_of_mixtures_is_a_design(folder):
    mx.design(mx.Domains(sorted(WORDS)), runs=5).to_csv(folder / "mixtures.csv")
    found = call(
        *("sweep", "--data", folder / "text", "--tokens", 1024, "--context", 16, "--batch", 8, "--windows", 4, "--width", 8),
        *("--design", folder / "mixtures.csv", "--out", folder / "own", "--curve", 1),
    )
    assert found.exit_code == 0, found.output
    assert len(mx.Runs.from_csv(folder / "own" / "runs.csv")) == 5


def test_a_model_of_a_users_own_can_be_sent_to_processes(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from mixopt.runtime.gpt import GPT\n"
        "def small(seed, vocabulary, context):\n"
        "    return GPT(vocabulary=vocabulary, context=context, width=8, layers=1, heads=2, seed=seed)\n"
    )
    made = pickle.loads(pickle.dumps(_factory(f"{tmp_path / 'mine.py'}:small", 8, 6, [32])))
    one, two = made(1), made(1)
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one(torch.zeros(1, 6, dtype=torch.long)).shape == (1, 6, 8)


SMALL = ("--context", 16, "--batch", 8, "--windows", 4)


def test_sizes_lengths_sets_curves_and_layouts(folder):
    out = folder / "grid"
    found = call(
        *("sweep", "--data", folder / "text", "--tokens", 512, "--tokens", 1024, "--width", 8, "--width", 16, *SMALL, "--out", out),
        *("--design", "sobol", "--runs", 3, "--val", f"mine={folder / 'text' / 'code'}", "--val", f"two sets={folder / 'text'}"),
        *("--curve", 2, "--layout", "regmix", "--json"),
    )
    assert found.exit_code == 0, found.output
    runs, points = mx.Runs.from_csv(out / "runs.csv"), mx.Runs.from_csv(out / "curves.csv")
    assert runs.ids[:4] == tuple(f"run000/width{w}/{t}" for w in (8, 16) for t in (512, 1024))
    assert runs.targets.names == ("code", "lists", "prose", "mine", "two sets/code", "two sets/lists", "two sets/prose")
    assert (len(runs), len(points)) == (12, 36)
    assert set(points.steps.tolist()) == {1.0, 3.0, 4.0, 5.0, 8.0}
    pair = mx.Runs.from_csv(out / "mixtures.csv", out / "metrics.csv")
    assert (pair.metrics == runs.metrics).all()
    assert [Path(file).name for file in json.loads(found.stdout)["files"]] == ["runs.csv", "curves.csv", "mixtures.csv", "metrics.csv"]
    fitted = call("fit", "--mixtures", out / "mixtures.csv", "--losses", out / "metrics.csv", "--out", folder / "pair", "--quiet")
    assert fitted.exit_code == 0, fitted.output


@pytest.mark.parametrize("more", [(), ("--halving",)], ids=str)
def test_a_sweep_that_is_interrupted_exits_as_such_and_goes_on(folder, monkeypatch, more):
    asked = ("sweep", "--data", folder / "text", "--tokens", 512, "--width", 8, *SMALL, "--out", folder / f"cut{len(more)}")
    asked += ("--design", "sobol", "--runs", 8, *more, "--together", 2)
    plain = progress.Watched.done

    def cut(self, some, targets):
        plain(self, some, targets)
        if any(not one.stopped for one in self.known.values()):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sweep was interrupted
        patch.setattr(progress.Watched, "done", cut)
        found = call(*asked)
    assert found.exit_code == 130, found.output
    again = call(*asked)
    assert again.exit_code == 0, again.output
    assert ("6 of 8 runs were stopped early" in again.stdout) == bool(more)


@pytest.mark.parametrize("more", [(), ("--halving",), ("--executor", "sequential")], ids=str)
def test_models_by_torch_compile(folder, tmp_path, monkeypatch, more):
    made: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda call: made.append(call) or call)
    asked = ("sweep", "--data", folder / "text", "--tokens", 256, "--context", 8, "--batch", 4, "--width", 8, "--runs", 4, "--windows", 2)
    found = call(*asked, "--out", tmp_path / "out", *more, "--compiled")
    assert found.exit_code == 0, found.output
    assert made


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--executor", "rey"), "did you mean 'ray'"),
        (("--halving", "--executor", "ray"), "trains them apart"),
        (("--precision", "float16"), "precision"),
        (("--design", "none.csv", "--runs", "3"), "leave --runs out"),
        (("--context", "40000"), "context"),
        (("--workers", "2"), "--workers is of the executor (processes), and this one is ensemble"),
        (("--executor", "sequential", "--gpus", "1"), "--gpus is of the executor (ray)"),
        (("--executor", "ray", "--compiled"), "--compiled is of the executor (ensemble, sequential, processes), and this one is ray"),
        (("--design", "none.csv", "--seed", "3"), "leave --seed out"),
        (("--model", "a.py:b", "--width", "8"), "--width is of the small GPT"),
        (("--layout", "regmx"), "did you mean 'regmix'"),
        (("--val", "nothing"), "write name=path"),
        (("--val", "a=/none"), "/none"),
    ],
)
def test_bad_input_is_told(folder, words, told):
    found = call("sweep", "--data", folder / "text", "--tokens", 1024, "--out", folder / "bad", *words)
    assert found.exit_code == 2
    assert told in found.stderr


def test_the_tokens_of_a_run_are_said_once(folder):
    found = call("sweep", "--data", folder / "text", "--out", folder / "bad")
    assert found.exit_code == 2
    assert "such as --tokens 2e6" in found.stderr
    domains = mx.Domains(sorted(WORDS))
    mx.design(domains, runs=3, replicates=0, tokens=512).to_csv(folder / "lengths.csv")
    asked = ("sweep", "--data", folder / "text", *SMALL, "--width", 8, "--design", folder / "lengths.csv", "--out", folder / "lengths")
    twice = call(*asked, "--tokens", 512)
    assert "leave --tokens out" in twice.stderr
    assert call(*asked).exit_code == 0
    assert (mx.Runs.from_csv(folder / "lengths" / "runs.csv").tokens == 512).all()


def test_a_folder_without_a_table_is_told(folder):
    found = call("fit", folder)
    assert found.exit_code == 2
    assert "holds no runs.csv" in found.stderr
