"""Released stream formats are read as they are: litdata and MosaicML Streaming, which ``make trainers`` installs."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types

import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader

from mixopt.loading import MixtureLoader, from_datasets

pytestmark = pytest.mark.filterwarnings("ignore")  # their own warnings are not ours

SHARES = {"web": 0.5, "code": 0.3, "books": 0.2}
SIZES = {"web": 400, "code": 60, "books": 200}


def library(name: str):
    """A library, or a skip that says where it is tested; there, one that cannot be imported fails."""
    if os.environ.get("MIXOPT_TRAINERS"):
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not here; make trainers installs it and runs this test")


def litdata(place, monkeypatch):
    """litdata's streaming datasets by domain, of records {"x": ...} that tell their domain by the thousand."""
    module = library("litdata")
    from litdata.streaming.cache import Cache

    for i, (name, size) in enumerate(SIZES.items()):
        cache = Cache(str(place / name), chunk_size=50)
        for j in range(size):
            cache._add_item(j, {"x": 1000 * i + j})
        cache.done()
        cache.merge(1)
    return {name: module.StreamingDataset(str(place / name)) for name in SIZES}


def mosaic(place, monkeypatch):
    """MosaicML's streaming datasets by domain, of the same records."""
    if importlib.util.find_spec("streaming") is None:
        library("streaming")
    import transformers.feature_extraction_utils  # noqa: F401  (it looks for the real torchvision)

    if importlib.util.find_spec("torchvision") is None:  # which its image datasets import, and nothing here uses
        for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["torchvision.datasets"].VisionDataset = object
        sys.modules["torchvision.transforms.functional"].to_tensor = None
    module = library("streaming")
    for i, (name, size) in enumerate(SIZES.items()):
        with module.MDSWriter(out=str(place / name), columns={"x": "int"}) as out:
            for j in range(size):
                out.write({"x": 1000 * i + j})
    return {name: module.StreamingDataset(local=str(place / name), batch_size=1, num_canonical_nodes=1) for name in SIZES}


@pytest.mark.parametrize("make", [litdata, mosaic])
def test_batches_follow_the_weights_and_resume_exactly_with_workers(make, tmp_path, monkeypatch):
    sources = make(tmp_path, monkeypatch)

    def loader(workers, state=None):
        made = MixtureLoader(sources, SHARES, 10, batches=40, num_workers=workers)
        if state:
            made.load_state_dict(state)
        return made

    def data(batch):
        x = torch.as_tensor(batch.data["x"])
        assert torch.equal(x // 1000, batch.domains)
        return x.tolist()

    whole = [data(batch) for batch in loader(0)]
    counts = [sum(x // 1000 == i for batch in whole for x in batch) for i in range(3)]
    assert counts == [200, 120, 80]
    assert stats.chisquare(counts, [400 * share for share in SHARES.values()]).pvalue > 0.99
    assert len({x for batch in whole for x in batch if x < 1000}) == 200  # no sample again within an epoch
    first, found = loader(2), []
    for batch in first:
        found.append(data(batch))
        if len(found) == 11:
            break
    assert found + [data(batch) for batch in loader(2, json.loads(json.dumps(first.state_dict())))] == whole


@pytest.mark.parametrize("make", [litdata, mosaic])
def test_they_interleave_in_a_data_loader(make, tmp_path, monkeypatch):
    stream = from_datasets(make(tmp_path, monkeypatch), SHARES, 10)
    for _, batch in zip(range(20), DataLoader(stream, batch_size=10, num_workers=2), strict=False):
        assert torch.bincount(batch["domain"]).tolist() == [5, 3, 2]
        assert torch.equal(torch.as_tensor(batch["x"]) // 1000, batch["domain"])
