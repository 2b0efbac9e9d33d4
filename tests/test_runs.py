"""Tables of runs: reading the published pairs, what is refused, and the file that reads back equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.runs import Runs, Targets

REGMIX = Path(__file__).parents[1] / "../shared/data/regmix"
RATIOS = "run,name,index,web,code\na,first,0,0.6,0.4\nb,second,1,0.2,0.8\nc,third,2,0.5,0.5\n"
METRICS = "run,name,index,arc_bpb,loss\nc,third,0,1.3,3.3\na,first,1,1.1,3.1\nb,second,2,1.2,3.2\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def pair(write):
    return lambda ratios=RATIOS, metrics=METRICS, **settings: Runs.from_csv(write(ratios, "r.csv"), write(metrics, "m.csv"), **settings)


def small(rows: int = 3, **extras) -> Runs:
    w = np.random.default_rng(0).dirichlet([1, 1], rows)
    return Runs.from_arrays(["web", "code"], w, ["a", "b"], np.arange(2.0 * rows).reshape(rows, 2), **extras)


@pytest.mark.skipif(not REGMIX.exists(), reason="needs ../shared/data/regmix beside the project")
def test_reads_the_regmix_pair_as_published():
    runs = Runs.from_csv(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")
    assert runs.mixtures.shape == (512, 17)
    assert runs.metrics.shape == (512, 13)
    assert np.abs(runs.mixtures.sum(1) - 1).max() < 1e-15 * 17
    assert (runs.mixtures == 0).mean() == pytest.approx(0.45, abs=0.01)
    assert runs.name_map["train_the_pile_arxiv"] == runs.name_map["metric/the_pile_arxiv_val_loss"] == "the_pile_arxiv"
    assert set(runs.targets.names) < set(runs.domains.names)
    first = runs.mixtures[runs.ids.index("1"), runs.domains.index("the_pile_pile_cc")]
    assert first == pytest.approx(0.787, abs=1e-12)
    assert runs.metrics[runs.ids.index("2"), runs.targets.index("the_pile_arxiv")] == 4.738541603088379
    text = runs.describe()
    assert "512 runs, 17 domains, 13 targets; 45%" in text
    assert "0.996 to 1.003" in text
    assert "column metric/the_pile_github_val_loss -> the_pile_github" in text


def test_the_olmix_pair_is_joined_on_run_not_on_position_or_index(pair):
    runs = pair()
    assert runs.ids == ("a", "b", "c")
    assert runs.domains.names == ("web", "code")
    np.testing.assert_array_equal(runs.metrics, [[1.1, 3.1], [1.2, 3.2], [1.3, 3.3]])
    assert runs.targets.units == ("bits per byte", "nats per token")
    assert runs.notes == ()


@pytest.mark.parametrize("key", ["run", "run_id", "id", "index", "", "Unnamed: 0"])
def test_each_known_key_joins(pair, key):
    runs = pair(
        RATIOS.replace("run,name,index", f"{key},name,note0").replace(",note0", ",seed"),
        METRICS.replace("run,name,index", f"{key},name,seed"),
    )
    np.testing.assert_array_equal(runs.metrics[:, 0], [1.1, 1.2, 1.3])
    np.testing.assert_array_equal(runs.seeds, [0, 1, 2])


def test_a_key_can_be_named(pair):
    runs = pair(on="index")
    np.testing.assert_array_equal(runs.metrics[:, 0], [1.3, 1.1, 1.2])
    with pytest.raises(InputError, match=r"'indx'.*did you mean 'index'"):
        pair(on="indx")


def test_runs_in_one_file_only_are_left_out_with_a_note(pair):
    runs = pair(metrics=METRICS.replace("b,second", "z,other"))
    assert runs.ids == ("a", "c")
    assert len(runs.notes) == 2
    assert "1 of 3 runs" in runs.notes[0]
    assert "(b)" in runs.notes[0]
    assert "(z)" in runs.notes[1]


def test_an_affix_that_not_all_columns_have_stays(pair):
    runs = pair(
        RATIOS.replace("web,code", "train_web,code"), METRICS.replace("arc_bpb,loss", "metric/a_val_loss,metric/b"), direction="min"
    )
    assert runs.domains.names == ("train_web", "code")
    assert runs.targets.names == ("a_val_loss", "b")


def test_a_missing_metric_is_nan_and_noted(pair):
    runs = pair(metrics=METRICS.replace("1.1,3.1", "1.1,"))
    assert np.isnan(runs.metrics[0, 1])
    assert "1 metric value is missing, of (loss)" in runs.notes[0]


@pytest.mark.parametrize(
    ("ratios", "metrics", "message"),
    [
        (RATIOS.replace("0.6,0.4", "0.6,0.5"), METRICS, r"run 'a' sum to 1\.1"),
        (RATIOS.replace("0.2,0.8", "-0.2,1.2"), METRICS, r"run 'b', column 'web': the weight is -0\.2"),
        (RATIOS.replace("0.2,0.8", "0.2,nan"), METRICS, r"run 'b', column 'code': the weight is nan"),
        (RATIOS.replace("0.2,0.8", "0.2,"), METRICS, r"r\.csv, row 2, column 'code': '' is not a number"),
        (RATIOS, METRICS.replace("3.2", "inf"), r"run 'b', column 'loss': the metric is inf"),
        (RATIOS, METRICS.replace("3.2", "n.a."), r"m\.csv, row 3, column 'loss': 'n\.a\.' is not a number"),
        (RATIOS.replace("b,second", "a,second"), METRICS, r"column 'run' of .*r\.csv names a run more than once: \(a\)"),
        (
            RATIOS,
            METRICS.replace("a,f", "x,f").replace("b,s", "y,s").replace("c,t", "z,t"),
            r"no run of .*r\.csv is in .*m\.csv by column 'run'",
        ),
        (RATIOS.replace("run,name,index", "x,name,y"), METRICS, r"no column in common that names the runs.*on="),
        (RATIOS.replace("0.6,0.4", "0.6"), METRICS, r"row 1: 4 cells, but the header has 5"),
        (RATIOS.replace("web,code", "web,web"), METRICS, r"more than one column \('web'\)"),
        (RATIOS.splitlines()[0], METRICS, r"r\.csv has 1 lines"),
        (RATIOS, "run,name\na,b\n", r"m\.csv has only the columns \(run, name\)"),
    ],
)
def test_bad_tables_are_refused_by_place(pair, ratios, metrics, message):
    with pytest.raises(InputError, match=message):
        pair(ratios, metrics)


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.csv"):
        Runs.from_csv(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"run,a\n\xff\xfe,1\n")
    with pytest.raises(InputError, match="no CSV text in UTF-8"):
        Runs.from_csv(tmp_path / "x.csv")


def test_one_file_of_another_kind_asks_for_the_second(write):
    with pytest.raises(InputError, match=r"no column w/<name>; .* weights are named w/<domain> .* second file"):
        Runs.from_csv(write(RATIOS))


@given(rows=st.integers(1, 6), k=st.integers(1, 5), m=st.integers(1, 3), seed=st.integers(0, 10**6), extras=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_written_table_reads_back_equal(tmp_path_factory, rows, k, m, seed, extras):
    rng = np.random.default_rng(seed)
    w = rng.dirichlet(np.ones(k), rows) * rng.uniform(0.96, 1.04, (rows, 1))
    y = rng.normal(size=(rows, m))
    y[0, 0] = np.nan
    given_extras = {"params": 1e6, "tokens": rng.uniform(1e6, 1e9, rows), "seeds": rng.integers(0, 9, rows)} if extras else {}
    given_extras |= {"steps": 500, "weights": np.arange(1.0, rows + 1)} if extras else {}
    runs = Runs.from_arrays(
        [f"d,{i}" for i in range(k)], w, [f"t {j}" for j in range(m)], y, ids=[f"r{i}" for i in range(rows)], **given_extras
    )
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    runs.to_csv(path)
    back = Runs.from_csv(path)
    assert (back.ids, back.domains, back.targets) == (runs.ids, runs.domains, runs.targets)
    for name in ("mixtures", "metrics", "params", "tokens", "steps", "seeds", "weights"):
        ours, theirs = getattr(runs, name), getattr(back, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(theirs, ours)
    assert [p.name for p in path.parent.iterdir()] == ["runs.csv"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    small().to_csv(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        small(5).to_csv(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_below_a_file_cannot_be_written_and_a_missing_folder_is_made(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match=r"runs\.csv cannot be written: .*; give another folder"):
        small().to_csv(tmp_path / "file" / "runs.csv")
    assert (tmp_path / "file").read_text() == "kept"
    small().to_csv(tmp_path / "new" / "runs.csv")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["runs.csv"]


def test_subset_takes_positions_or_a_mask():
    runs = small(4, seeds=[5, 6, 7, 8], ids="pqrs", steps=[1, 2, 3, 4], weights=[1, 0, 1, 2])
    for index in ([3, 1], np.array([False, True, False, True])):
        part = runs.subset(index)
        order = [3, 1] if isinstance(index, list) else [1, 3]
        assert part.ids == tuple("pqrs"[i] for i in order)
        np.testing.assert_array_equal(part.mixtures, runs.mixtures[order])
        np.testing.assert_array_equal(part.metrics, runs.metrics[order])
        for extra in ("seeds", "steps", "weights"):
            np.testing.assert_array_equal(getattr(part, extra), getattr(runs, extra)[order])


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"tokens": [1e9, 0, 1e9]}, r"run '1': training tokens D is 0; it must be finite and > 0"),
        ({"params": float("nan")}, r"run '0': model parameters N is nan"),
        ({"steps": [1.0, 2.0]}, r"steps have shape \(2,\); give one number for all, or one for each of the 3 runs"),
        ({"weights": [1, -1, 1]}, r"run '1': the weight in a fit is -1; it must be finite and >= 0"),
        ({"weights": 0}, r"the weights of all runs are 0"),
    ],
)
def test_scales_and_weights_out_of_range(extras, message):
    with pytest.raises(InputError, match=message):
        small(3, **extras)


def test_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        small().mixtures[0, 0] = 1


@pytest.mark.parametrize(
    ("mixtures", "metrics", "message"),
    [
        ([[0.5, 0.5]], [[1.0]], r"metrics have shape \(1, 1\).*\(1, 2\)"),
        ([[0.5, 0.3, 0.2]], [[1.0, 2.0]], r"mixtures have shape \(1, 3\).*web, code"),
        ([[0.5, 0.5], [1, 0]], [[1.0, 2.0]], r"metrics have shape \(1, 2\), but 2 runs"),
        (np.empty((0, 2)), np.empty((0, 2)), r"mixtures have shape \(0, 2\), but 1 runs"),
    ],
)
def test_shapes_that_do_not_fit(mixtures, metrics, message):
    with pytest.raises(InputError, match=message):
        Runs.from_arrays(Domains(["web", "code"]), mixtures, Targets(["a", "b"]), metrics)


def test_targets_have_a_direction_and_a_unit_each():
    targets = Targets(["a", "b"], direction={"b": "max"}, unit={"a": "bits"})
    assert targets.directions == ("min", "max")
    assert targets.units == ("bits", "score")
    with pytest.raises(InputError, match=r"no target 'bb'.*did you mean"):
        targets.index("bb")
    with pytest.raises(InputError, match="'down'; it is 'min' or 'max'"):
        Targets(["a"], direction="down")
    with pytest.raises(InputError, match="no target 'c'"):
        Targets(["a"], unit={"c": "bits"})
    with pytest.raises(InputError, match=r"\(a\) occurs more than once"):
        Targets(["a", "a"])
    with pytest.raises(InputError, match="not empty"):
        Targets([""])
