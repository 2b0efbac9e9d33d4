"""Mapped streams: the same windows as from memory, none across the end of a piece, and the files are not read whole."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.data import Pieces
from mixopt.errors import InputError
from mixopt.runtime.ensemble import Recipe, train
from mixopt.runtime.gpt import GPT
from mixopt.runtime.streams import Streams
from mixopt.runtime.torch_learner import TorchLearner

CONTEXT = 5
SIZES = {"web": 400, "code": 90, "books": 7}


@pytest.fixture
def rows():
    """Tokens of three domains."""
    draw = np.random.default_rng(0)
    return {name: draw.integers(0, 300, size).astype(np.uint16) for name, size in SIZES.items()}


@pytest.fixture
def maps(rows, tmp_path):
    """The same tokens, mapped from files."""
    for name, row in rows.items():
        row.tofile(tmp_path / name)
    return {name: np.memmap(tmp_path / name, np.uint16, "r") for name in rows}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mapped_tokens_give_the_windows_that_tokens_in_memory_give(rows, maps):
    here, mapped = Streams(rows, CONTEXT), Streams(maps, CONTEXT, in_memory=0)
    assert mapped.vocabulary == here.vocabulary
    assert mapped.sizes == here.sizes == SIZES
    weights = [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]
    for take in (
        lambda s: s.draw(40, seeded()),
        lambda s: s.draw_mixed(weights, 16, seeded()),
        lambda s: s.draw_mixed(torch.tensor(weights), 16, seeded(), paired=False),
        lambda s: s.fixed(9),
        lambda s: s.part("code"),
    ):
        assert torch.equal(take(here), take(mapped))
        assert take(mapped).dtype == torch.int64


def test_small_maps_are_read_at_once_and_large_ones_stay(maps):
    assert Streams(maps, CONTEXT).on("meta").home.type == "meta"
    large = Streams(maps, CONTEXT, in_memory=100).on("meta")
    assert (large.home.type, large.device.type) == ("cpu", "meta")
    assert large.draw(3, seeded()).device.type == "meta"
    assert large.fixed(2).device.type == "meta"
    assert large.part("web").device.type == "meta"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6).filter(lambda sizes: max(sizes) > CONTEXT), st.integers(1, 40), st.integers(0, 99)
)
def test_no_window_crosses_the_end_of_a_piece_and_every_place_is_reached(sizes, per_domain, seed):
    """Tokens are 100 x piece + place, so that a window tells where it was cut."""
    pieces = Pieces([100 * i + np.arange(size) for i, size in enumerate(sizes)])
    streams = Streams({"whole": np.arange(10), "cut": pieces}, CONTEXT, vocabulary=1000)
    for windows in (streams.draw(per_domain, seeded(seed))[1], streams.fixed(per_domain)[1]):
        assert torch.equal(windows, windows[:, :1] + torch.arange(CONTEXT + 1))
        for start in windows[:, 0].tolist():
            assert start % 100 + CONTEXT < sizes[start // 100]
    places = {100 * i + place for i, size in enumerate(sizes) for place in range(size - CONTEXT)}
    assert set(streams.fixed(len(places))[1][:, 0].tolist()) == places


def test_places_in_pieces_are_about_equally_likely():
    pieces = Pieces([np.arange(15), np.arange(100, 105), np.arange(200, 215)])
    starts = Streams({"cut": pieces}, CONTEXT).draw(8000, seeded())[0, :, 0]
    values, counts = starts.unique(return_counts=True)
    assert values.tolist() == [*range(10), *range(200, 210)]
    assert counts.tolist() == pytest.approx([400] * 20, rel=0.25)


def test_a_learner_and_an_ensemble_train_on_mapped_tokens_as_on_those_in_memory(rows, maps):
    here, mapped = Streams(rows, CONTEXT), Streams(maps, CONTEXT, in_memory=0)

    def make(seed):
        return GPT(300, width=8, context=CONTEXT, seed=seed)

    def parameters(streams):
        found = train(make, [[0.5, 0.3, 0.2]] * 2, streams, Recipe(3, 4), seeds=[0, 1], data_seed=0).parameters
        return torch.cat([value.flatten() for value in found.values()])

    assert torch.equal(parameters(here), parameters(mapped))
    batches = [TorchLearner(make(0), {"train": s}, context=CONTEXT).draw(seeded())["train"] for s in (here, mapped, maps)]
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])


@pytest.mark.gpu
def test_mapped_windows_reach_a_gpu(maps, rows):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    mapped = Streams(maps, CONTEXT, "cuda", in_memory=0)
    assert torch.equal(mapped.draw(30, seeded()).cpu(), Streams(rows, CONTEXT).draw(30, seeded()))
    weights = torch.tensor([0.2, 0.3, 0.5], device="cuda")
    assert torch.equal(mapped.draw_mixed(weights, 8, seeded()).cpu(), Streams(rows, CONTEXT).draw_mixed(weights.cpu(), 8, seeded()))


@pytest.mark.parametrize(
    ("tokens", "how", "message"),
    [
        (Pieces([np.arange(4), np.arange(5)]), {}, "domain 'cut' has 5 tokens in one piece, and a window takes 6"),
        (Pieces([np.arange(9), np.array([3, -2])]), {}, "domain 'cut' holds the token -2"),
        (Pieces([np.arange(9), np.arange(9)]), {"vocabulary": 8}, None),
        (np.arange(9), {"vocabulary": 8}, "domain 'cut' holds the token 8, and the vocabulary has 8"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(tokens, how, message):
    if message is None:  # what a manifest tells of mapped tokens is trusted: it was found by reading them
        assert Streams({"cut": tokens}, CONTEXT, **how).vocabulary == 8
        return
    with pytest.raises(InputError, match=message):
        Streams({"cut": tokens}, CONTEXT, **how)


def test_pieces_are_read_by_stretches():
    pieces = Pieces([np.arange(3, dtype=np.uint8), np.arange(300, 304, dtype=np.uint16)])
    assert len(pieces) == 7
    assert pieces.dtype == np.uint16
    assert pieces[1:5].tolist() == [1, 2, 300, 301]
    assert pieces[-2:].tolist() == [302, 303]
    assert np.asarray(pieces).tolist() == [0, 1, 2, 300, 301, 302, 303]
    for rows in ([], [np.zeros(3)], [np.zeros((2, 2), int)]):
        with pytest.raises(InputError, match="piece"):
            Pieces(rows)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc, where the peak of a process is told")
def test_a_large_map_is_not_read_into_memory(tmp_path):
    """Windows drawn from a file of 1 GB, with holes for data, cost a small part of it."""
    with open(tmp_path / "web", "wb") as file:
        file.truncate(2**30)
    program = textwrap.dedent(f"""
        import numpy as np, torch
        from mixopt.runtime.streams import Streams
        def peak():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        before = peak()
        streams = Streams({{"web": np.memmap({str(tmp_path / "web")!r}, np.uint16, "r")}}, 64, vocabulary=50_000)
        assert streams.draw(500, torch.Generator().manual_seed(0)).shape == (1, 500, 65)
        print(peak() - before)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 100_000  # kB


def test_mapped_streams_go_to_other_processes_by_their_places(maps):
    streams = Streams({"web": Pieces([maps["web"][40:200], maps["code"]]), "books": maps["books"]}, CONTEXT, in_memory=0, vocabulary=300)
    packed = pickle.dumps(streams)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    assert torch.equal(again.draw(9, torch.Generator().manual_seed(0)), streams.draw(9, torch.Generator().manual_seed(0)))
    Path(maps["code"].filename).unlink()
    with pytest.raises(InputError, match=r"code cannot be read by this process.*under one name"):
        pickle.loads(packed)
