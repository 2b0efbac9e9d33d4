"""Rules on losses: closed answers, what they remember, and what they refuse; MFTCoder's normalisations on a batch by hand."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.balancing import FAMO, IMTLL, CoBa, Static, mftcoder_weights


def test_famo_shifts_weight_to_what_falls_least():
    rule = FAMO(gamma=0.0)
    memory = rule.begin(3)
    for _ in range(200):
        memory = rule.after(memory, np.array([2.0, 2.0, 2.0]), np.array([1.9, 1.99, 1.0]))
    assert memory.weights.argmax() == 1
    assert memory.weights.argmin() == 2
    assert memory.weights.sum() == pytest.approx(1)


def test_famo_decays_to_uniform_where_all_fall_alike():
    rule = FAMO(gamma=1.0)
    memory = rule.begin(2)
    for _ in range(50):
        memory = rule.after(memory, np.array([2.0, 2.0]), np.array([1.0, 1.9]))
    apart = np.ptp(memory.weights)
    for _ in range(3000):
        memory = rule.after(memory, np.array([2.0, 2.0]), np.array([1.0, 1.0]))
    assert np.ptp(memory.weights) < 0.01 < apart


def test_famo_counts_from_its_least_losses():
    found, _ = FAMO(min_losses=(1.0, 0.0)).direction(FAMO().begin(2), np.array([2.0, 2.0]), np.empty(0))
    assert found.coefficients == pytest.approx([2 / 3, 1 / 3])
    assert found.inner == pytest.approx([0.5, 0.5])


def test_imtl_l_reaches_its_stationary_scales():
    losses, rule = np.array([2.0, 0.5, 1.0]), IMTLL(rate=0.2)
    scales = rule.begin(3)
    for _ in range(300):
        found, scales = rule.direction(scales, losses, losses)
    assert found.coefficients * losses == pytest.approx(np.ones(3))
    assert IMTLL(rate=None).direction(rule.begin(3), losses, losses)[0].coefficients == pytest.approx(1 / losses)


def test_coba_gives_a_task_that_diverges_less():
    """Two tasks converge; the third turns and rises: its weight falls below the others' once its slope shows."""
    rule = CoBa(warmup=4, history=8)
    memory = rule.begin(3)
    third = [1.0, 0.9, 0.85, 0.85, 0.9, 1.0, 1.1, 1.2, 1.3]
    for t, late in enumerate(third):
        watched = np.array([2.0 - 0.05 * t, 3.0 - 0.1 * t, 4 * late])
        found, memory = rule.direction(memory, watched, watched)
        assert found.simplex
    assert found.coefficients.argmin() == 2
    assert memory.losses.shape == (8, 3), "no more of the course than the history is kept"
    assert memory.scores["divergence"] < 1


def test_coba_keeps_a_floor():
    rule = CoBa(warmup=2, history=2, tau=1.0)
    memory = rule.begin(2)
    for watched in ([1.0, 1.0], [0.1, 1.0]):
        found, memory = rule.direction(memory, np.array(watched), np.array(watched))
    assert found.coefficients.min() >= 1 / 20
    assert found.simplex


def test_the_slopes_that_coba_looks_at():
    """The paper's window is the history; the released code's is shorter by the warm-up."""
    course = np.random.default_rng(0).uniform(1, 2, (12, 3))
    kept = {}
    for slopes in ("code", "paper"):
        rule = CoBa(warmup=3, history=5, slopes=slopes)
        memory = rule.begin(3)
        for watched in course:
            _, memory = rule.direction(memory, watched, watched)
        kept[slopes] = len(memory.tasks)
    assert kept == {"code": 3, "paper": 5}


def test_losses_that_stand_still_leave_coba_uniform():
    rule = CoBa(warmup=2, history=4)
    memory = rule.begin(4)
    for _ in range(6):
        found, memory = rule.direction(memory, np.ones(4), np.ones(4))
    assert found.coefficients == pytest.approx([0.25] * 4)


TOKEN_LOSSES = {"a": [[1.0, 3.0], [2.0]], "b": [[4.0, 4.0, 1.0]], "c": []}
"""By task, the samples of one batch, each a list of token losses."""


def test_mftcoders_cases_are_weights_of_the_tasks_means():
    tasks = [TOKEN_LOSSES[name] for name in "abc"]
    tokens, samples = [sum(map(len, task)) for task in tasks], [len(task) for task in tasks]
    flat = [x for task in tasks for sample in task for x in sample]
    by_sample = [np.mean(sample) for task in tasks for sample in task]
    token_means = np.array([np.mean([x for sample in task for x in sample]) if task else 0.0 for task in tasks])
    sample_means = np.array([np.mean([np.mean(sample) for sample in task]) if task else 0.0 for task in tasks])
    counts = {"tokens": tokens, "samples": samples}
    assert mftcoder_weights(1, **counts) @ token_means == pytest.approx(np.mean(flat))
    assert mftcoder_weights(2, **counts) @ sample_means == pytest.approx(np.mean(by_sample))
    assert mftcoder_weights(3, **counts).tolist() == mftcoder_weights(4, **counts).tolist() == [0.5, 0.5, 0.0]
    assert mftcoder_weights(3, **counts, weights=[3, 1, 9]) == pytest.approx([0.75, 0.25, 0.0])


def test_static_weights_are_brought_to_sum_one():
    found, _ = Static([1, 3]).direction(Static([1, 3]).begin(2), np.ones(2), np.ones(2))
    assert found.coefficients.tolist() == [0.25, 0.75]
    assert Static().begin(4).tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FAMO(rate=0), "the rate of the logits is 0; it is a finite number > 0"),
        (lambda: FAMO(gamma=-1), "gamma is -1"),
        (lambda: FAMO(betas=(0.9, 1.0)), r"the betas are \(0.9, 1.0\)"),
        (lambda: FAMO(min_losses=(0.0,)).begin(2), "there are 1 min_losses for 2 domains"),
        (
            lambda: FAMO(min_losses=3.0).direction(FAMO().begin(2), np.array([4.0, 2.0]), np.empty(0)),
            "the loss at 1 is 2, not above its min_loss",
        ),
        (lambda: IMTLL(rate=-1), "the rate is -1; it is a finite number > 0, or None"),
        (lambda: IMTLL(watch="val"), "it watches no others"),
        (lambda: IMTLL().direction(np.zeros(2), np.array([1.0, 0.0]), np.empty(0)), "a loss is 0; IMTL-L scales losses > 0"),
        (lambda: CoBa(warmup=1), "the warm-up is 1 steps; a slope needs 2"),
        (lambda: CoBa(warmup=100, history=50), "the history of 50 steps is shorter than the warm-up of 100"),
        (lambda: CoBa(tau=0), "tau is 0"),
        (lambda: CoBa(slopes="survey"), "slopes is 'survey'"),
        (lambda: CoBa().direction(CoBa().begin(2), np.ones(2), np.zeros(2)), "a validation loss is 0 at the start; CoBa divides by it"),
        (lambda: Static([0.5, -0.5]), "none is negative"),
        (lambda: Static([1.0]).begin(2), "there are 1 weights for 2 domains"),
        (lambda: mftcoder_weights(5, tokens=[1], samples=[1]), "the case is 5; the cases are 1"),
        (lambda: mftcoder_weights(3, tokens=[1, 2], samples=[1]), "are one number a task"),
        (lambda: mftcoder_weights(1, tokens=[-1], samples=[1]), "a count or a weight is negative"),
        (lambda: mftcoder_weights(3, tokens=[0], samples=[0]), "nothing in the batch has weight"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(mx.InputError, match=message):
        make()
