"""One table with weights and metrics whose columns have no prefixes."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx

HEAD = "run,seed,web,code,web_loss,arc_acc"


def written(path, head, *rows):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_the_first_columns_that_sum_to_one_are_the_weights(tmp_path):
    found = mx.Runs.from_csv(written(tmp_path / "runs.csv", HEAD, "a,1,0.25,0.75,2.5,0.3", "b,2,1,0,2.6,"))
    assert found.domains.names == ("web", "code")
    np.testing.assert_array_equal(found.mixtures, [[0.25, 0.75], [1, 0]])
    assert dict(zip(found.targets.names, found.targets.directions, strict=True)) == {"web_loss": "min", "arc_acc": "max"}
    assert found.seeds.tolist() == [1, 2]
    assert np.isnan(found.metrics[1, 1])
    assert found.notes[0] == "the columns (web, code) sum to 1 and are the weights, those after them the metrics"
    assert found.subset([0, 1]).domains == found.domains


def test_what_to_csv_wrote_is_read_by_its_prefixes_and_without_the_note(tmp_path):
    mx.Runs.from_arrays(["web", "code"], [[0.5, 0.5], [0.2, 0.8]], ["loss"], [[2.0], [2.1]]).to_csv(tmp_path / "ours.csv")
    assert mx.Runs.from_csv(tmp_path / "ours.csv").notes == ()


def test_directions_that_are_not_certain_are_asked_for(tmp_path):
    path = written(tmp_path / "runs.csv", "run,web,code,gsm8k", "a,0.25,0.75,0.2", "b,0.5,0.5,0.3")
    with pytest.raises(mx.InputError, match="gsm8k=min or gsm8k=max"):
        mx.Runs.from_csv(path)
    assert mx.Runs.from_csv(path, direction="max").targets.directions == ("max",)


@pytest.mark.parametrize(
    "rows",
    [
        ("a,1,0.25,0.7,2.5,0.3", "b,2,0.5,0.5,2.6,0.2"),  # a row that sums to 0.95
        ("a,1,25,75,2.5,0.3", "b,2,50,50,2.6,0.2"),  # percentages
        ("a,1,0.25,0.75,0,0.3", "b,2,0.5,0.5,0,0.2"),  # a third domain with weight 0, or a metric of 0
    ],
)
def test_what_is_not_certain_is_not_guessed(tmp_path, rows):
    with pytest.raises(mx.InputError, match="or the weights come first and sum to 1 in every row"):
        mx.Runs.from_csv(written(tmp_path / "runs.csv", HEAD, *rows))
