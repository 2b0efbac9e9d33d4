"""Several processes on one machine, started by torchrun and speaking over gloo: the run of two or four is the run of one."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mixopt
from mixopt.errors import InputError
from mixopt.trainers import Meter, check_ranks, reduce_sums

SCRIPT = Path(__file__).with_name("several.py")
ROOT = Path(mixopt.__file__).resolve().parents[1]


def started(folder, world, *what, script=SCRIPT):
    """The runs of so many processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    told = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    run = subprocess.run([*launch, str(script), str(folder), *what], env=told, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the runs of one, two and four processes wrote; the one is this."""
    folder = tmp_path_factory.mktemp("ranks")
    runpy.run_path(str(SCRIPT))["main"](folder, "ddp")
    started(folder, 2, "ddp", "fsdp", "disagree")
    started(folder, 4, "ddp", "resumed")
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.mark.parametrize("name", ["ddp-of-2", "ddp-of-4", "fsdp-of-2"])
def test_the_run_of_several_is_the_run_of_one(runs, name):
    """Losses and weights of every step, to 1e-6 (they agree to rounding)."""
    one = np.array(runs["ddp-of-1"]["seen"][0])
    assert len(one) == 10
    assert one[:, 1][-1] < one[:, 1][0]
    assert abs(one[-1, 2:] - 1 / 3).max() > 0.05
    for seen in runs[name]["seen"]:
        assert np.abs(np.array(seen) - one).max() < 1e-9


@pytest.mark.parametrize("name", ["ddp-of-2", "ddp-of-4", "fsdp-of-2", "resumed-of-4"])
def test_every_process_has_the_same_weights_bit_for_bit(runs, name):
    assert runs[name]["same"]
    assert all(seen == runs[name]["seen"][0] for seen in runs[name]["seen"])


def test_four_processes_go_on_where_two_stopped(runs):
    whole, half = np.array(runs["ddp-of-2"]["seen"][0]), np.array(runs["resumed-of-4"]["seen"][0])
    assert np.abs(half - whole[5:]).max() < 1e-9


def test_processes_that_disagree(runs):
    """Both raise, and both are told who differs."""
    for text in runs["disagree-of-2"]["seen"]:
        assert "the weights of rank(s) (1) differ from those of rank 0" in text


def test_one_process_alone():
    sums, counts = reduce_sums(torch.ones(2), torch.tensor([3, 4]))
    assert sums.tolist() == [1.0, 1.0]
    assert counts.tolist() == [3.0, 4.0]
    assert counts.dtype == torch.float64
    check_ranks(b"anything")
    doubled, _ = reduce_sums(torch.ones(2), torch.ones(2), reduce=lambda both: 2 * both)
    assert doubled.tolist() == [2.0, 2.0]


def test_a_step_before_the_first_batch(make_schedule):
    meter = Meter(make_schedule())
    with pytest.raises(InputError, match="before anything was added"):
        meter.step()
    with pytest.raises(InputError, match="did you mean 'train'"):
        meter.add(torch.ones(3), torch.ones(3), "trian")
    with pytest.raises(InputError, match=r"the schedule expects \[3\]"):
        meter.add(torch.ones(2), torch.ones(2))
    with pytest.raises(InputError, match=r"sums of shape \[2\] and counts of shape \[3\]"):
        reduce_sums(torch.ones(2), torch.ones(3))
    with pytest.raises(InputError, match="a schedule is expected"):
        Meter(None)
    meter.add(torch.ones(3), torch.ones(3))
    meter.clear()
    assert meter.waiting == ()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_hugging_face_s_trainer_over_two_processes(tmp_path):
    """Its losses and the weights are those of one process on the same global batches, and the same on both."""
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    script = SCRIPT.with_name("trainer_of_several.py")
    started(tmp_path, 1, script=script)
    started(tmp_path, 2, script=script)
    one, first, second = (json.loads((tmp_path / f"trainer-{name}.json").read_text()) for name in ("0-of-1", "0-of-2", "1-of-2"))
    assert first["weights"] == second["weights"]
    assert np.abs(np.array(first["logged"]) - np.array(one["logged"])).max() < 1e-6
