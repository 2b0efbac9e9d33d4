"""Pictures of mixtures, their course, their ranges, a law's fit and a verdict: functions that return matplotlib axes.

Each draws on ``ax`` where it is given (a sequence of axes where there are several panels) and on a figure of its own
otherwise; pyplot is never touched. ``save(axes, path)`` writes the figure; in a notebook, ``axes.figure`` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, listed
from mixopt.runs import Runs, Targets

from .figures import (
    BETTER,
    COLOURS,
    DASHES,
    FAINT,
    HATCHES,
    INK,
    NOISE,
    RULE,
    WORSE,
    grid_size,
    headed,
    keyed,
    leftmost,
    panels,
    plain,
    tidy,
)
from .figures import save as save
from .ranks import spearman

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEAVY, _MOST_NAMED, _NAMED = 6, 18, 10
_NATURAL = "natural proportions"


def weights(
    mixtures: Mapping[str, Mapping[str, float]],
    *,
    natural: Mapping[str, float] | None = None,
    unit: str = "training tokens",
    ax: Axes | None = None,
    title: str = "Mixtures found",
) -> Axes:
    """One stacked bar a method, its domains' weights in percent; the natural proportions, if given, stand below the rest.

    ``mixtures`` maps a method to domain -> weight; all have the same domains, and are drawn from top to bottom.

    Raises:
        InputError: no mixture, or domains that differ between them.
        MissingExtraError: matplotlib is not installed.
    """
    bars = dict(mixtures)
    domains = _common_domains(bars if natural is None else bars | {_NATURAL: natural})
    places = [float(i) for i in range(len(bars))]
    if natural is not None:
        bars[_NATURAL] = natural
        places.append(len(bars) - 0.6)
    (axes,) = panels(ax, 1, (9.5, max(1.6 + 0.36 * len(bars), 1.0 + 0.21 * len(domains))))
    left = np.zeros(len(bars))
    for i, domain in enumerate(domains):
        part = 100 * np.array([bar[domain] for bar in bars.values()])
        colour, hatch = COLOURS[i % len(COLOURS)], HATCHES[i // len(COLOURS) % len(HATCHES)]
        axes.barh(places, part, 0.76, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0.6, label=plain(domain))
        for place, start, width in zip(places, left, part, strict=True):
            if width >= 4.5:
                _number_in_bar(axes, start + width / 2, place, f"{width:.0f}", colour, hatch)
        left += part
    axes.set_yticks(places, [plain(name) for name in bars])
    axes.set_ylim(max(places) + 0.6, -0.6)
    axes.set_xlim(0, 100)
    tidy(axes, x=f"weight (% of {unit})", grid="")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    headed(axes, ax, title)
    keyed(axes, ax, *axes.get_legend_handles_labels())
    return axes


def ranges(
    mixture: Mapping[str, float],
    low: Mapping[str, float],
    high: Mapping[str, float],
    *,
    others: Mapping[str, Mapping[str, float]] | None = None,
    optima: tuple[Mapping[str, float], Mapping[str, float]] | None = None,
    ax: Axes | None = None,
    title: str = "How far each weight can move",
) -> Axes:
    """A dot for each domain's weight in percent, on the interval from ``low`` to ``high``; ``others`` are open marks beside it.

    ``optima`` are the low and the high end of the interval in which the optimal weight itself lies, a thin line.

    Raises:
        InputError: no domain, one that another mapping lacks, or an interval whose ends are the wrong way round.
        MissingExtraError: matplotlib is not installed.
    """
    others = dict(others or {})
    domains = _common_domains({"the mixture": mixture, "low": low, "high": high, **others})
    for name in domains:
        if not low[name] <= high[name]:
            raise InputError(f"the range of {name!r} is {low[name]} to {high[name]}; its low end comes first")
    (axes,) = panels(ax, 1, (7.4, _height(len(domains))))
    places = np.arange(len(domains))
    ends = 100 * np.array([[low[d], high[d]] for d in domains])
    axes.hlines(places, ends[:, 0], ends[:, 1], color=BETTER, linewidth=5, alpha=0.35, label="range", zorder=2)
    axes.plot([100 * mixture[d] for d in domains], places, "o", color=BETTER, markersize=6, label="weight", zorder=4)
    if optima is not None:
        inner = 100 * np.array([[end[d] for end in optima] for d in domains])
        axes.hlines(places, inner[:, 0], inner[:, 1], color=BETTER, linewidth=1.4, label="optimum, 90 %", zorder=3)
    for (name, other), marker in zip(others.items(), ("D", "s", "^", "v", "P", "X") * len(others), strict=False):
        given = [100 * other[d] for d in domains]
        axes.plot(given, places, marker, markersize=4.5, color=FAINT, markerfacecolor="none", label=plain(name), zorder=3)
    axes.set_yticks(places, [plain(d, 44) for d in domains])
    axes.set_ylim(len(domains) - 0.4, -0.6)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    tidy(axes, x="weight (%)", grid="x")
    axes.tick_params(axis="y", length=0)
    headed(axes, ax, title)
    keyed(axes, ax, *axes.get_legend_handles_labels(), below=True)
    return axes


def coverage(
    runs: Runs,
    mixture: Mapping[str, float] | None = None,
    *,
    ax: Axes | None = None,
    title: str = "What the runs have seen",
    dot: str = "the mixture",
) -> Axes:
    """A row of faint marks for each domain, its weight in percent in every run, and a dot where ``mixture`` lies, with its name.

    Raises:
        InputError: a mixture that is none of the runs' domains.
        MissingExtraError: matplotlib is not installed.
    """
    own = None if mixture is None else runs.domains.weights(mixture)
    (axes,) = panels(ax, 1, (7.4, _height(len(runs.domains))))
    places = np.arange(len(runs.domains))
    everywhere = np.broadcast_to(places, runs.mixtures.shape)
    axes.scatter(100 * runs.mixtures, everywhere, s=60, marker="|", color=NOISE, alpha=0.6, linewidths=1.0, label="a run", zorder=2)
    if own is not None:
        axes.plot(100 * own, places, "o", color=BETTER, markersize=6, label=dot, zorder=3)
    axes.set_yticks(places, [plain(d, 44) for d in runs.domains])
    axes.set_ylim(len(places) - 0.4, -0.6)
    tidy(axes, x="weight (%)", grid="x")
    axes.tick_params(axis="y", length=0)
    headed(axes, ax, title)
    keyed(axes, ax, *axes.get_legend_handles_labels(), below=True)
    return axes


def trajectories(
    traces: Mapping[str, ArrayLike],
    domains: Iterable[str],
    *,
    ax: Axes | Sequence[Axes] | None = None,
    columns: int | None = None,
    title: str = "Course of the weights",
) -> tuple[Axes, ...]:
    """One panel a method: each domain's weight after every step, its running mean faint behind; ``traces`` are [T, k].

    Of more than 18 domains only the 10 heaviest on average are named and coloured.

    Raises:
        InputError: no trace, or one of another shape.
        MissingExtraError: matplotlib is not installed.
    """
    names = tuple(domains)
    courses = {method: np.asarray(trace, dtype=float) for method, trace in traces.items()}
    if not courses:
        raise InputError("there is no trace to draw; give {method: weights [T, k]}")
    for method, course in courses.items():
        if course.ndim != 2 or course.shape[1] != len(names) or not len(course):
            raise InputError(
                f"the trace of {method!r} has shape {course.shape}; [T, {len(names)}] is expected, over the domains {listed(names)}"
            )
    named = _named(courses.values(), len(names))
    drawn = panels(ax, len(courses), grid_size(len(courses), 3.1, 2.5, side=1.9, columns=columns), columns, sharey=True)
    for axes, (method, course) in zip(drawn, courses.items(), strict=True):
        _course_panel(axes, course, names, named)
        axes.set_title(plain(method, 44), fontsize=10, loc="left", color=INK)
        tidy(axes, x="step", y="weight (%)" if leftmost(axes) else "")
    highest = 105 * max(float(course.max()) for course in courses.values())
    for axes in drawn:
        axes.set_ylim(0, min(100, highest))
    heaviest = f" of the {_HEAVY} heaviest domains" if len(names) > _HEAVY else ""
    headed(drawn, ax, title, f"thick and faint: running mean{heaviest}; dotted: uniform")
    handles, labels = drawn[0].get_legend_handles_labels()
    last = int(len(named) < len(names))  # the key of the others is drawn first and read last
    keyed(drawn, ax, handles[last:] + handles[:last], labels[last:] + labels[:last])
    return drawn


def law_fit(
    predicted: ArrayLike,
    measured: ArrayLike,
    targets: Targets | Iterable[str],
    folds: bool = True,
    *,
    ax: Axes | Sequence[Axes] | None = None,
    columns: int | None = None,
    most: int = 8,
    title: str = "The law's predictions",
) -> tuple[Axes, ...]:
    """Predicted against measured losses [R, m], a panel a target, with the diagonal, Spearman's correlation and the RMSE.

    ``folds`` says that each run was predicted by a law that had not seen it. A value that is NaN, one not measured, is left
    out of its panel. The first ``most`` panels are drawn, and the note says how many are left out. Names alone
    are taken to be in nats per token.

    Raises:
        InputError: shapes that do not fit, an infinite value, or a target with fewer than two pairs of values.
        MissingExtraError: matplotlib is not installed.
    """
    named = targets if isinstance(targets, Targets) else Targets(targets)
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    if guess.shape != truth.shape or guess.ndim != 2 or guess.shape[1] != len(named) or len(guess) < 2:
        raise InputError(f"predicted has shape {guess.shape} and measured {truth.shape}; both are [R, {len(named)}], R >= 2 runs")
    known = ~(np.isnan(guess) | np.isnan(truth))
    if np.isinf(guess).any() or np.isinf(truth).any():
        raise InputError("a predicted or measured value is infinite; leave that run out")
    bare = [n for n, pairs in zip(named.names, known.sum(0), strict=True) if pairs < 2]
    if bare:
        raise InputError(f"there are fewer than two runs with a predicted and a measured value of {listed(bare)}; leave such targets out")
    shown = min(len(named), most)
    drawn = panels(ax, shown, grid_size(shown, 2.75, 2.75, columns=columns), columns)
    for j, axes in enumerate(drawn):
        _fit_panel(axes, guess[known[:, j], j], truth[known[:, j], j])
        axes.set_title(plain(named.names[j], 40), fontsize=10, loc="left", color=INK)
        tidy(axes, x=f"measured ({named.units[j]})", y="predicted" if leftmost(axes) else "")
    left_out = f"; {len(named) - shown} of {len(named)} targets are left out" if shown < len(named) else ""
    how = (
        f"each of the {len(guess)} runs predicted by a law fitted without it"
        if folds
        else f"the {len(guess)} runs that the law was fitted to"
    )
    headed(drawn, ax, title and title + (", cross-validated" if folds else ""), how + left_out)
    return drawn


def verdict(
    rows: Iterable[tuple[str, str, float, float, float]],
    *,
    unit: str = "nats per token",
    ax: Axes | Sequence[Axes] | None = None,
    title: str = "Test loss against the uniform mixture",
) -> tuple[Axes, ...]:
    """Difference from uniform with its 95 % interval, a panel a target, the best mixture on top.

    A row is (target, mixture, difference, low, high); an interval that holds 0 is drawn as within noise.

    Raises:
        InputError: no row, or an interval that does not hold its difference.
        MissingExtraError: matplotlib is not installed.
    """
    by_target: dict[str, list[tuple[str, float, float, float]]] = {}
    for target, name, difference, low, high in rows:
        if not low <= difference <= high:
            raise InputError(f"the interval of {name!r} on {target!r} is {low} to {high}, which does not hold the difference {difference}")
        by_target.setdefault(target, []).append((name, difference, low, high))
    if not by_target:
        raise InputError("there is no row to draw; give (target, mixture, difference, low, high)")
    most = max(map(len, by_target.values()))
    columns = min(len(by_target), 2)
    lines = math.ceil(len(by_target) / columns)
    drawn = panels(ax, len(by_target), (max(5.0 * columns, 6.5), 0.9 + lines * (0.9 + 0.3 * most)), columns)
    for axes, (target, entries) in zip(drawn, by_target.items(), strict=True):
        _verdict_panel(axes, sorted(entries, key=lambda entry: entry[1]))
        axes.set_title(plain(target, 44), fontsize=10, loc="left", color=INK)
        tidy(axes, x=f"difference from uniform ({unit})", grid="x")
    headed(drawn, ax, title, "mean and 95 % interval; left is better")
    keyed(drawn, ax, *_verdict_legend(), below=True)
    return drawn


def _height(k: int) -> float:
    """Inches for k rows, closer together where there are many."""
    return 1.1 + k * (0.25 if k <= 25 else 0.19)


def _named(courses: Iterable[np.ndarray], k: int) -> list[int]:
    """The positions of the domains that get a colour and a name: all, or the heaviest of many."""
    mean = np.mean([course.mean(0) for course in courses], axis=0)
    return list(range(k)) if k <= _MOST_NAMED else sorted(np.argsort(-mean, kind="stable")[:_NAMED].tolist())


def _course_panel(axes: Axes, course: np.ndarray, names: Sequence[str], named: Sequence[int]) -> None:
    """The weights [T, k] of one run in percent over its steps; those that are light on average are drawn thin."""
    steps = np.arange(1, len(course) + 1)
    mean = np.cumsum(course, axis=0) / steps[:, None]
    heavy = set(np.argsort(-mean[-1], kind="stable")[:_HEAVY].tolist())
    marker = "o" if len(steps) == 1 else ""
    rest = [i for i in range(len(names)) if i not in named]
    for i in rest:
        label = f"{len(rest)} others" if i == rest[-1] else None
        axes.plot(steps, 100 * course[:, i], linewidth=0.6, alpha=0.5, color=NOISE, label=label, marker=marker, markersize=3, zorder=1.5)
    for place, i in enumerate(named):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        if i in heavy:
            axes.plot(steps, 100 * mean[:, i], linewidth=3.0, alpha=0.28, color=colour, solid_capstyle="butt")
        look: dict[str, Any] = {"linewidth": 1.4, "alpha": 1.0, "zorder": 3.2} if i in heavy else {"linewidth": 0.7, "alpha": 0.6}
        look |= {"marker": marker, "markersize": 4, "color": colour, "linestyle": dash}
        axes.plot(steps, 100 * course[:, i], label=plain(names[i]), **look)
    axes.axhline(100 / len(names), color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.margins(x=0.01)
    axes.locator_params(axis="x", integer=True)


def _verdict_panel(axes: Axes, entries: Sequence[tuple[str, float, float, float]]) -> None:
    """Dots with whiskers from top to bottom, and the zero line; a lone outlier is named at the edge, not drawn to scale."""
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    reach = _reach(entries)
    for place, (_, difference, low, high) in enumerate(entries):
        colour, marker = (BETTER, "o") if high < 0 else (WORSE, "s") if low > 0 else (NOISE, "D")
        if abs(difference) > reach:
            far = difference > 0
            text = f"{difference:+.2f} \N{RIGHTWARDS ARROW}" if far else f"\N{LEFTWARDS ARROW} {difference:+.2f}"
            x, side = (0.99, "right") if far else (0.01, "left")
            axes.text(x, place, text, color=colour, fontsize=9, va="center", ha=side, transform=axes.get_yaxis_transform())
            continue
        axes.plot([low, high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
        axes.plot([difference], [place], color=colour, marker=marker, markersize=6, zorder=3)
    axes.set_yticks(range(len(entries)), [plain(name) for name, *_ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)


def _reach(entries: Sequence[tuple[str, float, float, float]]) -> float:
    """The largest difference drawn to scale: any, unless one is more than three times every other."""
    sizes = sorted(abs(difference) for _, difference, _, _ in entries)
    return math.inf if len(sizes) < 3 or sizes[-1] <= 3 * sizes[-2] or sizes[-2] == 0 else sizes[-2]


def _verdict_legend() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    looks = (("better", BETTER, "o"), ("within noise", NOISE, "D"), ("worse", WORSE, "s"))
    return [Line2D([], [], color=c, marker=m, markersize=6, linewidth=1.8) for _, c, m in looks], [name for name, _, _ in looks]


def _fit_panel(axes: Axes, guess: np.ndarray, truth: np.ndarray) -> None:
    """Predicted [R] against measured [R] on equal axes, the diagonal, and the two figures in the corner."""
    low, high = float(min(guess.min(), truth.min())), float(max(guess.max(), truth.max()))
    pad = 0.05 * (high - low or 1.0)
    limits = low - pad, high + pad
    axes.plot(limits, limits, color=RULE, linewidth=1.0, zorder=1)
    axes.scatter(truth, guess, s=14, color=BETTER, alpha=0.65, linewidths=0, zorder=2)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.locator_params(nbins=5, steps=[1, 2, 5, 10])
    rmse = float(np.sqrt(np.mean((guess - truth) ** 2)))
    words = f"Spearman {spearman(guess, truth):.3f}\nRMSE {rmse:.3g}"
    axes.text(0.04, 0.96, words, transform=axes.transAxes, va="top", fontsize=8.5, color=INK, linespacing=1.4)


def _common_domains(mixtures: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    if not mixtures:
        raise InputError("there is no mixture to draw; give {method: {domain: weight}}")
    first = next(iter(mixtures))
    names = tuple(mixtures[first])
    for method, mixture in mixtures.items():
        if set(mixture) != set(names):
            raise InputError(
                f"{method!r} has the domains {listed(mixture)}, but {first!r} has {listed(names)}; give each domain a weight, 0 included"
            )
    return names


def _number_in_bar(axes: Axes, x: float, y: float, text: str, colour: str, hatch: str) -> None:
    """A figure in the middle of a bar, dark or white by the bar's brightness; on a hatch it has a ground of its own."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    ink = INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
    ground = {"boxstyle": "round,pad=0.15", "facecolor": colour, "edgecolor": "none"} if hatch else None
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=ink, bbox=ground)
