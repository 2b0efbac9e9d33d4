"""Tables of runs put together, and what replicates tell of noise."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx

ROWS = np.array([[0.5, 0.5], [0.2, 0.8]])


def table(ids, metrics, names=("a", "b"), rows=ROWS, targets=("loss",), **settings):
    return mx.Runs.from_arrays(list(names), rows, targets, metrics, ids=ids, **settings)


def test_rounds_become_one_table_by_name():
    first = table("xy", [[1.0], [2.0]], tokens=1e6, seeds=[1, 2])
    second = table("zw", [[3.0, 0.5], [4.0, 0.6]], names=("b", "a"), targets=mx.runs.Targets(["loss", "acc"], {"acc": "max"}), tokens=2e6)
    found = first.joined(second)
    assert found.ids == ("x", "y", "z", "w")
    assert np.allclose(found.mixtures[3], [0.8, 0.2])
    assert np.isnan(found.metrics[:2, 1]).all()
    assert found.metrics[3].tolist() == [4.0, 0.6]
    assert found.tokens.tolist() == [1e6, 1e6, 2e6, 2e6]
    assert found.seeds is None
    assert found.targets.directions == ("min", "max")
    assert first.joined().ids == first.ids


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: table("zw", [[1.0], [2.0]], names=("a", "c")), r"over \(a, b\) and another over \(a, c\)"),
        (lambda: table("yz", [[1.0], [2.0]]), r"some runs in common, \(y\)"),
        (
            lambda: table("zw", [[1.0], [2.0]], targets=mx.runs.Targets(["loss"], "max")),
            "'loss' is min, nats per token in one table and max",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(other, words):
    with pytest.raises(mx.InputError, match=words):
        table("xy", [[1.0], [2.0]]).joined(other())


def test_noise_and_signal_are_found_from_replicates():
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.dirichlet(np.ones(2), 400), 2, axis=0)
    clean = np.column_stack([3 * rows[:, 0], np.zeros(800)])
    runs = mx.Runs.from_arrays(["a", "b"], rows, ["clear", "lost"], clean + 0.1 * rng.standard_normal((800, 2)))
    assert np.allclose(runs.noise(), 0.1, rtol=0.1)
    clear, lost = runs.signal_to_noise()
    assert clear == pytest.approx((3 * rows[:, 0]).std() / 0.1, rel=0.1)
    assert lost < 0.5
    assert "signal to noise" in runs.describe()


def test_what_few_replicates_leave_open_is_told():
    """Of two runs s^2 has one degree of freedom: the true noise is from s / 1.96 to s / 0.0627, which normal draws confirm."""
    rng = np.random.default_rng(0)
    rows = np.vstack([[0.5, 0.5], rng.dirichlet(np.ones(2), 9)])[[0, *range(10)]]
    runs = mx.Runs.from_arrays(["a", "b"], rows, ["loss"], rng.standard_normal((11, 1)))
    assert "(standard deviation; the true one is 0.51 to 16 times that, at 90 %)" in runs.describe()
    pairs = rng.standard_normal((20_000, 2)).std(axis=1, ddof=1)
    assert np.mean((0.51 * pairs < 1) & (16 * pairs > 1)) == pytest.approx(0.9, abs=0.01)


def test_replicates_that_agree_to_the_last_digit_are_pointed_out():
    rows = np.array([[0.5, 0.5], [0.5, 0.5], [0.3, 0.7]])
    metrics = np.array([[2.0, 1.5, 3.0], [2.0 + 4e-16, 1.5, 3.1], [2.2, 1.5, 3.2]])
    runs = mx.Runs.from_arrays(["a", "b"], rows, ["seedless", "constant", "noisy"], metrics)
    assert runs.noise()[:2].tolist() == [0, 0]
    assert np.isnan(runs.signal_to_noise()[:2]).all()
    assert "(seedless) are the same to the last digit in runs of one mixture; does the trainer use the runs' seeds?" in runs.describe()


def test_without_replicates_there_is_no_noise_to_tell():
    runs = table("xy", [[1.0], [2.0]])
    assert np.isnan(runs.noise()).all()
    assert np.isnan(runs.signal_to_noise()).all()
    assert "signal" not in runs.describe()
