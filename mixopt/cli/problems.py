"""``mixopt solve`` and ``mixopt compare``: problems from the user's own Python files."""

from __future__ import annotations

import inspect
import json as text
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, final

import typer

from mixopt.api import compare, plan
from mixopt.compiler.classify import classify
from mixopt.errors import InputError, listed
from mixopt.files import writable, write
from mixopt.forms import Program, given_models, parameters
from mixopt.language.problem import Problem
from mixopt.method import Method
from mixopt.planned import Plan
from mixopt.report.comparison import Comparison
from mixopt.report.result import Result, Status
from mixopt.solver import Budget, Progress, Watch
from mixopt.solvers.text import NAMES, from_text
from mixopt.usercode import load, told

from .common import Exit, Json, Quiet, Voice, plain, seeded

FILE = "Your Python: file.py:name or module:name, a problem, a method, or a function that returns one. Without a name: 'problem'."
DEFAULT = "problem"


@final
@dataclass(frozen=True)
class Stated:
    """A problem of the user's, with the learner (or a function of the seed that makes one) and the numbers that go with it."""

    problem: Problem | Method
    learner: Any = None
    given: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, reference: str) -> Stated:
        """The problem that ``file.py:name`` states, with the file's ``learner`` and ``given`` where it needs them.

        Raises:
            InputError: no such file or name, an object that states no problem, or an error in the file, with its line.
        """
        own = load(reference, DEFAULT)
        found, learner = own.get(), None
        if inspect.isfunction(found):
            needed = [p.name for p in inspect.signature(found).parameters.values() if p.default is p.empty and p.kind not in (2, 4)]
            if needed:
                raise InputError(f"{own.path}: {own.name} needs {needed[0]!r}; a function that states a problem takes no argument")
            with told():
                found = found()
        if isinstance(found, tuple) and len(found) == 2:
            found, learner = found
        if not isinstance(found, (Problem, Method)):
            others = [name for name in own.names() if isinstance(own.get(name), (Problem, Method))]
            raise InputError(
                f"{own.path}: {own.name} is no problem but of type {type(found).__name__}; give a problem, a method, or a function "
                f"without arguments that returns one, or a pair of one and its learner" + (f"; there is {listed(others)}" if others else "")
            )
        with told():
            form = classify(found.problem if isinstance(found, Method) else found)
            names = {str(symbol) for symbol in (*parameters(form), *given_models(form))}
            given = own.get("given") if names else None
            given = given() if inspect.isfunction(given) else given
        if learner is None and not isinstance(form, Program):
            learner = own.get("learner")
        return cls(found, learner, {k: v for k, v in given.items() if k in names} if isinstance(given, Mapping) else given)

    def learner_for(self, seed: int) -> Any:
        """The learner, made for this seed where the file has a function that makes it."""
        return self.learner(seed) if inspect.isfunction(self.learner) else self.learner


def _known(incomplete: str) -> list[str]:
    return [name for name in NAMES if name.lower().startswith(incomplete.lower())]


Reference = Annotated[str, typer.Argument(metavar="FILE.py:NAME", help=FILE)]
Steps = Annotated[int | None, typer.Option(help="The most steps of the solver.", min=1)]
Seconds = Annotated[float | None, typer.Option(help="The most seconds.", min=0.001)]


def solve(
    problem: Reference,
    solver: Annotated[
        str | None,
        typer.Option(
            help="With settings if any: Conic, \"Projected(geometry='entropic')\". Without it, what the plan chooses.",
            autocompletion=_known,
        ),
    ] = None,
    start: Annotated[Path | None, typer.Option(help="A saved result of the same problem; its weights are the start.")] = None,
    save: Annotated[Path | None, typer.Option(help="Where the result is saved, as JSON; --start goes on from it.", dir_okay=False)] = None,
    steps: Steps = None,
    seconds: Seconds = None,
    seed: Annotated[int, seeded("Seed of the batches, and of the learner where the file makes one from a seed.")] = 0,
    only_plan: Annotated[bool, typer.Option("--plan", help="Print the plan, and solve nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Solve a problem that a Python file states, and certify the answer."""
    voice = Voice(json, quiet)
    if save is not None:
        writable(save.parent)
    chosen = None if solver is None else from_text(solver)
    stated = Stated.read(problem)
    with told():
        ready = plan(stated.problem, stated.learner_for(seed), solver=chosen)
    if only_plan:
        voice.answer(str(ready), planned(ready))
        return
    with told(), _watched(voice) as watch:
        result = ready.run(given=stated.given, budget=Budget(steps=steps, seconds=seconds), seed=seed, start=start, watch=watch)
    voice.answer(str(result), content(result))
    if save is not None and result.vector is not None:
        result.save(save)
    raise typer.Exit(_code(result))


def compare_solvers(
    problem: Reference,
    solver: Annotated[
        list[str] | None,
        typer.Option(help="With settings if any; repeat it. Without it, all solvers that take the problem.", autocompletion=_known),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0 on.", min=1)] = 1,
    steps: Steps = None,
    seconds: Seconds = None,
    save: Annotated[Path | None, typer.Option(help="Where the table is saved, as JSON.", dir_okay=False)] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run several solvers on a problem that a Python file states, and print one table."""
    voice = Voice(json, quiet)
    if save is not None:
        writable(save.parent)
    chosen = [from_text(one) for one in solver or ()]
    stated = Stated.read(problem)
    with told():
        if not chosen:
            choice = plan(stated.problem, stated.learner_for(0)).choice
            chosen = [from_text(one) for one in (choice.chosen, *choice.also) if one]
        voice.say(f"{', '.join(map(str, chosen))}; {seeds} seed{'s' if seeds > 1 else ''} each", style="dim")
        budget = Budget(steps=steps, seconds=seconds)
        table = compare(stated.problem, stated.learner_for, chosen, seeds=range(seeds), given=stated.given, budget=budget)
    voice.answer(str(table), compared(table))
    if save is not None:
        write(save, text.dumps(plain(compared(table)), indent=2) + "\n")
    codes = [_code(result) for result in table.results]
    raise typer.Exit(Exit.INTERRUPTED if Exit.INTERRUPTED in codes else min(codes, default=Exit.UNSOLVED))


def content(result: Result) -> dict[str, Any]:
    """A result as JSON has it."""
    return {
        "solver": result.solver,
        "status": result.status.name,
        "message": result.message,
        "weights": None if result.vector is None else result.weights,
        "value": result.value,
        "duals": result.duals,
        "check": None if result.check is None else asdict(result.check),
        "cost": asdict(result.cost),
    }


def compared(table: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it: one entry a run, with its result or its refusal."""
    rows = [
        {"solver": row.solver, "seed": row.seed, **({"refusal": row.refusal} if row.result is None else content(row.result))}
        for row in table.rows
    ]
    return {"problem": table.problem, "runs": rows}


def planned(ready: Plan) -> dict[str, Any]:
    """A plan as JSON has it."""
    choice = asdict(ready.choice)
    return {"solver" if key == "chosen" else key: value for key, value in choice.items()}


def _code(result: Result) -> Exit:
    if result.status is Status.INTERRUPTED:
        return Exit.INTERRUPTED
    return Exit.UNSOLVED if result.vector is None or result.status is Status.FAILED else Exit.DONE


@contextmanager
def _watched(voice: Voice) -> Iterator[Watch]:
    """A line on the screen that says how far the run is, where there is a screen."""
    with voice.console.status("solving ...") as line:

        def watch(progress: Progress) -> None:
            value = progress.info.get("value")
            shown = "" if value is None else f", value {value:.6g}"
            line.update(f"step {progress.step} of at most {progress.steps}{shown}, {progress.seconds:.0f} s")

        yield watch
