"""``mixopt export``: a mixture in the format of a trainer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mixopt.errors import InputError
from mixopt.export import Blend, Exported, Target, read_paths, targets
from mixopt.export import export as write

from .common import Json, Quiet, Voice, seeded

Pairs = list[str] | None


def export(
    mixture: Annotated[
        Path | None, typer.Argument(help="Weights: mixture.json, a saved result, JSON, YAML or CSV of domain and weight.")
    ] = None,
    to: Annotated[Pairs, typer.Option("--to", help="A target; give the option again for more. --list shows them.")] = None,
    out: Annotated[Path | None, typer.Option(help="A file, or a folder for all the files of all targets.", show_default=".")] = None,
    root: Annotated[str | None, typer.Option(help="Where the domains lie: DIR, or a pattern such as DIR/{domain}/train.")] = None,
    path: Annotated[Pairs, typer.Option(help="Where one domain lies, as name=path; again for more domains or more paths.")] = None,
    paths: Annotated[Path | None, typer.Option(help="A JSON or YAML file of domain and path, or list of paths.")] = None,
    tokens: Annotated[Pairs, typer.Option(help="Tokens of the domains: a file or web=2e12,code=3e11. Repeatable.")] = None,
    budget: Annotated[float | None, typer.Option(help="Tokens of the training run.")] = None,
    tokens_per_example: Annotated[
        Pairs, typer.Option(help="Mean tokens of the domains' examples: a file or web=800,code=2000. Repeatable.")
    ] = None,
    equal_lengths: Annotated[bool, typer.Option("--equal-lengths", help="Every example has the same number of tokens.")] = False,
    floor: Annotated[float, typer.Option(help="The least weight of any domain.")] = 0.0,
    digits: Annotated[int | None, typer.Option(help="Round weights to so many decimals, keeping their sum.")] = None,
    seed: Annotated[int, seeded("Seed for trainers that take one from this file.")] = 0,
    step_tokens: Annotated[float | None, typer.Option(help="Tokens of a training step, where stages start at steps.")] = None,
    validation: Annotated[Pairs, typer.Option(help="A validation path for Megatron and NeMo; again for more.")] = None,
    test: Annotated[Pairs, typer.Option(help="A test path for Megatron and NeMo; again for more.")] = None,
    normalise: Annotated[bool, typer.Option("--normalise", help="Divide weights by their sum, whatever it is.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the targets and what each demands.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a mixture for Megatron, NeMo, Hugging Face, litdata, MosaicML, OLMo-core, torchtitan, nanotron, Levanter and others."""
    from mixopt.fitting.options import paths as located

    voice = Voice(json, quiet)
    if show:
        voice.answer(_table(targets()), {"targets": [_target(t) for t in targets()]})
        return
    if mixture is None or not to:
        raise InputError("give a file with weights and a target: mixopt export mixture.json --to megatron; --list shows the targets")
    if len(to) > 1 and out is not None and out.suffix and not out.is_dir():
        raise InputError(f"{len(to)} targets cannot share the file {out}; name a folder with --out")
    blend = Blend.load(mixture, normalise=normalise).completed(
        {**(read_paths(paths) if paths else {}), **located(path or (), "--path")},
        root,
        _numbers("--tokens", tokens),
        budget,
        _numbers("--tokens-per-example", tokens_per_example),
    )
    one = partial(
        write,
        blend,
        path=out or Path(),
        floor=floor,
        digits=digits,
        equal_lengths=equal_lengths,
        seed=seed,
        step_tokens=step_tokens,
        validation=validation or (),
        test=test or (),
    )
    for target in to:
        one(target=target, dry=True)
    done = [one(target=target) for target in to]
    voice.answer("\n".join(map(str, done)), {"exports": [_exported(e) for e in done]})


def _numbers(option: str, given: Pairs) -> dict[str, float]:
    from mixopt.fitting.options import by_name

    return {name: value for one in given or () for name, value in by_name(one, option).items()}


def _target(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "unit": target.unit,
        "sums": target.sums,
        "zeros": target.zeros,
        "schedule": target.schedule,
        "paths": target.paths,
        "files": [f"{target.name}{suffix}" for suffix in target.forms],
        "use": target.usage,
        "reference": target.reference,
    }


def _table(known: tuple[Target, ...]) -> str:
    head = ("target", "mixes", "zeros", "stages", "paths", "writes")
    words = ("no", "yes")
    rows = [head, *((t.name, t.unit, words[t.zeros], words[t.schedule], words[t.paths], " ".join(t.forms)) for t in known)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _exported(e: Exported) -> dict[str, object]:
    return {
        "target": e.target,
        "files": [str(f) for f in e.files],
        "unit": e.unit,
        "weights": e.weights,
        "epochs": e.epochs,
        "notes": e.notes,
        "stages": [{"start": s.start, "weights": s.weights} for s in e.stages],
        "use": e.usage,
    }
