"""``mixopt solve`` and ``mixopt compare`` on files of the user's: contract, answers, exit codes, and errors told by line."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from mixopt.cli import app

FILE = """\
import mixopt as mx
from numbers_of_mine import CAP

domains = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
w, theta = mx.Mixture(domains), mx.model()
problem = mx.minimize(mx.kl(w, domains.natural), over=w, subject_to=[(w["web"] <= CAP).named("web cap")])
greedy = mx.minimize(w["web"], over=w, subject_to=[(w["web"] >= 0.7).named("floor"), (w["web"] <= 0.6).named("cap")])
follow = mx.minimize(mx.sum_squares(w - mx.parameter("wanted", 3)), over=w)
trained = mx.argmin(w @ mx.losses(theta, domains), over=theta)
bilevel = mx.minimize(mx.mean(mx.losses(trained, domains, name="val")), over=w)
given = {"wanted": [0.2, 0.3, 0.5], "reference": [0, 0, 0]}
method = mx.Method(problem, mx.solvers.Projected(), "walk")


def learner(seed):
    import torch

    torch.manual_seed(seed)
    best = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    goal = torch.tensor([0.8, 0.1], dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    losses = {"train": lambda p: ((p - best) ** 2).sum(1) / 2, "val": lambda p: ((p - goal) ** 2).sum() * ones}
    return mx.FunctionLearner(torch.randn(2, dtype=torch.float64), losses=losses)


def both():
    return bilevel, learner(0)


def needs(something):
    return problem


def vector():
    return mx.minimize(w, over=w)


def divided():
    return 1 / 0


def falls():
    import torch

    def losses(p):
        raise RuntimeError("no such file")

    return bilevel, mx.FunctionLearner(torch.zeros(2), losses={"train": losses, "val": losses})


def stopped():
    import torch

    calls = []

    def losses(p):
        calls.append(p)
        if len(calls) > 40:
            raise KeyboardInterrupt
        return ((p - torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5]])) ** 2).sum(1)

    return bilevel, mx.FunctionLearner(torch.zeros(2), losses={"train": (losses, domains), "val": (losses, domains)})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    (tmp_path / "numbers_of_mine.py").write_text("CAP = 0.5\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path
    for name in ("own_mine", "numbers_of_mine", "mine"):
        sys.modules.pop(name, None)


def run(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "100", "TERM": "dumb"})


@pytest.mark.parametrize("reference", ["mine.py", "mine.py:problem", "mine:problem", "./mine.py:method"])
def test_a_program_is_solved_from_its_file(folder, reference):
    found = run("solve", reference, "--json")
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert answer["status"] == "OPTIMAL"
    assert answer["weights"] == pytest.approx({"web": 0.5, "code": 0.375, "books": 0.125}, abs=1e-5)
    assert answer["duals"]["web cap"] == pytest.approx(1.386, abs=1e-3)
    assert answer["check"]["gap"] < 1e-4
    assert answer["solver"] == ("Projected()" if "method" in reference else "Conic()")


def test_the_words_are_those_of_the_result(folder):
    found = run("solve", "mine.py", "--solver", "Projected(geometry='entropic')")
    assert found.stdout.startswith("Projected(geometry='entropic'): OPTIMAL")
    assert "  code   0.3750\n" in found.stdout


@pytest.mark.parametrize("name", ["bilevel", "both"])
def test_a_learner_comes_from_the_pair_or_from_the_file(folder, name):
    answer = json.loads(run("solve", f"mine.py:{name}", "--json").stdout)
    assert answer["weights"] == pytest.approx({"web": 0.5, "code": 0.3, "books": 0.2}, abs=1e-4)
    assert answer["cost"]["gradients"] > 0


def test_given_numbers_come_from_the_file_as_far_as_they_are_asked_for(folder):
    answer = json.loads(run("solve", "mine.py:follow", "--json").stdout)
    assert list(answer["weights"].values()) == pytest.approx([0.2, 0.3, 0.5], abs=1e-5)


def test_a_plan_solves_nothing(folder):
    found = run("solve", "mine.py:bilevel", "--plan")
    assert found.exit_code == 0
    assert "Conic refuses: it takes programs, and this is a bilevel problem" in found.stdout
    choice = json.loads(run("solve", "mine.py:bilevel", "--plan", "--json").stdout)
    assert (choice["form"], choice["solver"], choice["also"]) == ("Bilevel", "Implicit()", ["Unrolled", "ValueFunction"])


def test_a_budget_ends_the_run_and_the_start_goes_on(folder):
    first = run("solve", "mine.py:bilevel", "--steps", "1", "--save", "first.json", "--json", "--seed", "3")
    assert first.exit_code == 0
    assert json.loads(first.stdout)["status"] == "BUDGET"
    again = run("solve", "mine.py:bilevel", "--start", "first.json", "--json")
    assert json.loads(again.stdout)["status"] == "STATIONARY"
    other = run("solve", "mine.py", "--start", "first.json")
    assert other.exit_code == 2
    assert other.stderr.startswith("mixopt: first.json is a checkpoint of another problem")  # no line of the file is blamed


def test_no_weights_is_exit_1_and_saves_nothing(folder):
    found = run("solve", "mine.py:greedy", "--json", "--save", "none.json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["weights"] is None
    assert not (folder / "none.json").exists()


def test_an_interruption_prints_what_there_is_and_is_exit_130(folder):
    found = run("solve", "mine.py:stopped", "--json")
    assert found.exit_code == 130
    answer = json.loads(found.stdout)
    assert answer["status"] == "INTERRUPTED"
    assert sum(answer["weights"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("mine.py:vector", "mine.py, line 35, in vector: return mx.minimize(w, over=w)\nthe objective 'w' [3]"),
        ("mine.py:divided", "mine.py, line 39, in divided: return 1 / 0\nZeroDivisionError: division by zero"),
        ("mine.py:falls", 'mine.py, line 46, in losses: raise RuntimeError("no such file")\nRuntimeError: no such file'),
        ("mine.py:needs", "mine.py: needs needs 'something'"),
        ("mine.py:domains", "domains is no problem but of type Domains"),
        ("mine.py:probem", "mine.py has no 'probem'; it has (CAP, "),
        ("mine.py:probem", "did you mean 'problem'?"),
        ("mein.py:problem", "there is no file mein.py; did you mean 'mine.py'?"),
        ("absent_module:problem", "there is no module 'absent_module'"),
        (":problem", "names no file"),
    ],
)
def test_errors_are_told_by_file_and_line(folder, reference, says):
    found = run("solve", reference)
    assert found.exit_code == 2, found.output
    assert says in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import mixopt\nproblem = (\n", "bad.py, line 2: problem = (\nSyntaxError: '(' was never closed"),
        ("import absent_module\n", "bad.py, line 1, in <module>: import absent_module\nModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "bad.py, line 2, in <module>: sys.exit(3)\nSystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(folder, text, says):
    (folder / "bad.py").write_text(text, encoding="utf-8")
    found = run("solve", "bad.py")
    sys.modules.pop("own_bad", None)
    assert found.exit_code == 2
    assert says in found.stderr


def test_a_solver_that_refuses_or_is_unknown_is_told_before_anything_runs(folder):
    refused = run("solve", "mine.py:bilevel", "--solver", "Conic")
    assert refused.exit_code == 2
    assert "Implicit() or Unrolled() or ValueFunction() would take it" in refused.stderr
    assert "did you mean 'Conic'" in run("solve", "mine.py", "--solver", "Konic").stderr


def test_a_comparison_has_a_row_for_each_solver_and_seed(folder):
    found = run("compare", "mine.py:bilevel", "--solver", "Implicit", "--solver", "Unrolled(steps=8)", "--seeds", "2", "--json")
    assert found.exit_code == 0, found.output
    runs = json.loads(found.stdout)["runs"]
    assert [(r["solver"], r["seed"]) for r in runs] == [(s, n) for s in ("Implicit()", "Unrolled(steps=8)") for n in (0, 1)]
    implicit = [r["weights"]["web"] for r in runs[:2]]
    unrolled = [r["weights"]["web"] for r in runs[2:]]
    assert implicit[0] == pytest.approx(implicit[1], abs=1e-6)
    assert abs(unrolled[0] - unrolled[1]) > 1e-3  # the seeds reach the learner


def test_a_comparison_takes_all_solvers_that_do_and_is_saved(folder):
    found = run("compare", "mine.py", "--save", "table.json", "--quiet")
    assert found.exit_code == 0
    assert found.stdout.splitlines()[0].split()[:3] == ["solver", "seed", "status"]
    assert [r["solver"] for r in json.loads((folder / "table.json").read_text())["runs"]] == ["Conic()", "Projected()"]


def test_a_comparison_keeps_refusals_and_is_unsolved_where_all_refuse(folder):
    found = run("compare", "mine.py", "--solver", "Implicit", "--json")
    assert found.exit_code == 1
    assert "it takes bilevel problems" in json.loads(found.stdout)["runs"][0]["refusal"]


def test_an_interrupted_comparison_is_exit_130(folder):
    found = run("compare", "mine.py:stopped", "--solver", "Implicit", "--solver", "Unrolled", "--json")
    assert found.exit_code == 130
    assert len(json.loads(found.stdout)["runs"]) == 1
