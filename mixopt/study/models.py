"""The models of a study: our small GPT, a Hugging Face causal model from disk, or whatever a Python function makes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from mixopt.errors import InputError, MissingExtraError, listed
from mixopt.runtime.gpt import GPT, parameter_count
from mixopt.usercode import load, told

Factory = Callable[[int], nn.Module]
"""A model from a seed: tokens [b, t] -> logits [b, t, vocabulary]."""

LAYERS = 2


@final
@dataclass(frozen=True)
class Models:
    """A study's proxy and target models, from a seed each; ``rate`` is the peak learning rate of AdamW, ``name`` says what they are."""

    name: str
    proxy: Factory
    target: Factory
    proxy_parameters: int
    target_parameters: int
    rate: float = 1e-2

    @staticmethod
    def of(name: str, proxy: Factory, target: Factory, rate: float = 1e-2) -> Models:
        """Models whose parameters are counted by making one of each."""
        return Models(name, proxy, target, parameter_count(proxy(0)), parameter_count(target(0)), rate)


def small_gpts(proxy_width: int, target_width: int, vocabulary: int = 256, context: int = 64) -> Models:
    """Our GPT at two widths, two layers each."""

    def of(width: int) -> Factory:
        return partial(small_gpt, vocabulary, context, width)

    return Models.of(f"GPT of widths {proxy_width} and {target_width}", of(proxy_width), of(target_width))


def small_gpt(vocabulary: int, context: int, width: int, seed: int) -> nn.Module:
    """Our GPT of a width, two layers."""
    return GPT(vocabulary=vocabulary, context=context, width=width, layers=LAYERS, seed=seed)


@final
class Causal(nn.Module):
    """A Hugging Face causal model as a map from tokens [b, t] to logits [b, t, vocabulary], without cache or dropout."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.eval()

    def train(self, mode: bool = True) -> Causal:
        """Dropout stays off: the runs of an ensemble share one program, and a mixture is not judged by noise."""
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [b, t] -> logits [b, t, vocabulary]."""
        return self.model(input_ids=tokens, use_cache=False).logits


def factory(spec: str, *, vocabulary: int, context: int) -> Factory:
    """The factory that ``hf:PATH``, ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION`` names.

    A Hugging Face folder with weights gives models that go on from them, whatever the seed; one with a configuration alone
    gives new ones from the seed. A function is called with those of ``seed``, ``vocabulary`` and ``context`` that it takes.

    Raises:
        InputError: no such file or function, or one that makes no module; a vocabulary or context too small for the data.
        MissingExtraError: transformers is not installed.
    """
    made = _hugging_face(spec.removeprefix("hf:")) if spec.startswith("hf:") else _python(spec, vocabulary, context)
    _try(made(0), spec, vocabulary, context)
    return made


def has_weights(spec: str) -> bool:
    """Whether a ``hf:`` folder holds weights to go on from."""
    folder = Path(spec.removeprefix("hf:"))
    return spec.startswith("hf:") and any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin", "*.safetensors.index.json"))


def _hugging_face(path: str) -> Factory:
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError:
        raise MissingExtraError("transformers", "hf", "a Hugging Face model") from None
    if not (Path(path) / "config.json").is_file():
        raise InputError(f"{path} holds no config.json; give the folder that model.save_pretrained(...) wrote, as --model hf:FOLDER")
    config = AutoConfig.from_pretrained(path, local_files_only=True)

    def new(seed: int) -> nn.Module:
        with _seeded(seed):
            return Causal(AutoModelForCausalLM.from_config(config, attn_implementation="eager").float())

    if not has_weights(f"hf:{path}"):
        return new
    trained = Causal(_loaded(AutoModelForCausalLM, path).float())
    return lambda seed: copy.deepcopy(trained)


def _loaded(loader: Any, path: str) -> nn.Module:
    """The model of a Hugging Face folder with its weights, read without a progress bar."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return loader.from_pretrained(path, attn_implementation="eager", local_files_only=True)
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's global generator, which modules draw their first weights from, set for a while."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _python(spec: str, vocabulary: int, context: int) -> Factory:
    function = load(spec, "model").get()
    if not callable(function):
        raise InputError(f"{spec} is {type(function).__name__}, not a function that makes a torch.nn.Module")
    known = {"vocabulary": vocabulary, "context": context}
    taken = inspect.signature(function).parameters
    other = [
        n
        for n, p in taken.items()
        if n not in (*known, "seed") and p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if other:
        raise InputError(f"{spec} asks for {listed(other)}; it is given seed, vocabulary and context, and others need a default")

    def make(seed: int) -> nn.Module:
        settings = {n: v for n, v in {**known, "seed": seed}.items() if n in taken}
        with _seeded(seed), told():
            return function(**settings)

    return make


def _try(model: object, spec: str, vocabulary: int, context: int) -> None:
    """One forward pass on a window of the data's largest token, so that what does not fit is told before any work."""
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} made a {type(model).__name__}, not a torch.nn.Module from tokens [b, t] to logits [b, t, vocabulary]")
    tokens = torch.full((1, context), 0, dtype=torch.long)
    try:
        with torch.no_grad():
            logits = model(tokens)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise InputError(f"{spec} fails on a window of {context} tokens: {error}. Is --context longer than the model allows?") from error
    logits = logits if isinstance(logits, Tensor) else getattr(logits, "logits", None)
    if logits is None or logits.shape[:2] != tokens.shape:
        raise InputError(f"{spec} returns no logits [b, t, vocabulary] for tokens {list(tokens.shape)}")
    if logits.shape[-1] < vocabulary:
        raise InputError(
            f"{spec} has logits for {logits.shape[-1]} tokens, but the data's vocabulary is {vocabulary}; give its own --tokenizer"
        )
