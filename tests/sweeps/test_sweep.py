"""Sweeps: every executor gives one table; a journal keeps what is finished, and does what is missing; bad input is told before work."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, LearnerError
from mixopt.runtime.ensemble import Ensemble as Trained
from mixopt.runtime.ensemble import train
from mixopt.runtime.recipe import Recipe
from mixopt.runtime.streams import Streams
from mixopt.sweeps import Ensemble, Halving, Journal, Processes, Progress, Sequential, by_ray, predicted
from mixopt.sweeps.corpus import corpus
from mixopt.sweeps.job import Job
from mixopt.sweeps.work import Work

sys.path.insert(0, str(Path(__file__).parent))
import models

TRAIN = {"up": np.arange(200) % 8, "down": -np.arange(150) % 8}
HELD = {"up": np.arange(80) % 8, "down": -np.arange(90) % 8, "both": np.concatenate([np.arange(40) % 8, -np.arange(41) % 8])}
MIXTURES = [[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.9, 0.1], [0.4, 0.6]]
RECIPE = Recipe(steps=6, batch=4)
SETTINGS = {"targets": HELD, "context": models.CONTEXT, "recipe": RECIPE, "windows": 4}


@pytest.fixture(scope="module")
def table() -> mx.Runs:
    return mx.sweep(TRAIN, models.tiny, MIXTURES, executor="sequential", **SETTINGS)


def same(some: mx.Runs, other: mx.Runs, tolerance: float = 1e-6) -> None:
    assert some.ids == other.ids
    np.testing.assert_allclose(some.metrics, other.metrics, atol=tolerance)
    for name in ("mixtures", "params", "tokens", "steps", "seeds"):
        assert (getattr(some, name) == getattr(other, name)).all()


def test_the_table_is_what_training_and_measuring_by_hand_gives(table):
    streams = Streams(TRAIN, models.CONTEXT)
    trained = train(models.tiny, MIXTURES, streams, RECIPE, seeds=range(5), data_seed=range(5))
    assert isinstance(trained, Trained)
    held = Streams(HELD, models.CONTEXT).fixed(4)
    np.testing.assert_allclose(table.metrics, trained.losses(held).numpy(), atol=1e-6)
    assert table.targets.names == ("up", "down", "both")
    assert (table.tokens == 6 * 4 * models.CONTEXT).all()
    assert (table.steps == 6).all()


@pytest.mark.parametrize("executor", [Ensemble(), Ensemble(together=2), "ensemble"], ids=str)
def test_every_executor_gives_the_same_table(table, executor):
    same(mx.sweep(TRAIN, models.tiny, MIXTURES, executor=executor, **SETTINGS), table)


def test_a_local_ray_cluster_gives_the_same_table(table):
    pytest.importorskip("ray")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import numpy as np, mixopt as mx, models, test_sweep as t\n"
        "from mixopt.sweeps import Ray\n"
        "found = mx.sweep(t.TRAIN, models.tiny, t.MIXTURES, executor=Ray(together=3), **t.SETTINGS)\n"
        "print(' '.join(x.hex() for x in found.metrics.ravel().tolist()))\n"
    )
    paths = [str(Path(__file__).parent), str(Path(mx.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )
    assert told.returncode == 0, told.stderr
    lines = [line for line in told.stdout.splitlines() if line.startswith(("0x", "-0x"))]
    (line,) = lines
    found = np.array([float.fromhex(x) for x in line.split()]).reshape(table.metrics.shape)
    np.testing.assert_allclose(found, table.metrics, atol=1e-6)
    work = Work(corpus(TRAIN, HELD, models.CONTEXT, 4), {"model": models.tiny})
    (alone,) = by_ray._task(work, [Job("1", tuple(MIXTURES[1]), "model", 1, 1, RECIPE)], ["key"], "cpu", together=False)
    np.testing.assert_allclose(alone.losses, table.metrics[1], atol=1e-6)


def test_rates_of_their_own_are_those_of_runs_alone():
    rates = [1e-2, 3e-3, 1e-3, 2e-2, 5e-3]
    together = mx.sweep(TRAIN, models.tiny, MIXTURES, rates=rates, **SETTINGS)
    alone = mx.sweep(TRAIN, models.tiny, MIXTURES, rates=rates, executor="sequential", **SETTINGS)
    same(together, alone)
    each = train(models.tiny, MIXTURES[1:2], Streams(TRAIN, models.CONTEXT), Recipe(steps=6, batch=4, rate=3e-3), seeds=[1], data_seed=[1])
    held = Streams(HELD, models.CONTEXT).fixed(4)
    np.testing.assert_allclose(together.metrics[1], each.losses(held).numpy()[0], atol=1e-6)


def test_several_sizes_and_lengths_have_rows_of_their_own():
    runs = mx.sweep(
        TRAIN, {"tiny": models.tiny, "wide": models.wide}, MIXTURES[:2], tokens=[48, 96], batch=4, targets=HELD, context=6, windows=4
    )
    assert runs.ids[:2] == ("0/tiny/48", "0/tiny/96")
    assert len(runs) == 8
    assert len(set(runs.params.tolist())) == 2
    assert set(runs.tokens.tolist()) == {48.0, 96.0}
    again = mx.sweep(TRAIN, models.wide, MIXTURES[:2], tokens=96, batch=4, targets=HELD, context=6, windows=4, executor="sequential")
    np.testing.assert_allclose(runs.metrics[[3, 7]], again.metrics, atol=1e-6)


def test_a_design_sets_lengths_and_replicates():
    domains = mx.Domains(TRAIN)
    design = mx.design(domains, runs=6, seed=3)
    runs = mx.sweep(TRAIN, models.tiny, design, tokens=48, batch=4, targets=HELD, context=6, windows=2)
    assert runs.ids == design.ids
    assert (runs.seeds == design.seeds).all()
    np.testing.assert_allclose(runs.mixtures, design.mixtures, atol=1e-12)


def test_proxies_repeat_what_the_target_will_repeat():
    rows = {name: np.tile(row, 60) for name, row in TRAIN.items()}
    settings = {**SETTINGS, "recipe": None, "batch": 4}
    cut = mx.sweep(rows, models.tiny, MIXTURES[:2], tokens=480, target_tokens=9600, **settings)
    part = mx.designs.subsample(rows, mx.designs.simulated(mx.Domains(rows, [12000, 9000]), 480, 9600))
    assert {name: len(row) for name, row in part.items()} == {"up": 600, "down": 450}
    same(cut, mx.sweep(part, models.tiny, MIXTURES[:2], tokens=480, **settings))
    with pytest.raises(InputError, match="takes one number of tokens"):
        mx.sweep(rows, models.tiny, MIXTURES[:2], tokens=[480, 960], target_tokens=9600, **settings)
    with pytest.raises(InputError, match="Streams are as they are"):
        mx.sweep(Streams(rows, 6), models.tiny, MIXTURES[:2], tokens=480, target_tokens=9600, **settings)


def test_what_is_finished_is_kept_and_only_what_is_missing_is_trained(table, tmp_path):
    store, told = tmp_path / "runs.sqlite", []
    first = mx.sweep(TRAIN, models.tiny, MIXTURES[:2], resume=store, log=told.append, **SETTINGS)
    assert [record["run"] for record in told] == ["0", "1"]
    assert set(told[0]["losses"]) == set(HELD)
    assert told[0]["mixture"] == {"up": 0.5, "down": 0.5}
    seen: list[Progress] = []
    second = mx.sweep(TRAIN, models.tiny, MIXTURES, resume=store, log=told.append, watch=seen.append, **SETTINGS)
    assert [record["run"] for record in told] == ["0", "1", "2", "3", "4"]
    same(second, table)
    assert (second.metrics[:2] == first.metrics).all()
    assert seen[-1].done == 5
    assert seen[0].found == 2
    assert "5 of 5 runs" in str(seen[-1])
    third = mx.sweep(TRAIN, models.tiny, MIXTURES, resume=store, log=told.append, **SETTINGS)
    assert len(told) == 5
    assert (third.metrics == second.metrics).all()


def test_a_run_is_its_mixture_seed_model_and_recipe(tmp_path):
    store = tmp_path / "runs.sqlite"
    told: list[object] = []
    mx.sweep(TRAIN, models.tiny, MIXTURES[:1], resume=store, log=told.append, **SETTINGS)
    mx.sweep(TRAIN, models.tiny, MIXTURES[:1], resume=store, log=told.append, **{**SETTINGS, "recipe": Recipe(steps=7, batch=4)})
    mx.sweep(TRAIN, models.tiny, MIXTURES[:1], resume=store, log=told.append, seed=4, **SETTINGS)
    mx.sweep(TRAIN, models.wide, MIXTURES[:1], resume=store, log=told.append, **SETTINGS)
    assert len(told) == 4


def test_a_journal_of_another_corpus_is_refused(tmp_path):
    store = tmp_path / "runs.sqlite"
    mx.sweep(TRAIN, models.tiny, MIXTURES[:1], resume=store, **SETTINGS)
    other = {**TRAIN, "up": (np.arange(200) + 1) % 8}
    with pytest.raises(InputError, match="another sweep: its corpus"):
        mx.sweep(other, models.tiny, MIXTURES[:1], resume=store, **SETTINGS)
    (tmp_path / "text").write_text("no journal at all, but some text that is long enough to be looked at" * 30, encoding="utf-8")
    with pytest.raises(InputError, match="no journal of a sweep"):
        mx.sweep(TRAIN, models.tiny, MIXTURES[:1], resume=tmp_path / "text", **SETTINGS)


def test_a_journal_whose_end_is_lost_is_read_as_far_as_it_goes(table, tmp_path):
    store = tmp_path / "runs.sqlite"
    many = [[a, 1 - a] for a in np.linspace(0, 1, 40)]
    settings = {**SETTINGS, "recipe": Recipe(steps=1, batch=2), "windows": 1, "executor": Ensemble(together=40)}
    whole = mx.sweep(TRAIN, models.tiny, many, resume=store, **settings)
    content = store.read_bytes()
    store.write_bytes(content[: int(len(content) * 0.7) // 4096 * 4096])
    told: list[object] = []
    with pytest.warns(UserWarning, match="was damaged; \\d+ finished runs could be read"):
        again = mx.sweep(TRAIN, models.tiny, many, resume=store, log=told.append, **settings)
    assert 0 < len(told) < 40
    same(again, whole)
    assert store.with_name("runs.sqlite.damaged").exists()
    store.write_bytes(content[:100])
    with pytest.raises(InputError, match=r"damaged|no journal"):
        mx.sweep(TRAIN, models.tiny, many, resume=store, **settings)


def test_two_sweeps_share_a_journal(tmp_path):
    identity = {"corpus": "x"}
    one, two = Journal(tmp_path / "j", identity), Journal(tmp_path / "j", identity)
    two.owner = f"elsewhere:{os.getpid()}:0"
    assert one.take(["a", "b", "c"], 2) == ["a", "b"]
    assert two.take(["a", "b", "c"], 3) == ["c"]
    one.let_go()
    assert two.take(["a", "b", "c"], 3) == ["a", "b"]
    with closing(sqlite3.connect(tmp_path / "j")) as db, db:
        db.execute("update held set beat = 0 where key = 'a'")
    assert one.take(["a", "b", "c"], 3) == ["a"]  # no sign of life for too long
    with closing(sqlite3.connect(tmp_path / "j")) as db, db:
        db.execute("update held set owner = ? where key = 'b'", (one.owner.split(":")[0] + ":999999999:0:0",))
    assert one.take(["b"], 1) == ["b"]  # its process is gone


def test_a_worker_that_dies_loses_nothing(table, tmp_path, monkeypatch):
    monkeypatch.setenv("MIXOPT_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("MIXOPT_TEST_PID", str(os.getpid()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    told: list[dict[str, object]] = []
    found = mx.sweep(TRAIN, models.dies_once, MIXTURES, executor=Processes(workers=2), log=told.append, **SETTINGS)
    assert (tmp_path / "mark").exists()
    same(found, table)
    assert sorted(str(record["run"]) for record in told) == ["0", "1", "2", "3", "4"]


def test_an_interrupted_sweep_returns_what_is_finished(tmp_path, table):
    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    store = tmp_path / "runs.sqlite"
    with pytest.warns(UserWarning, match="interrupted: 2 of 5 runs"):
        part = mx.sweep(TRAIN, models.tiny, MIXTURES, executor="sequential", resume=store, watch=stop, **SETTINGS)
    assert len(part) == 2
    same(mx.sweep(TRAIN, models.tiny, MIXTURES, executor="sequential", resume=store, **SETTINGS), table)


KILLED = """
import sys
sys.path.insert(0, {here!r})
import mixopt as mx, models, test_sweep as t
t.sweep_of_forty_steps({store!r}, lambda progress: (print(progress.done, flush=True), sys.stdin.readline()))
"""


def sweep_of_forty_steps(store: object, watch: object = None) -> mx.Runs:
    settings = {**SETTINGS, "recipe": Recipe(steps=40, batch=4)}
    return mx.sweep(TRAIN, models.tiny, MIXTURES, resume=store, executor="sequential", watch=watch, **settings)  # type: ignore[arg-type]


def test_a_sweep_that_is_killed_goes_on(tmp_path):
    store, rng = tmp_path / "runs.sqlite", np.random.default_rng(0)
    code = KILLED.format(here=str(Path(__file__).parent), store=str(store))
    paths = [str(Path(mx.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    for _ in range(2):  # after a word of progress, within the first runs: five words a run
        with subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(int(rng.integers(2, 12))):
                assert process.stdout.readline()
                process.stdin.write("\n")
                process.stdin.flush()
            process.kill()
    with closing(sqlite3.connect(store)) as db, db:
        assert 0 < db.execute("select count(*) from runs").fetchone()[0] < 5
    found = sweep_of_forty_steps(store)
    assert (found.metrics == sweep_of_forty_steps(None).metrics).all()
    with closing(sqlite3.connect(store)) as db, db:
        assert db.execute("select count(*) from runs").fetchone() == (5,)


def test_halving_stops_the_runs_that_look_worst(tmp_path):
    many = [[a, 1 - a] for a in np.linspace(0, 1, 8)]
    settings = {**SETTINGS, "recipe": Recipe(steps=12, batch=4)}
    whole = mx.sweep(TRAIN, models.tiny, many, **settings)
    halving = Halving(at=(0.25, 0.5), weights={"up": 1.0}, together=3)
    found = mx.sweep(TRAIN, models.tiny, many, executor=halving, resume=tmp_path / "j", **settings)
    assert len(found) == 2
    places = [whole.ids.index(i) for i in found.ids]
    np.testing.assert_allclose(found.metrics, whole.metrics[places], atol=1e-6)
    assert whole.metrics[places, 0].max() <= np.median(whole.metrics[:, 0])
    journal = tmp_path / "j"
    with closing(sqlite3.connect(journal)) as db, db:
        db.execute("delete from runs where rowid % 3 = 0")  # as if it had been killed while it wrote
    again = mx.sweep(TRAIN, models.tiny, many, executor=halving, resume=journal, **settings)
    assert again.ids == found.ids
    with pytest.raises(InputError, match="halving weighs 'upp'"):
        mx.sweep(TRAIN, models.tiny, many, executor=Halving(weights={"upp": 1.0}), **settings)


def test_final_losses_are_predicted_from_curves_that_are_powers():
    steps, rng = np.array([10, 20, 40, 80]), np.random.default_rng(1)
    level, slope = rng.uniform(1, 2, (5, 2)), rng.uniform(0, 3, (5, 2))
    curves = [[(int(s), (level[r] + slope[r] * s**-0.55).tolist()) for s in steps] for r in range(5)]
    np.testing.assert_allclose(predicted(curves, 1000), level + slope * 1000.0**-0.55, atol=1e-9)
    assert (predicted([c[:2] for c in curves], 1000) == [c[1][1] for c in curves]).all()


def test_curves_are_kept(tmp_path):
    mx.sweep(TRAIN, models.tiny, MIXTURES[:2], resume=tmp_path / "j", curve=2, **SETTINGS)
    journal = Journal(tmp_path / "j")
    curves = [one.curve for one in journal.finished().values()]
    assert [[step for step, _ in curve] for curve in curves] == [[2, 4, 6]] * 2
    assert all(len(losses) == 3 for curve in curves for _, losses in curve)


def test_dropout_and_running_statistics_are_for_runs_alone():
    for factory, what in ((models.normed, "running statistics"), (models.dropping, "drop units at random")):
        with pytest.raises(InputError, match=f"{what}.*executor='sequential'"):
            mx.sweep(TRAIN, factory, MIXTURES[:2], **SETTINGS)
        one = mx.sweep(TRAIN, factory, MIXTURES[:2], executor="sequential", **SETTINGS)
        two = mx.sweep(TRAIN, factory, MIXTURES[:2], executor="sequential", **SETTINGS)
        assert (one.metrics == two.metrics).all()
        assert np.isfinite(one.metrics).all()


def test_bfloat16_trains_near_float32(table):
    found = mx.sweep(TRAIN, models.tiny, MIXTURES, **{**SETTINGS, "recipe": Recipe(steps=6, batch=4, precision="bfloat16")})
    assert not (found.metrics == table.metrics).all()
    np.testing.assert_allclose(found.metrics, table.metrics, atol=0.05)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"executor": "ensembel"}, "did you mean 'ensemble'"),
        ({"targets": None}, "give targets="),
        ({"context": None}, "give context="),
        ({"recipe": None}, "say how long a run is"),
        ({"recipe": None, "tokens": 3}, "shorter than one step"),
        ({"rates": [0.1]}, "1 rates for 5 runs"),
        ({"windows": 0}, "whole number >= 1"),
        ({"curve": [0.5, 1.5]}, "each is in \\(0, 1\\]"),
        ({"executor": Ensemble}, "no executor"),
    ],
)
def test_bad_input_is_told_before_work(change, told):
    with pytest.raises(InputError, match=told):
        mx.sweep(TRAIN, models.tiny, MIXTURES, **{**SETTINGS, **change})


def test_what_does_not_fit_together_is_told():
    with pytest.raises(InputError, match="in one order"):
        mx.sweep(TRAIN, models.tiny, mx.design(mx.Domains(["down", "up"]), runs=3), **SETTINGS)
    with pytest.raises(InputError, match="models differ"):
        mx.sweep(TRAIN, models.unlike, MIXTURES, **SETTINGS)
    with pytest.raises(InputError, match="cannot be sent to another process"):
        mx.sweep(TRAIN, lambda seed: models.tiny(seed), MIXTURES, executor="processes", **SETTINGS)
    with pytest.raises(InputError, match="has logits for"):
        mx.sweep({n: v + 4 for n, v in TRAIN.items()}, models.tiny, MIXTURES, **SETTINGS)
    with pytest.raises(LearnerError, match="run 0 is NaN or infinite"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, **{**SETTINGS, "recipe": Recipe(steps=6, batch=4, rate=1e30, clip=1e30)})
    with pytest.raises(InputError, match="cannot be"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, resume="/proc/none/j", **SETTINGS)
    for bad in (lambda: Ensemble(together=0), lambda: Processes(workers=0), lambda: Halving(keep=1.0), lambda: Halving(at=(0.5, 0.2))):
        with pytest.raises(InputError):
            bad()
    assert Sequential().device is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_ensemble_on_a_gpu_gives_the_table_of_the_cpu(table):
    torch.backends.cuda.matmul.allow_tf32 = False
    same(mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Ensemble(device="cuda"), **SETTINGS), table, 1e-4)
