"""``mixopt fit`` and ``mixopt score`` as a user types them, with every bad input ending in one line and its mend."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mixopt.cli import app
from mixopt.cli.common import Exit
from mixopt.export import Blend
from mixopt.laws import Exponential
from mixopt.runs import Runs

REGMIX = Path(__file__).parents[2] / "../shared/data/regmix"
needs_regmix = pytest.mark.skipif(not REGMIX.exists(), reason="needs ../shared/data/regmix beside the project")
SLOPES = np.array([[-1.0, 0.6, 0.2], [0.5, -2.0, 0.4]])
PRIOR = "web=0.6,code=0.3,books=0.1"


def run(*words: object, code: int = Exit.DONE) -> str:
    """What a command prints, on both streams; its exit code is checked."""
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def refused(*words: object) -> str:
    return " ".join(run(*words, code=Exit.INPUT).split())


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A pair of CSV files in the working directory, as flags."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    w = rng.dirichlet(np.ones(3), 30)
    y = 2 + np.exp(w @ SLOPES.T) + 0.005 * rng.normal(size=(30, 2))
    for name, header, values in (("w.csv", "web,code,books", w), ("y.csv", "chat_loss,python_loss", y)):
        rows = [",".join(map(repr, row)) for row in values.tolist()]
        Path(name).write_text(f"run,{header}\n" + "".join(f"r{i},{row}\n" for i, row in enumerate(rows)))
    return ("--mixtures", "w.csv", "--losses", "y.csv", "--law", "exponential")


def edited(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new, 1))


def test_a_fit_leaves_a_report_a_mixture_the_law_and_the_runs(tables):
    text = run("fit", *tables, "--kl", "0.05", "--prior", PRIOR, "--out", "out", "--at-most", "code=30%")
    assert "30 runs, 3 domains, 2 targets" in text
    assert "Train on " in text
    assert "within the noise" in text
    assert "Moving the upper bound of code from 30 % to 31 % would lower the mean loss" in text
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "fit.json",
        "law.json",
        "mixture.json",
        "predictions.csv",
        "report.html",
        "report.json",
        "report.md",
        "runs.csv",
    ]
    weights = Blend.load("out/mixture.json").weights
    assert weights["code"] == pytest.approx(0.3, abs=1e-6)
    law, runs = Exponential.load("out/law.json"), Runs.from_csv("out/runs.csv")
    np.testing.assert_array_equal(law.A, Exponential.fit(Runs.from_csv("w.csv", "y.csv")).A)
    assert runs.targets.names == ("chat_loss", "python_loss")
    rows = list(csv.DictReader(Path("out/predictions.csv").read_text().splitlines()))
    assert len(rows) == 30
    error = [float(r["measured/chat_loss"]) - float(r["predicted/chat_loss"]) for r in rows]
    assert 0 < np.abs(error).max() < 0.2
    report = json.loads(Path("out/report.json").read_text())
    assert report["provenance"]["command"].startswith("mixopt")
    assert set(report["provenance"]["files"]) == {"w.csv", "y.csv"}
    assert "chat_loss" in Path("out/report.md").read_text()


def test_one_file_that_mixopt_wrote_is_a_table_too(tables):
    run("fit", *tables, "--out", "one", "--quiet")
    text = run("fit", "--mixtures", "one/runs.csv", "--out", "two", "--json")
    first, second = (json.loads(Path(f"{f}/mixture.json").read_text())["weights"] for f in ("one", "two"))
    assert second == pytest.approx(first, abs=1e-9)
    assert json.loads(text[text.index("{") :])["weights"] == pytest.approx(first, abs=1e-9)


def test_json_is_one_object_on_standard_output_and_nothing_else(tables):
    result = CliRunner().invoke(app, ["fit", *tables, "--json", "--noise", "0.01", "--out", "out"])
    answer = json.loads(result.stdout)
    assert answer["noise"] == 0.01
    assert sum(answer["weights"].values()) == pytest.approx(1)
    assert all(answer["ranges"][n][0] <= w <= answer["ranges"][n][1] for n, w in answer["weights"].items())
    assert answer["status"] == "OPTIMAL"
    assert any("Neither a KL term nor caps" in d for d in answer["doubts"])
    assert "fitting a law" in result.stderr
    quiet = run("fit", *tables, "--quiet", "--out", "out")
    assert quiet.startswith("Train on")


def test_exports_are_written_beside_the_report_and_refused_before_the_fit(tables):
    words = ("fit", *tables, "--out", "out", "--to", "megatron", "--to", "olmo-core")
    assert "--root" in refused(*words)
    assert not Path("out").exists()
    run(*words, "--root", "/data", "--path", "code=/elsewhere/code")
    edited("w.csv", "web,code,books", "train_web,train_code,train_books")
    sizes = "train_web=6e11,train_code=3e11,train_books=1e11"  # as the table has them
    text = run(*words, "--root", "/data", "--path", "code=/elsewhere/code", "--tokens", sizes, "--budget", "1e12")
    assert "epochs" in text
    assert "/data/web" in Path("out/megatron.txt").read_text()
    assert "/elsewhere/code" in Path("out/olmo-core.yaml").read_text()
    assert "did you mean 'megatron'" in refused("fit", *tables, "--out", "other", "--to", "megatro", "--root", "/data")
    assert not Path("other").exists()


def test_accuracies_families_and_weights(tables):
    edited("y.csv", "chat_loss,python_loss", "chat_acc,gsm8k")
    assert "not certain from the names of the metrics (gsm8k)" in refused("fit", *tables)
    options = ("--direction", "gsm8k=max", "--weight", "gsm8k=3", "--unit", "gsm8k=accuracy", "--out", "out", "--json")
    answer = json.loads(CliRunner().invoke(app, ["fit", *tables, *options]).stdout)
    assert answer["objective"]["name"] == "weighted mean accuracy"
    assert answer["objective"]["unit"] == "accuracy"
    text = run("fit", *tables, "--direction", "max", "--family", "all=chat_acc,gsm8k", "--objective", "max", "--out", "out", "--quiet")
    assert "predicted worst family mean of the metric" in text


def test_a_score_tells_the_gap_the_broken_constraints_and_the_epochs(tables):
    limits = ("--tokens", "web=6e11,code=3e11,books=1e11", "--budget", "1e12", "--cap", "2", "--kl", "0.05")
    run("fit", *tables, *limits, "--out", "out", "--quiet")
    Path("mine.yaml").write_text("web: 0.5\ncode: 0.2\nbooks: 0.3\n")
    text = run("score", "mine.yaml", "--study", "out")
    assert "worse than the recommended mixture's" in text
    assert "It breaks 'repetition of books' by 10 % of the data." in text
    assert "books    3.00" in text
    again = json.loads(run("score", "mine.yaml", *tables, *limits, "--json"))
    stored = json.loads(run("score", "mine.yaml", "--study", "out", "--json"))
    assert again["predictions"] == pytest.approx(stored["predictions"])
    assert stored["broken"] == pytest.approx({"repetition of books": 0.1})
    assert "--kl cannot be given beside it" in refused("score", "mine.yaml", "--study", "out", "--kl", "0.1")
    assert "holds no fit" in refused("score", "mine.yaml", "--study", "nowhere")
    assert "no table to fit" in refused("score", "mine.yaml")
    Path("mine.yaml").write_text("webb: 0.5\ncode: 0.5\n")
    assert "did you mean 'web'" in refused("score", "mine.yaml", "--study", "out")


def test_an_olmix_configuration_is_fitted_and_flags_override_it(tables):
    Path("study.yaml").write_text(
        "swarm: {ratios: w.csv, metrics: y.csv}\n"
        "priors: {token_counts: {web: 600, code: 300, books: 100}}\n"
        "proposer: {type: exact, kl_reg: 0.1}\n"
        "constraints: {enabled: true, target_tokens: 1000, repetition_factor: 4.0}\n"
    )
    plain = json.loads(run("fit", "study.yaml", "--json", "--quiet", "--out", "a"))
    flags = json.loads(run("fit", "study.yaml", "--json", "--quiet", "--out", "b", "--kl", "1", "--at-most", "code=0.2", "--cap", "2"))
    assert plain["duals"].keys() == {"repetition"}
    assert flags["duals"].keys() == {"repetition", "at most 0.2 code"}
    assert flags["weights"]["code"] <= 0.2 + 1e-7
    fit = json.loads(Path("b/fit.json").read_text())
    assert (fit["limits"]["kl"], fit["limits"]["cap"], fit["limits"]["budget"]) == (1, 2, 1000)
    assert set(json.loads(Path("a/report.json").read_text())["provenance"]["files"]) == {"study.yaml", "w.csv", "y.csv"}
    Path("study.yaml").write_text("- no mapping\n")
    assert "not a mapping" in refused("fit", "study.yaml")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kl", "0.05"], "a KL term of 0.05 needs the natural proportions"),
        (["--cap", "4"], "a cap of 4 epochs needs the size of each domain"),
        (["--cap", "4", "--tokens", "web=1,code=1,books=1"], "needs the tokens of the training run (--budget)"),
        (["--kl", "0.05", "--prior", "web=1,code=1,boks=1"], "did you mean 'books'"),
        (["--kl", "0.05", "--prior", "web=1,code=1"], "(books) have no entry in the prior"),
        (["--kl", "a lot"], "--kl: 'a lot' is not a number"),
        (["--prior", "nowhere.json"], "no file that is there"),
        (["--at-most", "wep=0.5"], "did you mean 'web'"),
        (["--at-most", "web"], "write name=value"),
        (["--at-least", "web=0.7", "--at-least", "code=0.7"], "0.4 over 1"),
        (["--fix", "web=1.7"], "a share is from 0 to 1"),
        (["--cap", "1", "--tokens", "web=4e11,code=2e11,books=1e11", "--budget", "1e12"], "they sum to 0.7, 0.3 short of 1"),
        (["--drop", "chat_los"], "did you mean 'chat_loss'"),
        (["--weight", "chat=2"], "no target or family 'chat'"),
        (["--family", "text=chat"], "no target 'chat'"),
        (["--objective", "mox"], "did you mean 'max'"),
        (["--direction", "up"], "the direction of target 'chat_loss' is 'up'"),
        (["--direction", "min", "--direction", "max"], "more than once"),
        (["--on", "runn"], "did you mean 'run'"),
        (["--law", "lihgtgbm"], "is no law; it is one of (auto, convex, exponential"),
        (["--law", "lightgbm", "--ridge", "0.1"], "the lightgbm law takes no (ridge)"),
        (["--folds", "1"], "1 folds of 30 runs"),
        (["--ridge", "-1"], "ridge is -1"),
        (["--noise", "-1"], "the noise is -1"),
        (["--target-size", "0"], "params (model parameters N) of the run planned is 0.0; it must be finite and > 0"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_flags_that_do_not_fit_end_in_one_line_before_anything_is_written(tables, flags, message):
    told = refused("fit", *tables, *flags, "--out", "out")
    assert message in told
    assert "fitting" not in told
    assert not Path("out").exists()


def test_tables_that_do_not_fit_end_in_one_line(tables):
    assert "there is no table to fit" in refused("fit")
    assert "cannot read nowhere.csv" in refused("fit", "--mixtures", "nowhere.csv", "--losses", "y.csv")
    Path("bad.csv").write_bytes(b"\xff\xfe,1\n2,3\n")
    assert "bad.csv is no CSV text in UTF-8" in refused("fit", "--mixtures", "bad.csv", "--losses", "y.csv")
    row = Path("w.csv").read_text().splitlines()[1]
    edited("w.csv", row, "r0,0.4,0.2,0.1")
    assert "the weights of run 'r0' sum to 0.7, off 1 by more than 5%" in refused("fit", *tables)


def test_missing_metrics_are_told(tables):
    first = Path("y.csv").read_text().splitlines()[1]
    edited("y.csv", first, first.rsplit(",", 1)[0] + ",")
    assert "1 metric value is missing, of (python_loss)" in run("fit", *tables, "--out", "out")


def test_the_next_runs_are_written_as_mixtures_that_keep_the_constraints(tables):
    text = run("fit", *tables, "--suggest", "4", "--at-most", "web=0.5", "--out", "out")
    assert "next.csv" in text
    with open("out/next.csv", newline="") as file:
        head, *rows = csv.reader(file)
    with open("w.csv", newline="") as file:
        assert head[1:] == next(csv.reader(file))[1:]
    weights = np.array([row[1:] for row in rows], dtype=float)
    assert weights.shape == (4, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (weights[:, head.index("web") - 1] <= 0.5 + 1e-6).all()
    assert "--suggest" in refused("fit", *tables, "--suggest", "0")


@needs_regmix
def test_regmix_to_a_report_and_three_trainers_in_one_command(tmp_path):
    pair = ("--mixtures", REGMIX / "train_mixture_1m.csv", "--losses", REGMIX / "train_pile_loss_1m.csv")
    targets = ("--to", "megatron", "--to", "hf", "--to", "olmo-core", "--root", "/data/{domain}/tokens", "--equal-lengths")
    text = run("fit", *pair, "--prior", REGMIX / "pile_prior.json", "--kl", "0.05", "--out", tmp_path, *targets)
    assert "17 columns train_NAME -> NAME" in text
    assert "13 columns metric/NAME_val_loss -> NAME" in text
    assert re.search(r"0\.\d+ ± 0\.\d+ below natural", text)
    assert "The law is exponential: its decisions on held-out runs lose" in (tmp_path / "report.md").read_text()
    written = {p.name for p in tmp_path.iterdir()}
    assert {"report.html", "report.md", "report.json", "megatron.txt", "hf.json", "olmo-core.yaml"} <= written
    weights = json.loads((tmp_path / "mixture.json").read_text())["weights"]
    assert weights["the_pile_pile_cc"] == pytest.approx(0.171, abs=1e-3)
    (tmp_path / "mine.json").write_text(json.dumps({"train_the_pile_pile_cc": 0.9, "train_the_pile_github": 0.1}))
    assert "more than the noise" in run("score", tmp_path / "mine.json", "--study", tmp_path)
