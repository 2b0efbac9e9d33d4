"""``mixopt export``: files and words, several targets at once, JSON, and refusals with their exit code."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from mixopt.cli import app
from mixopt.cli.common import Exit
from mixopt.export import Blend, targets


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the command in an empty folder with mixture.json."""
    monkeypatch.chdir(tmp_path)
    Blend({"web": 0.7, "code": 0.3, "junk": 0.0}).save("mixture.json")
    return lambda *arguments: CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_a_mixture_is_written_for_a_trainer_and_told(run, tmp_path):
    done = run("mixture.json", "--to", "megatron", "--out", "blend/mix.txt", "--root", "/d", "--path", "code=/c1", "--path", "code=/c2")
    assert done.exit_code == Exit.DONE
    assert done.output.splitlines()[0] == "megatron: blend/mix.txt"
    assert "note: left out, since megatron is not to see a weight of 0: junk" in done.output
    lines = (tmp_path / "blend" / "mix.txt").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["/d/web", "/c1", "/c2"]
    assert [float(line.split()[0]) for line in lines] == pytest.approx([0.7, 0.15, 0.15])


def test_several_targets_share_a_folder_and_all_of_what_is_known(run, tmp_path):
    (tmp_path / "paths.yaml").write_text("web: /d/web.npy\ncode: [/d/code.npy]\njunk: /d/junk.npy\n")
    known = ["--tokens", "web=1e9", "--tokens", "code=1e8", "--tokens-per-example", "web=500", "--tokens-per-example", "code=1000"]
    names = ["olmo-core", "hf", "mosaic"]
    to = [part for name in names for part in ("--to", name)]
    done = run(
        "mixture.json", *to, "--out", "out", "--paths", "paths.yaml", *known, "--budget", "1e9", "--seed", "4", "--digits", "3", "--json"
    )
    assert done.exit_code == Exit.DONE
    answers = json.loads(done.stdout)["exports"]
    assert [a["target"] for a in answers] == names
    assert answers[0]["weights"] == {"web": 0.7, "code": 0.3}
    assert answers[1]["weights"] == {"web": 0.824, "code": 0.176}
    assert answers[0]["epochs"] == pytest.approx({"web": 0.7, "code": 3.0})
    assert [answer["files"] for answer in answers] == [["out/olmo-core.yaml"], ["out/hf.json"], ["out/mosaic.yaml"]]
    assert json.loads((tmp_path / "out" / "hf.json").read_text())["arguments"]["seed"] == 4
    assert yaml.safe_load((tmp_path / "out" / "olmo-core.yaml").read_text())["sources"][1]["max_repetition_ratio"] == 3.0


def test_a_floor_equal_lengths_and_splits_reach_the_files(run, tmp_path):
    options = ["--floor", "0.1", "--equal-lengths", "--validation", "/v", "--test", "/t"]
    done = run("mixture.json", "--to", "megatron", "--to", "litdata", "--root", "/d", "--out", ".", *options)
    assert done.exit_code == Exit.DONE
    splits = json.loads((tmp_path / "megatron.json").read_text())
    assert (splits["valid"], splits["test"]) == (["/v"], ["/t"])
    weights = json.loads((tmp_path / "litdata.json").read_text())["arguments"]["weights"]
    assert weights == pytest.approx([0.63, 0.27, 0.1])


def test_stages_take_the_tokens_of_a_step(run, tmp_path):
    content = {"weights": {"a": 1.0}, "stages": [{"start": 5e8, "weights": {"a": 1.0}}], "budget": 1e9}
    (tmp_path / "staged.json").write_text(json.dumps(content))
    done = run("staged.json", "--to", "nanotron", "--root", "/d", "--step-tokens", "1e6")
    assert done.exit_code == Exit.DONE
    stages = yaml.safe_load((tmp_path / "nanotron.yaml").read_text())["data_stages"]
    assert [s["start_training_step"] for s in stages] == [1, 501]


def test_the_list_names_every_target(run):
    assert [line.split()[0] for line in run("--list").stdout.splitlines()[1:]] == [t.name for t in targets()]
    listed = json.loads(run("--list", "--json").stdout)["targets"]
    assert [t["name"] for t in listed] == [t.name for t in targets()]
    assert all(t["reference"] and t["use"] and t["files"] for t in listed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a file with weights and a target"),
        (["mixture.json"], "give a file with weights and a target"),
        (["none.json", "--to", "json"], "none.json cannot be read"),
        (["mixture.json", "--to", "megatorn"], "did you mean 'megatron'?"),
        (["mixture.json", "--to", "megatron"], "megatron needs to know where (web, code) lie"),
        (["mixture.json", "--to", "megatron", "--root", "/d", "--out", "m.yaml"], "ends in .txt or .json, not in .yaml"),
        (["mixture.json", "--to", "megatron", "--path", "wab=/d"], "did you mean 'web'?"),
        (["mixture.json", "--to", "megatron", "--path", "/d/web"], "--path '/d/web': write name=path"),
        (["mixture.json", "--to", "hf", "--tokens-per-example", "web=long"], "--tokens-per-example web: 'long' is not a number"),
        (["mixture.json", "--to", "json", "--to", "yaml", "--out", "m.json"], "2 targets cannot share the file m.json"),
        (["mixture.json", "--to", "json", "--to", "hf", "--out", "m"], "--equal-lengths"),
    ],
)
def test_refusals_come_before_anything_is_written(run, tmp_path, arguments, words):
    done = run(*arguments)
    assert done.exit_code == Exit.INPUT
    assert words in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mixture.json"]


def test_weights_that_are_only_ratios_are_normalised_when_asked(run, tmp_path):
    (tmp_path / "m.csv").write_text("web,3\ncode,1\n")
    assert "--normalise" in run("m.csv", "--to", "json").stderr
    assert run("m.csv", "--to", "json", "--normalise").exit_code == Exit.DONE
    assert Blend.load(tmp_path / "json.json").weights == {"web": 0.75, "code": 0.25}
