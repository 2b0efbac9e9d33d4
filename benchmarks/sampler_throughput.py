"""Samples a second drawn by live weights, against fixed probabilities in torch and in Hugging Face datasets.

Token windows of k domains go through a DataLoader: ``MixtureLoader``, and ``MixtureSampler`` over a ConcatDataset, against torch's
WeightedRandomSampler over the same ConcatDataset, without workers and with them. Indices alone are drawn by the two samplers. Records of
Hugging Face datasets come from ``from_datasets`` and from ``interleave_datasets``. The weights of ours are read anew at each batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, interleaved, interval, write
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, WeightedRandomSampler

from mixopt.loading import MixtureLoader, MixtureSampler, TokenWindows, from_datasets


class Moving:
    """Weights that are others at each reading."""

    def __init__(self, names: list[str]):
        self.names, self.random = names, np.random.default_rng(0)

    @property
    def weights(self) -> dict[str, float]:
        """Shares by name."""
        return dict(zip(self.names, self.random.dirichlet(np.full(len(self.names), 20.0)), strict=True))


def drain(batches: Iterable[Any], count: int) -> None:
    """Take so many batches."""
    for _, _ in zip(range(count), batches, strict=False):
        pass


def per_sample(sizes: dict[str, int]) -> torch.Tensor:
    """The probability of every sample where domains are alike, for torch's sampler."""
    return torch.cat([torch.full((n,), 1 / n / len(sizes), dtype=torch.float64) for n in sizes.values()])


def turns(args: argparse.Namespace) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Ours and theirs by what is measured, each of ``batches`` batches."""
    names = [f"d{i}" for i in range(args.domains)]
    windows = {
        n: TokenWindows(np.random.default_rng(i).integers(0, 50_000, args.windows * args.context + 1).astype(np.uint16), args.context)
        for i, n in enumerate(names)
    }
    sizes, together = {n: len(w) for n, w in windows.items()}, ConcatDataset(list(windows.values()))
    total, moving = args.batches * args.batch, Moving(names)

    def drawn() -> MixtureSampler:
        return MixtureSampler(sizes, moving, args.batch, batches=args.batches)

    def fixed() -> BatchSampler:
        return BatchSampler(WeightedRandomSampler(per_sample(sizes), total), args.batch, drop_last=True)

    def through(sampler: Callable[[], Any], workers: int) -> Callable[[], None]:
        return lambda: drain(DataLoader(together, batch_sampler=sampler(), num_workers=workers), args.batches)

    def loader(workers: int) -> Callable[[], None]:
        return lambda: drain(MixtureLoader(windows, moving, args.batch, batches=args.batches, num_workers=workers), args.batches)

    found: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "indices": (lambda: drain(drawn(), args.batches), lambda: drain(fixed(), args.batches))
    }
    for workers in (0, args.workers):
        found[f"MixtureLoader, {workers} workers"] = (loader(workers), through(fixed, workers))
        found[f"MixtureSampler, {workers} workers"] = (through(drawn, workers), through(fixed, workers))
    return found | hugging(args, names, moving)


def hugging(args: argparse.Namespace, names: list[str], moving: Moving) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """The same for records of Hugging Face datasets, map-style and iterable."""
    import datasets

    rows = {n: datasets.Dataset.from_dict({"text": [f"{n} text {j} " * 20 for j in range(args.windows)]}) for n in names}
    total, shares = args.batches * args.batch, [1 / len(names)] * len(names)

    def theirs(streams: list[Any]) -> Callable[[], None]:
        return lambda: drain(datasets.interleave_datasets(streams, shares, seed=0, stopping_strategy="all_exhausted"), total)

    iterable = {n: one.to_iterable_dataset() for n, one in rows.items()}
    return {
        "datasets, map-style": (lambda: drain(from_datasets(rows, moving, args.batch), total), theirs(list(rows.values()))),
        "datasets, iterable": (lambda: drain(from_datasets(iterable, moving, args.batch), total), theirs(list(iterable.values()))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--domains", type=int, default=17)
    parser.add_argument("--windows", type=int, default=20_000, help="samples of each domain")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "sampler_throughput.json")
    args = parser.parse_args()
    rows = []
    for name, (ours, theirs) in turns(args).items():
        mine, other = interleaved(ours, theirs, args.pairs)
        median, low, high = interval(other / mine)
        rate = args.batches * args.batch / np.median(mine)
        print(f"{name:28s} {rate:12,.0f} samples/s   speed over fixed probabilities {median:.3f} [{low:.3f}, {high:.3f}]", flush=True)
        rows.append({"what": name, "samples per second": rate, "speed": median, "low": low, "high": high})
    write(args.out, __doc__, {key: value for key, value in vars(args).items() if key != "out"}, rows)


if __name__ == "__main__":
    main()
