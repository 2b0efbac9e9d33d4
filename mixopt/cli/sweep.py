"""``mixopt sweep``: the proxy runs of a design on the user's own domains, kept as they finish, as a table that ``mixopt fit`` reads."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from mixopt.errors import InputError, listed, unknown
from mixopt.files import safe, writable, write

from .common import Json, Quiet, Voice, seeded
from .reading import DomainField, Dtype, Eos, Per, Split, TextField, Tokenizer, Undecodable, reading

if TYPE_CHECKING:
    from mixopt.data.prepared import Prepared
    from mixopt.designs import Design
    from mixopt.language.domains import Domains
    from mixopt.runs import Runs
    from mixopt.sweeps import Executor, Progress

DEMO = "demo"


def _model(text: str, least: int | None = None) -> Any:
    return typer.Option(help=text, rich_help_panel="Model", min=least)


def _how(text: str, least: int | None = None) -> Any:
    return typer.Option(help=text, rich_help_panel="How runs are carried out", min=least)


def sweep(
    data: Annotated[Path, typer.Option(help="Folder with one domain for each sub-folder or file; demo is Python's own text.")],
    tokens: Annotated[
        list[float] | None,
        typer.Option(help="Tokens that each run is trained on, as 2e6. Repeatable: then each mixture has a run of each."),
    ] = None,
    target_tokens: Annotated[
        float | None, typer.Option(help="Tokens of the run that the mixture is for: proxies then repeat each domain as often as that.")
    ] = None,
    runs: Annotated[int | None, typer.Option(help="How many mixtures; else three for each of the law's parameters.", min=1)] = None,
    design: Annotated[str, typer.Option(help="A kind of design, such as dirichlet or sobol, or a CSV of mixtures.")] = "dirichlet",
    val: Annotated[list[str] | None, typer.Option(help="A validation set to measure too: name=FOLDER. Repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for tokens, the journal and the table; give it again to go on.")] = Path("out/sweep"),
    layout: Annotated[str, typer.Option(help="Also write mixtures.csv and metrics.csv as regmix or olmix lay theirs out.")] = "",
    text_field: TextField = "text",
    domain_field: DomainField = "",
    tokenizer: Tokenizer = "",
    per: Per = "folder",
    split: Split = "train",
    dtype: Dtype = "",
    eos: Eos = "",
    undecodable: Undecodable = "refuse",
    model: Annotated[str, _model("hf:FOLDER or FILE.py:FUNCTION; without one a small GPT.")] = "",
    width: Annotated[
        list[int] | None, _model("Width of the small GPT, 32 if not given. Repeatable: then each mixture has a run of each.", 1)
    ] = None,
    context: Annotated[int, _model("Tokens of a window.", 1)] = 64,
    batch: Annotated[int, _model("Windows of a batch.", 1)] = 16,
    rate: Annotated[float, _model("Peak learning rate of AdamW.")] = 1e-2,
    precision: Annotated[str, _model("float32 or bfloat16.")] = "float32",
    windows: Annotated[int, _model("Held-out windows of each domain or set that a run is measured on.", 1)] = 64,
    executor: Annotated[str, _how("ensemble, sequential, processes or ray.")] = "ensemble",
    together: Annotated[int | None, _how("Runs that an ensemble, or a task of Ray, trains together.")] = None,
    workers: Annotated[int | None, _how("Processes; else one for each core.")] = None,
    address: Annotated[str | None, _how("Address of a Ray cluster; else one of this machine.")] = None,
    gpus: Annotated[float | None, _how("GPUs, or the part of one, for each task of Ray.")] = None,
    device: Annotated[str | None, _how("Where models are trained: cpu, cuda, cuda:1.")] = None,
    compiled: Annotated[
        bool, _how("Train by torch.compile, which pays for sweeps of many minutes: by processes on a CPU, by an ensemble on a GPU.")
    ] = False,
    halving: Annotated[bool, _how("Stop the worse half of the runs after a quarter, and of the rest after half, of the steps.")] = False,
    curve: Annotated[
        int, _how("Points on the way at which losses are measured: written as curves.csv, of all runs of the folder, for laws in steps.", 0)
    ] = 0,
    seed: Annotated[int | None, seeded("Seed of the design, the models and the data; 0 if not given.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a small model for each mixture of a design, and write their losses as a table for mixopt fit."""
    import mixopt as mx
    from mixopt.fitting.options import folders
    from mixopt.runtime.recipe import Recipe

    voice = Voice(json, quiet)
    flags = {"together": together, "workers": workers, "address": address, "gpus": gpus, "device": device, "compiled": compiled or None}
    runner = _executor(executor, halving, flags)
    recipe = Recipe(steps=1, batch=batch, rate=rate, precision=_precision(precision))
    sets = folders(val or (), "--val")
    _refuse_said_twice(design, runs, seed, model, width, layout)
    _refuse_unknown(design, tokens)
    writable(out)
    how = reading(text_field, domain_field, tokenizer, per, split, dtype, eos, undecodable)
    text = _text(voice, data, sets, out, how, context)
    plan = _design(design, text.domains, runs, tokens, seed or 0)
    factory = _factory(model, text.vocabulary, context, width or [32])
    voice.say(plan.describe())
    write(out / "sizes.json", dumps(dict(zip(text.domains, text.domains.sizes.tolist(), strict=True)), indent=1) + "\n")
    with _shown(voice) as shown:
        table = mx.sweep(
            text.train,
            factory,
            plan,
            tokens=_single(tokens) if plan.tokens is None else None,
            targets=text.held,
            target_tokens=target_tokens,
            context=context,
            recipe=recipe,
            windows=windows,
            curve=curve,
            executor=runner,
            resume=out / "runs.sqlite",
            watch=shown.watch,
        )
    files = _written(table, out, layout, curve)
    if shown.last is not None and shown.last.done < shown.last.runs:
        voice.say("the same command goes on")
        raise KeyboardInterrupt
    voice.answer(*_answer(table, out, files))


def _refuse_said_twice(design: str, runs: int | None, seed: int | None, model: str, width: list[int] | None, layout: str) -> None:
    """Raise where an option is given that another one settles."""
    if design.endswith(".csv"):
        for name, value, what in (
            ("--runs", runs, "which runs"),
            ("--seed", seed, "the seeds of its runs, by a column or one after another"),
        ):
            if value is not None:
                raise InputError(f"--design {design} says {what}; leave {name} out")
    if model and width is not None:
        raise InputError(f"--width is of the small GPT, and --model {model} is another model; leave one of them out")
    if layout not in ("", "regmix", "olmix"):
        raise unknown("layout", layout, ("regmix", "olmix"))


def _refuse_unknown(design: str, tokens: list[float] | None) -> None:
    """Raise where a design cannot be made of what is given, before the data are read."""
    from mixopt.designs import KINDS, Design

    if design.endswith(".csv"):
        told = Design.from_csv(design).tokens is not None
        if told and tokens is not None:
            raise InputError(f"--design {design} says the tokens of its runs; leave --tokens out, or its column tokens")
    elif design in KINDS:
        told = False
    else:
        raise unknown("kind of design", design, KINDS)
    if not (told or tokens):
        raise InputError("say how many tokens each run is trained on, such as --tokens 2e6")
    for count in tokens or ():
        if not 0 < count < math.inf:
            raise InputError(f"--tokens is {count:g}; a run is trained on more than 0")


def _written(table: Runs, out: Path, layout: str, curve: int) -> list[Path]:
    """The files of a sweep's table."""
    from mixopt.sweeps import collect

    table.to_csv(out / "runs.csv")
    files = [out / "runs.csv"]
    if curve:
        collect(out / "runs.sqlite", curves=True).to_csv(out / "curves.csv")
        files.append(out / "curves.csv")
    if layout:
        files += [out / "mixtures.csv", out / "metrics.csv"]
        table.to_pair(files[-2], files[-1], layout)
    return files


def _answer(table: Runs, out: Path, files: list[Path]) -> tuple[str, dict[str, Any]]:
    """The end of a sweep as text and as the object of --json."""
    best = int(table.metrics.mean(axis=1).argmin())
    mixture = dict(zip(table.domains, table.mixtures[best].tolist(), strict=True))
    shown = ", ".join(f"{name} {weight:.3f}" for name, weight in mixture.items())
    mean = float(table.metrics[best].mean())
    lines = [f"{len(table)} runs in {out / 'runs.csv'}; the best is {table.ids[best]}, mean {mean:.4f}: {shown}", *table.notes]
    lines += [f"written: {', '.join(map(str, files))}", f"next: mixopt fit {out}"]
    content = {"runs": len(table), "table": str(files[0]), "best": {"run": table.ids[best], "mean": mean, "mixture": mixture}}
    return "\n".join(lines), {**content, "notes": table.notes, "files": [str(file) for file in files]}


@final
@dataclass(frozen=True)
class _Text:
    """Tokens to train on by domain, and those to measure by target."""

    domains: Domains
    train: Mapping[str, Any]
    held: Mapping[str, Any]
    vocabulary: int


def _text(voice: Voice, data: Path, sets: Mapping[str, str], out: Path, how: Any, context: int) -> _Text:
    """The data and the validation sets as tokens in the sweep's folder; "demo", where no folder has that name, is Python's own text."""
    if str(data) == DEMO and not data.exists():
        made = _demo()
    else:
        prepared = _prepared(voice, data, out / "tokens", how, context, ("train", "validation"))
        made = _Text(prepared.domains, prepared.parts["train"], prepared.parts["validation"], prepared.vocabulary)
    held = dict(made.held)
    for name, folder in sets.items():
        rows = _prepared(voice, Path(folder), out / f"val-{safe(name)}", how, context, ("validation",), 1.0).parts["validation"]
        held |= {name if len(rows) == 1 else f"{name}/{domain}": row for domain, row in rows.items()}
    return replace(made, held=held)


def _demo() -> _Text:
    """The text that every Python carries; docstrings are measured and not trained on, as in mixopt demo."""
    from mixopt.demo.corpus import VOCABULARY, load
    from mixopt.demo.data import HELD_OUT
    from mixopt.language.domains import Domains

    corpus = load()
    train = {name: row for name, row in corpus.tokens["train"].items() if name != HELD_OUT}
    return _Text(Domains(train, [len(row) for row in train.values()]), train, corpus.tokens["validation"], VOCABULARY)


def _prepared(
    voice: Voice, data: Path, cache: Path, how: Any, context: int, parts: tuple[str, ...], validation: float | None = None
) -> Prepared:
    """A folder as tokens in the sweep's own."""
    from mixopt.data.prepare import prepare

    voice.say(f"reading {data} ...")
    prepared = prepare(data, cache, how) if validation is None else prepare(data, cache, how, validation=validation, test=0.0)
    prepared.check(context, parts)
    return prepared


def _design(given: str, domains: Domains, runs: int | None, tokens: list[float] | None, seed: int) -> Design:
    """A design of a kind, or the mixtures of a file."""
    from mixopt.designs import Design, design

    if given.endswith(".csv"):
        return Design.from_csv(given, domains)
    return design(domains, runs=runs, kind=given, tokens=tokens[0] if tokens is not None and len(tokens) == 1 else None, seed=seed)


def _single(tokens: list[float] | None) -> float | list[float] | None:
    return tokens[0] if tokens is not None and len(tokens) == 1 else tokens


def _factory(model: str, vocabulary: int, context: int, widths: list[int]) -> Any:
    """What makes a model from a seed, or several by name; processes can be sent it."""
    from functools import partial

    from mixopt.study.models import small_gpt

    if model:
        _maker(model, vocabulary, context)  # which tries it
        return partial(_made, model, vocabulary, context)
    made = {f"width{width}": partial(small_gpt, vocabulary, context, width) for width in widths}
    return made if len(made) > 1 else next(iter(made.values()))


def _made(model: str, vocabulary: int, context: int, seed: int) -> Any:
    """A model of the user's, in whichever process."""
    return _maker(model, vocabulary, context)(seed)


@cache
def _maker(model: str, vocabulary: int, context: int) -> Any:
    from mixopt.study.models import factory

    return factory(model, vocabulary=vocabulary, context=context)


def _executor(name: str, halving: bool, flags: dict[str, Any]) -> Executor:
    """The executor of this name, with the settings that were given."""
    from mixopt.sweeps import Ensemble, Halving, Processes, Ray, Sequential

    makers: dict[str, tuple[Any, tuple[str, ...]]] = {
        "ensemble": (Halving if halving else Ensemble, ("together", "device", "compiled")),
        "sequential": (Sequential, ("device", "compiled")),
        "processes": (Processes, ("workers", "device", "compiled")),
        "ray": (Ray, ("address", "gpus", "together", "device")),
    }
    if name not in makers:
        raise unknown("executor", name, makers)
    if halving and name != "ensemble":
        raise InputError(f"--halving compares runs that train side by side, and --executor {name} trains them apart; leave one of them out")
    maker, taken = makers[name]
    given = {flag: value for flag, value in flags.items() if value is not None}
    for flag in given:
        if flag not in taken:
            whose = listed(n for n, (_, theirs) in makers.items() if flag in theirs)
            raise InputError(f"--{flag} is of the executor {whose}, and this one is {name}; leave it out, or take that one")
    executor: Executor = maker(**given)
    return executor


def _precision(given: str) -> Any:
    if given not in ("float32", "bfloat16"):
        raise unknown("precision", given, ("float32", "bfloat16"))
    return given


@final
class _Shown:
    """A bar with runs done, speed, time left and the best mixture so far; ``last`` is what it heard last."""

    def __init__(self, bar: Any, task: Any):
        self.bar, self.task = bar, task
        self.last: Progress | None = None

    def watch(self, progress: Progress) -> None:
        """Show how far the sweep is."""
        self.last = progress
        self.bar.update(self.task, completed=progress.share, told=str(progress))


@contextmanager
def _shown(voice: Voice) -> Iterator[_Shown]:
    """The bar, where there is a terminal; warnings are told as words."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("  runs"), BarColumn(20), TextColumn("{task.fields[told]}"))
    bar = Bar(*columns, console=voice.console, transient=True, disable=not voice.console.is_terminal)
    with warnings.catch_warnings(), bar:
        warnings.showwarning = lambda message, *where: voice.say(f"note: {message}", "yellow")
        yield _Shown(bar, bar.add_task("runs", total=1.0, told=""))
