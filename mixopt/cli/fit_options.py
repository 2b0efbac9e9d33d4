"""The options that ``mixopt fit`` and ``mixopt score`` share: tables, objective, limits and the fit itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .common import seeded


def _option(panel: str, text: str, name: str = "") -> Any:
    return typer.Option(*([name] if name else []), help=text, rich_help_panel=panel)


_TABLES, _GOAL, _LIMITS, _FIT = "Tables", "What a mixture is judged by", "What keeps it near home", "How the law is fitted"

Mixtures = Annotated[str | None, _option(_TABLES, "CSV of the runs' mixtures; without --losses, of both, the weights first.")]
Losses = Annotated[str | None, _option(_TABLES, "CSV of the runs' metrics.")]
On = Annotated[str | None, _option(_TABLES, "Column that names the runs in both; else run, run_id, id, index or the unnamed first.")]
Direction = Annotated[list[str] | None, _option(_TABLES, "min or max for all metrics, or name=max. Repeatable.")]
Unit = Annotated[list[str] | None, _option(_TABLES, "Unit of all metrics, or name=unit, such as 'bits per byte'. Repeatable.")]
Drop = Annotated[list[str] | None, _option(_TABLES, "A metric to leave out. Repeatable.")]

Goal = Annotated[
    str | None,
    _option(_GOAL, "mean (the default), max (the worst), max-relative (the worst in shares of its best), a metric or a formula of them."),
]
Weight = Annotated[list[str] | None, _option(_GOAL, "Weight of a metric or family: name=2. Repeatable; 1 where not given.")]
Family = Annotated[list[str] | None, _option(_GOAL, "Metrics that count as one: math=gsm8k,minerva. Repeatable.")]
Aggregate = Annotated[bool, _option(_GOAL, "Average each family before the law is fitted, not after.", "--aggregate")]

KL = Annotated[str | None, _option(_LIMITS, "Weight of KL to the natural proportions, such as 0.05; needs --prior or --tokens.", "--kl")]
Prior = Annotated[str | None, _option(_LIMITS, "Natural proportions: a file (JSON, YAML, CSV) or web=0.6,code=0.4.")]
Tokens = Annotated[str | None, _option(_LIMITS, "Tokens of each domain: a file or web=2e12,code=3e11.")]
Budget = Annotated[str | None, _option(_LIMITS, "Tokens of the run that the mixture is for, such as 1e12.", "--budget")]
Cap = Annotated[str | None, _option(_LIMITS, "Epochs that the run may take of a domain; needs --tokens and --budget.")]
AtMost = Annotated[list[str] | None, _option(_LIMITS, "Upper bound of a domain: web=0.3 or web=30%. Repeatable.")]
AtLeast = Annotated[list[str] | None, _option(_LIMITS, "Lower bound of a domain. Repeatable.")]
Fix = Annotated[list[str] | None, _option(_LIMITS, "Weight of a domain that is settled. Repeatable.")]

Law = Annotated[
    str | None,
    _option(_FIT, "convex (the default: the best law with a certified optimum), auto (a blend), a law's name, or 'c + b*exp(A @ w)'."),
]
Ridge = Annotated[float | None, _option(_FIT, "Ridge on the parameters; by default the law chooses it, and 0 is none.")]
Huber = Annotated[float | None, _option(_FIT, "Width of a Huber loss in place of squares, for runs that went wrong, such as 0.02.")]
Folds = Annotated[int | None, _option(_FIT, "Folds of the cross-validation; 5 by default.")]
Seed = Annotated[int | None, seeded("Seed of the folds.", _FIT)]
TargetSize = Annotated[
    str | None, _option(_FIT, "Parameters N of the run that the mixture is for, such as 7e9: for a law that depends on them.")
]
TargetTokens = Annotated[str | None, _option(_FIT, "Tokens D of that run, for a law that depends on them; --budget by default.")]
TargetSteps = Annotated[str | None, _option(_FIT, "Optimiser steps of that run, for a law that depends on them.")]
Noise = Annotated[float | None, _option(_FIT, "Noise of the objective, in its unit, in place of half the 90 % interval of the gain.")]
