"""What to do with a recommendation, and doubts that say their mend."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from mixopt.fitting import recommend
from mixopt.report import page
from mixopt.runs import Targets

PRIOR = {"web": 0.6, "code": 0.2, "books": 0.15, "maths": 0.05}


@pytest.fixture(scope="module")
def clear(table):
    return recommend(table(40, noise=0.01), kl=0.05, prior=PRIOR, law="exponential")


def test_a_check_has_the_runs_that_show_the_gain(clear):
    """By the textbook: the difference of means of n runs lies within h sqrt(2/n), which n makes smaller than the gain."""
    half, gain = (clear.doubt.value[1] - clear.doubt.value[0]) / 2, clear.doubt.gain.value
    assert "train this mixture and natural at the size of the runs: a run each would show the gain" in clear.advice
    assert half * math.sqrt(2) <= gain
    for times, words in ((1.5, "5 runs each, with seeds of their own, would show"), (0.2, "a run each would show")):
        wide = replace(clear, doubt=replace(clear.doubt, value=(0.0, 2 * times * gain)))
        assert words in wide.advice
    dear = replace(clear, doubt=replace(clear.doubt, value=(0.0, 20 * gain)))
    assert re.search(r"Stay with natural until more runs are in: --suggest 5 .* takes 200 runs of each mixture", dear.advice)


def test_no_gain_and_a_gain_within_its_doubt_leave_the_mixture_as_it_is(clear):
    unsure = replace(clear, fitted=replace(clear.fitted, noise=replace(clear.fitted.noise, value=2 * clear.doubt.gain.value)))
    assert unsure.advice.startswith("Stay with natural until more runs are in")
    worse = replace(clear, doubt=replace(clear.doubt, gain=replace(clear.doubt.gain, value=-0.1)))
    assert worse.advice.startswith("Stay with natural, or ask for less")


def test_the_report_s_first_screen_has_it(clear):
    report = clear.report()
    assert report.advice == clear.advice
    before, _, after = page.html(report).partition("<strong>Next:</strong>")
    assert "<table" not in before
    assert "the gain of" in after.split("</p>")[0]
    assert f"**Next:** {clear.advice}" in page.markdown(report)
    assert "Next:" not in page.markdown(replace(report, advice=""))


def test_a_target_of_noise_is_to_be_left_out_and_the_best_of_noisy_runs_measured_again(table):
    runs = table(40, noise=0.005)
    metrics = runs.metrics.copy()
    metrics[:, 0] = 2.5 + 0.05 * np.random.default_rng(1).normal(size=40)
    found = recommend(replace(runs, metrics=metrics), kl=0.05, prior=PRIOR, law="exponential")
    (told,) = [d for d in found.doubts if "badly" in d]
    assert "1 of 3 targets (chat" in told
    assert "fit without it (--drop) and compare" in told
    luck = replace(runs, targets=Targets(["loss"]), metrics=np.random.default_rng(2).normal(3, 0.1, (40, 1)))
    found = recommend(luck, kl=0.05, prior=PRIOR, law="exponential")
    (told,) = [d for d in found.doubts if "best run measured" in d]
    assert "the best of 40 runs that the law cannot tell from noise owes much of its lead to luck: run it again first" in told
    assert "--drop" not in " ".join(found.doubts)


def test_runs_too_few_for_their_law_are_told_with_a_ridge_too(table):
    found = recommend(table(9, noise=0.005), kl=0.05, prior=PRIOR, law="exponential", ridge=1e-3)
    (told,) = [d for d in found.doubts if "are few" in d]
    assert told.startswith("9 runs are few for 5 parameters a target")
    assert told.endswith("a ridge holds what they do not tell, and the intervals are rough.")


def test_what_would_be_read_too_often_is_told_and_a_cap_mends_it(table):
    tokens, asked = {"web": 6e11, "code": 3e10, "books": 1.5e11, "maths": 2e11}, {"kl": 0.05, "law": "exponential", "budget": 1e12}
    found = recommend(table(40, noise=0.005), tokens=tokens, **asked)
    times = found.weights["code"] * 1e12 / 3e10
    assert times > 4
    (told,) = [d for d in found.doubts if "more than 4 times" in d]
    assert f"code {times:.1f}" in told
    assert "web" not in told
    capped = recommend(table(40, noise=0.005), tokens=tokens, cap=4, **asked)
    assert not any("more than 4 times" in d for d in capped.doubts)
