"""Every vector of ../shared/cases/vectors.json that is a move of an online method, through the public schedule, to its own tolerance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.balancing import IMTLG, MGDA, CAGrad, PCGrad, UPGrad
from mixopt.laws.ado import as_in_code
from mixopt.problems import ado, by_score, group_dro, mgda, odm, online_doremi, online_law, sheared_llama, skill_it, velocitune


def names(k):
    return mx.Domains([f"d{i}" for i in range(k)])


@pytest.mark.parametrize("name", ["survey-eg-1", "survey-eg-3"])
def test_exponentiated_gradient_of_the_survey(vector, name):
    given, expected, tolerance = vector(name)
    domains = names(len(given["w"]))
    schedule = mx.online(by_score(domains, mx.losses(mx.model(), domains), rate=given["zeta"]), start=given["w"])
    schedule.observe(train=given["V"])
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)


def test_a_kl_term_to_a_prior_is_a_score_about_the_start(vector):
    given, expected, tolerance = vector("kl-dro-1")
    domains = names(3)
    schedule = mx.online(by_score(domains, mx.losses(mx.model(), domains), rate=1 / given["tau"], centre="start"), start=given["prior"])
    for _ in range(2):  # it does not accumulate
        schedule.observe(train=given["losses"])
        assert schedule.w == pytest.approx(expected["w"], abs=tolerance)


@pytest.mark.parametrize("name", ["groupdro-1", "groupdro-missing-group"])
def test_group_dro(vector, name):
    given, expected, tolerance = vector(name)
    schedule = mx.online(group_dro(names(3), rate=given["step_size"]), start=given["q"])
    counts = given.get("group_counts_in_batch")
    schedule.observe(train=given["group_losses"], counts=None if counts is None else {"train": counts})
    assert schedule.w == pytest.approx(expected["q_new"], abs=tolerance)


def scores(given):
    """Means over each domain's tokens of the excess clipped at 0 [3], and their numbers of tokens."""
    excess, mask = np.maximum(np.array(given["excess_loss_per_token"]), 0), np.array(given["token_mask"])
    which = np.array(given["domain_ids"])
    sums = np.array([(excess * mask)[which == i].sum() for i in range(3)])
    return sums, np.array([mask[which == i].sum() for i in range(3)])


def test_doremi(vector):
    given, expected, tolerance = vector("doremi-official-1")
    schedule = mx.online(online_doremi(names(3), rate=given["eta"], smoothing=given["smoothing_c"]), start=given["w"])
    sums, counts = scores(given)
    schedule.observe(excess=sums, counts={"excess": counts}, summed=True)
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)
    assert (schedule.w + given["w"]) / 2 == pytest.approx(expected["running_average_incl_initial"], abs=tolerance)


def test_doremi_carries_the_score_of_a_domain_that_is_absent(vector):
    given, expected, tolerance = vector("doremi-official-missing-domain")
    carrying = mx.solvers.DescentAscent(rate=given["eta"], smoothing=given["smoothing_c"], average="last", absent="carry")
    schedule = mx.online(online_doremi(names(3)).problem, carrying, start=given["w"])
    schedule.observe(excess=given["previous_scores"])
    later = mx.online(online_doremi(names(3)).problem, carrying, start=given["w"])
    state = schedule.state_dict()
    state["weights"] = later.state_dict()["weights"]  # the vector begins at w with these scores in memory
    later.load_state_dict(state)
    sums, counts = scores(given)
    later.observe(excess=np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), counts={"excess": counts})
    assert later.w == pytest.approx(expected["w_new"], abs=tolerance)


@pytest.mark.parametrize(
    ("name", "source"), [("sheared-llama-official", "code"), ("sheared-llama-paper", "paper"), ("sheared-llama-paper", "survey")]
)
def test_sheared_llama(vector, name, source):
    given, expected, tolerance = vector(name)
    method = sheared_llama(names(len(given["w"])), given["target_loss"], rate=given["eta"], faithful_to=source)
    schedule = mx.online(method, start=given["w"])
    assert schedule.observe(val=given["eval_loss"])  # at each evaluation, as the code's trigger is
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)


def test_velocitune(vector):
    given, expected, tolerance = vector("velocitune-1")
    schedule = mx.online(velocitune(names(4), given["target_loss"], given["initial_loss"]), start=given["w"])
    schedule.observe(val=given["eval_loss"])
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)


def test_skill_it_by_a_window_of_evaluations_from_the_prior(vector):
    given, expected, tolerance = vector("skillit-official-window3")
    method = skill_it(
        names(3),
        given["A_train_by_eval"],
        rate=given["eta"],
        window=given["window"],
        evaluations=given["evaluations_between_updates"],
    )
    schedule = mx.online(method)
    assert schedule.w == pytest.approx(expected["w_init"], abs=tolerance)
    found = []
    for at, losses in enumerate(given["eval_loss_sequence"]):
        schedule.observe(val=losses)
        if at % 2:
            found.append(schedule.w)
    assert found == pytest.approx(np.array(expected["w_updates"]), abs=tolerance)


def test_skill_it_in_the_survey_and_as_an_online_law(vector):
    given, expected, tolerance = vector("skillit-survey-form")
    effects, k = np.array(given["A_train_by_eval"]), 3
    schedule = mx.online(skill_it(names(k), effects, rate=given["eta"], faithful_to="survey"), start=given["w_prev"])
    schedule.observe(val=given["eval_loss"])
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)
    runs = mx.Runs.from_arrays(names(k), np.eye(k), names(k).names, 1.0 - effects)  # from losses of 1 a run on i takes A_ij off
    law = mx.laws.Online.fit(runs, now=np.ones(k))
    schedule = mx.online(online_law(names(k), law, rate=given["eta"]), start=given["w_prev"])
    schedule.observe(val=given["eval_loss"])
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)


def test_one_step_of_an_unnormalised_aioli_law(vector):
    """With its A held fixed Aioli's step is that of an online law whose effects are no shares."""
    given, expected, tolerance = vector("aioli-unnormalised")
    drops = np.array(given["A_val_by_train"])
    runs = mx.Runs.from_arrays(names(3), np.eye(3), names(3).names, 2.0 - drops.T)
    law = mx.laws.Online.fit(runs, now=np.full(3, 2.0), relative=False)
    schedule = mx.online(online_law(names(3), law, rate=given["eta"]), start=given["w_prev"])
    schedule.observe(val=[2.0, 1.0, 3.0])
    assert schedule.w == pytest.approx(expected["w_new"], abs=tolerance)


def test_odm_as_trained(vector):
    given, expected, tolerance = vector("odm-official-group")
    schedule = mx.online(odm(names(3), alpha=given["alpha"], warmup=2000, faithful_to="code"), start=given["w_initial"])
    schedule.observe(step=1999, train=[9.0, 9.0, 9.0])  # in the warm-up nothing counts
    schedule.observe(step=2000, train=[9.0, 9.0, 9.0])
    assert schedule.w == pytest.approx(given["w_initial"], abs=1e-15)
    for update, p, rewards, share in zip(given["updates"], expected["p"], expected["R"], expected["eps"], strict=True):
        losses = {f"d{i}": loss for i, loss in update["mean_losses"].items()}
        counts = dict.fromkeys(losses, 1)
        schedule.observe(step=update["iteration"], train=losses, counts={"train": counts})
        memory = schedule.state_dict()["memory"]
        assert schedule.w == pytest.approx(p, abs=tolerance)
        assert memory["rewards"].numpy() == pytest.approx(rewards, abs=tolerance)
        assert memory["share"] == pytest.approx(share, abs=tolerance)


def test_ado_distribution(vector):
    """The state of the vector, and one step whose share keeps its history h as it is."""
    given, expected, tolerance = vector("ado-official-dist")
    prior, total = given["prior_mu"], given["n_seen_all_domains"]
    schedule = mx.online(ado(names(3), prior=prior, start=given["iteration"] + 600, context=1))
    state = schedule.state_dict()
    kept = {"law": given["scaling_params_log_beta_log_eps_alpha"], "mean": given["p_avg"], "share": given["history_h"]}
    state["memory"] |= {name: torch.tensor(value, dtype=torch.float64) for name, value in kept.items()}
    schedule.load_state_dict(state)
    schedule.observe(train=[3.0, 3.0, 3.0], share=given["history_h"], step=given["iteration"], tokens=total)
    memory = schedule.state_dict()["memory"]
    assert schedule.w == pytest.approx(expected["p_new"], abs=tolerance)
    assert memory["mean"].numpy() == pytest.approx(expected["p_avg_new"], abs=tolerance)


def test_ado_fit(vector):
    given, expected, tolerance = vector("ado-fit-0.3")
    n = np.arange(given["D_first"], given["D_last"] + 1, given["D_step"])
    a, e, alpha = as_in_code(n, np.exp(given["e"]) + np.exp(given["a"]) * n ** -given["alpha"])
    slope = alpha * np.exp(a) * n[-1] ** (-alpha - 1)
    assert slope == pytest.approx(expected["slope_at_end"], rel=tolerance)
    assert (a, e, alpha) == pytest.approx((expected["a"], expected["e"], expected["alpha"]), rel=10 * tolerance)


@pytest.mark.parametrize("name", ["simplex-projection-1", "simplex-projection-3"])
def test_projection_on_the_simplex(vector, name):
    """A Euclidean move of rate 1 from the middle, whose end before the projection is the point to be projected."""
    given, expected, tolerance = vector(name)
    problem = by_score(names(3), mx.losses(mx.model(), names(3))).problem
    schedule = mx.online(problem, mx.solvers.DescentAscent(rate=1.0, geometry="euclidean", average="last"))
    schedule.observe(train=np.array(given["y"]) - 1 / 3)
    assert schedule.w == pytest.approx(expected["p"], abs=tolerance)


BALANCED = {
    **{f"mgda-{n}": (MGDA(), "direction") for n in ("2task-orthogonal", "2task-vertex", "3task-general", "4task-mixed")},
    **{
        f"cagrad-{n}-c0.4": (CAGrad(0.4), "direction_rescale0")
        for n in ("2task-conflict", "2task-orthogonal", "3task-general", "4task-mixed")
    },
    "pcgrad-3task-order": (PCGrad((0, 1, 2)), "sum_natural"),
    "imtlg-2task-orthogonal": (IMTLG(), "direction"),
    "upgrad-2task-conflict": (UPGrad(), "direction"),
}


@pytest.mark.filterwarnings("ignore:the weights are collapsing")
@pytest.mark.parametrize("name", list(BALANCED))
def test_weights_by_a_gram_have_the_direction(vector, name):
    """A rule of gradient balancing by observed inner products: the weighted gradient points where the source's does."""
    given, expected, tolerance = vector(name)
    g = np.array(given["gradients"])
    rule, key = BALANCED[name]
    schedule = mx.online(mgda(names(len(g))).problem, mx.solvers.Balanced(rule))
    schedule.observe(gram=g @ g.T)
    mine, theirs = schedule.w @ g, np.array(expected[key])
    assert mine / np.linalg.norm(mine) == pytest.approx(theirs / np.linalg.norm(theirs), abs=2 * tolerance)
    assert schedule.w.min() >= 0


def test_weights_that_would_be_negative_are_the_nearest_mixture(vector):
    given, expected, tolerance = vector("imtlg-4task-mixed")
    g = np.array(given["gradients"])
    schedule = mx.online(mgda(names(4)).problem, mx.solvers.Balanced(IMTLG()))
    schedule.observe(gram=g @ g.T)
    clipped = np.clip(np.array(expected["weights"]) - 0.1609085179904245 / 3, 0, None)  # the negative weight spread over the others
    assert schedule.w == pytest.approx(clipped, abs=10 * tolerance)
