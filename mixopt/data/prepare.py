"""Preparing a folder: its text becomes tokens in a cache, its token files are looked through, and all is split into parts."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains

from .cache import Cache
from .job import Job
from .ledger import Ledger, Manifest
from .pieces import Pieces
from .prepared import Amount, Count, Prepared, TokenRow
from .reading import Reading
from .sources import discover
from .split import PARTS, Split
from .work import work

Watch = Callable[[int, int], None]

SAVE_EVERY = 1.0  # seconds between two notes of how far it is; every file is noted where each takes longer


def prepare(
    folder: str | os.PathLike[str],
    cache: str | os.PathLike[str],
    reading: Reading | None = None,
    *,
    validation: float = 0.05,
    test: float = 0.05,
    fresh: bool = False,
    watch: Watch | None = None,
) -> Prepared:
    """Turn a folder of text into tokens, split by documents, and map the token files that it holds; memory stays flat whatever its size.

    Text goes to ``cache``, one flat file for each part and domain; token files stay where they are and are split by stretches. An
    interrupted call goes on after the last finished source, with the same result; ``fresh`` begins anew. A text file is a
    document, but domains of fewer than 100 such files are split within them, at line ends about every 8 KiB.
    ``watch(done, all)`` is told of the bytes read.

    Raises:
        InputError: a source that cannot be read, tokens beyond the tokenizer's vocabulary, a cache of other data, or a full disk.
        MissingExtraError: a package that a format needs is not installed.
    """
    reading = reading or Reading()
    job = Job.of(discover(folder, reading), reading, Split(validation, test))
    place, root = Path(cache), job.found.folder
    if root.is_dir() and place.resolve().is_relative_to(root.resolve()):
        raise InputError(f"the cache {place} lies inside the data {root}; give a folder outside of it")
    manifest, files = Manifest(place, job.identity), Cache(place, job.dtype)
    _own(manifest, fresh)
    ledger = manifest.load()
    files.cut_back(ledger)
    if ledger.finished < len(job.found.sources):
        files.describe(job.eos, job.tokenizer)
        ledger = _run(job, ledger, files, manifest, watch)
    _refuse_hollow(job, ledger)
    return _result(job, ledger, files)


def count(folder: str | os.PathLike[str], reading: Reading | None = None, *, watch: Watch | None = None) -> Count:
    """Documents, bytes and tokens of each domain of a folder; nothing is written.

    Raises:
        InputError, MissingExtraError: as ``prepare``.
    """
    reading = reading or Reading()
    job = Job.of(discover(folder, reading), reading, Split(0, 0))
    ledger = _run(job, Ledger(), None, None, watch)
    _refuse_hollow(job, ledger)
    return _count(job, ledger)


def _own(manifest: Manifest, fresh: bool) -> None:
    """See that the cache's folder is new or one of ours, and empty it where all begins anew."""
    folders = [manifest.folder / part for part in PARTS]
    if not manifest.path.exists():
        taken = [folder for folder in folders if folder.exists()]
        if taken:
            raise InputError(f"{listed(taken)} exist and were not made by mixopt; give another folder for the cache")
    elif fresh:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        manifest.path.unlink()


def _run(job: Job, ledger: Ledger, files: Cache | None, manifest: Manifest | None, watch: Watch | None) -> Ledger:
    """Work through the sources that are left; however it ends, the manifest says which ones are finished."""
    sources = job.found.sources
    done, whole = sum(source.bytes for source in sources[: ledger.finished]), job.found.bytes
    saved = time.monotonic()
    try:
        for source in sources[ledger.finished :]:
            ledger = work(job, source, ledger, files, _after(done, whole, watch))
            done += source.bytes
            if manifest and time.monotonic() - saved > SAVE_EVERY:
                manifest.save(ledger)
                saved = time.monotonic()
    except BaseException:
        if manifest and files:
            with suppress(InputError):
                files.cut_back(ledger)
                manifest.save(ledger)
        raise
    if manifest:
        manifest.save(ledger)
    return ledger


def _after(done: int, whole: int, watch: Watch | None) -> Callable[[int], None]:
    """What tells of the bytes read of one source as of the bytes read of all."""
    return lambda place: watch(done + place, whole) if watch else None


def _refuse_hollow(job: Job, ledger: Ledger) -> None:
    """Raise where a domain has no tokens at all."""
    found = set(ledger.tallies)
    for source in job.found.sources:
        if source.domain not in found and not (job.reading.domain_fields and found):
            raise InputError(
                f"{source.path} holds no text, and nor does any other file of domain {source.domain!r}; leave it out or fill it"
            )


def _count(job: Job, ledger: Ledger) -> Count:
    amounts = {name: Amount(tally.documents, tally.bytes, tally.tokens, tally.estimated) for name, tally in sorted(ledger.tallies.items())}
    return Count(amounts, job.tokenizer.name if job.tokenizer else "as stored", job.found.notes)


def _result(job: Job, ledger: Ledger, files: Cache) -> Prepared:
    """The tokens by part and domain, mapped where they lie."""
    parts: dict[str, dict[str, TokenRow]] = {part: {} for part in PARTS}
    maps: dict[str, list[np.ndarray]] = defaultdict(list)
    for source in job.found.sources:
        if source.path in job.files:
            maps[source.domain].append(job.files[source.path].tokens)
    for name, tally in sorted(ledger.tallies.items()):
        for part in PARTS:
            rows = [files.tokens(part, name)] if tally.stored.get(part) else []
            rows += [tokens[start:stop] for tokens in maps[name] for start, stop in job.split.stretches(len(tokens))[part]]
            if rows:
                parts[part][name] = rows[0] if len(rows) == 1 else Pieces(rows)
    sizes = {name: len(parts["train"].get(name, ())) for name in sorted(ledger.tallies)}
    counted = _count(job, ledger)
    return Prepared(
        files.folder,
        Domains(sizes, sizes) if any(sizes.values()) else counted.domains,
        parts,
        counted,
        vocabulary=max([job.vocabulary or 0, ledger.largest + 1]),
        eos=job.eos,
        fingerprint=job.fingerprint(ledger.digest),
    )
