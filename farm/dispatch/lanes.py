"""A lane: one kind of step that goes on beside the nodes, in threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from farm.errors import FarmError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Post = Callable[[Callable[[], None]], None]


class Lane(Generic[K, T]):
    """Runs one kind of step, so many at once; each answer comes back to the main thread.

    What fails with another error than FarmError is a fault of the farm and ends the dispatch.
    """

    def __init__(self, width: int, post: Post, done: Callable[[K, T | FarmError], None]) -> None:
        self._pool = ThreadPoolExecutor(width)
        self._post = post
        self._done = done
        self.busy: set[K] = set()

    def send(self, key: K, step: Callable[[], T]) -> None:
        """Run ``step``, unless one with its key is under way."""
        if key not in self.busy:
            self.busy.add(key)
            future = self._pool.submit(step)
            future.add_done_callback(lambda ended: self._post(lambda: self._take(key, ended)))

    def _take(self, key: K, ended: Future[T]) -> None:
        self.busy.discard(key)
        try:
            answer: T | FarmError = ended.result()
        except FarmError as error:
            answer = error
        self._done(key, answer)

    def close(self) -> None:
        """Drop what has not begun, and wait for what is under way."""
        self._pool.shutdown(cancel_futures=True)
