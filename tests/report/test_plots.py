"""Pictures: whole PNG files that hold the names and figures they should, and errors with a mend."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from mixopt.errors import InputError, MissingExtraError
from mixopt.report import plots
from mixopt.runs import Targets

DOMAINS = [f"domain_{i}" for i in range(20)]


def simplex(rows: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=rows)


def mixtures(methods: int, k: int) -> dict[str, dict[str, float]]:
    return {f"method {r}": dict(zip(DOMAINS[:k], row, strict=True)) for r, row in enumerate(simplex(methods, k).tolist())}


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", content[16:24])  # type: ignore[return-value]


@pytest.fixture
def texts(monkeypatch):
    """What the figure saved last says: every text in it that is shown, in the order of the artists."""
    from matplotlib.text import Text

    said: list[str] = []
    save = plots._save

    def keep(figure, path):
        save(figure, path)
        said[:] = [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]

    monkeypatch.setattr(plots, "_save", keep)
    return said


def overlaps(figure) -> list[tuple[str, str]]:
    """Pairs of texts in a figure that lie on each other; tick labels that fall outside the axes are not drawn."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    hidden = {
        tick.label1
        for axes in figure.axes
        for axis, bounds in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for tick in axis.get_major_ticks()
        if not min(bounds) - 1e-9 <= tick.get_loc() <= max(bounds) + 1e-9
    }
    boxes = [
        (t.get_text(), t.get_window_extent(renderer)) for t in figure.findobj(Text) if t.get_visible() and t.get_text() and t not in hidden
    ]
    width, height = figure.canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= height + 1, text
    return [
        (one, two)
        for i, (one, a) in enumerate(boxes)
        for two, b in boxes[:i]
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
    ]


def draw_all(folder: Path) -> None:
    rng = np.random.default_rng(1)
    plots.weights(folder / "small.png", mixtures(6, 5), natural=mixtures(1, 5)["method 0"])
    plots.weights(folder / "large.png", mixtures(16, 20))
    plots.trajectories(folder / "course.png", {f"m{i}": simplex(30, 20, i) for i in range(5)}, DOMAINS)
    plots.trajectories(folder / "one step.png", {"Conic": simplex(1, 5)}, DOMAINS[:5])
    measured = 3 + rng.random((24, 12))
    plots.law_fit(folder / "fit.png", measured + 0.01 * rng.normal(size=(24, 12)), measured, DOMAINS[:12])
    plots.law_fit(folder / "fit one.png", measured[:, :1], measured[:, :1], ["code"], folds=False)
    rows = [
        (t, f"best measured proxy mixture {i}", 0.01 * i - 0.04, 0.01 * i - 0.06, 0.01 * i - 0.02) for t in ("a", "b") for i in range(10)
    ]
    plots.verdict(folder / "verdict.png", rows)
    plots.verdict(folder / "verdict one.png", rows[:3])


def test_every_picture_is_a_png_of_sensible_size_with_no_text_on_another(tmp_path, monkeypatch):
    save, crowded = plots._save, []

    def keep(figure, path):
        crowded.extend((path.name, pair) for pair in overlaps(figure))
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    draw_all(tmp_path)
    assert crowded == []
    pictures = sorted(tmp_path.iterdir())
    assert [p.suffix for p in pictures] == [".png"] * 8  # no part of a file is left behind
    for picture in pictures:
        width, height = png_size(picture)
        assert 450 <= width <= 2000, picture.name
        assert 250 <= height <= 1500, picture.name


def test_drawing_leaves_pyplot_and_its_settings_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_all(tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_weights_are_drawn_in_percent_with_all_names(tmp_path, texts):
    plots.weights(
        tmp_path / "w.png", {"law": {"web": 0.8, "code": 0.2}, "$a_b$": {"code": 0.97, "web": 0.03}}, natural={"web": 0.5, "code": 0.5}
    )
    for expected in ("law", r"\$a_b\$", "natural proportions", "web", "code", "80", "20", "97", "50", "weight (% of training tokens)"):
        assert expected in texts
    assert "3" not in texts  # too narrow for a figure


def test_a_course_names_methods_and_domains_and_how_the_mean_is_drawn(tmp_path, texts):
    plots.trajectories(tmp_path / "t.png", {"DoReMi": simplex(40, 3), "DoGE": simplex(9, 3)}, ["web", "_code", "books"])
    assert {"DoReMi", "DoGE", "web", " _code", "books", "step", "weight (%)", "thick and faint: running mean; dotted: uniform"} <= set(
        texts
    )


def test_the_running_mean_is_the_mean_of_all_steps_so_far(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    course = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    plots.trajectories(tmp_path / "t.png", {"m": course}, ["a", "b"])
    lines = [line.get_ydata() for line in drawn[0].axes[0].lines]
    assert any(np.allclose(line, [100, 50, 50]) for line in lines)
    assert any(np.allclose(line, 100 * course[:, 0]) for line in lines)


def test_a_fit_says_its_correlation_its_error_its_unit_and_what_is_left_out(tmp_path, texts):
    measured = np.tile(np.array([1.0, 2.0, 3.0, 4.0])[:, None], (1, 10))
    predicted = measured + np.array([0.1, -0.1, 0.1, -0.1])[:, None]
    predicted[:, 1] = measured[::-1, 1]
    targets = Targets([f"t{i}" for i in range(10)], unit={"t0": "bits per byte"})
    plots.law_fit(tmp_path / "f.png", predicted, measured, targets)
    assert "Spearman 1.000\nRMSE 0.1" in texts
    assert "Spearman -1.000\nRMSE 2.24" in texts
    assert {"t7", "measured (bits per byte)", "measured (nats per token)"} <= set(texts)
    assert "t8" not in texts
    assert "each of the 4 runs predicted by a law fitted without it; 2 of 10 targets are left out" in texts


def test_a_verdict_sorts_and_colours_by_whether_the_interval_holds_zero(tmp_path, monkeypatch, texts):
    rows = [
        ("mean", "worse", 0.2, 0.1, 0.3),
        ("mean", "tie", 0.0, -0.1, 0.1),
        ("mean", "better", -0.2, -0.3, -0.1),
        ("code", "tie", 0, 0, 0),
    ]
    figures, save = [], plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
    plots.verdict(tmp_path / "v.png", rows)
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "tie", "worse"]
    dots = {line.get_ydata()[0]: line.get_color() for line in axes.lines if line.get_marker() not in ("None", "")}
    assert [dots[i] for i in range(3)] == [plots._BETTER, plots._NOISE, plots._WORSE]
    assert {"mean", "code", "within noise", "difference from uniform (nats per token)"} <= set(texts)


BAD = {
    "no mixture": (lambda p: plots.weights(p, {}), "no mixture"),
    "domains differ": (lambda p: plots.weights(p, {"a": {"x": 1.0}, "b": {"y": 1.0}}), r"'b' has the domains \(y\), but 'a' has \(x\)"),
    "no trace": (lambda p: plots.trajectories(p, {}, ["x"]), "no trace"),
    "trace shape": (lambda p: plots.trajectories(p, {"m": np.ones((4, 3))}, ["x", "y"]), r"'m' has shape \(4, 3\); \[T, 2\]"),
    "empty trace": (lambda p: plots.trajectories(p, {"m": np.ones((0, 1))}, ["x"]), r"shape \(0, 1\)"),
    "fit shapes": (lambda p: plots.law_fit(p, np.ones((3, 2)), np.ones((4, 2)), ["a", "b"]), r"\(3, 2\) and measured \(4, 2\)"),
    "fit NaN": (lambda p: plots.law_fit(p, np.ones((3, 1)), np.full((3, 1), np.nan), ["a"]), "NaN or infinite"),
    "no row": (lambda p: plots.verdict(p, []), "no row"),
    "interval": (lambda p: plots.verdict(p, [("t", "m", 1.0, 0.0, 0.5)]), "does not hold the difference 1.0"),
}


@pytest.mark.parametrize(("draw", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, draw, words):
    with pytest.raises(InputError, match=words):
        draw(tmp_path / "p.png")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error_and_an_old_picture_survives(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        plots.weights(tmp_path / "file" / "w.png", mixtures(2, 2))
    (tmp_path / "w.png").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        plots.weights(tmp_path / "w.png", mixtures(2, 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "w.png"]


def test_without_matplotlib_the_error_gives_the_pip_line(tmp_path, monkeypatch):
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mixopt\[plots\]'"):
        plots.weights(tmp_path / "w.png", mixtures(2, 2))


def test_a_lone_outlier_is_named_at_the_edge_and_does_not_flatten_the_rest(tmp_path, texts):
    rows = [("t", name, d, d - 0.01, d + 0.01) for name, d in (("a", -0.02), ("b", 0.01), ("c", 0.03), ("corner", 0.65))]
    plots.verdict(tmp_path / "v.png", rows)
    assert "+0.65 \N{RIGHTWARDS ARROW}" in texts
    assert "corner" in texts
    plots.verdict(tmp_path / "v.png", rows[:3])
    assert not [t for t in texts if "\N{RIGHTWARDS ARROW}" in t]
