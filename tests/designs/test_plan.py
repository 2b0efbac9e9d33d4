"""A design as a value: its tables in every layout, its runs once measured, its words and its picture."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.designs.plan import LAYOUTS

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e11, 3e11, 1e11])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_comes_back_and_pairs_with_metrics(layout, tmp_path):
    found = mx.design(DOMAINS, runs=14)
    found.to_csv(tmp_path / "a.csv", layout)
    again = mx.Design.from_csv(tmp_path / "a.csv", DOMAINS)
    assert (again.mixtures == found.mixtures).all()
    assert again.ids == found.ids
    assert again.domains.tokens == DOMAINS.tokens
    assert layout != "mixopt" or (again.seeds.tolist(), again.origins) == (found.seeds.tolist(), found.origins)
    key = "index" if layout == "regmix" else "run"
    (tmp_path / "b.csv").write_text(f"{key},val_loss\n" + "".join(f"{i},{2 + r / 10}\n" for r, i in enumerate(found.ids)))
    runs = mx.Runs.from_csv(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (runs.mixtures == found.mixtures).all()
    assert runs.ids == found.ids


def test_tables_of_others_are_read_and_checked(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("run,web,code\na,0.5,0.5\nb,0.2,0.8\n")
    assert mx.Design.from_csv(path).domains.names == ("web", "code")
    with pytest.raises(mx.InputError, match=r"has the domains \(web, code\), and the design is over"):
        mx.Design.from_csv(path, DOMAINS)
    path.write_text("run,web,code\na,0.5,0.5\nb,0.2,0.5\n")
    with pytest.raises(mx.InputError, match=r"the weights of run 'b' sum to 0\.7"):
        mx.Design.from_csv(path)
    with pytest.raises(mx.InputError, match=r"no layout 'olmx'.*did you mean 'olmix'"):
        mx.design(DOMAINS).to_csv(path, "olmx")


def test_measured_runs_have_the_seeds_and_scales_of_the_design():
    found = mx.design(DOMAINS, runs=14)
    runs = found.measured(["val"], np.arange(14.0)[:, None], params=1e7, tokens=2e8)
    assert (runs.seeds == found.seeds).all()
    assert runs.labels == found.origins
    assert runs.replicates() == found.replicates() == ((0, 1, 2),)
    assert set(runs.params) == {1e7}


def test_words_and_picture_say_what_is_covered():
    found = mx.design(DOMAINS, runs=14)
    assert "14 runs over 3 domains, dirichlet, seed 0: 12 mixtures, 3 runs repeat 1 mixture" in str(found)
    assert "tell 3 of 3 domains apart" in str(found)
    assert "domain code " in found.describe()
    assert "least weight" in found._repr_html_()
    axes = found.picture()
    assert sum(map(len, (c.get_offsets() for c in axes.collections))) == 14 * 3
    assert axes.get_legend_handles_labels()[1] == ["a run", "the mean"]


def test_a_design_cannot_be_written_to():
    found = mx.design(DOMAINS, runs=14)
    with pytest.raises(ValueError, match="read-only"):
        found.mixtures[0, 0] = 1
    assert list(found.weights["run000"]) == list(DOMAINS)
