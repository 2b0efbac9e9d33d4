"""What every command shares: exit codes, the way errors are told, and where words and JSON go."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, final

import numpy as np
import typer
from rich.console import Console
from typer.core import TyperGroup

import mixopt
from mixopt.errors import MixoptError, cause


def command() -> str:
    """The command as it was typed, for the provenance of what it makes."""
    return shlex.join(["mixopt", *sys.argv[1:]])


_UsageError: Any = typer.BadParameter.__base__  # typer's own class in some of its versions, click's in others


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    UNSOLVED = 1  # it ran to its end, but there are no weights to use: infeasible, or the losses became NaN
    INPUT = 2  # a file, a name, a number or an option does not fit and nothing was begun; or the disk does not take what was made
    INTERRUPTED = 130  # Ctrl-C; what was finished is kept


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer and errors, no progress.")]


def seeded(text: str, panel: str | None = None) -> Any:
    """The option of a seed: a whole number that every generator takes."""
    return typer.Option(help=text, rich_help_panel=panel, min=0, max=2**32 - 1)


@final
@dataclass(frozen=True)
class Voice:
    """Where a command speaks: words to the screen unless ``quiet``, or one JSON object on standard output and nothing else.

    >>> Voice(json=False, quiet=True).say("not said")
    """

    json: bool = False
    quiet: bool = False

    @property
    def console(self) -> Console:
        """The screen for words and progress; under --json that is standard error."""
        return Console(highlight=False, stderr=self.json, quiet=self.quiet)

    def say(self, text: str, style: str = "") -> None:
        """A line of progress or explanation, left out under --quiet."""
        self.console.print(text, style=style or None, markup=False, soft_wrap=True)

    def answer(self, text: str, content: Mapping[str, Any]) -> None:
        """The answer: its text, or under --json the object."""
        if self.json:
            whole = (sys.stdout.encoding or "").lower().startswith("utf")
            typer.echo(json.dumps(plain(content), indent=2, ensure_ascii=not whole))
        else:
            Console(highlight=False).print(text, markup=False, soft_wrap=True)


def plain(value: Any) -> Any:
    """The value as JSON has it: mappings with text keys, lists, numbers; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


@final
class Guarded(TyperGroup):
    """Commands whose errors end in one line and an exit code, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what mixopt raises on purpose, and an option that does not fit, is told on standard error."""
        # Threads that spin long while they wait starve each other when the machine has other work: 8 times slower than so, measured.
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
        for stream in (sys.stdout, sys.stderr):  # a name that the screen has no letters for is escaped, not an error after the work
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(Exit.INTERRUPTED)
        except MixoptError as error:
            said = str(error)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the answer wants no more of it
                raise
            said = f"{error.filename or 'the output'} cannot be read or written: {cause(error)}"
        except _UsageError as error:
            text, where = error.format_message().rstrip("."), error.ctx.info_name if error.ctx and error.ctx.parent else ""
            said = f"{text[0].lower()}{text[1:]}; mixopt {where} --help shows what there is".replace("  ", " ")
        typer.echo(f"mixopt: {said}", err=True)
        raise typer.Exit(Exit.INPUT)


def application() -> typer.Typer:
    """The command without its subcommands."""
    app = typer.Typer(
        cls=Guarded,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Data mixtures for language models: stated, compiled, solved and judged.",
    )

    @app.callback()
    def main(
        version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
    ) -> None:
        """Data mixtures for language models: stated, compiled, solved and judged."""

    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mixopt {mixopt.__version__}")
        raise typer.Exit
