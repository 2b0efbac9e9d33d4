"""The user's own Python: objects loaded from a file or module by name, with errors told as places in that file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

from mixopt.errors import InputError, MixoptError, listed, nearest


@final
@dataclass(frozen=True)
class Own:
    """A module of the user's, and the name in it that was asked for."""

    module: ModuleType
    name: str

    @property
    def path(self) -> str:
        """Where the module was read from, as the user would write it."""
        return _shown(getattr(self.module, "__file__", None) or self.module.__name__)

    def names(self) -> list[str]:
        """What the module defines itself: no underscore at the start, no module."""
        return [n for n, v in vars(self.module).items() if not n.startswith("_") and not isinstance(v, ModuleType)]

    def get(self, name: str | None = None, default: Any = None) -> Any:
        """An object of the module: the one that was asked for, or by name with a default.

        Raises:
            InputError: the name that was asked for is not there; the nearest is suggested.
        """
        if name is not None:
            return getattr(self.module, name, default)
        if not hasattr(self.module, self.name):
            raise InputError(f"{self.path} has no {self.name!r}; it has {listed(self.names())}{nearest(self.name, self.names())}")
        return getattr(self.module, self.name)


def load(reference: str, default: str) -> Own:
    """Import ``file.py:name`` or ``package.module:name``; the name may be left out.

    A file finds its neighbours, as a script does; so does a module in the folder where the command runs.

    Raises:
        InputError: no such file or module, or an error while it is read, with its file and line.
    """
    place, _, name = reference.rpartition(":") if ":" in reference[2:] else (reference, "", "")  # C:\file.py has a colon too
    if not place or place.startswith(":"):
        raise InputError(f"{reference!r} names no file; write file.py:{default} or module:{default}")
    if place.endswith(".py") or "/" in place or "\\" in place:
        return Own(_from_file(Path(place)), name or default)
    if (Path(place).with_suffix(".py")).is_file() and "." not in place:
        return Own(_from_file(Path(f"{place}.py")), name or default)
    _beside(Path.cwd())
    if Path(place).is_file():
        raise InputError(f"{place} is no Python file; its name ends in .py")
    with told():
        if not _there(place):
            raise InputError(
                f"there is no module {place!r}; for a file write its path, {place.partition('.')[0] or default}.py:{name or default}"
            )
        return Own(importlib.import_module(place), name or default)


def _there(place: str) -> bool:
    """Whether there is a module of this name; the packages it is in are imported."""
    try:
        return not place.startswith(".") and importlib.util.find_spec(place) is not None
    except ModuleNotFoundError as error:  # such a package is not there, or is no package
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            return False
        raise


def _from_file(path: Path) -> ModuleType:
    """The module that a file is, run once; registered, so that its classes know where they are from."""
    if not path.is_file():
        beside = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise InputError(f"there is no file {path}{nearest(str(path), beside)}")
    name = f"own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file; its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    _beside(path.resolve().parent)
    sys.modules[name] = module
    with told():
        spec.loader.exec_module(module)
    return module


def _beside(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@contextmanager
def told() -> Iterator[None]:
    """Errors of the user's own lines become an InputError with file and line; all others pass as they are.

    Raises:
        InputError: an exception that came through a line outside mixopt and the installed packages.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        where = _place(error)
        if where is None:
            raise
        kind = "" if isinstance(error, MixoptError) else f"{type(error).__name__}: "
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise InputError(f"{where}\n{kind}{said}") from None


def _place(error: BaseException) -> str | None:
    """File and line of the user's last line on the way to an error, with the line itself; None where there is none."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        text = (error.text or "").strip()
        return f"{_shown(error.filename)}, line {error.lineno}: {text}"
    own = [f for f in traceback.extract_tb(error.__traceback__) if not _library(f.filename)]
    if not own:
        return None
    last = own[-1]
    return f"{_shown(last.filename)}, line {last.lineno}, in {last.name}: {last.line}"


def _library(filename: str) -> bool:
    """Whether a file is mixopt's, Python's, or an installed package's."""
    if filename.startswith("<"):
        return True
    path = Path(filename).resolve()
    here = Path(__file__).resolve().parents[1]
    mixopt = (here / "mixopt", here / "problems", here / "solvers")
    python = (Path(sys.base_prefix).resolve() / "lib", Path(sys.prefix).resolve() / "lib")
    return any(path.is_relative_to(folder) for folder in (*mixopt, *python)) or "site-packages" in path.parts


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else filename
