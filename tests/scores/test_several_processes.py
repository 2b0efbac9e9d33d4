"""Scores of a model that FSDP has sharded, or DDP wrapped, in a group of one process on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import mixopt as mx
from mixopt.runtime.gpt import GPT


@pytest.fixture
def group():
    """A process group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def windows(k=3):
    draw = torch.Generator().manual_seed(0)
    return {f"d{i}": torch.randint(8 * i, 8 * i + 24, (4, 9), generator=draw) for i in range(k)}


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
def test_fsdp_takes_differences_and_backward_passes(group):
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    batches, plain, module = windows(), GPT(64, 8, 16, 2, 2), GPT(64, 8, 16, 2, 2)
    for block in module.blocks:
        fully_shard(block)
    fully_shard(module)
    assert all(isinstance(p, DTensor) for p in module.parameters())
    before = [p.full_tensor().clone() for p in module.parameters()]
    exact = mx.scores.alignment(plain, batches, by="backward")
    assert mx.scores.alignment(module, batches, by="backward") == pytest.approx(exact, rel=1e-4)
    with pytest.raises(mx.LearnerError, match="sharded"):
        mx.scores.alignment(module, batches)
    choice = mx.scores.choose(module, batches)
    assert choice.by == "difference"
    found = mx.scores.alignment(module, batches, by=choice.by, step=choice.step)
    assert found == pytest.approx(exact, abs=2e-3 * float(mx.scores.norms(plain, batches).max()) ** 2)
    assert mx.scores.products(module, batches) == pytest.approx(mx.scores.products(plain, batches), rel=1e-4, abs=1e-6)
    tokens = batches["d0"][:, :-1]
    with torch.no_grad():
        assert torch.equal(module(tokens), plain(tokens))  # no perturbed copy of a parameter is left behind
    assert mx.scores.alignment(module, batches, by="backward") == pytest.approx(exact, rel=1e-4)  # after an evaluation too
    assert all(torch.equal(p.full_tensor(), b) and p.grad is None for p, b in zip(module.parameters(), before, strict=True))


def test_ddp_is_left_ready_for_its_next_step(group):
    batches, plain = windows(), GPT(64, 8, 16, 2, 2)
    module = torch.nn.parallel.DistributedDataParallel(GPT(64, 8, 16, 2, 2))
    for _ in range(2):
        assert mx.scores.alignment(module, batches) == pytest.approx(mx.scores.alignment(plain, batches), rel=1e-5)
        loss = module(batches["d0"][:, :-1]).logsumexp(-1).mean()
        loss.backward()
        assert all(p.grad is not None for p in module.parameters())
        module.zero_grad()


class FullyShardedDataParallel(torch.nn.Linear):
    """What the older wrapper is called; its parameters are flat pieces of many."""


def test_flat_parameters_are_refused():
    with pytest.raises(mx.LearnerError, match="fully_shard"):
        mx.scores.alignment(FullyShardedDataParallel(2, 2), [torch.ones(2, 2)], loss=lambda m, x: m(x).mean())


TWO_RANKS = """
import os, warnings
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
import mixopt as mx
from mixopt.runtime.gpt import GPT

warnings.simplefilter("ignore")
torch.set_num_threads(1)
dist.init_process_group("gloo")
draw = torch.Generator().manual_seed(0)
whole = [torch.randint(8 * i, 8 * i + 24, (4, 9), generator=draw) for i in range(3)]
mine = [batch[dist.get_rank() :: 2] for batch in whole]
plain, module = GPT(64, 8, 16, 2, 2), GPT(64, 8, 16, 2, 2)
for block in module.blocks:
    fully_shard(block)
fully_shard(module)
exact = mx.scores.alignment(plain, whole, by="backward")
for by, most in (("backward", 1e-5), ("difference", 2e-3)):
    found = mx.scores.alignment(module, mine, by=by)
    dist.all_reduce(found)
    assert float((found / 2 - exact).abs().max() / mx.scores.norms(plain, whole).max() ** 2) < most, (by, found / 2, exact)
wrapped = torch.nn.parallel.DistributedDataParallel(GPT(64, 8, 16, 2, 2))
found = mx.scores.alignment(wrapped, mine)
dist.all_reduce(found)
assert torch.allclose(found / 2, exact, rtol=1e-4), (found / 2, exact)
dist.destroy_process_group()
os._exit(0)  # as in tests/trainers/several.py
"""


@pytest.mark.slow
def test_the_mean_over_two_ranks_is_the_score_of_the_whole_batch(tmp_path):
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS, encoding="utf-8")
    root = str(Path(mx.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    run = subprocess.run(line, check=False, capture_output=True, text=True, timeout=240, env=env)
    assert run.returncode == 0, run.stderr[-2000:]
