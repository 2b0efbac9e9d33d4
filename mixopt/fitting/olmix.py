"""Olmix's fit configurations, read unchanged: every field is done, noted, or refused with the mend.

Source: allenai/olmix, README, olmix/fit/config.py and core.py, and the configurations in configs/, in their older and newer spellings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixopt.errors import InputError, cause, listed, nearest
from mixopt.runs import files, sources
from mixopt.runs.targets import usual_direction

from .mmlu import areas
from .options import number
from .request import Request

_FIELDS = {
    "swarm": ("ratios", "metrics"),
    "priors": ("token_counts", "relative_sizes", "total_tokens"),
    "eval": ("type", "tasks"),
    "regression": (
        "type",
        "seed",
        "n_test",
        "train_split",
        "aggregate_task_families",
        "alpha",
        "simulation_samples",
        "opt_avg_metric",
    ),
    "proposer": ("type", "temperature", "kl_reg", "use_natural_kl", "fit_only", "make_worst_mix"),
    "constraints": ("enabled", "target_tokens", "repetition_factor"),
    "filtering": ("keep_sources", "support_domains", "drop_metrics", "fixed_weight", "obj_weights"),
}
_OTHER_REGRESSIONS = ("lightgbm", "search", "gp", "autoscale", "bimix")
_EPOCHS = 5.0


def read(path: str | os.PathLike[str]) -> Request:
    """The request that an Olmix fit configuration states.

    Raises:
        InputError: a file that is no such configuration, an unknown field (with the nearest), or a setting that is not done here.
    """
    content, notes = _sections(path), list[str]()
    mixtures, metrics = (_found(_needed(content["swarm"], "swarm", part), Path(path)) for part in ("ratios", "metrics"))
    columns = files.metric_columns(sources.read(metrics), paired=True)
    aggregate = _flag(content["regression"], "aggregate_task_families")
    families, used = _targets(content, columns, aggregate, notes)
    _regression(content["regression"], notes)
    kl, prior = _kl(content["proposer"], content["priors"], notes)
    groups, shares = _groups(families, used, aggregate, notes)
    weights = _numbers(content["filtering"], "filtering", "obj_weights") if content["filtering"].get("obj_weights") else {}
    if weights and kl:
        inside = {n for names in groups.values() for n in names}
        kl = _beside_weights(kl, weights, [*groups, *(n for n in used if n not in inside)], notes)
    support, all_used = _support(content["filtering"])
    budget, cap = _budget(content["constraints"], notes)
    ways, units = _senses({c: n for c, n in columns.items() if n in used}, notes)
    return Request(
        mixtures,
        metrics,
        direction=ways,
        unit=units,
        only=used,
        support=support,
        all_used=all_used,
        weights={**shares, **weights},
        families=groups,
        aggregate=aggregate or bool(groups),
        kl=kl,
        prior=_within(prior, support),
        tokens=_within(_numbers(content["priors"], "priors", "token_counts"), support),
        budget=budget,
        cap=cap,
        law="exponential",
        ridge=0.0,
        fix=_fixed(content["filtering"], notes),
        seed=int(number(content["regression"].get("seed", 0), "regression.seed")),
        notes=tuple(notes),
        files=(os.fspath(path),),
    )


def _sections(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Section -> its fields, all known."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {cause(error)}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} holds {type(content).__name__}, not a mapping; an Olmix fit configuration has the sections {listed(_FIELDS)}"
        )
    sections: dict[str, dict[str, Any]] = {name: {} for name in _FIELDS}
    for name, fields in content.items():
        if name not in _FIELDS:
            raise InputError(f"{path}: no section {name!r} in an Olmix fit configuration {listed(_FIELDS)}{nearest(str(name), _FIELDS)}")
        if not isinstance(fields, Mapping) and fields is not None:
            raise InputError(f"{path}: the section {name!r} is {fields!r}; it is a mapping of {listed(_FIELDS[name])}")
        for key in fields or {}:
            if key not in _FIELDS[name]:
                raise InputError(f"{path}: no field {name}.{key} in {listed(_FIELDS[name])}{nearest(str(key), _FIELDS[name])}")
        sections[name] = dict(fields or {})
    return sections


def _needed(section: Mapping[str, Any], name: str, field: str) -> str:
    value = section.get(field)
    if not isinstance(value, str) or not value:
        raise InputError(f"{name}.{field} is {value!r}; it is the path of a CSV file")
    return value


def _found(name: str, config: Path) -> str:
    """A path relative to the configuration, else to the working directory."""
    beside = config.parent / name
    return os.fspath(beside if beside.exists() or not Path(name).exists() else Path(name))


def _targets(
    content: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str], aggregate: bool, notes: list[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Family -> its metrics, where eval.tasks says so, and all metrics that are used."""
    tasks = _tasks(content["eval"], columns)
    drop = _dropped(content["filtering"], columns, notes)
    kept = {f: [t for t in names if t in columns.values() and t not in drop] for f, names in tasks.items()}
    _tell_missing(tasks, kept, columns, drop, aggregate, notes)
    used = [t for names in kept.values() for t in names] if tasks else [n for n in columns.values() if n not in drop]
    inside = [n for n in drop if any(n in names for names in tasks.values())]
    if aggregate and inside:
        notes.append(f"{listed(inside)} of drop_metrics are left out of the families' means; Olmix keeps them there")
    return kept, used


def _groups(
    families: Mapping[str, list[str]], used: list[str], aggregate: bool, notes: list[str]
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """What is averaged before the fit, and the weights inside: families where that is asked for, else the areas of MMLU."""
    found = areas(used)
    shares = {n: share for own in found.values() for n, share in own.items()}
    if found:
        notes.append(f"the {len(shares)} mmlu_* subjects count as {len(found)} areas, averaged by their numbers of questions, as in Olmix")
    if aggregate:
        return {f: list(names) for f, names in families.items()}, shares
    return {area: list(own) for area, own in found.items()}, shares


def _tasks(section: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, list[str]]:
    """Family -> names of its metrics; none without the section."""
    if not section:
        return {}
    kind, tasks = section.get("type", "offline"), section.get("tasks")
    if kind not in ("offline", "inloop"):
        raise InputError(f"eval.type is {kind!r}; it is offline or inloop{nearest(str(kind), ('offline', 'inloop'))}")
    if not isinstance(tasks, Mapping) or not tasks:
        raise InputError(f"eval.tasks is {tasks!r}; it maps each family to its tasks")
    found: dict[str, list[str]] = {}
    for family, members in tasks.items():
        wanted = Mapping if kind == "inloop" else list
        if not isinstance(members, wanted):
            shape = "a mapping of task to metric name" if kind == "inloop" else "a list of metric names"
            raise InputError(f"eval.tasks.{family} is {members!r}; for eval.type {kind} it is {shape}")
        names = list(members.values()) if isinstance(members, Mapping) else list(members)
        found[str(family)] = [columns.get(str(n), str(n)) for n in names]
    return found


def _dropped(section: Mapping[str, Any], columns: Mapping[str, str], notes: list[str]) -> list[str]:
    """The metrics to drop that are there."""
    names = [columns.get(str(n), str(n)) for n in section.get("drop_metrics") or []]
    there = [n for n in names if n in columns.values()]
    if len(there) < len(names):
        notes.append(f"drop_metrics names {listed(n for n in names if n not in there)}, which the metrics do not have")
    return there


def _tell_missing(
    tasks: Mapping[str, list[str]],
    kept: Mapping[str, list[str]],
    columns: Mapping[str, str],
    drop: list[str],
    aggregate: bool,
    notes: list[str],
) -> None:
    """Tasks without a column: a family does without them, as in Olmix; tasks fitted one by one need theirs."""
    lost = [t for names in tasks.values() for t in names if t not in columns.values() and t not in drop]
    known = list(columns.values())
    if lost and not aggregate:
        raise InputError(f"eval.tasks names {listed(lost)}, which are no columns of the metrics {listed(known)}{nearest(lost[0], known)}")
    if lost:
        notes.append(f"{listed(lost)} of eval.tasks are no columns of the metrics; their families are averaged without them, as in Olmix")
    for family, names in kept.items():
        if not names and aggregate:
            raise InputError(f"eval.tasks.{family}: none of {listed(tasks[family])} is a column of the metrics that is not dropped")


def _regression(section: Mapping[str, Any], notes: list[str]) -> None:
    kind = section.get("type", "log_linear")
    if kind in _OTHER_REGRESSIONS:
        raise InputError(f"regression.type {kind} is not fitted here; write log_linear, which is the law c + exp(A w)")
    if kind != "log_linear":
        raise InputError(f"regression.type is {kind!r}; it is log_linear{nearest(str(kind), ('log_linear', *_OTHER_REGRESSIONS))}")
    split = section.get("train_split", 1.0)
    split = split[0] if isinstance(split, list) and len(split) == 1 else split
    if split != 1.0:
        notes.append(f"train_split {split}: all runs are fitted here, and cross-validation holds out each in turn")
    if section.get("n_test"):
        notes.append(
            f"n_test {section['n_test']}: no runs are held out for good, cross-validation does it in turn; Olmix would propose no mixture"
        )
    old = [f for f in ("alpha", "simulation_samples", "opt_avg_metric") if f in section]
    if old:
        notes.append(f"regression {listed(old)} has no meaning here: the mean of the metrics is optimised exactly")


def _kl(section: Mapping[str, Any], priors: Mapping[str, Any], notes: list[str]) -> tuple[float, dict[str, float]]:
    """The KL weight, and the proportions that it is taken to."""
    kind = section.get("type", "exact")
    if kind not in ("exact", "simulation", "search"):
        raise InputError(f"proposer.type is {kind!r}; it is exact{nearest(str(kind), ('exact', 'simulation', 'search'))}")
    if _flag(section, "make_worst_mix"):
        raise InputError("proposer.make_worst_mix asks for a bad mixture, which is not searched for here; set it to false")
    if kind != "exact":
        searched = "drawn mixtures" if kind == "simulation" else "the mixtures of the runs"
        notes.append(
            f"proposer.type {kind}: Olmix would take the best of {searched}, without a KL term; here the optimum is computed exactly"
        )
    if section.get("temperature") is not None:
        notes.append(f"proposer.temperature {section['temperature']} shapes Olmix's draws; the exact optimum has none")
    if _flag(section, "fit_only"):
        notes.append("proposer.fit_only: Olmix would stop after the fit; here a mixture is recommended all the same")
    if section.get("kl_reg") is None and kind == "exact":
        notes.append("proposer.kl_reg is not given, where Olmix stops; here there is no KL term then (give --kl)")
    kl = number(section.get("kl_reg") or 0.0, "proposer.kl_reg")
    counts, sizes = _numbers(priors, "priors", "token_counts"), priors.get("relative_sizes")
    if sizes is None or _flag(section, "use_natural_kl"):
        return kl, counts
    prior = _numbers(priors, "priors", "relative_sizes")
    total, whole = sum(counts.values()), sum(prior.values())
    if set(prior) == set(counts) and any(abs(prior[n] / whole - counts[n] / total) > 1e-3 for n in prior):
        notes.append(
            "KL is taken to priors.relative_sizes, which differ from the shares of token_counts (use_natural_kl: true takes those)"
        )
    return kl, prior


def _beside_weights(kl: float, weights: Mapping[str, float], counted: list[str], notes: list[str]) -> float:
    """The KL weight beside a weighted mean: Olmix takes obj_weights as they are, and 1 for a metric without one."""
    total = sum(weights.get(n, 1.0) for n in counted)
    if not total > 0:
        raise InputError("filtering.obj_weights are all 0; give one metric a weight > 0")
    notes.append(
        f"obj_weights sum to {total:.6g}, and Olmix takes them as they are (without them it takes the mean), so that kl_reg means another "
        f"thing: its {kl:g} is {kl / total:.6g} beside the weighted mean that is optimised here"
    )
    return kl / total


def _fixed(section: Mapping[str, Any], notes: list[str]) -> dict[str, float]:
    fixed = _numbers(section, "filtering", "fixed_weight") if section.get("fixed_weight") else {}
    if fixed:
        notes.append(f"{listed(fixed)} are kept at fixed_weight while the law has them too; Olmix takes them out and renormalises the rest")
    return fixed


def _support(section: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The domains that runs must be on alone, and whether they need weight in each."""
    keep, support = ([str(n) for n in section.get(f) or []] for f in ("keep_sources", "support_domains"))
    if keep and support and set(keep) != set(support):
        raise InputError(f"filtering.keep_sources {listed(keep)} and support_domains {listed(support)} differ; give one of them")
    return keep or support, bool(keep)


def _budget(section: Mapping[str, Any], notes: list[str]) -> tuple[float | None, float | None]:
    """The tokens of the run, and the epochs that it may take."""
    target = section.get("target_tokens")
    budget = None if target is None else number(target, "constraints.target_tokens")
    if not _flag(section, "enabled"):
        return budget, None
    if budget is None:
        raise InputError("constraints.enabled needs constraints.target_tokens, the tokens of the run")
    if "repetition_factor" not in section:
        notes.append(f"constraints.repetition_factor is not given; it is {_EPOCHS:g} epochs, as in Olmix's configuration")
    return budget, number(section.get("repetition_factor", _EPOCHS), "constraints.repetition_factor")


def _senses(columns: Mapping[str, str], notes: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Directions and units of the metrics that do not tell their own: Olmix's are bits per byte, to be minimised."""
    higher = [n for c, n in columns.items() if usual_direction(c) == "max"]
    if higher:
        notes.append(f"{listed(higher)} are made large, as their names say; Olmix would make them small, as it does every metric")
    unsaid = [n for c, n in columns.items() if usual_direction(c) is None]
    return dict.fromkeys(unsaid, "min"), dict.fromkeys(unsaid, "bits per byte")


def _numbers(section: Mapping[str, Any], name: str, field: str) -> dict[str, float]:
    given = section.get(field)
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"{name}.{field} is {given!r}; it maps names to numbers")
    return {str(n): number(v, f"{name}.{field}.{n}") for n, v in given.items()}


def _within(given: dict[str, float], support: list[str]) -> dict[str, float]:
    return {n: v for n, v in given.items() if n in support} if support else given


def _flag(section: Mapping[str, Any], field: str) -> bool:
    value = section.get(field, False)
    if not isinstance(value, bool) and value is not None:
        raise InputError(f"{field} is {value!r}; it is true or false")
    return bool(value)
