"""``mixopt design``: which mixtures to train proxies on, what they cost, and a ready configuration of each for a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixopt.errors import InputError, MissingExtraError

from . import fit_options as o
from .common import Json, Quiet, Voice, seeded

if TYPE_CHECKING:
    from mixopt.designs import Design, Price
    from mixopt.language.domains import Domains
    from mixopt.runs import Runs

_RUNS, _PRICE, _EMIT = "Which runs", "What they cost", "For your trainer"
_OWN = ("autoscale", "lattice")
"""Kinds that settle how many runs they have, where nobody says."""


def _option(panel: str, text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel)


def design(
    ctx: typer.Context,
    problem: Annotated[
        str | None, typer.Argument(metavar="FILE.py:NAME", help="A problem whose constraints the design keeps; else give domains.")
    ] = None,
    domains: Annotated[str | None, _option(_RUNS, "The domains: web,code,books; or give --tokens.")] = None,
    tokens: o.Tokens = None,
    runs: Annotated[int | None, _option(_RUNS, "How many runs, replicates among them; 3 (k + 1) by default.")] = None,
    kind: Annotated[
        str, _option(_RUNS, "dirichlet (as RegMix draws), sobol, uniform, lattice, d-optimal, autoscale, bayesian or climb.")
    ] = "dirichlet",
    law: Annotated[
        str, _option(_RUNS, "The law that will be fitted: d-optimal chooses for it, and too few runs for it are told.")
    ] = "exponential",
    after: Annotated[
        list[str] | None,
        _option(_RUNS, "Runs so far, for the next round: a folder of runs, or the runs.csv of mixopt collect. Repeatable."),
    ] = None,
    weight: o.Weight = None,
    prior: o.Prior = None,
    at_most: o.AtMost = None,
    at_least: o.AtLeast = None,
    fix: o.Fix = None,
    cap: Annotated[str | None, _option(_RUNS, "Epochs that the target may take of a domain; needs --tokens and --target-tokens.")] = None,
    replicates: Annotated[int | None, _option(_RUNS, "How many of the runs repeat one mixture, to tell the noise; 0 is none.")] = None,
    seed: Annotated[int, seeded("Seed of the design; training seeds count up from it.", _RUNS)] = 0,
    gpu_hours: Annotated[str | None, _option(_PRICE, "Budget of all runs in GPU-hours: proposes size, tokens and number of runs.")] = None,
    target_params: Annotated[str | None, _option(_PRICE, "Parameters of the model that the mixture is for, such as 7e9.")] = None,
    target_tokens: Annotated[
        str | None, _option(_PRICE, "Tokens of its run, such as 2e12; also tells how much of a domain proxies may read.")
    ] = None,
    params: Annotated[str | None, _option(_PRICE, "Parameters of a proxy.")] = None,
    run_tokens: Annotated[str | None, _option(_PRICE, "Training tokens of a proxy.")] = None,
    embedding: Annotated[str | None, _option(_PRICE, "Parameters of the proxy's input embedding, which cost no FLOPs.")] = None,
    mfu: Annotated[str, _option(_PRICE, "Share of the peak that training reaches.")] = "0.4",
    peak: Annotated[str, _option(_PRICE, "Peak FLOP/s of a GPU.")] = "989e12",
    emit: Annotated[
        list[str] | None, _option(_EMIT, "json, slurm, megatron, olmo-core, litgpt or another target of mixopt export. Repeatable.")
    ] = None,
    root: Annotated[str | None, _option(_EMIT, "Where the domains lie: DIR, or a pattern such as DIR/{domain}/train.")] = None,
    path: Annotated[list[str] | None, _option(_EMIT, "Where one domain lies: web=/data/web. Repeatable.")] = None,
    command: Annotated[
        str | None, _option(_EMIT, "What trains a run, with {config}, {folder}, {run}, {seed}, {tokens}, {params} in it.")
    ] = None,
    sbatch: Annotated[list[str] | None, _option(_EMIT, "A line for sbatch: --sbatch=--gres=gpu:1. Repeatable.")] = None,
    at_once: Annotated[int | None, _option(_EMIT, "Most jobs of the array at a time.")] = None,
    equal_lengths: Annotated[bool, _option(_EMIT, "All examples have the same tokens (packed).", "--equal-lengths")] = False,
    layout: Annotated[str, typer.Option(help="Layout of design.csv: mixopt, regmix or olmix; --emit needs mixopt.")] = "mixopt",
    out: Annotated[Path, typer.Option(help="Folder for design.csv, its picture, and the runs.")] = Path("out/design"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose the mixtures of proxy runs within constraints, tell what they cost, and write a configuration of each."""
    from mixopt import designs
    from mixopt.fitting.options import by_name, number, numbers

    voice, flags = Voice(json, quiet), ctx.params
    if emit and layout != "mixopt":
        raise InputError(f"--emit keeps its design.csv in the layout mixopt, so that mixopt collect reads it, and --layout is {layout}")
    _refuse_idle(flags)
    sizes = {n: number(flags[n], f"--{n.replace('_', '-')}") for n in _NUMBERS if flags[n] is not None}
    where, names, given, limits = _where(flags, sizes.get("target_tokens"))
    so_far, goal = _after(after or ()), numbers(weight, "--weight") if weight else None

    def designed(count: int | None, length: float | None) -> Design:
        return designs.design(
            where,
            runs=count,
            kind=kind,
            law=law,
            after=so_far,
            objective=goal,
            prior=by_name(prior, "--prior") if prior else None,
            subject_to=limits,
            given=given,
            replicates=replicates,
            tokens=length,
            seed=seed,
        )

    price = None
    if gpu_hours is not None:
        own = designed(runs, 1.0) if kind in _OWN else None  # how many runs it has, and of which lengths
        price = _price(names, runs if own is None else own, sizes)
        voice.say(str(price))
    found = designed(runs, sizes.get("run_tokens")) if price is None else designed(price.runs, price.tokens)
    files, notes = _written(found, flags, price, sizes)
    several = f" and {len(files) - 2} more files in {out}" if len(files) > 4 else "".join(f", {f}" for f in files[1:])
    lines = [found.describe(), *(f"  note: {note}" for note in notes), f"written: {files[0]}{several}"]
    voice.answer("\n".join(lines), _content(found, price, notes, files))


def _refuse_idle(flags: Mapping[str, Any]) -> None:
    """Raise where an option is given that nothing would read."""
    from mixopt.fitting.flags import said

    readers = {
        "--emit": (flags["emit"] or flags["command"], ("root", "path", "equal_lengths")),
        "--emit slurm": ("slurm" in (flags["emit"] or ()), ("sbatch", "at_once")),
        "--gpu-hours": (said(flags["gpu_hours"]), ("target_params", "embedding")),
        "--after": (flags["after"], ("weight",)),
    }
    for reader, (there, names) in readers.items():
        for name in names:
            if said(flags[name]) and not there:
                raise InputError(f"--{name.replace('_', '-')} goes with {reader}, which is not given; give it too, or leave this one out")


def _written(
    found: Design, flags: Mapping[str, Any], price: Price | None, sizes: Mapping[str, float]
) -> tuple[list[Path], tuple[str, ...]]:
    """The files of a design, its table first, and notes."""
    from mixopt import designs
    from mixopt.fitting.options import paths

    out = flags["out"]
    if not (flags["emit"] or flags["command"]):
        designs.check_folder(found, out)
        found.to_csv(out / designs.DESIGN, flags["layout"])
        return [out / designs.DESIGN, *_picture(found, out)], ()
    made = designs.emit(
        found,
        out,
        flags["emit"] or "json",
        command=flags["command"],
        params=sizes.get("params") if price is None else price.params,
        target_tokens=sizes.get("target_tokens") if found.domains.tokens and (price or "run_tokens" in sizes) else None,
        root=flags["root"],
        paths=paths(flags["path"] or (), "--path"),
        equal_lengths=flags["equal_lengths"],
        sbatch=flags["sbatch"] or (),
        at_once=flags["at_once"],
    )
    return [*made.files, *_picture(found, out)], made.notes


_NUMBERS = ("cap", "gpu_hours", "target_params", "target_tokens", "params", "run_tokens", "embedding", "mfu", "peak")


def _where(flags: Mapping[str, Any], target_tokens: float | None) -> tuple[Any, Domains, Any, tuple[Any, ...]]:
    """What the design is over, its domains, numbers of parameters, and constraints from flags."""
    from mixopt.compiler.classify import classify
    from mixopt.fitting.limits import Limits
    from mixopt.fitting.options import by_name, number, numbers
    from mixopt.language.domains import Domains
    from mixopt.language.problem import problem_in
    from mixopt.language.symbols import Mixture, domains_of

    from .problems import Stated

    typed = [f"--{n.replace('_', '-')}" for n in ("domains", "tokens", "at_most", "at_least", "fix", "cap") if flags[n]]
    if flags["problem"] is not None:
        if typed:
            raise InputError(f"domains and constraints of a problem stand in its file, so {', '.join(typed)} cannot be given beside it")
        stated = Stated.read(flags["problem"])
        return stated.problem, domains_of(classify(problem_in(stated.problem)).mixture), stated.given, ()
    told = by_name(flags["tokens"], "--tokens") if flags["tokens"] else None
    names = [n.strip() for n in flags["domains"].split(",")] if flags["domains"] else list(told or ())
    if not names:
        raise InputError(
            "there is nothing to design; give --domains web,code, --tokens FILE or web=8e11,code=1e11, or a problem, FILE.py:NAME"
        )
    domains = Domains(names, told)
    least, most, fixed = (numbers(flags[n] or (), f"--{n.replace('_', '-')}") for n in ("at_least", "at_most", "fix"))
    cap = None if flags["cap"] is None else number(flags["cap"], "--cap")
    if cap is not None and target_tokens is None:
        raise InputError("--cap counts epochs of the run that the mixture is for; give its tokens, --target-tokens")
    limits = Limits(domains, budget=target_tokens, cap=cap, at_least=least, at_most=most, fixed=fixed)
    return domains, domains, None, limits.relations(Mixture(domains))


def _price(domains: Domains, runs: int | Design | None, sizes: Mapping[str, float]) -> Price:
    """What so many runs cost, or those of a design whose tokens are multiples of a run's."""
    from mixopt.designs import price

    lacking = [f"--{n.replace('_', '-')}" for n in ("target_params", "target_tokens") if n not in sizes]
    if lacking:
        raise InputError(f"--gpu-hours proposes proxies for a target; give {' and '.join(lacking)}")
    own = {n: sizes[n] for n in ("gpu_hours", "target_params", "target_tokens", "params", "embedding", "mfu", "peak") if n in sizes}
    if runs is None or isinstance(runs, int):
        return price(domains, runs=runs, tokens=sizes.get("run_tokens"), **own)
    length = 1.0 if runs.tokens is None else float(runs.tokens.mean())
    return price(domains, runs=len(runs), tokens=sizes.get("run_tokens"), mean_length=length, **own)


def _after(given: Any) -> Runs | None:
    """The runs so far, from folders and tables."""
    from mixopt.designs import collect
    from mixopt.runs import Runs

    tables = [collect(one) if Path(one).is_dir() else Runs.from_csv(one) for one in given]
    return tables[0].joined(*tables[1:]) if tables else None


def _picture(found: Design, out: Path) -> list[Path]:
    """The picture of what the design covers, where matplotlib is installed."""
    from mixopt.report.plots import save

    try:
        save(found.picture(), out / "coverage.svg")
    except MissingExtraError:
        return []
    return [out / "coverage.svg"]


def _content(found: Design, price: Price | None, notes: tuple[str, ...], files: list[Path]) -> dict[str, Any]:
    """The answer as plain data."""
    cost = (
        None if price is None else {**asdict(price), "flops": price.flops, "gpu_hours": price.hours, "target_gpu_hours": price.target_hours}
    )
    return {
        "kind": found.kind,
        "seed": found.seed,
        "weights": found.weights,
        "origins": dict(zip(found.ids, found.origins, strict=True)),
        "seeds": dict(zip(found.ids, found.seeds.tolist(), strict=True)),
        "replicates": [[found.ids[r] for r in group] for group in found.replicates()],
        "price": cost,
        "notes": [*found.notes, *notes],
        "files": [str(file) for file in files],
    }
