"""What every picture shares: figures without global state, panels, quiet axes, and files written whole or not at all."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.errors import InputError, MissingExtraError
from mixopt.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Paul Tol's "muted" scheme, told apart by readers who are colour blind; beyond it the colours return hatched or dashed.
COLOURS = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#882255", "#44AA99", "#999933", "#AA4499")
HATCHES = ("", "////", "....")
DASHES = ("-", "--", ":")
INK, FAINT, RULE, GRID, PAPER = "#222222", "#666666", "#BBBBBB", "#EEEEEE", "#FFFFFF"
BETTER, WORSE, NOISE = "#0072B2", "#D55E00", "#888888"
_DPI = 120
_FORMATS = ("png", "svg")


def save(axes: Axes | Sequence[Axes], path: str | os.PathLike[str]) -> None:
    """Write the figure of one or several axes as PNG or SVG, by the suffix of the path, whole or not at all.

    Raises:
        InputError: another suffix, or a path that cannot be written.
    """
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in _FORMATS:
        raise InputError(f"{path} ends in {form or 'no suffix'!r}; pictures are written as .png or .svg")
    write(path, rendered(axes, form))


def rendered(axes: Axes | Sequence[Axes], form: str) -> bytes:
    """The figure of one or several axes as the bytes of a PNG or SVG file, the same at every call; texts of an SVG stay texts."""
    import matplotlib

    drawn = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mixopt"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that the font lacks is still drawn
        dropped: dict[str, Any] = {} if form == "png" else {"metadata": {"Date": None, "Creator": None}}
        figure_of(axes).savefig(drawn, format=form, dpi=_DPI, **dropped)
    return drawn.getvalue()


def figure_of(axes: Axes | Sequence[Axes]) -> Figure:
    """The figure that one or several axes stand in."""
    figure: Figure = listed_axes(axes)[0].figure  # type: ignore[assignment]
    return figure


def listed_axes(axes: Axes | Sequence[Axes]) -> tuple[Axes, ...]:
    """One or several axes, or an array of them as ``plt.subplots`` gives, row by row."""
    return tuple(np.ravel(np.asarray(axes, dtype=object)))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches with its own Agg canvas; the state of pyplot is neither read nor changed.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "drawing pictures") from error
    figure = Figure((width, height), dpi=_DPI, facecolor="white", layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.06, hspace=0.07))
    FigureCanvasAgg(figure)
    return figure


def panels(
    ax: Axes | Sequence[Axes] | None, count: int, size: tuple[float, float], columns: int | None = None, sharey: bool = False
) -> tuple[Axes, ...]:
    """``count`` axes: those given, or a grid, row by row, in a new figure of this size in inches.

    Raises:
        InputError: another number of axes than there are panels.
    """
    if ax is not None:
        given = listed_axes(ax)
        if len(given) != count:
            raise InputError(f"there are {len(given)} axes for {count} panels; give one for each, or none to have them made")
        return given
    figure, columns = new_figure(*size), columns or grid_columns(count)
    made: list[Axes] = []
    for i in range(count):
        made.append(figure.add_subplot(math.ceil(count / columns), columns, i + 1, sharey=made[0] if sharey and made else None))
    return tuple(made)


def grid_size(count: int, width: float, height: float, side: float = 0.2, columns: int | None = None) -> tuple[float, float]:
    """The size in inches of a figure of ``count`` panels, with ``side`` for a legend."""
    columns = columns or grid_columns(count)
    return max(columns * width + side, 4.6), math.ceil(count / columns) * height + 0.7


def grid_columns(count: int) -> int:
    """How many panels stand side by side."""
    return count if count <= 3 else 2 if count == 4 else 3 if count <= 6 else 4


def leftmost(axes: Axes) -> bool:
    """Whether no panel stands to the left, so that the label of the y axis belongs here."""
    place = axes.get_subplotspec()
    return place is None or place.is_first_col()


def tidy(axes: Axes, *, x: str, y: str = "", grid: str = "y") -> None:
    """Quiet frame, small ticks, axis labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(labelsize=8.5, color=RULE, labelcolor=INK)
    axes.set_xlabel(x, fontsize=9, color=FAINT)
    axes.set_ylabel(y, fontsize=9, color=FAINT)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]


def headed(axes: Axes | Sequence[Axes], given: object, text: str, note: str = "") -> None:
    """A title over a figure of our own and a note below it; axes that were given keep their figure as it is."""
    if given is not None:
        return
    figure = figure_of(axes)
    if text:
        figure.suptitle(text, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=FAINT)


def keyed(axes: Axes | Sequence[Axes], given: object, handles: Sequence[Any], labels: Sequence[str], below: bool = False) -> None:
    """The legend: outside the panels of a figure of our own, inside the first of the axes that were given."""
    look: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": INK, "borderaxespad": 0.3}
    if given is not None:
        legend = listed_axes(axes)[0].legend(handles, labels, **look)
    else:
        look |= {"loc": "outside lower right", "ncols": len(labels)} if below else {"loc": "outside right upper"}
        legend = figure_of(axes).legend(handles, labels, **look)
    for key in legend.get_lines():
        if key.get_linewidth() <= 3:  # a broad one stands for an interval, and stays pale
            key.set(alpha=1.0, linewidth=1.8)


def plain(name: str, longest: int = 32) -> str:
    """A name as matplotlib prints it unchanged: no formulas, not hidden for its underscore, on one line, not longer than fits."""
    line = " ".join(name.split()) or name
    tail = longest // 2  # what tells long names apart is often their end
    short = line if len(line) <= longest else f"{line[: longest - tail - 1]}…{line[-tail:]}"
    return (" " + short if short.startswith("_") else short).replace("$", r"\$")
