"""Byte streams of plain and compressed files, whose faults end in an error that names the file."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from mixopt.errors import InputError, MissingExtraError

COMPRESSED = 1 << 14  # bytes that are unpacked at once


@contextmanager
def opened(path: Path) -> Iterator[tuple[io.BufferedReader, io.BufferedReader]]:
    """The stream of a file's bytes, unpacked where its name ends in .gz or .zst, and the raw file, whose place tells the progress.

    Raises:
        InputError: the file cannot be read, or it is cut off or damaged.
        MissingExtraError: zstandard is needed and not installed.
    """
    try:
        with open(path, "rb") as raw:
            yield _unpacked(path, raw), raw
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} is cut off or damaged: {error}; fetch it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _unpacked(path: Path, raw: io.BufferedReader) -> io.BufferedReader:
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 18)
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(_Zst(path, raw), 1 << 18)
    return raw


@final
class _Zst(io.RawIOBase):
    """The bytes of a .zst file of one or more frames; a frame that is cut off is an error, where zstandard's own reader is silent."""

    def __init__(self, path: Path, raw: io.BufferedReader):
        try:
            import zstandard
        except ImportError:
            raise MissingExtraError("zstandard", "data", f"reading {path}") from None
        self._fault = zstandard.ZstdError
        self._frames = zstandard.ZstdDecompressor(max_window_size=2**31)
        self._raw = raw
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and self._more():
            pass
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _more(self) -> bool:
        """Unpack some more; False at the end of the file."""
        self._packed = self._packed or self._raw.read(COMPRESSED)
        if not self._packed:
            if self._frame is not None:
                raise EOFError("it ends inside a frame")
            return False
        self._frame = self._frame or self._frames.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(self._packed))
        except self._fault as error:
            raise EOFError(str(error)) from None
        self._packed = b""
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
        return True
