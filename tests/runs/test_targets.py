"""Targets of a table: which direction is better and in which unit, guessed only where the name is certain."""

from __future__ import annotations

import numpy as np
import pytest

from mixopt.errors import InputError
from mixopt.runs import Runs
from mixopt.runs.targets import usual_direction, usual_unit

RATIOS = "run,name,web,code\na,first,0.6,0.4\nb,second,0.2,0.8\nc,third,0.5,0.5\n"


@pytest.fixture
def read(tmp_path):
    def reader(header: str, **settings) -> Runs:
        columns = len(header.split(","))
        rows = "".join(f"{r}," + ",".join(f"0.{i}{j + 1}" for j in range(columns)) + "\n" for i, r in enumerate("abc"))
        (tmp_path / "r.csv").write_text(RATIOS)
        (tmp_path / "m.csv").write_text(f"run,{header}\n{rows}")
        return Runs.from_csv(tmp_path / "r.csv", tmp_path / "m.csv", **settings)

    return reader


@pytest.mark.parametrize(
    ("column", "way", "unit"),
    [
        ("metric/the_pile_arxiv_val_loss", "min", "nats per token"),
        ("eval/downstream/arc_challenge (BPB v2)", "min", "bits per byte"),
        ("ultrachat_masked_ppl", "min", "perplexity"),
        ("nll", "min", "nats per token"),
        ("wikitext/bits_per_byte", "min", "bits per byte"),
        ("word-error", "min", "error rate"),
        ("hellaswag_acc_norm", "max", "accuracy"),
        ("gsm8k.exact_match", "max", "exact match"),
        ("squad f1", "max", "F1"),
        ("humaneval pass@10", "max", "pass@10"),
        ("chat_score", "max", "score"),
    ],
)
def test_words_that_are_certain(column, way, unit):
    assert usual_direction(column) == way
    assert usual_unit(column, way) == unit


@pytest.mark.parametrize("column", ["gsm8k", "accent", "passing", "match", "acc_loss", "exact", "lossless", "bits", "byte_per_bits", ""])
def test_words_that_are_not(column):
    assert usual_direction(column) is None


def test_a_metric_of_unknown_direction_stops_with_the_mend(read):
    with pytest.raises(InputError, match=r"not certain from the names of the metrics \(gsm8k\).*gsm8k=max.*--direction"):
        read("arc_acc,gsm8k")
    assert read("arc_acc,gsm8k", direction={"gsm8k": "max"}).targets.directions == ("max", "max")
    assert read("gsm8k,bbh", direction="max").targets.directions == ("max", "max")
    assert read("arc_acc,gsm8k,bbh", direction={"*": "max", "bbh": "min"}).targets.directions == ("max", "max", "min")
    assert read("a_bpb,gsm8k", drop=["gsm8k"]).targets.names == ("a_bpb",)


def test_names_of_a_direction_or_unit_go_by_column_or_name(read):
    runs = read("metric/a_val_loss,metric/b_val_loss", direction={"metric/a_val_loss": "max"}, unit={"b": "bits"})
    assert runs.targets.names == ("a", "b")
    assert runs.targets.directions == ("max", "min")
    assert runs.targets.units == ("score", "bits")
    with pytest.raises(InputError, match=r"no target 'c'.*\(a, b\)"):
        read("metric/a_val_loss,metric/b_val_loss", direction={"c": "max"})


def test_only_and_drop_choose_metrics_and_name_the_nearest(read):
    assert read("a_loss,b_loss,c_loss", only=["c_loss", "a_loss"]).targets.names == ("a_loss", "c_loss")
    assert read("a_loss,b_loss,c_loss", only=["c_loss", "a_loss"], drop=["a_loss"]).targets.names == ("c_loss",)
    with pytest.raises(InputError, match=r"no target 'c_los'.*did you mean 'c_loss'"):
        read("a_loss,b_loss,c_loss", drop=["c_los"])
    with pytest.raises(InputError, match=r"every metric of \(a_loss\) is dropped"):
        read("a_loss", drop=["a_loss"])


def test_a_table_of_both_directions_is_written_and_read_back(read, tmp_path):
    runs = read("loss_of_acc,x", direction={"loss_of_acc": "min", "x": "max"})
    assert runs.labels == ("first", "second", "third")
    runs.to_csv(tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().splitlines()[0] == "run,name,w/web,w/code,loss/loss_of_acc,score/x"
    back = Runs.from_csv(tmp_path / "all.csv")
    assert back.targets.directions == ("min", "max")
    assert back.labels == runs.labels
    np.testing.assert_array_equal(back.metrics, runs.metrics)
    assert back.subset([2, 0]).labels == ("third", "first")


def test_labels_count_as_many_as_runs():
    with pytest.raises(InputError, match="2 labels for 3 runs"):
        Runs.from_arrays(["web", "code"], np.full((3, 2), 0.5), ["loss"], np.ones((3, 1)), labels=["a", "b"])
