"""A pure function's results found ahead of time in a thread: asking for one gives what calling the function there and then would."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, final


@final
class Later:
    """Results that are on their way, by a key; a copy of it, or one in another process, has none and finds them when asked."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[Any, Future[Any]] = {}

    def start(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin function(*arguments) in the thread, in the place of what has been begun before."""
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="mixopt")
        for other in self._coming.values():
            other.cancel()
        self._coming = {key: self._pool.submit(function, *arguments)}

    def result(self, key: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments): what was begun under the key, waiting for it if need be, or found now."""
        coming = self._coming.pop(key, None)
        return function(*arguments) if coming is None else coming.result()

    def __reduce__(self) -> tuple[type[Later], tuple[()]]:
        return Later, ()
