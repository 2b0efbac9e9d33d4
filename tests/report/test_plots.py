"""Pictures: axes and whole files that hold the names and figures they should, and errors with a mend."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from mixopt.errors import InputError, MissingExtraError
from mixopt.report import figures, plots
from mixopt.report.figures import figure_of
from mixopt.runs import Runs, Targets

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


def texts(axes) -> list[str]:
    """What the figure of these axes says: every text in it that is shown, in the order of the artists."""
    from matplotlib.text import Text

    return [t.get_text() for t in figure_of(axes).findobj(Text) if t.get_visible() and t.get_text()]


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


def draw_all() -> dict[str, Any]:
    """One of each picture, and of each with another number of panels."""
    rng = np.random.default_rng(1)
    measured = 3 + rng.random((24, 12))
    rows = [
        (t, f"best measured proxy mixture {i}", 0.01 * i - 0.04, 0.01 * i - 0.06, 0.01 * i - 0.02) for t in ("a", "b") for i in range(10)
    ]
    mixture = mixtures(1, 20)["method 0"]
    spread = {d: 0.3 * w for d, w in mixture.items()}, {d: 2 * w for d, w in mixture.items()}
    runs = Runs.from_arrays(DOMAINS, simplex(24, 20), ["loss"], measured[:, :1])
    return {
        "small": plots.weights(mixtures(6, 5), natural=mixtures(1, 5)["method 0"]),
        "large": plots.weights(mixtures(16, 20)),
        "ranges": plots.ranges(mixture, *spread, others={"uniform": dict.fromkeys(mixture, 0.05)}),
        "coverage": plots.coverage(runs, mixture),
        "course": plots.trajectories({f"m{i}": simplex(30, 20, i) for i in range(5)}, DOMAINS),
        "one step": plots.trajectories({"Conic": simplex(1, 5)}, DOMAINS[:5]),
        "fit": plots.law_fit(measured + 0.01 * rng.normal(size=(24, 12)), measured, DOMAINS[:12]),
        "fit one": plots.law_fit(measured[:, :1], measured[:, :1], ["code"], folds=False),
        "verdict": plots.verdict(rows),
        "verdict one": plots.verdict(rows[:3]),
    }


def test_every_picture_is_a_png_of_sensible_size_with_no_text_on_another(tmp_path):
    for name, axes in draw_all().items():
        assert overlaps(figure_of(axes)) == [], name
        plots.save(axes, tmp_path / f"{name}.png")
        width, height = png_size(tmp_path / f"{name}.png")
        assert 450 <= width <= 2000, name
        assert 250 <= height <= 1500, name
    assert {p.suffix for p in tmp_path.iterdir()} == {".png"}  # no part of a file is left behind


def test_an_svg_is_the_same_at_every_call_and_its_texts_are_texts(tmp_path):
    for name in ("one.svg", "two.svg"):
        plots.save(plots.weights(mixtures(2, 3)), tmp_path / name)
    one, two = (ElementTree.parse(tmp_path / name) for name in ("one.svg", "two.svg"))
    assert {"method 0", "method 1", "domain_2"} <= {t.text for t in one.iter("{http://www.w3.org/2000/svg}text")}
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert one.getroot().tag == two.getroot().tag


def drawn_by_pyplot():
    """The figures that pyplot holds, which other tests may have left to it."""
    return sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else []


def test_drawing_leaves_pyplot_and_its_settings_alone():
    import matplotlib

    before, open_figures = dict(matplotlib.rcParams), drawn_by_pyplot()
    drawn = draw_all()
    for name in ("small", "one step", "verdict one"):
        figures.rendered(drawn[name], "svg")
    assert dict(matplotlib.rcParams) == before
    assert drawn_by_pyplot() == open_figures


def test_a_plot_is_drawn_on_the_axes_given_and_leaves_their_figure_alone():
    figure = figures.new_figure(8, 6)
    given = figure.subplots(2, 2)
    mixture = mixtures(1, 3)["method 0"]
    assert plots.weights({"m": mixture}, ax=given[0, 0]) is given[0, 0]
    assert plots.ranges(mixture, mixture, mixture, ax=given[0, 1]) is given[0, 1]
    drawn = plots.trajectories({"a": simplex(4, 3), "b": simplex(5, 3)}, DOMAINS[:3], ax=given[1])
    assert drawn == tuple(given[1])
    assert [axes.get_title(loc="left") for axes in drawn] == ["a", "b"]
    assert figure.get_suptitle() == ""
    assert len(figure.axes) == 4
    assert figure.legends == []


def test_a_name_in_any_script_is_drawn_without_a_warning(tmp_path):
    axes = plots.weights({"網\nx": {"網": 1.0}})
    plots.save(axes, tmp_path / "w.png")
    plots.save(axes, tmp_path / "w.svg")
    assert "網 x" in texts(axes)


def test_weights_are_drawn_in_percent_with_all_names():
    said = texts(plots.weights({"law": {"web": 0.8, "code": 0.2}, "$a_b$": {"code": 0.97, "web": 0.03}}, natural={"web": 0.5, "code": 0.5}))
    for expected in ("law", r"\$a_b\$", "natural proportions", "web", "code", "80", "20", "97", "50", "weight (% of training tokens)"):
        assert expected in said
    assert "3" not in said  # too narrow for a figure


def test_a_course_names_methods_and_domains_and_how_the_mean_is_drawn():
    said = texts(plots.trajectories({"DoReMi": simplex(40, 3), "DoGE": simplex(9, 3)}, ["web", "_code", "books"]))
    wanted = {"DoReMi", "DoGE", "web", " _code", "books", "step", "weight (%)", "thick and faint: running mean; dotted: uniform"}
    assert wanted <= set(said)


def test_the_running_mean_is_the_mean_of_all_steps_so_far():
    course = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    (axes,) = plots.trajectories({"m": course}, ["a", "b"])
    lines = [line.get_ydata() for line in axes.lines]
    assert any(np.allclose(line, [100, 50, 50]) for line in lines)
    assert any(np.allclose(line, 100 * course[:, 0]) for line in lines)


def test_of_many_domains_only_the_heaviest_are_named():
    names = [f"a_very_long_name_of_a_domain_whose_end_tells_it_apart_{i}" for i in range(40)]
    course = np.vstack([np.arange(1.0, 41)] * 3) / 820
    said = texts(plots.trajectories({"m": course}, names))
    named = [t for t in said if t.startswith("a_very")]
    assert [t[-2:] for t in named] == [str(i) for i in range(30, 40)]
    assert all(len(t) == 32 for t in named)
    assert said[-1] == "30 others"


def test_a_fit_says_its_correlation_its_error_its_unit_and_what_is_left_out():
    measured = np.tile(np.array([1.0, 2.0, 3.0, 4.0])[:, None], (1, 10))
    predicted = measured + np.array([0.1, -0.1, 0.1, -0.1])[:, None]
    predicted[:, 1] = measured[::-1, 1]
    targets = Targets([f"t{i}" for i in range(10)], unit={"t0": "bits per byte"})
    said = texts(plots.law_fit(predicted, measured, targets))
    assert "Spearman 1.000\nRMSE 0.1" in said
    assert "Spearman -1.000\nRMSE 2.24" in said
    assert {"t7", "measured (bits per byte)", "measured (nats per token)"} <= set(said)
    assert "t8" not in said
    assert "each of the 4 runs predicted by a law fitted without it; 2 of 10 targets are left out" in said


def test_a_run_without_a_measurement_is_left_out_of_its_panel():
    measured = np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 3.0]])
    one, two = plots.law_fit(measured + 0.5, measured, ["a", "b"])
    assert len(one.collections[0].get_offsets()) == 3
    assert len(two.collections[0].get_offsets()) == 2


def test_a_verdict_sorts_and_colours_by_whether_the_interval_holds_zero():
    rows = [
        ("mean", "worse", 0.2, 0.1, 0.3),
        ("mean", "tie", 0.0, -0.1, 0.1),
        ("mean", "better", -0.2, -0.3, -0.1),
        ("code", "tie", 0, 0, 0),
    ]
    axes, _ = drawn = plots.verdict(rows)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "tie", "worse"]
    dots = {line.get_ydata()[0]: line.get_color() for line in axes.lines if line.get_marker() not in ("None", "")}
    assert [dots[i] for i in range(3)] == [figures.BETTER, figures.NOISE, figures.WORSE]
    assert {"mean", "code", "within noise", "difference from uniform (nats per token)"} <= set(texts(drawn))


def test_ranges_hold_each_weight_between_its_ends():
    mixture, low, high = {"a": 0.25, "b": 0.75}, {"a": 0.2, "b": 0.6}, {"a": 0.4, "b": 0.8}
    axes = plots.ranges(mixture, low, high, others={"natural": {"b": 0.5, "a": 0.5}})
    (spans,) = axes.collections
    assert np.allclose([s[:, 0] for s in spans.get_segments()], [[20, 40], [60, 80]])
    dots, natural = (line.get_xdata() for line in axes.lines)
    assert np.allclose(dots, [25, 75])
    assert np.allclose(natural, [50, 50])


def test_coverage_shows_every_run_and_the_mixture():
    runs = Runs.from_arrays(DOMAINS[:3], simplex(9, 3), ["loss"], np.ones((9, 1)))
    axes = plots.coverage(runs, {"domain_2": 0.5, "domain_0": 0.25, "domain_1": 0.25})
    assert len(axes.collections[0].get_offsets()) == 27
    assert np.allclose(axes.lines[0].get_xdata(), [25, 25, 50])


BAD = {
    "no mixture": (lambda: plots.weights({}), "no mixture"),
    "domains differ": (lambda: plots.weights({"a": {"x": 1.0}, "b": {"y": 1.0}}), r"'b' has the domains \(y\), but 'a' has \(x\)"),
    "no trace": (lambda: plots.trajectories({}, ["x"]), "no trace"),
    "trace shape": (lambda: plots.trajectories({"m": np.ones((4, 3))}, ["x", "y"]), r"'m' has shape \(4, 3\); \[T, 2\]"),
    "empty trace": (lambda: plots.trajectories({"m": np.ones((0, 1))}, ["x"]), r"shape \(0, 1\)"),
    "fit shapes": (lambda: plots.law_fit(np.ones((3, 2)), np.ones((4, 2)), ["a", "b"]), r"\(3, 2\) and measured \(4, 2\)"),
    "fit NaN": (lambda: plots.law_fit(np.ones((3, 1)), np.full((3, 1), np.nan), ["a"]), r"fewer than two runs .* of \(a\)"),
    "fit infinite": (lambda: plots.law_fit(np.ones((3, 1)), np.full((3, 1), np.inf), ["a"]), "is infinite"),
    "range": (lambda: plots.ranges({"a": 1.0}, {"a": 0.9}, {"a": 0.8}), "its low end comes first"),
    "axes": (lambda: plots.law_fit(np.ones((3, 2)), np.ones((3, 2)), ["a", "b"], ax=figures.new_figure(2, 2).subplots()), "1 axes for 2"),
    "suffix": (lambda: plots.save(plots.weights({"m": {"a": 1.0}}), "picture.gif"), r"ends in 'gif'; pictures are written as"),
    "no row": (lambda: plots.verdict([]), "no row"),
    "interval": (lambda: plots.verdict([("t", "m", 1.0, 0.0, 0.5)]), "does not hold the difference 1.0"),
}


@pytest.mark.parametrize(("draw", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_refused(draw, words):
    with pytest.raises(InputError, match=words):
        draw()


def test_a_folder_that_cannot_be_written_is_an_error_and_an_old_picture_survives(tmp_path):
    axes = plots.weights(mixtures(2, 2))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        plots.save(axes, tmp_path / "file" / "w.png")
    (tmp_path / "w.png").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        plots.save(axes, tmp_path / "w.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "w.png"]


def test_without_matplotlib_the_error_gives_the_pip_line(monkeypatch):
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mixopt\[plots\]'"):
        plots.weights(mixtures(2, 2))


def test_a_lone_outlier_is_named_at_the_edge_and_does_not_flatten_the_rest():
    rows = [("t", name, d, d - 0.01, d + 0.01) for name, d in (("a", -0.02), ("b", 0.01), ("c", 0.03), ("corner", 0.65))]
    said = texts(plots.verdict(rows))
    assert "+0.65 \N{RIGHTWARDS ARROW}" in said
    assert "corner" in said
    assert not [t for t in texts(plots.verdict(rows[:3])) if "\N{RIGHTWARDS ARROW}" in t]
