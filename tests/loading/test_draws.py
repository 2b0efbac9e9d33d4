"""What is drawn: counts follow the weights, epochs repeat nothing, limits hold, and a place is all that is remembered."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mixopt.errors import InputError
from mixopt.loading.draws import Draws
from mixopt.loading.shares import multinomial, stratified

shares = st.lists(st.floats(1e-6, 1), min_size=1, max_size=12).map(lambda x: np.array(x) / sum(x))


def follow(draws, weights, batches, place=None, by=None):
    """The domains and items of batches [n, B] and the place after them."""
    place, found = place or draws.begin(), []
    for _ in range(batches):
        drawn, place = draws.draw(place, np.asarray(weights, float), by)
        found.append((drawn.domains, drawn.items))
    return np.array([d for d, _ in found]), np.array([i for _, i in found]), place


@settings(deadline=None, max_examples=60)
@given(k=st.integers(1, 9), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=40), seed=st.integers(0, 999))
def test_no_domain_is_far_behind_its_shares_however_they_move(k, sizes, seed):
    random, owed = np.random.default_rng(seed), np.zeros(k)
    due, given_ = np.zeros(k), np.zeros(k)
    for size in sizes:
        w = random.dirichlet(np.full(k, random.choice([0.05, 1, 50]))) + 1e-9
        w /= w.sum()
        counts, owed = stratified(size, w, owed)
        due, given_ = due + size * w, given_ + counts
        assert counts.sum() == size
        assert counts.min() >= 0
        assert np.allclose(due - given_, owed, atol=1e-7)
        assert owed.max() <= sum(1 / j for j in range(2, k + 1)) + 1e-7
        assert owed.min() >= -1 - 1e-7


@settings(deadline=None, max_examples=40)
@given(w=shares, size=st.integers(1, 64))
def test_fixed_shares_are_met_to_within_one_draw_or_little_more(w, size):
    draws = Draws({f"d{i}": 1000 for i in range(len(w))}, size)
    _, _, place = follow(draws, w, 20)
    assert np.abs(place.counts - 20 * size * w).max() <= 1 + np.log(len(w)) + 1e-6


def test_multinomial_counts_fit_by_chi_squared_and_vary_as_they_should():
    w = np.array([0.5, 0.3, 0.15, 0.05])
    draws = Draws(dict.fromkeys("abcd", 10_000), 50, method="multinomial", seed=3)
    domains, _, place = follow(draws, w, 400)
    assert stats.chisquare(place.counts, w * place.counts.sum()).pvalue > 1e-3
    variance = np.sum(domains == 0, axis=1).var(ddof=1)
    low, high = stats.chi2.ppf([1e-3, 1 - 1e-3], 399) / 399
    assert low < variance / (50 * 0.25) < high


def test_a_weight_of_zero_is_never_drawn_nor_made_up_for():
    for method in ("stratified", "multinomial"):
        draws = Draws({"a": 50, "b": 50, "c": 50}, 3, method=method)
        domains, _, place = follow(draws, [0.5, 0.4, 0.1], 7)
        domains, _, _ = follow(draws, [0.5, 0.0, 0.5], 50, place)
        assert not np.any(domains == 1)
    assert multinomial(4, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.1, 0.5, 1 - 2.0**-53])).tolist() == [0, 4, 0]


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4), size=st.integers(1, 30), seed=st.integers(0, 99))
def test_each_epoch_of_a_domain_has_each_item_once(lengths, size, seed):
    draws = Draws({f"d{i}": n for i, n in enumerate(lengths)}, size, seed=seed)
    domains, items, _ = follow(draws, np.full(len(lengths), 1 / len(lengths)), 30)
    for i, n in enumerate(lengths):
        # within a batch the order is the order drawn
        drawn = items[domains == i]
        for start in range(0, len(drawn) - n + 1, n):
            assert sorted(drawn[start : start + n]) == list(range(n))


def test_epochs_come_in_other_orders_and_unshuffled_ones_in_theirs():
    _, items, _ = follow(Draws({"a": 5000}, 5000), [1.0], 2)
    assert np.mean(items[0] == items[1]) < 0.01
    _, items, _ = follow(Draws({"a": 50}, 50, shuffle=False), [1.0], 2)
    assert items[0].tolist() == items[1].tolist() == list(range(50))


@settings(deadline=None, max_examples=40)
@given(
    cut=st.integers(0, 12),
    method=st.sampled_from(["stratified", "multinomial"]),
    at_most=st.sampled_from([None, 2.5]),
    seed=st.integers(0, 99),
)
def test_a_place_that_was_saved_goes_on_as_if_nothing_had_been(cut, method, at_most, seed):
    lengths = {"web": 4500, "code": 12, "books": 30}
    weights = np.random.default_rng(seed).dirichlet(np.ones(3), 12)
    places, whole, draws = [], [], Draws(lengths, 16, method=method, seed=seed, at_most=at_most)
    place = draws.begin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for w in weights:
            places.append(place)
            drawn, place = draws.draw(place, w)
            whole.append((drawn.domains.tolist(), drawn.items.tolist()))
        places.append(place)
        again = Draws(lengths, 16, method=method, seed=seed, at_most=at_most)
        place = again.restored(json.loads(json.dumps(draws.saved(places[cut]))))
        for w, expected in zip(weights[cut:], whole[cut:], strict=True):
            drawn, place = again.draw(place, w)
            assert (drawn.domains.tolist(), drawn.items.tolist()) == expected
    assert place.counts.tolist() == places[-1].counts.tolist()
    assert place.owed.tolist() == places[-1].owed.tolist()


@pytest.mark.parametrize("method", ["stratified", "multinomial"])
def test_a_used_up_domain_gives_its_weight_to_the_others_and_says_so_once(method):
    draws = Draws({"web": 1000, "code": 10, "books": 1000}, 20, at_most={"code": 1.5}, method=method)
    with pytest.warns(UserWarning, match=r"used up: 'code' \(1.5 epochs of 10 samples\)") as told:
        _, _, place = follow(draws, [0.4, 0.5, 0.1], 30)
    assert len(told) == 1
    assert place.counts[1] == 15
    assert place.counts.sum() == 600
    assert draws.epochs(place)["code"] == 1.5
    drawn, _ = draws.draw(place, np.array([0.4, 0.5, 0.1]))
    assert drawn.shares == pytest.approx([0.8, 0, 0.2])


def test_a_used_up_domain_is_an_error_where_that_is_asked_for():
    draws = Draws({"web": 100, "code": 10}, 4, at_most=1, when_used_up="error")
    with pytest.raises(InputError, match=r"used up: 'code' \(1 epochs of 10 samples\); raise at_most"):
        follow(draws, [0.5, 0.5], 30)


def test_weights_driven_to_a_domain_without_data_left_say_so():
    draws = Draws({"web": 1000, "code": 8}, 4, at_most=1)
    with pytest.warns(UserWarning, match="used up"):
        _, _, place = follow(draws, [0.5, 0.5], 4)
    with pytest.raises(InputError, match=r"wholly on domains with too little left.*'code'.*raise at_most, or give other domains weight"):
        draws.draw(place, np.array([0.0, 1.0]))


@pytest.mark.filterwarnings("ignore:used up")
def test_draws_end_when_everything_is_read():
    draws, place = Draws({"web": 10, "code": 9}, 4, at_most=1), None
    _, _, place = follow(draws, [0.5, 0.5], 4)
    assert draws.draw(place, np.array([0.5, 0.5])) is None  # 3 samples are left, less than a batch
    with pytest.raises(InputError, match="every domain is used up after 4 batches of 4, and 9 were asked for"):
        draws.ended(place, 9)


def test_importance_weights_need_weight_where_there_is_data():
    draws = Draws({"web": 1000, "code": 8}, 4, at_most=1)
    with pytest.warns(UserWarning, match="used up"):
        _, _, place = follow(draws, [0.1, 0.9], 4, by=np.array([0.5, 0.5]))
    assert draws.draw(place, np.array([0.1, 0.9]), np.array([0.5, 0.5]))[0].importance.tolist() == [1.0] * 4
    with pytest.raises(InputError, match="every sample would weigh 0; raise at_most, or give others weight"):
        draws.draw(place, np.array([0.0, 1.0]), np.array([0.5, 0.5]))


def test_other_shares_to_draw_by_give_importance_weights():
    draws = Draws({"web": 100, "code": 100, "books": 100}, 12)
    w, q = np.array([0.6, 0.3, 0.1]), np.array([0.25, 0.25, 0.5])
    drawn, place = draws.draw(draws.begin(), w, q)
    assert place.counts.tolist() == [3, 3, 6]
    assert drawn.importance == pytest.approx((w / q)[drawn.domains])
    assert drawn.importance.mean() == pytest.approx(1)
    bounded = Draws({"web": 100, "code": 100, "books": 100}, 10, bound=3)
    drawn, _ = bounded.draw(bounded.begin(), np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.1, 0.8]))
    assert drawn.importance.max() == 3
    with pytest.raises(InputError, match=r"\(code\) has weight but is never drawn"):
        draws.draw(place, np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.0, 0.5]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": {"web": 100, "code": 0}}, "domain 'code' is empty"),
        ({"size": 0}, "batch_size is 0; it is a whole number, at least 1"),
        ({"seed": -1}, "the seed is -1"),
        ({"method": "stratfied"}, "did you mean 'stratified'"),
        ({"when_used_up": "stop"}, "no when_used_up 'stop'"),
        ({"at_most": 0}, "at_most is 0 epochs for 'web'; it is above 0"),
        ({"at_most": {"cod": 3}}, "did you mean 'code'"),
        ({"lengths": {"web": None, "code": 3}, "at_most": 2}, "'web', a stream of unknown length; give its samples in lengths"),
        ({"bound": 0.5}, "the bound of importance weights is 0.5"),
        ({"sed": 1}, "no setting 'sed'.*did you mean 'seed'"),
    ],
)
def test_bad_settings_are_named(change, message):
    given_ = {"lengths": {"web": 100, "code": 10}, "size": 4, **change}
    with pytest.raises(InputError, match=message):
        Draws(given_.pop("lengths"), given_.pop("size"), **given_)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Draws({"code": 10, "web": 100}, 4), "its lengths is"),
        (Draws({"web": 101, "code": 10}, 4), "its lengths is"),
        (Draws({"web": 100, "code": 10}, 8), "its size is 8, and here it is 4"),
        (Draws({"web": 100, "code": 10}, 4, seed=1), "its seed is 1, and here it is 0"),
        (Draws({"web": 100, "code": 10}, 4, method="multinomial"), "its method is"),
    ],
)
def test_a_state_of_other_draws_is_refused(other, message):
    with pytest.raises(InputError, match=message):
        Draws({"web": 100, "code": 10}, 4).restored(other.saved(other.begin()))
    with pytest.raises(InputError, match="its version is 0"):
        Draws({"web": 100}, 4).restored({"version": 0})
