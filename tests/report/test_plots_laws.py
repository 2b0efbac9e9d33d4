"""Pictures of laws: what they show is what was given, and what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mixopt.errors import InputError
from mixopt.report import plots, plots_laws

RNG = np.random.default_rng(0)


def test_laws_are_dots_on_their_intervals():
    figures = {
        "linear": {"rmse": (0.2, 0.1, 0.3), "regret": (0.5, 0.2, 0.6)},
        "trees": {"rmse": (0.1, 0.05, 0.15), "regret": (0.0, 0.0, 0.1)},
    }
    first, second = plots_laws.laws(figures)
    assert first.get_lines()[0].get_xdata().tolist() == [0.2, 0.1]
    assert second.get_lines()[0].get_xdata().tolist() == [50, 0]
    with pytest.raises(InputError, match="the same figures of at least one law"):
        plots_laws.laws({"a": {"rmse": (1, 1, 1)}, "b": {}})


def test_residuals_are_measured_less_predicted():
    predicted, measured = RNG.normal(size=20), RNG.normal(size=20)
    measured[3] = np.nan
    spans = np.stack([predicted - 1, predicted + 1], axis=1)
    axes = plots_laws.residuals(predicted, measured, intervals=spans)
    drawn = axes.collections[1].get_offsets()
    assert len(drawn) == 19
    np.testing.assert_allclose(sorted(drawn[:, 1]), sorted(np.delete(measured - predicted, 3)))
    with pytest.raises(InputError, match="both are"):
        plots_laws.residuals(predicted, measured[:5])
    with pytest.raises(InputError, match="fewer than two runs"):
        plots_laws.residuals(predicted, np.full(20, np.nan))


def test_a_ternary_map_has_three_domains(tmp_path):
    mixtures = RNG.dirichlet(np.ones(3), 60)
    axes = plots_laws.ternary(mixtures[:, 0], mixtures, ["web", "code", "books"], runs=mixtures[:5], best=mixtures[0])
    assert {t.get_text() for t in axes.texts} >= {"web", "code", "books"}
    plots.save(axes, tmp_path / "map.svg")
    with pytest.raises(InputError, match="of three domains"):
        plots_laws.ternary(mixtures[:, 0], mixtures, ["web", "code"])


def test_parallel_coordinates_have_a_line_for_each_run_with_a_value(tmp_path):
    mixtures, values = RNG.dirichlet(np.ones(5), 30), RNG.normal(size=30)
    values[0] = np.nan
    axes = plots_laws.parallel(mixtures, values, list("abcde"), best=dict(zip("abcde", mixtures[3], strict=True)))
    (lines,) = (c for c in axes.collections if hasattr(c, "get_segments"))
    assert len(lines.get_segments()) == 29
    plots.save(axes, tmp_path / "lines.svg")
    with pytest.raises(InputError, match=r"\[R, 5\] and \[R\] are expected"):
        plots_laws.parallel(mixtures, values[:3], list("abcde"))
