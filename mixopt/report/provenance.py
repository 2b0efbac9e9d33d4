"""What made a report: the command, the versions of what took part, the seed, and digests of the files read."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mixopt.errors import InputError

from .report import Provenance

_ALWAYS = ("mixopt", "numpy", "scipy", "cvxpy")
_WHERE_LOADED = ("torch", "transformers", "tokenizers", "datasets", "pyarrow")


def provenance(command: str | Sequence[str] = "", files: Iterable[str | os.PathLike[str]] = (), seed: int | None = None) -> Provenance:
    """The provenance of work done now by a command (a text, or its words) from these files, whose SHA-256 are taken.

    Files are read in pieces, so that they may be larger than memory; torch and the like are named where they are loaded.

    Raises:
        InputError: a file that cannot be read.
    """
    import shlex

    versions = {"python": platform.python_version()}
    for package in (*_ALWAYS, *(p for p in _WHERE_LOADED if p in sys.modules)):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    text = command if isinstance(command, str) else shlex.join(command)
    digests = {os.fspath(path): digest(path) for path in files}
    return Provenance(text, versions, seed, digests, datetime.now(UTC).isoformat(timespec="seconds"))


def digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, read in pieces; raises InputError where it cannot be read."""
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; give files, each by its own path") from None
