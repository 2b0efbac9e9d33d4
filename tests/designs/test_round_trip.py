"""Designs through a trainer of the user's own and back: what is written, what is read, and what is told where files are odd."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest

import mixopt as mx
from mixopt.designs import collect, emit
from mixopt.errors import InputError

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e11, 3e11, 1e11])
TRAINER = """
import json, math, sys
told = json.load(open(sys.argv[1]))
w = told["weights"]
with open(sys.argv[2] + "/log.jsonl", "w") as log:
    for step in (0, 500, 1000):
        noise = 1e-3 * math.sin(told["seed"])
        loss = 2 + math.exp(-w["code"] - 0.5 * w["books"]) + noise + (1 - step / 1000)
        print(json.dumps({"step": step, "lr": 1e-3, "val": {"loss": loss}, "note": "text"}), file=log)
"""


@pytest.fixture
def design():
    return mx.design(DOMAINS, runs=14, kind="sobol")


def logged(folder, design, loss=lambda w: 2 + math.exp(-w["code"] - 0.5 * w["books"])):
    for run, weights in design.weights.items():
        (folder / run / "log.jsonl").write_text(json.dumps({"step": 1000, "val_loss": loss(weights)}) + "\n")


def test_a_design_goes_through_a_trainer_and_comes_back_as_runs(design, tmp_path):
    (tmp_path / "train.py").write_text(TRAINER)
    folder = tmp_path / "with space"
    command = f"{sys.executable} {tmp_path / 'train.py'} {{config}} {{folder}}"
    made = emit(design, folder, ["slurm"], command=command, params=1e8, tokens=2e9, target_tokens=2e12)
    assert made.files[0] == folder / "design.csv"
    for run in (folder / "runs.txt").read_text().split():
        subprocess.run(["bash", str(folder / run / "train.sh")], check=True)
        assert (folder / run / "done").is_file()
    runs = collect(folder)
    assert runs.ids == design.ids
    assert runs.targets.names == ("val/loss",)
    assert (runs.seeds == design.seeds).all()
    assert (set(runs.params), set(runs.tokens)) == ({1e8}, {2e9})
    law = mx.laws.Exponential.fit(runs)
    assert np.allclose(law.predict(runs.mixtures), runs.metrics, atol=5e-3)
    assert 0 < runs.noise()[0] < 2e-3
    assert runs.signal_to_noise()[0] > 10


def test_run_json_tells_all_of_a_run(design, tmp_path):
    emit(design, tmp_path, tokens=1e9, params=5e7, target_tokens=1e12)
    told = json.loads((tmp_path / "run003" / "run.json").read_text())
    assert told["seed"] == 3
    assert told["weights"] == pytest.approx(design.weights["run003"])
    assert told["tokens_of_domains"] == pytest.approx({"web": 6e8, "code": 3e8, "books": 1e8})
    assert (told["tokens"], told["params"]) == (1e9, 5e7)


@pytest.mark.parametrize(("target", "suffix"), [("megatron", ".txt"), ("olmo-core", ".yaml"), ("litgpt", ".json")])
def test_each_run_has_the_files_of_its_trainer(target, suffix, design, tmp_path):
    made = emit(design, tmp_path, target, root="/data", tokens=1e9, target_tokens=1e12)
    name = "litdata" if target == "litgpt" else target
    for run in design.ids:
        text = (tmp_path / run / f"{name}{suffix}").read_text()
        assert "/data/web" in text
    assert len(made.files) >= 2 + 2 * len(design)
    weights = design.weights["run005"]
    if target == "megatron":
        told = {path: float(w) for w, path in (line.split() for line in (tmp_path / "run005" / "megatron.txt").read_text().splitlines())}
        assert told == pytest.approx({f"/data/{n}": w for n, w in weights.items() if w})


def test_the_array_job_trains_what_is_not_done(design, tmp_path):
    command = f"touch {tmp_path}/trained-{{run}}"
    emit(design, tmp_path, "slurm", command=command, sbatch=["--gres=gpu:1"], at_once=4)
    script = (tmp_path / "sweep.sbatch").read_text()
    assert script.startswith("#!/bin/bash\n#SBATCH --array=0-13%4\n")
    assert "#SBATCH --gres=gpu:1" in script
    (tmp_path / "run001" / "done").touch()
    for task in (0, 1):
        subprocess.run(
            ["bash", str(tmp_path / "sweep.sbatch")], check=True, env={"SLURM_ARRAY_TASK_ID": str(task), "PATH": "/usr/bin:/bin"}
        )
    assert (tmp_path / "trained-run000").exists()
    assert not (tmp_path / "trained-run001").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"to": "megatorn"}, "no target 'megatorn'.*did you mean 'megatron'"),
        ({"to": "slurm"}, "slurm jobs train by a command of yours"),
        ({"to": "megatron"}, "needs to know where"),
        ({"command": "run {confg}"}, r"names \{confg\}, and it may name"),
        ({"command": "run {seed:d}"}, r"names \{seed:d\}"),
        ({"command": "run {seed"}, "cannot be read"),
        ({"command": "run {tokens}"}, r"names \{tokens\}, and the runs' tokens are not given"),
        ({"target_tokens": 1e12}, "needs the tokens of a proxy"),
        ({"params": 0}, "params is 0"),
        ({"to": "slurm", "command": "x", "sbatch": ["gres"]}, "no line of sbatch"),
    ],
)
def test_what_cannot_be_emitted_is_told_before_a_byte_is_written(settings, words, design, tmp_path):
    with pytest.raises(mx.InputError, match=words):
        emit(design, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_notes_tell_in_which_runs_and_that_the_data_are_to_be_cut(tmp_path):
    few = mx.design(DOMAINS, runs=12)
    made = emit(few, tmp_path, ["megatron", "litgpt"], root="/data", tokens=1e9, target_tokens=1e12)
    assert made.notes[0].startswith("epochs are of the parts of domains that run.json tells as tokens_of_domains; cut the data")
    bare = [run for run, w in few.weights.items() if w["books"] == 0]
    assert f"megatron: left out, since megatron is not to see a weight of 0, in {bare[0]}: books" in made.notes
    assert len(bare) == 1
    assert "litdata: equal lengths assumed: these are also the shares of tokens" in made.notes  # of all runs
    subprocess.run(["bash", "-n", *map(str, emit(few, tmp_path / "b", "slurm", command="x {config}").files[-1:])], check=True)


def test_runs_that_cannot_be_folders_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("run,web,code\n../x,0.5,0.5\nb,0.2,0.8\n")
    with pytest.raises(mx.InputError, match=r"run '\.\./x' cannot be the name of a folder"):
        emit(mx.Design.from_csv(tmp_path / "a.csv"), tmp_path / "out")


def test_a_folder_with_the_runs_of_another_design_is_left_alone(design, tmp_path):
    emit(design, tmp_path)
    emit(design, tmp_path, command="train {seed}")  # the same design again
    with pytest.raises(mx.InputError, match="holds the 14 runs of another design"):
        emit(mx.design(DOMAINS, runs=14, seed=1), tmp_path)


def test_lm_eval_results_are_read_with_their_directions(design, tmp_path):
    emit(design, tmp_path)
    for run, weights in design.weights.items():
        place = tmp_path / run / "eval" / "my__model"
        place.mkdir(parents=True)
        for day, bonus in (("01", 0.5), ("02", 0.0)):
            content = {
                "results": {
                    "arc_easy": {"alias": "arc_easy", "acc,none": weights["code"] + bonus, "acc_stderr,none": 0.01},
                    "gsm8k": {"exact_match,strict-match": 0.1, "exact_match,flexible-extract": 0.2},
                    "wiki": {"word_perplexity,none": 20 - weights["books"]},
                },
                "higher_is_better": {"arc_easy": {"acc": True}, "wiki": {"word_perplexity": False}},
            }
            (place / f"results_2026-11-{day}.json").write_text(json.dumps(content))
        (place / "samples_arc_easy.jsonl").write_text('{"doc_id": 1, "acc": 1.0}\n')
    runs = collect(tmp_path)
    assert runs.targets.names == (
        "arc_easy/acc",
        "gsm8k/exact_match/strict-match",
        "gsm8k/exact_match/flexible-extract",
        "wiki/word_perplexity",
    )
    assert runs.targets.directions == ("max", "max", "max", "min")
    assert np.allclose(runs.metrics[:, 0], runs.mixtures[:, 1])  # the later file counts
    assert collect(tmp_path, only=["arc*"]).targets.names == ("arc_easy/acc",)


def test_csv_logs_count_by_their_last_row_or_by_metric(design, tmp_path):
    emit(design, tmp_path)
    for run in design.ids[:7]:
        (tmp_path / run / "log.csv").write_text("step,val_loss,acc\n10,3.0,\n20,2.5,0.4\n30,2.4,\n")
    for run in design.ids[7:]:
        (tmp_path / run / "final.csv").write_text("metric,value\nval_loss,2.2\nacc,0.5\n")
    runs = collect(tmp_path)
    assert runs.metrics[0].tolist() == [2.4, 0.4]
    assert runs.metrics[9].tolist() == [2.2, 0.5]


def test_the_history_of_hugging_faces_trainer_is_read(design, tmp_path):
    emit(design, tmp_path)
    for r, run in enumerate(design.ids):
        for step in (500, 1000):
            history = [
                {"loss": 3.0 + r, "grad_norm": 1.0, "learning_rate": 1e-3, "epoch": 0.5, "step": step - 10},
                {
                    "eval_web_loss": 2.0 + r + 1 / step,
                    "eval_web_runtime": 3.2,
                    "eval_web_samples_per_second": 9.0,
                    "epoch": 1.0,
                    "step": step,
                },
                {"train_loss": 2.5 + r, "train_runtime": 9.0, "train_steps_per_second": 4.0, "total_flos": 1e12, "step": step},
            ]
            folder = tmp_path / run / f"checkpoint-{step}"
            folder.mkdir()
            (folder / "trainer_state.json").write_text(json.dumps({"best_metric": None, "global_step": step, "log_history": history}))
    runs = collect(tmp_path)
    assert runs.targets.names == ("loss", "eval_web_loss", "train_loss")
    np.testing.assert_allclose(runs.metrics[:, 1], 2.001 + np.arange(len(design)))
    assert len(runs) == len(design)
    (tmp_path / design.ids[0] / "trainer_state.json").write_text(json.dumps({"log_history": 3}))
    with pytest.raises(InputError, match=r"trainer_state\.json has no log_history, as Hugging Face's Trainer writes it"):
        collect(tmp_path)


def test_runs_that_are_not_done_are_left_out_with_a_word(design, tmp_path):
    emit(design, tmp_path)
    logged(tmp_path, design)
    (tmp_path / "run004" / "log.jsonl").unlink()
    (tmp_path / "run005" / "log.jsonl").write_text('{"step": 400, "val_loss": 3.0}\n')
    (tmp_path / "run006" / "log.jsonl").write_text('{"step": 1000, "val_loss": 2.5}\n{"step": 10')
    (tmp_path / "run007" / "log.jsonl").write_text('{"step": 1000, "val_loss": NaN}\n')
    runs = collect(tmp_path)
    assert len(runs) == 11
    text = runs.describe()
    assert "1 of 14 runs came less far than the others and are left out: (run005)" in text
    assert "2 of 14 runs have no metrics yet and are left out: (run004, run007)" in text
    assert "was cut and is left out" in text
    assert "ended as NaN or infinite and is missing" in text
    assert "run005" in collect(tmp_path, unfinished=True).ids


def test_runs_of_other_lengths_are_done_when_theirs_are(tmp_path):
    own = mx.design(DOMAINS, kind="autoscale", tokens=3e8)
    emit(own, tmp_path)
    for run, tokens in zip(own.ids, own.tokens, strict=True):
        reached = tokens * (0.5 if run == own.ids[2] else 1)
        (tmp_path / run / "log.jsonl").write_text(json.dumps({"step": round(reached / 1e6), "val_loss": 2.0 + tokens / 1e9}) + "\n")
    runs = collect(tmp_path)
    assert runs.ids == tuple(i for i in own.ids if i != own.ids[2])
    assert set(runs.tokens) == {3e8, 2.2e8, 5e8}


def test_steps_are_in_order_of_their_numbers_and_files_that_differ_are_told(design, tmp_path):
    emit(design, tmp_path)
    for step, accuracy in ((500, 0.3), (1000, 0.4)):
        for run in design.ids:
            place = tmp_path / run / f"step{step}"
            place.mkdir()
            (place / "results.json").write_text(json.dumps({"results": {"arc": {"acc,none": accuracy + int(run[3:]) / 100}}}))
    runs = collect(tmp_path)
    assert runs.metrics[0, 0] == pytest.approx(0.4)
    assert "14 runs have several files that differ in a metric, such as run000 in (arc/acc); the last by name counts" in runs.notes


def test_a_metric_that_ended_as_nan_is_missing_though_an_earlier_file_has_it(design, tmp_path):
    emit(design, tmp_path)
    logged(tmp_path, design)
    (tmp_path / "run003" / "log2.jsonl").write_text('{"step": 1000, "val_loss": NaN}\n')
    runs = collect(tmp_path)
    assert "run003" not in runs.ids
    assert "(val_loss) of" in runs.notes[0]
    assert "ended as NaN or infinite and is missing" in runs.notes[0]


def test_folders_of_no_run_and_metrics_that_stand_still_are_told(design, tmp_path):
    emit(design, tmp_path)
    logged(tmp_path, design)
    for run in design.ids:
        (tmp_path / run / "fixed.jsonl").write_text('{"fixed_loss": 1.5}\n')
    (tmp_path / "plots").mkdir()
    (tmp_path / "run099").mkdir()
    (tmp_path / "run099" / "log.jsonl").write_text('{"val_loss": 1.0}\n')
    notes = " ".join(collect(tmp_path).notes)
    assert "(run099)" in notes
    assert "has metrics, but no run of the design has the name" in notes
    assert "(fixed_loss) came out the same in every run" in notes


def test_a_metric_that_no_run_has_is_refused_with_those_there_are(design, tmp_path):
    emit(design, tmp_path)
    logged(tmp_path, design)
    with pytest.raises(mx.InputError, match=r"has a metric 'val_los' among \(.*val_loss.*did you mean 'val_loss'"):
        collect(tmp_path, only=["val_loss", "val_los"])


def test_several_folders_are_one_table(design, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    emit(design, first)
    logged(first, design)
    runs = collect(first)
    more = mx.design(DOMAINS, runs=4, after=runs, replicates=0, seed=9)
    emit(more, second)
    logged(second, more)
    assert collect(first, second).ids == design.ids + more.ids


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("log.jsonl", '{"a": 1}\n{"a"\n{"a": 2}\n', r"log\.jsonl, line 2"),
        ("log.jsonl", "[1]\n", "each line is a JSON object, and this is a list"),
        ("log.csv", "a,b\n1\n", "is no table of metrics"),
        ("results.json", '{"results": 3}', "has no results by task"),
        ("results.json", '{"resul', "may be half written"),
        ("log.jsonl", '{"step": 3}\n', "no run of .* has a metric"),
        ("log.jsonl", '{"thing": 3}\n', "whether lower or higher is better is not certain"),
    ],
)
def test_files_that_cannot_be_read_are_named(name, text, words, design, tmp_path):
    emit(design, tmp_path)
    (tmp_path / "run000" / name).write_text(text)
    with pytest.raises(mx.InputError, match=words):
        collect(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(mx.InputError, match=r"has no design\.csv"):
        collect(tmp_path)
    with pytest.raises(mx.InputError, match="there is no folder to collect from"):
        collect()
