"""``mixopt next``: a schedule from call to call, its log read once, its files for a trainer, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mixopt as mx
from mixopt.cli import app
from mixopt.cli.common import Exit
from mixopt.trainers import advance

BEGIN = ("--init", "group_dro(rate=0.5)", "--domains", "web,code,books", "--state", "s.json")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["next", *map(str, arguments)])


def log(*records, name="log.jsonl", end="\n"):
    """Append records to a log."""
    with open(name, "a", encoding="utf-8") as file:
        file.write("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + end)


def weights(name="s.json"):
    return json.loads(Path(name).read_text())["schedule"]["shown"]["numbers"]


def tilted(w, losses, rate=0.5):
    moved = np.array(w) * np.exp(rate * np.array(losses))
    return (moved / moved.sum()).tolist()


def test_a_run_of_three_stages(run, tmp_path):
    """Each call is one move by the mean of what is new, weighted by tokens, and writes the trainer's file."""
    began = run(*BEGIN, "--export", "megatron", "--out", "mix.txt", "--root", "/d")
    assert began.exit_code == Exit.DONE, began.output
    assert began.output.startswith("stage 0: nothing new, the weights stay\n")
    written = [line.split() for line in (tmp_path / "mix.txt").read_text().splitlines()]
    assert [(float(w), path) for w, path in written] == [(pytest.approx(1 / 3), f"/d/{n}") for n in ("web", "code", "books")]
    log({"train": {"web": 2.0, "code": 1.0, "books": 3.0}, "counts": {"web": 30, "code": 10, "books": 10}}, {"lr": 0.1})
    log({"losses/web": 1.0, "losses/code": 1.0, "losses/books": 3.0, "counts": {"web": 10, "code": 10, "books": 10}})
    done = run("--state", "s.json", "--losses", "log.jsonl", "--export", "megatron", "--out", "mix.txt", "--root", "/d")
    assert done.exit_code == Exit.DONE, done.output
    assert done.output.startswith("stage 1: 2 new records\n")
    one = tilted([1 / 3] * 3, [(30 * 2 + 10) / 40, 1.0, 3.0])
    assert weights() == pytest.approx(one)
    assert [float(line.split()[0]) for line in (tmp_path / "mix.txt").read_text().splitlines()] == pytest.approx(one)
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}})
    again = json.loads(run("--state", "s.json", "--losses", "log.jsonl", "--json").output)
    assert again["stage"] == 2
    assert again["records"] == 1
    assert list(again["weights"].values()) == weights() == pytest.approx(tilted(one, [1.5, 0.5, 2.0]))


def test_a_call_that_is_repeated_changes_nothing(run):
    run(*BEGIN)
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}})
    run("--state", "s.json", "--losses", "log.jsonl")
    first = Path("s.json").read_text()
    done = run("--state", "s.json", "--losses", "log.jsonl")
    assert "nothing new" in done.output
    assert Path("s.json").read_text() == first


def test_a_half_written_line_waits(run):
    run(*BEGIN)
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}})
    log('{"losses": {"web": 1.0, "co', end="")
    done = run("--state", "s.json", "--losses", "log.jsonl")
    assert "1 new records" in done.output
    assert "the last line is not finished" in done.output
    log('de": 1.0, "books": 1.0}}')
    before = weights()
    assert "stage 2: 1 new records" in run("--state", "s.json", "--losses", "log.jsonl").output
    assert weights() == pytest.approx(before)


def test_what_is_measured_badly_is_left_out_and_told(run):
    run(*BEGIN)
    log(
        {"losses": {"web": float("nan"), "code": 0.5, "books": 2.0}},
        "a crash cut this",
        {"losses": {"web": 2.0, "code": 0.5, "books": None}},
    )
    done = run("--state", "s.json", "--losses", "log.jsonl")
    assert "note: 1 values of 'web' were NaN or infinite and are left out" in done.output
    assert "note: line 2 is no JSON and is left out" in done.output
    assert weights() == pytest.approx(tilted([1 / 3] * 3, [2.0, 0.5, 2.0]))


def test_a_log_is_the_same_one_from_another_folder(run, tmp_path, monkeypatch):
    run(*BEGIN)
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}})
    run("--state", "s.json", "--losses", "log.jsonl")
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    for state, name in [("../s.json", "../log.jsonl"), (tmp_path / "s.json", tmp_path / "log.jsonl")]:
        assert "nothing new" in run("--state", state, "--losses", name).output


def test_steps_are_the_trainer_s_where_it_tells_them(run):
    """Weights by steps that are known beforehand; and a run that begins anew after its second stage."""
    run("--init", "stages(rows={0: [0.9, 0.1], 100: [0.2, 0.8]})", "--domains", "web,code", "--state", "s.json")
    for step, share in [(40, 0.9), (120, 0.2)]:
        log({"step": step, "lr": 0.1}, name="steps.jsonl")
        assert run("--state", "s.json", "--losses", "steps.jsonl").exit_code == Exit.DONE
        assert weights()[0] == pytest.approx(share)
    schedule = mx.online(mx.problems.odm(mx.Domains(["web", "code"])), every=1)
    for number, step in enumerate([40, 120, 10], start=1):
        log({"step": step - 1, "losses": {"web": 1.5, "code": 0.5}}, {"step": step, "losses": {"web": 1.5, "code": 0.5}})
        assert advance(schedule, "o.json", "log.jsonl").number == number
        assert schedule.steps == [40, 120, 121][number - 1]


def test_another_log_is_read_from_its_start(run):
    run(*BEGIN)
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}}, name="one.jsonl")
    run("--state", "s.json", "--losses", "one.jsonl")
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}}, name="two.jsonl")
    assert "stage 2: 1 new records" in run("--state", "s.json", "--losses", "two.jsonl").output


def test_a_problem_of_one_s_own(run, tmp_path):
    (tmp_path / "own.py").write_text(
        "import mixopt as mx\n"
        "domains = mx.Domains(['web', 'code'])\n"
        "w, theta = mx.Mixture(domains), mx.model()\n"
        "excess = mx.losses(theta, domains) - mx.parameter('reference', 2)\n"
        "problem = mx.minimize(mx.maximize(w @ excess, over=w, subject_to=[w >= 0.1]), over=theta)\n"
        "given = {'reference': [1.0, 2.0]}\n"
    )
    (tmp_path / "start.json").write_text('{"web": 0.25, "code": 0.75}')
    began = run("--init", "own.py:problem", "--state", "s.json", "--start", "start.json", "--smoothing", "0.1")
    assert began.exit_code == Exit.DONE, began.output
    log({"losses": [4.0, 2.0]})
    assert run("--state", "s.json", "--losses", "log.jsonl").exit_code == Exit.DONE
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text().replace("[1.0, 2.0]", "[1.0, 3.0]"))
    changed = run("--state", "s.json", "--losses", "log.jsonl")
    assert changed.exit_code == Exit.INPUT
    assert "the state is of another schedule" in changed.output


def test_the_same_from_python(tmp_path, run):
    """``advance`` is what the command calls; a state that Python made has no recipe for the command."""
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}})

    def schedule():
        return mx.online(mx.problems.group_dro(mx.Domains(["web", "code", "books"]), rate=0.5), every=1)

    stage = advance(schedule(), "p.json", "log.jsonl")
    assert (stage.number, stage.records, stage.waits) == (1, 1, False)
    assert advance(schedule(), "p.json", "log.jsonl").records == 0
    refused = run("--state", "p.json", "--losses", "log.jsonl")
    assert refused.exit_code == Exit.INPUT
    assert "mx.trainers.advance" in refused.output


def test_an_interrupted_call_changes_nothing(run, monkeypatch):
    run(*BEGIN)
    before = Path("s.json").read_text()
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}})

    def cut(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", cut)
    assert run("--state", "s.json", "--losses", "log.jsonl").exit_code == Exit.INTERRUPTED
    assert Path("s.json").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--state", "none.json"), "begin one with --init"),
        (BEGIN, "s.json is there already"),
        (("--init", "group_drow", "--domains", "web,code", "--state", "n.json"), "did you mean 'group_dro'"),
        (("--init", "group_dro(0.5)", "--domains", "web,code", "--state", "n.json"), "no name with settings by name"),
        (("--init", "group_dro(rate=x)", "--domains", "web,code", "--state", "n.json"), "settings are literals"),
        (("--init", "group_dro(rat=1.0)", "--domains", "web,code", "--state", "n.json"), "does not take 'rat'"),
        (("--init", "skill_it", "--domains", "web,code", "--state", "n.json"), "write skill_it(effects=...) with literals"),
        (("--init", "online_law(law=3)", "--domains", "web,code", "--state", "n.json"), "then --init mine.py:mine"),
        (("--init", "regmix", "--domains", "web,code", "--state", "n.json"), "no online method 'regmix'"),
        (("--init", "group_dro", "--state", "n.json"), "a method needs its domains"),
        (("--init", "group_dro", "--domains", "web,,code", "--state", "n.json"), "an empty name or one twice"),
        (("--init", "group_dro", "--domains", "web=x", "--state", "n.json"), "the tokens are a number"),
        (("--init", "group_dro", "--domains", "web=1e9,code", "--state", "n.json"), "of some domains and not of others"),
        (("--init", "uniform", "--domains", "web,code", "--state", "n.json"), "no online method but a dict"),
        (("--init", "no.py:problem", "--state", "n.json"), "there is no file no.py"),
        (("--state", "log.jsonl"), "cannot be read as the state"),
        (("--state", "other.json"), "is no state of format 1"),
        (("--state", "s.json", "--losses", "none.jsonl"), "none.jsonl cannot be read"),
        (("--state", "s.json", "--losses", "unknown.jsonl"), "line 1 of unknown.jsonl names 'cod'"),
        (("--state", "s.json", "--losses", "words.jsonl"), "it is a number, or null"),
        (("--state", "s.json", "--losses", "short.jsonl"), "has the shape [2], and [3] is expected"),
        (("--state", "s.json", "--export", "megatron"), "megatron needs to know where"),
        (("--state", "s.json", "--given", "log.jsonl", "--init", "group_dro"), "s.json is there already"),
    ],
)
def test_bad_input(run, arguments, message):
    run(*BEGIN)
    log({"losses": {"web": 1.5, "cod": 0.5}}, name="unknown.jsonl")
    log({"losses": {"web": "high"}}, name="words.jsonl")
    log({"losses": [1.0, 2.0]}, name="short.jsonl")
    log("not JSON", name="log.jsonl")
    log("{}", name="other.json")
    done = run(*arguments)
    assert done.exit_code == Exit.INPUT, done.output
    assert message in done.output


def test_a_log_written_anew(run):
    run(*BEGIN)
    log({"losses": {"web": 1.5, "code": 0.5, "books": 2.0}})
    run("--state", "s.json", "--losses", "log.jsonl")
    Path("log.jsonl").write_text("")
    done = run("--state", "s.json", "--losses", "log.jsonl")
    assert done.exit_code == Exit.INPUT
    assert "it was written anew" in done.output
