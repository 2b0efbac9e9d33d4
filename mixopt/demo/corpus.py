"""The demo's corpus: real text that every CPython carries, split by source file, as byte tokens, with a cache on disk."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixopt.demo.extract import DOMAINS, Document, documents, library
from mixopt.errors import unknown

PARTS = ("train", "validation", "test")
VOCABULARY = 256  # a token is a byte of UTF-8 text
SEPARATOR = 0  # stands between documents and nowhere else
LONG = 60  # characters; a line this long says the same thing twice when it occurs twice
FORMAT = "mixopt corpus 1"  # in the key of the cache and in the fingerprint; change it when other contents come out
SALT = "mixopt corpus 28"  # of 200 tried, on sizes alone, the one whose parts hold most evenly their share of every domain
BROKEN = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Byte tokens by part ("train", "validation", "test") and domain, uint8 [n]; ``missing`` says why a domain is absent."""

    tokens: Mapping[str, Mapping[str, np.ndarray]]
    missing: Mapping[str, str]

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains present; each has text in all three parts."""
        return tuple(self.tokens["train"])

    def sizes(self, part: str = "train") -> dict[str, int]:
        """Tokens of each domain in a part.

        Raises:
            InputError: no such part.
        """
        if part not in self.tokens:
            raise unknown("part", part, PARTS)
        return {domain: len(array) for domain, array in self.tokens[part].items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the format and of all contents, as hexadecimal digits."""
        digest = hashlib.sha256(FORMAT.encode())
        for part, arrays in self.tokens.items():
            for domain, array in arrays.items():
                digest.update(f"\n{part} {domain} {len(array)}\n".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load(cache: Path | None = None) -> Corpus:
    """The corpus of the running Python, from the cache where it is there and sound, otherwise built and stored.

    ``cache`` is a folder; by default the variable MIXOPT_CACHE names it, or the platform's place for caches is used. A
    cache that is damaged is built again; one that cannot be written is done without.
    """
    folder = _cache_folder() if cache is None else Path(cache)
    path = None if folder is None else folder / f"corpus-{_key(library())}.npz"
    corpus = None if path is None else _restored(path)
    if corpus is None:
        corpus = build()
        if path is not None:
            _store(corpus, path)
    return corpus


def build(root: Path | None = None) -> Corpus:
    """The corpus read from a standard library folder, by default the running one; a few seconds.

    A domain that the folder lacks, or that has no text in one of the three parts, is left out and named in ``missing``.
    """
    found, missing = documents(root)
    by_part = split(found)
    tokens: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for domain in DOMAINS:
        texts = {part: [d.text for d in by_part[part] if d.domain == domain] for part in PARTS}
        if all(texts.values()):
            for part in PARTS:
                tokens[part][domain] = _encoded(texts[part])
        elif domain not in missing:
            counts = ", ".join(f"{len(texts[part])} for {part}" for part in PARTS)
            missing[domain] = f"too few documents for three parts: {counts}"
    return Corpus(tokens, missing)


def part_of(source: str) -> str:
    """The part a source belongs to, by a hash of its name alone: 80 % train, 10 % validation, 10 % test."""
    place = int.from_bytes(hashlib.sha256(f"{SALT}:{source}".encode()).digest()[:8], "big") / 2**64
    return "train" if place < 0.8 else "validation" if place < 0.9 else "test"


def split(found: Iterable[Document]) -> dict[str, list[Document]]:
    """Documents by part, free of text that an earlier part holds: neither a whole document nor a line of ``LONG`` characters.

    Sources go to parts by ``part_of`` before anything else. Then, in the order of ``PARTS`` and across domains, a
    paragraph with a long line that an earlier part has is dropped, in codec tables only the row; a document that
    occurred before is dropped too. Shorter lines may recur, as ``import os`` does.
    """
    parts: dict[str, list[Document]] = {part: [] for part in PARTS}
    for document in found:
        parts[part_of(document.source)].append(document)
    lines: set[str] = set()
    texts: set[str] = set()
    for part in PARTS:
        kept = []
        for document in parts[part]:
            text = _without_lines(document, lines)
            if text and text not in texts:
                kept.append(Document(document.domain, document.source, text))
                texts.add(text)
        for document in kept:
            lines.update(long_lines(document.text))
        parts[part] = kept
    return parts


def long_lines(text: str) -> set[str]:
    """The lines of at least ``LONG`` characters, without the space around them."""
    return {line for line in map(str.strip, text.split("\n")) if len(line) >= LONG}


def _without_lines(document: Document, lines: set[str]) -> str:
    between = "\n" if document.domain == "codecs" else "\n\n"
    return between.join(piece for piece in document.text.split(between) if lines.isdisjoint(long_lines(piece))).strip("\n")


def _encoded(texts: Iterable[str]) -> np.ndarray:
    """Texts as bytes [n], one separator after each."""
    joined = b"".join(text.encode("utf-8", "ignore").replace(bytes([SEPARATOR]), b"") + bytes([SEPARATOR]) for text in texts)
    return np.frombuffer(joined, dtype=np.uint8).copy()


def _cache_folder() -> Path | None:
    """Where caches go on this platform, or None where there is no home."""
    given = os.environ.get("MIXOPT_CACHE")
    if given:
        return Path(given)
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "mixopt"


def _key(root: Path) -> str:
    """What the contents depend on, as a short name: the Python, the library folder and its age, the format."""
    try:
        age = root.stat().st_mtime_ns
    except OSError:
        age = 0
    return hashlib.sha256(json.dumps([FORMAT, platform.python_version(), str(root), age]).encode()).hexdigest()[:16]


def _store(corpus: Corpus, path: Path) -> None:
    """Write the cache whole or not at all; a folder that cannot be written leaves none."""
    arrays: dict[str, Any] = {f"{part}/{domain}": array for part, by_domain in corpus.tokens.items() for domain, array in by_domain.items()}
    about = json.dumps({"domains": corpus.domains, "missing": dict(corpus.missing), "fingerprint": corpus.fingerprint})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            try:
                np.savez(file, about=np.frombuffer(about.encode(), dtype=np.uint8), **arrays)
                file.close()
                temporary.replace(path)
            except BaseException:
                file.close()
                temporary.unlink(missing_ok=True)
                raise
    except OSError:
        return


def _restored(path: Path) -> Corpus | None:
    """The cached corpus, or None where there is none or its contents are not those that were stored."""
    try:
        if not zipfile.is_zipfile(path):
            return None
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            tokens = {part: {domain: file[f"{part}/{domain}"] for domain in about["domains"]} for part in PARTS}
        corpus = Corpus(tokens, about["missing"])
        return corpus if corpus.fingerprint == about["fingerprint"] else None
    except BROKEN:
        return None
