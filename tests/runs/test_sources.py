"""Tables of runs from CSV, Parquet and frames, wide and long: the same runs, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.runs import Runs, Targets
from mixopt.runs.oddities import far, spread

WIDE = "run,w/web,w/code,loss/news,score/arc,seed\na,0.6,0.4,3.1,0.5,1\nb,0,1,3.3,,2\n"
LONG_WEIGHTS = "run,domain,weight\na,web,0.6\na,code,0.4\nb,code,1\n"
LONG_METRICS = "run,seed,metric,value\na,1,news,3.1\na,1,arc,0.5\nb,2,news,3.3\n"


def equal(one: Runs, two: Runs) -> None:
    assert (one.ids, one.domains, one.targets) == (two.ids, two.domains, two.targets)
    for name in ("mixtures", "metrics", "params", "tokens", "steps", "seeds", "weights"):
        left, right = getattr(one, name), getattr(two, name)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), holes=st.booleans())
@settings(deadline=None, max_examples=20)
def test_csv_parquet_and_frame_read_back_the_same_runs(tmp_path_factory, seed, rows, holes):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(rows, 2))
    if holes:
        y[0, 0] = np.nan
    extras = {"params": 1e9 * rng.uniform(1, 9, rows), "steps": rng.integers(1, 99, rows), "seeds": np.arange(rows)}
    runs = Runs.from_arrays(["web", "code", "x y"], rng.dirichlet(np.ones(3), rows), Targets(["a", "b"], {"b": "max"}), y, **extras)
    folder = tmp_path_factory.mktemp("tables")
    runs.to_csv(folder / "runs.csv")
    runs.to_parquet(folder / "runs.parquet")
    for back in (Runs.from_csv(folder / "runs.csv"), Runs.from_csv(folder / "runs.parquet"), Runs.from_frame(runs.to_frame())):
        equal(back, runs)


def test_a_frame_whose_index_names_the_runs_joins_a_pair():
    weights = pandas.DataFrame({"web": [0.6, 0.0], "code": [0.4, 1.0]}, index=pandas.Index(["a", "b"], name="run"))
    metrics = pandas.DataFrame({"news_loss": [3.3, 3.1], "run": ["b", "a"]})
    runs = Runs.from_frame(weights, metrics)
    assert (runs.ids, runs.metrics[:, 0].tolist()) == (("a", "b"), [3.1, 3.3])


def test_long_tables_are_the_wide_one(write):
    wide = Runs.from_csv(write(WIDE, "wide.csv"))
    directions = {"news": "min", "arc": "max"}
    long = Runs.from_csv(write(LONG_WEIGHTS, "w.csv"), write(LONG_METRICS, "m.csv"), direction=directions)
    equal(long, wide)
    assert np.isnan(long.metrics[1, 1])


@pytest.mark.parametrize(
    ("weights", "metrics", "message"),
    [
        (LONG_WEIGHTS + "b,code,1\n", LONG_METRICS, r"w\.csv, row 4: run 'b' has domain 'code' twice"),
        (LONG_WEIGHTS, LONG_METRICS + "a,7,maths,1\n", r"m\.csv, row 4: run 'a' has another \(seed\) than in its rows before"),
        (LONG_WEIGHTS.replace("0.6", "much"), LONG_METRICS, r"w\.csv, row 1, column 'web': 'much' is not a number"),
        ("run,domain,weight\n", LONG_METRICS, "has 1 lines"),
    ],
)
def test_long_tables_that_contradict_themselves_are_refused(write, weights, metrics, message):
    with pytest.raises(InputError, match=message):
        Runs.from_csv(write(weights, "w.csv"), write(metrics, "m.csv"), direction="min")


def test_what_is_no_table_is_refused(write, tmp_path):
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        Runs.from_csv(write(WIDE, "half.parquet"))
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        Runs.from_csv(tmp_path / "absent.parquet")
    with pytest.raises(InputError, match="a file or a pandas frame, and this is a dict"):
        Runs.from_csv({"web": [1]})
    with pytest.raises(InputError, match="a header and no run"):
        Runs.from_frame(pandas.DataFrame({"w/web": [], "loss/a": []}))


def test_runs_of_one_mixture_are_told_with_their_spread():
    w = np.array([[0.5, 0.5], [0.2, 0.8], [0.5, 0.5], [0.2, 0.8], [0.2, 0.8]])
    y = np.array([[1.0], [2.0], [3.0], [2.5], [np.nan]])
    runs = Runs.from_arrays(["web", "code"], w, ["a"], y)
    assert runs.replicates() == ((0, 2), (1, 3, 4))
    assert spread(runs)[0] == pytest.approx(np.sqrt((2.0 + 0.125) / 2))
    assert "5 runs share 2 mixtures, such as (0, 2); between them metrics differ by (a 1)" in runs.describe()
    apart = Runs.from_arrays(["web", "code"], w, ["a"], y, params=np.arange(1, 6))
    assert apart.replicates() == ()
    assert np.isnan(spread(apart)).all()


def test_a_metric_far_from_the_rest_is_told():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 2))
    y[7, 1] = 40
    runs = Runs.from_arrays(["web", "code"], rng.dirichlet([1, 1], 40), ["a", "b"], y)
    assert [entry[:2] for entry in far(runs)] == [(7, 1)]
    assert "1 metric is far from the target's median, perhaps of a run that went wrong: (7 b 40); a Huber loss" in runs.describe()
