"""How far a law may be trusted: warnings far from the runs, and laws of size at the size of the run that is planned."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mixopt as mx
from mixopt.errors import InputError
from mixopt.fitting.flags import requested
from mixopt.laws import Chinchilla, Exponential, ExtrapolationWarning, Planned, cross_validate, load
from mixopt.laws.extent import far, strange_share, strange_times
from mixopt.laws.named import fitter
from mixopt.laws.validation import predicted_at
from mixopt.runs import Runs

A = np.array([[-1.0, 0.6, 0.2], [0.5, -2.0, 0.4]])
NAMES = ["web", "code", "books"]
SIZED = "c + exp(A @ w) + b*D**-0.3"


def sized(rows: int = 40, noise: float = 0.0) -> Runs:
    rng = np.random.default_rng(0)
    w, tokens = rng.dirichlet(np.ones(3), rows), rng.uniform(1e9, 1e10, rows)
    y = 1.5 + np.exp(w @ A.T) + 200 * tokens[:, None] ** -0.3 + noise * rng.normal(size=(rows, 2))
    return Runs.from_arrays(NAMES, w, ["chat", "python"], y, tokens=tokens)


def test_a_prediction_far_from_the_runs_warns_and_one_near_them_does_not():
    rng = np.random.default_rng(0)
    w = 0.5 * rng.dirichlet(np.ones(3), 30) + 0.5 / 3  # at most two thirds of one domain
    law = Exponential.fit(Runs.from_arrays(NAMES, w, ["chat"], np.exp(w @ A[:1].T)))
    law.predict(w)
    law.predict([0.8, 0.1, 0.1])
    np.testing.assert_allclose(strange_share(law, np.eye(3)), 1 - law.seen)
    with pytest.warns(ExtrapolationWarning, match=r"'code' has weight 1, and at most 0\.\d+ in any run"):
        found = law.predict([0, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(law.predicted([0, 1, 0]), found)
    assert far(law, w, {}) == ""


def test_sizes_ten_times_outside_those_of_the_runs_warn():
    runs = sized()
    law = fitter(SIZED)(runs)
    assert runs.tokens is not None
    assert law.fitted.scales == {"tokens": (runs.tokens.min(), runs.tokens.max())}
    law.predict(runs.mixtures, tokens=5 * runs.tokens.max())
    assert strange_times(law, "tokens", np.array([1e9, 3 * runs.tokens.max()])) == pytest.approx(3)
    assert strange_times(law, "tokens", np.array(runs.tokens.min() / 4)) == pytest.approx(4)
    assert strange_times(law, "params", np.array(1.0)) == 1
    with pytest.warns(ExtrapolationWarning, match=r"training tokens D are 20 times outside those of the runs"):
        law.predict(runs.mixtures[0], tokens=20 * runs.tokens.max())


def test_a_planned_law_is_the_law_at_its_size(tmp_path):
    runs = sized()
    law = fitter(SIZED)(runs)
    found = Planned.of(law, tokens=5e9, params=1e9)
    assert isinstance(found, Planned)
    assert found.size == {"tokens": 5e9}
    assert found.requires == ()
    np.testing.assert_allclose(found.predict(runs.mixtures), law.predict(runs.mixtures, tokens=5e9))
    np.testing.assert_allclose(predicted_at(found, runs), predicted_at(law, runs))
    symbol = mx.Mixture(runs.domains)
    best = mx.solve(mx.minimize(mx.mean(found.losses(symbol)), over=symbol), solver=mx.solvers.Conic())
    assert best.value == pytest.approx(found.predict(best.vector).mean(), abs=1e-8)
    one = mx.solve(mx.minimize(found.loss_of(0, symbol), over=symbol), solver=mx.solvers.Conic())
    assert one.value == pytest.approx(found.predicted(np.eye(3))[:, 0].min(), abs=1e-6)
    found.save(tmp_path / "law.json")
    back = load(tmp_path / "law.json")
    np.testing.assert_array_equal(back.predict(runs.mixtures), found.predict(runs.mixtures))
    assert back.fitted.scales == found.fitted.scales
    assert back.report().endswith("taken at tokens 5e+09")
    plain = Exponential.fit(runs)
    assert Planned.of(plain, tokens=1e9) is plain
    with pytest.raises(InputError, match=r"depends on .*training tokens"):
        Planned.of(law, params=1e9)
    with pytest.raises(InputError, match=r"taken at tokens 5e.09, so tokens cannot be given"):
        found.losses(symbol, tokens=1e9)


def test_recommend_takes_a_law_of_size_at_the_size_of_the_run_planned():
    runs = sized(noise=0.01)
    found = mx.fitting.recommend(runs, law=SIZED, target_tokens=2e10)
    assert isinstance(found.law, Planned)
    assert found.fitted.question.value(found.fitted.vector) == pytest.approx(found.law.law.predict(found.fitted.vector, tokens=2e10).mean())
    assert found.result.status is mx.Status.OPTIMAL
    assert not any("far outside the sizes" in doubt for doubt in found.doubts)
    checked = cross_validate(runs, law=fitter(SIZED))
    np.testing.assert_allclose(found.validation.predicted, checked.predicted)  # at the sizes of the runs, not at the one planned
    spans = found.doubt.intervals(runs, found.fitted.question.objective)
    assert (spans[:, 1] - spans[:, 0]).max() < 0.3
    with pytest.raises(InputError, match=r"depends on .*give those of the run planned, target_tokens= \(--target-tokens\)"):
        mx.fitting.recommend(runs, law=SIZED)


def test_a_run_planned_far_beyond_the_runs_is_doubted_and_the_budget_is_its_tokens():
    found = mx.fitting.recommend(sized(noise=0.01), law=SIZED, budget=1e12)
    assert found.law.size == {"tokens": 1e12}
    assert any("far outside the sizes of the runs" in doubt and "times in training tokens D" in doubt for doubt in found.doubts)
    plain = mx.fitting.recommend(sized(noise=0.01), law="exponential", target_size=7e9)
    assert any("makes no difference" in note for note in plain.notes)


def test_the_command_takes_the_run_planned(tmp_path):
    runs = sized(noise=0.01)
    head = "id,web,code,books,tokens"
    rows = [",".join(map(str, (i, *w, d))) for i, (w, d) in enumerate(zip(runs.mixtures, runs.tokens, strict=True))]
    (tmp_path / "a.csv").write_text("\n".join([head, *rows]) + "\n")
    rows = [",".join(map(str, (i, *y))) for i, y in enumerate(runs.metrics)]
    (tmp_path / "b.csv").write_text("\n".join(["id,chat,python", *rows]) + "\n")
    flags = {
        "mixtures": str(tmp_path / "a.csv"),
        "losses": str(tmp_path / "b.csv"),
        "law": SIZED,
        "target_tokens": "2e10",
        "direction": ["min"],
    }
    found = requested(flags).recommend()
    assert isinstance(found.law, Planned)
    assert found.law.size == {"tokens": 2e10}
    with pytest.raises(InputError, match="--target-size: 'big' is not a number"):
        requested(flags | {"target_size": "big"})


def test_a_law_of_parameters_and_tokens_is_planned_too():
    rng = np.random.default_rng(0)
    n, d = rng.uniform(1e7, 1e9, 60), rng.uniform(1e9, 1e11, 60)
    y = 1.7 + 400 * n**-0.34 + 410 * d**-0.28
    runs = Runs.from_arrays(NAMES, rng.dirichlet(np.ones(3), 60), ["loss"], y[:, None], params=n, tokens=d)
    law = Chinchilla.fit(runs)
    assert set(law.fitted.scales) == {"params", "tokens"}
    found = Planned.of(law, params=7e9, tokens=1e12)
    assert found.predict([1 / 3] * 3)[0] == pytest.approx(1.7 + 400 * 7e9**-0.34 + 410 * 1e12**-0.28, rel=1e-3)
