"""The journal of a sweep: an append-only table of finished runs in one SQLite file, which several sweeps may share."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, final

from mixopt.errors import InputError, MixoptError, cause

from .job import Finished, Job

FORMAT = 1
BEAT = 10.0
"""Seconds between two signs of life of a sweep that holds runs."""
STALE = 6 * BEAT
"""Seconds without a sign of life after which a run is another sweep's to take."""
GIVE_UP = 1000
"""Rows in a row that cannot be read after which a damaged journal is taken to be at its end."""

CORPUS = ": other text, another tokenizer or other parts of it, or domains cut for another target_tokens"

TABLES = """
create table if not exists told (name text primary key, value text not null);
create table if not exists runs (key text primary key, job text not null, result text not null, version text, host text, finished real);
create table if not exists held (key text primary key, owner text not null, beat real not null);
"""


class FullError(MixoptError):
    """The journal's disk is full, or takes no more; what was finished before is kept."""


@final
class Journal:
    """Finished runs by key, each written in one transaction as it finishes; ``take`` hands out runs that nobody else trains.

    SQLite, because a transaction is whole or not there after a kill or a power cut, several processes may write, and nothing but one
    file is left; rollback journals rather than a write-ahead log, because those also work on a cluster's shared file system. A file
    whose end was lost is read as far as it goes, and what could be read goes on in its place. Without an ``identity``, what all its runs
    have in common, it is there to be read.

    Raises:
        InputError: a file that is not there or no journal, or one of another corpus, or of other domains or targets.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any] | None = None):
        self.path = Path(path)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}:{time.time_ns()}"
        if identity is None:
            if not self.path.is_file():
                raise InputError(f"there is no journal {path}; give the file that sweep(resume=...) wrote: runs.sqlite of mixopt sweep")
            _mended(self.path)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path.parent} cannot be made: {cause(error)}") from None
        _mended(self.path)
        with self._open() as db:
            db.executescript(TABLES)
        self._identified(identity)

    def finished(self) -> dict[str, Finished]:
        """All finished runs, by key."""
        with self._open() as db:
            rows = db.execute("select key, result from runs order by rowid").fetchall()
        return {key: Finished.of(text) for key, text in rows}

    def jobs(self) -> dict[str, dict[str, Any]]:
        """What each finished run was, by key, as written."""
        with self._open() as db:
            return {key: json.loads(text) for key, text in db.execute("select key, job from runs order by rowid")}

    def told(self) -> dict[str, Any]:
        """What all of its runs have in common, by name."""
        with self._open() as db:
            return {name: json.loads(text) for name, text in db.execute("select name, value from told")}

    def add(self, job: Job, found: Finished) -> bool:
        """Keep a finished run, and let go of it; False where it is there already, and then nothing changes."""
        row = (found.key, json.dumps(asdict(job)), found.as_json(), _version(), socket.gethostname(), time.time())
        with self._open() as db:
            count = db.execute("insert or ignore into runs values (?, ?, ?, ?, ?, ?)", row).rowcount
            db.execute("delete from held where key = ?", (found.key,))
        return count > 0

    def take(self, keys: Sequence[str], most: int) -> list[str]:
        """At most so many of the keys, in order, that are neither finished nor held by a living sweep; they are held from now on."""
        now = time.time()
        with self._open() as db:
            db.execute("begin immediate")
            free = _free(db, keys, now)[:most]
            db.executemany("insert or replace into held values (?, ?, ?)", [(key, self.owner, now) for key in free])
        return free

    def free(self, keys: Sequence[str]) -> list[str]:
        """The keys, in order, that ``take`` would hand out now."""
        with self._open() as db:
            return _free(db, keys, time.time())

    def let_go(self) -> None:
        """Hold nothing any more."""
        with self._open() as db:
            db.execute("delete from held where owner = ?", (self.owner,))

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Within it, a sign of life goes out now and then for the runs that are held; at its end they are let go.

        Neither can fail what goes on within: a sign that cannot be written is left out, and runs that stay held are taken for lost later.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                with suppress(MixoptError), self._open() as db:
                    db.execute("update held set beat = ? where owner = ?", (time.time(), self.owner))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with suppress(MixoptError):
                self.let_go()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60.0)) as db:
                db.execute("pragma synchronous = full")
                with db:
                    yield db
        except sqlite3.DatabaseError as error:
            raise _told(self.path, error) from None

    def _identified(self, identity: Mapping[str, Any]) -> None:
        """Write whose journal it is, or refuse one of another corpus."""
        told = {name: json.dumps(value) for name, value in {"format": FORMAT, **identity}.items()}
        with self._open() as db:
            db.executemany("insert or ignore into told values (?, ?)", list(told.items()))
            before = dict(db.execute("select name, value from told"))
        for name, value in told.items():
            if before[name] != value:
                raise InputError(
                    f"{self.path} is the journal of another sweep: its {name} is {_short(before[name])}, this one's {_short(value)}"
                    f"{CORPUS if name == 'corpus' else ''}; give another file"
                )


def _told(path: Path, error: sqlite3.DatabaseError) -> MixoptError:
    """What went wrong with a journal's file, and the mend."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return FullError(f"no room is left for {path}; what finished before is kept: make room, and sweep again")
    if code == sqlite3.SQLITE_IOERR:
        return FullError(
            f"{path} cannot be read or written any more: {error} ({error.sqlite_errorname}), as where a quota or a limit on the size of "
            "files is reached, or a disk or a share is lost; what finished before is kept: mend that, or copy the file elsewhere, and "
            "sweep again"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return InputError(
            f"{path} may not be written, it or its folder: {error}; let it be written, or copy it to where you may write. "
            "To read its runs alone: mixopt.sweeps.collect"
        )
    if isinstance(error, sqlite3.OperationalError):
        return InputError(f"{path} cannot be used: {error}; give a file that can be read and written, and that no other program locks")
    return InputError(f"{path} is no journal of a sweep: {error}; give another file")


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _free(db: sqlite3.Connection, keys: Sequence[str], now: float) -> list[str]:
    """The keys, in order, that are neither finished nor held by a living sweep."""
    gone = {key for (key,) in db.execute("select key from runs")}
    gone |= {key for key, owner, beat in db.execute("select key, owner, beat from held") if _alive(owner, beat, now)}
    return [key for key in keys if key not in gone]


def _alive(owner: str, beat: float, now: float) -> bool:
    """Whether whoever holds a run lives: its process where that is on this machine, else its last sign of life."""
    host, pid = owner.split(":")[:2]
    if host == socket.gethostname():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    return now - beat < STALE


def _mended(path: Path) -> None:
    """Where a journal's file is damaged, what can be read of it takes its place, and the damaged one is put aside."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(path, timeout=60.0)) as db:
            (state,) = db.execute("pragma integrity_check(1)").fetchone()
            if state == "ok":
                return
    except sqlite3.DatabaseError as error:
        if "not a database" in str(error):
            raise InputError(f"{path} is no journal of a sweep; give another file") from None
        if "unable to open" in str(error) or "locked" in str(error):
            raise _told(path, error) from None
    aside, fresh, padded = (path.with_name(f"{path.name}.{what}") for what in ("damaged", "new", "padded"))
    _padded(path, padded)
    rows = {name: list(_readable(padded, name)) for name in ("told", "runs")}
    padded.unlink()
    if not rows["told"]:
        raise InputError(f"{path} is damaged, and nothing in it can be read; give another file")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh)) as db, db:
        db.executescript(TABLES)
        for name, some in rows.items():
            for row in some:
                db.execute(f"insert or ignore into {name} values ({', '.join('?' * len(row))})", row)
    os.replace(path, aside)
    os.replace(fresh, path)
    warnings.warn(
        f"{path} was damaged; {len(rows['runs'])} finished runs could be read and go on in its place, the damaged file is {aside}",
        stacklevel=4,
    )


def _readable(path: Path, name: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table that can be read, one by one: lost pages take the rows on them, and no others."""
    with closing(sqlite3.connect(path)) as db:
        row, missed = 0, 0
        while missed < GIVE_UP:
            row += 1
            try:
                found = db.execute(f"select * from {name} where rowid = ?", (row,)).fetchone()
                if found is not None and name == "runs":
                    Finished.of(found[2])
            except (sqlite3.DatabaseError, ValueError, KeyError, TypeError):
                found = None
            missed = 0 if found is not None else missed + 1
            if found is not None:
                yield found


def _padded(path: Path, copy: Path) -> None:
    """A copy of a database, with empty pages in the place of those that its end has lost: SQLite reads none of a file that is too short."""
    content = path.read_bytes()
    size, pages = int.from_bytes(content[16:18], "big"), int.from_bytes(content[28:32], "big")
    copy.write_bytes(content.ljust((65536 if size == 1 else size) * pages, b"\0"))


def _version() -> str:
    try:
        return version("mixopt")
    except PackageNotFoundError:
        return "unknown"
