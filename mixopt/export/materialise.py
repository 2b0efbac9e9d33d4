"""Tools that read each domain a given number of times: Axolotl, DataTrove and Data-Juicer.

Axolotl has no weights: an entry that stands n times is read n times, and ``shards: n, shards_idx: i`` reads an n-th of it
(utils/data/sft.py). DataTrove's SamplerFilter keeps a document with probability ``rate`` <= 1 (pipeline/filters/sampler_filter.py).
Data-Juicer draws ceil(max_sample_num x weight) samples from each source in order and gives the last what is left
(core/data/dataset_builder.py); without max_sample_num the weights do not count.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from mixopt.errors import InputError, listed

from .target import Job, Target, arguments, commented

SHARDS = 32


def _epochs(job: Job, what: str) -> dict[str, float]:
    """Passes over each kept domain.

    Raises:
        InputError: the budget, or a domain's tokens, are not known.
    """
    if job.blend.budget is None:
        raise InputError(f"{what} has no weights, only how much of each domain is read; give the tokens of the run, budget (--budget)")
    missing = [name for name in job.weights if name not in (job.epochs or {})]
    if missing:
        raise InputError(
            f"{what} has no weights, only how much of each domain is read; give the tokens of {listed(missing)}, tokens (--tokens)"
        )
    return {name: (job.epochs or {})[name] for name in job.weights}


def _passes(epochs: float) -> Fraction:
    """Whole passes and a fraction of at most 32 shards."""
    return Fraction(epochs).limit_denominator(SHARDS)


def axolotl(job: Job) -> str:
    """Entries that stand as often as a domain is read, and shards for the rest."""
    entries: list[dict[str, Any]] = []
    for name, epochs in _epochs(job, "Axolotl").items():
        whole, rest = divmod(_passes(epochs), 1)
        for path in job.paths(name):
            entry = {"path": path, "type": "completion"}
            entries += [dict(entry) for _ in range(int(whole))]
            entries += [{**entry, "shards": rest.denominator, "shards_idx": i} for i in range(rest.numerator)]
    return commented(job, {"datasets": entries, "shuffle_merged_datasets": True, "num_epochs": 1, "seed": job.seed})


def axolotl_notes(job: Job) -> tuple[str, ...]:
    """How far shards are from what was asked for; a domain that rounds to nothing is refused."""
    epochs = _epochs(job, "Axolotl")
    lost = [name for name, value in epochs.items() if _passes(value) == 0]
    if lost:
        raise InputError(
            f"{listed(lost)} would be read less than 1/{2 * SHARDS} times, which is no shard; give a floor, a larger budget, or weight 0"
        )
    worst = max(epochs, key=lambda n: abs(float(_passes(epochs[n])) / epochs[n] - 1))
    off = float(_passes(epochs[worst])) / epochs[worst] - 1
    return (
        "train for num_epochs: 1; entries that repeat are the mixture",
        f"shards round the passes; {worst!r} is furthest off, by {off:+.1%}",
    )


def datatrove(job: Job) -> str:
    """The rate of each source's SamplerFilter."""
    return arguments(job, {"rates": _epochs(job, "DataTrove"), "seed": job.seed})


def datatrove_notes(job: Job) -> tuple[str, ...]:
    """A rate above 1 is refused, with the largest budget that fits."""
    epochs = _epochs(job, "DataTrove")
    over = [name for name, value in epochs.items() if value > 1]
    if over:
        most = (job.blend.budget or 0.0) / max(epochs.values())
        raise InputError(
            f"DataTrove keeps a document or drops it, so no domain can be read more than once, but {listed(over)} would be "
            f"({', '.join(f'{epochs[n]:.3g}' for n in over[:8])} times); give a budget of at most {most:.6g} tokens (--budget), "
            "or repeat while training"
        )
    return ()


def data_juicer(job: Job) -> str:
    """A dataset with weights; the largest source comes last, since the last one takes what rounding leaves."""
    total = job.examples("Data-Juicer takes its weights only together with max_sample_num, the samples of the whole")
    ordered = sorted(job.pieces(job.weights), key=lambda piece: piece[1])
    configs = [{"type": "local", "path": path, "weight": weight} for path, weight in ordered]
    return commented(job, {"dataset": {"max_sample_num": total, "configs": configs}})


AXOLOTL = Target(
    name="axolotl",
    unit="epoch",
    forms={".yaml": axolotl},
    usage="datasets of a training file; set type and field to what your records hold",
    reference="axolotl: utils/data/sft.py, utils/schemas/datasets.py",
    sums="none: how often a domain is read",
    check=axolotl_notes,
)
DATATROVE = Target(
    name="datatrove",
    unit="epoch",
    forms={".json": datatrove},
    usage="mix = json.load(open('{file}')); one pipeline for each source with SamplerFilter(rate=mix['rates'][name], seed=mix['seed'])",
    reference="datatrove: pipeline/filters/sampler_filter.py, examples/smol_data.py",
    paths=False,
    sums="none: the share of documents kept",
    check=datatrove_notes,
)
DATA_JUICER = Target(
    name="data-juicer",
    unit="example",
    forms={".yaml": data_juicer},
    usage="add the lines to the recipe",
    reference="data_juicer/core/data/dataset_builder.py",
)
