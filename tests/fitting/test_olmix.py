"""Olmix's fit configurations, in the format of its README and configs: read unchanged, or refused by field."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import mixopt as mx
from mixopt.errors import InputError
from mixopt.fitting import olmix
from mixopt.fitting.mmlu import AREAS, areas

DOMAINS = ("dclm:games", "dclm:health", "wikipedia", "arxiv")
METRICS = ("minerva_math_algebra::olmes", "codex_humaneval:3shot::none", "arc_challenge:rc::olmes", "lambada", "ultrachat_masked_ppl")
SLOPES = np.array([[0.2, 0.1, 0.3, -1.0], [0.4, 0.3, 0.1, -0.6], [0.3, -0.9, -0.4, 0.2], [-0.8, 0.2, 0.1, 0.5], [-0.5, -0.2, 0.4, 0.3]])
COUNTS = {"dclm:games": 230_000_000, "dclm:health": 390_000_000, "wikipedia": 10_000_000, "arxiv": 20_000_000}

README = """
swarm:
  ratios: ratios.csv                # Required
  metrics: metrics.csv

priors:
  token_counts:
    dclm:games: 230_000_000
    dclm:health: 390_000_000
    wikipedia: 10_000_000
    arxiv: 20_000_000

eval:
  type: offline                       # offline | inloop
  tasks:
    math:
      - "minerva_math_algebra::olmes"
    code:
      - "codex_humaneval:3shot::none"
    qa:
      - "arc_challenge:rc::olmes"
      - "lambada"

regression:
  type: log_linear
  seed: 0
  n_test: 0
  train_split: [1.0]
  aggregate_task_families: false

proposer:
  type: exact
  temperature: null
  kl_reg: 0.1
  use_natural_kl: false
  fit_only: false
  make_worst_mix: false

constraints:
  enabled: false
  target_tokens: null
  repetition_factor: 5.0

filtering:
  keep_sources: []
  support_domains: []
  drop_metrics: []
  fixed_weight: {}
  obj_weights: {}
"""


@pytest.fixture
def config(tmp_path):
    """Writes the two tables as Olmix publishes them and a configuration beside them; ``change`` edits its mapping."""
    rng = np.random.default_rng(0)
    w = rng.dirichlet(np.ones(4), 40)
    w[:10, 2:] = 0
    w /= w.sum(axis=1, keepdims=True)
    y = 0.6 + np.exp(w @ SLOPES.T) + 0.003 * rng.normal(size=(40, 5))
    rows = [f"run_{i:03d},swarm-{i:04d},{i}," for i in range(40)]
    table = {"ratios": (DOMAINS, w), "metrics": (METRICS, y)}
    for name, (header, values) in table.items():
        lines = [f"run,name,index,{','.join(header)}"] + [r + ",".join(map(repr, v)) for r, v in zip(rows, values.tolist(), strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")

    def write(change=lambda c: None) -> Path:
        content = yaml.safe_load(README)
        change(content)
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def edit(section: str, **fields):
    return lambda content: content.setdefault(section, {}).update(fields)


def exact(request, weights, prior, kl, caps=None) -> np.ndarray:
    """Olmix's own statement: min sum_i weight_i exp(A_i p) + kl KL(p || prior), p <= caps."""
    law = mx.laws.Exponential.fit(request.runs())
    w = mx.Mixture(law.domains)
    q = np.array([prior[d] for d in law.domains], dtype=float)
    limits = [] if caps is None else [w <= caps]
    losses = mx.exp(mx.constant(law.A) @ w)
    objective = mx.constant(np.array(weights)) @ losses + kl * mx.kl(w, q / q.sum())
    return mx.solve(mx.minimize(objective, over=w, subject_to=limits)).vector


def test_the_readmes_configuration_is_read_as_it_stands(config, tmp_path):
    config().write_text(README)
    request = olmix.read(tmp_path / "study.yaml")
    runs = request.runs()
    assert runs.targets.names == METRICS[:4]
    assert set(runs.targets.directions) == {"min"}
    assert set(runs.targets.units) == {"bits per byte"}
    assert runs.labels[0] == "swarm-0000"
    assert request.notes == ()
    found = request.recommend(runs)
    np.testing.assert_allclose(found.fitted.vector, exact(request, np.full(4, 1 / 4), COUNTS, 0.1), atol=1e-5)
    assert found.fitted.question.objective.name == "mean loss"


def test_without_weights_lambda_stands_beside_the_mean_and_with_them_beside_the_sum(config):
    request = olmix.read(config(edit("filtering", obj_weights={METRICS[0]: "7/2", METRICS[2]: 2})))
    assert any("obj_weights sum to 7.5" in n and "0.1 is 0.0133333 beside the weighted mean" in n for n in request.notes)
    found = request.recommend()
    np.testing.assert_allclose(found.fitted.vector, exact(request, [3.5, 1, 2, 1], COUNTS, 0.1), atol=1e-4)


def test_families_are_averaged_before_the_fit_and_weighed_as_given(config):
    def change(content):
        content["regression"]["aggregate_task_families"] = True
        content["filtering"] |= {"obj_weights": {"math": "7/52.0", "code": "19/52.0", "qa": "26/52.0"}, "drop_metrics": ["lambada"]}

    request = olmix.read(config(change))
    assert request.kl == pytest.approx(0.1)
    assert any("(lambada) of drop_metrics are left out of the families' means; Olmix keeps them" in n for n in request.notes)
    found = request.recommend()
    assert found.law.targets.names == ("math", "code", "qa")
    np.testing.assert_allclose(found.fitted.question.objective.target_weights, np.array([7, 19, 26]) / 52)
    np.testing.assert_allclose(found.runs.metrics[:, 2], request.runs().metrics[:, 2])


def test_caps_and_the_prior_of_the_swarm(config):
    sizes = {"dclm:games": 0.1, "dclm:health": 0.3, "wikipedia": 0.4, "arxiv": 0.2}

    def change(content):
        content["priors"] |= {"relative_sizes": sizes, "total_tokens": None}
        content["constraints"] = {"enabled": True, "target_tokens": 500_000_000, "repetition_factor": 4.0}
        del content["eval"]
        content["filtering"] = {"drop_metrics": ["ultrachat_masked_ppl", "wildchat_masked_ppl"], "obj_weights": {}}

    path = config(change)
    request = olmix.read(path)
    assert (request.budget, request.cap) == (5e8, 4)
    assert any("KL is taken to priors.relative_sizes" in n for n in request.notes)
    assert any("drop_metrics names (wildchat_masked_ppl), which the metrics do not have" in n for n in request.notes)
    found = request.recommend()
    assert found.runs.targets.names == METRICS[:4]
    caps = 4 * np.array(list(COUNTS.values())) / 5e8
    np.testing.assert_allclose(found.fitted.vector, exact(request, np.full(4, 1 / 4), sizes, 0.1, caps), atol=1e-5)
    natural = olmix.read(config(lambda c: (change(c), c["proposer"].update(use_natural_kl=True))))
    assert natural.prior == COUNTS


def test_inloop_tasks_name_the_columns(config, tmp_path):
    path = config(edit("eval", type="inloop", tasks={"math": {"minerva": METRICS[0]}, "code": {"humaneval": METRICS[1]}}))
    assert olmix.read(path).runs().targets.names == METRICS[:2]


@pytest.mark.parametrize("field", ["support_domains", "keep_sources"])
def test_only_runs_on_some_domains_are_kept(config, field):
    request = olmix.read(config(edit("filtering", **{field: ["dclm:games", "dclm:health"]})))
    runs = request.runs()
    assert len(runs) == 10
    assert runs.domains.names == DOMAINS[:2]
    assert "30 of 40 runs are not on (dclm:games, dclm:health) alone" in runs.notes[-1]
    assert set(request.tokens) == set(DOMAINS[:2])
    found = request.recommend(runs)
    assert set(found.weights) == set(DOMAINS[:2])


def test_fixed_weights_are_kept_and_the_difference_told(config):
    request = olmix.read(config(edit("filtering", fixed_weight={"arxiv": "1/10"})))
    assert any("kept at fixed_weight" in n and "Olmix takes them out" in n for n in request.notes)
    assert request.recommend().weights["arxiv"] == pytest.approx(0.1, abs=1e-8)


def test_paths_go_by_the_configuration_then_by_the_working_directory(config, tmp_path, monkeypatch):
    path = config(lambda c: None)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = elsewhere / "study.yaml"
    moved.write_text(path.read_text())
    with pytest.raises(InputError, match="cannot read"):
        olmix.read(moved)
    monkeypatch.chdir(tmp_path)
    assert len(olmix.read(moved).runs()) == 40
    monkeypatch.chdir(elsewhere)
    assert olmix.read(path).mixtures == str(tmp_path / "ratios.csv")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (edit("regression", train_split=256), "train_split 256: all runs are fitted here"),
        (edit("regression", train_split=[0.8]), r"train_split 0\.8"),
        (edit("regression", n_test=30), "n_test 30: no runs are held out for good"),
        (
            edit("regression", simulation_samples=100_000, opt_avg_metric=True),
            r"regression \(simulation_samples, opt_avg_metric\) has no meaning",
        ),
        (edit("proposer", fit_only=True), "fit_only: Olmix would stop after the fit"),
        (edit("proposer", type="simulation", temperature=0.5), "temperature 0.5 shapes Olmix's draws"),
        (edit("proposer", type="simulation"), "Olmix would take the best of drawn mixtures, without a KL term"),
        (edit("proposer", kl_reg=None), "kl_reg is not given, where Olmix stops"),
        (lambda c: c.update(constraints={"enabled": True, "target_tokens": 650_000_000}), "repetition_factor is not given; it is 5 epochs"),
        (
            lambda c: (c["regression"].update(aggregate_task_families=True), c["eval"]["tasks"]["qa"].append("piqa:rc::olmes")),
            r"\(piqa:rc::olmes\) of eval.tasks are no columns .*averaged without them, as in Olmix",
        ),
    ],
)
def test_what_is_not_done_as_olmix_does_is_noted(config, change, note):
    notes = olmix.read(config(change)).notes
    assert any(re.search(note, n) for n in notes), notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("regression", type="lightgbm"), "regression.type lightgbm is not fitted here; write log_linear"),
        (edit("regression", type="loglinear"), "regression.type is 'loglinear'; it is log_linear; did you mean 'log_linear'"),
        (edit("proposer", type="exakt"), "proposer.type is 'exakt'; it is exact; did you mean 'exact'"),
        (edit("proposer", make_worst_mix=True), "make_worst_mix asks for a bad mixture"),
        (edit("proposer", klreg=0.1), r"no field proposer.klreg in .*did you mean 'kl_reg'"),
        (edit("proposer", kl_reg="much"), "proposer.kl_reg: 'much' is not a number"),
        (edit("propose", kl_reg=1), "no section 'propose' .*did you mean 'proposer'"),
        (lambda c: c.update(swarm=None), "swarm.ratios is None; it is the path of a CSV file"),
        (lambda c: c.update(swarm="ratios.csv"), r"section 'swarm' is 'ratios.csv'; it is a mapping of \(ratios, metrics\)"),
        (lambda c: c.update(constraints={"enabled": True}), "constraints.enabled needs constraints.target_tokens"),
        (edit("constraints", enabled="yes please"), "enabled is 'yes please'; it is true or false"),
        (edit("eval", type="online"), "eval.type is 'online'; it is offline or inloop"),
        (edit("eval", tasks=["arc"]), "eval.tasks is .*; it maps each family to its tasks"),
        (edit("eval", tasks={"math": {"a": "b"}}), "for eval.type offline it is a list"),
        (edit("eval", tasks={"math": ["lambda"]}), r"eval.tasks names \(lambda\), which are no columns .*did you mean 'lambada'"),
        (edit("filtering", keep_sources=["arxiv"], support_domains=["wikipedia"]), "keep_sources .* and support_domains .* differ"),
        (edit("filtering", obj_weights=dict.fromkeys(METRICS, 0)), "obj_weights are all 0"),
        (edit("priors", token_counts=None), "priors.token_counts is None; it maps names to numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_by_field(config, change, message):
    with pytest.raises(InputError, match=message):
        olmix.read(config(change))


@pytest.mark.parametrize(("text", "message"), [("- a\n- b\n", "holds list, not a mapping"), ("a: [", "is no YAML"), ("", "holds NoneType")])
def test_a_file_that_is_no_configuration(tmp_path, text, message):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        olmix.read(tmp_path / "study.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        olmix.read(tmp_path / "none.yaml")


def test_names_that_do_not_agree_are_told_at_the_fit(config):
    with pytest.raises(InputError, match=r"no domain 'arxive'.*did you mean 'arxiv'"):
        olmix.read(config(edit("filtering", support_domains=["arxive"]))).runs()
    counts = {n.replace("wikipedia", "wiki"): v for n, v in COUNTS.items()}
    with pytest.raises(InputError, match=r"\(wiki\) of the tokens match no domain and \(wikipedia\) have no entry"):
        olmix.read(config(edit("priors", token_counts=counts))).recommend()


def test_families_may_come_from_flags_alone(config):
    request = olmix.read(config(lambda c: (c["regression"].update(aggregate_task_families=True), c.pop("eval"))))
    with pytest.raises(InputError, match=r"no families to average .*--family"):
        request.recommend()
    found = replace(request, families={"text": ["lambada", "arc_challenge:rc::olmes"]}).recommend()
    assert found.law.targets.names == (*METRICS[:2], "text", METRICS[4])


@pytest.mark.parametrize("aggregate", [False, True])
def test_the_subjects_of_mmlu_count_as_areas(config, tmp_path, aggregate):
    subjects = ("mmlu_anatomy:rc::olmes", "mmlu_virology:rc::olmes", "mmlu_astronomy:rc::olmes")
    table = tmp_path / "metrics.csv"

    def change(content):
        content["eval"]["tasks"] = {"math": [METRICS[0]], "qa": ["lambada", *subjects]}
        content["regression"]["aggregate_task_families"] = aggregate

    path = config(change)
    text = table.read_text()
    for old, new in zip((METRICS[1], METRICS[2], METRICS[4]), subjects, strict=True):
        text = text.replace(old, new)
    table.write_text(text)
    request = olmix.read(path)
    assert "the 3 mmlu_* subjects count as 2 areas, averaged by their numbers of questions, as in Olmix" in request.notes
    runs = request.runs()
    y = dict(zip(runs.targets.names, runs.metrics.T, strict=True))
    other = (135 * y[subjects[0]] + 166 * y[subjects[1]]) / 301
    found = request.recommend(runs)
    if aggregate:
        assert found.law.targets.names == ("math", "qa")
        np.testing.assert_allclose(found.runs.metrics[:, 1], (y["lambada"] + other + y[subjects[2]]) / 3)
    else:
        assert set(found.law.targets.names) == {METRICS[0], "lambada", "mmlu_other", "mmlu_stem"}
        np.testing.assert_allclose(found.runs.metrics[:, found.law.targets.index("mmlu_other")], other)
        np.testing.assert_allclose(found.fitted.question.objective.target_weights, 1 / 4)


def test_the_areas_of_mmlu_are_all_there():
    assert {area: sum(own.values()) for area, own in AREAS.items()} == {
        "mmlu_stem": 3018,
        "mmlu_other": 3242,
        "mmlu_social_sciences": 3077,
        "mmlu_humanities": 4705,
    }
    assert sum(map(len, AREAS.values())) == 57
    assert areas(["mmlu_stem_bpb", "mmlu_anatomy"]) == {}
    assert areas(["mmlu_unheard_of", "arc"]) == {}


def test_metrics_that_say_they_are_to_be_made_large_are(config, tmp_path):
    path = config(edit("eval", tasks={"qa": ["lambada_acc"]}))
    table = tmp_path / "metrics.csv"
    table.write_text(table.read_text().replace("lambada", "lambada_acc"))
    request = olmix.read(path)
    assert request.runs().targets.directions == ("max",)
    assert any("(lambada_acc) are made large" in n for n in request.notes)
