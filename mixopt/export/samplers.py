"""Trainers that draw examples: Hugging Face datasets, LLaMA-Factory, litdata and MosaicML Streaming.

``datasets.interleave_datasets`` passes the probabilities to numpy's choice, which wants a sum of 1; with a probability of 0,
all_exhausted never ends (src/datasets/combine.py). LLaMA-Factory hands it a comma text (hparams/data_args.py). litdata's
CombinedStreamingDataset refuses weights unless iterate_over_all is False, and ends with the first domain that does
(streaming/combined.py). A MosaicML stream has a proportion; the samples that rounding leaves go to streams at random, one of proportion 0
among them (base/stream.py).
"""

from __future__ import annotations

from typing import Any

from mixopt.errors import InputError

from .target import Job, Target, arguments, commented


def _short(job: Job) -> tuple[str, float] | None:
    """The domain that ends first, and the share of the run that is over by then, where that is before its end."""
    if not job.epochs:
        return None
    name = max(job.epochs, key=lambda n: job.epochs[n] if job.epochs else 0.0)
    return (name, 1 / job.epochs[name]) if job.epochs[name] > 1 else None


def interleave(job: Job) -> str:
    """The arguments of interleave_datasets, beside the order of the datasets."""
    content: dict[str, Any] = {"datasets": list(job.weights)}
    if job.blend.paths:
        content["paths"] = {name: list(job.blend.paths[name]) for name in job.weights if name in job.blend.paths}
    strategy = "all_exhausted" if _short(job) else "first_exhausted"
    return arguments(
        job, {**content, "arguments": {"probabilities": list(job.weights.values()), "seed": job.seed, "stopping_strategy": strategy}}
    )


def stopping(job: Job) -> tuple[str, ...]:
    """What the stopping strategy does to this mixture."""
    short = _short(job)
    if short:
        name, share = short
        return (
            f"{name!r} is used up after {share:.0%} of the run: the strategy is all_exhausted, which repeats it; "
            "first_exhausted would end there without a word",
        )
    if job.epochs is None:
        return (
            "the strategy is first_exhausted: the stream ends with the first domain that does; give tokens and a budget to have it checked",
        )
    return ()


def llama_factory(job: Job) -> str:
    """The data arguments of a training file; each name is an entry of dataset_info.json."""
    for name in job.weights:
        if "," in name or name != name.strip():
            raise InputError(f"LLaMA-Factory splits dataset names at commas and strips them, so {name!r} would break; rename the domain")
    content = {
        "dataset": ",".join(job.weights),
        "mix_strategy": "interleave_over" if _short(job) else "interleave_under",
        "interleave_probs": ",".join(map(repr, job.weights.values())),
        "seed": job.seed,
    }
    return commented(job, content)


def litdata(job: Job) -> str:
    """The arguments of CombinedStreamingDataset, beside the order of its datasets."""
    pieces = job.pieces(job.weights)
    content = {
        "input_dirs": [path for path, _ in pieces],
        "arguments": {"weights": [weight for _, weight in pieces], "seed": job.seed, "iterate_over_all": False},
    }
    return arguments(job, content)


def ends_early(job: Job) -> tuple[str, ...]:
    """litdata does not repeat a domain."""
    short = _short(job)
    return (
        (f"litdata ends with the first domain that does: {short[0]!r}, after {short[1]:.0%} of the run; loop over the loader",)
        if short
        else ()
    )


def mosaic(job: Job) -> str:
    """The dataset of a Composer or llm-foundry train loader."""
    streams: dict[str, dict[str, Any]] = {}
    for name in job.weights:
        pieces = job.pieces({name: job.weights[name]})
        for i, (path, weight) in enumerate(pieces):
            place = {"remote": path, "local": f"/tmp/streams/{name}"} if "://" in path else {"local": path}
            streams[name if len(pieces) == 1 else f"{name}.{i}"] = {**place, "proportion": weight}
    dataset: dict[str, Any] = {"streams": streams, "shuffle": True, "shuffle_seed": job.seed}
    if job.blend.budget is not None and not job.blend.short_of(job.weights):
        dataset["epoch_size"] = job.examples("the epoch size is counted in samples")
    return commented(job, {"train_loader": {"name": "text", "dataset": dataset}})


HF = Target(
    name="hf",
    unit="example",
    forms={".json": interleave},
    usage="mix = json.load(open('{file}')); interleave_datasets([load(name) for name in mix['datasets']], **mix['arguments'])",
    reference="datasets: src/datasets/combine.py",
    paths=False,
    sums="1",
    check=stopping,
)
LLAMA_FACTORY = Target(
    name="llama-factory",
    unit="example",
    forms={".yaml": llama_factory},
    usage="add the lines to the training file; each dataset name is an entry of dataset_info.json",
    reference="llamafactory: hparams/data_args.py, data/data_utils.py",
    paths=False,
    sums="1",
    check=stopping,
)
LITDATA = Target(
    name="litdata",
    unit="example",
    forms={".json": litdata},
    usage="mix = json.load(open('{file}')); CombinedStreamingDataset([StreamingDataset(d) for d in mix['input_dirs']], **mix['arguments'])",
    reference="litdata: streaming/combined.py",
    check=ends_early,
)
MOSAIC = Target(
    name="mosaic",
    unit="example",
    forms={".yaml": mosaic},
    usage="train_loader of a Composer or llm-foundry file, or StreamingDataset(streams=[Stream(**s) for s in dataset['streams'].values()])",
    reference="mosaicml-streaming: streaming/base/stream.py",
)
