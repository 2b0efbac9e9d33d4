"""The work on one source: text becomes tokens, token files are looked through; the ledger after it is what is returned."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mixopt.errors import InputError

from .cache import Cache
from .documents import Passage, passages
from .job import Job
from .ledger import Ledger
from .sources import Source
from .tokenfiles import TokenFile
from .tokenizers import Tokenizer

BATCH = 1 << 20  # characters of text, or tokens, that are worked on at once
LOOK = 1 << 22  # tokens of a token file that are looked through at once
SAMPLES, SAMPLE = 64, 1024  # stretches of a token file, and tokens of each, by which its bytes per token are estimated

Tell = Callable[[int], object]


def work(job: Job, source: Source, before: Ledger, files: Cache | None, tell: Tell) -> Ledger:
    """The ledger after a source; its text is appended to ``files``, where there are any, and ``tell`` hears of the bytes read."""
    after = before.copy()
    digest = _look(job, source, after, tell) if source.path in job.files else _tokenise(job, source, after, files, tell)
    after.digest = hashlib.sha256(f"{before.digest} {digest}".encode()).hexdigest()
    after.finished += 1
    return after


def _tokenise(job: Job, source: Source, ledger: Ledger, files: Cache | None, tell: Tell) -> str:
    """Turn a text source into tokens, batch by batch; the digest of the tokens and of where they go."""
    digest = hashlib.sha256()
    for batch in _batches(passages(source, job.reading, source.domain in job.cut)):
        out: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
        for domain, part, rows in _dealt(job, source, batch, ledger):
            out[part, domain] += rows
            digest.update(f"{domain}\0{part}\0{sum(map(len, rows))}\0".encode())
            for row in rows:
                digest.update(np.ascontiguousarray(row, job.dtype).data)
        if files:
            for (part, domain), rows in out.items():
                files.append(part, domain, rows)
        tell(batch[-1].place)
    return digest.hexdigest()


def _batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    """Passages in lists of about as much text as is worked on at once."""
    batch: list[Passage] = []
    size = 0
    for passage in passages:
        batch.append(passage)
        size += len(passage.content)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _dealt(job: Job, source: Source, batch: list[Passage], ledger: Ledger) -> Iterator[tuple[str, str, list[np.ndarray]]]:
    """Domain, part and tokens of each passage, entered in the ledger; the end of a document gets its token.

    So does the end of a passage whose document goes on in another part.
    """
    cut = source.domain in job.cut
    eos = None if job.eos is None else np.array([job.eos], job.dtype)
    for passage, (row, size) in zip(batch, _encoded(job, source, batch), strict=True):
        domain = "/".join(filter(None, (source.domain, passage.domain)))
        tally = ledger.tally(domain)
        part = job.split.part(tally.dealt)
        tally.dealt += passage.ends or cut
        ends = passage.ends or (cut and job.split.part(tally.dealt) != part)
        rows = [row, eos] if ends and eos is not None and not (isinstance(passage.content, np.ndarray) and row[-1] == eos[0]) else [row]
        tally.stored[part] = tally.stored.get(part, 0) + sum(map(len, rows))
        tally.documents = None if tally.documents is None else tally.documents + passage.ends
        tally.bytes = None if tally.bytes is None or size is None else tally.bytes + size
        ledger.largest = max(ledger.largest, int(row.max(initial=0)), job.eos or 0)
        yield domain, part, rows


def _encoded(job: Job, source: Source, batch: list[Passage]) -> Iterator[tuple[np.ndarray, int | None]]:
    """The tokens of each passage, and the bytes of its text where there is one."""
    texts = [passage.content for passage in batch if isinstance(passage.content, str)]
    if not texts:
        for passage in batch:
            row = np.asarray(passage.content)
            _refuse_beyond(row, source, job, 0)
            yield row, None
        return
    assert job.tokenizer is not None
    for text, row in zip(texts, job.tokenizer.encode(texts), strict=True):
        yield row, len(text) if text.isascii() else len(text.encode())


def _look(job: Job, source: Source, ledger: Ledger, tell: Tell) -> str:
    """Look a token file through, a stretch at a time, by reading and not through the map, so that its pages do not fill the memory."""
    file, digest = job.files[source.path], hashlib.sha256(source.domain.encode())
    eos = job.eos if file.eos is None else file.eos
    count, ends, last = len(file.tokens), 0, -1
    for start in range(0, count, LOOK):
        row = _read(file, start, min(LOOK, count - start))
        _refuse_beyond(row, source, job, start)
        ledger.largest = max(ledger.largest, int(row.max()))
        ends += int(np.count_nonzero(row == eos)) if eos is not None else 0
        last = int(row[-1])
        digest.update(row.data)
        tell(source.bytes * (start + len(row)) // count)
    documents = file.documents if file.documents is not None else None if eos is None else ends + (last != eos)
    tally = ledger.tally(source.domain)
    tally.mapped += count
    tally.documents = None if tally.documents is None or documents is None else tally.documents + documents
    size = _bytes(file, job.tokenizer) if job.tokenizer else None
    tally.estimated = tally.estimated or size is not None
    tally.bytes = None if tally.bytes is None or size is None else tally.bytes + size
    return digest.hexdigest()


def _read(file: TokenFile, start: int, count: int) -> np.ndarray:
    kind = file.tokens.dtype
    offset = int(getattr(file.tokens, "offset", 0)) + start * kind.itemsize
    row = np.fromfile(file.path, kind, count, offset=offset)
    if len(row) < count:
        raise InputError(f"{file.path} became shorter while it was read; start again when nothing writes to it")
    return row


def _bytes(file: TokenFile, tokenizer: Tokenizer) -> int:
    """Bytes of text that a token file stands for, estimated from stretches evenly spaced over it."""
    count = len(file.tokens)
    starts = np.unique(np.linspace(0, max(count - SAMPLE, 0), min(SAMPLES, -(-count // SAMPLE))).astype(int))
    rows = [_read(file, int(start), min(SAMPLE, count - int(start))) for start in starts]
    return round(sum(map(tokenizer.bytes_of, rows)) / sum(map(len, rows)) * count)


def _refuse_beyond(row: np.ndarray, source: Source, job: Job, start: int) -> None:
    """Raise for a token that is negative or not in the vocabulary."""
    if not len(row):
        return
    file = job.files.get(source.path)
    vocabulary = job.tokenizer.vocabulary if job.tokenizer else file.vocabulary if file else None
    who = f"tokenizer {job.tokenizer.name}" if job.tokenizer else "sidecar"
    if row.min() < 0:
        raise InputError(f"{source.path} holds the token {row.min()} at place {start + int(row.argmin())}; is its dtype right?")
    if vocabulary is not None and row.max() >= vocabulary:
        raise InputError(
            f"{source.path} holds the token {row.max()} at place {start + int(row.argmax())}, but the {who} has {vocabulary} tokens: "
            "it was made by another tokenizer, or its dtype is not the one told"
        )
