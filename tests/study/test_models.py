"""Factories: Hugging Face folders with and without weights, Python functions, and what does not fit told before any work."""

from __future__ import annotations

import pytest
import torch

from mixopt.errors import InputError
from mixopt.runtime.ensemble import Recipe, train
from mixopt.runtime.streams import Streams
from mixopt.study.models import Models, factory, has_weights, small_gpts

OWN = """
from torch import nn
import torch

class Table(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.table = nn.Embedding(vocabulary, vocabulary)

    def forward(self, tokens):
        return self.table(tokens)

def table(vocabulary):
    return Table(vocabulary)

def greedy(width):
    return Table(width)

def number():
    return 3

def narrow(seed):
    return Table(5)

answer = 42
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=260,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    folder = tmp_path_factory.mktemp("llama")
    config.save_pretrained(folder / "new")
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "trained")
    transformers.utils.logging.enable_progress_bar()
    return folder, model


def test_a_configuration_alone_gives_new_models_by_seed(llama):
    folder, _ = llama
    make = factory(f"hf:{folder / 'new'}", vocabulary=257, context=16)
    first, again, other = (make(s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.values(), again.values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.values(), other.values(), strict=True))
    assert not has_weights(f"hf:{folder / 'new'}")


def test_a_folder_with_weights_goes_on_from_them_whatever_the_seed(llama):
    folder, model = llama
    make = factory(f"hf:{folder / 'trained'}", vocabulary=257, context=16)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        expected = model.eval()(input_ids=tokens).logits
        for seed in (0, 3):
            torch.testing.assert_close(make(seed)(tokens), expected, rtol=1e-4, atol=1e-5)
    assert has_weights(f"hf:{folder / 'trained'}")


def test_models_of_one_factory_are_apart(llama):
    folder, _ = llama
    make = factory(f"hf:{folder / 'trained'}", vocabulary=257, context=16)
    first, second = make(0), make(0)
    with torch.no_grad():
        next(first.parameters()).add_(1)
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_a_hugging_face_model_is_trained_as_an_ensemble(llama):
    folder, _ = llama
    make = factory(f"hf:{folder / 'new'}", vocabulary=7, context=16)
    streams = Streams({"up": torch.arange(300) % 7, "down": -torch.arange(300) % 7}, 16)
    trained = train(make, [[1.0, 0.0], [0.0, 1.0]], streams, Recipe(steps=40, batch=4, rate=1e-2), seeds=[0, 0], data_seed=0)
    losses = trained.losses(streams.fixed(4))
    assert losses[0, 0] < losses[0, 1]
    assert losses[1, 1] < losses[1, 0]


def test_a_python_function_is_given_what_it_takes(own):
    make = factory(f"{own}:table", vocabulary=11, context=4)
    assert make(0)(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 11)
    assert torch.equal(make(2).table.weight, make(2).table.weight)
    assert not torch.equal(make(2).table.weight, make(3).table.weight)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tabel", r"has no 'tabel'.*did you mean 'table'"),
        ("greedy", r"asks for \(width\)"),
        ("number", "made a int, not a torch.nn.Module"),
        ("answer", "not a function"),
        ("narrow", r"has logits for 5 tokens, but the data's vocabulary is 9"),
    ],
)
def test_what_is_no_model_is_told(own, name, said):
    with pytest.raises(InputError, match=said):
        factory(f"{own}:{name}", vocabulary=9, context=4)


def test_files_and_folders_that_are_not_there_are_told(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*gone\.py"):
        factory(f"{tmp_path / 'gone.py'}:model", vocabulary=9, context=4)
    with pytest.raises(InputError, match=r"holds no config\.json; give the folder that model\.save_pretrained"):
        factory(f"hf:{tmp_path}", vocabulary=9, context=4)


def test_a_context_that_the_model_refuses_is_told(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, n_positions=8, bos_token_id=0, eos_token_id=0)
    config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="fails on a window of 16 tokens"):
        factory(f"hf:{tmp_path}", vocabulary=9, context=16)


def test_models_count_their_parameters():
    models = small_gpts(8, 16, vocabulary=10, context=4)
    assert isinstance(models, Models)
    assert models.proxy_parameters == sum(p.numel() for p in models.proxy(0).parameters())
    assert models.target_parameters > models.proxy_parameters
