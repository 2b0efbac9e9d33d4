"""From a blend to a target's files: units, zeros, floors and rounding as the target demands, then written at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from mixopt.errors import InputError, listed, unknown
from mixopt.files import write

from .blend import Blend, Stage
from .shares import exact, lifted, rounded
from .table import ALIASES, TARGETS
from .target import Job, Target, header

MANY = 4  # epochs beyond which repeated data are worth visibly less (Muennighoff et al. 2023)


@final
@dataclass(frozen=True)
class Exported:
    """What was written: the files, the weights as the target has them, in its unit, and what a person should know.

    ``weights`` sum to 1, in the unit named; ``stages`` hold them for each stage; ``epochs`` are None where tokens or budget are not known.
    """

    target: str
    files: tuple[Path, ...]
    weights: Mapping[str, float]
    unit: str
    epochs: Mapping[str, float] | None
    notes: tuple[str, ...]
    usage: str
    stages: tuple[Stage, ...] = ()

    def __str__(self) -> str:
        width = max(map(len, self.weights))
        head = f"{self.target}: {', '.join(map(str, self.files))}"
        unit = {"epoch": "shares of tokens, written as passes over each domain", "as given": "shares as given"}.get(
            self.unit, f"shares of {self.unit}s"
        )
        rows = [
            f"  {name:<{width}}  {weight:.6f}" + (f"  {self.epochs[name]:.3g} epochs" if self.epochs and name in self.epochs else "")
            for name, weight in self.weights.items()
        ]
        return "\n".join([head, f"  {unit}", *rows, *(f"  note: {n}" for n in self.notes), f"  use: {self.usage}"])


def export(
    blend: Blend,
    target: str,
    path: str | os.PathLike[str],
    *,
    floor: float = 0.0,
    digits: int | None = None,
    equal_lengths: bool = False,
    seed: int = 0,
    step_tokens: float | None = None,
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    dry: bool = False,
) -> Exported:
    """Write a blend in a trainer's format; every refusal comes before the first byte is written.

    ``path`` is a file whose suffix is one of the target's, or a folder. ``floor`` is the least weight of any domain; ``digits`` rounds the
    weights to so many decimals; ``equal_lengths`` says that all examples have the same number of tokens, so that shares of tokens and of
    examples agree; ``seed`` goes to trainers that take one; ``step_tokens`` are the tokens of a training step, for targets with stages;
    ``validation`` and ``test`` are unweighted paths for Megatron and NeMo; ``dry`` refuses and tells as ever, but writes nothing.

    Raises:
        InputError: an unknown target, a suffix that is not the target's, paths, lengths, tokens or a budget that it needs and that are not
            there, or anything that the target would refuse.
    """
    if target not in (*TARGETS, *ALIASES):
        raise unknown("target", target, (*TARGETS, *ALIASES))
    record, equal_lengths = TARGETS[ALIASES.get(target, target)], equal_lengths or target in ALIASES
    places = files(record, path)
    adjusted, notes = shaped(blend, floor)
    job, more = prepared(adjusted, record, digits, equal_lengths)
    job = replace(job, seed=seed, step_tokens=step_tokens, splits={"validation": tuple(validation), "test": tuple(test)})
    texts, said = drafted(job, record, places)
    if not dry:
        for place, text in texts.items():
            write(place, text)
    usage = record.usage.replace("{file}", str(next(iter(texts))))
    return Exported(
        target=record.name,
        files=tuple(texts),
        weights=dict(job.weights),
        unit=record.unit,
        epochs=job.epochs,
        notes=tuple(dict.fromkeys((*notes, *more, *said))),
        usage=usage,
        stages=job.stages,
    )


def drafted(job: Job, record: Target, places: Mapping[str, Path]) -> tuple[dict[Path, str], list[str]]:
    """The text of each file, and the notes of the target's own check; one file a stage where it takes no schedule."""
    texts: dict[Path, str] = {}
    notes: list[str] = []
    apart = len(job.stages) > 1 and not record.schedule
    for number, single in enumerate(stage_jobs(job, record), start=1):
        notes += record.check(single)
        for suffix, place in places.items():
            where = place.with_name(f"{place.stem}.stage{number}{place.suffix}") if apart else place
            texts[where] = record.forms[suffix](single)
    if apart:
        starts = ", ".join(f"{s.start:.6g}" for s in job.stages)
        notes.append(f"{record.name} takes one mixture at a time: one file for each stage, from {starts} tokens on")
    return texts, notes


def files(record: Target, path: str | os.PathLike[str]) -> dict[str, Path]:
    """The file of each form: all of a target's forms in a folder, one where a file is named.

    Raises:
        InputError: the suffix is none of the target's.
    """
    place = Path(path)
    if place.is_dir() or not place.suffix or str(path).endswith(os.sep):
        return {suffix: place / f"{record.name}{suffix}" for suffix in record.forms}
    suffix = ".yaml" if place.suffix.lower() == ".yml" else place.suffix.lower()
    if suffix not in record.forms:
        raise InputError(f"{record.name} is written to a file that ends in {' or '.join(record.forms)}, not in {place.suffix}")
    return {suffix: place}


def shaped(blend: Blend, floor: float) -> tuple[Blend, list[str]]:
    """The blend with every weight of every stage at the floor or above, and the notes on what was lifted."""
    if floor == 0:
        return blend, []
    stages = tuple(Stage(s.start, lifted(s.weights, floor)) for s in blend.schedule)
    low = [n for n in blend.weights if any(s.weights.get(n, 0.0) < floor for s in blend.schedule)]
    notes = [f"lifted to the floor of {floor:g}: {', '.join(low)}"] if low else []
    return replace(blend, weights=stages[0].weights, stages=stages[1:]), notes


def prepared(blend: Blend, record: Target, digits: int | None, equal_lengths: bool) -> tuple[Job, list[str]]:
    """The job in the target's unit: converted, rounded, without the zeros that it refuses, with what is worth saying."""
    known = replace(blend, tokens_per_example=dict.fromkeys(blend.weights, 1.0)) if equal_lengths else blend
    notes: list[str] = []
    stages = []
    for stage in blend.schedule:
        weights = converted(known, stage.weights, record.unit)
        if digits is not None:
            weights = rounded(weights, digits)
        elif record.unit != "as given":
            weights = exact(weights)
        vanished = [n for n, w in weights.items() if not w and stage.weights.get(n)]
        if vanished:
            notes.append(f"rounded to 0: {', '.join(vanished)}")
        stages.append(Stage(stage.start, weights if record.zeros else {n: w for n, w in weights.items() if w}))
    gone = [n for n in blend.weights if all(n not in s.weights for s in stages)]
    if gone:
        notes.append(f"left out, since {record.name} is not to see a weight of 0: {', '.join(gone)}")
    mixed = {"example": "example", "as given": blend.unit}.get(record.unit, "token")
    if mixed != blend.unit:
        taken = "equal lengths assumed: these are also" if equal_lengths else "converted from"
        notes.append(f"{taken} the shares of {blend.unit}s")
    epochs, more = repeated(known)
    needs(blend, record, stages)
    own = replace(blend, weights=stages[0].weights, stages=tuple(stages[1:])) if record.unit == "as given" else blend
    job = Job(own, tuple(stages), epochs, header(blend, record.unit, epochs), equal_lengths=equal_lengths)
    return job, notes + more


def converted(blend: Blend, weights: Mapping[str, float], unit: str) -> dict[str, float]:
    """Weights as shares of what the target mixes."""
    if unit == "as given":
        return dict(weights)
    return blend.example_shares(weights) if unit == "example" else blend.token_shares(weights)


def repeated(blend: Blend) -> tuple[dict[str, float] | None, list[str]]:
    """Epochs where they can be known, with a note on domains that are read often, or on what is missing to know them."""
    if blend.tokens is None or blend.budget is None:
        missing = [
            w for w, v in (("the domains' tokens (--tokens)", blend.tokens), ("the run's budget (--budget)", blend.budget)) if v is None
        ]
        return None, [f"epochs are not known without {' and '.join(missing)}"]
    epochs = blend.epochs
    if epochs is None:
        return None, ["epochs are not known without every domain's tokens_per_example, since the weights are shares of examples"]
    often = [f"{n} {e:.1f}" for n, e in epochs.items() if e > MANY]
    notes = [f"read more than {MANY} times, where repeated data are worth visibly less: {', '.join(often)}"] if often else []
    return epochs, notes


def needs(blend: Blend, record: Target, stages: Sequence[Stage]) -> None:
    """Refuse a target that needs to know where the domains lie when it is not known."""
    known = blend.paths or {}
    missing = [n for n in blend.weights if any(n in s.weights for s in stages) and not known.get(n)]
    if record.paths and missing:
        some = missing[0]
        raise InputError(
            f"{record.name} needs to know where {listed(missing)} {'lie' if len(missing) > 1 else 'lies'}; give paths={{{some!r}: ...}} "
            f"(--path {some}=..., --paths FILE), or one pattern for all, root='dir' or 'dir/{{domain}}/train' (--root)"
        )


def stage_jobs(job: Job, record: Target) -> list[Job]:
    """One job for a target that takes a schedule, else one for each stage, with the stage's own budget."""
    if record.schedule or len(job.stages) == 1:
        return [job]
    ends = [*(s.start for s in job.stages[1:]), job.blend.budget]
    jobs = []
    for stage, given, end in zip(job.stages, job.blend.schedule, ends, strict=True):
        budget = None if end is None else end - stage.start
        blend = replace(job.blend, weights=given.weights, stages=(), budget=budget)
        whole = replace(blend, tokens_per_example=dict.fromkeys(blend.weights, 1.0)) if job.equal_lengths else blend
        epochs, _ = repeated(whole)
        lines = (*job.header[:1], *header(blend, record.unit, epochs)[1:], f"For the run from {stage.start:.6g} tokens on.")
        jobs.append(replace(job, blend=blend, stages=(Stage(0.0, stage.weights),), epochs=epochs, header=lines))
    return jobs
