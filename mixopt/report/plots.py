"""Pictures of mixtures, their course, a law's fit and a verdict, as PNG files written whole or not at all."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError, MissingExtraError, listed
from mixopt.files import write
from mixopt.runs import Targets

from .ranks import spearman

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Path = str | os.PathLike[str]

# Paul Tol's "muted" scheme, told apart by readers who are colour blind; beyond it the colours return hatched or dashed.
_COLOURS = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#882255", "#44AA99", "#999933", "#AA4499")
_HATCHES = ("", "////", "....")
_DASHES = ("-", "--", ":")
_INK, _FAINT, _RULE = "#222222", "#666666", "#BBBBBB"
_BETTER, _WORSE, _NOISE = "#0072B2", "#D55E00", "#888888"
_DPI = 120
_MOST_PANELS = 8
_HEAVY = 6


def weights(path: _Path, mixtures: Mapping[str, Mapping[str, float]], *, natural: Mapping[str, float] | None = None) -> None:
    """One stacked bar a method, its domains' weights in percent; the natural proportions, if given, stand below the rest.

    ``mixtures`` maps a method to domain -> weight; all have the same domains, and are drawn from top to bottom.

    Raises:
        InputError: no mixture, domains that differ between them, or a path that cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    bars = dict(mixtures)
    domains = _common_domains(bars if natural is None else bars | {"natural proportions": natural})
    places = list(range(len(bars)))
    if natural is not None:
        bars["natural proportions"] = natural
        places.append(len(bars) - 0.6)  # type: ignore[arg-type]
    figure = _figure(9.5, max(1.6 + 0.36 * len(bars), 1.0 + 0.21 * len(domains)))
    axes = figure.add_subplot()
    left = np.zeros(len(bars))
    for i, domain in enumerate(domains):
        part = 100 * np.array([bar[domain] for bar in bars.values()])
        colour, hatch = _COLOURS[i % len(_COLOURS)], _HATCHES[i // len(_COLOURS) % len(_HATCHES)]
        axes.barh(places, part, 0.76, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0.6, label=_text(domain))
        for place, start, width in zip(places, left, part, strict=True):
            if width >= 4.5:
                _number_in_bar(axes, start + width / 2, place, f"{width:.0f}", colour, hatch)
        left += part
    axes.set_yticks(places, [_text(name) for name in bars])
    axes.set_ylim(max(places) + 0.6, -0.6)
    axes.set_xlim(0, 100)
    _tidy(axes, x="weight (% of training tokens)", grid="")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _title(figure, "Mixtures found")
    _legend(figure, *axes.get_legend_handles_labels())
    _save(figure, path)


def trajectories(path: _Path, traces: Mapping[str, ArrayLike], domains: Iterable[str]) -> None:
    """One panel a method: each domain's weight after every step, its running mean faint behind; ``traces`` are [T, k].

    Raises:
        InputError: no trace, one of another shape, or a path that cannot be written.
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
    figure = _figure(*_grid_size(len(courses), 3.1, 2.5, side=1.9))
    panels = _panels(figure, len(courses), sharey=True)
    for axes, (method, course) in zip(panels, courses.items(), strict=True):
        _course_panel(axes, course, names)
        axes.set_title(_text(method, 44), fontsize=10, loc="left", color=_INK)
        _tidy(axes, x="step", y="weight (%)" if axes in _first_column(panels) else "")
    panels[0].set_ylim(0, min(100, 105 * max(float(course.max()) for course in courses.values())))
    heaviest = f" of the {_HEAVY} heaviest domains" if len(names) > _HEAVY else ""
    _title(figure, "Course of the weights", f"thick and faint: running mean{heaviest}; dotted: uniform")
    _legend(figure, *panels[0].get_legend_handles_labels())
    _save(figure, path)


def law_fit(path: _Path, predicted: ArrayLike, measured: ArrayLike, targets: Targets | Iterable[str], folds: bool = True) -> None:
    """Predicted against measured losses [R, m], a panel a target, with the diagonal, Spearman's correlation and the RMSE.

    ``folds`` says that each run was predicted by a law that had not seen it. Eight panels at most are drawn, the first
    ones, and the title says how many are left out. Names alone are taken to be in nats per token.

    Raises:
        InputError: shapes that do not fit, values that are not finite, or a path that cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    named = targets if isinstance(targets, Targets) else Targets(targets)
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    if guess.shape != truth.shape or guess.ndim != 2 or guess.shape[1] != len(named) or len(guess) < 2:
        raise InputError(f"predicted has shape {guess.shape} and measured {truth.shape}; both are [R, {len(named)}], R >= 2 runs")
    if not (np.isfinite(guess).all() and np.isfinite(truth).all()):
        raise InputError("a predicted or measured value is NaN or infinite; leave that run out")
    shown = min(len(named), _MOST_PANELS)
    figure = _figure(*_grid_size(shown, 2.75, 2.75))
    panels = _panels(figure, shown)
    for j, axes in enumerate(panels):
        _fit_panel(axes, guess[:, j], truth[:, j])
        axes.set_title(_text(named.names[j], 40), fontsize=10, loc="left", color=_INK)
        _tidy(axes, x=f"measured ({named.units[j]})", y="predicted" if axes in _first_column(panels) else "")
    left_out = f"; {len(named) - shown} of {len(named)} targets are left out" if shown < len(named) else ""
    how = (
        f"each of the {len(guess)} runs predicted by a law fitted without it"
        if folds
        else f"the {len(guess)} runs that the law was fitted to"
    )
    _title(figure, "The law's predictions" + (", cross-validated" if folds else ""), how + left_out)
    _save(figure, path)


def verdict(path: _Path, rows: Iterable[tuple[str, str, float, float, float]], *, unit: str = "nats per token") -> None:
    """Difference from uniform with its 95 % interval, a panel a target, the best mixture on top.

    A row is (target, mixture, difference, low, high); an interval that holds 0 is drawn as within noise.

    Raises:
        InputError: no row, an interval that does not hold its difference, or a path that cannot be written.
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
    figure = _figure(max(5.0 * columns, 6.5), 0.9 + lines * (0.9 + 0.3 * most))
    for axes, (target, entries) in zip(_panels(figure, len(by_target), columns), by_target.items(), strict=True):
        _verdict_panel(axes, sorted(entries, key=lambda entry: entry[1]))
        axes.set_title(_text(target, 44), fontsize=10, loc="left", color=_INK)
        _tidy(axes, x=f"difference from uniform ({unit})", grid="x")
    _title(figure, "Test loss against the uniform mixture", "mean and 95 % interval; left is better")
    _legend(figure, *_verdict_legend(), below=True)
    _save(figure, path)


def _course_panel(axes: Axes, course: np.ndarray, names: Sequence[str]) -> None:
    """The weights [T, k] of one run in percent over its steps; those that are light on average are drawn thin."""
    steps = np.arange(1, len(course) + 1)
    mean = np.cumsum(course, axis=0) / steps[:, None]
    heavy = set(np.argsort(-mean[-1], kind="stable")[:_HEAVY].tolist())
    for i, name in enumerate(names):
        colour, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)]
        if i in heavy:
            axes.plot(steps, 100 * mean[:, i], linewidth=3.0, alpha=0.28, color=colour, solid_capstyle="butt")
        width, strength = (1.4, 1.0) if i in heavy else (0.7, 0.6)
        marker = "o" if len(steps) == 1 else ""
        axes.plot(
            steps,
            100 * course[:, i],
            linewidth=width,
            alpha=strength,
            label=_text(name),
            marker=marker,
            markersize=4,
            color=colour,
            linestyle=dash,
            zorder=2.2 + (i in heavy),
        )
    axes.axhline(100 / len(names), color=_FAINT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.margins(x=0.01)
    axes.locator_params(axis="x", integer=True)


def _verdict_panel(axes: Axes, entries: Sequence[tuple[str, float, float, float]]) -> None:
    """Dots with whiskers from top to bottom, and the zero line; a lone outlier is named at the edge, not drawn to scale."""
    axes.axvline(0, color=_INK, linewidth=0.9, zorder=1)
    reach = _reach(entries)
    for place, (_, difference, low, high) in enumerate(entries):
        colour, marker = (_BETTER, "o") if high < 0 else (_WORSE, "s") if low > 0 else (_NOISE, "D")
        if abs(difference) > reach:
            far = difference > 0
            text = f"{difference:+.2f} \N{RIGHTWARDS ARROW}" if far else f"\N{LEFTWARDS ARROW} {difference:+.2f}"
            x, side = (0.99, "right") if far else (0.01, "left")
            axes.text(x, place, text, color=colour, fontsize=9, va="center", ha=side, transform=axes.get_yaxis_transform())
            continue
        axes.plot([low, high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=2)
        axes.plot([difference], [place], color=colour, marker=marker, markersize=6, zorder=3)
    axes.set_yticks(range(len(entries)), [_text(name) for name, *_ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)


def _reach(entries: Sequence[tuple[str, float, float, float]]) -> float:
    """The largest difference drawn to scale: any, unless one is more than three times every other."""
    sizes = sorted(abs(difference) for _, difference, _, _ in entries)
    return math.inf if len(sizes) < 3 or sizes[-1] <= 3 * sizes[-2] or sizes[-2] == 0 else sizes[-2]


def _verdict_legend() -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    looks = (("better", _BETTER, "o"), ("within noise", _NOISE, "D"), ("worse", _WORSE, "s"))
    return [Line2D([], [], color=c, marker=m, markersize=6, linewidth=1.8) for _, c, m in looks], [name for name, _, _ in looks]


def _fit_panel(axes: Axes, guess: np.ndarray, truth: np.ndarray) -> None:
    """Predicted [R] against measured [R] on equal axes, the diagonal, and the two figures in the corner."""
    low, high = float(min(guess.min(), truth.min())), float(max(guess.max(), truth.max()))
    pad = 0.05 * (high - low or 1.0)
    limits = low - pad, high + pad
    axes.plot(limits, limits, color=_RULE, linewidth=1.0, zorder=1)
    axes.scatter(truth, guess, s=14, color=_BETTER, alpha=0.65, linewidths=0, zorder=2)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.locator_params(nbins=5, steps=[1, 2, 5, 10])
    rmse = float(np.sqrt(np.mean((guess - truth) ** 2)))
    words = f"Spearman {spearman(guess, truth):.3f}\nRMSE {rmse:.3g}"
    axes.text(0.04, 0.96, words, transform=axes.transAxes, va="top", fontsize=8.5, color=_INK, linespacing=1.4)


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


def _figure(width: float, height: float) -> Figure:
    """An empty figure in inches with its own Agg canvas; the state of pyplot is neither read nor changed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "drawing pictures") from error
    figure = Figure((width, height), dpi=_DPI, facecolor="white", layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.06, hspace=0.04))
    FigureCanvasAgg(figure)
    return figure


def _grid_size(count: int, width: float, height: float, side: float = 0.2) -> tuple[float, float]:
    columns = _columns(count)
    return max(columns * width + side, 4.6), math.ceil(count / columns) * height + 0.7


def _columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3 if count <= 6 else 4


def _panels(figure: Figure, count: int, columns: int | None = None, sharey: bool = False) -> list[Axes]:
    """``count`` axes in a grid, row by row."""
    columns = columns or _columns(count)
    rows = math.ceil(count / columns)
    panels: list[Axes] = []
    for i in range(count):
        panels.append(figure.add_subplot(rows, columns, i + 1, sharey=panels[0] if sharey and panels else None))
    return panels


def _first_column(panels: Sequence[Axes]) -> list[Axes]:
    return [axes for axes in panels if axes.get_subplotspec().is_first_col()]  # type: ignore[union-attr]


def _tidy(axes: Axes, *, x: str, y: str = "", grid: str = "y") -> None:
    """Quiet frame, small ticks, axis labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_RULE)
    axes.tick_params(labelsize=8.5, color=_RULE, labelcolor=_INK)
    axes.set_xlabel(x, fontsize=9, color=_FAINT)
    axes.set_ylabel(y, fontsize=9, color=_FAINT)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color="#EEEEEE", linewidth=0.8)  # type: ignore[arg-type]


def _number_in_bar(axes: Axes, x: float, y: float, text: str, colour: str, hatch: str) -> None:
    """A figure in the middle of a bar, dark or white by the bar's brightness; on a hatch it has a ground of its own."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    ink = _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
    ground = {"boxstyle": "round,pad=0.15", "facecolor": colour, "edgecolor": "none"} if hatch else None
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color=ink, bbox=ground)


def _title(figure: Figure, text: str, note: str = "") -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=_FAINT)


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], below: bool = False) -> None:
    look: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": _INK, "borderaxespad": 0.3}
    look |= {"loc": "outside lower right", "ncols": len(labels)} if below else {"loc": "outside right upper"}
    keys = figure.legend(handles, labels, **look)
    for key in keys.get_lines():
        key.set(alpha=1.0, linewidth=1.8)


def _text(name: str, longest: int = 32) -> str:
    """A name as matplotlib prints it unchanged: no formulas, not hidden for its underscore, not longer than fits."""
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return (" " + short if short.startswith("_") else short).replace("$", r"\$")


def _save(figure: Figure, path: _Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    write(path, drawn.getvalue())
