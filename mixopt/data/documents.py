"""Documents: the texts, or the token rows, of a source, read bit by bit, each fault told with its file and line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mixopt.errors import InputError, MissingExtraError, listed, nearest

from .packed import opened
from .reading import Reading
from .sources import Source

ROWS = 256  # rows of a table that are read at once
BUFFER = 1 << 20  # bytes of a table's column that are read at once
PASSAGE = 1 << 13  # bytes; a text file that gives to several parts is cut at line ends into passages of this size
TEXT, DOMAIN = "text_field (--text-field)", "domain_fields (--domain-field)"
REPLACE = "undecodable='replace' (--undecodable replace)"
BLOCK = 1 << 20  # bytes; any other text file is read in blocks of this size


class Passage(NamedTuple):
    """A document, or a stretch of one."""

    domain: str  # from the record's fields; "" without any
    content: str | np.ndarray  # text, or tokens [n]
    ends: bool  # whether the document ends here
    place: int  # bytes of the source that have been read


def passages(source: Source, reading: Reading, cut: bool) -> Iterator[Passage]:
    """The passages of a text source; ``cut`` makes those of a text file short, so that they can go to several parts.

    Raises:
        InputError: bytes that are no UTF-8, a line that is no JSON object, a field that is missing or no text, or a damaged file.
        MissingExtraError: a package that the format needs is not installed.
    """
    match source.kind:
        case "text":
            return _text(source.path, reading, PASSAGE if cut else BLOCK)
        case "lines":
            return _lines(source.path, reading)
        case "parquet":
            return _parquet(source, reading)
        case "dataset":
            return _dataset(source, reading)
    raise AssertionError(f"{source.path} is not text")


def holds_tokens(source: Source, reading: Reading) -> bool:
    """Whether a table or a saved dataset holds rows of tokens, "input_ids", and no text."""
    if source.kind == "parquet":
        with _parquet_file(source) as file:
            return _tokens_only(file.schema_arrow.names, reading)
    return source.kind == "dataset" and _tokens_only(_loaded(source, reading).column_names, reading)


def _text(path: Path, reading: Reading, size: int) -> Iterator[Passage]:
    with opened(path) as (stream, raw):
        held, line, offset = b"", 1, 0
        while True:
            held += stream.read(size - len(held))
            if not held:
                return
            cut = _boundary(held) if len(held) == size else size
            content = _decoded(held[:cut], path, line, offset, reading)
            line, offset, held = line + held.count(b"\n", 0, cut), offset + len(held[:cut]), held[cut:]
            yield Passage("", content, not held and not stream.peek(1), raw.tell())


def _boundary(held: bytes) -> int:
    """Where to end a passage: after the last line, else the last word, that ends in its second half, else before the last character."""
    for end in (b"\n", b" "):
        if place := held.rfind(end, len(held) // 2) + 1:
            return place
    place = len(held) - 1
    while place > max(len(held) - 4, 0) and held[place] & 0xC0 == 0x80:
        place -= 1
    return place or len(held)


def _decoded(content: bytes, path: Path, line: int, offset: int, reading: Reading) -> str:
    """The text of some bytes that begin at a line and an offset of their file."""
    try:
        text = content.decode("utf-8", "strict" if reading.undecodable == "refuse" else "replace")
        return text.removeprefix("\ufeff") if offset == 0 else text
    except UnicodeDecodeError as error:
        line += content.count(b"\n", 0, error.start)
        raise InputError(
            f"{path}, line {line}: byte {content[error.start]:#04x} at offset {offset + error.start} is no UTF-8 ({error.reason}); "
            f"convert the file to UTF-8, or read it with {REPLACE}"
        ) from None


def _lines(path: Path, reading: Reading) -> Iterator[Passage]:
    with opened(path) as (stream, raw):
        number, offset = 0, 0
        try:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    text = _decoded(line, path, number, offset, reading)
                    domain, content = _record(_parsed(text, path, number), f"{path}, line {number}", reading)
                    if content:
                        yield Passage(domain, content, True, raw.tell())
                offset += len(line)
        except EOFError as error:
            raise InputError(f"{path} is cut off or damaged after line {number}: {error}; fetch it again") from None


def _parsed(text: str, path: Path, number: int) -> Mapping[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"{path}, line {number}: not JSON ({what}); each line is one JSON object, or the file is cut off") from None
    if not isinstance(record, dict):
        raise InputError(f'{path}, line {number}: {_kind_of(record)} where a JSON object is expected, as in {{"text": ...}}')
    return record


def _record(record: Mapping[str, Any], where: str, reading: Reading) -> tuple[str, str]:
    """The domain and the text of a record."""
    content = _field(record, reading.text_field, where, TEXT)
    if not isinstance(content, str):
        kind = _kind_of(content)
        raise InputError(f"{where}: the field {reading.text_field!r} is {kind}, no text; the fields are {listed(record)}; choose by {TEXT}")
    return _domain(record, where, reading), _whole(content, where, reading)


def _whole(content: str, where: str, reading: Reading) -> str:
    """The text as Unicode has it: JSON may spell half a character, which no file in UTF-8 can hold."""
    if content.isascii():
        return content
    try:
        content.encode()
    except UnicodeEncodeError as error:
        if reading.undecodable == "refuse":
            half = f"\\u{ord(content[error.start]):04x}"
            raise InputError(f"{where}: {half} is half a character; mend the file, or read it with {REPLACE}") from None
        return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return content


def _domain(record: Mapping[str, Any], where: str, reading: Reading) -> str:
    """The domain that a record's fields say."""
    levels = []
    for field in reading.domain_fields:
        value = _field(record, field, where, DOMAIN)
        if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip("/ "):
            raise InputError(f"{where}: the field {field!r} is {_kind_of(value)}, and a domain's name is a text or a whole number")
        levels.append(str(value).strip("/ "))
    return "/".join(levels)


def _field(record: Mapping[str, Any], name: str, where: str, setting: str) -> Any:
    """A record's field by its name, or by its path of names with dots."""
    if name in record:
        return record[name]
    first, _, rest = name.partition(".")
    if rest and isinstance(record.get(first), Mapping):
        return _field(record[first], rest, where, setting)
    raise InputError(f"{where}: no field {name!r}; the fields are {listed(record)}{nearest(name, record)}; choose by {setting}")


def _kind_of(value: Any) -> str:
    """What a value is, in words."""
    match value:
        case None:
            return "null"
        case "":
            return "empty"
        case str():
            return f"the text {value!r:.40}"
        case int() | float():
            return json.dumps(value)
        case list():
            return "a list"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"


@contextmanager
def _parquet_file(source: Source) -> Iterator[Any]:
    """A Parquet file; its faults, whenever they show, are told with its name."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("pyarrow", "data", f"reading {source.path}") from None
    try:
        with pq.ParquetFile(source.path, buffer_size=BUFFER) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source.path} is no whole Parquet file: {error}; fetch or write it again") from None


def _parquet(source: Source, reading: Reading) -> Iterator[Passage]:
    with _parquet_file(source) as file:
        columns = _columns(file.schema_arrow.names, source, reading)
        batches = file.iter_batches(batch_size=ROWS, columns=columns, use_threads=False)
        yield from _rows(batches, source, file.metadata.num_rows, columns, reading)


def _dataset(source: Source, reading: Reading) -> Iterator[Passage]:
    data = _loaded(source, reading)
    columns = _columns(data.column_names, source, reading)
    tables = data.select_columns(columns).with_format("arrow").iter(batch_size=ROWS)
    yield from _rows((batch for table in tables for batch in table.to_batches()), source, len(data), columns, reading)


def _loaded(source: Source, reading: Reading) -> Any:
    """A saved dataset, or the asked split of several."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "data", f"reading {source.path}") from None
    try:
        data = datasets.load_from_disk(str(source.path))
    except Exception as error:  # whatever the library meets in a damaged folder
        raise InputError(f"{source.path} is no whole saved dataset: {error}; save it again by save_to_disk") from None
    if isinstance(data, datasets.DatasetDict):
        if reading.split not in data:
            raise InputError(f"{source.path} has the splits {listed(data)}, not {reading.split!r}; choose by split (--split)")
        data = data[reading.split]
    return data


def _tokens_only(names: Iterable[str], reading: Reading) -> bool:
    known = list(names)
    return "input_ids" in known and reading.text_field not in known and reading.text_field.partition(".")[0] not in known


def _columns(names: Iterable[str], source: Source, reading: Reading) -> list[str]:
    """The columns to read: the text or else the tokens, and those of the domains."""
    known = list(names)

    def column(field: str, setting: str) -> str:
        found = field if field in known else field.partition(".")[0]
        if found not in known:
            raise InputError(
                f"{source.path} has no column {field!r}; its columns are {listed(known)}{nearest(field, known)}; choose by {setting}"
            )
        return found

    first = "input_ids" if _tokens_only(known, reading) else column(reading.text_field, TEXT)
    return list(dict.fromkeys([first, *(column(field, DOMAIN) for field in reading.domain_fields)]))


def _rows(batches: Iterable[Any], source: Source, count: int, columns: list[str], reading: Reading) -> Iterator[Passage]:
    """The passages of Arrow record batches: texts, or rows of tokens where the first column is "input_ids"."""
    number = 0
    content: Callable[[Any], Iterator[Any]] = _token_rows if columns[0] == "input_ids" else _same
    for batch in batches:
        rows = batch.select(columns[1:]).to_pylist() if columns[0] == "input_ids" else batch.to_pylist()
        for row, tokens in zip(rows or [{}] * batch.num_rows, content(batch), strict=True):
            number += 1
            where, place = f"{source.path}, row {number}", source.bytes * number // count
            if tokens is None:
                domain, text = _record(row, where, reading)
                if text:
                    yield Passage(domain, text, True, place)
            elif len(tokens):
                yield Passage(_domain(row, where, reading), tokens, True, place)


def _same(batch: Any) -> Iterator[None]:
    return iter([None] * batch.num_rows)


def _token_rows(batch: Any) -> Iterator[np.ndarray]:
    """The rows of tokens of a batch, as views of Arrow's memory."""
    import pyarrow.compute as pc

    column = batch.column("input_ids")
    try:
        flat, lengths = np.asarray(column.flatten()), pc.list_value_length(column).fill_null(0)
        if not np.issubdtype(flat.dtype, np.integer):
            raise TypeError
    except (AttributeError, NotImplementedError, TypeError):
        raise InputError(f"the column 'input_ids' holds {column.type}; it holds a list of whole numbers for each document") from None
    return iter(np.split(flat, np.cumsum(np.asarray(lengths))[:-1]))
