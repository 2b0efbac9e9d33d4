"""Token files as trainers keep them: flat arrays and Megatron's .bin with .idx, mapped and never copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mixopt.errors import InputError

from .reading import Reading, token_type
from .sources import Source

MAGIC = b"MMIDIDX\x00\x00"
MEGATRON_TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32", 8: "uint16"}
EOS_KEYS = ("eos", "eos_id", "eos_token_id")
SEQUENCES = 2**20  # sequences of an index that are checked at once
VOCABULARY_KEYS = ("vocabulary", "vocab_size", "vocabulary_size")


@final
@dataclass(frozen=True, eq=False)
class TokenFile:
    """One file of tokens [n], mapped, with what is known of it: documents, end-of-document token, vocabulary."""

    path: Path
    tokens: np.ndarray
    documents: int | None = None
    eos: int | None = None
    vocabulary: int | None = None


def token_file(source: Source, reading: Reading, root: Path) -> TokenFile:
    """The tokens of a source that holds tokens; the sidecar of a flat file is ``name.json``, ``name.meta.json`` or ``name.bin.json``
    beside it, else the nearest ``meta.json`` in its folder or above, up to ``root``.

    Raises:
        InputError: an unknown type, a size that is not a whole number of tokens, or a damaged array, index or sidecar.
    """
    try:
        return _megatron(source.path) if source.kind == "megatron" else _alone(source, reading, root)
    except OSError as error:
        raise InputError(f"{source.path} cannot be read: {error.strerror or error}") from None


def _alone(source: Source, reading: Reading, root: Path) -> TokenFile:
    """The tokens of a flat file."""
    told = _sidecar(source.path, root)
    eos = reading.eos if isinstance(reading.eos, int) else _number(told, EOS_KEYS, source.path)
    tokens = _array(source.path) if source.path.suffix == ".npy" else _flat(source.path, reading.dtype or told.get("dtype"))
    return TokenFile(source.path, tokens, eos=eos, vocabulary=_number(told, VOCABULARY_KEYS, source.path))


def _flat(path: Path, dtype: Any) -> np.ndarray:
    if dtype is None:
        raise InputError(
            f"{path} does not say of which type its tokens are; give dtype (--dtype uint16), or write {path.stem}.json beside it, "
            'as in {"dtype": "uint16", "eos": 0}'
        )
    kind, size = token_type(dtype, path), path.stat().st_size
    if size % kind.itemsize:
        many = f"no whole number of {kind.name} tokens of {kind.itemsize} bytes"
        raise InputError(f"{path} has {size} bytes, {many}; give the right dtype (--dtype)")
    return np.memmap(path, kind, "r")


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is no whole NumPy array: {error}; write it again") from None
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{path} holds an array {list(array.shape)} of {array.dtype}; tokens are one row [n] of integers")
    return array


def _sidecar(path: Path, root: Path) -> Mapping[str, Any]:
    """What the nearest sidecar of a flat file says of it."""
    beside = [path.with_name(name) for name in (f"{path.stem}.json", f"{path.stem}.meta.json", f"{path.name}.json")]
    above = [folder / "meta.json" for folder in path.parents if folder == path.parent or folder.is_relative_to(root)]
    for sidecar in (*beside, *above):
        if sidecar.is_file():
            try:
                told = json.loads(sidecar.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(f"{sidecar}, which describes {path.name}, is not JSON: {error}") from None
            if not isinstance(told, dict):
                raise InputError(f'{sidecar}, which describes {path.name}, holds no JSON object, as in {{"dtype": "uint16", "eos": 0}}')
            return told
    return {}


def _number(told: Mapping[str, Any], keys: tuple[str, ...], path: Path) -> int | None:
    for key in keys:
        if told.get(key) is not None:
            if isinstance(told[key], bool) or not isinstance(told[key], int) or told[key] < 0:
                raise InputError(f"the sidecar of {path} says {key} = {told[key]!r}; it is a whole number >= 0")
            return int(told[key])
    return None


def _megatron(path: Path) -> TokenFile:
    """The tokens of a pair .bin and .idx.

    The index holds, little-endian: the magic, version 1 (8 bytes), the type's code (1 byte), how many sequences and how many entries
    of the documents' table there are (8 bytes each), the sequences' lengths (int32) and places in bytes (int64), and the table of the
    sequences at which documents begin, with one entry for the end (int64).
    Source: Megatron-LM, megatron/core/datasets/indexed_dataset.py.
    """
    index = path.with_suffix(".idx")
    raw = index.read_bytes() if index.stat().st_size < 34 else np.memmap(index, np.uint8, "r")
    head = bytes(raw[:34])
    if not head.startswith(MAGIC) or len(head) < 34:
        raise InputError(f"{index} does not begin as Megatron's index does ({MAGIC!r}); a flat token file stands alone, without an .idx")
    version, code = int.from_bytes(head[9:17], "little"), head[17]
    sequences, entries = (int(n) for n in np.frombuffer(head, "<u8", 2, 18))
    if version != 1 or code not in MEGATRON_TYPES:
        raise InputError(f"{index} is of version {version} with type code {code}; version 1 with codes 1 to 8 is read")
    if index.stat().st_size < 34 + 12 * sequences + 8 * entries:
        raise InputError(
            f"{index} has {index.stat().st_size} bytes, too few for {sequences} sequences and {entries} documents; it is cut off"
        )
    kind = token_type(MEGATRON_TYPES[code], index)
    lengths = np.frombuffer(raw, "<i4", sequences, 34)
    places = np.frombuffer(raw, "<i8", sequences, 34 + 4 * sequences)
    tokens = 0
    for i in range(0, sequences, SEQUENCES):
        ends = tokens + np.cumsum(lengths[i : i + SEQUENCES], dtype=np.int64)
        if not np.array_equal(places[i : i + SEQUENCES], kind.itemsize * (ends - lengths[i : i + SEQUENCES])):
            raise InputError(
                f"{index}: its sequences do not lie one after the other in {path.name}; write the pair again by Megatron's builder"
            )
        tokens = int(ends[-1])
    if path.stat().st_size != tokens * kind.itemsize:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes, but {index.name} tells of {tokens} {kind.name} tokens; "
            "the two are not a pair, or one is cut off"
        )
    return TokenFile(path, np.memmap(path, kind, "r"), documents=max(entries - 1, 0))
