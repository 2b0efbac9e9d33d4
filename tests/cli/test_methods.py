"""``mixopt list`` and ``mixopt explain``: tables that fit, JSON that parses, and the nearest name."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import pytest
from typer.testing import CliRunner

from mixopt.cli import app
from mixopt.problems import catalog


def run(*arguments: str, columns: int = 80):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": str(columns), "TERM": "dumb"})


@pytest.mark.parametrize("columns", [80, 100])
def test_the_list_has_every_method_and_fits_the_screen(columns):
    found = run("list", columns=columns)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert [card.name for card in catalog.METHODS] == [line.split()[0] for line in lines[1:] if line[:1].strip() and line[0].islower()][:-1]


def test_the_list_keeps_each_family_together():
    families = [card.family for card in catalog.METHODS]
    assert sum(a != b for a, b in pairwise(families)) + 1 == len(set(families))


def test_python_runs_the_package_as_the_command():
    told = subprocess.run([sys.executable, "-m", "mixopt", "list"], capture_output=True, text=True, timeout=120, check=True)
    assert "doremi" in told.stdout


def test_the_help_groups_the_commands_in_the_order_of_the_work():
    told = run("--help", columns=100).stdout
    groups = [told.index(f" {name} ") for name in ("To see it all", "Proxy runs and their laws", "Your own text", "Into your trainer")]
    assert groups == sorted(groups)
    assert told.index(" design ") < told.index(" fit ") < told.index(" score ")


def test_the_list_of_a_family_and_of_a_phase():
    listed = [m["name"] for m in json.loads(run("list", "--family", "min-max", "--json").stdout)["methods"]]
    assert {"doremi", "group_dro", "online_doremi", "sheared_llama", "velocitune", "mixmax"} <= set(listed)
    assert "doge" not in listed
    names = {m["name"] for m in json.loads(run("list", "--phase", "CPT", "--json").stdout)["methods"]}
    assert "exponential" in names
    assert "doremi" not in names


@pytest.mark.parametrize("card", catalog.METHODS, ids=lambda card: card.name)
def test_explain_tells_all_that_the_card_has(card):
    found = run("explain", card.name)
    assert found.exit_code == 0
    told = " ".join(found.stdout.split())
    for part in (card.cost, card.source, card.use, *card.differences, *card.formula.splitlines()):
        assert " ".join(part.split()) in told
    assert f"def {card.defined[0].rpartition(':')[2].rpartition('.')[2]}(" in found.stdout


def test_explain_as_json_is_the_card():
    assert json.loads(run("explain", "doge", "--json").stdout) == json.loads(json.dumps(catalog.find("doge").content()))


def test_an_unknown_method_ends_in_one_line():
    found = run("explain", "dorem")
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.startswith("mixopt: no method 'dorem' in (")
    assert found.stderr.endswith("did you mean 'doremi'?\n")


def test_names_complete():
    from mixopt.cli.methods import _names

    assert _names("do") == ["doremi", "doge", "dograph"]
