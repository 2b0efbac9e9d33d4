"""What a notebook shows: escaped tables without colours of their own, and LaTeX."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import mixopt as mx
from mixopt.notebook import table
from mixopt.runs import Runs
from mixopt.solvers import Conic, Implicit, Projected

DOMAINS = mx.Domains(["web", "<i>code</i>", "a&b"], tokens=[600, 300, 100])
W = mx.Mixture(DOMAINS)
PROBLEM = mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[(W["web"] <= 0.5).named("cap <b>")])
RUNS = Runs.from_arrays(DOMAINS, np.eye(3), ["loss", "empty"], [[1.0, np.nan], [2.0, np.nan], [3.5, np.nan]])


class Cells(HTMLParser):
    """The texts of a fragment's cells, and its tags."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.rest = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data
        else:
            self.rest += data + "\n"


SHOWN = {
    "domains": DOMAINS,
    "names only": mx.Domains(["<i>x</i>"]),
    "plan": mx.plan(PROBLEM),
    "result": mx.solve(PROBLEM),
    "runs": RUNS,
    "comparison": mx.compare(PROBLEM, None, [Conic(), Projected(), Implicit()]),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_a_table_is_whole_inert_and_has_no_colours(shown):
    text = shown._repr_html_()
    assert Cells(text).tags <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert not re.search(r"colou?r|background|#[0-9a-f]{3}", re.sub(r">[^<]*<", "><", text))


def test_domains_show_their_tokens_and_shares():
    assert Cells(DOMAINS._repr_html_()).rows == [
        ["domain", "tokens", "share"],
        ["web", "600", "60.0 %"],
        ["<i>code</i>", "300", "30.0 %"],
        ["a&b", "100", "10.0 %"],
    ]


def test_a_result_shows_its_weights_its_status_and_its_duals():
    result = mx.solve(PROBLEM)
    cells = Cells(result._repr_html_())
    assert cells.rows[1:] == [["web", "50.00 %"], ["<i>code</i>", "37.50 %"], ["a&b", "12.50 %"]]
    for words in (result.status.value, "dual of cap <b>: 0.4055", "check: ", "cost: ", f"value {result.value:.6g}"):
        assert words in cells.rest


def test_an_infeasible_result_has_no_weights_but_its_reason():
    cells = Cells(mx.solve(mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[W["web"] >= 2]))._repr_html_())
    assert cells.rows == [["domain", "weight"]]
    assert "INFEASIBLE" in cells.rest


def test_runs_show_what_they_have_seen():
    rows = Cells(RUNS._repr_html_()).rows
    assert rows[1] == ["web", "0.000", "0.333", "1.000"]
    assert rows[5:] == [["loss", "1", "3.5", "nats per token", "min"], ["empty", "-", "-", "nats per token", "min"]]


def test_a_plan_names_its_solver_and_every_refusal():
    plan = mx.plan(PROBLEM)
    rows = dict(row for row in Cells(plan._repr_html_()).rows if len(row) == 2)
    assert rows["solver"] == plan.choice.chosen
    assert rows["form"] == plan.choice.form
    assert {f"{name} refuses" for name in plan.choice.refusals} <= set(rows)


def test_a_comparison_shows_what_it_prints():
    compared = mx.compare(PROBLEM, None, [Conic(), Projected(), Implicit()])
    printed = [re.split(r"\s{2,}", line) for line in str(compared).splitlines()]
    cells = Cells(compared._repr_html_())
    assert [row[1:] for row in cells.rows] == [row[1:] for row in printed[:4]]
    assert cells.rows[3][2] == "refused"
    assert "Implicit refuses" in cells.rest


def test_problems_expressions_and_relations_are_latex():
    assert PROBLEM._repr_latex_().startswith("$$\n\\begin{split}\n\\min\\limits_{w \\in \\Delta}")
    assert W["web"]._repr_latex_() == r"$\displaystyle w_{\text{web}}$"
    assert (W["web"] <= 0.5)._repr_latex_() == r"$\displaystyle w_{\text{web}} \le 0.5$"


def test_a_long_table_is_cut_and_says_so():
    cells = Cells(table(["n"], ([str(i)] for i in range(100))))
    assert len(cells.rows) == 61
    assert cells.rest.strip() == "40 more rows"
