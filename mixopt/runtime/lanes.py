"""Lanes: tasks carried out side by side by threads of this process, each with its share of torch's own threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import final

import torch

Later = Callable[[], None]
Task = Callable[[Callable[[Later], None]], Later]
"""What a lane carries out: it says now and then what the caller's thread is to do, and returns what that is to do at the end."""


@final
class _StoppedError(BaseException):
    """Ends a lane's task where another one failed, or where the caller was interrupted."""


@final
@dataclass(frozen=True)
class Lanes:
    """``count`` tasks at once, each by a thread of its own with ``threads`` of torch's; one lane is the caller's thread, as it is."""

    count: int = 1
    threads: int = 1

    def at_most(self, tasks: int) -> Lanes:
        """Lanes for so few tasks, and their threads shared out among them."""
        count = max(1, min(self.count, tasks))
        return Lanes(count, self.threads * self.count // count)

    def carry_out(self, tasks: Iterable[Task]) -> None:
        """Carry out the tasks; each is made in the caller's thread as soon as a lane is free.

        What tasks leave to be done is done in the caller's thread too, so that nothing there needs a lock. An error of a task or of the
        caller's thread, KeyboardInterrupt among them, stops each lane where it next says something, and is raised when all have
        stopped; what tasks that came to their ends have left is done before that.
        """
        if self.count == 1:
            for task in tasks:
                task(lambda later: later())()
            return
        before, crew = torch.get_num_threads(), _Crew(self.threads)
        try:
            for task in tasks:
                crew.start(task)
                while len(crew.running) == self.count:
                    crew.hear()
            while crew.running:
                crew.hear()
        finally:
            torch.set_num_threads(before)  # of which some libraries have one number for all threads
            crew.end()


@final
class _Crew:
    """The threads of the lanes that are under way, and what they have said."""

    def __init__(self, threads: int):
        self.threads = threads
        self.running: set[threading.Thread] = set()
        self._heard: SimpleQueue[tuple[Later, threading.Thread | None, BaseException | None]] = SimpleQueue()
        self._over = False

    def start(self, task: Task) -> None:
        """Begin a task in a thread of its own."""
        thread = threading.Thread(target=self._lane, args=(task,), name=f"lane {len(self.running)}")
        self.running.add(thread)
        thread.start()

    def hear(self) -> None:
        """Wait until a lane says something, and do it; raises the error of a task that failed."""
        later, ended, error = self._heard.get()
        if ended:
            ended.join()  # an interpreter that ends while a thread lets go of tensors aborts
            self.running.remove(ended)
        if error is not None:
            raise error
        later()

    def end(self) -> None:
        """Stop the lanes that are under way, and do what those that came to their ends have left."""
        self._over = True
        for thread in self.running:
            thread.join()
        while not self._heard.empty():
            later, ended, error = self._heard.get()
            if ended and error is None:
                later()

    def _lane(self, task: Task) -> None:
        torch.set_num_threads(self.threads)
        lane = threading.current_thread()
        try:
            self._heard.put((task(self._say), lane, None))
        except BaseException as error:
            self._heard.put((nothing, lane, error))

    def _say(self, later: Later) -> None:
        if self._over:
            raise _StoppedError
        self._heard.put((later, None, None))


def nothing() -> None:
    """What a task leaves to be done where there is nothing."""
