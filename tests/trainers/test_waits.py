"""A training step with a schedule waits for the device only when the weights are due to move: counted on the CPU, by the same calls."""

from __future__ import annotations

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mixopt.trainers import Meter, chunked_cross_entropy


class Reads(TorchDispatchMode):
    """Counts numbers read by the host."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name().split(".")[0] in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"):
            self.calls[func.name()] += 1
        return func(*args, **(kwargs or {}))


def test_only_a_move_reads_numbers(make_schedule, monkeypatch):
    monkeypatch.setattr("mixopt.trainers.losses.check_domains", lambda *_: None)  # it looks at domains on the host alone
    torch.manual_seed(0)
    schedule = make_schedule(every=4, smoothing=0.1)
    meter, read = Meter(schedule), []
    hidden, head = torch.randn(3, 5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    labels, domains = torch.randint(0, 11, (3, 5)), torch.tensor([0, 1, 2])
    for _ in range(8):
        with Reads() as reads:
            loss = chunked_cross_entropy(hidden, head, labels, domains, 3, chunk=4)
            loss.total.backward()
            meter.add(loss.sums, loss.counts)
            meter.step()
        read.append(bool(reads.calls))
    assert read == [False, False, False, True] * 2
    assert schedule.tokens == 8 * 12
