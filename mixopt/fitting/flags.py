"""From what a user typed to a request: flags alone, or flags over a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixopt.errors import InputError
from mixopt.runs.targets import OTHERS

from . import olmix
from .chosen import known
from .options import by_name, families, number, numbers, texts
from .request import Request

_PLAIN = ("mixtures", "losses", "on", "objective", "aggregate", "law", "ridge", "huber", "folds", "seed", "noise")
_AMOUNTS = ("kl", "budget", "cap", "target_size", "target_tokens", "target_steps")
_BOUNDS = ("at_most", "at_least", "fix", "weight")


def requested(flags: Mapping[str, Any], config: str | None = None) -> Request:
    """The request of these flags (by parameter name, None or empty where not given), over that of a configuration file.

    Mappings are merged, name by name; everything else that is given replaces what the file says.

    Raises:
        InputError: neither tables nor a configuration, or a flag that cannot be read.
    """
    if config is None and not flags.get("mixtures"):
        raise InputError(
            "there is no table to fit; give --mixtures A.csv --losses B.csv, a sweep's folder, or an Olmix fit configuration, study.yaml"
        )
    if flags.get("law"):
        known(flags["law"])
    base = Request(flags["mixtures"]) if config is None else _swept(Path(config)) if Path(config).is_dir() else olmix.read(config)
    given = {name: flags[name] for name in _PLAIN if said(flags.get(name))}
    given |= {name: number(flags[name], f"--{name.replace('_', '-')}") for name in _AMOUNTS if flags.get(name) is not None}
    given |= {name: by_name(flags[name], f"--{name}") for name in ("prior", "tokens") if flags.get(name)}
    for name in _BOUNDS:
        typed = numbers(flags.get(name) or (), f"--{name.replace('_', '-')}")
        field = "weights" if name == "weight" else name
        given[field] = {**getattr(base, field), **typed}
    for name in ("direction", "unit"):
        given[name] = {**getattr(base, name), **spread(flags.get(name) or (), f"--{name}")}
    given["families"] = {**base.families, **families(flags.get("family") or ())}
    given["drop"] = (*base.drop, *(flags.get("drop") or ()))
    request = replace(base, **given)
    return replace(request, files=_files(request, flags))


def said(value: object) -> bool:
    """Whether an option was given, as 0 is and nothing, an empty text and an empty list are not."""
    return value is not None and value is not False and value not in ("", [], ())


def _swept(folder: Path) -> Request:
    """The request of a sweep's folder: its table of runs, and the sizes of its domains."""
    table, sizes = folder / "runs.csv", folder / "sizes.json"
    if not table.is_file():
        raise InputError(f"{folder} holds no runs.csv; mixopt sweep --out {folder} writes it when its runs are finished")
    return Request(str(table), tokens=by_name(str(sizes), "sizes.json") if sizes.is_file() else None)


def spread(items: Any, flag: str) -> dict[str, str]:
    """Name -> text; an item without = holds for all targets that are not named."""
    alone = [item for item in items if "=" not in item]
    if len(alone) > 1:
        raise InputError(f"{flag} is given for all targets more than once, {', '.join(alone)}; name them: {flag} name={alone[0]}")
    return {**dict.fromkeys([OTHERS] if alone else [], alone[0] if alone else ""), **texts([i for i in items if "=" in i], flag)}


def _files(request: Request, flags: Mapping[str, Any]) -> tuple[str, ...]:
    """Every file that the request reads."""
    typed = [flags[n] for n in ("prior", "tokens") if flags.get(n) and Path(flags[n]).is_file()]
    return (*request.files, request.mixtures, *([request.losses] if request.losses else []), *typed)
