"""``mixopt design`` and ``mixopt collect``: from a budget to runs, through a trainer, and on to a fit and the next round."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import mixopt as mx
from mixopt.cli import app

SIZES = ["--tokens", "web=6e11,code=3e11,books=1e11"]


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200", "TERM": "dumb"})


def told(*arguments):
    found = run(*arguments, "--json", "--quiet")
    assert found.exit_code == 0, found.stderr
    return json.loads(found.stdout)


def trained(folder):
    """What a trainer would leave in each run's folder."""
    for run_id in (folder / "runs.txt").read_text().split():
        config = json.loads((folder / run_id / "run.json").read_text())
        w = config["weights"]
        loss = 2 + math.exp(-w["code"] - 0.5 * w["books"]) + 1e-3 * math.sin(config["seed"])
        (folder / run_id / "log.jsonl").write_text(json.dumps({"step": 10, "loss/train": loss + 1, "val_loss": loss}) + "\n")


def test_from_a_budget_to_a_fit_and_the_next_round(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    asked = [*SIZES, "--gpu-hours", 100, "--target-params", 7e9, "--target-tokens", 2e12, "--emit", "json", "--at-most", "web=50%"]
    content = told("design", *asked, "--out", first)
    assert content["price"]["runs"] == 12
    assert content["price"]["gpu_hours"] <= 100
    assert max(w["web"] for w in content["weights"].values()) <= 0.5 + 1e-7
    assert content["replicates"] == [["run000", "run001", "run002"]]
    assert json.loads((first / "run000" / "run.json").read_text())["params"] == content["price"]["params"]
    trained(first)
    collected = told("collect", first, "--metric", "val*", "--out", tmp_path / "runs")
    assert collected["targets"]["val_loss"]["direction"] == "min"
    assert collected["targets"]["val_loss"]["noise"] < 2e-3
    assert collected["targets"]["val_loss"]["signal_to_noise"] > 10
    pair = mx.Runs.from_csv(tmp_path / "runs" / "mixtures.csv", tmp_path / "runs" / "metrics.csv")
    one = mx.Runs.from_csv(tmp_path / "runs" / "runs.csv")
    assert np.allclose(pair.mixtures, one.mixtures, atol=1e-15)
    assert pair.targets == one.targets
    fitted = told("fit", "--mixtures", tmp_path / "runs" / "runs.csv", "--law", "exponential", "--out", tmp_path / "fit")
    assert fitted["law"] == "exponential"
    after = told("design", *SIZES, "--runs", 4, "--kind", "bayesian", "--after", tmp_path / "runs" / "runs.csv", "--out", second)
    assert list(after["weights"]) == ["run012", "run013", "run014", "run015"]
    both = told(
        "design", *SIZES, "--runs", 3, "--kind", "d-optimal", "--law", "linear", "--after", first, "--out", second, "--weight", "val_loss=1"
    )
    assert len(both["weights"]) == 3


def test_words_tell_the_price_first(tmp_path):
    found = run("design", *SIZES, "--gpu-hours", 100, "--target-params", 7e9, "--target-tokens", 2e12, "--out", tmp_path)
    lines = found.stdout.splitlines()
    assert lines[0].startswith("12 proxies of 3.1e+08 parameters on 6.2e+09 tokens")
    assert "12 runs over 3 domains, dirichlet, seed 0" in found.stdout
    assert f"written: {tmp_path / 'design.csv'}, {tmp_path / 'coverage.svg'}" in found.stdout
    assert (tmp_path / "coverage.svg").read_text().startswith("<?xml")


def test_a_problem_brings_its_domains_and_constraints(tmp_path):
    (tmp_path / "own.py").write_text(
        "import mixopt as mx\n"
        "w = mx.Mixture(['a', 'b', 'c'])\n"
        "problem = mx.minimize(mx.sum_squares(w), over=w, subject_to=[(w['a'] <= mx.parameter('most')).named('cap')])\n"
        "given = {'most': 0.2}\n"
    )
    content = told("design", f"{tmp_path / 'own.py'}:problem", "--kind", "uniform", "--out", tmp_path)
    assert max(w["a"] for w in content["weights"].values()) <= 0.2 + 1e-7
    found = run("design", f"{tmp_path / 'own.py'}:problem", "--at-most", "a=0.1", "--out", tmp_path)
    assert found.exit_code == 2
    assert "stand in its file, so --at-most cannot be given beside it" in found.stderr


def test_epochs_of_the_target_are_kept(tmp_path):
    content = told("design", *SIZES, "--cap", 4, "--target-tokens", 2e12, "--out", tmp_path)
    assert max(w["books"] for w in content["weights"].values()) <= 0.2 + 1e-7


def test_autoscale_has_runs_of_its_own_lengths(tmp_path):
    content = told("design", *SIZES, "--kind", "autoscale", "--run-tokens", 3e8, "--emit", "json", "--out", tmp_path)
    assert len(content["weights"]) == 7
    lengths = {json.loads((tmp_path / i / "run.json").read_text())["tokens"] for i in content["weights"]}
    assert lengths == {3e8, 2.2e8, 5e8}
    priced = ["--gpu-hours", 100, "--target-params", 7e9, "--target-tokens", 2e12]
    content = told("design", *SIZES, "--kind", "autoscale", *priced, "--emit", "json", "--out", tmp_path / "b")
    assert content["price"]["runs"] == 7
    assert content["notes"] == []
    runs = [json.loads((tmp_path / "b" / i / "run.json").read_text()) for i in content["weights"]]
    assert sum(6 * run["params"] * run["tokens"] for run in runs) == pytest.approx(content["price"]["flops"])


def test_a_lattice_is_priced_by_the_runs_that_it_has(tmp_path):
    priced = ["--gpu-hours", 100, "--target-params", 7e9, "--target-tokens", 2e12]
    content = told("design", "--tokens", "web=6e11,code=3e11", "--kind", "lattice", *priced, "--out", tmp_path)
    assert content["price"]["runs"] == len(content["weights"]) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is nothing to design"),
        ([*SIZES, "--kind", "sobl"], "did you mean 'sobol'"),
        ([*SIZES, "--gpu-hours", "5"], "give --target-params and --target-tokens"),
        ([*SIZES, "--cap", "4"], "give its tokens, --target-tokens"),
        ([*SIZES, "--emit", "json", "--layout", "regmix"], "in the layout mixopt"),
        ([*SIZES, "--emit", "megatorn"], "did you mean 'megatron'"),
        ([*SIZES, "--at-least", "web=0.7", "--at-least", "code=0.7"], "no mixture keeps the lower bounds"),
        ([*SIZES, "--runs", "many"], ""),
        ([*SIZES, "--mfu", "much"], "--mfu: 'much' is not a number"),
    ],
)
def test_what_does_not_fit_ends_with_exit_code_2(arguments, words, tmp_path):
    found = run("design", *arguments, "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert words in found.stderr
    assert not (tmp_path / "out").exists()
