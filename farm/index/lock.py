"""One writer of an index at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from farm.errors import BusyError
from farm.index.write import writing

if TYPE_CHECKING:
    from farm.index.tree import IndexTree

WAIT_S: Final = 30.0
_STEP_S: Final = 0.1


@contextmanager
def tree_lock(tree: IndexTree, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold an index's tree for one writer; the kernel frees it when the process ends, however it ends.

    The folder itself is locked, so nothing is written for it. A publication takes seconds, so another one is
    waited for, at most ``wait_s`` seconds.

    Raises:
        BusyError: somebody else still holds it.
        PublishError: the folder can't be made or opened.
    """
    with writing(tree.root):
        tree.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take(descriptor, tree, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, tree: IndexTree, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise BusyError(
                    f"{tree.root}: another process is changing this index",
                    hint="wait until it has published; `fuser -v` on the folder shows who it is",
                ) from error
            time.sleep(_STEP_S)
        else:
            return
