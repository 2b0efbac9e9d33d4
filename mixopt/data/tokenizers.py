"""Tokenizers: from texts to tokens, by bytes or by any tokenizer of Hugging Face."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, MissingExtraError, listed

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<|im_end|>", "[SEP]")


class Tokenizer(ABC):
    """Turns texts into tokens 0 .. vocabulary - 1; ``eos`` goes behind each document, so that two do not run together."""

    name: str
    vocabulary: int
    eos: int

    @property
    @abstractmethod
    def identity(self) -> str:
        """A text that differs where the tokens would."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens [n] of each text, without ``eos``."""

    @abstractmethod
    def bytes_of(self, tokens: np.ndarray) -> int:
        """Bytes of the text, in UTF-8, that some tokens [n] stand for."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type that holds every token."""
        return smallest(self.vocabulary)


@final
class Bytes(Tokenizer):
    """The bytes of UTF-8 themselves: 256 tokens, of which 0, a byte that no ordinary text holds, ends a document."""

    name, vocabulary = "bytes", 256

    def __init__(self, eos: int = 0):
        if not 0 <= eos < 256:
            raise InputError(f"eos is {eos}; as bytes, tokens are 0 to 255")
        self.eos = eos

    @property
    def identity(self) -> str:
        return f"bytes, eos {self.eos}"

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]

    def bytes_of(self, tokens: np.ndarray) -> int:
        return int(np.count_nonzero(tokens != self.eos))


@final
class HuggingFace(Tokenizer):
    """A tokenizer of Hugging Face's ``tokenizers``; special tokens are not added, and long texts are not cut."""

    def __init__(self, backend: Any, name: str, eos: int):
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.name, self.eos = name, eos
        self.vocabulary = max(backend.get_vocab(with_added_tokens=True).values(), default=0) + 1
        if not 0 <= eos < self.vocabulary:
            raise InputError(f"eos is {eos}, but the tokenizer {name} has the tokens 0 to {self.vocabulary - 1}")

    @property
    def identity(self) -> str:
        return f"tokenizer {hashlib.sha256(self._backend.to_str().encode()).hexdigest()[:16]}, eos {self.eos}"

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(one.ids, self.dtype) for one in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def bytes_of(self, tokens: np.ndarray) -> int:
        return len(self._backend.decode(tokens.tolist(), skip_special_tokens=True).encode())


def smallest(vocabulary: int) -> np.dtype[Any]:
    """The smallest unsigned type for tokens below ``vocabulary``."""
    return np.dtype(np.uint8 if vocabulary <= 2**8 else np.uint16 if vocabulary <= 2**16 else np.uint32)


def tokenizer(given: str | os.PathLike[str], eos: int | str | None = None) -> Tokenizer:
    """The tokenizer "bytes", that of a ``tokenizer.json``, or that of a folder or model name of Hugging Face.

    ``eos`` (a number, or the token's text) replaces the one that the tokenizer's own configuration names.

    Raises:
        InputError: no such tokenizer, a damaged file, or none that tells which token ends a document.
        MissingExtraError: tokenizers, or for a name transformers, is not installed.
    """
    if str(given) == "bytes":
        if isinstance(eos, str):
            raise InputError(f"eos is the text {eos!r}; for bytes give its number, 0 to 255")
        return Bytes(eos or 0)
    path = Path(given)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        backend, named = _from_file(file), _configured_end(file.parent)
    elif not path.is_dir() and (path.suffix == ".json" or path.is_absolute() or str(given).startswith(".")):
        raise InputError(f"there is no tokenizer {path}; give 'bytes', a tokenizer.json, or a folder or name of a Hugging Face tokenizer")
    else:
        backend, named = _from_name(str(given))
    return HuggingFace(
        backend, path.stem if path.name != "tokenizer.json" else path.parent.name or str(path), _end(backend, eos, named, given)
    )


def _from_file(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer as Backend
    except ImportError:
        raise MissingExtraError("tokenizers", "data", f"the tokenizer {path}") from None
    try:
        return Backend.from_file(str(path))
    except Exception as error:  # the library raises no narrower kind
        raise InputError(f"{path} is no tokenizer as Hugging Face's tokenizers write one: {error}") from None


def _from_name(name: str) -> tuple[Any, str | None]:
    """The backend of a tokenizer that transformers must load, and the text of its end token."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtraError("transformers", "hf", f"the tokenizer {name}") from None
    try:
        loaded = AutoTokenizer.from_pretrained(name)
        backend = loaded.backend_tokenizer
    except Exception as error:  # hub, network and file faults, each of its own kind
        raise InputError(f"there is no tokenizer {name!r} that transformers can load: {str(error).splitlines()[0]}") from None
    return backend, loaded.eos_token


def _configured_end(folder: Path) -> str | None:
    """The text of the end token that the configuration beside a tokenizer names."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            named = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token")
        except (OSError, ValueError, AttributeError):
            continue
        text = named.get("content") if isinstance(named, dict) else named
        if isinstance(text, str):
            return text
    return None


def _end(backend: Any, given: int | str | None, named: str | None, where: object) -> int:
    """The number of the token that ends a document."""
    if isinstance(given, int):
        return given
    if given is None and named is None:
        named = next((end for end in ENDS if backend.token_to_id(end) is not None), None)
    text = named if given is None else given
    found = None if text is None else backend.token_to_id(text)
    if found is None:
        what = "does not say which token ends a document" if text is None else f"has no token {text!r}"
        special = sorted(str(token.content) for token in backend.get_added_tokens_decoder().values())
        raise InputError(f"the tokenizer {where} {what}; give eos, one of its special tokens {listed(special)} or any token's number")
    return int(found)
