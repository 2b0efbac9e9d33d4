"""Files written whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mixopt.errors import InputError


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write text (as UTF-8) or bytes to a file, making its folder; what stood there before stays until all is written.

    Raises:
        InputError: the folder cannot be made or written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}; give another folder") from None


def writable(folder: str | os.PathLike[str]) -> None:
    """Refuse, before the work that fills it, a folder that cannot be made or written; nothing is made.

    Raises:
        InputError: a file stands in its place, or the nearest folder that is there may not be written.
    """
    place = Path(folder).absolute()
    there = next(p for p in (place, *place.parents) if p.exists())
    if not there.is_dir():
        raise InputError(f"{folder} cannot be a folder: {there} is a file; give another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {there} is not yours to write; give another folder")


def safe(name: str) -> str:
    """A name as that of a file: what is no letter, digit, hyphen, dot or underscore becomes an underscore.

    >>> safe("my set/1")
    'my_set_1'
    """
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def natural(name: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """The natural order of names, as a key to sort by: their characters, and numbers among them by their value.

    >>> sorted(["run10", "run2", "step"], key=natural)
    ['run2', 'run10', 'step']
    """
    return [(ord("0"), int(part)) if part.isdecimal() else (ord(part), 0) for part in re.findall(r"\d+|\D", os.fspath(name))]
