"""``mixopt next``: a schedule out of process, for trainers that are started again with new weights."""

from __future__ import annotations

import ast
import inspect
import json as text
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixopt.errors import InputError, MixoptError, cause, listed, nearest
from mixopt.export import Blend, read_paths
from mixopt.export import export as write

from .common import Json, Quiet, Voice

if TYPE_CHECKING:
    from mixopt.language.domains import Domains
    from mixopt.schedules.schedule import Schedule


def next_stage(
    state: Annotated[Path, typer.Option(help="The file that holds the schedule from call to call.")],
    losses: Annotated[Path | None, typer.Option(help="The trainer's log, a line of JSON a record; what is new in it is read.")] = None,
    init: Annotated[
        str | None, typer.Option(metavar="METHOD", help="Begin: an online method, 'online_doremi(rate=0.5)', or FILE.py:NAME of your own.")
    ] = None,
    domains: Annotated[str | None, typer.Option(help="The domains of a method, with tokens if known: web=8e11,code=1.5e11,books.")] = None,
    given: Annotated[Path | None, typer.Option(help="JSON of the numbers that the method takes, by name: a reference's losses.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="The weights to begin with, as mixopt export reads them.", show_default="uniform")
    ] = None,
    smoothing: Annotated[
        float | None, typer.Option(help="The share of the uniform mixture in the weights; 0 by default.", min=0, max=1)
    ] = None,
    to: Annotated[list[str] | None, typer.Option("--export", help="A trainer to write for; again for more. mixopt export --list.")] = None,
    out: Annotated[Path | None, typer.Option(help="A file, or a folder for the trainers' files.", show_default=".")] = None,
    root: Annotated[str | None, typer.Option(help="Where the domains lie: DIR, or a pattern such as DIR/{domain}/train.")] = None,
    path: Annotated[list[str] | None, typer.Option(help="Where one domain lies, as name=path; again for more.")] = None,
    paths: Annotated[Path | None, typer.Option(help="A JSON or YAML file of domain and path, or list of paths.")] = None,
    floor: Annotated[float, typer.Option(help="The least weight of any domain in the trainers' files.")] = 0.0,
    equal_lengths: Annotated[bool, typer.Option("--equal-lengths", help="Every example has the same number of tokens.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Advance a schedule by what a trainer has logged, and write the weights for its next start."""
    from mixopt.fitting.options import paths as located
    from mixopt.trainers.stages import advance, read_state

    voice = Voice(json, quiet)
    if init is not None and state.exists():
        raise InputError(f"{state} is there already; go on with it without --init, or name another file")
    if init is None and not state.exists():
        raise InputError(
            f"there is no {state}; begin one with --init METHOD, such as: mixopt next --init online_doremi --state {state} ..."
        )
    if init is None:
        _refuse_settled(state, {"domains": domains, "given": given, "start": start, "smoothing": smoothing})
    recipe = _recipe(init, domains, given, start, smoothing or 0.0) if init is not None else read_state(state)["recipe"]
    if recipe is None:
        raise InputError(f"{state} was written by Python, which alone can make its schedule; go on with mx.trainers.advance")
    schedule = _schedule(recipe)
    where: dict[str, Any] = {**(read_paths(paths) if paths else {}), **located(path or (), "--path")}
    one = partial(write, path=out or Path(), floor=floor, equal_lengths=equal_lengths)
    for target in to or []:
        one(_blend(schedule.weights, where, root), target, dry=True)
    done = advance(schedule, state, losses, recipe=recipe)
    files = [one(_blend(done.after, where, root), target) for target in to or []]
    said = {"stage": done.number, "weights": done.after, "before": done.before, "records": done.records, "dropped": done.dropped}
    more = {"unreadable": done.unreadable, "waits": done.waits, "files": [str(file) for export in files for file in export.files]}
    voice.answer("\n".join([str(done), *(f"written: {file}" for export in files for file in export.files)]), said | more)


def _refuse_settled(state: Path, flags: Mapping[str, Any]) -> None:
    """Raise where an option is given that a schedule has from its beginning."""
    if typed := [f"--{name}" for name, value in flags.items() if value is not None]:
        raise InputError(f"{', '.join(typed)} can be given with --init alone, and {state} was begun; leave it out, or begin another state")


def _blend(weights: Mapping[str, float], where: Mapping[str, Any], root: str | None) -> Blend:
    return Blend(weights).completed(where, root)


def _recipe(init: str, domains: str | None, given: Path | None, start: Path | None, smoothing: float) -> dict[str, Any]:
    """All by which the schedule is made, in this call and in the next ones."""
    return {
        "init": init,
        "domains": _domains(domains),
        "given": None if given is None else _numbers(given),
        "start": None if start is None else dict(Blend.load(start).weights),
        "smoothing": smoothing,
    }


def _domains(given: str | None) -> dict[str, float | None] | None:
    """Names with their tokens, None where those are not known."""
    if given is None:
        return None
    found: dict[str, float | None] = {}
    for part in given.split(","):
        name, _, size = part.partition("=")
        if not name.strip() or name.strip() in found:
            raise InputError(f"--domains {given!r} has an empty name or one twice; write web=8e11,code=1.5e11 or web,code")
        try:
            found[name.strip()] = float(size) if size else None
        except ValueError:
            raise InputError(f"--domains has {part!r}; the tokens are a number, as in web=8e11") from None
    return found


def _numbers(path: Path) -> dict[str, Any]:
    try:
        content = text.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {cause(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no object; write {{NAME: {{DOMAIN: number}}}}")
    return content


def _schedule(recipe: Mapping[str, Any]) -> Schedule:
    """The schedule that a recipe makes; one observation, which is one stage, is one move."""
    import mixopt as mx

    init = recipe["init"]
    if ".py" in init.partition(":")[0] or ":" in init.partition("(")[0]:
        from .problems import Stated

        stated = Stated.read(init)
        problem, numbers = stated.problem, dict(stated.given or {})
        names: tuple[str, ...] = ()
    else:
        if not recipe["domains"]:
            raise InputError("a method needs its domains: --domains web=8e11,code=1.5e11, or web,code where sizes are not known")
        names, sizes = tuple(recipe["domains"]), list(recipe["domains"].values())
        if any(size is None for size in sizes) and any(size is not None for size in sizes):
            raise InputError("--domains gives the tokens of some domains and not of others; give all or none")
        problem, numbers = _method(init, mx.Domains(names, None if sizes[0] is None else sizes)), {}
    for name, value in (recipe["given"] or {}).items():
        numbers[name] = [value[n] for n in names] if isinstance(value, dict) and set(value) == set(names) else value
    return mx.online(problem, given=numbers, every=1, start=recipe["start"], smoothing=recipe["smoothing"])


def _method(init: str, domains: Domains) -> Any:
    """The method that a text names, its settings as keywords with literal values; parsed, never evaluated.

    Raises:
        InputError: no such method or setting, one that is no literal, or a method that takes what no literal can say.
    """
    import mixopt as mx

    name, settings = _parsed(init)
    known = {n: list(_taken(n).values()) for n in mx.problems.__all__ if callable(getattr(mx.problems, n))}
    known = {n: takes for n, takes in known.items() if takes and takes[0].name == "domains"}
    if name not in known:
        raise InputError(f"no online method {name!r}; mixopt list --family online shows some{nearest(name, known)}")
    takes = {p.name: p for p in known[name][1:]}
    if extra := [n for n in settings if n not in takes]:
        raise InputError(f"{name} does not take {extra[0]!r}; it takes {listed(takes)}{nearest(extra[0], takes)}")
    in_python = f"what is no literal is stated in Python: mine = mx.problems.{name}(...) in a file mine.py, then --init mine.py:mine"
    if lacking := [p.name for p in takes.values() if p.default is p.empty and p.name not in settings]:
        said = ", ".join(f"{n}=..." for n in lacking)
        raise InputError(f"{name} also takes {listed(lacking)}: write {name}({said}) with literals; {in_python}")
    names = {n: "Domains" in str(takes[n].annotation) and isinstance(value, (list, tuple)) for n, value in settings.items()}
    try:
        made = getattr(mx.problems, name)(domains, **{n: mx.Domains(value) if names[n] else value for n, value in settings.items()})
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, MixoptError):
            raise
        raise InputError(f"{init!r} makes no method ({error}); {in_python}") from None
    if not isinstance(made, (mx.Method, mx.Problem)):
        raise InputError(f"{name} is no online method but a {type(made).__name__}; mixopt list --family online shows some")
    return made


def _taken(name: str) -> Mapping[str, inspect.Parameter]:
    """What a ready-made problem takes, by name."""
    import mixopt as mx

    return inspect.signature(getattr(mx.problems, name)).parameters


def _parsed(init: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings of a method as it is written, ``online_doremi(rate=0.5)``."""
    example = "write it like online_doremi(rate=0.5)"
    try:
        node = ast.parse(init.strip(), mode="eval").body
        name = node.func if isinstance(node, ast.Call) else node
        keywords = node.keywords if isinstance(node, ast.Call) else []
        if not isinstance(name, ast.Name) or (isinstance(node, ast.Call) and node.args) or any(k.arg is None for k in keywords):
            raise InputError(f"the method {init!r} is no name with settings by name; {example}")
        return name.id, {str(k.arg): ast.literal_eval(k.value) for k in keywords}
    except (SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the method {init!r} cannot be read; settings are literals: {example}") from None
