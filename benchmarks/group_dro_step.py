"""The group-DRO step through mixopt against the same loop written by hand in plain torch.

Both draw the same batches from the same generator, pass the model through them, raise the weights by the losses of the domains and
take one AdamW step on the losses under the new weights; that they end at the same weights and losses is checked. A few steps are timed
together through mixopt's loop, with its start, its record and its look at the end; each pair runs both, in turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, step_by_hand, write
from doremi_step import LEARNING, token_losses
from torch import Tensor
from torch.func import functional_call

import mixopt as mx
from mixopt.compiler.binding import bind_losses
from mixopt.problems import group_dro
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.runtime.modelled import Modelled
from mixopt.runtime.region import Region
from mixopt.runtime.streams import Streams
from mixopt.solver import Outcome, Task, run

RATE = 0.01


def by_hand(module: GPT, streams: Streams, steps: int, per_domain: int) -> tuple[Tensor, Tensor]:
    """Group DRO as a plain loop; the last weights [k], and the losses [k] of the last step."""
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=LEARNING)
    generator = torch.Generator().manual_seed(0)
    k = len(streams)
    w = torch.full((k,), 1 / k, dtype=torch.float64)
    for _ in range(steps):
        windows = streams.draw(per_domain, generator).flatten(0, 1)
        inputs, targets = windows[:, :-1], windows[:, 1:]
        losses = token_losses(functional_call(module, parameters, (inputs,)), targets).view(k, -1).mean(1)
        w = w * torch.exp(RATE * losses.detach())
        w = w / w.sum()
        optimizer.zero_grad()
        (w.float() @ losses).backward()
        optimizer.step()
    return w, losses.detach()


def main() -> None:
    """Measure, print a table, and write the figures with what they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=4, help="steps timed together")
    parser.add_argument("--width", type=int, default=144)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--per-domain", type=int, default=4, help="windows of each domain in a batch")
    parser.add_argument("--threads", type=int, default=1, help="more of them meet the neighbours more often")
    parser.add_argument("--out", type=Path, default=RESULTS / "group_dro_step.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    draw = np.random.default_rng(0)
    tokens = {name: draw.choice(256, 50_000, p=draw.dirichlet(np.full(256, 0.1))) for name in "abcde"}
    module = GPT(width=given.width, layers=given.layers, heads=4)
    learner = mx.TorchLearner(
        module, {"train": tokens}, per_domain=given.per_domain, evaluation=1, optimizer=lambda p: torch.optim.AdamW(p, lr=LEARNING)
    )
    streams = Streams(tokens, 64)
    method = group_dro(mx.Domains(list(tokens)), rate=RATE, steps=given.steps)
    form = mx.plan(method, learner).form
    model = Modelled(form, learner, bind_losses(form, learner.abilities), {}, {})
    task = Task(form, Region.compile(form.mixture, (), {}), np.full(len(tokens), 1 / len(tokens)), {}, 0, model)

    def ours() -> Outcome:
        return run(method.solver, task)

    def hand() -> tuple[Tensor, Tensor]:
        return by_hand(module, streams, given.steps, given.per_domain)

    row = step_by_hand(ours, hand, given.pairs, given.steps, parameter_count(module))
    write(given.out, __doc__, {"pairs": given.pairs, "steps": given.steps, "domains": 5, "windows": given.per_domain, "context": 64}, [row])


if __name__ == "__main__":
    main()
