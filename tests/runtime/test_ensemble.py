"""Ensembles: each run is what it would be alone, per-run AdamW is exact, and a run that breaks is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from mixopt.errors import InputError, LearnerError
from mixopt.runtime.ensemble import Ensemble, Recipe, train
from mixopt.runtime.gpt import GPT
from mixopt.runtime.streams import Streams

MIXTURES = np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])
RECIPE = Recipe(steps=12, batch=4, rate=1e-2)


def tiny(seed: int) -> nn.Module:
    return GPT(vocabulary=8, context=6, width=8, layers=2, heads=2, seed=seed)


@pytest.fixture(scope="module")
def streams() -> Streams:
    """One domain that counts upwards, one that counts downwards, both modulo 8."""
    return Streams({"up": np.arange(200) % 8, "down": -np.arange(150) % 8}, context=6)


@pytest.fixture(scope="module")
def ensemble(streams) -> Ensemble:
    return train(tiny, MIXTURES, streams, RECIPE, seeds=range(5), data_seed=[7, 7, 7, 9, 9], chunk=3)


def close(some, other, tolerance=1e-5):
    assert some.keys() == other.keys()
    for name in some:
        torch.testing.assert_close(some[name], other[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("run", range(5))
def test_a_member_is_what_it_is_when_trained_alone(ensemble, streams, run):
    alone = train(tiny, MIXTURES[[run]], streams, RECIPE, seeds=[run], data_seed=[7, 7, 7, 9, 9][run])
    close(ensemble.member(run), alone.member(0))


def test_a_member_is_what_a_plain_loop_with_torch_gives(ensemble, streams):
    module, run = tiny(2), 2
    optimiser = torch.optim.AdamW(module.parameters(), lr=1.0, betas=RECIPE.betas, weight_decay=RECIPE.weight_decay)
    uniform = torch.rand(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    for step in range(12):
        windows = streams.mixed(streams.bounds(MIXTURES[run]), uniform[step : step + 1])[0]
        optimiser.param_groups[0]["lr"] = RECIPE.rate_at(step)
        optimiser.zero_grad()
        F.cross_entropy(module(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), RECIPE.clip)
        optimiser.step()
    close(ensemble.member(run), {name: value.detach() for name, value in module.named_parameters()})


def test_chunks_change_nothing_but_rounding(ensemble, streams):
    whole = train(tiny, MIXTURES, streams, RECIPE, seeds=range(5), data_seed=[7, 7, 7, 9, 9], chunk=5)
    close(dict(ensemble.parameters), dict(whole.parameters))


def test_equal_seeds_and_mixtures_give_equal_runs_and_others_differ(streams):
    runs = train(tiny, [[0.5, 0.5]] * 4, streams, Recipe(5, 4), seeds=[1, 1, 2, 1], data_seed=[3, 3, 3, 4])
    close(runs.member(0), runs.member(1), 1e-6)
    for other in (2, 3):
        assert (runs.parameters["embedding"][0] - runs.parameters["embedding"][other]).abs().max() > 1e-3


def test_the_seeds_alone_decide(streams):
    state = torch.get_rng_state()
    first, again = (train(tiny, MIXTURES, streams, Recipe(4, 4), seeds=range(5), data_seed=1) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    close(dict(first.parameters), dict(again.parameters), 0.0)


def test_training_learns_the_domain_that_it_sees(streams):
    runs = train(tiny, [[1, 0], [0, 1], [0.5, 0.5]], streams, Recipe(150, 8, rate=2e-2), seeds=[0, 0, 0], data_seed=0)
    losses = runs.losses(streams.fixed(10))
    assert losses.shape == (3, 2)
    assert losses.dtype == torch.float64
    # the direction is seen from the second token on, so a model of both is unsure of the first of six only: (log 2) / 6
    assert losses[0, 0] < 0.05
    assert losses[1, 1] < 0.05
    assert losses[0, 1] > math.log(8)
    assert losses[1, 0] > math.log(8)
    assert losses[2].max() < 0.3


def test_losses_are_those_of_each_member(ensemble, streams):
    windows = streams.fixed(7)
    module = tiny(0)
    expected = torch.empty(5, 2, dtype=torch.float64)
    for run in range(5):
        for domain in range(2):
            logits = functional_call(module, ensemble.member(run), (windows[domain, :, :-1],))
            expected[run, domain] = F.cross_entropy(logits.double().flatten(0, 1), windows[domain, :, 1:].flatten()).item()
    for chunk, at_once in ((None, 32), (2, 3)):
        torch.testing.assert_close(ensemble.losses(windows, chunk=chunk, at_once=at_once), expected, rtol=1e-6, atol=1e-6)


def test_the_rate_rises_and_then_falls_to_its_last_share():
    recipe = Recipe(steps=100, batch=1, rate=0.5, warmup=0.1, final=0.2)
    rates = [recipe.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == rates[10] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.1)
    assert rates[:10] == sorted(set(rates[:10]))
    assert rates[10:] == sorted(set(rates[10:]), reverse=True)
    assert Recipe(steps=1, batch=1, warmup=0).rate_at(0) > 0


def test_progress_counts_every_chunk_once(streams):
    told = []
    train(tiny, MIXTURES, streams, Recipe(12, 2), seeds=range(5), data_seed=0, chunk=2, watch=lambda *at: told.append(at))
    assert [done for done, _ in told] == [10, 12, 22, 24, 34, 36]
    assert {steps for _, steps in told} == {36}


def test_an_interrupt_passes_through(streams):
    def stop(done: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny, MIXTURES, streams, RECIPE, seeds=range(5), data_seed=0, watch=stop)


def test_a_run_that_breaks_is_named_with_its_step(streams):
    def factory(seed: int) -> nn.Module:
        module = tiny(seed)
        if seed == 3:
            with torch.no_grad():
                module.embedding.fill_(torch.inf)
        return module

    with pytest.raises(LearnerError, match=r"run 3 is NaN or infinite at step 0 of 12 .*\(3\)"):
        train(factory, MIXTURES, streams, RECIPE, seeds=range(5), data_seed=0, chunk=2)


def test_parameters_that_break_in_the_last_step_are_named(streams):
    with pytest.raises(LearnerError, match="run 0 is NaN or infinite at step 0 of 1"):
        train(tiny, MIXTURES[:1], streams, Recipe(1, 2, rate=1e38, weight_decay=1e38), seeds=[0], data_seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": range(4)}, "5 mixtures but 4 seeds"),
        ({"data_seed": [1, 2]}, "5 mixtures but 2 data seeds"),
        ({"mixtures": MIXTURES * 2}, "sum to 2"),
        ({"factory": lambda seed: GPT(vocabulary=7, context=6, width=8, seed=seed)}, "hold the token 7, but the model has logits for 7"),
    ],
)
def test_input_that_does_not_fit_is_refused(streams, change, message):
    given = {"factory": tiny, "mixtures": MIXTURES, "streams": streams, "recipe": RECIPE, "seeds": range(5), "data_seed": 0} | change
    with pytest.raises(InputError, match=message):
        train(**given)


@pytest.mark.parametrize("change", [{"steps": 0}, {"rate": -1.0}, {"rate": math.nan}, {"warmup": 2.0}, {"clip": 0.0}])
def test_a_recipe_outside_its_range_is_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        Recipe(**{"steps": 1, "batch": 1} | change)


class Stubborn(nn.Module):
    """A model that vmap cannot batch: it looks at its numbers."""

    def __init__(self, seed):
        super().__init__()
        self.inner = GPT(vocabulary=8, context=8, width=8, layers=1, seed=seed)

    def forward(self, tokens):
        logits = self.inner(tokens)
        return logits * (1.0 if float(logits.detach().sum()) > -1e9 else 0.0)


def test_a_model_that_vmap_refuses_is_trained_in_turn_to_the_same_numbers():
    streams = Streams({"a": torch.arange(200) % 7, "b": torch.arange(150) % 5}, 8)
    recipe = Recipe(steps=6, batch=4)
    mixtures = [[0.5, 0.5], [0.9, 0.1]]
    plain = train(lambda s: GPT(vocabulary=8, context=8, width=8, layers=1, seed=s), mixtures, streams, recipe, seeds=[0, 1], data_seed=3)
    turns = train(Stubborn, mixtures, streams, recipe, seeds=[0, 1], data_seed=3)
    windows = streams.fixed(3)
    assert turns.losses(windows).numpy() == pytest.approx(plain.losses(windows).numpy(), abs=1e-5)
