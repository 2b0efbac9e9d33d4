"""The errors that mixopt raises: one base, so that a caller can catch them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MixoptError(Exception):
    """Base of every error that mixopt raises on purpose; its text says what was found, what was expected and the mend."""


class InputError(MixoptError, ValueError):
    """A number, table, file or name given by the user does not fit."""


class ProblemError(MixoptError, ValueError):
    """A problem is not well formed: shapes, symbols or nesting."""


class RefusalError(MixoptError):
    """No solver, or not the one asked for, takes the problem; the reasons are in the text and in ``reasons``."""

    def __init__(self, text: str, reasons: dict[str, tuple[str, ...]] | None = None):
        super().__init__(text)
        self.reasons = reasons or {}


class LearnerError(MixoptError):
    """A learner does not provide what the problem asks of it, or its losses are not finite."""


class MissingExtraError(MixoptError, ImportError):
    """An optional package is needed and not installed; the text gives the pip line."""

    def __init__(self, package: str, extra: str, what: str):
        super().__init__(f"{what} needs {package}, which is not installed; run: pip install 'mixopt[{extra}]'")


def nearest(name: str, known: Iterable[str]) -> str:
    """The words that suggest the known name closest to ``name``, or nothing."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def cause(error: Exception) -> str:
    """What the system says of an error, without the number and the path that a message has already: 'No such file or directory'."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names in brackets, cut after ``most``."""
    texts = [str(n) for n in names]
    more = f", ... {len(texts) - most} more" if len(texts) > most else ""
    return f"({', '.join(texts[:most])}{more})"


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the known ones, with the nearest suggested."""
    known = list(known)
    return InputError(f"no {kind} {name!r} in {listed(known)}{nearest(str(name), known)}")
