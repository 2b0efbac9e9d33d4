"""A design for a trainer of the user's own: one ready configuration a run, and a script that trains what is not trained yet."""

from __future__ import annotations

import json
import os
import shlex
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from mixopt.errors import InputError, listed, unknown
from mixopt.export import Blend, export
from mixopt.export.table import ALIASES, TARGETS
from mixopt.files import write
from mixopt.language.domains import Domains

from .epoching import simulated
from .plan import Design

DESIGN, RUN, TRAIN, NAMES, SLURM = "design.csv", "run.json", "train.sh", "runs.txt", "sweep.sbatch"
"""The files of a folder of runs, and of a run in its folder."""
FORMAT = "mixopt run 1"
"""Trainers by the loader that they have their data from, all examples of one length."""
BARE = ("json", "slurm")
"""Targets that need no file but run.json, and the scripts."""
_CUT = (
    "epochs are of the parts of domains that run.json tells as tokens_of_domains; cut the data of a proxy to these, as mixopt cut "
    "does, or it will repeat less than the target"
)
PLACES = ("run", "folder", "config", "seed", "tokens", "params")
"""What a command may name in braces."""


@final
@dataclass(frozen=True)
class Emitted:
    """The folder of the runs, the files that were written in it, the design's first, and what a person should know."""

    folder: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def emit(
    design: Design,
    folder: str | os.PathLike[str],
    to: str | Sequence[str] = "json",
    *,
    command: str | None = None,
    params: float | None = None,
    tokens: float | None = None,
    target_tokens: float | None = None,
    root: str | None = None,
    paths: Mapping[str, str | Sequence[str]] | None = None,
    equal_lengths: bool = False,
    sbatch: Sequence[str] = (),
    at_once: int | None = None,
) -> Emitted:
    """Write design.csv and for each run a folder with run.json (id, seed, weights, parameters, tokens) and its trainer's files.

    ``to`` are "json" (run.json alone), "slurm", or targets of ``mixopt.export`` such as "megatron" and "olmo-core"; "litgpt" is litdata's
    file, for the blocks of one length that LitGPT reads. Where a domain lies is told by ``root`` or ``paths``. ``tokens`` are those
    of a run where the design sets none; with ``target_tokens`` and domains of known sizes run.json tells how many tokens of each
    domain a proxy may read (``simulated``), and files tell epochs over these.

    ``command`` trains one run, with {run}, {folder}, {config} (its run.json), {seed}, {tokens} and {params} in it: each run then has a
    train.sh, and "slurm" a sweep.sbatch besides, an array of at most ``at_once`` jobs at a time with the lines ``sbatch``, which leaves
    out runs whose folder has a file ``done``. It is submitted where ``folder`` was written from.

    Raises:
        InputError: an unknown target or place in the command, numbers that are missing or not > 0, a folder that holds the runs of
            another design, or what ``mixopt.export`` refuses; nothing is written then.
    """
    wanted = [to] if isinstance(to, str) else list(to)
    names = (*BARE, *TARGETS, *ALIASES)
    for target in wanted:
        if target not in names:
            raise unknown("target", target, names)
    if "slurm" in wanted and command is None:
        raise InputError("slurm jobs train by a command of yours; give one, such as --command 'python train.py --config {config}'")
    place = Path(folder)
    check_folder(design, place)
    _check(design, command, params, tokens, sbatch, at_once)
    parts = _parts(design, tokens, target_tokens)
    blends = {run: _blend(weights, parts[run], root, paths) for run, weights in design.weights.items()}
    trainers = [t for t in wanted if t not in BARE]
    notes: list[tuple[str, str]] = []
    files: list[Path] = []
    for dry in (True, False):
        files.clear()
        for run, blend in blends.items():
            for target in trainers:
                seed = int(design.seeds[design.ids.index(run)])
                made = export(blend, target, f"{place / run}{os.sep}", equal_lengths=equal_lengths, seed=seed, dry=dry)
                files += made.files
                notes += [(run, f"{made.target}: {note}") for note in made.notes if dry]
    files += _own(design, place, parts, params, command)
    if "slurm" in wanted:
        write(place / SLURM, _slurm(place, len(design), sbatch, at_once))
        files.append(place / SLURM)
    design.to_csv(place / DESIGN)
    write(place / NAMES, "".join(f"{run}\n" for run in design.ids))
    cut = (_CUT,) if trainers and target_tokens is not None else ()
    return Emitted(place, (place / DESIGN, place / NAMES, *files), (*cut, *_told(notes, len(design))))


def check_folder(design: Design, folder: Path) -> None:
    """Refuse a folder that holds the runs of another design, which would be mixed with these."""
    if not (folder / NAMES).is_file() or not (folder / DESIGN).is_file():
        return
    there = Design.from_csv(folder / DESIGN)
    if there.weights != design.weights or there.seeds.tolist() != design.seeds.tolist():
        raise InputError(f"{folder} holds the {len(there)} runs of another design; give another folder, or remove it if none is needed")


def _told(notes: Sequence[tuple[str, str]], count: int) -> tuple[str, ...]:
    """Notes of ``count`` runs, those that differ only behind a last colon told once with an example."""
    alike: dict[str, dict[str, str]] = {}
    for run, note in notes:
        alike.setdefault(note.rpartition(": ")[0] if note.count(": ") > 1 else note, {})[run] = note
    found = []
    for head, same in alike.items():
        run, note = next(iter(same.items()))
        where = f"in {len(same)} runs, such as {run}" if len(same) > 1 else f"in {run}"
        everywhere = len(same) == count and len(set(same.values())) == 1
        found.append(note if everywhere else f"{head}, {where}{note.removeprefix(head)}")
    return tuple(found)


@final
@dataclass(frozen=True)
class _Part:
    """The tokens of a run, and the domains with what it may read of each, where that is known."""

    tokens: float | None
    domains: Domains


def _parts(design: Design, tokens: float | None, target_tokens: float | None) -> dict[str, _Part]:
    """What each run reads."""
    found = {}
    for r, run in enumerate(design.ids):
        length = tokens if design.tokens is None else float(design.tokens[r])
        domains = design.domains
        if target_tokens is not None:
            if length is None:
                raise InputError("simulated epoching needs the tokens of a proxy; give tokens=... (--run-tokens)")
            domains = simulated(domains, length, target_tokens)
        found[run] = _Part(length, domains)
    return found


def _blend(weights: Mapping[str, float], part: _Part, root: str | None, paths: Mapping[str, str | Sequence[str]] | None) -> Blend:
    sizes = None if part.domains.tokens is None else dict(zip(part.domains, part.domains.tokens, strict=True))
    return Blend(weights, tokens=sizes, budget=part.tokens).completed(paths, root)


def _own(design: Design, place: Path, parts: Mapping[str, _Part], params: float | None, command: str | None) -> list[Path]:
    """run.json and train.sh of every run."""
    files = []
    for r, (run, weights) in enumerate(design.weights.items()):
        part, seed = parts[run], int(design.seeds[r])
        told: dict[str, Any] = {"format": FORMAT, "run": run, "origin": design.origins[r], "seed": seed}
        told |= {name: value for name, value in (("params", params), ("tokens", part.tokens)) if value is not None}
        told["weights"] = weights
        if part.domains is not design.domains and part.domains.tokens is not None:
            told["tokens_of_domains"] = dict(zip(part.domains, part.domains.tokens, strict=True))
        config = place / run / RUN
        write(config, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        files.append(config)
        if command is not None:
            known = {"run": run, "folder": str(place / run), "config": str(config), "seed": seed, "tokens": part.tokens, "params": params}
            line = command.format_map({n: shlex.quote(f"{v:.0f}" if isinstance(v, float) else str(v)) for n, v in known.items()})
            write(place / run / TRAIN, f"set -euo pipefail\n{line}\ntouch {shlex.quote(str(place / run / 'done'))}\n")
            files.append(place / run / TRAIN)
    return files


def _slurm(place: Path, count: int, lines: Sequence[str], at_once: int | None) -> str:
    """The job array: the n-th job trains the n-th run of runs.txt, where it is not done yet."""
    folder = shlex.quote(str(place))
    head = [
        f"--array=0-{count - 1}{'' if at_once is None else f'%{at_once}'}",
        "--job-name=proxies",
        f"--output={shlex.quote(f'{place}/%x-%A_%a.log')}",
        *lines,
    ]
    body = [
        "set -euo pipefail",
        f'run=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {folder}/{NAMES})',
        f'if [ -e {folder}/"$run"/done ]; then exit 0; fi',
        f'bash {folder}/"$run"/{TRAIN}',
    ]
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in head), *body, ""])


def _check(
    design: Design, command: str | None, params: float | None, tokens: float | None, sbatch: Sequence[str], at_once: int | None
) -> None:
    for name, value in (("params", params), ("tokens", tokens), ("at_once", at_once)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name} is {value}; it is a number > 0")
    for run in design.ids:
        if Path(run).name != run or run in (".", ".."):
            raise InputError(f"run {run!r} cannot be the name of a folder; rename it in the design")
    for line in sbatch:
        if not line.startswith("-") or "\n" in line:
            raise InputError(f"{line!r} is no line of sbatch; write it as sbatch does, --sbatch=--gres=gpu:1")
    if command is None:
        return
    try:
        parsed = [part for part in string.Formatter().parse(command) if part[1] is not None]
    except ValueError as error:
        raise InputError(
            f"the command {command!r} cannot be read: {error}; write a brace that is meant as one twice, {{{{ and }}}}"
        ) from None
    used = [f"{name}{f'!{how}' if how else ''}{f':{form}' if form else ''}" for _, name, form, how in parsed]
    for name in used:
        if name not in PLACES:
            raise InputError(
                f"the command names {{{name}}}, and it may name {listed(f'{{{n}}}' for n in PLACES)}; write other braces twice"
            )
    for name, value in (("tokens", tokens if design.tokens is None else True), ("params", params)):
        if name in used and value is None:
            raise InputError(f"the command names {{{name}}}, and the runs' {name} are not given; give {name}=...")
