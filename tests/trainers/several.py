"""One of several processes, started by torchrun: trains a small GPT on global batches drawn by the schedule, and says what it saw.

``python -m torch.distributed.run --nproc-per-node 2 several.py FOLDER WHAT...`` where WHAT are names of runs below; ``main`` alone is
the one process. Each run writes FOLDER/NAME-of-WORLD.json: the loss and the weights of every step.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

import mixopt as mx
from mixopt.errors import InputError
from mixopt.runtime.gpt import GPT
from mixopt.trainers import Meter, cross_entropy

NAMES, BATCH, LENGTH, STEPS = ("web", "code", "books"), 8, 12, 10
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def schedule(**settings):
    domains = mx.Domains(NAMES)
    w, theta = mx.Mixture(domains), mx.model()
    game = mx.minimize(mx.maximize(w @ mx.losses(theta, domains), over=w), over=theta)
    return mx.online(game, mx.solvers.DescentAscent(rate=0.3, average="last"), every=2, **settings)


def batch(step, weights):
    """A step's global batch, drawn by the weights: tokens [B, T+1] and domains [B], the same on every number of processes."""
    draw = torch.Generator().manual_seed(step)
    domains = torch.multinomial(torch.tensor(weights), BATCH, replacement=True, generator=draw)
    tokens = (torch.rand(BATCH, LENGTH + 1, generator=draw) * torch.tensor([3, 9, 27])[domains][:, None]).long()
    return tokens, domains


def trained(model, wrap, moving, first=1, last=STEPS, optimizer=None):
    """The steps from ``first`` to ``last``: each loss over the global batch, and the weights after it."""
    wrapped = wrap(model)
    optimizer = optimizer or torch.optim.SGD(wrapped.parameters(), lr=0.3)
    meter, seen = Meter(moving, check=2), []
    for step in range(first, last + 1):
        tokens, domains = (x[RANK::WORLD] for x in batch(step, moving.w))
        loss = cross_entropy(wrapped(tokens[:, :-1]), tokens[:, 1:], domains, len(NAMES), shift=False)
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        meter.add(loss.sums, loss.counts)
        meter.step(step)
        seen.append([step, summed(loss.total.item()) / WORLD, *moving.w.tolist()])
    return seen


def summed(number):
    """A number added up over the processes."""
    if WORLD == 1:
        return number
    total = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(total)
    return total.item()


def new_model():
    return GPT(vocabulary=32, context=LENGTH, width=16, layers=1, seed=3).double()


def plain(model):
    return model


def data_parallel(model):
    return model if WORLD == 1 else torch.nn.parallel.DistributedDataParallel(model)


def fully_sharded(model):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def ddp(folder):
    """A run of DDP that writes a checkpoint after step 5."""
    model, moving = new_model(), schedule()
    seen = trained(model, data_parallel, moving, last=5)
    if RANK == 0:
        torch.save({"model": model.state_dict(), "schedule": moving.state_dict()}, folder / f"half-of-{WORLD}.pt")
    return seen + trained(model, data_parallel, moving, first=6), moving


def resumed(folder):
    """A run that goes on from the checkpoint of two processes."""
    model, moving = new_model(), schedule()
    state = torch.load(folder / "half-of-2.pt", weights_only=True)
    model.load_state_dict(state["model"])
    moving.load_state_dict(state["schedule"])
    return trained(model, data_parallel, moving, first=6), moving


def fsdp(folder):
    """A run of FSDP2."""
    moving = schedule()
    return trained(new_model(), fully_sharded, moving), moving


def disagree(folder):
    """The last process begins with other weights; each says which error it saw."""
    moving = schedule(start=[0.5, 0.25, 0.25] if RANK == WORLD - 1 else None)
    try:
        trained(new_model(), plain, moving)
        return "no error", moving
    except InputError as error:
        return str(error), moving


def main(folder, *what):
    torch.set_num_threads(1)
    if WORLD > 1:
        dist.init_process_group("gloo")
    for name in what:
        found, moving = globals()[name](Path(folder))
        states = [json.dumps(moving.state_dict(), default=lambda x: x.tolist())]
        found = [found]
        if WORLD > 1:
            both = [None] * WORLD
            dist.all_gather_object(both, (states[0], found[0]))
            states, found = [s for s, _ in both], [f for _, f in both]
        if RANK == 0:
            said = {"seen": found, "same": len(set(states)) == 1}
            (Path(folder) / f"{name}-of-{WORLD}.json").write_text(json.dumps(said))
    if WORLD > 1:
        dist.destroy_process_group()
        os._exit(0)  # now and then a thread of gloo outlives its group, and the interpreter aborts on it at its end


if __name__ == "__main__":
    main(*sys.argv[1:])
