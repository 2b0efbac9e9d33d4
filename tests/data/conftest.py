"""What the tests of own data share: folders of text, a small tokenizer, and a writer of Megatron's files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def lay(tmp_path):
    """A function that writes files below a folder: texts, bytes, or lists of records as JSON lines."""

    def write(files: dict[str, str | bytes | list], folder: str = "data") -> Path:
        for name, content in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, list):
                content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in content)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / folder

    return write


@pytest.fixture
def texts():
    """A function that makes records of text, all different."""

    def make(count: int, word: str = "word", **fields: str) -> list[dict[str, str]]:
        return [{"text": f"{word} {i} " + f"ünd {word} " * (i % 7), **fields} for i in range(count)]

    return make


@pytest.fixture(scope="session")
def bpe(tmp_path_factory):
    """A small byte-level BPE in a folder with its configuration, as Hugging Face saves one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<|stop|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["word and word und other words, many words"] * 20, trainer)
    folder = tmp_path_factory.mktemp("bpe")
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|stop|>"}}))
    return folder


@pytest.fixture
def megatron():
    """A function that writes documents as Megatron's pair, each value put down by hand as its layout is documented."""

    def write(prefix: Path, documents: list[list[int]], code: int = 8, kind: str = "<u2") -> None:
        rows = [np.array(tokens, kind) for tokens in documents]
        prefix.parent.mkdir(parents=True, exist_ok=True)
        prefix.with_suffix(".bin").write_bytes(b"".join(row.tobytes() for row in rows))
        size, count = np.dtype(kind).itemsize, len(rows)
        index = (
            b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", code) + struct.pack("<Q", count) + struct.pack("<Q", count + 1)
        )
        index += struct.pack(f"<{count}i", *map(len, rows))
        places = [size * sum(map(len, rows[:i])) for i in range(count)]
        index += struct.pack(f"<{count}q", *places) + struct.pack(f"<{count + 1}q", *range(count + 1))
        prefix.with_suffix(".idx").write_bytes(index)

    return write
