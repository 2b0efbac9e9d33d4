"""Hugging Face datasets draw at the exported probabilities, as map-style and as streams."""

from __future__ import annotations

import json

import pytest

from mixopt.export import Blend, export

datasets = pytest.importorskip("datasets", reason="make test installs it")
stats = pytest.importorskip("scipy.stats")

LENGTHS = {"web": 500.0, "code": 1000.0, "books": 4000.0}
BLEND = Blend({"web": 0.5, "code": 0.3, "books": 0.2, "junk": 0.0}, tokens_per_example={**LENGTHS, "junk": 1.0})
SHARES = {n: BLEND.weights[n] / LENGTHS[n] for n in LENGTHS}


def mix(folder, blend=BLEND):
    return json.loads(export(blend, "hf", folder / "mix.json", seed=7).files[0].read_text())


@pytest.mark.parametrize("streamed", [False, True])
def test_examples_are_drawn_at_the_exported_probabilities(tmp_path, streamed):
    content = mix(tmp_path)
    assert content["datasets"] == ["web", "code", "books"]
    assert sum(content["arguments"]["probabilities"]) == 1.0
    parts = [datasets.Dataset.from_dict({"domain": [name] * 6000}) for name in content["datasets"]]
    parts = [part.to_iterable_dataset() for part in parts] if streamed else parts
    mixed = datasets.interleave_datasets(parts, **content["arguments"])
    drawn = [row["domain"] for row in mixed.take(4000)] if streamed else mixed[:4000]["domain"]
    observed = [drawn.count(name) for name in content["datasets"]]
    expected = [4000 * SHARES[name] / sum(SHARES.values()) for name in content["datasets"]]
    assert sum(observed) == 4000
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert stats.chisquare(observed, [4000 * w for w in (0.5, 0.3, 0.2)]).pvalue < 1e-6  # token shares would not do


def test_a_domain_that_is_read_more_than_once_is_repeated_to_the_end(tmp_path):
    blend = Blend({"web": 0.5, "code": 0.5}, unit="example", tokens={"web": 1e6, "code": 1e5}, budget=1e6)
    content = mix(tmp_path, blend.completed(tokens_per_example={"web": 1000.0, "code": 1000.0}))
    parts = [datasets.Dataset.from_dict({"domain": [n] * size}) for n, size in (("web", 1000), ("code", 100))]
    drawn = datasets.interleave_datasets(parts, **content["arguments"])["domain"]
    assert len(drawn) > 1000  # the run's length; the first to end would have left about 200
    assert stats.chisquare([list(drawn).count("web"), list(drawn).count("code")]).pvalue > 1e-3
