"""Scores: predictions of a mixture beside the recommended one, from a fit at hand or from its folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mixopt.errors import InputError
from mixopt.export import Blend, Stage
from mixopt.fitting import Fitted, recommend, score
from mixopt.fitting.read import renamed, study
from mixopt.runs import Runs

TOKENS = {"web": 6e11, "code": 2e11, "books": 5e10, "maths": 4e11}
MINE = {"web": 0.5, "code": 0.1, "books": 0.2, "maths": 0.2}


@pytest.fixture(scope="module")
def found(table):
    limits = {"kl": 0.05, "tokens": TOKENS, "budget": 1e12, "cap": 2, "at_least": {"web": 0.3}}
    return recommend(table(up=("python",), noise=0.02), families={"text": ["chat", "novels"]}, **limits)


def test_a_score_is_the_law_at_the_mixture(found):
    judged = score(found.fitted, MINE, found.runs)
    w = np.array(list(MINE.values()))
    np.testing.assert_allclose(judged.predicted, found.law.predict(w))
    np.testing.assert_allclose(judged.recommended, found.law.predict(found.fitted.vector))
    loss = [found.fitted.question.objective.loss(p) for p in (judged.predicted, judged.recommended)]
    assert judged.gap == pytest.approx(loss[0] - loss[1])
    assert judged.within == (abs(judged.gap) <= found.fitted.noise.value)
    assert judged.broken == pytest.approx({"repetition of books": 0.1})
    assert judged.epochs == pytest.approx({"web": 0.5e12 / 6e11, "code": 0.5, "books": 4, "maths": 0.5})
    assert "It breaks 'repetition of books' by 10 % of the data." in judged.remarks
    text = str(judged)
    assert "worse than the recommended mixture's" in text.splitlines()[0]
    assert "books    4.00" in text
    json.dumps(judged.record() | {"remarks": list(judged.remarks)})


def test_the_recommended_mixture_scores_as_itself(found):
    judged = score(found.fitted, found.blend(), found.runs)
    assert judged.gap == pytest.approx(0, abs=1e-12)
    assert judged.within
    assert judged.broken == {}
    assert ", as the recommended mixture's" in judged.sentence
    assert judged.extent.hull == pytest.approx(found.extent.hull, abs=1e-6)


def test_domains_that_are_not_named_count_as_none_and_are_told(found):
    judged = score(found.fitted, {"code": 1.0})
    assert judged.weights["web"] == 0
    assert "does not name (web, books, maths), which count as 0" in " ".join(judged.remarks)
    assert "code at 100 % is beyond any run" in " ".join(judged.remarks)
    assert judged.extent is None
    assert set(judged.broken) == {"at least 0.3 web", "repetition of code"}


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"web": 0.5, "cod": 0.5}, r"\(cod\) of the mixture match no domain: .*did you mean 'code'"),
        ({"web": 0.5, "code": 0.2}, "weights sum to 0.7"),
        ({"web": 1.5, "code": -0.5}, "weight of 'code' is -0.5"),
    ],
    ids=str,
)
def test_what_is_no_mixture_of_these_domains_is_refused(found, mixture, message):
    with pytest.raises(InputError, match=message):
        score(found.fitted, mixture)


def test_a_mixture_in_stages_is_refused(found):
    blend = Blend(MINE, budget=1e12)
    later = Blend(MINE, budget=1e12, stages=(Stage(5e11, {"web": 1.0}),))
    assert score(found.fitted, blend).weights == pytest.approx(MINE)
    with pytest.raises(InputError, match="the mixture has 2 stages"):
        score(found.fitted, later)


def test_shares_of_examples_are_scored_as_shares_of_tokens(found):
    blend = Blend(dict.fromkeys(MINE, 0.25), unit="example", tokens_per_example={"web": 1, "code": 1, "books": 2, "maths": 4})
    assert score(found.fitted, blend).weights == pytest.approx({"web": 1 / 8, "code": 1 / 8, "books": 2 / 8, "maths": 4 / 8})


def test_a_fit_is_read_back_and_scores_the_same(found, tmp_path):
    found.fitted.save(tmp_path)
    found.runs.to_csv(tmp_path / "runs.csv")
    fitted, runs = study(tmp_path)
    assert runs.ids == found.runs.ids
    one, two = score(found.fitted, MINE, found.runs), score(fitted, MINE, runs)
    assert str(two) == str(one)
    assert two.record()["predictions"] == pytest.approx(one.record()["predictions"])
    assert fitted.question.objective.groups == ("text", "python")
    assert fitted.noise.how == found.fitted.noise.how
    (tmp_path / "runs.csv").unlink()
    assert study(tmp_path)[1] is None


def test_a_relative_worst_is_read_back_too(table, tmp_path):
    found = recommend(table(), objective="max-relative", fix={"web": 0.2})
    found.fitted.save(tmp_path)
    assert score(Fitted.load(tmp_path), MINE).record() == score(found.fitted, MINE).record()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.replace("fit 1", "fit 0"), "is not as mixopt fit writes it"),
        (lambda t: t[:100], "holds no fit that can be read"),
        (lambda t: t.replace('"noise"', '"nois"'), "was changed or is cut"),
        (lambda t: t.replace('"groups": [', '"groups": ["x",'), "was changed or is cut: shares have shape"),
    ],
)
def test_a_folder_without_a_whole_fit_is_refused(found, tmp_path, spoil, message):
    found.fitted.save(tmp_path)
    path = tmp_path / "fit.json"
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError, match=message):
        Fitted.load(tmp_path)
    with pytest.raises(InputError, match="holds no fit that can be read"):
        Fitted.load(tmp_path / "none")


def test_names_of_the_table_are_known_to_scores(tmp_path):
    rng = np.random.default_rng(0)
    w = rng.dirichlet(np.ones(3), 30)
    y = 1 + np.exp(w @ [[-1.0], [0.5], [0.2]])
    (tmp_path / "w.csv").write_text("index,train_a,train_b,train_c\n" + "".join(f"{i},{r[0]},{r[1]},{r[2]}\n" for i, r in enumerate(w)))
    (tmp_path / "y.csv").write_text("index,metric/l_val_loss\n" + "".join(f"{i},{v[0]}\n" for i, v in enumerate(y)))
    runs = Runs.from_csv(tmp_path / "w.csv", tmp_path / "y.csv")
    assert renamed(runs) == ("3 columns train_NAME -> NAME", "1 column metric/NAME_val_loss -> NAME")
    found = recommend(runs, kl=0.1, prior={"train_a": 0.5, "train_b": 0.25, "train_c": 0.25})
    found.fitted.save(tmp_path)
    assert score(Fitted.load(tmp_path), {"train_a": 0.5, "b": 0.5}).weights == {"a": 0.5, "b": 0.5, "c": 0.0}
