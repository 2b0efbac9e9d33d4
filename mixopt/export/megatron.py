"""Megatron-LM and NeMo: lists of weight and path prefix, packed sequences.

Megatron reads ``--data-args-path`` by splitting at white space, takes a list of even length whose every other item is a number as
weights and prefixes, and asserts that each weight is > 0 and that there are fewer than 32767 datasets (megatron/core/datasets/utils.py,
blended_dataset.py). ``--per-split-data-args-path`` is JSON with train, valid and test, each a list or null (megatron/training). NeMo's
PreTrainingDataModule takes the same list as ``paths``, or train, validation and test (nemo/collections/llm/gpt/data/pre_training.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mixopt.errors import InputError

from .target import Job, Target, commented

MOST = 32767


def _pairs(job: Job) -> list[tuple[str, str]]:
    pieces = [(repr(weight), path) for path, weight in job.pieces(job.weights)]
    if len(pieces) >= MOST:
        raise InputError(f"there are {len(pieces)} datasets; Megatron takes fewer than {MOST}, so join some")
    return pieces


def _flat(job: Job) -> list[str]:
    return [text for pair in _pairs(job) for text in pair]


def _split(job: Job, name: str) -> list[str] | None:
    """The paths of another split, unweighted."""
    paths: Sequence[str] = job.splits.get(name, ())
    if len(paths) % 2 == 0 and any(_is_number(p) for p in paths[::2]):
        raise InputError(f"the {name} path {next(p for p in paths[::2] if _is_number(p))!r} would be read as a weight; write ./ before it")
    return list(paths) or None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def data_args(job: Job) -> str:
    """The file for --data-args-path: a weight and a prefix a line; the format has no comments."""
    for _, prefix in _pairs(job):
        if prefix.split() != [prefix]:
            raise InputError(
                f"Megatron splits this file at white space, so the prefix {prefix!r} would break; write the per-split file instead "
                "(a name that ends in .json), or rename it"
            )
    return "".join(f"{weight} {prefix}\n" for weight, prefix in _pairs(job))


def per_split(job: Job) -> str:
    """The file for --per-split-data-args-path."""
    content = {"train": _flat(job), "valid": _split(job, "validation"), "test": _split(job, "test")}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def nemo(job: Job) -> str:
    """The arguments of PreTrainingDataModule."""
    others = {name: found for name in ("validation", "test") if (found := _split(job, name))}
    paths: Any = {"train": _flat(job), **others} if others else _flat(job)
    return commented(job, {"data": {"_target_": "nemo.collections.llm.gpt.data.pre_training.PreTrainingDataModule", "paths": paths}})


MEGATRON = Target(
    name="megatron",
    unit="sequence",
    forms={".txt": data_args, ".json": per_split},
    usage="--data-args-path (.txt) or --per-split-data-args-path (.json); stages: one file each, with --phase-transition-iterations",
    reference="megatron/core/datasets/utils.py get_blend_from_list, blended_dataset.py",
)
NEMO = Target(
    name="nemo",
    unit="sequence",
    forms={".yaml": nemo},
    usage="PreTrainingDataModule(paths=yaml.safe_load(open('{file}'))['data']['paths'], ...)",
    reference="nemo/collections/llm/gpt/data/pre_training.py",
)
