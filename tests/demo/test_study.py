"""The demo as a whole, at the smallest sizes: its files, its resumption, its refusals, and how it fits the time."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mixopt.cli import app
from mixopt.demo import study
from mixopt.demo.presets import preset
from mixopt.errors import InputError
from mixopt.runs import Runs
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.study import search, verdict
from mixopt.study import study as studies
from mixopt.study.console import Screen
from mixopt.study.models import small_gpts
from mixopt.study.sizes import EPOCHS, METHODS, MOST_TOGETHER, Sizes, fitted, search_work, together

MODELS = small_gpts(8, 16)
TINY = Sizes(
    seconds=1e6,
    proxies=13,
    proxy_parameters=MODELS.proxy_parameters,
    proxy_steps=4,
    method_steps=4,
    outer_steps=2,
    audit_steps=2,
    target_parameters=MODELS.target_parameters,
    target_steps=40,
    seeds=2,
    batch=8,
    per_domain=2,
    test_windows=4,
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(study, "preset", lambda name: (TINY, MODELS))


def go(folder, **options):
    """Run the tiny demo and give back what it wrote on the screen."""
    text = io.StringIO()
    study.run(folder, quick=True, screen=Screen(Console(file=text, width=100, highlight=False)), **options)
    return text.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "preset", lambda name: (TINY, MODELS))
        return folder, go(folder)


def test_it_writes_weights_runs_table_and_pictures(finished):
    folder, said = finished
    weights = json.loads((folder / "weights.json").read_text())
    assert {"uniform", "natural", "UniMax", "law (mean)", "law (docstrings)", "DoReMi", "DoGE (mean)", "implicit (docstrings)"} <= set(
        weights
    )
    for one in weights.values():
        assert sum(one.values()) == pytest.approx(1, abs=1e-9)
        assert min(one.values()) >= 0
        assert "docstrings" not in one
    runs = Runs.from_csv(folder / "runs.csv")
    assert len(runs) == TINY.proxies
    assert runs.targets.names[-1] == "docstrings"
    table = json.loads((folder / "table.json").read_text())
    assert set(table["targets"]) == {"mean", "docstrings"}
    assert table["seeds"] == [0, 1]
    for target in table["targets"].values():
        assert {"uniform", "natural", "UniMax"} <= {line["name"] for line in target["lines"]}
        assert len(target["sentences"]) >= 4
    for picture in ("weights", "trajectories", "law", "verdict"):
        assert (folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert "vs uniform" in said


def test_no_bilevel_weight_is_shown_without_its_audit(finished):
    folder, said = finished
    for one in json.loads((folder / "search.json").read_text()):
        if one["method"] in ("DoGE", "implicit"):
            assert any("inner gradient" in line for line in one["evidence"])
            assert any("cosine" in line and "finite differences" in line for line in one["evidence"])
            assert all(line in said for line in one["evidence"])


def test_caps_hold_for_the_law_and_the_bilevel_methods(finished):
    folder, _ = finished
    table = json.loads((folder / "table.json").read_text())
    for target in table["targets"].values():
        for line in target["lines"]:
            if line["name"].startswith(("law", "DoGE", "implicit")):
                assert line["epochs"] <= EPOCHS + 1e-6


def test_a_finished_study_trains_nothing_again(finished, monkeypatch):
    folder, said = finished

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(search, "train", refuse)
    monkeypatch.setattr(verdict, "train", refuse)
    monkeypatch.setattr(search, "speed", lambda *a: 1e9)
    again = go(folder)
    assert _verdict(again) == _verdict(said)


def _verdict(said):
    return said[said.index("Target:") : said.index("\nIn ")]


def test_an_interrupted_study_keeps_what_is_finished_and_goes_on(finished, tmp_path, monkeypatch):
    whole, _ = finished
    real, calls = verdict.train, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(verdict, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    kept = sum(len(seeds) for seeds in json.loads((tmp_path / "losses.json").read_text()).values())
    assert kept == 2 * MOST_TOGETHER
    go(tmp_path)
    first, second = (json.loads((f / "table.json").read_text())["losses"] for f in (whole, tmp_path))
    assert set(first) == set(second)
    for name, seeds in first.items():
        for seed, losses in seeds.items():
            assert second[name][seed] == pytest.approx(losses, abs=2e-3)


def test_an_interrupted_method_is_not_taken_for_a_finished_one(tmp_path, monkeypatch):
    real = search.mx.solve

    def interrupted(problem, *args, **kwargs):
        def press(progress):
            raise KeyboardInterrupt

        return (
            real(problem, *args, **{**kwargs, "watch": press}) if isinstance(problem, search.mx.Method) else real(problem, *args, **kwargs)
        )

    monkeypatch.setattr(search.mx, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    kept = [(one["method"], one["target"]) for one in json.loads((tmp_path / "search.json").read_text())]
    assert kept == [("law", "mean"), ("law", "docstrings")]


def test_without_matplotlib_it_says_so_first_and_does_the_rest(finished, monkeypatch):
    folder, _ = finished
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(studies, "find_spec", lambda name: None)
    monkeypatch.setattr(search, "speed", lambda *a: 1e9)
    said = " ".join(go(folder).split())
    assert "no pictures: drawing them needs matplotlib" in said
    assert "pip install 'mixopt[plots]'" in said
    assert said.index("no pictures") < said.index("1 Proxy runs")
    assert "vs uniform" in said


def test_a_domain_that_is_lacking_is_left_out_with_a_word(tmp_path, monkeypatch):
    whole = study.corpus.load()
    parts = {part: {n: t for n, t in domains.items() if n != "codecs"} for part, domains in whole.tokens.items()}
    monkeypatch.setattr(study.corpus, "load", lambda: replace(whole, tokens=parts, missing={"codecs": "no tables here"}))
    monkeypatch.setattr(study, "carried_out", lambda *args: None)
    said = go(tmp_path)
    assert "left out     codecs: no tables here" in said
    assert "trained on   code" in said
    assert "codecs " not in said.split("left out")[0]
    bare = {part: {n: t for n, t in domains.items() if n != "docstrings"} for part, domains in whole.tokens.items()}
    monkeypatch.setattr(study.corpus, "load", lambda: replace(whole, tokens=bare, missing={"docstrings": "no source"}))
    with pytest.raises(InputError, match=r"needs docstrings.*docstrings: no source"):
        go(tmp_path / "new")


def test_another_study_is_refused_and_fresh_begins_anew(finished, tmp_path):
    folder, _ = finished
    before = (folder / "table.json").read_bytes()
    with pytest.raises(InputError, match=r"holds another study .*seed 0.*this one is.*seed 3.*--fresh"):
        go(folder, seed=3)
    assert (folder / "table.json").read_bytes() == before
    (tmp_path / "study.json").write_text("{ not json")
    with pytest.raises(InputError, match="damaged"):
        go(tmp_path)


def test_a_folder_that_cannot_be_written_is_told_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(search, "speed", lambda *a: pytest.fail("work was begun"))
    with pytest.raises(InputError, match=r"cannot be a folder: .* is a file"):
        go(tmp_path / "file" / "out")


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--device", "gpu"])
    assert result.exit_code == 2
    assert "mixopt: no device" in result.output


def test_the_command_has_a_version_and_help():
    assert CliRunner().invoke(app, ["--version"]).output.startswith("mixopt 0.")
    assert "demo" in CliRunner().invoke(app, ["--help"]).output


def test_a_method_that_is_not_asked_for_costs_nothing():
    whole = search_work(FULL, 5)
    parts = [search_work(FULL, 5, (m,)) for m in METHODS]
    assert whole == pytest.approx(sum(parts))
    assert search_work(FULL, 5, ("doge",), targets=1) == pytest.approx(parts[METHODS.index("doge")] / 2)


def test_large_models_are_trained_alone():
    assert [together(p) for p in (10**4, 10**7, 3 * 10**7, 10**9)] == [6, 6, 2, 1]


FULL, _ = preset("full")


def test_sizes_fit_the_time_and_say_what_was_dropped():
    fast, nothing = fitted(FULL, 1e12, 400, 5, 14)
    assert (fast, nothing) == (FULL, ())
    slower, dropped = fitted(FULL, 3.5e10, 400, 5, 14)
    assert slower.seeds == FULL.seeds
    assert slower.target_steps < FULL.target_steps
    assert "target models" in dropped[0]
    crawling, dropped = fitted(FULL, 5e9, 400, 5, 14)
    assert crawling.proxies < FULL.proxies
    assert "proxies" in dropped[0]
    assert crawling.seeds == FULL.seeds


@pytest.mark.parametrize("name", ["full", "quick"])
def test_targets_are_larger_and_trained_longer_than_proxies(name):
    sizes, models = preset(name)
    assert sizes.target_parameters > sizes.proxy_parameters
    assert sizes.target_steps > sizes.proxy_steps
    assert sizes.seeds >= 5
    assert sizes.proxy_parameters == parameter_count(models.proxy(1)) == parameter_count(GPT(width=32))
