"""Trainers with files of their own: OLMo-core, torchtitan, nanotron and Levanter.

OLMo-core's sources need ratios in (0, 1] that sum to 1, and stop where a source would be repeated more than max_repetition_ratio times
(olmo_core/data/source_mixture.py). torchtitan's sources each emit packed sequences; the released Interleaved data loader normalises their
weights, the newer Grain one wants them positive (torchtitan/hf_datasets/text_datasets.py, components/data/dataset.py). nanotron's
data_stages need one that starts at step 1 (src/nanotron/config/config.py). Levanter takes [step, weights] pairs and draws
int(weight x mixture_block_size) sequences from each dataset in every block, the rest from the largest; a block is smaller than 65536
(src/levanter/data/mixture.py).
"""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from mixopt.errors import InputError

from .target import Job, Target, commented


def olmo_core(job: Job) -> str:
    """A SourceMixtureList."""
    sources = [
        {
            "source_name": name,
            "target_ratio": weight,
            "paths": list(job.paths(name)),
            "max_repetition_ratio": float(max(1, math.ceil((job.epochs or {}).get(name, 1.0)))),
            "max_source_fraction": 1.0,
        }
        for name, weight in job.weights.items()
    ]
    return commented(job, {"sources": sources})


def olmo_notes(job: Job) -> tuple[str, ...]:
    """Whether max_repetition_ratio is known to suffice, and whether paths are files."""
    notes = []
    if job.epochs is None or any(name not in job.epochs for name in job.weights):
        notes.append(
            "max_repetition_ratio is 1 where epochs are not known: OLMo-core stops if a source is too small; give tokens and a budget"
        )
    folders = [path for name in job.weights for path in job.paths(name) if "*" not in path and not PurePath(path).suffix]
    if folders:
        notes.append(f"OLMo-core takes token files or globs, and {folders[0]!r} looks like a folder; did you mean {folders[0]}/*.npy?")
    return tuple(notes)


def torchtitan(job: Job) -> str:
    """A Python module with the configuration of the data loader; names are entries of torchtitan's table of datasets."""
    sources = "".join(
        f"        HFDataSource(dataset={name!r}, dataset_path={path!r}, weight={weight!r}, infinite=True),\n"
        for name in job.weights
        for path, weight in job.pieces({name: job.weights[name]})
    )
    return (
        "".join(f"# {line}\n" for line in job.header)
        + "from torchtitan.hf_datasets.text_datasets import HFDataSource, InterleavedHuggingFaceTextDataLoader\n\n"
        + f"WEIGHTS = {dict(job.weights)!r}\n\n"
        + f"dataloader = InterleavedHuggingFaceTextDataLoader.Config(\n    sources=[\n{sources}    ],\n    seed={job.seed},\n)\n"
    )


def nanotron(job: Job) -> str:
    """data_stages with folders and weights."""
    stages = []
    for i, stage in enumerate(job.stages, start=1):
        pieces = job.pieces(stage.weights)
        dataset = {"dataset_folder": [path for path, _ in pieces], "dataset_weights": [weight for _, weight in pieces]}
        start = 1 if i == 1 else job.step(stage.start) + 1
        stages.append(
            {
                "name": f"stage {i}",
                "start_training_step": start,
                "data": {"dataset": dataset, "num_loading_workers": 1, "seed": job.seed},
            }
        )
    return commented(job, {"data_stages": stages})


def _block(job: Job) -> int:
    """The smallest block, of 2048 sequences or more, in which every weight is worth a sequence."""
    least = min(w for stage in job.stages for w in stage.weights.values() if w)
    block = 2048
    while block * least < 1 and block < 2**15:
        block *= 2
    return block


def levanter(job: Job) -> str:
    """The data part of a Levanter file."""
    constant = len(job.stages) == 1
    weights = [[job.step(stage.start) if stage.start else 0, dict(stage.weights)] for stage in job.stages]
    data: dict[str, Any] = {
        "components": {name: {"source": {"type": "url", "train_urls": list(job.paths(name))}} for name in job.names},
        "train_weights": dict(job.weights) if constant else weights,
        "mixture_block_size": _block(job),
        "stop_strategy": "restart",
    }
    return commented(job, {"data": data})


def blocks(job: Job) -> tuple[str, ...]:
    """What a block cannot draw, and where stages may start."""
    block = _block(job)
    lost = [name for name in job.names if all(stage.weights.get(name, 0.0) * block < 1 for stage in job.stages)]
    lost = [name for name in lost if any(stage.weights.get(name, 0.0) for stage in job.stages)]
    notes = (
        [f"{', '.join(map(repr, lost))}: the weight is less than one sequence in a block of {block}, so it is never drawn"] if lost else []
    )
    if len(job.stages) > 1:
        notes.append(f"a stage must start at a multiple of mixture_block_size ({block}) sequences: step x batch size")
    return tuple(notes)


def steps(job: Job) -> tuple[str, ...]:
    """Stages that round to the same step are refused."""
    starts = [1, *(job.step(stage.start) + 1 for stage in job.stages[1:])]
    if len(set(starts)) < len(starts):
        raise InputError(f"two stages start at the same step ({starts}); a step has {job.step_tokens:g} tokens, so set them further apart")
    return ()


OLMO_CORE = Target(
    name="olmo-core",
    unit="token",
    forms={".yaml": olmo_core},
    usage="SourceMixtureDatasetConfig(source_list=SourceMixtureList.from_dict(yaml.safe_load(open('{file}'))), requested_tokens=...)",
    reference="olmo_core/data/source_mixture.py",
    sums="1",
    check=olmo_notes,
)
TORCHTITAN = Target(
    name="torchtitan",
    unit="sequence",
    forms={".py": torchtitan},
    usage="dataloader of a configuration; the newer Grain loader takes WEIGHTS.values() as weights, and mixes what its datasets emit",
    reference="torchtitan/hf_datasets/text_datasets.py, components/data/dataset.py",
)
NANOTRON = Target(
    name="nanotron",
    unit="sequence",
    forms={".yaml": nanotron},
    usage="data_stages of a training file",
    reference="src/nanotron/config/config.py",
    schedule=True,
    check=steps,
)
LEVANTER = Target(
    name="levanter",
    unit="sequence",
    forms={".yaml": levanter},
    usage="data of a training file",
    reference="src/levanter/data/mixture.py, data/text",
    zeros=True,
    schedule=True,
    check=blocks,
)
