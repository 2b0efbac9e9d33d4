"""The three files of a report: the record's own numbers in sections that exist, inert texts, tables that parse."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mixopt.errors import InputError
from mixopt.report import page
from mixopt.report.blocks import count, decimals, passes, percent, times
from mixopt.report.mathml import mathml
from mixopt.report.report import Judged, Report

VOID = {"meta", "wbr", "br", "hr", "img", "link", "input"}


class Read(HTMLParser):
    """A page as its tables, headings and the places where it is not well formed."""

    def __init__(self, text: str):
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.wrong: list[str] = []
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(k, v or "") for k, v in attrs]
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if {"th", "td"} & set(self.stack):
            self.tables[-1][-1][-1] += data
        if self.stack and self.stack[-1] in ("h1", "h2"):
            self.headings[-1] += data


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, each a list of rows; a ragged one or one without its rule is an error."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        before = line
    for rows in tables:
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(re.fullmatch("-+:?", cell) for cell in rows[1])
    return tables


@pytest.fixture(scope="module")
def whole(rich) -> str:
    """The page of the report with everything."""
    return page.html(rich)


def test_a_page_is_well_formed_whole_and_needs_nothing_else(whole):
    text = whole
    read = Read(text)
    assert read.wrong == []
    assert read.stack == []
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    outside = [v for k, v in read.attributes if k in ("src", "href", "action", "srcset") and not v.startswith("#")]
    assert outside == []
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert not re.search(r"@import|url\((?!#)", text)
    ids = [v for k, v in read.attributes if k == "id"]
    assert len(ids) == len(set(ids))
    referred = {v[1:] for k, v in read.attributes if k == "href"} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert referred <= set(ids)
    assert [read.tags.count(tag) for tag in ("svg", "math", "h1", "main")] == [6, 1, 1, 1]


def test_the_recommendation_and_its_doubts_come_first(rich, whole):
    held = rich.recommendation.replace(" %", "\N{NO-BREAK SPACE}%")  # no line ends between a number and its sign
    assert held != rich.recommendation
    order = [whole.index(part) for part in (held, rich.doubts[0], "Weights</h2>", "Provenance</h2>")]
    assert order == sorted(order)
    lines = [line for line in page.markdown(rich).splitlines() if line]
    assert lines[1] == f"**{rich.recommendation}**"
    assert lines[3] == f"- {rich.doubts[0]}"


SECTIONS = {
    "Epochs": {"budget": None},
    "How sure the weights are": {"ranges": None},
    "The problem": {"formula": "", "problem": "", "certificate": ""},
    "Predictions": {"predictions": ()},
    "What binds": {"bounds": ()},
    "The law against the runs": {"fit": None, "outcome": None},
    "The laws compared": {"compared": None},
    "Course of the weights": {"trajectories": {}},
    "The measured verdict": {"verdicts": ()},
    "Cost": {"cost": ()},
    "Notes": {"notes": ()},
    "Provenance": {"provenance": None},
    "Doubts": {"doubts": ()},
}


@pytest.mark.parametrize("title", SECTIONS)
def test_what_is_not_known_is_left_out(rich, whole, title, monkeypatch):
    monkeypatch.setattr(page, "inline", lambda axes, name, words: f"<svg>{words}</svg>")
    less = replace(rich, **SECTIONS[title])
    assert f"## {title}" in page.markdown(rich)
    left = [h for h in Read(whole).headings if h != title]
    assert len(left) == len(SECTIONS) + 1
    assert Read(page.html(less)).headings == left
    assert re.findall("^## (.*)$", page.markdown(less), re.M) == left[1:]


def test_the_smallest_report_is_a_sentence_and_weights(small):
    read = Read(page.html(small))
    assert read.headings == ["Two domains", "Weights"]
    assert read.tables == [
        [
            ["domain", "law", "uniform", "×\N{NO-BREAK SPACE}uniform"],
            ["web", "75.0", "50.0", "×1.50"],
            ["<b>code</b>", "25.0", "50.0", "×0.50"],
        ]
    ]


def test_both_formats_show_the_numbers_of_the_record(rich, whole):
    tables = Read(whole.replace("\N{NO-BREAK SPACE}", " ")).tables
    same = markdown_tables(page.markdown(rich))
    bare = [[[re.sub(r"\\(.)", r"\1", c).strip("*") for c in row] for i, row in enumerate(t) if i != 1] for t in same]
    assert bare == tables
    weights, epochs, losses, _, bounds, fit = tables[:6]
    own = rich.recommended
    assert [row[0] for row in weights[1:]] == sorted(own, key=lambda d: -own[d])
    for name, shown, between, natural, *_ in weights[1:]:
        assert shown == percent(own[name])
        assert natural == percent(rich.mixtures["natural"][name])
        assert between == f"{percent(rich.ranges.low[name])} – {percent(rich.ranges.high[name])}"
    for name, size, *each in epochs[1:]:
        assert size == count(rich.tokens[name])
        for mixture, shown in zip(rich.mixtures, each, strict=True):
            often = rich.epochs(mixture)[name]
            assert shown == "▲▲ " * (often > 4) + passes(often)
    assert {row[0]: row[2] for row in losses[1:4]} == {p.target: f"{p.values['recommended']:.3f}" for p in rich.predictions[:3]}
    assert float(losses[4][2]) == pytest.approx(np.mean([p.values["recommended"] for p in rich.predictions[:3]]), abs=6e-4)
    assert [row[2] for row in bounds[1:]] == [
        "Pile-CC (0.02), FreeLaw (0.02), Wikipedia_(en) (0.02), PhilPapers (0.02)",
        "does not bind",
    ]
    assert [row[2:] for row in fit[1:]][2:] == [["0.0789", "0.870", "0.750", "11.0"], ["0.0100", "–", "0.500", "–"]]


def test_repetition_below_the_cap_is_marked_too(rich):
    rich = replace(rich, ranges=None, fit=None, trajectories={})
    wide = replace(rich, cap=8.0)
    marks = {cell.count("▲") for row in markdown_tables(page.markdown(wide))[1][2:] for cell in row}
    assert marks == {0, 1, 2}
    assert "▲ more than 4 passes" in page.markdown(wide)
    assert "▲▲ above the cap of 8" in page.markdown(wide)
    assert "▲ more than" not in page.markdown(replace(rich, cap=4.0)).replace("▲▲", "")
    free = replace(rich, cap=None)
    assert "▲▲" not in page.markdown(free)


def test_json_comes_back_as_the_record_says(rich, tmp_path):
    paths = page.save(rich, tmp_path / "new" / "folder")
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["report.html", "report.json", "report.md"]
    found = page.load(paths["json"])
    assert found == page.content(rich)
    assert found["format"] == "mixopt report 1"
    assert found["mixtures"] == {name: dict(w) for name, w in rich.mixtures.items()}
    assert found["fit"]["spearman"] == [0.98, 0.951, 0.87, None]
    assert np.allclose(found["fit"]["measured"], rich.fit.measured)
    assert np.allclose(found["trajectories"]["DoGE"], rich.trajectories["DoGE"])
    assert found["epochs"]["natural"] == rich.epochs("natural")
    assert "NaN" not in paths["json"].read_text()


def test_the_same_record_makes_the_same_files(rich, tmp_path):
    less = replace(rich, fit=None)
    one, two = (page.save(less, tmp_path / name) for name in "ab")
    assert [p.read_bytes() for p in one.values()] == [p.read_bytes() for p in two.values()]


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a|b", "[x](http://e)", "**x**", "`x`", "$x$", "<img src=x onerror=y>", "&lt;"]
)
def test_texts_are_inert_in_both_formats(name):
    own = {name: 0.75, "web": 0.25}
    report = Report(
        title=name,
        recommendation=f"Take {name}.",
        mixtures={"law": own, name: own},
        doubts=(name,),
        formula=rf"\text{{{name}}}",
        problem=name,
        tokens=own,
        budget=1.0,
        trajectories={name: np.array([[0.5, 0.5]])},
        notes=(name,),
    )
    text = page.html(report)
    read = Read(text)
    assert read.wrong == []
    assert not {"script", "img", "b"} & set(read.tags)
    assert read.tables[0][1][0] == name
    for tables in (markdown_tables(page.markdown(report)),):
        assert re.sub(r"\\(.)", r"\1", tables[0][2][0]) == name
    outside = re.sub(r"```\w*\n.*?\n```", "", page.markdown(report), flags=re.S)
    assert not re.search(r"(?<!\\)<|(?<!\\)\[|(?<!\\)`|(?<!\\)\$", outside)


HOSTILE = [
    r"\text{<script>alert(1)</script>}",
    r"\href{javascript:alert(1)}{x}",
    r"\style{background:url(x)}{y}",
    r"\class{a}{b}",
    "<img src=x>",
]


@pytest.mark.parametrize("formula", HOSTILE)
def test_a_formula_brings_nothing_but_mathematics(small, formula):
    read = Read(page.html(replace(small, formula=formula)))
    assert read.wrong == []
    assert not {"script", "a", "img", "mglyph", "annotation-xml"} & set(read.tags)
    assert not {k for k, _ in read.attributes} & {"href", "onclick", "onerror"}


def test_the_bars_of_a_norm_are_a_pair_of_fences():
    """As operators of their own the closing bar is set like an index: both stretch, and the square stands on the whole."""
    found = re.sub(r"<(/?\w+)[^>]*>", r"<\1>", mathml(r"\lVert a_i \rVert^2") or "")
    assert "<msup><mrow><mo>‖</mo><msub><mi>a</mi><mi>i</mi></msub><mo>‖</mo></mrow><mn>2</mn></msup>" in found
    assert (mathml(r"\lVert a \rVert") or "").count('stretchy="true"') == 2


def test_a_formula_that_cannot_be_read_is_shown_as_it_was_typed(small):
    assert mathml(r"\frac{1}{") is None
    assert r'<pre class="formula">\frac{1}{</pre>' in page.html(replace(small, formula=r"\frac{1}{"))


def test_without_matplotlib_the_page_says_so_and_is_whole_otherwise(rich, monkeypatch):
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    text = page.html(rich)
    assert Read(text).tags.count("svg") == 0
    assert text.count("pip install &#39;mixopt[plots]&#39;") == 1


def test_a_target_that_was_hardly_measured_has_its_figures_but_no_panel(rich):
    measured = rich.fit.measured.copy()
    measured[1:, 1], measured[3, 0] = np.nan, np.inf
    less = replace(rich, fit=replace(rich.fit, measured=measured), compared=None, outcome=None, ranges=None, trajectories={})
    text = page.html(less)
    assert "measured values of 3 targets" in text
    assert '<th scope="row">StackExchange</th>' in text
    none = replace(less, fit=replace(less.fit, measured=np.full_like(measured, np.nan)))
    assert "<svg" not in page.html(none)


BAD = {
    "no mixture": ({"mixtures": {}}, "has no mixture"),
    "other domains": ({"mixtures": {"law": {"a": 1.0}, "natural": {"b": 1.0}}}, r"'natural' are \(b\), but those of 'law' are \(a\)"),
    "other tokens": ({"mixtures": {"law": {"a": 1.0}}, "tokens": {"b": 1.0}}, r"domains of the tokens are \(b\)"),
}


@pytest.mark.parametrize(("parts", "words"), BAD.values(), ids=BAD)
def test_parts_that_do_not_belong_together_are_refused_before_anything_is_written(tmp_path, parts, words):
    with pytest.raises(InputError, match=words):
        page.save(Report("t", "r", **parts), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_natural_and_uniform_stand_next_to_the_recommendation_wherever_they_were_given():
    own = {"a": 0.5, "b": 0.5}
    (weights,) = Read(page.html(Report("t", "r", dict.fromkeys(["law", "DoGE", "uniform", "natural"], own)))).tables
    assert weights[0] == ["domain", "law", "natural", "×\N{NO-BREAK SPACE}natural", "uniform", "DoGE"]


def test_measured_values_are_not_called_predictions(rich):
    text = page.markdown(replace(rich, measured=True))
    assert "## Measured, target by target" in text
    assert "## Predictions" not in text


def test_long_names_may_break_but_numbers_do_not(small):
    text = page.html(replace(small, verdicts=[Judged("t", ("mixture", "worst"), (("crawl/en_2024.parquet", "web 3.25"),))]))
    assert "crawl/<wbr>en_<wbr>2024.<wbr>parquet" in text
    assert "web 3.25" in text


def test_groups_of_hierarchical_names_are_summed():
    own = {"web/a": 0.5, "web/b": 0.25, "code": 0.25}
    _, groups = Read(page.html(Report("t", "r", {"law": own, "natural": own}))).tables
    assert groups == [["group (domains)", "law", "natural"], ["web (2)", "75.0", "75.0"], ["code (1)", "25.0", "25.0"]]


def test_numbers_are_written_with_sensible_digits():
    assert [percent(x) for x in (0, 1e-9, 0.0005, 0.1234, 1)] == ["0", "<0.1", "0.1", "12.3", "100.0"]
    assert [count(x) for x in (7, 999.4, 1500, 38.4e9, 1.25e12, 999.96e6)] == ["7", "999", "1.5k", "38.4B", "1.25T", "1B"]
    assert [passes(x) for x in (0, 0.001, 3.999, 12.34, 1234, float("inf"))] == ["0.00", "<0.01", "4.00", "12.3", "1,234", "∞"]
    assert [times(x) for x in (0.5, 12.34, 123.4, float("inf"))] == ["×0.50", "×12.3", "×123", "–"]
    assert [decimals([[3, 3 + gap]]) for gap in (0.05, 0.5, 50, 1e-9, 0)] == [3, 2, 0, 5, 3]


def test_provenance_names_versions_and_digests_of_files_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x" * 3_000_000)
    made = page.provenance(["mixopt", "fit", "--mixtures", "my file.csv"], [tmp_path / "a.csv"], seed=3)
    assert made.command == "mixopt fit --mixtures 'my file.csv'"
    assert made.files == {str(tmp_path / "a.csv"): hashlib.sha256(b"x" * 3_000_000).hexdigest()}
    assert {"mixopt", "python", "numpy", "scipy", "cvxpy"} <= set(made.versions)
    assert made.seed == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made.date)
    with pytest.raises(InputError, match=r"missing\.csv cannot be read"):
        page.provenance("x", [tmp_path / "missing.csv"])


@pytest.mark.parametrize(("text", "words"), [("{", "cannot be read"), ('{"format": "other"}', "is no report"), ("[1]", "is no report")])
def test_what_is_no_report_is_refused(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=words):
        page.load(tmp_path / "r.json")


def test_a_folder_that_cannot_be_written_is_an_error(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        page.save(small, tmp_path / "file" / "folder")
    assert json.loads(json.dumps(page.content(small)))["recommendation"] == small.recommendation
    assert [p.name for p in Path(tmp_path).iterdir()] == ["file"]
