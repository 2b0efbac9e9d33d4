"""Targets whose own parsers are not at hand, checked against their documented grammar by parsers written from its rules.

Megatron-LM: megatron/training get_blend_and_blend_per_split and megatron/core/datasets/utils.py (the released megatron-core reads the
files in test_trainers.py). NeMo: nemo/collections/llm/gpt/data/pre_training.py (its release 3.0 has no language models any more).
nanotron: src/nanotron/config/config.py (its release 0.4 has no dataset_weights). Levanter: src/levanter/data/mixture.py and data/text
(released as marin-levanter, whose sampler test_trainers.py draws from).
"""

from __future__ import annotations

import ast
import json

import pytest
import yaml

from mixopt.export import Blend, Stage, export

BLEND = Blend({"web": 0.6, "code": 0.399, "books": 0.001, "junk": 0.0}).completed(root="/data")
KEPT = {"/data/web": 0.6, "/data/code": 0.399, "/data/books": 0.001}


def blend_from_list(items: list[str] | None):
    """Megatron's rule: an odd list has no weights; an even one has, where every first of two is a number; some is an error."""
    if items is None:
        return None
    if len(items) % 2:
        return items, None

    def as_number(text: str) -> float | None:
        try:
            return float(text)
        except ValueError:
            return None

    weights = [as_number(text) for text in items[::2]]
    if all(w is None for w in weights):
        return items, None
    assert all(w is not None for w in weights)
    assert all(w > 0 for w in weights)
    return [text.strip() for text in items[1::2]], weights


@pytest.mark.parametrize("domains", [1, 2, 3])
def test_megatron_reads_weights_and_prefixes_for_odd_and_even_numbers_of_domains(tmp_path, domains):
    names = ["web", "12", "1e5"][:domains]  # prefixes that look like numbers stay prefixes
    blend = Blend(dict.fromkeys(names, 1 / domains), paths={n: n for n in names})
    export(blend, "megatron", tmp_path, validation=["v1", "v2"], test=["t1"])
    prefixes, weights = blend_from_list((tmp_path / "megatron.txt").read_text().split())
    assert prefixes == names
    assert weights == pytest.approx([1 / domains] * domains)
    splits = json.loads((tmp_path / "megatron.json").read_text())
    assert set(splits) == {"train", "valid", "test"}
    assert blend_from_list(splits["train"]) == (prefixes, weights)
    assert blend_from_list(splits["valid"]) == (["v1", "v2"], None)
    assert blend_from_list(splits["test"]) == (["t1"], None)
    export(blend, "megatron", tmp_path)
    assert blend_from_list(json.loads((tmp_path / "megatron.json").read_text())["valid"]) is None


def test_nemo_takes_a_list_or_a_mapping_with_train_validation_and_test(tmp_path):
    paths = yaml.safe_load(export(BLEND, "nemo", tmp_path / "n.yaml").files[0].read_text())["data"]["paths"]
    prefixes, weights = blend_from_list(paths)
    assert dict(zip(prefixes, weights, strict=True)) == pytest.approx(KEPT)
    split = yaml.safe_load(export(BLEND, "nemo", tmp_path / "n.yaml", validation=["v"]).files[0].read_text())["data"]["paths"]
    assert split == {"train": paths, "validation": ["v"]}


def test_nanotron_has_as_many_weights_as_folders_and_a_stage_from_step_one(tmp_path):
    staged = Blend({"web": 0.6, "code": 0.4}, budget=1e9, stages=(Stage(5e8, {"web": 0.1, "code": 0.9}),)).completed(root="/d")
    stages = yaml.safe_load(export(staged, "nanotron", tmp_path / "n.yaml", step_tokens=1e6, seed=3).files[0].read_text())["data_stages"]
    assert len({s["name"] for s in stages}) == len(stages) == 2
    assert min(s["start_training_step"] for s in stages) == 1
    assert len({s["start_training_step"] for s in stages}) == 2
    for stage in stages:
        assert set(stage) == {"name", "start_training_step", "data"}
        assert set(stage["data"]) == {"dataset", "seed", "num_loading_workers"}
        assert len(stage["data"]["dataset"]["dataset_folder"]) == len(stage["data"]["dataset"]["dataset_weights"])
        assert all(isinstance(w, float) and w > 0 for w in stage["data"]["dataset"]["dataset_weights"])


def drawn(weights: dict[str, float], block: int) -> dict[str, int]:
    """Levanter's rule: int(weight x block) from each dataset, what is left from the largest."""
    total = sum(weights.values())
    counts = {name: int(w / total * block) for name, w in weights.items() if w > 0}
    counts[max(counts, key=counts.__getitem__)] += block - sum(counts.values())
    return counts


def test_levanter_draws_every_domain_in_each_block(tmp_path):
    data = yaml.safe_load(export(BLEND, "levanter", tmp_path / "l.yaml").files[0].read_text())["data"]
    assert set(data["train_weights"]) <= set(data["components"])  # its own check
    assert data["train_weights"]["junk"] == 0.0  # evaluated, never drawn
    assert all(c["source"]["type"] == "url" and c["source"]["train_urls"] for c in data["components"].values())
    assert data["mixture_block_size"] < 2**16
    counts = drawn(data["train_weights"], data["mixture_block_size"])
    assert set(counts) == {"web", "code", "books"}
    assert min(counts.values()) >= 1
    for name, count in counts.items():
        assert count / data["mixture_block_size"] == pytest.approx(BLEND.weights[name], abs=len(counts) / data["mixture_block_size"])
    tiny = export(Blend({"web": 1 - 1e-6, "code": 1e-6}).completed(root="/d"), "levanter", tmp_path / "l.yaml")
    assert any("'code': the weight is less than one sequence in a block of 32768" in note for note in tiny.notes)


def test_levanter_stages_are_sorted_steps_with_weights(tmp_path):
    staged = Blend({"web": 0.6, "code": 0.4}, budget=1e9, stages=(Stage(5e8, {"web": 0.1, "code": 0.9}),)).completed(root="/d")
    done = export(staged, "levanter", tmp_path / "l.yaml", step_tokens=1e6)
    stages = yaml.safe_load(done.files[0].read_text())["data"]["train_weights"]
    assert [start for start, _ in stages] == [0, 500]
    assert any("a stage must start at a multiple of mixture_block_size (2048) sequences" in note for note in done.notes)


def test_torchtitan_gets_a_module_of_literals(tmp_path):
    """The names in it are looked up in the released torchtitan by test_trainers.py; here nothing but calls and literals may stand."""
    odd = Blend({'it\'s "odd"\n': 0.5, "b": 0.5}).completed(root="/d")
    tree = ast.parse(export(odd, "torchtitan", tmp_path / "t.py").files[0].read_text())
    assert [type(s).__name__ for s in tree.body] == ["ImportFrom", "Assign", "Assign"]
    assert ast.literal_eval(tree.body[1].value) == odd.weights
    sources = next(k.value for k in tree.body[2].value.keywords if k.arg == "sources")
    for source, name in zip(sources.elts, odd.weights, strict=True):
        values = {k.arg: ast.literal_eval(k.value) for k in source.keywords}
        assert values == {"dataset": name, "dataset_path": f"/d/{name}", "weight": 0.5, "infinite": True}


def test_olmo_core_ratios_are_positive_sum_to_one_and_may_be_repeated_as_often_as_needed(tmp_path):
    blend = BLEND.completed(tokens={"web": 1e9, "code": 1e9, "books": 1e9}, budget=3e9)
    sources = yaml.safe_load(export(blend, "olmo-core", tmp_path / "o.yaml").files[0].read_text())["sources"]
    assert sum(s["target_ratio"] for s in sources) == 1.0
    assert all(0 < s["target_ratio"] <= 1 and s["paths"] and s["max_source_fraction"] == 1.0 for s in sources)
    for source in sources:  # its own check of what there is against what is needed
        needed = int(3e9 * source["target_ratio"])
        assert 1 <= source["max_repetition_ratio"] < needed / 1e9 + 1
        assert int(1e9 * source["max_source_fraction"] * source["max_repetition_ratio"]) >= needed
    told = export(BLEND, "olmo-core", tmp_path / "o.yaml").notes
    assert any("max_repetition_ratio is 1 where epochs are not known" in note for note in told)
    assert any("'/data/web' looks like a folder; did you mean /data/web/*.npy?" in note for note in told)


def test_litdata_is_told_not_to_iterate_over_all(tmp_path):
    content = json.loads(export(BLEND, "litdata", tmp_path / "l.json", equal_lengths=True).files[0].read_text())
    assert set(content["arguments"]) == {"weights", "seed", "iterate_over_all"}
    assert content["arguments"]["iterate_over_all"] is False


def test_the_largest_source_of_data_juicer_comes_last_and_takes_what_rounding_leaves(tmp_path):
    blend = Blend({"web": 0.45, "code": 0.335, "books": 0.215}, tokens_per_example=dict.fromkeys(["web", "code", "books"], 1.0))
    done = export(blend.completed(root="/d", budget=101.0), "data-juicer", tmp_path / "j.yaml")
    dataset = yaml.safe_load(done.files[0].read_text())["dataset"]
    assert [c["path"] for c in dataset["configs"]] == ["/d/books", "/d/code", "/d/web"]
    assert dataset["max_sample_num"] == 101
