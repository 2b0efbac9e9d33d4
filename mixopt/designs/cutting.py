"""A folder's domains cut to what proxies may read of them, as files for a trainer of the user's own."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, final

import numpy as np

from mixopt.data import Pieces, Reading, Split, discover
from mixopt.data.documents import holds_tokens, passages
from mixopt.data.job import Job
from mixopt.errors import InputError
from mixopt.files import writable
from mixopt.language.domains import Domains

from .epoching import subsample

TEXT, TOKENS, SIDECAR = "cut.jsonl", "cut.bin", "cut.json"


@final
@dataclass(frozen=True)
class Kept:
    """What was kept of a domain, in ``file``: so many of ``whole`` bytes of text or tokens, and of all documents (None of tokens)."""

    file: Path
    unit: str
    kept: int
    whole: int
    documents: tuple[int, int] | None = None


def cut(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    share: float,
    reading: Reading | None = None,
    *,
    watch: Callable[[int, int], None] | None = None,
) -> dict[str, Kept]:
    """Write a share of each domain of a folder, so that a proxy of so many times fewer tokens repeats it as the long run will.

    ``share`` is the proxy's tokens over those of the run that the mixture is for (see ``simulated``). Of text, documents are kept at
    even distances, long and short alike, and passages of some 8 KiB of text files: ``out``/<domain>/cut.jsonl has a "text" in each line,
    for any tokenizer. Token files give stretches of 4096 tokens (``subsample``), as cut.bin, flat, with its type in cut.json. Nothing is
    drawn, and ``out`` is written whole or not at all. ``watch(done, all)`` is told of the bytes read.

    Raises:
        InputError: a share that is not in (0, 1], a folder that is not empty or lies in the other, a domain of which nothing would be
            kept, rows of tokens in a table, or what ``data.count`` refuses.
    """
    if not 0 < share <= 1:
        raise InputError(f"the share is {share!r}; it is the tokens of a proxy over those of the target, above 0 and at most 1")
    job = Job.of(discover(folder, reading), reading or Reading(), Split(0, 0))
    place = Path(out)
    _refuse(place, job.found.folder)
    for source in job.found.sources:
        if holds_tokens(source, job.reading):
            raise InputError(f"{source.path} holds rows of tokens, and no text; give text, or flat files of tokens")
    with _whole(place) as fresh:
        found = {**_text(job, fresh, share, watch or (lambda done, whole: None)), **_tokens(job, fresh, share)}
    return {name: Kept(place / one.file.relative_to(fresh), one.unit, one.kept, one.whole, one.documents) for name, one in found.items()}


def _refuse(place: Path, folder: Path) -> None:
    """Raise for a place that is not free, or of which the next call would read."""
    writable(place)
    if place.is_dir() and any(place.iterdir()):
        raise InputError(f"{place} is not empty; give a new folder")
    if folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{place} lies inside the data {folder}; give a folder outside of it")


@contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """A folder beside the place, which takes its name once all is in it."""
    fresh = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        fresh.replace(place)
    except OSError as error:
        raise InputError(f"{place} cannot be written: {error.strerror or error}; make room, or give another folder") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _text(job: Job, place: Path, share: float, watch: Callable[[int, int], None]) -> dict[str, Kept]:
    """The documents of text that are kept, by domain."""
    files: dict[str, IO[str]] = {}
    seen: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])  # documents and bytes, kept and in all
    done = 0
    with ExitStack() as stack:
        for source in job.found.sources:
            for passage in passages(source, job.reading, True) if source.path not in job.files else ():
                name = "/".join(filter(None, (source.domain, passage.domain)))
                if name not in files:
                    files[name] = stack.enter_context((_folder(place, name) / TEXT).open("w", encoding="utf-8", newline="\n"))
                tally, size = seen[name], len(str(passage.content).encode())
                if math.floor((tally[1] + 1) * share + 0.5) > math.floor(tally[1] * share + 0.5):
                    files[name].write(json.dumps({"text": passage.content}, ensure_ascii=False) + "\n")
                    tally[0], tally[2] = tally[0] + 1, tally[2] + size
                tally[1], tally[3] = tally[1] + 1, tally[3] + size
                watch(done + passage.place, job.found.bytes)
            done += source.bytes
    for name, tally in seen.items():
        if not tally[0]:
            raise InputError(
                f"{name!r} has {tally[1]} documents, of which a share of {share:.3g} keeps none; take longer proxies, leave the domain "
                "out, or give its documents in smaller parts"
            )
    return {name: Kept(place / name / TEXT, "bytes", two, three, (none, one)) for name, (none, one, two, three) in seen.items()}


def _tokens(job: Job, place: Path, share: float) -> dict[str, Kept]:
    """The stretches of token files that are kept, by domain."""
    rows: dict[str, list[np.ndarray]] = defaultdict(list)
    for path, source in ((source.path, source) for source in job.found.sources if source.path in job.files):
        rows[source.domain].append(job.files[path].tokens)
    found = {}
    for name, some in rows.items():
        whole = Pieces(some)
        row = subsample({name: whole}, Domains([name], [share * len(whole)]))[name]
        there = _folder(place, name)
        row.tofile(there / TOKENS)
        told = {"dtype": row.dtype.name, **({} if job.eos is None else {"eos": job.eos})}
        (there / SIDECAR).write_text(json.dumps(told) + "\n")
        found[name] = Kept(there / TOKENS, "tokens", len(row), len(whole))
    return found


def _folder(place: Path, name: str) -> Path:
    """The folder of a domain, under which a later reading finds it again."""
    if any(level.startswith(".") for level in name.split("/")):
        raise InputError(f"a domain is called {name!r}, and folders whose names begin with a dot are passed over; give it another name")
    folder = place / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
