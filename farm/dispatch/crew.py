"""Threads that visit nodes: a few for all, and more only while those are held up."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

Work = Callable[[], None]
# The interpreter runs one at a time: more of them would only fight for it.
FEW: Final = 4
# Work lies there and nobody took any for so long: all are held up, by nodes that are slow or away.
HELD_UP_S: Final = 0.1
BEAT_S: Final = 6e-5
LONGEST_BEAT_S: Final = 0.03


def beat_s(nodes: int) -> float:
    """Return how long what nodes bring is gathered before the thread that decides takes it, in seconds.

    Hundreds bring a thousand answers a second: each that is taken alone wakes that thread, and then one here.
    """
    return min(LONGEST_BEAT_S, nodes * BEAT_S)


class Crew:
    """Does what comes, what is quick first; a node that keeps threads waiting holds others up for a moment.

    Hundreds of nodes that build have no thread waiting for them: each would be 30 KiB.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._quick: deque[Work] = deque()
        self._slow: deque[Work] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._moved_at = 0.0
        self._closed = False

    def send(self, work: Work, *, slow: bool = False) -> None:
        """Have ``work``, which must not raise, done; nothing is begun any more after ``close``.

        What may be ``slow``, as connecting is, lets the rest go first.

        It may come from any thread, and does not block.
        """
        with self._lock:
            if self._closed:
                return
            (self._slow if slow else self._quick).append(work)
            self._calls.put(True)
        self.relieve()

    def relieve(self) -> None:
        """Start one more thread if work lies there and all are held up; to be called now and then."""
        now = time.monotonic()
        with self._lock:
            free = len(self._threads) < FEW or now > self._moved_at + HELD_UP_S
            if self._closed or self._queued() <= self._idle or not free:
                return
            self._moved_at = now
            # As a daemon: an error that nobody expected must be able to end the process.
            thread = threading.Thread(target=self._serve, name="visit", daemon=True)
            self._threads.add(thread)
        thread.start()

    def close(self) -> None:
        """Drop what was not begun, wait for what is under way, and end all threads."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._calls.put(False)
        for thread in threads:
            thread.join()

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work()
            # What it knows of the node must not be kept while this thread waits.
            del work
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self) -> Work | None:
        """Return what to do next; None ends the thread, and so does closing, at any moment."""
        with self._lock:
            if self._closed or (self._idle >= FEW and self._queued() <= self._idle):
                return None
            self._idle += 1
        called = self._calls.get()
        with self._lock:
            self._idle -= 1
            self._moved_at = time.monotonic()
            if not called or self._closed:
                return None
            return (self._quick or self._slow).popleft()

    def _queued(self) -> int:
        return len(self._quick) + len(self._slow)
