"""Blends: what is refused, epochs, conversion of units, and the files they are read from."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.errors import InputError
from mixopt.export import Blend, Stage, read_paths

NAMES = st.text(min_size=1, max_size=8).filter(lambda t: t.strip() and "\r" not in t and t.isprintable())
SIZES = st.floats(1, 1e13)


@st.composite
def blends(draw) -> Blend:
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))

    def simplex() -> dict[str, float]:
        values = [draw(st.floats(0.01, 1)) for _ in names]
        return {n: v / sum(values) for n, v in zip(names, values, strict=True)}

    def some(values):
        return draw(st.none() | st.fixed_dictionaries(dict.fromkeys(names, values)))

    stages = tuple(Stage(float(10 * (i + 1)), simplex()) for i in range(draw(st.integers(0, 2))))
    return Blend(
        weights=simplex(),
        tokens=some(SIZES),
        budget=draw(st.none() | st.floats(100, 1e14)),
        unit=draw(st.sampled_from(["token", "example"])),
        paths=some(st.lists(NAMES, min_size=1, max_size=2)),
        tokens_per_example=some(SIZES),
        stages=stages,
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(blends())
def test_what_is_saved_is_loaded(tmp_path, blend):
    blend.save(tmp_path / "mixture.json")
    assert Blend.load(tmp_path / "mixture.json") == blend


def test_epochs_are_the_tokens_drawn_over_the_tokens_there_are():
    blend = Blend({"web": 0.8, "code": 0.2}, tokens={"web": 8e9, "code": 5e8}, budget=1e10)
    assert blend.epochs == pytest.approx({"web": 1.0, "code": 4.0})
    staged = Blend({"web": 1.0, "code": 0.0}, tokens={"web": 1e9, "code": 1e9}, budget=4e9, stages=(Stage(3e9, {"web": 0.5, "code": 0.5}),))
    assert staged.epochs == pytest.approx({"web": 3.5, "code": 0.5})
    assert Blend({"web": 1.0}, tokens={"web": 1e9}).epochs is None
    with pytest.raises(InputError, match="'code' has weight but 0 tokens"):
        _ = Blend({"web": 0.5, "code": 0.5}, tokens={"web": 1.0, "code": 0.0}, budget=1).epochs


def test_shares_of_tokens_and_of_examples_convert_by_the_lengths():
    lengths = {"web": 500.0, "code": 2000.0}
    blend = Blend({"web": 0.5, "code": 0.5}, tokens_per_example=lengths)
    assert blend.example_shares(blend.weights) == pytest.approx({"web": 0.8, "code": 0.2})
    back = Blend({"web": 0.8, "code": 0.2}, unit="example", tokens_per_example=lengths)
    assert back.token_shares(back.weights) == pytest.approx({"web": 0.5, "code": 0.5})
    with pytest.raises(InputError, match=r"tokens per example of \(code\) are not known; give tokens_per_example"):
        Blend({"web": 0.5, "code": 0.5}, tokens_per_example={"web": 1}).example_shares({"web": 0.5, "code": 0.5})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights": {}}, "there are no weights"),
        ({"weights": {"a": 0.7}}, "the weights sum to 0.7, not 1"),
        ({"weights": {"a": 1.2, "b": -0.2}}, "the weight of 'b' is -0.2"),
        ({"weights": {"a": float("nan")}}, "the weight of 'a' is nan"),
        ({"weights": {"a": "much"}}, "the weight of 'a' is 'much'; it must be a number"),
        ({"weights": {" ": 1.0}}, "a domain has the name ' '"),
        ({"weights": {"a": 1.0}, "unit": "tokens"}, "no unit of weights 'tokens' in .*did you mean 'token'"),
        ({"weights": {"web": 1.0}, "paths": {"wab": "x"}}, "paths name 'wab', which has no weight; .*did you mean 'web'"),
        ({"weights": {"a": 1.0}, "tokens": {"a": -1}}, "tokens of 'a' is -1.0"),
        ({"weights": {"a": 1.0}, "tokens_per_example": {"a": 0}}, "tokens_per_example of 'a' is 0.0"),
        ({"weights": {"a": 1.0}, "budget": 0.0}, "the budget is 0.0"),
        ({"weights": {"a": 1.0}, "stages": (Stage(5, {"a": 1.0}), Stage(5, {"a": 1.0}))}, "each must start after the one before"),
        ({"weights": {"a": 1.0}, "stages": (Stage(5, {"b": 1.0}),)}, "a stage name 'b'"),
    ],
)
def test_a_blend_that_cannot_be_is_refused(fields, words):
    with pytest.raises(InputError, match=words):
        Blend(**fields)


def load(folder, name: str, text: str, **options) -> Blend:
    (folder / name).write_text(text, encoding="utf-8")
    return Blend.load(folder / name, **options)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"web": 0.75, "code": 0.25}'),
        ("a.yaml", "web: 0.75\ncode: 25e-2\n"),
        ("a.yml", "weights: {web: 0.75, code: 0.25}\n"),
        ("a.csv", "domain,weight\nweb,0.75\ncode,0.25\n"),
        ("b.csv", "web,0.75\n\ncode,0.25\n"),
        ("c.csv", "name,share\nweb,0.75\ncode,0.25\n"),
        ("regmix.yaml", "model_name: tinyllama\ntrain:\n  web: 0.75\n  code: 0.25\nvalid:\n  web: 1.0\n"),
        ("doremi.json", '{"train_domain_weights": {"web": 0.75, "code": 0.25}, "eval_domain_weights": {"web": 1.0}}'),
        ("report.json", '{"title": "t", "mixtures": {"recommended": {"web": 0.75, "code": 0.25}, "uniform": {"web": 0.5, "code": 0.5}}}'),
        ("prior.json", '{"what": "a prior", "prior": {"web": 0.75, "code": 0.25}}'),
        ("text.json", '{"web": "0.75", "code": "0.25"}'),
        ("olmix.yaml", "name: x\nmix:\n  web:\n    weight: 0.75\n    repetition_factor: 1.0\n  code: 0.25\n"),
        ("bom.csv", "\ufeffdomain,weight\nweb,0.75\ncode,0.25\n"),
    ],
)
def test_weights_as_others_keep_them_are_read(tmp_path, name, text):
    assert load(tmp_path, name, text).weights == {"web": 0.75, "code": 0.25}


def test_leaves_of_an_olmix_tree_are_products_down_the_tree(tmp_path):
    text = """
mix:
  dressed:
    weight: 0.999999
    science:
      weight: 0.4
      high: {weight: 0.7, repetition_factor: 1.0}
      low: {weight: 0.3, repetition_factor: 2.0}
    code: {weight: 0.6, repetition_factor: 1.0}
  arxiv: {weight: 1e-06, repetition_factor: 1.5}
"""
    weights = load(tmp_path, "mix.yaml", text).weights
    assert weights == pytest.approx(
        {"dressed:science:high": 0.28, "dressed:science:low": 0.12, "dressed:code": 0.6, "arxiv": 1e-6}, rel=1e-5
    )
    assert sum(weights.values()) == pytest.approx(1, abs=1e-6)


def test_a_table_may_hold_tokens_lengths_and_paths(tmp_path):
    blend = load(tmp_path, "m.csv", "domain,weight,tokens,tokens_per_example,path\nweb,0.6,1e9,500,/d/web\ncode,0.4,2e8,900,/d/code\n")
    assert blend.tokens == {"web": 1e9, "code": 2e8}
    assert blend.tokens_per_example == {"web": 500.0, "code": 900.0}
    assert blend.paths == {"web": ("/d/web",), "code": ("/d/code",)}


def test_sums_that_rounding_leaves_are_mended_and_others_are_not(tmp_path):
    assert sum(load(tmp_path, "a.json", '{"a": 0.333, "b": 0.333, "c": 0.333}').weights.values()) == pytest.approx(1, abs=1e-12)
    with pytest.raises(InputError, match=r"the weights sum to 0.7, not 1; where only their ratios count, divide them"):
        load(tmp_path, "b.json", '{"a": 0.3, "b": 0.4}')
    assert load(tmp_path, "b.json", '{"a": 3, "b": 1}', normalise=True).weights == {"a": 0.75, "b": 0.25}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "web 1", r"a.txt ends in .txt; weights are read from .json, .yaml, .yml and .csv"),
        ("a.json", '{"web": 1,\n "code" 0}', r"a.json, line 2: no valid JSON"),
        ("a.yaml", "web: 1\n code: [", r"a.yaml, line 2: no valid YAML"),
        ("a.json", "[1, 2]", "holds list where a mapping"),
        ("a.json", '{"name": {"x": {}}}', r"no weights are found under \(name\)"),
        ("a.json", '{"weights": {"a": 1.0}, "unit": "byte"}', r"a.json: no unit of weights 'byte'"),
        ("a.json", '{"weights": {"a": 1.0}, "stages": [{"start": "soon", "weights": {"a": 1}}]}', "a stage's start is 'soon'"),
        ("a.json", '{"weights": {"a": 1.0}, "stages": [{"at": 5}]}', "stages must be a list of mappings"),
        ("a.json", '{"weights": {"a": 1.0}, "tokens": 3}', "tokens holds 3 where a mapping"),
        ("a.json", '{"weights": {"a": 1.0}, "budget": "1e9 tokens"}', "the budget is '1e9 tokens'"),
        ("a.yaml", "da: 0.5\nno: 0.5\n", "a name under it is read as true or false; .*put it in quotes"),
        ("a.csv", "", "is empty"),
        ("a.csv", "web,0.5\nweb,0.5\n", "row 2: the domain 'web' stands there twice"),
        ("a.csv", "domain,weight,token\nweb,1,2\n", "no column 'token' in .*did you mean 'tokens'"),
        ("a.csv", "domain,weight\nweb\n", "row 1: 1 cells where 2"),
        ("a.csv", "domain,weight\nweb,much\n", "the weight of 'web' is 'much'"),
        ("a.yaml", "mix:\n  web: {weight: none}\n", "web under mix has the weight 'none'"),
        ("a.json", '{"mixtures": {}}', "mixtures holds None"),
    ],
)
def test_files_that_hold_no_weights_are_refused_with_the_place(tmp_path, name, text, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, name, text)
    with pytest.raises(InputError, match=r"none.json cannot be read: No such file or directory$"):
        Blend.load(tmp_path / "none.json")


def test_names_that_yaml_reads_as_numbers_are_names(tmp_path):
    assert load(tmp_path, "a.yaml", "2023: 0.5\n2024: 0.5\n").weights == {"2023": 0.5, "2024": 0.5}
    assert load(tmp_path, "b.yaml", "train: {2023: 1}\n").weights == {"2023": 1.0}


def test_a_saved_result_is_read(tmp_path):
    w = mx.Mixture(mx.Domains(["web", "code"]))
    result = mx.solve(mx.minimize(mx.kl(w, [0.75, 0.25]), over=w))
    result.save(tmp_path / "result.json")
    assert Blend.load(tmp_path / "result.json").weights == pytest.approx(result.weights)


def test_paths_come_from_a_root_a_pattern_or_a_file(tmp_path):
    blend = Blend({"web": 0.5, "code": 0.5})
    assert blend.completed(root="/data/").paths == {"web": ("/data/web",), "code": ("/data/code",)}
    assert blend.completed(root="s3://b/{domain}/train", paths={"code": ["x", "y"]}).paths == {
        "web": ("s3://b/web/train",),
        "code": ("x", "y"),
    }
    (tmp_path / "paths.yaml").write_text("web: /a\ncode: [/b, /c]\n")
    assert read_paths(tmp_path / "paths.yaml") == {"web": "/a", "code": ["/b", "/c"]}
    (tmp_path / "paths.json").write_text(json.dumps({"web": 3}))
    with pytest.raises(InputError, match="the path of 'web' is 3"):
        read_paths(tmp_path / "paths.json")
