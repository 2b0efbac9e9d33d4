"""Released trainers read the files back, and those that draw are drawn from: ``make trainers`` installs them, and ``make test`` skips them.

Each test states what is the trainer's own: its configuration class, its sampler, or both. torchvision is not among what is installed, so
MosaicML's image datasets, which nothing here uses, find a stand-in for it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

from mixopt.export import Blend, Stage, export

stats = pytest.importorskip("scipy.stats")
pytestmark = pytest.mark.filterwarnings("ignore")  # a trainer's own warnings are not ours

SHARES = {"web": 0.5, "code": 0.3, "books": 0.2}
BLEND = Blend({**SHARES, "junk": 0.0}, tokens={"web": 1e6, "code": 2e5, "books": 1e6, "junk": 1e6}, budget=1e6)
DRAWS = 4000


def trainer(module: str):
    """The module of a trainer, or a skip that says where it is tested; there, one that cannot be imported fails."""
    if os.environ.get("MIXOPT_TRAINERS"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"{module.split('.')[0]} is not here; make trainers installs it and runs this test")


def fits(observed: dict[str, int], shares: dict[str, float]) -> bool:
    """Whether counts agree with shares, by a chi-squared test."""
    total = sum(observed.values())
    return stats.chisquare([observed.get(n, 0) for n in shares], [total * s for s in shares.values()]).pvalue > 1e-3


def read(done):
    return yaml.safe_load(done.files[0].read_text())


def test_megatron_core_parses_both_files_and_blends_at_the_weights(tmp_path):
    utils = trainer("megatron.core.datasets.utils")
    helpers = trainer("megatron.core.datasets.helpers_cpp")
    export(BLEND.completed(root="/data"), "megatron", tmp_path)
    prefixes, weights = utils.get_blend_from_list((tmp_path / "megatron.txt").read_text().split())
    splits = json.loads((tmp_path / "megatron.json").read_text())
    assert utils.get_blend_from_list(splits["train"]) == (prefixes, weights)
    assert utils.get_blend_from_list(splits["valid"]) is None
    assert prefixes == ["/data/web", "/data/code", "/data/books"]
    assert utils.normalize(weights) == pytest.approx(list(SHARES.values()))
    order, within = np.zeros(DRAWS, dtype=np.int16), np.zeros(DRAWS, dtype=np.int64)
    helpers.build_blending_indices(order, within, np.array(weights), len(weights), DRAWS, False)
    assert np.abs(np.bincount(order) - DRAWS * np.array(list(SHARES.values()))).max() <= 1


def test_litdata_draws_at_the_weights(tmp_path):
    litdata = trainer("litdata")
    from litdata.streaming.cache import Cache

    for name in SHARES:
        cache = Cache(str(tmp_path / "data" / name), chunk_size=1000)
        for i in range(4000):
            cache._add_item(i, {"domain": name})
        cache.done()
        cache.merge(1)
    blend = BLEND.completed(root=str(tmp_path / "data"), tokens_per_example=dict.fromkeys(BLEND.weights, 8.0))
    content = json.loads(export(blend, "litdata", tmp_path / "l.json", seed=1).files[0].read_text())
    mixed = litdata.CombinedStreamingDataset([litdata.StreamingDataset(d) for d in content["input_dirs"]], **content["arguments"])
    drawn = [row["domain"] for row, _ in zip(mixed, range(DRAWS), strict=False)]
    assert fits({n: drawn.count(n) for n in SHARES}, SHARES)


def streaming(monkeypatch):
    """MosaicML Streaming, with stand-ins where its image datasets import torchvision."""
    if importlib.util.find_spec("streaming") is None:
        trainer("streaming")
    import transformers.feature_extraction_utils  # noqa: F401  (it looks for the real torchvision)

    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["torchvision.datasets"].VisionDataset = object
        sys.modules["torchvision.transforms.functional"].to_tensor = None
    return trainer("streaming")


def test_mosaic_streams_draw_at_the_proportions(tmp_path, monkeypatch):
    module = streaming(monkeypatch)
    for name in SHARES:
        with module.MDSWriter(out=str(tmp_path / "data" / name), columns={"domain": "str"}) as out:
            for _ in range(500):
                out.write({"domain": name})
    blend = BLEND.completed(root=str(tmp_path / "data"), tokens_per_example=dict.fromkeys(BLEND.weights, 500.0))
    dataset = read(export(blend, "mosaic", tmp_path / "m.yaml", seed=1))["train_loader"]["dataset"]
    assert dataset["epoch_size"] == 2000
    streams = [module.Stream(**stream) for stream in dataset.pop("streams").values()]
    mixed = module.StreamingDataset(streams=streams, batch_size=1, num_canonical_nodes=1, **dataset)
    drawn = [row["domain"] for row in mixed]
    counts = {n: drawn.count(n) for n in SHARES}
    assert sum(counts.values()) == 2000
    assert all(abs(counts[n] - 2000 * s) <= 1 for n, s in SHARES.items())  # exact to a sample, by its own apportionment


def test_olmo_core_validates_and_builds_the_mixture(tmp_path):
    module = trainer("olmo_core.data.source_mixture")
    available = {"web": 100_000, "code": 40_000, "books": 100_000}
    for name, size in available.items():
        np.zeros(size, dtype=np.uint16).tofile(tmp_path / f"{name}.npy")
    blend = Blend(SHARES, tokens={n: float(s) for n, s in available.items()}, budget=160_000.0).completed(
        root=str(tmp_path / "{domain}.npy")
    )
    listing = module.SourceMixtureList.from_dict(read(export(blend, "olmo-core", tmp_path / "o.yaml")))
    for source in listing.sources:
        source.validate()
    assert [s.max_repetition_ratio for s in listing.sources] == [1.0, 2.0, 1.0]  # code is read 1.2 times
    config = module.SourceMixtureDatasetConfig(
        source_list=listing, requested_tokens=160_000, global_batch_size=1600, render_tables=False, quiet=True
    )
    built = config.build(npdtype=np.uint16, sequence_length=16)
    tokens = {s.name: sum(p.tokens for p in s.path_tokens) for s in built.sources}
    assert {n: t / sum(tokens.values()) for n, t in tokens.items()} == pytest.approx(SHARES, abs=0.01)
    listing.sources[1].max_repetition_ratio = 1.0
    with pytest.raises(Exception, match="Insufficient tokens for source: code"):
        config.build(npdtype=np.uint16, sequence_length=16)


def test_torchtitan_takes_the_module_and_draws_at_the_weights(tmp_path):
    trainer("torchtitan.hf_datasets.text_datasets")
    interleaved = trainer("torchtitan.hf_datasets.interleaved")
    done = export(BLEND.completed(root="/data"), "torchtitan", tmp_path / "titan.py", seed=3)
    spec = importlib.util.spec_from_file_location("titan", done.files[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert [(s.dataset, s.dataset_path) for s in module.dataloader.sources] == [(n, f"/data/{n}") for n in SHARES]
    assert module.dataloader.seed == 3

    class Source:
        def __init__(self, name: str):
            self.name = name

        def __iter__(self):
            while True:
                yield self.name

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    weights = [s.weight for s in module.dataloader.sources]
    mixed = interleaved.InterleavedDataset([Source(n) for n in SHARES], weights, seed=module.dataloader.seed)
    drawn = [name for name, _ in zip(mixed, range(DRAWS), strict=False)]
    assert fits({n: drawn.count(n) for n in SHARES}, SHARES)


def test_llama_factory_parses_its_arguments_and_merges_at_the_probabilities(tmp_path, monkeypatch):
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")  # it pins older companions than ours
    arguments = trainer("llamafactory.hparams.data_args")
    datasets = pytest.importorskip("datasets")
    content = read(export(BLEND, "llama-factory", tmp_path / "l.yaml", equal_lengths=True, seed=5))
    seed = content.pop("seed")
    parsed = arguments.DataArguments(**content)
    assert parsed.dataset == list(SHARES)
    assert parsed.interleave_probs == pytest.approx(list(SHARES.values()))
    strategy = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}[parsed.mix_strategy]
    assert strategy == "all_exhausted"  # code is read 1.5 times
    parts = [datasets.Dataset.from_dict({"domain": [name] * DRAWS}) for name in parsed.dataset]
    mixed = datasets.interleave_datasets(parts, probabilities=parsed.interleave_probs, seed=seed, stopping_strategy=strategy)
    drawn = mixed[:DRAWS]["domain"]
    assert fits({n: drawn.count(n) for n in SHARES}, SHARES)


def test_axolotl_takes_each_entry_and_shards_give_the_shares(tmp_path):
    schemas = trainer("axolotl.utils.schemas.datasets")
    datasets = pytest.importorskip("datasets")
    content = read(export(BLEND.completed(root="/data"), "axolotl", tmp_path / "a.yaml"))
    entries = [schemas.SFTDataset(**entry) for entry in content["datasets"]]
    parts = {f"/data/{n}": datasets.Dataset.from_dict({"i": list(range(int(BLEND.tokens[n] / 1000)))}) for n in SHARES}
    counts = dict.fromkeys(SHARES, 0)
    for entry in entries:
        part = parts[entry.path]
        part = part.shuffle(seed=content["seed"]).shard(num_shards=entry.shards, index=entry.shards_idx) if entry.shards else part
        counts[entry.path.split("/")[-1]] += len(part)
    assert {n: c / sum(counts.values()) for n, c in counts.items()} == pytest.approx(SHARES, abs=0.005)


def test_datatrove_keeps_documents_at_the_rates(tmp_path):
    filters = trainer("datatrove.pipeline.filters.sampler_filter")
    data = trainer("datatrove.data")
    blend = BLEND.completed(budget=5e5)
    content = json.loads(export(blend, "datatrove", tmp_path / "d.json", seed=2).files[0].read_text())
    kept = {}
    for name, rate in content["rates"].items():
        sampler = filters.SamplerFilter(rate=rate, seed=content["seed"])
        documents = int(blend.tokens[name] / 100)
        kept[name] = sum(bool(sampler.filter(data.Document(text="", id=str(i)))) for i in range(documents))
        assert stats.binomtest(kept[name], documents, rate).pvalue > 1e-3
    assert {n: k / sum(kept.values()) for n, k in kept.items()} == pytest.approx(SHARES, abs=0.03)


def test_data_juicer_counts_samples_at_the_weights(tmp_path):
    """Its own function, taken alone from the installed file, since importing the package installs others."""
    spec = importlib.util.find_spec("data_juicer")
    if spec is None:
        trainer("data_juicer")
    source = Path(spec.origin).with_name("core").joinpath("data", "dataset_builder.py").read_text(encoding="utf-8")
    function = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "get_sample_numbers")
    scope = {"np": np}
    exec(compile(ast.Module([function], []), "dataset_builder.py", "exec"), scope)
    lengths = {"web": 500.0, "code": 1000.0, "books": 4000.0, "junk": 10.0}
    dataset = read(export(BLEND.completed(root="/d", tokens_per_example=lengths), "data-juicer", tmp_path / "j.yaml"))["dataset"]
    counts = scope["get_sample_numbers"]([c["weight"] for c in dataset["configs"]], dataset["max_sample_num"])
    assert sum(counts) == dataset["max_sample_num"] == 1350  # 1e6 tokens: 1000 + 300 + 50 examples
    found = {c["path"].split("/")[-1]: n for c, n in zip(dataset["configs"], counts, strict=True)}
    assert all(abs(found[n] - 1e6 * SHARES[n] / lengths[n]) <= 2 for n in SHARES)


def levanter(module: str):
    """A module of Levanter, without what the package imports for its clusters and trackers."""
    spec = importlib.util.find_spec("levanter")
    if spec is None:
        trainer("levanter")
    bare = types.ModuleType("levanter")
    bare.__spec__, bare.__path__ = spec, list(spec.submodule_search_locations)
    sys.modules.setdefault("levanter", bare)
    return trainer(f"levanter.{module}")


@pytest.mark.parametrize("staged", [False, True])
def test_levanter_draws_at_the_weights_and_changes_them_at_the_stage(tmp_path, staged):
    mixture, dataset, schedule = levanter("data.mixture"), levanter("data.dataset"), levanter("schedule")
    stages = (Stage(1e6, {"web": 0.1, "code": 0.9}),) if staged else ()
    done = export(
        Blend(BLEND.weights, budget=2e6, stages=stages).completed(root="/d"), "levanter", tmp_path / "l.yaml", step_tokens=1e6 / 16
    )
    data = read(done)["data"]
    block = data["mixture_block_size"]
    weights = data["train_weights"]
    if staged:  # in steps, as in a file; 256 sequences a step
        weights = mixture.rescale_mixture_schedule_for_batch_schedule(weights, schedule.BatchSchedule(256))
        assert [start for start, _ in weights] == [0, 2 * block]
    parts = {name: dataset.ListAsyncDataset([name] * 5000) for name in data["components"]}
    mixed = mixture.MixtureDataset(parts, weights, block, key=0, stop_strategy=data["stop_strategy"])

    def shares(first: int) -> dict[str, float]:
        drawn = asyncio.run(mixed.get_batch(range(first * block, (first + 1) * block)))
        return {name: drawn.count(name) / block for name in BLEND.weights}

    assert shares(0) == pytest.approx(BLEND.weights, abs=3 / block)
    later = {**dict.fromkeys(BLEND.weights, 0.0), "web": 0.1, "code": 0.9} if staged else BLEND.weights
    assert shares(2) == pytest.approx(later, abs=3 / block)


def test_nemo_hands_its_paths_to_megatron_core(tmp_path):
    """NeMo's PreTrainingDataModule parses them with megatron-core; its release 3.0 has no language models any more."""
    utils = trainer("megatron.core.datasets.utils")
    paths = read(export(BLEND.completed(root="/data"), "nemo", tmp_path / "n.yaml", validation=["/data/v"]))["data"]["paths"]
    prefixes, weights = utils.get_blend_from_list(paths["train"])
    assert dict(zip(prefixes, weights, strict=True)) == pytest.approx({f"/data/{n}": w for n, w in SHARES.items()})
    assert utils.get_blend_from_list(paths["validation"]) == (["/data/v"], None)
