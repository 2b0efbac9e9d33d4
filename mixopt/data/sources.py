"""Sources: what a folder holds that can be read, and the domain of each file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from mixopt.errors import InputError, listed

from .reading import Reading

Kind = Literal["text", "lines", "parquet", "dataset", "flat", "megatron"]
TOKENS: tuple[Kind, ...] = ("flat", "megatron")

FORMATS = ".txt, .jsonl (both also .gz or .zst), .parquet, .bin, .npy, .bin with .idx (Megatron), a saved Hugging Face dataset"
SUFFIXES: dict[str, Kind] = {".parquet": "parquet", ".npy": "flat", ".bin": "flat"}
STREAMED: dict[str, Kind] = {".txt": "text", ".jsonl": "lines", ".ndjson": "lines"}
for _packed in (".gz", ".zst"):
    SUFFIXES |= {suffix + _packed: kind for suffix, kind in (*STREAMED.items(), (".json", "lines"))}
SUFFIXES |= STREAMED
MEGATRON = "_text_document"  # what Megatron's preprocessing adds to a prefix


@final
@dataclass(frozen=True)
class Source:
    """One file, or one saved dataset, and the domain that it belongs to ("" where its records alone say it)."""

    domain: str
    path: Path
    kind: Kind
    bytes: int
    changed: int  # nanoseconds since 1970


@final
@dataclass(frozen=True)
class Found:
    """What a folder holds: ``sources`` in the order in which they are read, and ``notes`` on what is left out."""

    folder: Path
    sources: tuple[Source, ...]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all sources on disk."""
        return sum(source.bytes for source in self.sources)


def discover(folder: str | os.PathLike[str], reading: Reading | None = None) -> Found:
    """The sources of a folder: each sub-folder, however deep, is a domain named by its path, and so is each file directly in the folder.

    Hidden files and sidecars are passed over; files of other kinds and empty ones are told in ``notes``.

    Raises:
        InputError: no such folder, nothing readable in it, only empty files for a domain, or two places that give one domain.
    """
    reading = reading or Reading()
    root = Path(folder)
    if not root.exists():
        raise InputError(f"there is no file or folder {root}; give a folder with text or token files, or one such file")
    sources: list[Source] = []
    places: dict[str, Path] = {}
    unknown, empty, several = [], [], []
    for path, kind in _walk(root):
        if kind is None:
            unknown.append(_short(path, root))
            continue
        domain, place = _domain(path, kind, root, reading)
        if places.setdefault(domain, place) != place:
            raise InputError(f"{places[domain]} and {place} both give the domain {domain!r}; rename one, or put both into one folder")
        if (path / "dataset_dict.json").is_file():
            several.append(path)
        size, changed = _measure(path)
        if size == 0:
            empty.append(path)
        else:
            sources.append(Source(domain, path, kind, size, changed))
    _refuse_nothing(root, sources, unknown, empty, set(places))
    notes = [f"not read, of no known format: {listed(unknown)}"] if unknown else []
    notes += [f"only one split is read of {_short(path, root)}: {reading.split}" for path in several]
    notes += [f"empty files: {listed(_short(path, root) for path in empty)}"] if empty else []
    return Found(root, tuple(sources), tuple(notes))


def _walk(path: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[Path, Kind | None]]:
    """Every file or saved dataset below a path, in order, with its kind, or None where it is of no known one."""
    if path.is_file():
        if not (path.name.startswith(".") and above) and not _sidecar(path):
            yield path, _kind(path)
        return
    if not path.is_dir():
        return
    if (path / "dataset_dict.json").is_file() or ((path / "state.json").is_file() and (path / "dataset_info.json").is_file()):
        yield path, "dataset"
        return
    real = path.resolve()
    if real in above:  # a link to a folder that it lies in
        return
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    for entry in inside:
        if not entry.name.startswith("."):
            yield from _walk(entry, (*above, real))


def suffix_of(path: Path) -> str:
    """The known suffix that a file's name ends with, or nothing."""
    return max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")


def _kind(path: Path) -> Kind | None:
    if path.suffix == ".idx":
        raise InputError(f"{path} is Megatron's index of {path.with_suffix('.bin').name}, which is not there; put it beside the index")
    suffix = suffix_of(path)
    if suffix == ".bin" and path.with_suffix(".idx").is_file():
        return "megatron"
    return SUFFIXES[suffix] if suffix else None


def _sidecar(path: Path) -> bool:
    """Whether a file only describes token files beside it."""
    if path.suffix == ".idx":
        return path.with_suffix(".bin").is_file()
    if path.suffix != ".json":
        return False
    if path.name == "meta.json":
        return any(entry.suffix in (".bin", ".npy") for entry in path.parent.rglob("*"))
    stem = path.name.removesuffix(".json").removesuffix(".meta")
    return any((path.parent / (stem + end)).is_file() for end in ("", ".bin", ".npy") if stem + end != path.name)


def _domain(path: Path, kind: Kind, root: Path, reading: Reading) -> tuple[str, Path]:
    """The domain of a file, and the file or folder that gives it its name."""
    inside = path.relative_to(root).parts
    if kind == "dataset":
        return ("/".join(inside) or ("" if reading.domain_fields else path.resolve().name)), path
    folders = inside[:-1]
    if reading.domain_fields or (folders and reading.per == "folder"):
        return "/".join(folders), path.parent
    stem = path.name[: len(path.name) - len(suffix_of(path))]
    return "/".join((*folders, stem.removesuffix(MEGATRON) or stem)), path


def _measure(path: Path) -> tuple[int, int]:
    """Bytes, and the time of the last change, of a file or of all files of a folder."""
    try:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        stats = [file.stat() for file in files]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


def _refuse_nothing(root: Path, sources: list[Source], unknown: list[str], empty: list[Path], domains: set[str]) -> None:
    """Raise where there is nothing to read, or a domain has nothing but empty files."""
    if not sources:
        held = f"it holds {listed(unknown)}" if unknown else f"{listed(empty)} is empty" if empty else "it is empty"
        raise InputError(f"{root} has nothing to read: {held}; put in {FORMATS}")
    hollow = sorted(domains - {source.domain for source in sources})
    if hollow:
        raise InputError(f"{listed(hollow)} has only empty files: {listed(empty)}; remove them or fill them")


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root else path.name
