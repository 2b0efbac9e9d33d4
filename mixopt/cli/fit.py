"""``mixopt fit`` and ``mixopt score``: from a table of proxy runs to a mixture, and the same question for one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixopt.errors import InputError
from mixopt.files import writable

from . import fit_options as o
from .common import Json, Quiet, Voice, command

if TYPE_CHECKING:
    from mixopt.fitting import Recommendation


def fit(
    ctx: typer.Context,
    config: Annotated[
        str | None,
        typer.Argument(help="A folder of mixopt sweep, or an Olmix fit configuration (YAML); flags rule.", metavar="STUDY"),
    ] = None,
    mixtures: o.Mixtures = None,
    losses: o.Losses = None,
    on: o.On = None,
    direction: o.Direction = None,
    unit: o.Unit = None,
    drop: o.Drop = None,
    objective: o.Goal = None,
    weight: o.Weight = None,
    family: o.Family = None,
    aggregate: o.Aggregate = False,
    kl: o.KL = None,
    prior: o.Prior = None,
    tokens: o.Tokens = None,
    budget: o.Budget = None,
    cap: o.Cap = None,
    at_most: o.AtMost = None,
    at_least: o.AtLeast = None,
    fix: o.Fix = None,
    law: o.Law = None,
    ridge: o.Ridge = None,
    huber: o.Huber = None,
    folds: o.Folds = None,
    seed: o.Seed = None,
    noise: o.Noise = None,
    target_size: o.TargetSize = None,
    target_tokens: o.TargetTokens = None,
    target_steps: o.TargetSteps = None,
    out: Annotated[str, typer.Option(help="Folder for the report, the mixture, the law and the exports.")] = "out/fit",
    to: Annotated[
        list[str] | None, typer.Option(help="A trainer to write the mixture for: megatron, hf, olmo-core, ... Repeatable.")
    ] = None,
    root: Annotated[str | None, typer.Option(help="Where the domains lie, for --to: a folder, or a pattern with {domain}.")] = None,
    path: Annotated[list[str] | None, typer.Option(help="Where one domain lies, for --to: web=/data/web. Repeatable.")] = None,
    suggest: Annotated[int | None, typer.Option(help="How many mixtures to suggest for the next runs: written as next.csv.", min=1)] = None,
    equal_lengths: Annotated[bool, typer.Option("--equal-lengths", help="All examples have the same tokens, for --to (packed).")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a law to a table of proxy runs, and recommend a mixture with its doubts, as a report and in trainers' formats."""
    from mixopt.fitting.account import bounds, table
    from mixopt.fitting.flags import requested
    from mixopt.fitting.options import paths
    from mixopt.fitting.outputs import exported, save, suggested, try_exports
    from mixopt.fitting.read import renamed

    voice = Voice(json, quiet)
    request = requested(ctx.params, config)
    runs = request.runs()
    voice.say(f"{len(runs)} runs, {len(runs.domains)} domains, {len(runs.targets)} target{'s' if len(runs.targets) != 1 else ''}")
    for line in (*renamed(runs), *runs.notes):
        voice.say(f"  {line}")
    known: dict[str, Any] = {"paths": paths(path or (), "--path"), "root": root}
    writable(out)
    try_exports(runs, request, to or (), known, equal_lengths)
    working = "fitting a law to each target, cross-validating it, and solving for the mixture and its ranges ..."
    found = request.recommend(runs, begun=lambda: voice.say(working))
    written = list(save(found, out, command=command(), files=request.files, seed=request.seed))
    if suggest is not None:
        written.append(suggested(found, out, suggest))
    exports = exported(found, out, to or (), known, equal_lengths)
    written += [file for export in exports for file in export.files]
    notes = [f"{export.target}: {note}" for export in exports for note in export.notes]
    lines = [
        found.sentence,
        *(f"Doubt: {doubt}" for doubt in found.doubts),
        f"Next: {found.advice}",
        "",
        table(found),
        "",
        found.quality.words,
    ]
    lines += [] if found.found.choice is None else [found.found.choice.sentence]
    lines += [*(bound.buys for bound in bounds(found) if bound.buys), *notes, f"written: {', '.join(map(str, written))}"]
    voice.answer("\n".join(lines), _content(found, written, notes))


def score(
    ctx: typer.Context,
    mixture: Annotated[str, typer.Argument(help="The mixture: JSON, YAML or CSV of domain and weight, or one that mixopt wrote.")],
    study: Annotated[str | None, typer.Option(help="The --out folder of mixopt fit; else give its tables and flags.")] = None,
    config: Annotated[str | None, typer.Option(help="An Olmix fit configuration, in place of --study.")] = None,
    mixtures: o.Mixtures = None,
    losses: o.Losses = None,
    on: o.On = None,
    direction: o.Direction = None,
    unit: o.Unit = None,
    drop: o.Drop = None,
    objective: o.Goal = None,
    weight: o.Weight = None,
    family: o.Family = None,
    aggregate: o.Aggregate = False,
    kl: o.KL = None,
    prior: o.Prior = None,
    tokens: o.Tokens = None,
    budget: o.Budget = None,
    cap: o.Cap = None,
    at_most: o.AtMost = None,
    at_least: o.AtLeast = None,
    fix: o.Fix = None,
    law: o.Law = None,
    ridge: o.Ridge = None,
    huber: o.Huber = None,
    folds: o.Folds = None,
    seed: o.Seed = None,
    noise: o.Noise = None,
    target_size: o.TargetSize = None,
    target_tokens: o.TargetTokens = None,
    target_steps: o.TargetSteps = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict a mixture of your own, beside the recommended one: within the noise or not, and which constraints it breaks."""
    from mixopt.export import Blend
    from mixopt.fitting import score as judge
    from mixopt.fitting.flags import requested, said
    from mixopt.fitting.read import study as kept

    blend = Blend.load(mixture)
    if study is None:
        found = requested(ctx.params, config).recommend()
        judged = judge(found.fitted, blend, found.runs)
    else:
        own = ("study", "mixture", "json", "quiet")
        asked = [f"--{n.replace('_', '-')}" for n, value in ctx.params.items() if n not in own and said(value)]
        if asked:
            raise InputError(
                f"--study holds a fit with its settings, so {', '.join(asked)} cannot be given beside it; fit again with these"
            )
        fitted, runs = kept(study)
        judged = judge(fitted, blend, runs)
    Voice(json, quiet).answer(str(judged), judged.record())


def _content(found: Recommendation, written: list[Path], notes: list[str]) -> dict[str, Any]:
    """The answer as plain data."""
    goal = found.fitted.question.objective
    return {
        "sentence": found.sentence,
        "doubts": found.doubts,
        "next": found.advice,
        "weights": found.weights,
        "ranges": None if found.ranges is None else {n: [found.ranges.low[n], found.ranges.high[n]] for n in found.weights},
        "law": found.law.name,
        "interval": [goal.shown(v) for v in found.doubt.value],
        "gain": {"over": found.fitted.question.limits.other_name, "value": found.doubt.gain.value, "error": found.doubt.gain.error},
        "objective": {"name": goal.name, "unit": goal.unit, "value": found.fitted.question.value(found.fitted.vector)},
        "noise": found.fitted.noise.value,
        "status": found.result.status.name,
        "duals": found.result.duals,
        "cross_validation": {"rmse": found.quality.rmse, "spearman": found.quality.spearman, "r2": found.quality.r2},
        "notes": [*found.notes, *notes],
        "files": [str(file) for file in written],
    }
