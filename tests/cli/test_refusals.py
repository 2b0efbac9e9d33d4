"""What no command may do: fail after long work, lose an answer, take 0 for nothing, or end in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mixopt.cli import app
from mixopt.cli.common import Exit
from mixopt.errors import InputError
from mixopt.files import writable
from mixopt.fitting.flags import requested

PROBLEM = """import mixopt as mx
w = mx.Mixture(["web", "code"])
problem = mx.minimize(mx.sum_squares(w), over=w)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a table of runs, a mixture, a problem, and a file where a folder might be meant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    rows = [(i / 7, 1 - i / 7, 2 + (i / 7 - 0.4) ** 2) for i in range(8)]
    Path("runs.csv").write_text("run,w/web,w/code,loss/val\n" + "".join(f"r{i},{a},{b},{y}\n" for i, (a, b, y) in enumerate(rows)))
    Path("mix.json").write_text('{"web": 0.5, "code": 0.5}')
    Path("sizes.json").write_text('{"web": 4e9, "code": 1e9}')
    Path("mine.py").write_text(PROBLEM)
    Path("file").write_text("")
    Path("text").mkdir()
    for name in ("web", "code"):
        Path("text", f"{name}.jsonl").write_text("".join(json.dumps({"text": f"document {i} of {name}"}) + "\n" for i in range(300)))
    return tmp_path


def call(*words: str):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fit --mixtures runs.csv --out file", "file cannot be a folder: "),
        ("fit --mixtures runs.csv --out file/deeper", "file/deeper cannot be a folder: "),
        ("fit --mixtures runs.csv --noise -1", "the noise is -1.0"),
        ("fit --mixtures runs.csv --noise nan", "the noise is nan"),
        ("fit --mixtures runs.csv --suggest 0", "--suggest"),
        ("fit --mixtures runs.csv --seed -1", "--seed"),
        ("fit --mixtures runs.csv --law linear --huber 0", "huber_delta is 0.0"),
        ("fit absent.yaml", "absent.yaml cannot be read: No such file or directory\n"),
        ("score mix.json --study out --ridge 0", "so --ridge cannot be given beside it"),
        ("score mix.json --study out", "out holds no fit that can be read (No such file or directory)"),
        ("design --domains web,code --seed -1", "--seed"),
        ("design --domains web,code --root /data", "--root goes with --emit, which is not given; give it too, or leave this one out"),
        ("design --domains web,code --emit json --at-once 0", "--at-once goes with --emit slurm"),
        ("design --domains web,code --target-params 7e9", "--target-params goes with --gpu-hours"),
        ("design --domains web,code --weight val=2", "--weight goes with --after"),
        ("solve mine.py --save file/result.json", "file cannot be a folder: "),
        ("solve mine.py --save .", "--save"),
        ("compare mine.py --save file/result.json", "file cannot be a folder: "),
        ("solve mix.json", "mix.json is no Python file; its name ends in .py"),
        ("solve mine.json", "there is no module 'mine.json'; for a file write its path, mine.py:problem"),
        ("solve .mine", "there is no module '.mine'"),
        ("fit --folds many", "mixopt: invalid value for '--folds': "),
        ("fit --fold 3", "; mixopt fit --help shows what there is\n"),
        ("fti", "mixopt: no such command 'fti'"),
        ("run --data text --methods law,dogge", "no method 'dogge'; a study takes law, doremi, doge, implicit; did you mean 'doge'?"),
        ("run --data text --proxy mine.py:small", "the proxy mine.py:small is a smaller model in place of --model"),
        ("run --data text --rate nan", "rate is nan; it is > 0, or 0 for the usual one"),
        ("run --data text --budget -1", "budget is -1.0; it is > 0"),
        ("run --data text --proxies -1", "proxies is -1; it is > 0"),
        ("run --data text --out file", "file cannot be a folder: "),
        ("demo --seed 99999999999", "--seed"),
        ("sweep --data text", "say how many tokens each run is trained on"),
        ("sweep --data text --tokens nan", "--tokens is nan; a run is trained on more than 0"),
        ("sweep --data text --tokens 1e3 --design sobbol", "no kind of design 'sobbol'"),
        ("sweep --data text --tokens 1e3 --design absent.csv", "cannot read absent.csv: No such file or directory"),
        ("sweep --data text --tokens 1e3 --windows 0", "--windows"),
        ("sweep --data text --tokens 1e3 --out file", "file cannot be a folder: "),
        ("collect", "mixopt: missing argument 'DIR'; mixopt collect --help shows what there is\n"),
    ],
)
def test_it_is_refused_in_words_and_before_anything_is_begun(folder, words, said):
    found = call(*words.split())
    assert found.exit_code == Exit.INPUT, found.output
    assert said in found.stderr
    assert "cross-validating" not in found.output or "noise" in words or "huber" in words  # which are told at its start
    assert "reading" not in found.output
    assert sorted(p.name for p in folder.iterdir()) == ["file", "mine.py", "mix.json", "runs.csv", "sizes.json", "text"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_answer_that_the_disk_does_not_take_ends_in_a_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "mixopt", "list", "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == Exit.INPUT
    assert "mixopt: the output cannot be read or written: No space left on device\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_schedule_keeps_what_it_was_begun_with(folder):
    assert call("next", "--state", "s.json", "--init", "group_dro", "--domains", "web,code", "--smoothing", "0.1").exit_code == Exit.DONE
    for flag, value in (("--smoothing", "0"), ("--domains", "web"), ("--start", "mix.json")):
        found = call("next", "--state", "s.json", flag, value)
        assert (found.exit_code, found.stdout) == (Exit.INPUT, "")
        assert f"mixopt: {flag} can be given with --init alone, and s.json was begun; leave it out" in found.stderr


def test_a_zero_is_an_option_that_was_given(folder):
    Path("study.yaml").write_text(
        "swarm: {ratios: runs.csv, metrics: runs.csv}\npriors: {token_counts: {web: 4, code: 1}}\nregression: {seed: 5}\n"
    )
    flags = {"mixtures": "runs.csv", "ridge": 0.0, "noise": 0.0, "seed": 0}
    assert (requested(flags, "study.yaml").seed, requested(flags).ridge, requested(flags).noise) == (0, 0.0, 0.0)
    assert requested({"mixtures": "runs.csv"}, "study.yaml").seed == 5


def test_an_answer_that_cannot_be_saved_is_printed(folder, monkeypatch):
    monkeypatch.setattr("mixopt.report.result.Result.save", lambda *a: (_ for _ in ()).throw(InputError("no space left")))
    found = call("solve", "mine.py", "--save", "answer.json", "--json")
    assert found.exit_code == Exit.INPUT
    assert json.loads(found.stdout)["weights"] == pytest.approx({"web": 0.5, "code": 0.5})
    assert "no space left" in found.stderr


def test_a_path_may_hold_equals_signs_and_tokens_be_a_file(folder):
    where = ("--path", "web=/data/lang=en", "--path", "code=/data/code")
    assert call("export", "mix.json", "--to", "megatron", *where, "--tokens", "sizes.json", "--budget", "2e9").exit_code == Exit.DONE
    assert "/data/lang=en" in Path("megatron.txt").read_text()
    found = call("export", "mix.json", "--to", "megatron", *where, "--tokens", "web=4e9,code=1e9", "--budget", "2e9", "--json")
    assert json.loads(found.stdout)["exports"][0]["epochs"] == {"web": 0.25, "code": 1.0}
    designed = call("design", "--domains", "web,code", "--runs", "4", "--emit", "megatron", *where, "--out", "runs")
    assert designed.exit_code == Exit.DONE, designed.output
    assert all("/data/lang=en" in path.read_text() for path in Path("runs").glob("*/megatron.txt"))


def test_folders_that_may_be_written(folder):
    writable("new/deeper")
    assert not Path("new").exists()
    with pytest.raises(InputError, match="is a file; give another folder"):
        writable("file/deeper")
    Path("closed").mkdir(mode=0o500)
    if not os.access("closed", os.W_OK):  # root may write everywhere
        with pytest.raises(InputError, match="is not yours to write"):
            writable("closed/deeper")


def test_a_plan_of_a_study_is_one_object(folder):
    sizes = ("--context", "8", "--batch", "2", "--proxies", "2", "--proxy-steps", "3", "--target-steps", "4", "--seeds", "2")
    found = call("run", "--data", "text", "--out", "out", "--minutes", "0.001", "--plan", "--json", *sizes)
    assert found.exit_code == Exit.DONE, found.output
    told = json.loads(found.stdout)
    assert (told["sizes"]["proxies"], told["sizes"]["target_steps"]) == (2, 4)  # cut to the time, never above what was asked
    assert (sorted(told["domains"]), told["methods"], told["goes_on"]) == (["code", "web"], ["law", "doremi", "doge"], False)
    assert "target runs" in found.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_the_screen_has_no_letters_for_are_escaped(folder, encoding):
    Path("mix.json").write_text('{"书籍": 0.5, "wéb": 0.5}', encoding="utf-8")
    typed = [sys.executable, "-m", "mixopt", "export", "mix.json", "--to", "json"]
    there = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    told = subprocess.run([*typed, "--json"], capture_output=True, env=there, check=True).stdout.decode(encoding)
    assert json.loads(told)["exports"][0]["weights"] == {"书籍": 0.5, "wéb": 0.5}
    if encoding == "ascii":
        said = subprocess.run(typed, capture_output=True, env=there, check=True).stdout.decode(encoding)
        assert "w\\xe9b" in said
        assert "\\u4e66\\u7c4d" in said
