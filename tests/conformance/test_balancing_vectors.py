"""The rules of gradient balancing against the stored vectors of their papers and released code, through the public objects."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mixopt.balancing import FAMO, IMTLG, IMTLL, MGDA, CAGrad, CoBa, PCGrad, UPGrad


@pytest.fixture(scope="module")
def vector(shared):
    """A function from an id to that conformance vector: inputs, what is expected, and the tolerance."""
    rows = {row["id"]: row for row in json.loads(shared("cases/vectors.json").read_text(encoding="utf-8"))}
    return lambda name: (rows[name]["inputs"], rows[name]["expected"], rows[name]["tol"])


def gradients(given):
    """The gradients [k, P], and their inner products."""
    found = np.array(given["gradients"])
    return found, found @ found.T


MGDA_CASES = ["mgda-2task-orthogonal", "mgda-2task-vertex", "mgda-3task-general", "mgda-4task-mixed"]
CAGRAD_CASES = ["cagrad-2task-conflict-c0.4", "cagrad-2task-orthogonal-c0.4", "cagrad-3task-general-c0.4", "cagrad-4task-mixed-c0.4"]


@pytest.mark.parametrize("name", MGDA_CASES)
def test_mgda_is_exact(vector, name):
    given, expected, _ = vector(name)
    g, gram = gradients(given)
    found = MGDA().direction(gram)
    assert found.simplex
    assert found.coefficients == pytest.approx(expected["weights"], abs=1e-12)
    assert found.coefficients @ g == pytest.approx(expected["direction"], abs=1e-12)
    assert np.linalg.norm(found.coefficients @ g) == pytest.approx(expected["min_norm"], abs=1e-12)


@pytest.mark.parametrize("rescale", [0, 1, 2])
@pytest.mark.parametrize("name", CAGRAD_CASES)
def test_cagrad_is_exact_in_each_convention(vector, name, rescale):
    given, expected, _ = vector(name)
    g, gram = gradients(given)
    found = CAGrad(c=given["c"], rescale=rescale).direction(gram)
    assert found.inner == pytest.approx(expected["simplex_weights"], abs=1e-8), "the vectors are exact to 1e-9"
    assert found.coefficients @ g == pytest.approx(expected[f"direction_rescale{rescale}"], abs=1e-8)
    summed = CAGrad(c=given["c"], rescale=rescale, summed=True).direction(gram)
    assert summed.coefficients == pytest.approx(len(g) * found.coefficients, rel=1e-12)


@pytest.mark.parametrize("order", ["natural", "reversed"])
def test_pcgrad_by_its_order(vector, order):
    given, expected, tolerance = vector("pcgrad-3task-order")
    g, gram = gradients(given)
    rule = PCGrad(given["orders"][order])
    assert rule.projected(gram) @ g == pytest.approx(np.array(expected[f"projected_{order}"]), abs=tolerance)
    assert rule.direction(gram).coefficients @ g == pytest.approx(expected[f"sum_{order}"], abs=tolerance)
    if order == "natural":
        assert PCGrad("natural").direction(gram).coefficients == pytest.approx(rule.direction(gram).coefficients)


@pytest.mark.parametrize("name", ["imtlg-2task-orthogonal", "imtlg-4task-mixed"])
def test_imtl_g(vector, name):
    given, expected, tolerance = vector(name)
    g, gram = gradients(given)
    found = IMTLG().direction(gram)
    assert found.coefficients == pytest.approx(expected["weights"], abs=tolerance)
    assert found.coefficients @ g == pytest.approx(expected["direction"], abs=tolerance)
    shadows = g @ (found.coefficients @ g) / np.linalg.norm(g, axis=1)
    assert shadows == pytest.approx([expected["common_projection"]] * len(g), abs=tolerance)
    assert found.simplex == (found.coefficients.min() >= 0)


def test_imtl_l(vector):
    given, expected, tolerance = vector("imtl-l")
    scales, losses = np.array(given["log_scales"]), np.array(given["losses"])
    rule = IMTLL(rate=0.5)
    value, by_loss, by_scale = rule.objective(scales, losses)
    assert value == pytest.approx(expected["loss"], abs=tolerance)
    assert by_loss == pytest.approx(expected["grad_losses"], abs=tolerance)
    assert by_scale == pytest.approx(expected["grad_scales"], abs=tolerance)
    found, after = rule.direction(scales, losses, losses)
    assert found.coefficients == pytest.approx(expected["grad_losses"], abs=tolerance)
    assert after == pytest.approx(scales - 0.5 * np.array(expected["grad_scales"]), abs=tolerance)


def test_famo_over_three_steps(vector):
    given, expected, tolerance = vector("famo-official-3steps")
    rule = FAMO(rate=given["w_lr"], gamma=given["gamma_weight_decay"], min_losses=given["min_losses"], betas=tuple(given["adam_betas"]))
    memory = rule.begin(3)
    for step, (before, after) in enumerate(np.array(given["losses_before_after"])):
        assert rule.loss(memory, before) == pytest.approx(expected["loss"][step], abs=tolerance)
        found, memory = rule.direction(memory, before, before)
        assert found.coefficients == pytest.approx(expected["grad_coefficients"][step], abs=tolerance)
        memory = rule.after(memory, before, after)
        assert memory.values == pytest.approx(expected["logits_after_update"][step], abs=tolerance)
        assert memory.weights == pytest.approx(expected["weights_after_update"][step], abs=tolerance)


def test_coba_over_three_steps(vector):
    given, expected, tolerance = vector("coba-official")
    course = np.array(given["normalised_valid_loss_history"]).T
    rule = CoBa(warmup=given["warmup_steps"], history=given["history_length"], tau=given["tau"])
    memory, steps = rule.begin(3), []
    for losses in 2.5 * course:
        found, memory = rule.direction(memory, losses, losses)
        steps.append((found.coefficients, memory.scores))
    assert [w.tolist() for w, _ in steps[: given["warmup_steps"] - 1]] == [[1 / 3] * 3] * (given["warmup_steps"] - 1)
    for at, step in enumerate(given["update_steps"]):
        w, scores = steps[step - 1]
        assert w == pytest.approx(expected["w"][at], abs=tolerance)
        assert scores["absolute"] == pytest.approx(expected["acs"][at], abs=tolerance)
        assert scores["relative"] == pytest.approx(expected["rcs"][at], abs=tolerance)
        assert scores["divergence"] == pytest.approx(expected["divergence_factor"][at], abs=tolerance)


def test_upgrad(vector):
    given, expected, tolerance = vector("upgrad-2task-conflict")
    g, gram = gradients(given)
    assert UPGrad().direction(gram).coefficients @ g == pytest.approx(expected["direction"], abs=tolerance)
