"""Threads that visit nodes: one for each, which waits until its node is to be visited."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
# What a visit needs at its deepest is a tenth of it; hundreds of threads at 8 MiB are a lot of address space.
STACK_BYTES: Final = 512 * 1024


class Crew(Generic[T]):
    """An executor with one thread a key, without a Future and its lock for each of thousands of calls."""

    def __init__(self) -> None:
        self._inboxes: dict[str, queue.SimpleQueue[Callable[[], None] | None]] = {}
        self._threads: list[threading.Thread] = []

    def send(self, key: str, work: Callable[[], T], done: Callable[[Callable[[], T]], None]) -> None:
        """Do ``work`` in the thread of ``key``; ``done`` gets, there, what returns or raises its end."""

        def step() -> None:
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001  # it is raised where it can be dealt with
                fault = error

                def fail() -> T:
                    raise fault

                done(fail)
            else:
                done(lambda: value)

        inbox = self._inboxes.get(key)
        if inbox is None:
            inbox = self._inboxes[key] = queue.SimpleQueue()
            self._start(key, inbox)
        inbox.put(step)

    def close(self) -> None:
        """Wait for what is under way, and end all threads."""
        for inbox in self._inboxes.values():
            inbox.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self, key: str, inbox: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        def run() -> None:
            while (step := inbox.get()) is not None:
                step()

        before = threading.stack_size(STACK_BYTES)
        try:
            # As a daemon: an error that nobody expected must be able to end the process.
            thread = threading.Thread(target=run, name=f"visit {key}", daemon=True)
            thread.start()
        finally:
            threading.stack_size(before)
        self._threads.append(thread)
