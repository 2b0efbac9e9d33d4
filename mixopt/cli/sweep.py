"""``mixopt sweep``: the proxy runs of a design on the user's own domains, kept as they finish, as a table that ``mixopt fit`` reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixopt.errors import InputError, unknown
from mixopt.files import write

from .common import Json, Quiet, Voice
from .reading import DomainField, Dtype, Eos, Per, Split, TextField, Tokenizer, Undecodable, reading

if TYPE_CHECKING:
    from mixopt.data.prepared import Prepared
    from mixopt.designs import Design
    from mixopt.runs import Runs
    from mixopt.sweeps import Executor, Progress


def _model(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="Model")


def _how(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="How runs are carried out")


def sweep(
    data: Annotated[Path, typer.Option(help="Folder with one domain for each sub-folder or file.")],
    tokens: Annotated[float, typer.Option(help="Tokens that each run is trained on, as 2e6.")],
    target_tokens: Annotated[
        float | None, typer.Option(help="Tokens of the run that the mixture is for: proxies then repeat each domain as often as that.")
    ] = None,
    runs: Annotated[int | None, typer.Option(help="How many runs; else three for each of the law's parameters.")] = None,
    design: Annotated[str, typer.Option(help="A kind of design, such as dirichlet or sobol, or a CSV of mixtures.")] = "dirichlet",
    out: Annotated[Path, typer.Option(help="Folder for tokens, the journal and the table; give it again to go on.")] = Path("out/sweep"),
    text_field: TextField = "text",
    domain_field: DomainField = "",
    tokenizer: Tokenizer = "",
    per: Per = "folder",
    split: Split = "train",
    dtype: Dtype = "",
    eos: Eos = "",
    undecodable: Undecodable = "refuse",
    model: Annotated[str, _model("hf:FOLDER or FILE.py:FUNCTION; without one a small GPT.")] = "",
    width: Annotated[int, _model("Width of the small GPT.")] = 32,
    context: Annotated[int, _model("Tokens of a window.")] = 64,
    batch: Annotated[int, _model("Windows of a batch.")] = 16,
    rate: Annotated[float, _model("Peak learning rate of AdamW.")] = 1e-2,
    precision: Annotated[str, _model("float32 or bfloat16.")] = "float32",
    windows: Annotated[int, _model("Held-out windows of each domain that a run is measured on.")] = 64,
    executor: Annotated[str, _how("ensemble, sequential, processes or ray.")] = "ensemble",
    together: Annotated[int | None, _how("Runs that an ensemble, or a task of Ray, trains together.")] = None,
    workers: Annotated[int | None, _how("Processes; else one for each core.")] = None,
    address: Annotated[str | None, _how("Address of a Ray cluster; else one of this machine.")] = None,
    gpus: Annotated[float, _how("GPUs, or the part of one, for each task of Ray.")] = 0.0,
    device: Annotated[str | None, _how("Where models are trained: cpu, cuda, cuda:1.")] = None,
    halving: Annotated[bool, _how("Stop the worse half of the runs after a quarter, and of the rest after half, of the steps.")] = False,
    curve: Annotated[int, _how("Points on the way at which losses are measured and kept in the journal.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the design, the models and the data.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a small model for each mixture of a design, and write their losses as a table for mixopt fit."""
    import mixopt as mx
    from mixopt.runtime.recipe import Recipe

    voice = Voice(json, quiet)
    runner = _executor(executor, together, workers, address, gpus, device, halving)
    recipe = Recipe(steps=1, batch=batch, rate=rate, precision=_precision(precision))
    if design.endswith(".csv") and runs is not None:
        raise InputError(f"--design {design} says which runs; leave --runs out")
    prepared = _prepared(voice, data, out, reading(text_field, domain_field, tokenizer, per, split, dtype, eos, undecodable), context)
    plan = _design(design, prepared, runs, tokens, seed)
    factory = _factory(model, prepared.vocabulary, context, width)
    voice.say(plan.describe())
    write(out / "sizes.json", dumps(dict(zip(prepared.domains, prepared.domains.sizes.tolist(), strict=True)), indent=1) + "\n")
    with _shown(voice, len(plan)) as watch:
        table = mx.sweep(
            prepared,
            factory,
            plan,
            tokens=tokens,
            target_tokens=target_tokens,
            context=context,
            recipe=recipe,
            windows=windows,
            curve=curve,
            executor=runner,
            resume=out / "runs.sqlite",
            seed=seed,
            watch=watch,
        )
    table.to_csv(out / "runs.csv")
    if len(table) < len(plan) and not halving:
        voice.say(f"{len(table)} of {len(plan)} runs are finished; the same command goes on")
        raise KeyboardInterrupt
    voice.answer(*_answer(table, out))


def _answer(table: Runs, out: Path) -> tuple[str, dict[str, Any]]:
    """The end of a sweep as text and as the object of --json."""
    best = int(table.metrics.mean(axis=1).argmin())
    mixture = dict(zip(table.domains, table.mixtures[best].tolist(), strict=True))
    shown = ", ".join(f"{name} {weight:.3f}" for name, weight in mixture.items())
    mean = float(table.metrics[best].mean())
    text = f"{len(table)} runs in {out / 'runs.csv'}; the best is {table.ids[best]}, mean {mean:.4f}: {shown}\nnext: mixopt fit {out}"
    return text, {"runs": len(table), "table": str(out / "runs.csv"), "best": {"run": table.ids[best], "mean": mean, "mixture": mixture}}


def _prepared(voice: Voice, data: Path, out: Path, how: Any, context: int) -> Prepared:
    """The data as tokens in the sweep's folder."""
    from mixopt.data.prepare import prepare

    voice.say(f"reading {data} ...")
    prepared = prepare(data, out / "tokens", how)
    prepared.check(context, ("train", "validation"))
    return prepared


def _design(given: str, prepared: Prepared, runs: int | None, tokens: float, seed: int) -> Design:
    """A design of a kind, or the mixtures of a file."""
    from mixopt.designs import Design, design

    if given.endswith(".csv"):
        return Design.from_csv(given, prepared.domains)
    return design(prepared.domains, runs=runs, kind=given, tokens=tokens, seed=seed)


def _factory(model: str, vocabulary: int, context: int, width: int) -> Any:
    """What makes a model from a seed; processes can be sent it."""
    from functools import partial

    from mixopt.study.models import factory, small_gpt

    if model:
        return factory(model, vocabulary=vocabulary, context=context)
    return partial(small_gpt, vocabulary, context, width)


def _executor(
    name: str, together: int | None, workers: int | None, address: str | None, gpus: float, device: str | None, halving: bool
) -> Executor:
    from mixopt.sweeps import Ensemble, Halving, Processes, Ray, Sequential

    made: dict[str, Any] = {
        "ensemble": lambda: Halving(together=together, device=device) if halving else Ensemble(together=together, device=device),
        "sequential": lambda: Sequential(device=device),
        "processes": lambda: Processes(workers=workers, device=device),
        "ray": lambda: Ray(address=address, gpus=gpus, together=together or 1, device=device),
    }
    if name not in made:
        raise unknown("executor", name, made)
    if halving and name != "ensemble":
        raise InputError(f"--halving compares runs that train side by side, and --executor {name} trains them apart; leave one of them out")
    executor: Executor = made[name]()
    return executor


def _precision(given: str) -> Any:
    if given not in ("float32", "bfloat16"):
        raise unknown("precision", given, ("float32", "bfloat16"))
    return given


@contextmanager
def _shown(voice: Voice, runs: int) -> Iterator[Any]:
    """A bar with runs done, speed, time left and the best mixture so far."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("  runs"), BarColumn(30), TextColumn("{task.fields[told]}"))
    with Bar(*columns, console=voice.console, transient=True, disable=not voice.console.is_terminal) as bar:
        task = bar.add_task("runs", total=float(runs), told="")

        def watch(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.runs, told=str(progress))

        yield watch
