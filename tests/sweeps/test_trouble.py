"""Sweeps in trouble: full disks, locked files, pools that break, settings that make no sense, and models that are nearly alike."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import mixopt as mx
from mixopt.errors import InputError, LearnerError, MixoptError
from mixopt.runtime.fleet import DivergedError
from mixopt.runtime.recipe import Recipe
from mixopt.runtime.streams import Streams
from mixopt.sweeps import (
    Ensemble,
    Executor,
    Halving,
    Journal,
    Processes,
    Progress,
    Ray,
    Sequential,
    by_ray,
    executors,
    journal,
    processes,
    sweeping,
    work,
)
from mixopt.sweeps.job import Finished, Job
from mixopt.sweeps.journal import FullError
from mixopt.sweeps.progress import Watched

sys.path.insert(0, str(Path(__file__).parent))
import models

TRAIN = {"up": np.arange(200) % 8, "down": -np.arange(150) % 8}
HELD = {"up": np.arange(80) % 8, "down": -np.arange(90) % 8}
MIXTURES = [[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.9, 0.1]]
SETTINGS = {"targets": HELD, "context": models.CONTEXT, "recipe": Recipe(steps=2, batch=2), "windows": 2}
ONE = Job("0", (0.5, 0.5), "model", 0, 0, Recipe(steps=2, batch=2))


@pytest.mark.parametrize("full", [True, False], ids=["no room", "a limit on files"])
def test_a_full_disk_stops_a_sweep_and_loses_nothing(tmp_path, monkeypatch, full):
    plain, told = sqlite3.connect, []

    def small(*given, **settings):
        db = plain(*given, **settings)
        db.execute("pragma max_page_count = 7")
        return db

    settings = {**SETTINGS, "executor": Ensemble(together=8), "resume": tmp_path / "j", "log": told.append, "curve": 1}
    many = [[a, 1 - a] for a in np.linspace(0.05, 0.95, 16)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        if full:
            patch.setattr(journal.sqlite3, "connect", small)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (7 * 4096, before[1]))
        try:
            with pytest.raises(FullError, match="what finished before is kept"):
                mx.sweep(TRAIN, models.tiny, many, **settings)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 0 < len(told) < len(many)
    assert len(told) == len(Journal(tmp_path / "j").finished())
    found = mx.sweep(TRAIN, models.tiny, many, **settings)
    assert len(told) == len(found) == len(many)
    np.testing.assert_allclose(found.metrics, mx.sweep(TRAIN, models.tiny, many, executor="sequential", **SETTINGS).metrics, atol=1e-6)


def test_a_journal_that_may_not_be_written_says_so(tmp_path, monkeypatch):
    Journal(tmp_path / "j", {})
    plain = sqlite3.connect
    monkeypatch.setattr(journal.sqlite3, "connect", lambda path, timeout=0: plain(f"file:{path}?mode=ro", uri=True))
    with pytest.raises(InputError, match="may not be written"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, resume=tmp_path / "j", **SETTINGS)


def test_a_sweep_that_fails_without_a_file_tells_where_its_runs_are(monkeypatch, tmp_path):
    monkeypatch.setattr(sweeping.tempfile, "tempdir", str(tmp_path))
    rates = [1e-2, 1e30, 1e-2, 1e-2]
    settings = {**SETTINGS, "recipe": Recipe(steps=6, batch=4, clip=1e30)}
    with pytest.raises(LearnerError) as found:
        mx.sweep(TRAIN, models.tiny, MIXTURES, rates=rates, **settings)
    (place,) = tmp_path.glob("*/runs.sqlite")
    assert f"3 finished runs are in {place}; the same sweep with resume=" in found.value.__notes__[0]
    assert len(Journal(place).finished()) == 3
    mx.sweep(TRAIN, models.tiny, MIXTURES, **SETTINGS)
    for factory, what in ((lambda seed: None, "made a NoneType"), (models.tiny(0), "is a GPT; give a function"), ({}, "no factory")):
        with pytest.raises(InputError, match=what):
            mx.sweep(TRAIN, factory, MIXTURES, **SETTINGS)
    assert len(list(tmp_path.iterdir())) == 1  # sweeps that end well, or fail with nothing finished, leave nothing


def test_sweeps_with_and_without_curves_share_a_journal(tmp_path):
    settings = {**SETTINGS, "recipe": Recipe(steps=8, batch=2), "resume": tmp_path / "j"}
    told: list[object] = []
    plain = mx.sweep(TRAIN, models.tiny, MIXTURES, log=told.append, **settings)
    with_curves = mx.sweep(TRAIN, models.tiny, MIXTURES, log=told.append, curve=3, **settings)
    assert len(told) == 8  # what has no curve is trained again for one
    np.testing.assert_allclose(plain.metrics, with_curves.metrics, atol=1e-6)
    more = [*MIXTURES, [0.3, 0.7]]
    mx.sweep(TRAIN, models.tiny, more, log=told.append, curve=3, **settings)
    mx.sweep(TRAIN, models.tiny, more, log=told.append, curve=[0.25], **settings)
    mx.sweep(TRAIN, models.tiny, more, log=told.append, **settings)
    assert len(told) == 9  # a curve has what fewer points and none ask for


def test_runs_that_halving_stopped_are_trained_where_none_are_stopped(tmp_path):
    settings = {**SETTINGS, "recipe": Recipe(steps=8, batch=2), "resume": tmp_path / "j"}
    halved = mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Halving(at=(0.5,)), **settings)
    assert halved.notes == ("2 of 4 runs were stopped early, and are left out",)
    told: list[dict[str, object]] = []
    whole = mx.sweep(TRAIN, models.tiny, MIXTURES, curve=[0.5], log=told.append, **settings)
    assert (len(whole), whole.notes) == (4, ())
    assert {record["run"] for record in told} == set(whole.ids) - set(halved.ids)
    again = mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Halving(at=(0.5,)), **settings)
    assert (again.metrics == halved.metrics).all()


def test_a_sign_of_life_that_cannot_be_written_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "BEAT", 0.01)
    kept = Journal(tmp_path / "j", {})
    with kept.alive():
        assert kept.take(["a"], 1) == ["a"]
        (tmp_path / "j").rename(tmp_path / "k")
        (tmp_path / "j").mkdir()
        time.sleep(0.1)  # an error in the thread fails the test


def test_a_journal_that_another_program_locks_is_not_taken_for_damaged(tmp_path, monkeypatch):
    Journal(tmp_path / "j", {})
    plain = sqlite3.connect
    monkeypatch.setattr(journal.sqlite3, "connect", lambda path, timeout=0: plain(path, timeout=0.01))
    other = plain(tmp_path / "j")
    other.execute("begin exclusive")
    try:
        with pytest.raises(InputError, match="cannot be used: database is locked"):
            Journal(tmp_path / "j", {})
    finally:
        other.close()
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_a_run_of_another_checkpoint_is_another_run(tmp_path):
    tables = [mx.sweep(TRAIN, lambda seed, own=own: models.tiny(own), MIXTURES[:1], resume=tmp_path / "j", **SETTINGS) for own in (1, 2, 1)]
    assert not (tables[0].metrics == tables[1].metrics).all()
    assert (tables[0].metrics == tables[2].metrics).all()


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(models.VOCABULARY, 8), nn.Linear(8, models.VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens))


def test_a_factory_that_leaves_the_seed_to_torch_gives_one_table():
    together = mx.sweep(TRAIN, lambda seed: Plain(), MIXTURES[:2], **SETTINGS)
    alone = mx.sweep(TRAIN, lambda seed: Plain(), MIXTURES[:2], executor="sequential", **SETTINGS)
    np.testing.assert_allclose(together.metrics, alone.metrics, atol=1e-6)


@pytest.mark.parametrize("together", [False, True])
def test_parameters_that_are_frozen_stay(together):
    def frozen(seed: int) -> nn.Module:
        made = Plain()
        made.embed.weight.requires_grad_(False)
        return made

    shared = work.Work(sweeping.corpus(TRAIN, HELD, models.CONTEXT, 2), {"model": frozen})
    group = work.Group(shared, [ONE, ONE][: 1 + together], ["a", "b"][: 1 + together], together=together)
    before = {name: value.clone() for name, value in group.fleet.values().items()}
    group.advance(1)
    group.keep([0])
    group.advance(2)
    after = group.fleet.values()
    assert (after["embed.weight"] == before["embed.weight"][:1]).all()
    assert not (after["head.weight"] == before["head.weight"][:1]).any()


def test_runs_of_one_size_go_together_whatever_others_there_are(monkeypatch):
    sizes, plain = [], executors.Group
    monkeypatch.setattr(executors, "Group", lambda work, jobs, *a, **k: sizes.append(len(jobs)) or plain(work, jobs, *a, **k))
    found = mx.sweep(TRAIN, {"tiny": models.tiny, "wide": models.wide}, [*MIXTURES, *MIXTURES[:2]], **SETTINGS)
    assert sizes == [6, 6]
    assert found.ids[:2] == ("0/tiny/24", "0/wide/24")


class Idle(Executor):
    device = None

    def carry_out(self, *given: object) -> None:
        raise AssertionError("there is nothing to do")


def test_where_nothing_is_missing_no_executor_starts(tmp_path):
    first = mx.sweep(TRAIN, models.tiny, MIXTURES[:2], resume=tmp_path / "j", **SETTINGS)
    again = mx.sweep(TRAIN, models.tiny, MIXTURES[:2], resume=tmp_path / "j", executor=Idle(), **SETTINGS)
    assert (first.metrics == again.metrics).all()


def test_equal_rows_with_equal_seeds_are_one_run_with_two_rows():
    domains = mx.Domains(TRAIN)
    rows = [[a, 1 - a] for a in (0.1, 0.1, 0.4, 0.4, 0.6, 0.6, 0.9, 0.9)]
    design = mx.designs.plan.made(domains, rows, [str(i) for i in range(8)], ["x"] * 8, "given", 0, seeds=np.arange(8) // 2)
    settings = {**SETTINGS, "recipe": Recipe(steps=8, batch=2)}
    seen: list[Progress] = []
    whole = mx.sweep(TRAIN, models.tiny, design, watch=seen.append, **settings)
    assert (whole.metrics[::2] == whole.metrics[1::2]).all()
    assert seen[-1].runs == 4
    assert len(mx.sweep(TRAIN, models.tiny, design, executor=Halving(at=(0.5,)), **settings)) == 4  # two runs of four


def test_a_sweep_that_is_interrupted_before_any_run_ended_has_no_table(tmp_path):
    def stop(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    settings = {**SETTINGS, "recipe": Recipe(steps=8, batch=2)}
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Halving(), watch=stop, **settings)


def served(monkeypatch, told):
    """Workers that answer at once with what ``told`` says of a run: some answers one after another, None for a death."""

    class Worker:
        ended = 0

        def __init__(self, work: object, device: str) -> None:
            self.work = work

        def begin(self, run):
            pipe, theirs = multiprocessing.Pipe()
            for answer in told(self.work, *run):
                theirs.send(answer)
            theirs.close()
            return pipe

        def end(self) -> None:
            Worker.ended += 1

    monkeypatch.setattr(processes, "_Worker", Worker)
    return Worker


def trained_here(work_, job, key):
    return [work.trained(work_, [job], [key], together=False, tell=lambda step: None)]


def test_a_run_that_kills_its_workers_is_named_when_the_others_are_finished(monkeypatch):
    begun: list[str] = []

    def told(work_, job, key):
        begun.append(job.id)
        return [] if job.id == "1" else [1, *trained_here(work_, job, key)]

    workers = served(monkeypatch, told)
    log: list[dict[str, object]] = []
    with pytest.raises(MixoptError, match=r"run 1 was lost 3 times.*__main__"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Processes(workers=2), log=log.append, **SETTINGS)
    assert sorted(str(record["run"]) for record in log) == ["0", "2", "3"]
    assert sorted(begun) == ["0", "1", "1", "1", "2", "3"]  # a death is no try of the runs beside it
    assert workers.ended == 3 + 2
    served(monkeypatch, lambda *given: [])
    with pytest.raises(MixoptError, match=r"run 0 was lost 1 times"):  # nothing can begin: the first run lost ends the sweep
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Processes(workers=2, retries=0), **SETTINGS)


def test_what_fails_in_a_worker_is_told_as_it_is(monkeypatch):
    def diverges(work_, job, key):
        return [DivergedError(f"run {job.id} is NaN")] if job.id == "0" else trained_here(work_, job, key)

    served(monkeypatch, diverges)
    log: list[dict[str, object]] = []
    with pytest.raises(LearnerError, match="run 0 is NaN"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Processes(workers=2), log=log.append, **SETTINGS)
    assert len(log) == 3
    served(monkeypatch, lambda *given: [processes._portable(ZeroDivisionError("by hand"))])
    with pytest.raises(ZeroDivisionError, match="by hand") as found:
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Processes(workers=1), **SETTINGS)
    assert "ZeroDivisionError: by hand" in "".join(found.value.__notes__)
    assert str(processes._portable(Unsendable(lambda: 1))).startswith("a worker failed with Unsendable")


def test_the_first_run_that_diverges_is_named_whichever_worker_ends_first(monkeypatch):
    served(monkeypatch, lambda work_, job, key: [DivergedError(f"run {job.id} is NaN")])
    monkeypatch.setattr(processes, "_answers", lambda busy: [(pipe, pipe.recv()) for pipe in reversed(busy)])
    with pytest.raises(LearnerError, match="run 0 is NaN"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Processes(workers=2), **SETTINGS)


class Unsendable(Exception):  # noqa: N818
    pass


def test_what_a_task_of_ray_raises_is_told_as_it_is(monkeypatch):
    class TaskError(Exception):
        cause = LearnerError("the loss of run 0 is NaN")

    def get(reference: object) -> None:
        raise TaskError("a long traceback")

    class Unread(Exception):  # noqa: N818
        pass

    ray = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayTaskError=TaskError, RaySystemError=Unread, RayError=Exception))
    with pytest.raises(LearnerError, match=r"^the loss of run 0 is NaN$"):
        Ray()._result(ray, "reference", [(ONE, "a")])
    monkeypatch.setattr(TaskError, "cause", Unread("No module named 'mine'"))
    with pytest.raises(InputError, match=r"No module named 'mine'.*PYTHONPATH"):
        Ray()._result(ray, "reference", [(ONE, "a")])


class Cluster:
    """Stands in for Ray: tasks are carried out as they are handed out."""

    exceptions = SimpleNamespace(RayTaskError=LearnerError, RaySystemError=ValueError, RayError=OSError)
    groups: ClassVar[list[int]] = []

    def remote(self, **given):
        return lambda task: SimpleNamespace(remote=lambda *words: (self.groups.append(len(words[1])), task(*words))[1])

    def put(self, what):
        return what

    def cluster_resources(self):
        return {"CPU": 2.0}

    def wait(self, running, num_returns):
        return running[:1], running[1:]

    def get(self, found):
        return found[0]


def test_tasks_of_ray_have_runs_of_one_kind(monkeypatch):
    monkeypatch.setattr(
        by_ray,
        "_task",
        lambda work, jobs, keys, *given: (tuple(executors.trained(work, jobs, keys, together=True, tell=lambda step: None)),),
    )
    monkeypatch.setattr(by_ray, "_ray", lambda: SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(Ray, "carry_out", lambda self, *given: self._tasks(Cluster(), *given))
    settings = {**SETTINGS, "recipe": None, "batch": 2, "tokens": [24, 48]}
    monkeypatch.setattr(Cluster, "groups", [])
    found = mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Ray(together=3), **settings)
    assert Cluster.groups == [3, 1, 2, 2]
    np.testing.assert_allclose(found.metrics, mx.sweep(TRAIN, models.tiny, MIXTURES, executor="sequential", **settings).metrics, atol=1e-6)


def test_the_first_run_that_diverges_is_named_whichever_task_ends_first(monkeypatch):
    class Last(Cluster):
        def wait(self, running, num_returns):
            return running[-1:], running[:-1]

        def get(self, found):
            raise found[0]

    def diverges(work, jobs, keys, *given):
        error = DivergedError(f"run {jobs[0].id} is NaN")
        error.cause = error
        return (error,)

    monkeypatch.setattr(by_ray, "_task", diverges)
    monkeypatch.setattr(Ray, "carry_out", lambda self, *given: self._tasks(Last(), *given))
    with pytest.raises(LearnerError, match="run 0 is NaN"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Ray(), **SETTINGS)


def test_a_worker_ends_with_its_sweep(monkeypatch):
    ended: list[int] = []
    monkeypatch.setattr(processes.multiprocessing, "parent_process", lambda: SimpleNamespace(join=lambda: None))
    monkeypatch.setattr(os, "_exit", ended.append)
    processes._end_with_the_sweep()
    assert ended == [1]


def test_a_run_that_is_told_of_after_its_end_is_not_counted_twice():
    watched = Watched({"a": ONE, "b": ONE}, Streams(TRAIN, models.CONTEXT), {})
    watched.done([(Finished("a", (1.0,), (), 2, 24, 1, 0.0), True)], ["x"])
    watched.tell(["a"], 2)
    found = watched.progress()
    assert found.tokens_per_second * found.seconds == pytest.approx(24)
    assert found.seconds_left == pytest.approx(found.seconds)
    assert (found.share, found.best, found.mixture) == (0.5, ("0", 1.0), {"up": 0.5, "down": 0.5})
    assert str(found).endswith(", best 1.0000: up 0.50, down 0.50")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"curve": -1}, "curve is -1"),
        ({"curve": 0.5}, "curve is 0.5"),
        ({"tokens": [24, 23]}, "same number of steps, 2"),
        ({"executor": Sequential(device="cudda")}, "no device 'cudda'"),
        ({"tokens": []}, "it is the tokens that a run is trained on"),
        ({"tokens": "many"}, "tokens= is 'many'"),
        ({"targets": Streams(HELD, 5)}, "windows of 5 tokens, and context= is 6"),
        ({"batch": 4}, "the recipe's batch is 2, and batch= is 4"),
        ({"curve": "half"}, "after the shares"),
        ({"rates": "1e-3"}, "4 rates for 4 runs; give the peak rate of each run"),
        ({"seed": "0"}, "seed is '0'; it is a whole number >= 0, or None"),
    ],
)
def test_settings_that_make_no_sense_are_told(change, told):
    with pytest.raises(InputError, match=told):
        mx.sweep(TRAIN, models.tiny, MIXTURES, **{**SETTINGS, **change})


def test_what_a_design_says_is_not_said_again():
    domains = mx.Domains(TRAIN)
    design = mx.design(domains, runs=4, replicates=0, tokens=24)
    settings = {**SETTINGS, "recipe": None, "batch": 2}
    with pytest.raises(InputError, match="seeds of their own"):
        mx.sweep(TRAIN, models.tiny, design, seed=1, **settings)
    with pytest.raises(InputError, match="have 24 to 24 tokens, and tokens= is 48"):
        mx.sweep(TRAIN, models.tiny, design, tokens=48, **settings)
    found = mx.sweep(TRAIN, models.tiny, design, **settings)
    assert (found.metrics == mx.sweep(TRAIN, models.tiny, design, tokens=24, **settings).metrics).all()
    tiled = {name: np.tile(row, 20) for name, row in TRAIN.items()}
    cut = mx.sweep(tiled, models.tiny, design, target_tokens=480, **settings)
    assert (cut.metrics == mx.sweep(tiled, models.tiny, design.mixtures, tokens=24, target_tokens=480, **settings).metrics).all()


def test_what_is_no_design_and_no_file_is_told(tmp_path):
    with pytest.raises(InputError, match="no table of numbers"):
        mx.sweep(TRAIN, models.tiny, [{"up": 0.5, "down": 0.5}], **SETTINGS)
    with pytest.raises(InputError, match="cannot be used"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, resume=tmp_path, **SETTINGS)
    for bad in (lambda: Recipe(steps=2.5, batch=1), lambda: Halving(together=0), lambda: Halving(weights={"up": 0.0})):
        with pytest.raises(InputError):
            bad()
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="sees no CUDA device"):
            mx.sweep(TRAIN, models.tiny, MIXTURES, executor=Ensemble(device="cuda"), **SETTINGS)


@pytest.mark.parametrize(
    "executor", [Ensemble(together=5), Halving(at=(0.5,), keep=0.9), Halving(at=(0.5,), keep=0.9, together=1), Sequential()], ids=str
)
def test_a_run_that_diverges_leaves_the_others_to_finish(tmp_path, executor):
    rates = [1e-2, 1e30, 1e-2, 1e-2]
    settings = {**SETTINGS, "recipe": Recipe(steps=6, batch=4, clip=1e30)}
    with pytest.raises(LearnerError, match="run 1 is NaN or infinite"):
        mx.sweep(TRAIN, models.tiny, MIXTURES, rates=rates, executor=executor, resume=tmp_path / "j", **settings)
    with closing(sqlite3.connect(tmp_path / "j")) as db, db:
        assert db.execute("select count(*) from runs").fetchone() == (3,)
