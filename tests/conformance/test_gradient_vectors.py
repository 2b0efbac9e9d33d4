"""Every vector of ../shared/cases/vectors.json of DoGE and Aioli, through the public schedule, to its own tolerance."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

import mixopt as mx
from mixopt.problems import aioli, online_doge
from mixopt.rules import DoGE
from mixopt.solvers import Online


def names(k):
    return mx.Domains([f"d{i}" for i in range(k)])


@pytest.mark.parametrize("own", [True, False], ids=["as released", "as meant"])
@pytest.mark.parametrize("told", ["gram", "alignment"])
def test_doge(vector, own, told):
    given, expected, tolerance = vector("doge-official")
    gradients = np.array(given["train_grads"])
    method = online_doge(names(3), mu=given["mu"], step_size=given["lr"], smoothing=given["smoothing"], faithful_to="code")
    rule = method.solver.rule
    assert isinstance(rule, DoGE)
    assert (rule.floor, rule.ceiling) == (given["dw_min"], given["dw_max"])
    rule = DoGE(mu=given["mu"], step_size=given["lr"], form="code", own=own)
    schedule = mx.online(method.problem, method.solver if own else Online(rule), start=given["w"])
    gram = gradients @ gradients.T
    if told == "gram":
        schedule.observe(gram=gram)
    else:
        schedule.observe(alignment=gram.sum(1), norms=np.sqrt(np.diag(gram)))
    assert schedule.w == pytest.approx(expected["w_including_self" if own else "w_excluding_self"], abs=tolerance)


def falls_of(schedule, drops):
    """Feed one round of a linear world: each probe lowers the losses by the drops [m, k] under its mixture, until the weights step."""
    losses = np.full(len(drops), 5.0)
    schedule.observe(val=losses)
    for _ in range(drops.shape[1]):
        probe = int(np.argmax(schedule.w))
        losses = losses - drops[:, probe]
        schedule.observe(val=losses)


@pytest.fixture(autouse=True)
def _probing_is_most_of_it():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="probing takes")
        yield


def test_aioli_learns_its_parameters(vector):
    given, expected, tolerance = vector("aioli-learnparams")
    schedule = mx.online(aioli(names(given["k"]), factor=given["one_hot_factor"], hold=1, faithful_to="paper"), every=1)
    falls_of(schedule, np.array(given["loss_drop_val_by_mixture"]))
    assert schedule.state_dict()["memory"]["effects"].numpy() == pytest.approx(np.array(expected["A_val_by_train"]), abs=tolerance)


def drops_of(effects, factor):
    """The falls [m, k] under the k probes of a world with these effects [m, k]."""
    k = effects.shape[1]
    probes = np.full((k, k), (1 - factor) / (k - 1)) + np.eye(k) * (factor - (1 - factor) / (k - 1))
    return effects @ probes.T


def test_aioli_as_released_without_a_mean(vector):
    given, expected, tolerance = vector("aioli-official-noema")
    method = aioli(names(3), rate=given["eta"], factor=0.5, hold=1, faithful_to="code")
    rule = method.solver.rule
    schedule = mx.online(method.problem, Online(replace(rule, decay=None)), every=1)
    drops = drops_of(np.array(given["A_val_by_train_raw"]), 0.5)
    falls_of(schedule, drops)
    assert schedule.state_dict()["memory"]["effects"].numpy() == pytest.approx(np.array(expected["A_normalised"]), abs=tolerance)
    assert schedule.w == pytest.approx(expected["w_round1"], abs=tolerance)
    falls_of(schedule, drops)
    assert schedule.w == pytest.approx(expected["w_round2"], abs=tolerance)


@pytest.mark.parametrize("source", ["paper", "survey"])
def test_aioli_as_it_is_written(vector, source):
    given, expected, tolerance = vector("aioli-unnormalised")
    schedule = mx.online(aioli(names(3), rate=given["eta"], factor=0.5, hold=1, faithful_to=source), every=1, start=given["w_prev"])
    falls_of(schedule, drops_of(np.array(given["A_val_by_train"]), 0.5))
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)
