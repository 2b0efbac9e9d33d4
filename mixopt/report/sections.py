"""What a report says, section by section; what is not known is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from mixopt.errors import InputError, listed

from .blocks import (
    FLAG,
    Block,
    Cell,
    Code,
    Formula,
    Lines,
    Picture,
    Prose,
    Row,
    Section,
    Table,
    count,
    decimals,
    figure,
    passes,
    percent,
    short,
    table,
    times,
)
from .report import Bound, Fit, Judged, Prediction, Provenance, Ranges, Report
from .sections_laws import compared, outcome

REPEATED = 4.0
"""Passes over the same data up to which they are about as good as new data (Muennighoff et al. 2023, arXiv 2305.16264)."""

_FIRST = ("natural", "uniform")
_BESIDE, _ABREAST, _MOST_ENTRIES, _PANELS = 4, 6, 12, 9


def sections(report: Report) -> list[Section]:
    """The sections of a report in the order of reading, the empty ones left out.

    Raises:
        InputError: no mixture, or parts of the report over other domains than the recommended mixture.
    """
    _check(report)
    parts: list[tuple[str, str, Iterable[Block]]] = [
        ("weights", "Weights", _weights(report)),
        ("epochs", "Epochs", _epochs(report)),
        ("ranges", "How sure the weights are", _ranges(report)),
        ("problem", "The problem", _problem(report)),
        ("predictions", "Measured, target by target" if report.measured else "Predictions", _predictions(report)),
        ("constraints", "What binds", _bounds(report.bounds)),
        ("law", "The law against the runs", chain(_fit(report.fit), outcome(report))),
        ("laws", "The laws compared", compared(report.compared)),
        ("course", "Course of the weights", _course(report)),
        ("verdict", "The measured verdict", _verdicts(report)),
        ("cost", "Cost", _listed(report.cost)),
        ("notes", "Notes", _listed(report.notes)),
        ("provenance", "Provenance", _provenance(report.provenance)),
    ]
    filled = ((key, title, tuple(blocks)) for key, title, blocks in parts)
    return [Section(key, title, blocks) for key, title, blocks in filled if blocks]


def _check(report: Report) -> None:
    if not report.mixtures:
        raise InputError("the report has no mixture; give the recommended one first")
    chosen, *_ = report.mixtures
    parts: dict[str, Mapping[str, float]] = {f"the mixture {name!r}": w for name, w in report.mixtures.items()}
    parts |= {} if report.tokens is None else {"the tokens": report.tokens}
    parts |= {} if report.ranges is None else {"the low ends": report.ranges.low, "the high ends": report.ranges.high}
    for what, part in parts.items():
        if set(part) != set(report.recommended):
            raise InputError(f"the domains of {what} are {listed(part)}, but those of {chosen!r} are {listed(report.recommended)}")


def _weights(report: Report) -> Iterator[Block]:
    """The recommended weights beside the first other mixtures, heaviest first, then groups, then the other mixtures."""
    chosen, *others = _ordered(report)
    own, beside = report.mixtures[chosen], others[:_BESIDE]
    order = sorted(own, key=lambda d: -own[d])
    base = report.mixtures[beside[0]] if beside else None
    between = report.ranges
    head = [
        "domain",
        chosen,
        *(["range"] if between else []),
        *beside[:1],
        *(f"×\N{NO-BREAK SPACE}{name}" for name in beside[:1]),
        *beside[1:],
    ]
    rows: list[Row] = []
    for d in order:
        row = [Cell(d), _barred(own[d], max(own.values()), base[d] if base else None)]
        row += [Cell(f"{percent(between.low[d])} – {percent(between.high[d])}")] if between else []
        row += [Cell(percent(base[d])), Cell(_ratio(own[d], base[d]))] if base else []
        row += [Cell(percent(report.mixtures[name][d])) for name in beside[1:]]
        rows.append(row)
    notes = [
        f"The upright line on a bar is {beside[0]}." if beside else "",
        "The range is where the weight can lie while the prediction stays within the noise of the best." if between else "",
    ]
    yield table(f"Weights, % of {report.unit}", head, rows, [" ".join(filter(None, notes))])
    yield from _groups(report, [chosen, *beside])
    rest = others[_BESIDE:]
    for names in (rest[i : i + _ABREAST] for i in range(0, len(rest), _ABREAST)):
        yield table(
            f"Other mixtures, % of {report.unit}",
            ["domain", *names],
            [[d, *(percent(report.mixtures[n][d]) for n in names)] for d in order],
        )


def _barred(share: float, longest: float, mark: float | None) -> Cell:
    """The recommended weight with its bar; a mark beyond the longest bar is left out."""
    return Cell(percent(share), "own", share / longest, mark / longest if mark is not None and mark <= longest else None)


def _ordered(report: Report) -> list[str]:
    """The names of the mixtures: the recommended one, the natural and the uniform proportions, the others as they stand."""
    chosen, *others = report.mixtures
    return [chosen, *sorted(others, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))]


def _ratio(share: float, base: float) -> str:
    return times(share / base) if base else "–" if not share else "new"


def _groups(report: Report, names: list[str]) -> Iterator[Table]:
    """The totals of the first part of hierarchical names, where there are fewer of them than domains."""
    own = report.mixtures[names[0]]
    groups: dict[str, list[str]] = {}
    for d in own:
        groups.setdefault(d.partition("/")[0], []).append(d)
    if not 1 < len(groups) < len(own):
        return
    totals = {g: [sum(report.mixtures[n][d] for d in members) for n in names] for g, members in groups.items()}
    longest = max(row[0] for row in totals.values())
    rows: list[Row] = [
        [f"{g} ({len(groups[g])})", _barred(t[0], longest, t[1] if len(t) > 1 else None), *map(percent, t[1:])]
        for g, t in sorted(totals.items(), key=lambda item: -item[1][0])
    ]
    yield table(f"By group, % of {report.unit}", ["group (domains)", *names], rows)


def _epochs(report: Report) -> Iterator[Block]:
    """How often each mixture passes over each domain, with a mark where data are repeated."""
    names = _ordered(report)[: 1 + _BESIDE]
    each = {name: report.epochs(name) for name in names}
    if report.tokens is None or report.budget is None or None in each.values():
        return
    known = {name: e for name, e in each.items() if e is not None}
    own, limit = known[names[0]], report.cap
    rows: list[Row] = [
        [d, count(report.tokens[d]), *(_passes(known[name][d], limit) for name in names)] for d in sorted(own, key=lambda d: -own[d])
    ]
    capped = f", and the cap is {limit:g} passes" if limit is not None else ""
    yield Prose(
        f"The training run has {count(report.budget)} {report.unit}; the domains hold {count(sum(report.tokens.values()))}{capped}."
    )
    marked = {cell.text.count(FLAG) for row in rows for cell in row if isinstance(cell, Cell)}
    marks = [
        f"{FLAG} more than {REPEATED:g} passes: repeated data are then worth less than new data (arXiv 2305.16264)." if 1 in marked else "",
        f"{FLAG}{FLAG} above the cap of {limit:g}." if 2 in marked else "",
    ]
    yield table("Passes over each domain (epochs)", ["domain", report.unit, *names], rows, marks)


def _passes(epochs: float, cap: float | None) -> Cell:
    marks = FLAG * 2 if cap is not None and _over(epochs, cap) else FLAG if _over(epochs, REPEATED) else ""
    return Cell(f"{marks} {passes(epochs)}" if marks else passes(epochs), "warn" if marks else "")


def _over(epochs: float, limit: float) -> bool:
    return epochs > limit * (1 + 1e-6)


def _ranges(report: Report) -> Iterator[Block]:
    found = report.ranges
    if found is None:
        return
    yield Prose(f"The noise is {short(found.noise)}: {found.how.rstrip('.')}.")
    yield Picture("ranges", _range_words(found), lambda: _drawn_ranges(report, found))


def _range_words(found: Ranges) -> str:
    widest = max(found.low, key=lambda d: found.high[d] - found.low[d])
    return (
        f"Each domain's weight on the interval in which it can move within the noise; the widest is that of {widest}, "
        f"{percent(found.low[widest])} to {percent(found.high[widest])} %. The numbers are in the table of weights."
        + (" The thin line is the 90 % interval of the optimal weight itself." if found.optima else "")
    )


def _drawn_ranges(report: Report, found: Ranges) -> Any:
    from . import plots

    own = dict(sorted(report.recommended.items(), key=lambda item: -item[1]))
    beside = {n: report.mixtures[n] for n in _ordered(report)[1:3]}
    return plots.ranges(own, found.low, found.high, others=beside, optima=found.optima, title="")


def _problem(report: Report) -> Iterator[Block]:
    if report.formula or report.problem:
        yield Formula(report.formula, report.problem)
    if r"\Delta" in report.formula:
        yield Prose("Δ is the simplex: weights that are not negative and sum to 1.")
    if report.certificate:
        yield Prose(f"Certificate: {report.certificate}")


def _predictions(report: Report) -> Iterator[Block]:
    """Each target under each mixture, the best of a row marked; one table for each unit and direction."""
    kinds: dict[tuple[str, str], list[Prediction]] = {}
    for p in report.predictions:
        kinds.setdefault((p.unit, p.direction), []).append(p)
    for (unit, direction), rows in kinds.items():
        known = dict.fromkeys(name for p in rows for name in p.values)
        names = [n for n in _ordered(report) if n in known] + [n for n in known if n not in report.mixtures]
        better = "lower" if direction == "min" else "higher"
        yield _prediction_table(f"{unit}, {better} is better", direction, names, rows)


def _prediction_table(caption: str, direction: str, names: list[str], rows: list[Prediction]) -> Table:
    families, weighted = any(p.family for p in rows), len({p.weight for p in rows}) > 1
    digits = decimals(p.values.values() for p in rows)
    lines = []
    for p in rows:
        values = [p.values.get(n, float("nan")) for n in names]
        line = [Cell(p.target), *([Cell(p.family)] if families else []), *([Cell(percent(p.weight))] if weighted else [])]
        lines.append(line + _best(values, direction, digits))
    if len(rows) > 1 and sum(p.weight for p in rows) > 0:
        shares = np.array([p.weight for p in rows]) / sum(p.weight for p in rows)
        means = [float(shares @ [p.values.get(n, float("nan")) for p in rows]) for n in names]
        word = "weighted mean" if weighted else "mean"
        lines.append([Cell(word), *([Cell("")] if families else []), *([Cell("")] if weighted else []), *_best(means, direction, digits)])
    head = ["target", *(["family"] if families else []), *(["weight, %"] if weighted else []), *names]
    return table(caption, head, lines, ["The best of each row is in bold."] if len(names) > 1 else [])


def _best(values: list[float], direction: str, digits: int) -> list[Cell]:
    texts = [figure(v, digits) for v in values]
    finite = [v for v in values if np.isfinite(v)]
    best = figure((min if direction == "min" else max)(finite), digits) if finite else None
    told = len({t for t, v in zip(texts, values, strict=True) if np.isfinite(v)}) > 1
    return [Cell(t, "best" if told and t == best else "") for t in texts]


def _bounds(bounds: Iterable[Bound]) -> Iterator[Block]:
    """Each constraint, where it binds with which multiplier, and what relaxing it would buy."""
    rows: list[Row] = []
    for bound in bounds:
        binding = sorted(bound.binding, key=lambda entry: -abs(bound.duals[entry]))
        shown = [f"{entry or 'binds'} ({short(bound.duals[entry])})" for entry in binding[:_MOST_ENTRIES]]
        more = [f"{len(binding) - _MOST_ENTRIES} more"] if len(binding) > _MOST_ENTRIES else []
        where = ", ".join(shown + more) or "does not bind"
        rows.append([Cell(bound.name), bound.text if bound.text != bound.name else "", where, bound.buys or "–"])
    if rows:
        note = "In brackets the multiplier: what the objective would gain for each unit by which the right side is relaxed."
        yield table("Constraints", ["constraint", "which says", "binds at", "relaxing it would buy"], rows, [note])


def _fit(fit: Fit | None) -> Iterator[Block]:
    """How well the law predicts runs that it has not seen, in figures and as a picture."""
    if fit is None:
        return
    yield Prose(
        f"Each run predicted by the {fit.law} law fitted to the other {fit.folds - 1} of {fit.folds} folds."
        if fit.folds > 1
        else f"The {fit.law} law on the runs that it was fitted to; they say little of runs that it has not seen."
    )
    units = set(fit.units)
    rows: list[Row] = []
    for t, u, error, order, r2, regret in zip(fit.targets, fit.units, fit.rmse, fit.spearman, fit.r2, fit.regret, strict=True):
        lost = f"{100 * regret:.1f}" if np.isfinite(regret) else "–"
        rows.append([t, *([] if len(units) == 1 else [u]), short(error, padded=True), figure(order, 3), figure(r2, 3), lost])
    head = f"error, {fit.units[0]}" if len(units) == 1 else "error"
    yield table(
        "Errors of prediction",
        ["target", *([] if len(units) == 1 else ["unit"]), head, "rank correlation", "R²", "regret, %"],
        rows,
        [
            "The error is the root of the mean square. The regret is what the run predicted best loses against the best run, "
            "as a share of what a run drawn at random loses."
        ],
    )
    known = [j for j, pairs in enumerate(_pairs(fit).all(2).sum(0)) if pairs > 1]
    if known:
        words = f"Predicted against measured values of {min(len(known), _PANELS)} targets, a dot for each run."
        yield Picture("law", words, lambda: _drawn_fit(fit, known))


def _pairs(fit: Fit) -> np.ndarray:
    """Whether each predicted and each measured value is a number [R, m, 2]."""
    return np.isfinite(np.stack([fit.predicted, fit.measured], axis=2))


def _drawn_fit(fit: Fit, known: list[int]) -> Any:
    from mixopt.runs import Targets

    from . import plots

    targets = Targets(fit.targets, unit=dict(zip(fit.targets, fit.units, strict=True))).subset(known)
    predicted, measured = (np.where(_pairs(fit).all(2), values, np.nan)[:, known] for values in (fit.predicted, fit.measured))
    return plots.law_fit(predicted, measured, targets, fit.folds > 1, columns=min(len(known), 3), most=_PANELS, title="")


def _course(report: Report) -> Iterator[Block]:
    if not report.trajectories:
        return
    names = list(report.recommended)

    def draw() -> Any:
        from . import plots

        return plots.trajectories(report.trajectories, names, columns=min(len(report.trajectories), 2), title="")

    methods = ", ".join(report.trajectories)
    yield Picture("course", f"The weight of each of {len(names)} domains after every step of {methods}.", draw)


def _verdicts(report: Report) -> Iterator[Block]:
    for judged in report.verdicts:
        yield _verdict(judged)
        if judged.sentences:
            yield Lines(tuple(judged.sentences))


def _verdict(judged: Judged) -> Table:
    return table(judged.title, judged.head, judged.rows)


def _listed(sentences: Iterable[str]) -> Iterator[Block]:
    if sentences:
        yield Lines(tuple(sentences))


def _provenance(made: Provenance | None) -> Iterator[Block]:
    if made is None:
        return
    if made.command:
        yield Code(made.command)
    facts: Mapping[str, str] = {
        "date": made.date,
        "seed": "" if made.seed is None else str(made.seed),
        **made.versions,
    }
    rows = [(k, v) for k, v in facts.items() if v]
    if rows:
        yield table("Made with", ["what", "version"], rows)
    if made.files:
        yield table("Files read", ["file", "SHA-256"], [[path, Cell(sha, "code")] for path, sha in made.files.items()])
