"""Tables from a journal: runs, the points of their curves, the layouts of others, and the laws that are fitted to each."""

from __future__ import annotations

import sqlite3
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import mixopt as mx
from mixopt.errors import InputError
from mixopt.runtime.recipe import Recipe
from mixopt.sweeps import Halving, Journal, collect, journal
from mixopt.sweeps.job import Finished, Job

sys.path.insert(0, str(Path(__file__).parent))
import models

TRAIN = {"up": np.arange(200) % 8, "down": -np.arange(150) % 8}
HELD = {"up": np.arange(80) % 8, "down": -np.arange(90) % 8}
MIXTURES = [[a, 1 - a] for a in (0.1, 0.3, 0.5, 0.7, 0.9)]
SETTINGS = {"targets": HELD, "context": models.CONTEXT, "windows": 2}


def test_a_journal_is_the_table_of_its_sweep_and_of_all_that_share_it(tmp_path):
    settings = {**SETTINGS, "recipe": Recipe(steps=8, batch=2), "resume": tmp_path / "j"}
    first = mx.sweep(TRAIN, models.tiny, MIXTURES, **settings)
    found = collect(tmp_path / "j")
    assert (found.ids, found.domains.names, found.targets.names) == (first.ids, first.domains.names, first.targets.names)
    for name in ("mixtures", "metrics", "params", "tokens", "steps", "seeds"):
        assert (getattr(found, name) == getattr(first, name)).all()
    second = mx.sweep(TRAIN, models.tiny, MIXTURES[:2], seed=7, **settings)
    mx.sweep(TRAIN, models.tiny, MIXTURES, curve=1, **settings)  # the same runs with a curve are no more rows
    both = collect(tmp_path / "j")
    assert both.ids == (*first.ids, "0~2", "1~2")
    assert (both.metrics[5:] == second.metrics).all()


def test_rows_are_in_the_order_of_names_whichever_run_finishes_first(tmp_path):
    found = Journal(tmp_path / "j", {"domains": ["up", "down"], "targets": ["up", "down"]})
    for name in ("10", "2", "9"):
        job = Job(name, (0.5, 0.5), "model", 0, int(name), Recipe(steps=8, batch=2))
        found.add(job, Finished(job.key("digest"), (float(name), 1.0), ((8, (float(name), 1.0)),), 8, 64, 5, 0.1))
    for curves, ids in ((False, ("2", "9", "10")), (True, ("2@8", "9@8", "10@8"))):
        table = collect(tmp_path / "j", curves=curves)
        assert (table.ids, table.metrics[:, 0].tolist()) == (ids, [2.0, 9.0, 10.0])


def test_runs_that_another_sweep_adds_meanwhile_are_no_trouble(tmp_path, monkeypatch):
    mx.sweep(TRAIN, models.tiny, MIXTURES[:2], resume=tmp_path / "j", recipe=Recipe(steps=2, batch=2), **SETTINGS)
    late = count()

    def adding(read):
        def both(self):
            found, name = read(self), f"late{next(late)}"
            self.add(Job(name, (0.5, 0.5), "model", 0, 0, Recipe(1, 2)), Finished(name, (1.0, 1.0), ((1, (1.0, 1.0)),), 1, 12, 9, 0.0))
            return found

        return both

    for name in ("told", "jobs", "finished"):
        monkeypatch.setattr(Journal, name, adding(getattr(Journal, name)))
    assert {"0", "1"} <= {*collect(tmp_path / "j").ids} <= {"0", "1", "late0", "late1", "late2"}


def test_points_of_curves_are_rows_that_laws_in_steps_and_tokens_are_fitted_to(tmp_path):
    settings = {**SETTINGS, "recipe": Recipe(steps=40, batch=4), "resume": tmp_path / "j"}
    runs = mx.sweep(TRAIN, models.tiny, MIXTURES, curve=7, **settings)
    points = collect(tmp_path / "j", curves=True)
    assert points.ids[:8] == tuple(f"0@{step}" for step in (5, 10, 15, 20, 25, 30, 35, 40))
    assert (points.metrics[7::8] == runs.metrics).all()
    assert (points.tokens == points.steps * 4 * models.CONTEXT).all()
    law = mx.laws.BiMix.fit(points)
    assert "steps" in law.requires
    predicted = law.predict(runs.mixtures, steps=np.full(5, 40.0))
    assert min(np.corrcoef(predicted[:, j], runs.metrics[:, j])[0, 1] for j in range(2)) > 0.9
    one = points.subset([i.startswith("2@") for i in points.ids])
    ado = mx.laws.ADO.fit(one)
    fitted = ado.predict(one.mixtures, tokens=one.tokens)
    assert min(np.corrcoef(fitted[:, j], one.metrics[:, j])[0, 1] for j in range(2)) > 0.9


def test_sizes_and_lengths_are_fitted_by_joint_laws(tmp_path):
    grid = mx.sweep(TRAIN, {"tiny": models.tiny, "wide": models.wide}, MIXTURES, tokens=[96, 240, 480], batch=4, **SETTINGS)
    assert len(grid) == 30
    for law in (mx.laws.AppleAdditive, mx.laws.DCPT):
        fitted = law.fit(grid)
        assert np.isfinite(fitted.predict(grid.mixtures, params=grid.params, tokens=grid.tokens)).all()


def test_runs_that_were_stopped_early_have_points_and_no_row(tmp_path):
    settings = {**SETTINGS, "recipe": Recipe(steps=8, batch=2), "resume": tmp_path / "j"}
    mx.sweep(TRAIN, models.tiny, MIXTURES[:4], executor=Halving(at=(0.5,)), **settings)
    found = collect(tmp_path / "j")
    assert (len(found), found.notes) == (2, ("2 of 4 runs were stopped early, and are left out",))
    points = collect(tmp_path / "j", curves=True)
    assert sorted(points.steps.tolist()) == [4.0] * 4 + [8.0] * 2


@pytest.mark.parametrize("layout", ["regmix", "olmix"])
def test_a_table_goes_out_and_comes_back_in_the_layouts_of_others(tmp_path, layout):
    mx.sweep(TRAIN, models.tiny, MIXTURES, resume=tmp_path / "j", recipe=Recipe(steps=4, batch=2), **SETTINGS)
    runs = collect(tmp_path / "j")
    runs.to_pair(tmp_path / "mixtures.csv", tmp_path / "metrics.csv", layout)
    heads = [(tmp_path / name).read_text(encoding="utf-8").splitlines()[0] for name in ("mixtures.csv", "metrics.csv")]
    assert (
        heads
        == {
            "regmix": ["index,train_up,train_down", "index,metric/up_val_loss,metric/down_val_loss"],
            "olmix": ["run,name,index,up,down"] * 2,
        }[layout]
    )
    back = mx.Runs.from_csv(tmp_path / "mixtures.csv", tmp_path / "metrics.csv", direction=None if layout == "regmix" else "min")
    assert (back.ids, back.domains.names, back.targets.names) == (runs.ids, runs.domains.names, runs.targets.names)
    assert (back.mixtures == runs.mixtures).all()
    assert (back.metrics == runs.metrics).all()
    with pytest.raises(InputError, match="did you mean 'regmix'"):
        runs.to_pair(tmp_path / "a", tmp_path / "b", "regmixx")


def test_a_journal_that_may_not_be_written_is_read(tmp_path, monkeypatch):
    runs = mx.sweep(TRAIN, models.tiny, MIXTURES, resume=tmp_path / "j", recipe=Recipe(steps=4, batch=2), **SETTINGS)
    plain = sqlite3.connect
    monkeypatch.setattr(journal.sqlite3, "connect", lambda path, timeout=0: plain(f"file:{path}?mode=ro", uri=True))
    assert (collect(tmp_path / "j").metrics == runs.metrics).all()


def test_a_file_that_is_no_journal_is_told(tmp_path):
    with pytest.raises(InputError, match="there is no journal"):
        collect(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    Journal(tmp_path / "j", {})
    with pytest.raises(InputError, match="no run of"):
        collect(tmp_path / "j")
    (tmp_path / "text").write_text("x" * 5000, encoding="utf-8")
    with pytest.raises(InputError, match="no journal of a sweep"):
        collect(tmp_path / "text")
