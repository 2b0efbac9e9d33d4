"""Every target by its name."""

from __future__ import annotations

import json

from .materialise import AXOLOTL, DATA_JUICER, DATATROVE
from .megatron import MEGATRON, NEMO
from .samplers import HF, LITDATA, LLAMA_FACTORY, MOSAIC
from .target import Job, Target, commented
from .trainers import LEVANTER, NANOTRON, OLMO_CORE, TORCHTITAN


def _json(job: Job) -> str:
    return json.dumps(job.blend.record(), indent=2, ensure_ascii=False) + "\n"


def _yaml(job: Job) -> str:
    return commented(job, job.blend.record())


_OWN = {"unit": "as given", "usage": "Blend.load('{file}')", "reference": "mixopt.export.Blend", "sums": "1"}
JSON = Target(name="json", forms={".json": _json}, zeros=True, schedule=True, paths=False, **_OWN)  # type: ignore[arg-type]
YAML = Target(name="yaml", forms={".yaml": _yaml}, zeros=True, schedule=True, paths=False, **_OWN)  # type: ignore[arg-type]

TARGETS = {
    target.name: target
    for target in (
        MEGATRON,
        NEMO,
        HF,
        LITDATA,
        MOSAIC,
        OLMO_CORE,
        TORCHTITAN,
        NANOTRON,
        LEVANTER,
        LLAMA_FACTORY,
        AXOLOTL,
        DATATROVE,
        DATA_JUICER,
        JSON,
        YAML,
    )
}

ALIASES = {"litgpt": LITDATA.name}
"""Trainers that read another target's file, in blocks of one length: shares of tokens and of examples are the same."""


def targets() -> tuple[Target, ...]:
    """Every target there is, in the order of the documentation."""
    return tuple(TARGETS.values())
