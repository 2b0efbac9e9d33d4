"""Every target: proportions kept, zeros left out and told, refusals before anything is written, stages, notes."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.export import Blend, Stage, export, targets

NAMES = [t.name for t in targets()]
WEIGHTED = [n for n in NAMES if n not in ("axolotl", "datatrove")]
BLEND = Blend(
    {"web": 0.6, "code": 0.3, "books": 0.1, "junk": 0.0},
    tokens={"web": 9e9, "code": 4e9, "books": 2e9, "junk": 1e9},
    budget=1e10,
    tokens_per_example={"web": 500.0, "code": 1000.0, "books": 4000.0, "junk": 100.0},
).completed(root="/data")
EXAMPLES = {"web": 0.6 / 500, "code": 0.3 / 1000, "books": 0.1 / 4000}


def written(target: str, folder) -> dict[str, float]:
    """The weights that a file holds, by domain, as its own text has them."""
    path = next(iter(sorted(folder.iterdir(), key=lambda p: p.suffix != ".txt")))
    text = path.read_text()
    content = yaml.safe_load(text) if path.suffix in (".yaml", ".json") else {}
    if target == "megatron":
        pairs = [line.split() for line in text.splitlines()]
        return {prefix.split("/")[-1]: float(w) for w, prefix in pairs}
    if target == "nemo":
        items = content["data"]["paths"]
        return {p.split("/")[-1]: float(w) for w, p in zip(items[::2], items[1::2], strict=True)}
    if target == "hf":
        return dict(zip(content["datasets"], content["arguments"]["probabilities"], strict=True))
    if target == "litdata":
        return {p.split("/")[-1]: w for p, w in zip(content["input_dirs"], content["arguments"]["weights"], strict=True)}
    if target == "mosaic":
        return {n: s["proportion"] for n, s in content["train_loader"]["dataset"]["streams"].items()}
    if target == "olmo-core":
        return {s["source_name"]: s["target_ratio"] for s in content["sources"]}
    if target == "torchtitan":
        return {n: float(w) for n, w in re.findall(r"dataset='(\w+)'.*weight=([\d.e-]+)", text)}
    if target == "nanotron":
        data = content["data_stages"][0]["data"]["dataset"]
        return {p.split("/")[-1]: w for p, w in zip(data["dataset_folder"], data["dataset_weights"], strict=True)}
    if target == "levanter":
        return content["data"]["train_weights"]
    if target == "llama-factory":
        return dict(zip(content["dataset"].split(","), map(float, content["interleave_probs"].split(",")), strict=True))
    if target == "data-juicer":
        return {c["path"].split("/")[-1]: c["weight"] for c in content["dataset"]["configs"]}
    return content["weights"]


@pytest.mark.parametrize("target", WEIGHTED)
def test_each_target_gets_the_proportions_in_its_own_unit(tmp_path, target):
    done = export(BLEND, target, tmp_path)
    unit = {t.name: t.unit for t in targets()}[target]
    expected = EXAMPLES if unit == "example" else {n: w for n, w in BLEND.weights.items() if w}
    found = {n: w for n, w in written(target, tmp_path).items() if w}
    assert found == pytest.approx({n: w / sum(expected.values()) for n, w in expected.items()}, rel=1e-12)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)
    assert {n: w for n, w in done.weights.items() if w} == found
    assert done.unit == unit
    assert done.epochs == pytest.approx({"web": 2 / 3, "code": 0.75, "books": 0.5, "junk": 0.0})
    assert ("converted from the shares of tokens" in done.notes) == (unit == "example")
    told = any("left out" in note and "junk" in note for note in done.notes)
    assert told == ("junk" not in written(target, tmp_path))
    assert told == (target not in ("levanter", "json", "yaml"))


@pytest.mark.parametrize("target", NAMES)
def test_what_is_written_is_told_to_people(tmp_path, target):
    blend = BLEND.completed(budget=8e9)
    done = export(blend, target, tmp_path / "new" / "mix")
    assert str(done).startswith(f"{target}: {tmp_path}/new/mix/{target}.")
    assert all(path.is_file() for path in done.files)
    assert "web" in str(done)
    assert "0.533 epochs" in str(done)
    assert f"use: {done.usage}" in str(done)
    headed = [p for p in done.files if p.suffix in (".yaml", ".py") or target in ("hf", "litdata", "datatrove")]
    for path in headed:
        assert "Made by mixopt" in path.read_text().splitlines()[0 if path.suffix != ".json" else 1]
        assert "Epochs over 8e+09 tokens: web 0.533, code 0.6" in path.read_text()
    assert bool(headed) == (target not in ("megatron", "json"))


SHARES = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=12).filter(lambda ws: sum(ws) > 0.1)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(SHARES, st.sampled_from([t for t in WEIGHTED if t != "data-juicer"]))
def test_exports_keep_proportions_among_the_domains_they_keep(tmp_path, values, target):
    blend = Blend({f"d{i}": v / sum(values) for i, v in enumerate(values)}).completed(root="/d")
    folder = tmp_path / str(abs(hash((target, *values))))
    done = export(blend, target, folder, equal_lengths=True)
    found = written(target, folder)
    assert sum(done.weights.values()) == pytest.approx(1, abs=1e-12)
    assert found == pytest.approx(dict(done.weights))
    assert found == pytest.approx({n: blend.weights[n] for n in found}, abs=1e-12)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(SHARES, st.sampled_from(["json", "yaml"]))
def test_our_own_formats_are_read_back_as_they_were(tmp_path, values, target):
    blend = Blend({f"d {i}: #": v / sum(values) for i, v in enumerate(values)}, tokens={"d 0: #": 3e9}, budget=1e9, unit="example")
    blend = blend.completed(root="/d", tokens_per_example={"d 0: #": 7.5})
    done = export(blend, target, tmp_path / f"m.{target}")
    assert Blend.load(done.files[0]) == blend


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("megatrn", {}, "no target 'megatrn' in .*did you mean 'megatron'"),
        ("megatron", {"path": "mix.yaml"}, r"megatron is written to a file that ends in .txt or .json, not in .yaml"),
        ("hf", {"path": "mix.csv"}, r"hf is written to a file that ends in .json, not in .csv"),
        ("json", {"floor": 0.3}, "the floor is 0.3; with 4 domains it lies between 0 and 0.25"),
        ("json", {"digits": 99}, "digits is 99"),
        ("megatron", {"validation": ["0.5", "x"]}, "the validation path '0.5' would be read as a weight"),
    ],
)
def test_targets_suffixes_and_options_that_cannot_be_are_refused(tmp_path, target, options, words):
    path = tmp_path / options.pop("path", "out")
    with pytest.raises(InputError, match=words):
        export(BLEND, target, path, **options)
    assert not list(tmp_path.iterdir())


BARE = Blend({"web": 0.75, "code": 0.25})


@pytest.mark.parametrize(
    ("target", "blend", "words"),
    [
        ("megatron", BARE, r"megatron needs to know where \(web, code\) lie; give paths=.*--path web=.*--root"),
        ("hf", BARE, r"tokens per example of \(web, code\) are not known; .*--equal-lengths"),
        ("axolotl", BARE.completed(root="/d"), r"Axolotl has no weights.*budget \(--budget\)"),
        ("axolotl", BARE.completed(root="/d", budget=1e9, tokens={"web": 1e9}), r"give the tokens of \(code\)"),
        ("datatrove", BARE, r"DataTrove has no weights.*budget \(--budget\)"),
        (
            "data-juicer",
            BARE.completed(root="/d", tokens_per_example={"web": 5, "code": 5}),
            r"only together with max_sample_num.*--budget",
        ),
        (
            "datatrove",
            BARE.completed(budget=1e10, tokens={"web": 1e10, "code": 1e9}),
            r"\(code\) would be \(2.5 times\); give a budget of at most 4e\+09 tokens",
        ),
        ("axolotl", BARE.completed(root="/d", budget=1e7, tokens={"web": 1e9, "code": 1e6}), r"\(web\) would be read less than 1/64 times"),
        ("llama-factory", Blend({"a,b": 1.0}, tokens_per_example={"a,b": 1}), "LLaMA-Factory splits dataset names at commas"),
    ],
)
def test_what_a_target_needs_or_would_refuse_is_said_before_anything_is_written(tmp_path, target, blend, words):
    with pytest.raises(InputError, match=words):
        export(blend, target, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_prefixes_with_spaces_break_one_form_of_megatron_and_not_the_other(tmp_path):
    blend = Blend({"my web": 1.0}).completed(root="/d")
    with pytest.raises(
        InputError, match=r"splits this file at white space, so the prefix '/d/my web' would break; write the per-split file"
    ):
        export(blend, "megatron", tmp_path / "mix.txt")
    export(blend, "megatron", tmp_path / "mix.json")
    assert json.loads((tmp_path / "mix.json").read_text())["train"] == ["1.0", "/d/my web"]


def test_more_datasets_than_megatron_takes_are_refused(tmp_path):
    blend = Blend({"web": 1.0}, paths={"web": [f"/d/{i}" for i in range(32767)]})
    with pytest.raises(InputError, match="there are 32767 datasets; Megatron takes fewer than 32767"):
        export(blend, "megatron", tmp_path / "mix.txt")
    export(Blend({"web": 1.0}, paths={"web": [f"/d/{i}" for i in range(32766)]}), "megatron", tmp_path / "mix.txt")
    assert len((tmp_path / "mix.txt").read_text().splitlines()) == 32766


def test_a_floor_lifts_every_domain_and_says_which(tmp_path):
    done = export(BLEND, "megatron", tmp_path / "mix.txt", floor=0.02)
    assert done.weights == pytest.approx({"web": 0.588, "code": 0.294, "books": 0.098, "junk": 0.02})
    assert "lifted to the floor of 0.02: junk" in done.notes


def test_digits_round_with_the_sum_kept_and_say_what_became_zero(tmp_path):
    blend = Blend({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3 - 1e-4, "d": 1e-4}).completed(root="/d")
    done = export(blend, "megatron", tmp_path / "mix.txt", digits=2)
    assert (tmp_path / "mix.txt").read_text() == "0.34 /d/a\n0.33 /d/b\n0.33 /d/c\n"
    assert "rounded to 0: d" in done.notes


def test_many_epochs_and_early_ends_are_told(tmp_path):
    blend = BLEND.completed(tokens={"books": 1e8})
    done = export(blend, "hf", tmp_path / "mix.json")
    assert any("read more than 4 times" in n and "books 10.0" in n for n in done.notes)
    assert any("'books' is used up after 10% of the run: the strategy is all_exhausted" in n for n in done.notes)
    assert json.loads((tmp_path / "mix.json").read_text())["arguments"]["stopping_strategy"] == "all_exhausted"
    assert "mix_strategy: interleave_over" in export(blend, "llama-factory", tmp_path / "mix.yaml").files[0].read_text()
    assert any("'books', after 10% of the run" in n for n in export(blend, "litdata", tmp_path / "mix.json").notes)
    assert (
        yaml.safe_load(export(blend, "olmo-core", tmp_path / "o.yaml").files[0].read_text())["sources"][2]["max_repetition_ratio"] == 10.0
    )
    unknown = export(BARE, "hf", tmp_path / "mix.json", equal_lengths=True)
    assert any("epochs are not known without the domains' tokens" in n for n in unknown.notes)
    assert any("the strategy is first_exhausted" in n for n in unknown.notes)
    assert any("equal lengths assumed" in n for n in unknown.notes)


def test_a_domain_in_several_files_is_divided_by_their_size(tmp_path):
    for name, size in (("a.bin", 300), ("b.bin", 100)):
        (tmp_path / name).write_bytes(b"0" * size)
    paths = {"web": [str(tmp_path / "a"), str(tmp_path / "b")], "code": ["/none/c", "/none/d"]}
    export(Blend({"web": 0.8, "code": 0.2}, paths=paths), "megatron", tmp_path / "mix.txt", digits=6)
    weights = [float(line.split()[0]) for line in (tmp_path / "mix.txt").read_text().splitlines()]
    assert weights == pytest.approx([0.6, 0.2, 0.1, 0.1])


STAGED = Blend(
    {"web": 0.9, "code": 0.1},
    budget=1e9,
    tokens={"web": 1e9, "code": 5e8},
    stages=(Stage(8e8, {"web": 0.0, "code": 1.0}),),
).completed(root="/d")


def test_stages_stand_in_one_file_where_the_target_takes_a_schedule(tmp_path):
    nano = yaml.safe_load(export(STAGED, "nanotron", tmp_path / "n.yaml", step_tokens=1e6).files[0].read_text())["data_stages"]
    assert [s["start_training_step"] for s in nano] == [1, 801]
    assert [s["data"]["dataset"]["dataset_folder"] for s in nano] == [["/d/web", "/d/code"], ["/d/code"]]
    lev = yaml.safe_load(export(STAGED, "levanter", tmp_path / "l.yaml", step_tokens=1e6).files[0].read_text())["data"]
    assert lev["train_weights"] == [[0, {"web": 0.9, "code": pytest.approx(0.1)}], [800, {"web": 0.0, "code": 1.0}]]
    with pytest.raises(InputError, match=r"starts its stages at training steps; give the tokens of one step, step_tokens"):
        export(STAGED, "nanotron", tmp_path / "n.yaml")
    with pytest.raises(InputError, match="a training step has 0 tokens; give a number above 0"):
        export(STAGED, "levanter", tmp_path / "n.yaml", step_tokens=0.0)
    with pytest.raises(InputError, match="two stages start at the same step"):
        export(STAGED, "nanotron", tmp_path / "n.yaml", step_tokens=1e11)


def test_only_domains_that_no_stage_keeps_are_left_out(tmp_path):
    blend = Blend({"a": 1.0, "b": 0.0, "c": 0.0}, stages=(Stage(5.0, {"b": 1.0}),)).completed(root="/d")
    done = export(blend, "nanotron", tmp_path / "n.yaml", step_tokens=1.0)
    assert [note for note in done.notes if "left out" in note] == ["left out, since nanotron is not to see a weight of 0: c"]


def test_what_is_only_tried_is_refused_and_told_but_not_written(tmp_path):
    tried = export(BLEND, "megatron", tmp_path / "mix.txt", dry=True)
    assert not list(tmp_path.iterdir())
    assert export(BLEND, "megatron", tmp_path / "mix.txt") == tried
    with pytest.raises(InputError, match="needs to know where"):
        export(BARE, "megatron", tmp_path / "mix.txt", dry=True)


def test_equal_lengths_do_not_tell_how_many_examples_there_are(tmp_path):
    blend = BARE.completed(root="/d", budget=1e6)
    with pytest.raises(InputError, match=r"give the tokens per example of \(web, code\), tokens_per_example"):
        export(blend, "data-juicer", tmp_path / "j.yaml", equal_lengths=True)
    streams = yaml.safe_load(export(blend, "mosaic", tmp_path / "m.yaml", equal_lengths=True).files[0].read_text())["train_loader"][
        "dataset"
    ]
    assert "epoch_size" not in streams


def test_stages_make_one_file_each_where_it_does_not(tmp_path):
    done = export(STAGED, "megatron", tmp_path / "mix.txt")
    assert [p.name for p in done.files] == ["mix.stage1.txt", "mix.stage2.txt"]
    assert [p.read_text() for p in done.files] == ["0.9 /d/web\n0.09999999999999998 /d/code\n", "1.0 /d/code\n"]
    assert "megatron takes one mixture at a time: one file for each stage, from 0, 8e+08 tokens on" in done.notes
    olmo = export(STAGED.completed(tokens={"code": 1e8}), "olmo-core", tmp_path / "o.yaml")
    ratios = [[s["max_repetition_ratio"] for s in yaml.safe_load(p.read_text())["sources"]] for p in olmo.files]
    assert ratios == [[1.0, 1.0], [2.0]]
    assert "# Epochs over 2e+08 tokens: web 0, code 2." in olmo.files[1].read_text()


def test_axolotl_reads_domains_as_often_as_the_run_does(tmp_path):
    blend = Blend({"web": 0.5, "code": 0.5}, tokens={"web": 2e9, "code": 4e8}, budget=2e9).completed(root="/d")
    entries = yaml.safe_load(export(blend, "axolotl", tmp_path / "a.yaml").files[0].read_text())["datasets"]
    reads = {"/d/web": 0.0, "/d/code": 0.0}
    for entry in entries:
        reads[entry["path"]] += 1 / entry.get("shards", 1)
    assert reads == pytest.approx({"/d/web": 0.5, "/d/code": 2.5})
    assert {e["shards_idx"] for e in entries if "shards" in e and e["path"] == "/d/web"} == {0}


def test_datatrove_keeps_the_share_of_documents_that_the_run_needs(tmp_path):
    blend = Blend({"web": 0.5, "code": 0.5}, tokens={"web": 2e9, "code": 1e9}, budget=1e9)
    assert json.loads(export(blend, "datatrove", tmp_path / "d.json").files[0].read_text())["rates"] == {"web": 0.25, "code": 0.5}


def test_litgpt_is_litdata_s_file_in_blocks_of_one_length(tmp_path):
    blend = Blend({"web": 0.75, "code": 0.25}, paths={"web": "/d/web", "code": "/d/code"})
    found = export(blend, "litgpt", tmp_path)
    assert found.files == (tmp_path / "litdata.json",)
    assert json.loads(found.files[0].read_text())["arguments"]["weights"] == [0.75, 0.25]
    assert found.notes[0] == "equal lengths assumed: these are also the shares of tokens"
    with pytest.raises(InputError, match="did you mean 'litgpt'"):
        export(blend, "lit-gpt", tmp_path)
