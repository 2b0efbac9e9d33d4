"""Mixtures of data experts from shards: the same optimum as in memory, flat memory, features, calibration, and bad shards."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.problems import expert_features, mde, mixmin, mixmin_streamed
from mixopt.report.ranks import spearman
from mixopt.runs import Likelihoods

pytest.importorskip("cvxpy")

NAMES = ["web", "code", "books"]
W = mx.Mixture(NAMES)


def logs_of(count, seed=0, centre=(0.5, 0.3, 0.2)):
    """Log-likelihoods of examples that come from the experts in these shares."""
    rng = np.random.default_rng(seed)
    owner = rng.choice(3, size=count, p=centre)
    return np.where(owner[:, None] == np.arange(3), -1.0, -3.0) + rng.normal(size=(count, 3))


def written(folder, logs, kind, lengths=None, parts=3):
    """Shards of one kind in a folder."""
    folder.mkdir(exist_ok=True)
    lengths = None if lengths is None else np.array_split(lengths, parts)
    for i, rows in enumerate(np.array_split(logs, parts)):
        own = None if lengths is None else lengths[i]
        path = folder / f"{i:02d}.{kind}"
        if kind == "npy":
            np.save(path, rows if own is None else np.c_[rows, own])
            continue
        columns = dict(zip(NAMES, rows.T.tolist(), strict=True)) | ({} if own is None else {"length": own.tolist()})
        if kind == "jsonl":
            path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in zip(*columns.values(), strict=True)))
        else:
            pyarrow = pytest.importorskip("pyarrow")
            import pyarrow.parquet as parquet

            parquet.write_table(pyarrow.table(columns), path)
    return Likelihoods.from_files(NAMES, folder)


@pytest.mark.parametrize("kind", ["npy", "parquet", "jsonl"])
def test_shards_are_read_block_by_block(tmp_path, kind):
    logs, lengths = logs_of(50), np.arange(1, 51)
    shards = written(tmp_path / "s", logs, kind, lengths)
    blocks = list(shards.blocks(7))
    assert max(len(rows) for rows, _ in blocks) <= 7
    np.testing.assert_allclose(np.vstack([rows for rows, _ in blocks]), logs, rtol=1e-15)
    np.testing.assert_allclose(np.concatenate([own for _, own in blocks]), lengths)
    assert np.concatenate([own for _, own in written(tmp_path / "t", logs, kind).blocks()]).tolist() == [1.0] * 50


@pytest.mark.parametrize("lengths", [None, np.random.default_rng(1).integers(5, 400, 600)], ids=["tokens", "documents"])
def test_the_optimum_is_that_of_the_program_in_memory(tmp_path, lengths):
    logs = logs_of(600) * (1 if lengths is None else lengths[:, None] / 10)
    shards = written(tmp_path / "s", logs, "npy", lengths)
    sure = mx.solve(mixmin(mx.Domains(NAMES), logs, lengths=lengths))
    found = mixmin_streamed(shards)
    assert found.value == pytest.approx(sure.value, abs=1e-6 * (1 + abs(sure.value)))
    np.testing.assert_allclose(list(found.weights.values()), sure.vector, atol=1e-4)
    assert found.gap <= 1e-6 * (1 + abs(found.value))
    assert found.passes <= 40


def test_constraints_hold_and_bind(tmp_path):
    logs = logs_of(400)
    shards = written(tmp_path / "s", logs, "npy")
    limits = [(W["web"] <= 0.25).named("cap"), (W["web"] + W["code"] >= 0.5).named("group")]
    sure = mx.solve(mixmin(mx.Domains(NAMES), logs, subject_to=limits))
    found = mixmin_streamed(shards, subject_to=limits)
    np.testing.assert_allclose(list(found.weights.values()), sure.vector, atol=1e-5)
    assert found.gap <= 1e-6
    with pytest.raises(mx.InputError, match=r"upper bounds sum to 0\.6"):
        mixmin_streamed(shards, subject_to=[W <= 0.2])
    with pytest.raises(mx.InputError, match="are linear"):
        mixmin_streamed(shards, subject_to=[mx.sum_squares(W) <= 0.5])


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000), st.floats(0.5, 30.0))
def test_the_gap_bounds_what_is_lost(tmp_path_factory, seed, scale):
    """Sharp likelihoods, as of whole documents, with optima at corners too."""
    logs = scale * logs_of(60, seed, centre=(0.9, 0.08, 0.02))
    found = mixmin_streamed(written(tmp_path_factory.mktemp("s"), logs, "npy"))
    sure = mx.solve(mixmin(mx.Domains(NAMES), logs))
    assert found.value - found.gap <= sure.value + 1e-7 * (1 + abs(sure.value))
    assert found.value <= sure.value + 1e-5 * (1 + abs(sure.value))


def test_memory_does_not_grow_with_the_examples(tmp_path, monkeypatch):
    monkeypatch.setattr("mixopt.runs.likelihoods.Likelihoods.blocks.__defaults__", (2000,))
    peaks = []
    for count in (8_000, 64_000):
        shards = written(tmp_path / str(count), logs_of(count), "npy", parts=2)
        tracemalloc.start()
        mixmin_streamed(shards, tolerance=1e-3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 100_000, peaks


def test_features_are_the_logarithm_of_the_mean(tmp_path):
    """The survey's T05: -log sum_i w_i p_i and not -sum_i w_i log p_i."""
    logs = logs_of(90)
    sets = {"a": written(tmp_path / "a", logs[:50], "npy"), "b": written(tmp_path / "b", logs[50:], "jsonl")}
    mixtures = np.random.default_rng(2).dirichlet(np.ones(3), 4)
    by_hand = -np.log(np.exp(logs) @ mixtures.T)
    np.testing.assert_allclose(expert_features(sets, mixtures), np.c_[by_hand[:50].mean(0), by_hand[50:].mean(0)], rtol=1e-12)


def test_mde_without_runs_is_mixmin_over_the_sets(tmp_path):
    first, second = logs_of(200), logs_of(100, 1, (0.1, 0.1, 0.8))
    sets = {"a": written(tmp_path / "a", first, "npy"), "b": written(tmp_path / "b", second, "npy")}
    probabilities, counts = np.exp(np.vstack([first, second])), np.r_[np.full(200, 0.7 / 200), np.full(100, 0.3 / 100)]
    goal = -(mx.constant(counts) @ mx.log(mx.constant(probabilities) @ W))
    sure = mx.solve(mx.minimize(goal, over=W))
    found = mde(sets, weights={"a": 0.7, "b": 0.3})
    assert found.value == pytest.approx(sure.value, abs=1e-7)
    assert 0.7 * found.features["a"] + 0.3 * found.features["b"] == pytest.approx(found.value, abs=1e-9)
    assert found.A is None


def test_mde_calibrated_on_runs_recovers_a_law_and_its_optimum(tmp_path):
    sets = {"a": written(tmp_path / "a", logs_of(200), "npy"), "b": written(tmp_path / "b", logs_of(100, 1, (0.1, 0.1, 0.8)), "npy")}
    mixtures = np.random.default_rng(3).dirichlet(np.ones(3), 40)
    A, B = np.array([[0.8, 0.1], [0.0, 1.2]]), np.array([[0.5, 0.2, 0.0], [0.1, 0.4, 0.3]])
    y = expert_features(sets, mixtures) @ A.T + mixtures @ B.T
    runs = mx.Runs.from_arrays(NAMES[::-1], mixtures[:, ::-1], ["a", "b"], y)
    found = mde(sets, runs, ridge=0)
    np.testing.assert_allclose(found.A, A, atol=1e-4)
    np.testing.assert_allclose(found.B, B, atol=1e-4)
    assert (found.rmse < 1e-6).all()
    grid = np.array([(i, j, 40 - i - j) for i in range(41) for j in range(41 - i)]) / 40
    values = (expert_features(sets, grid) @ A.T + grid @ B.T).mean(axis=1)
    assert values.min() - 1e-3 <= found.value <= values.min() + 1e-6
    noisy = mx.Runs.from_arrays(NAMES, mixtures, ["a", "b"], y + 0.01 * np.random.default_rng(4).normal(size=y.shape))
    rough = mde(sets, noisy)
    ranked = expert_features(sets, grid) @ rough.A.T + grid @ rough.B.T
    assert spearman(ranked.mean(axis=1), values) > 0.98


def test_what_does_not_fit_is_told(tmp_path):
    logs = logs_of(20)
    shards = written(tmp_path / "s", logs, "npy")
    (tmp_path / "empty").mkdir()
    for make, text in (
        (lambda: Likelihoods.from_files(NAMES, tmp_path / "empty"), "has no shards"),
        (lambda: Likelihoods.from_files(NAMES, tmp_path / "none.npy"), "there is no file"),
        (lambda: Likelihoods.from_files(NAMES, [tmp_path / "s.pkl"]), "is no shard"),
        (lambda: mde({}), "one validation set or more"),
        (lambda: mde({"a": shards}, weights=[-1]), "weights are >= 0"),
        (lambda: mde({"a": shards}, weights={"b": 1.0}), "one for each validation set"),
        (lambda: mde({"a": shards}, mx.Runs.from_arrays(NAMES, np.eye(3), ["b"], np.ones((3, 1)))), "no target 'a'"),
    ):
        with pytest.raises(mx.InputError, match=text):
            make()
    for change, text in (
        (lambda r: r[:, :2], r"has shape \[20, 2\]"),
        (lambda r: np.where(np.arange(20)[:, None] == 7, np.nan, r), "example 7 of .* is NaN or infinite"),
        (lambda r: np.where(np.arange(20)[:, None] == 8, -np.inf, r), "example 8 of .* has probability 0 under every expert"),
        (lambda r: np.c_[r, np.zeros(20)], "example 0 of .* has a length that is no number > 0"),
    ):
        np.save(tmp_path / "bad.npy", change(logs))
        with pytest.raises(mx.InputError, match=text):
            mixmin_streamed(Likelihoods.from_files(NAMES, tmp_path / "bad.npy"))
    (tmp_path / "bad.jsonl").write_text('{"web": -1, "code": -2, "books": -1}\n{"web": -1, "code": "x", "books": 0}\n')
    with pytest.raises(mx.InputError, match=r"bad.jsonl, line 2: could not convert"):
        list(Likelihoods.from_files(NAMES, tmp_path / "bad.jsonl").blocks())
    (tmp_path / "bad.jsonl").write_text('{"web": -1, "code": -2}\n')
    with pytest.raises(mx.InputError, match="no log-likelihoods under the expert of 'books'"):
        list(Likelihoods.from_files(NAMES, tmp_path / "bad.jsonl").blocks())
