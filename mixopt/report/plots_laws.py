"""Pictures of fitted laws: several side by side, what a law leaves unexplained, and its value over mixtures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mixopt.errors import InputError

from .figures import BETTER, COLOURS, FAINT, INK, RULE, headed, keyed, leftmost, panels, plain, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORDS = {"rmse": "error (RMSE)", "mae": "mean error", "spearman": "rank correlation", "r2": "R²", "regret": "regret (%)"}
_MOST_LINES = 400


def laws(
    figures: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    ax: Axes | Sequence[Axes] | None = None,
    title: str = "Laws compared",
) -> tuple[Axes, ...]:
    """A panel a figure, in it a dot for each law on the interval of that figure; ``figures`` maps law -> figure -> (value, low, high).

    Raises:
        InputError: no law, or laws with other figures than the first.
        MissingExtraError: matplotlib is not installed.
    """
    names = list(figures)
    if not names or any(set(figures[n]) != set(figures[names[0]]) for n in names):
        raise InputError("give the same figures of at least one law: {law: {figure: (value, low, high)}}")
    kinds = list(figures[names[0]])
    drawn = panels(ax, len(kinds), (1.4 + 2.4 * len(kinds), 1.3 + 0.34 * len(names)), len(kinds), sharey=True)
    places = np.arange(len(names))
    for axes, kind in zip(drawn, kinds, strict=True):
        scale = 100 if kind == "regret" else 1
        value, low, high = scale * np.array([figures[n][kind] for n in names]).T
        axes.hlines(places, low, high, color=BETTER, linewidth=5, alpha=0.35, zorder=2)
        axes.plot(value, places, "o", color=BETTER, markersize=6, zorder=3)
        axes.set_yticks(places, [plain(n) for n in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelleft=leftmost(axes))
        tidy(axes, x=_WORDS.get(kind, kind), grid="x")
        axes.locator_params(axis="x", nbins=4)
    headed(drawn, ax, title, "cross-validated, with 90 % intervals over the runs")
    return drawn


def residuals(
    predicted: ArrayLike,
    measured: ArrayLike,
    *,
    intervals: ArrayLike | None = None,
    ax: Axes | None = None,
    unit: str = "nats per token",
    title: str = "What the law leaves unexplained",
) -> Axes:
    """Measured minus predicted against predicted [R], each run by a law that had not seen it; ``intervals`` [R, 2] are shaded.

    Raises:
        InputError: shapes that do not fit, or fewer than two runs that have both values.
        MissingExtraError: matplotlib is not installed.
    """
    guess, truth = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    spans = None if intervals is None else np.asarray(intervals, dtype=float)
    if guess.ndim != 1 or guess.shape != truth.shape or (spans is not None and spans.shape != (*guess.shape, 2)):
        raise InputError(f"predicted has shape {guess.shape} and measured {truth.shape}; both are [R], the intervals [R, 2]")
    there = np.isfinite(guess) & np.isfinite(truth)
    if there.sum() < 2:
        raise InputError("there are fewer than two runs with a predicted and a measured value")
    (axes,) = panels(ax, 1, (6.4, 3.2))
    order = np.flatnonzero(there)[np.argsort(guess[there])]
    x, gaps = guess[order], (truth - guess)[order]
    if spans is not None:
        widths = (spans - guess[:, None])[order]
        axes.fill_between(x, widths[:, 0], widths[:, 1], color=BETTER, alpha=0.15, linewidth=0, label="90 % interval", zorder=1)
    axes.axhline(0, color=RULE, linewidth=1.0, zorder=1)
    axes.scatter(x, gaps, s=14, color=BETTER, alpha=0.65, linewidths=0, label="a run", zorder=2)
    tidy(axes, x=f"predicted ({unit})", y="measured minus predicted")
    headed(axes, ax, title)
    keyed(axes, ax, *axes.get_legend_handles_labels(), below=True)
    return axes


def ternary(
    values: ArrayLike,
    mixtures: ArrayLike,
    names: Sequence[str],
    *,
    runs: ArrayLike | None = None,
    best: ArrayLike | None = None,
    ax: Axes | None = None,
    label: str = "predicted",
    maximised: bool = False,
    title: str = "The law over all mixtures",
) -> Axes:
    """A heat map of values [R] at mixtures [R, 3] of three domains; what is better is lighter.

    The runs [n, 3] are dots, and the best mixture [3] is a star.

    Raises:
        InputError: another number of domains than three, or shapes that do not fit.
        MissingExtraError: matplotlib is not installed.
    """
    table, heights = np.asarray(mixtures, dtype=float), np.asarray(values, dtype=float)
    if len(names) != 3 or table.ndim != 2 or table.shape[1] != 3 or heights.shape != (len(table),):
        raise InputError(f"a ternary map is of three domains: values [R] at mixtures [R, 3], not {heights.shape} at {table.shape}")
    (axes,) = panels(ax, 1, (5.6, 4.6))
    x, y = _flat(table)
    drawn = axes.tricontourf(x, y, heights, levels=16, cmap="viridis" if maximised else "viridis_r")
    _bar(axes, drawn, label)
    for corner, name, shift in zip(np.eye(3), names, ((-8, -12), (8, -12), (0, 6)), strict=True):
        (cx,), (cy,) = _flat(corner[None])
        axes.annotate(plain(name), (cx, cy), xytext=shift, textcoords="offset points", ha="center", fontsize=9, color=INK)
    if runs is not None:
        axes.scatter(*_flat(np.asarray(runs, dtype=float)), s=12, color="white", edgecolors=INK, linewidths=0.6, label="runs", zorder=3)
    if best is not None:
        axes.scatter(
            *_flat(np.asarray(best, dtype=float)[None]),
            s=140,
            marker="*",
            color=COLOURS[4],
            edgecolors="white",
            label="recommended",
            zorder=4,
        )
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.margins(0.08)
    headed(axes, ax, title)
    if runs is not None or best is not None:
        keyed(axes, ax, *axes.get_legend_handles_labels(), below=True)
    return axes


def parallel(
    mixtures: ArrayLike,
    values: ArrayLike,
    names: Sequence[str],
    *,
    best: Mapping[str, float] | None = None,
    ax: Axes | None = None,
    label: str = "measured",
    maximised: bool = False,
    title: str = "Runs by their outcome",
) -> Axes:
    """A line for each run [R, k] over the domains, lighter where its value [R] is better; ``best`` in bold.

    Upwards is the square root of the weight, so that small weights are told apart.

    Raises:
        InputError: shapes that do not fit.
        MissingExtraError: matplotlib is not installed.
    """
    table, outcome = np.asarray(mixtures, dtype=float), np.asarray(values, dtype=float)
    if table.ndim != 2 or table.shape[1] != len(names) or outcome.shape != (len(table),):
        raise InputError(f"mixtures have shape {table.shape} and values {outcome.shape}; [R, {len(names)}] and [R] are expected")
    (axes,) = panels(ax, 1, (max(6.4, 0.42 * len(names) + 2.2), 3.8))
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    kept = np.flatnonzero(np.isfinite(outcome))
    kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), _MOST_LINES)).astype(int)]
    order = kept[np.argsort(outcome[kept] if maximised else -outcome[kept])]  # the best are drawn last
    places = np.arange(len(names))
    lines = [np.column_stack([places, np.sqrt(table[r])]) for r in order]
    shades = colormaps["viridis" if maximised else "viridis_r"]
    scale = BoundaryNorm(MaxNLocator(9).tick_values(*np.quantile(outcome[kept], (0.02, 0.98))), shades.N, clip=True)
    axes.add_collection(LineCollection(lines, colors=shades(scale(outcome[order])), linewidths=0.8, alpha=0.55))
    if best is not None:
        axes.plot(
            places, np.sqrt([best[n] for n in names]), "o-", color=COLOURS[4], linewidth=2.2, markersize=4.5, label="recommended", zorder=4
        )
        keyed(axes, ax, *axes.get_legend_handles_labels(), below=True)
    _bar(axes, ScalarMappable(scale, shades), label)
    ticks = np.array([0, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 1.0])
    top = math.sqrt(float(table.max())) * 1.03
    axes.set_yticks(np.sqrt(ticks), [f"{100 * t:g}" for t in ticks])
    axes.set(xlim=(-0.3, len(names) - 0.7), ylim=(-0.02, top))
    axes.set_xticks(places, [plain(n, 20) for n in names], rotation=45, ha="right")
    tidy(axes, x="", y="weight (%)", grid="x")
    headed(axes, ax, title)
    return axes


def _bar(axes: Axes, drawn: Any, label: str) -> None:
    """The scale of colours beside the picture, as quiet as its axes."""
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.85)
    bar.set_label(label, fontsize=9, color=FAINT)
    bar.ax.tick_params(labelsize=8.5, color=RULE, labelcolor=INK)
    bar.outline.set_visible(False)


def _flat(mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures [R, 3] as points of a triangle with its corners at the left, at the right and on top."""
    return mixtures[:, 1] + mixtures[:, 2] / 2, mixtures[:, 2] * math.sqrt(3) / 2
