"""Threads that visit nodes: who has nothing to do takes what comes; where nobody has, one more is started."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

Work = Callable[[], None]
Inbox = queue.SimpleQueue[Work | None]
IDLE_S: Final = 5.0


class Crew:
    """As many threads as are busy at once: a node that keeps one of them waiting holds nobody else up.

    Who became idle last is sent first: a few threads do most of the work, and those that a rush needed end
    soon after it. Hundreds of nodes that build have nobody waiting for them: a thread is 30 KiB.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Inbox] = []
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def send(self, work: Work) -> None:
        """Have ``work``, which must not raise, done at once; nothing is begun any more after ``close``.

        It may come from any thread, and does not block.
        """
        with self._lock:
            if self._closed:
                return
            if self._idle:
                self._idle.pop().put(work)
                return
            inbox: Inbox = queue.SimpleQueue()
            # As a daemon: an error that nobody expected must be able to end the process.
            thread = threading.Thread(target=self._serve, args=[inbox], name="visit", daemon=True)
            self._threads.add(thread)
        inbox.put(work)
        thread.start()

    def close(self) -> None:
        """Wait for what is under way, and end all threads."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            for inbox in self._idle:
                inbox.put(None)
        for thread in threads:
            thread.join()

    def _serve(self, inbox: Inbox) -> None:
        while (work := self._next(inbox)) is not None:
            work()
            # What it knows of the node must not be kept while this thread waits.
            del work
            with self._lock:
                if self._closed:
                    break
                self._idle.append(inbox)
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self, inbox: Inbox) -> Work | None:
        """Return what to do next; None ends the thread."""
        try:
            return inbox.get(timeout=IDLE_S)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # it was chosen a moment ago
