"""``mixopt run`` on one's own folders and model: what it writes, its units and targets, interruptions, and what it refuses."""

from __future__ import annotations

import io
import json
import math
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mixopt.cli import app
from mixopt.data.reading import Reading
from mixopt.errors import InputError
from mixopt.export import Blend
from mixopt.runs import Runs
from mixopt.study import search
from mixopt.study import study as studies
from mixopt.study.console import Screen
from mixopt.study.own import Asked, begun, run
from mixopt.study.report import _chosen, _sentence
from mixopt.study.verdict import Line

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "after", "it", "while", "rain", "fell", "over", "green", "hills")


def write(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))


@pytest.fixture(scope="module", autouse=True)
def _one_speed():
    """No measuring of this machine: it takes longer than the study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "speed", lambda *a: 1e9)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two domains, prose and code, and a validation set that is half of each."""
    root = tmp_path_factory.mktemp("own")
    draw = np.random.default_rng(0)
    prose = [" ".join(draw.choice(WORDS, 40)) for _ in range(120)]
    code = ["\n".join(f"x{draw.integers(9)} = f(x{draw.integers(9)})" for _ in range(15)) for _ in range(120)]
    write(root / "data" / "prose" / "a.jsonl", prose[:100])
    write(root / "data" / "code" / "a.jsonl", code[:100])
    write(root / "both" / "v.jsonl", prose[100:] + code[100:])
    return root


def asked(folder, out, **changes):
    sizes = {"proxies": 8, "proxy_steps": 5, "target_steps": 6, "seeds": 2, "batch": 4, "context": 16, "minutes": 1e4}
    settings = {"sets": {"both": str(folder / "both")}, **sizes, **changes}
    return Asked(data=str(folder / "data"), out=str(out), **settings)


def quiet() -> Screen:
    return Screen(Console(file=io.StringIO(), width=100, highlight=False))


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, run(asked(folder, out), quiet(), command="a test")


def test_it_leaves_a_report_a_mixture_and_the_runs(finished):
    out, outcome = finished
    for name in ("report.html", "report.md", "report.json", "mixture.json", "weights.json", "runs.csv", "table.json"):
        assert (out / name).stat().st_size > 0
    blend = Blend.load(out / "mixture.json")
    assert blend.weights == pytest.approx(dict(zip(("code", "prose"), outcome.mixtures[outcome.lines["mean"][0].name], strict=True)))
    assert blend.tokens is not None
    runs = Runs.from_csv(out / "runs.csv")
    assert len(runs) == 8
    assert runs.targets.names == ("code", "prose", "both")
    assert set(outcome.lines) == {"mean", "both"}
    assert {f.label for f in outcome.found} == {"law (mean)", "law (both)", "DoReMi", "DoGE (mean)", "DoGE (both)"}


def test_the_report_shows_both_units_and_what_made_it(finished):
    out, _ = finished
    made = json.loads((out / "report.json").read_text())
    rows = {(p["target"], p["unit"]): p["values"] for p in made["predictions"]}
    bits, nats = rows["prose", "bits per byte"], rows["prose", "nats per token"]
    assert bits["uniform"] == pytest.approx(nats["uniform"] / math.log(2), rel=0.02)  # tokens are bytes, but for the ends of documents
    assert made["provenance"]["command"] == "a test"
    assert made["verdicts"][0]["sentences"]
    assert "repetition" in (out / "report.html").read_text()


class Interrupted(Screen):
    """A screen at which Ctrl-C is pressed once so many words of progress were told."""

    def __init__(self, after):
        super().__init__(Console(file=io.StringIO(), width=100, highlight=False))
        self.left = after

    @contextmanager
    def stage(self, name, seconds):
        with super().stage(name, seconds) as tell:

            def told(share):
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
                tell(share)

            yield told


@pytest.mark.parametrize("after", [1, 3, 4, 6, 8, 12])
def test_interrupted_anywhere_and_begun_again_it_ends_with_the_same_result(folder, finished, tmp_path, monkeypatch, after):
    whole, _ = finished
    monkeypatch.setattr(studies, "draw", lambda *a: None)
    screen = Interrupted(after)
    try:
        run(asked(folder, tmp_path), screen)
    except KeyboardInterrupt:
        assert not (tmp_path / "mixture.json").exists()
        run(asked(folder, tmp_path), quiet())
    first, second = (json.loads((f / "table.json").read_text()) for f in (whole, tmp_path))
    for table in (first, second):
        for target in table["targets"].values():
            for line in target["lines"]:
                line.pop("cost")
        for mixture in table["mixtures"]:
            mixture.pop("cost")
    assert second == first


def test_the_interruptions_above_fall_into_the_study(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "draw", lambda *a: None)
    screen = Interrupted(10**9)
    run(asked(folder, tmp_path), screen)
    assert 10**9 - screen.left > 14


def test_several_objectives_and_their_shares(folder, tmp_path):
    wished = asked(folder, tmp_path, objectives=("mostly:prose=3,both=1", "code"), seeds=0, methods=("law",))
    study, again = begun(wished, quiet())
    assert not again
    assert [(t.name, dict(t.weights)) for t in study.data.targets] == [("mostly", {"prose": 0.75, "both": 0.25}), ("code", {"code": 1.0})]
    outcome = run(wished, quiet())
    assert not outcome.lines
    assert {f.label for f in outcome.found} == {"law (mostly)", "law (code)"}
    said = (tmp_path / "report.md").read_text()
    assert "predicted by proxies, not measured" in said


def test_a_set_named_as_a_domain_takes_the_place_of_its_held_out_part(folder, tmp_path):
    write(tmp_path / "own.jsonl", ["ab " * 50] * 20)
    study, _ = begun(asked(folder, tmp_path / "out", sets={"prose": str(tmp_path / "own.jsonl")}), quiet())
    assert study.data.names == ("code", "prose")
    assert [t.name for t in study.data.targets] == ["mean"]
    assert bytes(study.data.test.part("prose")[:6].tolist()) == b"ab ab "


def test_the_whole_of_run_on_a_hugging_face_model_from_disk(folder, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    model = tmp_path / "model"
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([" ".join(WORDS)] * 10, trainer)
    model.mkdir()
    bpe.save(str(model / "tokenizer.json"))
    transformers.LlamaConfig(
        vocab_size=bpe.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
    ).save_pretrained(model)
    options = ["--proxies", "8", "--proxy-steps", "4", "--target-steps", "5", "--seeds", "2", "--batch", "4", "--context", "16"]
    places = ["--data", str(folder / "data"), "--out", str(tmp_path / "out"), "--model", f"hf:{model}", "--minutes", "1000"]
    monkeypatch.setattr(sys, "argv", ["mixopt", "run", *places, *options, "--json"])
    result = CliRunner().invoke(app, sys.argv[1:])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert sum(answer["weights"].values()) == pytest.approx(1)
    assert {line["name"] for line in answer["targets"]["mean"]} >= {"uniform", "law (mean)", "DoReMi"}
    counted = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {p["unit"] for p in counted["predictions"]} == {"bits per byte", "nats per token"}
    assert "mixopt run --data" in counted["provenance"]["command"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ("law", "dogee")}, "no method 'dogee'.*did you mean 'doge'"),
        ({"objectives": ("prosa",)}, "no objective 'prosa'.*did you mean 'prose'"),
        ({"objectives": ("a:prose=x",)}, "is not name=share"),
        ({"objectives": ("a:prosa=1",)}, "no measured set.*'prosa'"),
        ({"seeds": 1}, "1 seeds give no interval"),
        ({"context": 0}, "context is 0"),
        ({"unit": "bits"}, "the unit is 'bits'"),
        ({"context": 4000}, "a window takes 4001 tokens"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"sets": {"gone": "nowhere"}}, "nowhere"),
        ({"model": "hf:nowhere"}, r"holds no config\.json"),
    ],
)
def test_what_does_not_fit_is_told_before_any_model_is_trained(folder, tmp_path, monkeypatch, changes, said):
    monkeypatch.setattr(search, "train", lambda *a, **k: pytest.fail("a model was trained"))
    with pytest.raises(InputError, match=said):
        run(asked(folder, tmp_path, **changes), quiet())


def test_another_study_in_the_folder_is_refused_and_fresh_begins_anew(folder, finished):
    out, _ = finished
    before = (out / "table.json").read_bytes()
    with pytest.raises(InputError, match=r"holds another study.*--fresh"):
        run(replace(asked(folder, out), proxies=9), quiet())
    assert (out / "table.json").read_bytes() == before


def test_tokens_without_a_tokenizer_have_no_bits_per_byte(folder, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / "arrays").mkdir(exist_ok=True)
        np.save(tmp_path / "arrays" / f"{name}.npy", np.random.default_rng(seed).integers(0, 50, 4000).astype(np.uint16))
    wished = replace(asked(folder, tmp_path / "out", sets={}), data=str(tmp_path / "arrays"), reading=Reading(eos=0))
    study, _ = begun(wished, quiet())
    assert study.data.unit == "nats per token"
    with pytest.raises(InputError, match=r"give --tokenizer, or --unit nats"):
        begun(replace(wished, out=str(tmp_path / "other"), unit="bits per byte"), quiet())


def test_the_sentence_says_when_uniform_would_do():
    def line(name, low, high, method=True):
        return Line(name, method, 2.0, (low + high) / 2, low, high, "a", 2.5, 1.0, 0.0)

    weights = {"a": 0.5, "b": 0.5}
    assert "nothing that was found did better" in _sentence("nats per token", weights, line("uniform", 0, 0, False))
    assert "uniform weights would do as well" in _sentence("nats per token", weights, line("law", -0.2, 0.1))
    assert "uniform weights" not in _sentence("nats per token", weights, line("law", -0.2, -0.1))


def test_a_mixture_over_the_cap_is_not_recommended():
    lines = [Line(n, True, loss, 0.0, -1.0, 1.0, "a", 2.5, epochs, 0.0) for n, loss, epochs in (("best", 1.0, 5.0), ("next", 1.1, 4.0))]
    assert _chosen(lines, 4.0).name == "next"
    assert _chosen(lines, 5.0).name == "best"
    assert _chosen(lines, 1.0).name == "best"
    assert _chosen([], 4.0) is None


def test_changed_data_are_refused_in_the_same_folder_and_fresh_reads_them_anew(folder, tmp_path):
    write(tmp_path / "data" / "a" / "x.jsonl", ["one two three " * 30] * 40)
    write(tmp_path / "data" / "b" / "x.jsonl", ["four five six " * 30] * 40)
    wished = replace(asked(folder, tmp_path / "out", sets={}, methods=("law",), seeds=0, proxies=6), data=str(tmp_path / "data"))
    run(wished, quiet())
    write(tmp_path / "data" / "b" / "x.jsonl", ["seven eight nine " * 30] * 50)
    with pytest.raises(InputError, match=r"fresh"):
        run(wished, quiet())
    outcome = run(wished, quiet(), fresh=True)
    assert outcome.report is not None
    assert set(outcome.report.tokens) == {"a", "b"}
